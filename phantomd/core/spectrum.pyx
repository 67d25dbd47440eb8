"""Welch spectra, band powers, spectrogram rows. See spectrum.pyi."""

from libc.stdint cimport uint32_t

import numpy as np

from phantomd.core.block cimport aligned

# Calls that are over in some 4 µs keep the GIL (sos.pyx says why): up to this many samples times
# channels times segments' overlap.
cdef double KEEPS_GIL = 2000

DETREND = {"none": 0, "constant": 1, "linear": 2}
SCALING = {"density": 0, "spectrum": 1}
AVERAGE = {"mean": 0, "median": 1}


def choose(what, choices, chosen):
    if chosen not in choices:
        raise ValueError(f"{what} {chosen!r} is none of {', '.join(choices)}")
    return choices[chosen]


def hann(uint32_t n):
    """The periodic Hann window, as scipy.signal.get_window has it."""
    return np.hanning(n + 1)[:n] if n > 1 else np.ones(n)


cdef object plan(pd_welch *c, n_channels, double rate_hz, nperseg, noverlap, nfft, window, detrend,
                 scaling, average, max_segments):
    """The plan's memory, after init."""
    if not 1 <= n_channels <= PD_SPECTRUM_MAX_CHANNELS:
        raise ValueError(f"{n_channels} channels, not 1 to {PD_SPECTRUM_MAX_CHANNELS}")
    if not 1 <= nperseg <= PD_FFT_MAX:
        raise ValueError(f"segments of {nperseg} samples, not 1 to {PD_FFT_MAX}")
    if noverlap is None:
        noverlap = nperseg // 2
    if nfft is None:
        nfft = nperseg
    if not 0 <= noverlap < nperseg:
        raise ValueError(f"an overlap of {noverlap} samples, not 0 to {nperseg - 1}")
    if not nperseg <= nfft <= PD_FFT_MAX:
        raise ValueError(f"nfft {nfft} is not {nperseg} to {PD_FFT_MAX}")
    if average == "median" and not 1 <= max_segments <= PD_SPECTRUM_MAX_SEGMENTS:
        raise ValueError(f"max_segments {max_segments} is not 1 to {PD_SPECTRUM_MAX_SEGMENTS}")
    cdef const double[::1] values
    values = np.ascontiguousarray(hann(nperseg) if window is None else window, dtype=np.float64)
    if values.shape[0] != nperseg:
        raise ValueError(f"a window of {values.shape[0]} values for segments of {nperseg}")
    cdef pd_welch_config config
    config.rate_hz = rate_hz
    config.window = &values[0]
    config.nperseg, config.noverlap, config.nfft = nperseg, noverlap, nfft
    config.max_segments = max_segments
    config.detrend = choose("detrend", DETREND, detrend)
    config.scaling = choose("scaling", SCALING, scaling)
    config.average = choose("average", AVERAGE, average)
    cdef size_t need = pd_welch_bytes(&config)
    if need == 0:
        raise ValueError(f"{rate_hz} Hz is no sampling rate")
    memory = aligned(need)
    cdef unsigned char[::1] view = memory
    if pd_welch_init(c, &config, &view[0], need):
        raise ValueError("the window has no sum, or none of squares, to divide by")
    return memory


cdef object samples_of(x, uint32_t n_channels):
    if not (type(x) is np.ndarray and x.dtype == np.float64 and x.flags.c_contiguous):
        x = np.ascontiguousarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != n_channels:
        raise ValueError(f"x has shape {x.shape}, not (n, {n_channels})")
    if x.shape[0] > 0x7FFFFFFF:
        raise ValueError("more than 2**31 samples at once")
    return x


