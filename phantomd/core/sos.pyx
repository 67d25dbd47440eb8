"""Filter bank of second-order sections. See sos.pyi."""

from libc.errno cimport EDOM, ERANGE
from libc.stdint cimport uint32_t, uintptr_t

import numpy as np

from phantomd.core.block cimport aligned

# Who gives the GIL away may wait 5 ms (the switch interval) to have it back. Calls that are over in
# some 4 µs keep it: up to this many sections times samples times channels.
cdef double KEEPS_GIL = 20000


cdef void *address(memory) except NULL:
    cdef unsigned char[::1] view = memory
    return &view[0]


def design(bands, double tolerance):
    """Memory of pd_sos_band and of pd_sos_section for these designs."""
    designs = [np.array(sos, dtype=np.float64, ndmin=2) for sos in bands]
    for band, sos in enumerate(designs):
        if sos.ndim != 2 or sos.shape[1] != 6 or not 1 <= len(sos) <= PD_SOS_MAX_BAND_SECTIONS:
            raise ValueError(f"band {band} has shape {sos.shape}, not (sections, 6) with 1 to "
                             f"{PD_SOS_MAX_BAND_SECTIONS} sections")
        if not (sos[:, 3] == 1).all():
            raise ValueError(f"band {band} is not normalised: a0 must be 1")
    section_memory = aligned(sum(map(len, designs)) * sizeof(pd_sos_section))
    band_memory = aligned(len(designs) * sizeof(pd_sos_band))
    if not designs:
        return band_memory, section_memory
    cdef pd_sos_section *sections = <pd_sos_section *>address(section_memory)
    cdef pd_sos_band *c_bands = <pd_sos_band *>address(band_memory)
    cdef uint32_t first = 0, band_sections, i
    cdef int rc
    for band, sos in enumerate(designs):
        band_sections = len(sos)
        for i in range(band_sections):
            (sections[first + i].b0, sections[first + i].b1, sections[first + i].b2, _,
             sections[first + i].a1, sections[first + i].a2) = sos[i]
        c_bands[band].first = first
        c_bands[band].n_sections = band_sections
        rc = pd_sos_design(&sections[first], band_sections, tolerance, &c_bands[band].settle)
        if rc == -EDOM:
            raise ValueError(f"band {band} is unstable: a pole is not inside the unit circle")
        if rc == -ERANGE:
            raise ValueError(f"band {band} takes more than four million samples to settle")
        if rc:
            raise ValueError(f"band {band} has a coefficient that is none or too large, or the "
                             f"tolerance {tolerance} is not between 0 and 1")
        first += band_sections
    return band_memory, section_memory


