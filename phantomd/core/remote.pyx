"""Frames of another daemon's eeg port. See remote.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free

from phantomd.core.intake cimport PD_NO_TIME, Intake

HEAD_BYTES = PD_REMOTE_HEAD
MAX_FRAME_BYTES = PD_REMOTE_MAX_BYTES
_FAULTS = (
    "",
    "its frame indices step back",
    "its frames are not 1/128 s apart",
    "its frame index jumped by more than a day",
)


@no_gc_clear                        # its pump may be running until it goes
cdef class RemoteDriver(Driver):
    def __cinit__(self, Intake intake not None, uint32_t frame_bytes, int fd=-1):
        self.intake = intake
        self.remote = <pd_remote *>calloc(1, sizeof(pd_remote))
        if self.remote == NULL:
            raise MemoryError
        if pd_remote_init(self.remote, &intake.intake, frame_bytes, fd):
            raise ValueError(f"frames of {frame_bytes} bytes do not hold {intake.n_values} values")
        self.driver.self = self.remote
        self.driver.intake = &intake.intake
        self.driver.feed = pd_remote_feed
        self.driver.state = &self.remote.state
        self.driver.state_bytes = sizeof(pd_remote_state)

    def __dealloc__(self):
        free(self.remote)

    @property
    def fault(self):
        return _FAULTS[self.remote.fault]

    @property
    def heard_ns(self):
        cdef int64_t t_ns = self.remote.heard_ns
        return None if t_ns == PD_NO_TIME else t_ns