cdef class Welch:

    def __cinit__(self, n_channels, double rate_hz, *, nperseg=256, noverlap=None, nfft=None,
                  window=None, detrend="constant", scaling="density", average="mean",
                  max_segments=64):
        self.memory = plan(&self.c, n_channels, rate_hz, nperseg, noverlap, nfft, window, detrend,
                           scaling, average, max_segments)
        self.channels = n_channels
        self.newest = None

    @property
    def n_channels(self):
        return self.channels

    @property
    def n_bins(self):
        return self.c.n_bins

    @property
    def frequencies(self):
        return np.arange(self.c.n_bins) * self.c.bin_hz

    def segments(self, n):
        return pd_welch_segments(&self.c, n)

    def psd(self, x, out=None):
        cdef const double[:, ::1] samples = samples_of(x, self.channels)
        if out is None:
            out = np.empty((self.c.n_bins, self.channels))
        cdef double[:, ::1] power = out
        if power.shape[0] != self.c.n_bins or power.shape[1] != self.channels:
            raise ValueError(f"out has shape {np.shape(out)}, not "
                             f"{(self.c.n_bins, self.channels)}")
        if self.busy:
            raise RuntimeError("another thread is running this plan")
        cdef uint32_t n = <uint32_t>samples.shape[0]
        cdef const double *at = &samples[0, 0] if n > 0 else NULL
        cdef int rc
        cdef unsigned fp
        if <double>n * self.channels * self.c.nperseg / self.c.hop <= KEEPS_GIL:
            fp = pd_fp_enter()
            rc = pd_welch_psd(&self.c, at, self.channels, n, self.channels, &power[0, 0],
                              self.channels)
            pd_fp_leave(fp)
        else:
            self.busy = True
            with nogil:
                fp = pd_fp_enter()
                rc = pd_welch_psd(&self.c, at, self.channels, n, self.channels, &power[0, 0],
                                  self.channels)
                pd_fp_leave(fp)
            self.busy = False
        if rc:
            raise ValueError(f"{n} samples are {pd_welch_segments(&self.c, n)} segments, and the "
                             f"median was planned for {self.c.max_segments}")
        self.newest = out
        return out

    def band_power(self, bands, psd=None):
        if psd is None:
            psd = self.newest
        if psd is None:
            raise ValueError("no psd has been computed yet")
        cdef const double[:, ::1] power = np.ascontiguousarray(psd, dtype=np.float64)
        if power.shape[0] != self.c.n_bins or power.shape[1] != self.channels:
            raise ValueError(f"psd has shape {np.shape(psd)}, not "
                             f"{(self.c.n_bins, self.channels)}")
        out = np.empty((len(bands), self.channels))
        cdef double[:, ::1] areas = out
        cdef double low, high
        cdef Py_ssize_t i = 0
        for low, high in bands:
            pd_welch_band(&self.c, &power[0, 0], self.channels, self.channels, low, high,
                          &areas[i, 0])
            i += 1
        return out


cdef class Spectrogram:

    def __cinit__(self, n_channels, double rate_hz, *, nperseg=256, hop=None, nfft=None,
                  window=None, detrend="constant", scaling="density", double floor_db=-120.0):
        if hop is None:
            hop = max(1, nperseg // 8)
        self.memory = plan(&self.c, n_channels, rate_hz, nperseg, nperseg - hop, nfft, window,
                           detrend, scaling, "mean", 1)
        self.floor = floor_db
        self.recent = np.zeros((nperseg, n_channels))
        pd_rows_init(&self.rows, n_channels, floor_db)

    @property
    def n_channels(self):
        return self.rows.n_channels

    @property
    def n_bins(self):
        return self.c.n_bins

    @property
    def hop(self):
        return self.c.hop

    @property
    def frequencies(self):
        return np.arange(self.c.n_bins) * self.c.bin_hz

    def push(self, x):
        cdef const double[:, ::1] samples = samples_of(x, self.rows.n_channels)
        cdef uint32_t n = <uint32_t>samples.shape[0]
        if self.busy:
            raise RuntimeError("another thread is running this spectrogram")
        cdef uint32_t due = pd_rows_due(&self.rows, &self.c, n)
        out = np.empty((due, self.c.n_bins, self.rows.n_channels))
        cdef double[:, :, ::1] view = out
        cdef double *to = &view[0, 0, 0] if due > 0 else NULL
        cdef unsigned fp
        if n > 0:
            self.busy = True
            with nogil:
                fp = pd_fp_enter()
                pd_rows_push(&self.rows, &self.c, &self.recent[0, 0], &samples[0, 0],
                             self.rows.n_channels, n, to)
                pd_fp_leave(fp)
            self.busy = False
        return out

    def reset(self):
        if self.busy:
            raise RuntimeError("another thread is running this spectrogram")
        pd_rows_init(&self.rows, self.rows.n_channels, self.floor)
