"""Artifact scores. See artifact.pyi."""

from libc.stdlib cimport free
from libc.string cimport memset

import numpy as np

from phantomd.core.block cimport block, check_restored

KINDS = ("clipping", "dropout", "line", "blink", "emg", "pop", "drift")
FRONTAL, BEHIND, IGNORED = 1, 2, 4
MAX_CHANNELS = PD_ARTIFACT_MAX_CHANNELS


cdef int configure(object config, pd_artifact_config *out, uint8_t *roles) except -1:
    cdef Py_ssize_t i
    if not 1 <= len(config.roles) <= PD_ARTIFACT_MAX_CHANNELS:
        raise ValueError(f"{len(config.roles)} channels, not 1 to {PD_ARTIFACT_MAX_CHANNELS}")
    if len(config.curves) != PD_ARTIFACT_KINDS:
        raise ValueError(f"{len(config.curves)} curves, not {PD_ARTIFACT_KINDS}")
    memset(out, 0, sizeof(pd_artifact_config))
    for i in range(len(config.roles)):
        roles[i] = config.roles[i]
    out.roles = roles
    out.n_channels = <uint32_t>len(config.roles)
    out.rate_hz = config.rate_hz
    out.hop = config.hop
    out.n_blocks = config.n_blocks
    out.box = config.box
    out.flat = config.flat
    out.lag = config.lag
    out.low_uv, out.high_uv = config.range_uv
    out.flat_uv = config.flat_uv
    for i in range(2):
        out.line_hz[i] = config.line_hz[i]
        out.eeg_hz[i] = config.eeg_hz[i]
        out.emg_hz[i] = config.emg_hz[i]
    for i in range(PD_ARTIFACT_KINDS):
        out.curve[i].threshold = config.curves[i].threshold
        out.curve[i].floor = config.curves[i].floor
        out.curve[i].weight = config.curves[i].weight
        out.curve[i].power = config.curves[i].power
        out.curve[i].least = config.curves[i].least
    return 0


cdef tuple _names(uint32_t bits):
    return tuple([name for i, name in enumerate(KINDS) if bits >> i & 1])


cdef class ArtifactDetector:

    def __cinit__(self, config):
        cdef pd_artifact_config as_c
        cdef uint8_t roles[PD_ARTIFACT_MAX_CHANNELS]
        configure(config, &as_c, roles)
        cdef size_t size = pd_artifact_bytes(&as_c)
        if size == 0:
            raise ValueError(
                f"no artifact scores of {as_c.n_channels} channels at {as_c.rate_hz:g} Hz with "
                f"{config}: n_blocks is even, 8 to 256, and at least three boxes; lag at most the "
                "hop; bands under half the rate; thresholds more than 0"
            )
        self.a = <pd_artifact *>block(size, "artifact scores")
        with nogil:
            pd_artifact_init(self.a, &as_c)
            pd_artifact_read(self.a, &self.report)

    def __dealloc__(self):
        free(self.a)

    @property
    def channels(self):
        return self.a.config.n_channels

    @property
    def window(self):
        return self.a.config.hop * self.a.config.n_blocks

    @property
    def hop(self):
        return self.a.config.hop

    @property
    def count(self):
        return self.a.count

    @property
    def nbytes(self):
        return self.a.bytes

    @property
    def available(self):
        return _names(self.a.available)

    cdef void run(self, const double *x, uint32_t n, const uint8_t *lost) noexcept nogil:
        if n:
            pd_artifact_push(self.a, x, self.a.config.n_channels, n, lost)

    def push(self, x, lost=None):
        cdef const double[:, ::1] view = np.ascontiguousarray(x, dtype=np.float64)
        cdef const uint8_t[::1] flags
        cdef const uint8_t *where = NULL
        if view.shape[1] != self.a.config.n_channels:
            raise ValueError(f"samples of {view.shape[1]} channels, not {self.channels}")
        if lost is not None:
            flags = np.ascontiguousarray(lost, dtype=np.bool_).view(np.uint8)
            if flags.shape[0] != view.shape[0]:
                raise ValueError(f"{flags.shape[0]} flags for {view.shape[0]} samples")
            if flags.shape[0]:
                where = &flags[0]
        if view.shape[0]:
            with nogil:
                self.run(&view[0, 0], <uint32_t>view.shape[0], where)

    def read(self):
        with nogil:
            pd_artifact_read(self.a, &self.report)
        cdef pd_artifact_report r = self.report
        return {
            "end": r.end,
            "samples": r.samples,
            "available": _names(r.available),
            "defined": _names(r.defined),
            "score": tuple([r.score[i] for i in range(PD_ARTIFACT_KINDS)]),
            "value": tuple([r.value[i] for i in range(PD_ARTIFACT_KINDS)]),
            "channel": tuple([
                None if r.channel[i] == self.a.config.n_channels else r.channel[i]
                for i in range(PD_ARTIFACT_KINDS)
            ]),
            "undefined": tuple([r.undefined[i] for i in range(PD_ARTIFACT_KINDS)]),
        }

    def _of_channels(self, bint scores):
        cdef uint32_t kind, channel
        out = np.empty((PD_ARTIFACT_KINDS, self.a.config.n_channels))
        cdef double[:, ::1] view = out
        cdef const double *row
        pd_artifact_read(self.a, &self.report)
        for kind in range(<uint32_t>PD_ARTIFACT_KINDS):
            row = (pd_artifact_scores(self.a, <pd_artifact_kind>kind) if scores
                   else pd_artifact_values(self.a, <pd_artifact_kind>kind))
            for channel in range(<uint32_t>self.a.config.n_channels):
                view[kind, channel] = row[channel]
        return out

    def scores(self):
        return self._of_channels(True)

    def values(self):
        return self._of_channels(False)

    def bind(self, x):
        return Bound(self, x)

    def reset(self):
        pd_artifact_reset(self.a)

    def save(self):
        return (<char *>self.a)[:self.a.bytes]

    def restore(self, bytes saved):
        check_restored(pd_artifact_restore(self.a, <const char *>saved, <size_t>len(saved)), saved)


cdef class Bound:
    cdef ArtifactDetector of
    cdef const double[:, ::1] x

    def __cinit__(self, ArtifactDetector of, const double[:, ::1] x):
        if x.shape[1] != of.a.config.n_channels or x.shape[0] == 0:
            raise ValueError(f"samples of {x.shape[0]} x {x.shape[1]}, not of "
                             f"{of.a.config.n_channels} channels")
        self.of = of
        self.x = x

    def __call__(self, bint read=True):
        with nogil:
            self.of.run(&self.x[0, 0], <uint32_t>self.x.shape[0], NULL)
            if read:
                pd_artifact_read(self.of.a, &self.of.report)
