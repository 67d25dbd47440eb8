"""Player of rows by the clock. See play.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from phantomd.core.intake cimport PD_NO_TIME, Intake

LOST = PD_PLAY_LOST
RESET = PD_PLAY_RESET
MARKED = PD_PLAY_MARKED
NO_TIME = PD_NO_TIME


@no_gc_clear                        # its pump may be running until it goes
cdef class PlayDriver(Driver):
    def __cinit__(self, Intake intake not None, uint64_t n_rows, int marker_fd=-1):
        self.intake = intake
        self.play = <pd_play *>calloc(1, sizeof(pd_play))
        self.rows = <uint64_t *>calloc(n_rows, 8 * PD_PLAY_WORDS(intake.n_values))
        if self.play == NULL or self.rows == NULL:
            raise MemoryError
        if pd_play_init(self.play, &intake.intake, self.rows, n_rows, marker_fd):
            raise ValueError(f"{n_rows} rows: a power of two is needed")
        self.driver.self = self.play
        self.driver.intake = &intake.intake
        self.driver.advance = pd_play_advance
        self.driver.state = &self.play.state
        self.driver.state_bytes = sizeof(pd_play_state)

    def __dealloc__(self):
        free(self.play)
        free(self.rows)

    def put(self, const double[:, ::1] values, const int64_t[::1] at_ns, const uint32_t[::1] flags,
            const uint32_t[::1] behind, const int64_t[::1] device_ns):
        cdef Py_ssize_t n = values.shape[0], k
        cdef uint32_t n_values = self.intake.n_values
        cdef pd_play_row *row
        if at_ns.shape[0] != n or flags.shape[0] != n or behind.shape[0] != n \
                or device_ns.shape[0] != n or (n and <uint32_t>values.shape[1] != n_values):
            raise ValueError(f"rows of {n_values} values, and a time, flags and stamps for each")
        if <uint64_t>n > pd_play_room(self.play):
            raise ValueError(f"{n} rows are more than there is room for")
        with nogil:
            for k in range(n):
                row = pd_play_row_(self.play, k)
                row.at_ns = at_ns[k]
                row.device_ns = device_ns[k]
                row.flags = flags[k]
                row.behind = behind[k]
                memcpy(<uint64_t *>row + PD_PLAY_WORDS(0), &values[k, 0], 8 * n_values)
            pd_play_fill(self.play, n)

    def finish(self):
        pd_play_finish(self.play)

    @property
    def room(self):
        return pd_play_room(self.play)

    @property
    def filled(self):
        return self.play.filled

    @property
    def played(self):
        return self.play.played

    @property
    def starved(self):
        return self.play.starved

    @property
    def start_ns(self):
        cdef int64_t t_ns = self.play.start_ns
        return None if t_ns == PD_NO_TIME else t_ns

    @property
    def ended(self):
        return self.play.played == self.play.end
