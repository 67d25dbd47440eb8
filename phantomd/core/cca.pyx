"""Canonical correlation. See cca.pyi."""

from libc.math cimport isfinite
from libc.stdlib cimport free

import numpy as np

from phantomd.core.block cimport block, check_restored

STATES = ("defined", "filling", "missing", "flat")


cdef const double[:, ::1] _samples(x, uint32_t n_channels):
    cdef const double[:, ::1] view = np.ascontiguousarray(x, dtype=np.float64)
    if view.shape[1] != n_channels:
        raise ValueError(f"samples of {view.shape[1]} channels, not {n_channels}")
    return view


cdef class CanonicalCorrelation:

    def __cinit__(self, targets_hz, windows, *, double rate_hz, uint32_t channels,
                  uint32_t harmonics=5, hop=None):
        hz = np.array(targets_hz, dtype=np.float64, ndmin=1)
        samples = np.array(windows, dtype=np.int64, ndmin=1)
        if hz.ndim != 1 or samples.ndim != 1 or hz.size == 0 or samples.size == 0:
            raise ValueError("targets_hz and windows are one-dimensional, and neither is empty")
        if samples.min() < 1 or samples.max() > 2**31:
            raise ValueError(f"no window of {samples.min()} to {samples.max()} samples")
        if hop is None:
            hop = max(1, min(int(samples.min()), round(rate_hz / 10) if isfinite(rate_hz) else 1))
        cdef const double[::1] hz_view = hz
        cdef const uint32_t[::1] sample_view = samples.astype(np.uint32)
        cdef pd_cca_config config
        config.rate_hz = rate_hz
        config.targets_hz = &hz_view[0]
        config.windows = &sample_view[0]
        config.n_targets = <uint32_t>hz.size
        config.n_windows = <uint32_t>samples.size
        config.n_channels = channels
        config.n_harmonics = harmonics
        config.hop = hop
        cdef size_t size = pd_cca_bytes(&config)
        if size == 0:
            raise ValueError(
                f"no CCA of {channels} channels, {harmonics} harmonics, {hz.size} targets "
                f"({hz.min():g}-{hz.max():g} Hz at {rate_hz:g} Hz), windows of "
                f"{samples.min()}-{samples.max()} samples and a hop of {hop}: "
                "targets lie under half the rate, a window has more than "
                "channels + 2 harmonics + 1 samples, and at least the hop"
            )
        self.cca = <pd_cca *>block(size, "CCA")
        with nogil:
            pd_cca_init(self.cca, &config)
        self.targets_hz = tuple(hz.tolist())
        self.windows = tuple(samples.tolist())
        self._forget()

    def __dealloc__(self):
        free(self.cca)

    def _forget(self):
        cdef uint32_t w
        for w in range(16):
            self.state[w] = PD_CCA_FILLING
            self.rank[w] = 0

    @property
    def channels(self):
        return self.cca.n_channels

    @property
    def hop(self):
        return self.cca.hop

    @property
    def count(self):
        return self.cca.count

    @property
    def nbytes(self):
        return self.cca.bytes

    @property
    def harmonics(self):
        return tuple([pd_cca_harmonics(self.cca, t) for t in range(self.cca.n_targets)])

    @property
    def references(self):
        cdef uint32_t w, t
        return tuple([
            tuple([pd_cca_references(self.cca, w, t) for t in range(self.cca.n_targets)])
            for w in range(self.cca.n_windows)
        ])

    @property
    def states(self):
        return tuple([STATES[self.state[w]] for w in range(self.cca.n_windows)])

    @property
    def ranks(self):
        return tuple([self.rank[w] for w in range(self.cca.n_windows)])

    cdef void run(self, const double *x, uint32_t n, double *rho) noexcept nogil:
        cdef uint32_t w
        if n:
            pd_cca_push(self.cca, x, self.cca.n_channels, n)
        if rho == NULL:
            return
        for w in range(self.cca.n_windows):
            self.state[w] = pd_cca_correlate(self.cca, w, rho + w * self.cca.n_targets)
            self.rank[w] = self.cca.rank

    def push(self, x):
        cdef const double[:, ::1] view = _samples(x, self.cca.n_channels)
        if view.shape[0]:
            with nogil:
                self.run(&view[0, 0], <uint32_t>view.shape[0], NULL)

    def correlations(self):
        out = np.empty((self.cca.n_windows, self.cca.n_targets))
        cdef double[:, ::1] view = out
        with nogil:
            self.run(NULL, 0, &view[0, 0])
        return out

    def bind(self, x, out):
        return Bound(self, x, out)

    def reset(self):
        pd_cca_reset(self.cca)
        self._forget()

    def save(self):
        return (<char *>self.cca)[:self.cca.bytes]

    def restore(self, bytes saved):
        check_restored(pd_cca_restore(self.cca, <const char *>saved, <size_t>len(saved)), saved)
        self._forget()


cdef class Bound:
    cdef CanonicalCorrelation of
    cdef const double[:, ::1] x
    cdef double[:, ::1] out

    def __cinit__(self, CanonicalCorrelation of, const double[:, ::1] x, double[:, ::1] out):
        if x.shape[1] != of.cca.n_channels or x.shape[0] == 0:
            raise ValueError(f"samples of {x.shape[0]} x {x.shape[1]}, not of "
                             f"{of.cca.n_channels} channels")
        if out.shape[0] != of.cca.n_windows or out.shape[1] != of.cca.n_targets:
            raise ValueError(f"out is {out.shape[0]} x {out.shape[1]}, not "
                             f"{of.cca.n_windows} windows x {of.cca.n_targets} targets")
        self.of = of
        self.x = x
        self.out = out

    def __call__(self):
        with nogil:
            self.of.run(&self.x[0, 0], <uint32_t>self.x.shape[0], &self.out[0, 0])


cdef class FilterBankCCA:

    def __cinit__(self, targets_hz, windows, *, uint32_t bands, **options):
        if not 1 <= bands <= 64:
            raise ValueError(f"{bands} bands, not 1 to 64")
        self.bands = tuple([
            CanonicalCorrelation(targets_hz, windows, **options) for _ in range(bands)
        ])
        self.weight = np.array([pd_cca_band_weight(band) for band in range(bands)])
        cdef CanonicalCorrelation first = self.bands[0]
        self.rho = np.empty((first.cca.n_windows, bands, first.cca.n_targets))

    @property
    def weights(self):
        return tuple(self.weight)

    def push(self, x):
        samples = np.asarray(x, dtype=np.float64)
        if samples.ndim != 3 or len(samples) != len(self.bands):
            raise ValueError(f"samples have shape {samples.shape}, not (bands, samples, channels)")
        for band, part in zip(self.bands, samples, strict=True):
            band.push(part)

    cdef void score_window(self, uint32_t window, double *out) noexcept nogil:
        pd_cca_score(&self.rho[window, 0, 0], &self.weight[0], <uint32_t>self.rho.shape[1],
                     <uint32_t>self.rho.shape[2], out)

    def scores(self):
        for index, band in enumerate(self.bands):
            np.asarray(self.rho)[:, index] = band.correlations()
        out = np.empty((self.rho.shape[0], self.rho.shape[2]))
        cdef double[:, ::1] view = out
        cdef uint32_t w
        with nogil:
            for w in range(<uint32_t>self.rho.shape[0]):
                self.score_window(w, &view[w, 0])
        return out

    def reset(self):
        for band in self.bands:
            band.reset()
