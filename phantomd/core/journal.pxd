from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from phantomd.core.intake cimport pd_spsc


cdef extern from "pd_spsc.h" nogil:
    struct pd_spsc_ "pd_spsc":
        uint64_t dropped
    int pd_spsc_init(pd_spsc *queue, void *buffer, uint32_t n)
    int64_t pd_spsc_take(pd_spsc *queue, void *out, uint32_t room)


cdef extern from "pd_journal.h" nogil:
    enum:
        PD_JOURNAL_MAX_BODY
        PD_JOURNAL_TAPS
    struct pd_journal:
        int error
        uint64_t bytes_written
    int pd_journal_put(pd_spsc *tap, unsigned kind, unsigned source, int64_t t_ns,
                       const void *body, uint32_t n)
    int pd_journal_start(pd_journal *journal, int fd, uint8_t *block)
    int pd_journal_add(pd_journal *journal, pd_spsc *tap)
    int pd_journal_stop(pd_journal *journal)


cdef class Tap:
    cdef pd_spsc *queue
    cdef uint8_t *buffer


cdef class JournalWriter:
    cdef pd_journal *journal
    cdef uint8_t *block
    cdef list taps
    cdef bint running
