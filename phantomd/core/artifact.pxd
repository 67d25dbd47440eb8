from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "pd_artifact.h" nogil:
    enum:
        PD_ARTIFACT_KINDS
        PD_ARTIFACT_MAX_CHANNELS

    enum pd_artifact_kind:
        PD_ARTIFACT_CLIPPING

    struct pd_artifact_curve:
        double threshold, floor, weight
        uint32_t power, least

    struct pd_artifact_config:
        double rate_hz
        const uint8_t *roles
        uint32_t n_channels, hop, n_blocks, box, flat, lag
        double low_uv, high_uv, flat_uv
        double line_hz[2]
        double eeg_hz[2]
        double emg_hz[2]
        pd_artifact_curve curve[7]

    struct pd_artifact_report:
        uint64_t end
        uint32_t samples, available, defined
        double score[7]
        double value[7]
        uint32_t channel[7]
        uint32_t undefined[7]

    struct pd_artifact:
        uint64_t count
        pd_artifact_config config
        uint32_t available
        size_t bytes

    size_t pd_artifact_bytes(const pd_artifact_config *config) noexcept
    int pd_artifact_init(pd_artifact *a, const pd_artifact_config *config) noexcept
    void pd_artifact_reset(pd_artifact *a) noexcept
    int pd_artifact_restore(pd_artifact *a, const void *saved, size_t bytes) noexcept
    void pd_artifact_push(pd_artifact *a, const double *x, size_t stride, uint32_t n,
                          const uint8_t *lost) noexcept
    void pd_artifact_read(pd_artifact *a, pd_artifact_report *report) noexcept
    const double *pd_artifact_scores(const pd_artifact *a, pd_artifact_kind kind) noexcept
    const double *pd_artifact_values(const pd_artifact *a, pd_artifact_kind kind) noexcept


# What a configuration is in C. roles: [n_channels], the caller's, to which config.roles points.
cdef int configure(object config, pd_artifact_config *out, uint8_t *roles) except -1

cdef class ArtifactDetector:
    cdef pd_artifact *a
    cdef pd_artifact_report report
    cdef void run(self, const double *x, uint32_t n, const uint8_t *lost) noexcept nogil
