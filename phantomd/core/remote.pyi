from phantomd.core.intake import Driver, Intake

HEAD_BYTES: int
MAX_FRAME_BYTES: int

class RemoteDriver(Driver):
    """Frames of 7069, header taken off, to samples of the intake at 128 Hz (csrc/pd_remote.h).

    ``frame_bytes``: as the header has it. ``fd``: the socket, shut down when frames contradict
    each other (``fault`` says how); -1: none. ValueError when the frames are too short.
    """

    def __init__(self, intake: Intake, frame_bytes: int, fd: int = -1) -> None: ...
