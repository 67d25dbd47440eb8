"""Connectivity of all pairs, and phase synchrony against surrogates. See connectivity.pyi."""

from typing import NamedTuple

from libc.stdint cimport uint8_t, uint32_t

import numpy as np

from phantomd.core.block cimport aligned
from phantomd.core.spectrum cimport samples_of

MEASURES = ("plv", "pli", "wpli", "wpli2_debiased", "imcoh", "coh")


class Synchrony(NamedTuple):
    plv: float
    phase_dispersion: float
    z: float
    null_median: float
    null_sd: float


cdef object mask_of(use, uint32_t n_channels):
    mask = np.ascontiguousarray(np.ones(n_channels) if use is None else use, dtype=np.bool_)
    if mask.shape != (n_channels,):
        raise ValueError(f"use has shape {mask.shape}, not ({n_channels},)")
    return mask.view(np.uint8)


cdef class Connectivity:

    def __cinit__(self, n_channels, double rate_hz, bands, *, nperseg, noverlap=None, window=None,
                  max_segments=64):
        if not 1 <= n_channels <= PD_CONNECTIVITY_MAX_CHANNELS:
            raise ValueError(f"{n_channels} channels, not 1 to {PD_CONNECTIVITY_MAX_CHANNELS}")
        if noverlap is None:
            noverlap = nperseg // 2
        if nperseg < 1 or not 0 <= noverlap < nperseg:
            raise ValueError(f"segments of {nperseg} samples that overlap by {noverlap}")
        if not 1 <= max_segments <= 65536:
            raise ValueError(f"max_segments {max_segments} is not 1 to 65536")
        cdef const double[::1] weights
        weights = np.ascontiguousarray(np.hanning(nperseg) if window is None else window,
                                       dtype=np.float64)
        if weights.shape[0] != nperseg:
            raise ValueError(f"a window of {weights.shape[0]} values for segments of {nperseg}")
        edges = np.array([(low, high) for low, high in bands], dtype=np.float64)
        if not 1 <= len(edges) <= PD_CONNECTIVITY_MAX_BANDS:
            raise ValueError(f"{len(edges)} bands, not 1 to {PD_CONNECTIVITY_MAX_BANDS}")
        cdef const double[:, ::1] edge_view = edges
        cdef pd_connectivity_config config
        config.welch.rate_hz = rate_hz
        config.welch.window = &weights[0]
        config.welch.nperseg, config.welch.noverlap = nperseg, noverlap
        config.welch.nfft = nperseg
        config.welch.max_segments = max_segments
        config.welch.detrend, config.welch.scaling, config.welch.average = 1, 0, 0
        config.bands = <const pd_band *>&edge_view[0, 0]
        config.n_channels, config.n_bands = n_channels, len(edges)
        cdef size_t need = pd_connectivity_bytes(&config)
        if need == 0:
            raise ValueError(f"{rate_hz} Hz is no sampling rate, or segments of {nperseg} samples "
                             "are too long")
        self.memory = aligned(need)
        cdef unsigned char[::1] view = self.memory
        if pd_connectivity_init(&self.c, &config, &view[0], need):
            raise ValueError("the window has no power to divide by")

    @property
    def n_channels(self):
        return self.c.n_channels

    @property
    def n_bands(self):
        return self.c.n_bands

    def matrices(self, x, out=None):
        cdef const double[:, ::1] samples = samples_of(x, self.c.n_channels)
        shape = (PD_MEASURES, self.c.n_bands, self.c.n_channels, self.c.n_channels)
        if out is None:
            out = np.empty(shape)
        cdef double[:, :, :, ::1] view = out
        if np.shape(out) != shape:
            raise ValueError(f"out has shape {np.shape(out)}, not {shape}")
        if self.busy:
            raise RuntimeError("another thread is running this plan")
        cdef uint32_t n = <uint32_t>samples.shape[0]
        cdef const double *at = &samples[0, 0] if n > 0 else NULL
        cdef unsigned fp
        cdef int rc
        self.busy = True
        with nogil:
            fp = pd_fp_enter()
            rc = pd_connectivity_run(&self.c, at, self.c.n_channels, n, &view[0, 0, 0, 0])
            pd_fp_leave(fp)
        self.busy = False
        if rc:
            raise ValueError(f"{n} samples are more than the {self.c.max_segments} segments that "
                             "were planned for")
        return out

    def means(self, matrices, use=None):
        cdef const uint8_t[::1] mask = mask_of(use, self.c.n_channels)
        shape = (PD_MEASURES, self.c.n_bands, self.c.n_channels, self.c.n_channels)
        if np.shape(matrices) != shape:
            raise ValueError(f"matrices have shape {np.shape(matrices)}, not {shape}")
        cdef const double[:, :, :, ::1] view = np.ascontiguousarray(matrices, dtype=np.float64)
        out = np.empty((PD_MEASURES, self.c.n_bands))
        cdef double[:, ::1] to = out
        pd_connectivity_means(&self.c, &view[0, 0, 0, 0], &mask[0], &to[0, 0])
        return out


