from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring

#: Frames that a client may be behind.
HISTORY: int

#: what ("left", "half", "done"), connection, why it left ("gone", "ended", "not-ours"), value (the
#: socket's descriptor, or the ticket's), and what one who left is still owed (csrc/pd_frames.h)
News = tuple[str, int, str, int, bytes]

class Frames:
    """Subscribers of 7069 and the thread that serves them (csrc/pd_frames.h), from the first
    ``switch`` on.

    ``notify_fd``: an eventfd that is written when there is news; ``loop_fd``: one that is written
    when the tick has been, its frames are out, and the loop has use for it (``loop_from``).
    ``lateness`` gets each frame's; over ``deadline_ns`` it is LATE. OSError when the system has no
    descriptors left.
    """

    def __init__(
        self,
        max_clients: int,
        *,
        deadline_ns: int,
        notify_fd: int = -1,
        loop_fd: int = -1,
        lateness: Histogram | None = None,
    ) -> None: ...
    def order(
        self,
        what: str,
        *,
        connection: int = 0,
        value: int = 0,
        grid: Ring | None = None,
        message: bytes = b"",
    ) -> bool:
        """``switch`` (grid; value: its first index; message: a header), ``join`` (connection; value:
        a socket's descriptor), ``end`` (connection), ``end-all``, ``ticket`` (value).

        False: the queue is full, try again. ValueError: this is no header of that grid.
        """
    def forget(self, grid: Ring) -> None:
        """A grid of which the thread knows no more: a ticket ordered after the switch that took it
        away is done. It is kept alive until then."""
    def hold(self) -> None:
        """Nothing that the grid gets from now on is published until a switch, or until it is let
        go; what was lies before the ``grid.next`` that is read afterwards."""
    def let_go(self) -> None: ...
    def loop_from(self, index: int) -> None:
        """Frames before this one alone don't write ``loop_fd``; windows and events do. At first
        each does."""
    def take_news(self, most: int = 4096) -> list[News]: ...
    def step(self, now_ns: int) -> None:
        """Virtual clock, in place of the thread."""
    def start(self, priority: int = 0, cpu: int = -1) -> None:
        """OSError."""
    def stop(self) -> None: ...
    @property
    def tick_fd(self) -> int:
        """An eventfd for the tick to write."""
    @property
    def lock_error(self) -> int: ...
    @property
    def promote_error(self) -> int: ...
    @property
    def published(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def newest_ns(self) -> int | None:
        """``t_ns`` of the newest frame."""
