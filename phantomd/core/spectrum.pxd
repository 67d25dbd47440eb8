from libc.stdint cimport uint32_t


cdef extern from "pd_spectrum.h" nogil:
    enum:
        PD_FFT_MAX
        PD_SPECTRUM_MAX_CHANNELS
        PD_SPECTRUM_MAX_SEGMENTS

    struct pd_welch_config:
        double rate_hz
        const double *window
        uint32_t nperseg, noverlap, nfft
        uint32_t max_segments
        uint32_t detrend, scaling, average

    struct pd_welch:
        uint32_t nperseg, hop, nfft, n_bins, max_segments
        double bin_hz

    struct pd_rows:
        uint32_t n_channels, fed

    size_t pd_welch_bytes(const pd_welch_config *config) noexcept
    int pd_welch_init(pd_welch *welch, const pd_welch_config *config, void *memory,
                      size_t bytes) noexcept
    uint32_t pd_welch_segments(const pd_welch *welch, uint32_t n) noexcept
    int pd_welch_psd(pd_welch *welch, const double *x, size_t x_stride, uint32_t n,
                     uint32_t n_channels, double *psd, size_t psd_stride) noexcept
    void pd_welch_band(const pd_welch *welch, const double *psd, size_t psd_stride,
                       uint32_t n_channels, double low_hz, double high_hz,
                       double *power) noexcept
    void pd_rows_init(pd_rows *rows, uint32_t n_channels, double floor_db) noexcept
    uint32_t pd_rows_due(const pd_rows *rows, const pd_welch *welch, uint32_t n) noexcept
    void pd_rows_push(pd_rows *rows, pd_welch *welch, double *recent, const double *x,
                      size_t x_stride, uint32_t n, double *out) noexcept


cdef extern from "pd_time.h" nogil:
    unsigned pd_fp_enter() noexcept
    void pd_fp_leave(unsigned saved) noexcept


# The samples as an array [n, channels] of double, contiguous.
cdef object samples_of(x, uint32_t n_channels)


cdef class Welch:
    cdef pd_welch c
    cdef uint32_t channels
    cdef object memory
    cdef object newest                  # the last psd, for band_power
    cdef bint busy


cdef class Spectrogram:
    cdef pd_welch c
    cdef pd_rows rows
    cdef object memory
    cdef double[:, ::1] recent
    cdef double floor
    cdef bint busy
