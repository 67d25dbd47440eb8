from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from phantomd.core.intake cimport Driver, pd_intake


cdef extern from "pd_cyton.h" nogil:
    enum:
        PD_CYTON_BYTES
        PD_CYTON_CHANNELS
        PD_CYTON_MAX_CHANNELS
    enum pd_cyton_aux:
        PD_CYTON_ACCEL
        PD_CYTON_ANALOG
        PD_CYTON_DIGITAL
        PD_CYTON_MARKER
    struct pd_cyton_packet:
        uint8_t counter
        uint8_t stop
        int32_t count[8]
        uint8_t aux[6]
        uint32_t junk_before
    struct pd_cyton_parser:
        uint32_t n_pending
        uint32_t synced
        uint32_t junk
    void pd_cyton_parser_init(pd_cyton_parser *parser)
    size_t pd_cyton_parse(pd_cyton_parser *parser, const uint8_t *data, size_t n,
                          pd_cyton_packet *out, size_t room, size_t *used)
    void pd_cyton_encode(const pd_cyton_packet *packet, uint8_t *out)
    double pd_cyton_uv_per_count(double gain)
    struct pd_cyton_state:
        pd_cyton_parser parser
    struct pd_cyton_driver:
        pd_cyton_state state
    uint32_t pd_cyton_n_aux(pd_cyton_aux aux)
    void pd_cyton_driver_init(pd_cyton_driver *driver, pd_intake *intake, uint32_t n_channels,
                              const double *gain, pd_cyton_aux aux)
    void pd_cyton_feed(void *driver, const uint8_t *data, size_t n, int64_t arrival_ns)
    void pd_cyton_reset(void *driver)


cdef class Parser:
    cdef pd_cyton_parser parser


cdef class CytonDriver(Driver):
    cdef pd_cyton_driver cyton
    cdef readonly tuple form