cdef class PhaseSynchrony:

    def __cinit__(self, n_channels, double rate_hz, *, n_samples, band_hz=(30.0, 90.0),
                  filtered=False, surrogates=40, seed=0):
        if not 1 <= n_channels <= PD_SYNCHRONY_MAX_CHANNELS:
            raise ValueError(f"{n_channels} channels, not 1 to {PD_SYNCHRONY_MAX_CHANNELS}")
        if not 1 <= n_samples <= PD_SYNCHRONY_MAX_SAMPLES:
            raise ValueError(f"a window of {n_samples} samples, not 1 to "
                             f"{PD_SYNCHRONY_MAX_SAMPLES}")
        if not 1 <= surrogates <= PD_SYNCHRONY_MAX_SURROGATES:
            raise ValueError(f"{surrogates} surrogates, not 1 to {PD_SYNCHRONY_MAX_SURROGATES}")
        cdef pd_synchrony_config config
        config.rate_hz = rate_hz
        config.low_hz, config.high_hz = band_hz
        config.n_samples, config.n_channels = n_samples, n_channels
        config.n_surrogates = surrogates
        config.filtered = bool(filtered)
        config.seed = seed
        cdef size_t need = pd_synchrony_bytes(&config)
        if need == 0:
            raise ValueError(f"{rate_hz} Hz is no sampling rate, or {band_hz} no band")
        self.memory = aligned(need)
        cdef unsigned char[::1] view = self.memory
        if pd_synchrony_init(&self.c, &config, &view[0], need):
            raise ValueError(f"no plan of {n_samples} samples")
        self.plv = np.full((n_channels, n_channels), np.nan)

    @property
    def n_channels(self):
        return self.c.n_channels

    @property
    def n_samples(self):
        return self.c.n_samples

    @property
    def n_bins(self):
        return self.c.n_bins

    @property
    def possible(self):
        return bool(self.c.possible)

    @property
    def matrix(self):
        return np.array(self.plv)

    @property
    def shifts(self):
        cdef uint32_t s, i
        return np.array([[self.c.shifts[s * self.c.n_channels + i]
                          for i in range(self.c.n_channels)]
                         for s in range(self.c.n_surrogates)])

    def run(self, x, use=None):
        cdef const double[:, ::1] samples = samples_of(x, self.c.n_channels)
        cdef const uint8_t[::1] mask = mask_of(use, self.c.n_channels)
        if self.busy:
            raise RuntimeError("another thread is running this plan")
        cdef uint32_t n = <uint32_t>samples.shape[0]
        cdef const double *at = &samples[0, 0] if n > 0 else NULL
        cdef pd_synchrony_result result
        cdef unsigned fp
        self.busy = True
        with nogil:
            fp = pd_fp_enter()
            pd_synchrony_run(&self.c, at, self.c.n_channels, n, &mask[0], &self.plv[0, 0],
                             &result)
            pd_fp_leave(fp)
        self.busy = False
        return Synchrony(result.plv, result.dispersion, result.z, result.null_median,
                         result.null_sd)