cdef class FilterBank:

    def __cinit__(self, bands, n_channels, rate_hz, *, tolerance=1e-3):
        if not 1 <= n_channels <= 65536:
            raise ValueError(f"{n_channels} channels, not 1 to 65536")
        cdef uint32_t channels = n_channels
        band_memory, section_memory = design(bands, tolerance)
        cdef uint32_t n_bands = len(band_memory) // sizeof(pd_sos_band)
        cdef uint32_t n_sections = len(section_memory) // sizeof(pd_sos_section)
        cdef size_t need = pd_sos_state_bytes(n_sections, channels)
        if need == 0:
            raise ValueError(f"a bank has 1 to 65536 sections, not {n_sections}")
        self.state = aligned(need)
        self.designs = section_memory, band_memory
        cdef pd_sos_section *sections = <pd_sos_section *>address(section_memory)
        cdef pd_sos_band *c_bands = <pd_sos_band *>address(band_memory)
        if pd_sos_init(&self.c, c_bands, n_bands, sections, channels, rate_hz,
                       address(self.state), need):
            raise ValueError(f"{rate_hz} Hz is no sampling rate")

    @property
    def n_bands(self):
        return self.c.n_bands

    @property
    def n_channels(self):
        return self.c.n_channels

    @property
    def settle(self):
        return np.array([self.c.bands[i].settle for i in range(self.c.n_bands)], np.uint32)

    @property
    def fed(self):
        return np.array([pd_sos_fed(&self.c, i) for i in range(self.c.n_channels)], np.uint32)

    def defined(self, window=1):
        if not 1 <= window <= 0xFFFFFFFF:
            raise ValueError(f"a window of {window} samples")
        return np.array([[pd_sos_defined(&self.c, band, channel, window)
                          for channel in range(self.c.n_channels)]
                         for band in range(self.c.n_bands)], np.bool_)

    def zi(self, band):
        if not 0 <= band < self.c.n_bands:
            raise IndexError(f"there is no band {band}")
        every = np.empty((self.c.n_channels, self.c.n_sections, 2))
        cdef double[:, :, ::1] z = every
        cdef uint32_t channel, first = self.c.bands[band].first
        for channel in range(self.c.n_channels):
            pd_sos_final(&self.c, channel, &z[channel, 0, 0])
        mine = every[:, first:first + self.c.bands[band].n_sections]
        return np.ascontiguousarray(mine.transpose(1, 2, 0))

    def reset(self):
        self.check_free()
        pd_sos_reset(&self.c)

    def seed(self, first):
        cdef const double[::1] values = np.ascontiguousarray(first, dtype=np.float64)
        if values.shape[0] != self.c.n_channels:
            raise ValueError(f"{values.shape[0]} values for {self.c.n_channels} channels")
        self.check_free()
        pd_sos_seed(&self.c, &values[0])

    cdef int check_free(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is running this filter bank")
        return 0

    cdef int go(self, const double *x, Py_ssize_t n, double *y, uint32_t *fed) except -1:
        cdef size_t row = <size_t>self.c.n_bands * self.c.n_channels
        cdef unsigned fp
        self.check_free()
        if <double>n * self.c.n_sections * self.c.n_channels <= KEEPS_GIL:
            fp = pd_fp_enter()
            pd_sos_run(&self.c, x, self.c.n_channels, <uint32_t>n, y, row, fed)
            pd_fp_leave(fp)
            return 0
        self.busy = True
        with nogil:
            fp = pd_fp_enter()
            pd_sos_run(&self.c, x, self.c.n_channels, <uint32_t>n, y, row, fed)
            pd_fp_leave(fp)
        self.busy = False
        return 0

    def process(self, x, out=None, fed=None):
        cdef const double[:, ::1] samples
        if type(x) is np.ndarray and x.dtype == np.float64 and x.flags.c_contiguous:
            samples = x
        else:
            samples = np.ascontiguousarray(x, dtype=np.float64)
        cdef Py_ssize_t n = samples.shape[0]
        if out is None:
            out = np.empty((n, self.c.n_bands, self.c.n_channels))
        cdef double[:, :, ::1] y = out
        self.check_buffers(samples, y)
        cdef uint32_t[:, ::1] counts
        cdef uint32_t *at = NULL
        if fed is not None:
            counts = fed
            if counts.shape[0] != n or counts.shape[1] != self.c.n_channels:
                raise ValueError(f"fed has shape {np.shape(fed)}, not {(n, self.c.n_channels)}")
            if n > 0:
                at = &counts[0, 0]
        if n > 0:
            self.go(&samples[0, 0], n, &y[0, 0, 0], at)
        return out

    cdef int check_buffers(self, const double[:, ::1] x, double[:, :, ::1] y) except -1:
        cdef Py_ssize_t n = x.shape[0], bands = self.c.n_bands, channels = self.c.n_channels
        if x.shape[1] != channels:
            raise ValueError(f"x has {x.shape[1]} channels, not {channels}")
        if y.shape[0] != n or y.shape[1] != bands or y.shape[2] != channels:
            raise ValueError(f"y has shape {(y.shape[0], y.shape[1], y.shape[2])}, not "
                             f"{(n, bands, channels)}")
        if n > 0xFFFFFFFF:
            raise ValueError("more than 2**32 samples at once")
        cdef uintptr_t x_at, y_at
        if n > 0:
            x_at, y_at = <uintptr_t>&x[0, 0], <uintptr_t>&y[0, 0, 0]
            if x_at < y_at + n * bands * channels * 8 and y_at < x_at + n * channels * 8:
                raise ValueError("x and y lie in the same memory")
        return 0

    def bind(self, x, y):
        return BoundBank(self, x, y)


cdef class BoundBank:

    def __cinit__(self, FilterBank bank not None, x, y):
        self.x = x
        self.y = y
        bank.check_buffers(self.x, self.y)
        if self.x.shape[0] == 0:
            raise ValueError("a bound buffer has at least one row")
        self.bank = bank

    def run(self, Py_ssize_t n):
        if not 0 <= n <= self.x.shape[0]:
            raise ValueError(f"{n} samples, not 0 to {self.x.shape[0]}")
        self.bank.go(&self.x[0, 0], n, &self.y[0, 0, 0], NULL)
