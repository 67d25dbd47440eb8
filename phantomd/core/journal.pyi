from phantomd.core.engine import Engine
from phantomd.core.intake import Intake

class Tap:
    """A bounded queue from one producer to the writer; it must outlive its producer's use of it."""

    def __init__(self, n_bytes: int = 1 << 21) -> None: ...
    @property
    def dropped(self) -> int: ...
    def put(self, kind: int, source: int, t_ns: int, body: bytes) -> bool:
        """One record from the thread that owns this tap; False: dropped and counted."""
    def clear(self) -> None:
        """Throws away what is queued. Only while no writer has it."""

class JournalWriter:
    """Takes records from its taps and writes them to ``fd``, in a thread of its own. OSError."""

    def __init__(self, fd: int) -> None: ...
    def add(self, tap: Tap) -> None: ...
    def stop(self) -> None:
        """Writes what is queued and an END record; OSError for the first write that failed."""
    @property
    def error(self) -> int:
        """The errno of the write that failed, after which nothing is written, or 0."""
    @property
    def bytes_written(self) -> int: ...

def tap_intake(intake: Intake, tap: Tap | None, slot: int = 0) -> None:
    """From its next bytes or samples on, the intake tells ``tap``, its state first."""

def tap_engine(engine: Engine, tap: Tap | None) -> None:
    """From its next step on, the tick tells ``tap``, its state first."""
