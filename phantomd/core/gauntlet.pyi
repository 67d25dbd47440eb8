from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring

MAX_UNITS: int
NO_TRIAL: int
NOBODY: int
NEVER: int
"""ns: nothing is due."""
TRIAL: np.dtype[np.void]
"""id, start, stop (bins, stop not included), target_id (negative: none), target_x, target_y."""
RECORD: np.dtype[np.void]
"""seq, t_ns, bin, flags (1 answered, 2 desync, 4 invalid, 8 lost on the way,
16 there was a decoder), vx, vy, x, y (NaN: no answer), loop_ns."""
WHAT: tuple[str, ...]
REFUSALS: tuple[str, ...]
WHY: tuple[str, ...]
LEFT: tuple[str, ...]

def live_words(n_units: int) -> int:
    """64-bit words that a frame of a live source has at least: a record of csrc/pd_broadband.h."""

def parse_answer(data: bytes | NDArray[np.uint8]) -> tuple[str, int, dict[str, Any]]:
    """One message of a decoder: ``velocity``, ``attach``, what is wrong with it, ``more`` (it is
    not all there), ``bad-frame`` or ``too-big``; its bytes; its fields."""

class Bins:
    """A dataset as sessions read it: no copy, the arrays are kept alive and must not change.

    counts [bin, unit] uint8 or uint16; kinematics [bin, x y vx vy], NaN where unknown; trial_of
    [bin]: row of ``trials`` or NO_TRIAL. ValueError for shapes that don't fit.
    """

    def __init__(
        self,
        counts: NDArray[np.uint8] | NDArray[np.uint16],
        kinematics: NDArray[np.float32],
        trial_of: NDArray[np.uint32],
        trials: NDArray[np.void],
        bin_ns: int,
    ) -> None: ...
    @property
    def n_bins(self) -> int: ...
    @property
    def n_units(self) -> int: ...
    @property
    def bin_ns(self) -> int: ...

class Stress:
    """An immutable plan (csrc/pd_stress.h). ``config`` is a StressConfig; ``source``: which unit
    takes each unit's place. ValueError for numbers out of range."""

    def __init__(
        self, config: Any, n_units: int, source: NDArray[np.uint16] | None = None
    ) -> None: ...
    def counts(self, number: int, t_s: float, counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """What becomes of the counts of packet ``number``, ``t_s`` after the session's first."""

class Session:
    """One clock and one position in a dataset (csrc/pd_session.h).

    spans: uint32 [n, 2], bins start..stop of what is played. phase_ns: packets are due at
    phase_ns + k periods. record_slots: a power of two of packets that are remembered. Once it has
    been given to a Port, only what stands before "virtual clock" may be used.
    """

    bins: Bins
    def __init__(
        self,
        bins: Bins,
        spans: NDArray[np.uint32] | None = None,
        *,
        loop: bool = True,
        phase_ns: int = 0,
        record_slots: int = 2048,
        live: Ring | None = None,
    ) -> None: ...
    def counts(self) -> dict[str, int]:
        """packets, answered, missed, invalid, desyncs, lost (in the simulated network), dropped
        (by slow subscribers)."""
    @property
    def state(self) -> str:
        """running, paused or ended."""
    @property
    def bin(self) -> int:
        """Of the next packet."""
    @property
    def subscribers(self) -> int: ...
    @property
    def decoder(self) -> int | None:
        """Its connection."""
    @property
    def loop(self) -> Histogram:
        """Latency of the loop, ns."""
    def records(self, first: int = 0) -> NDArray[np.void]:
        """RECORDs of settled packets from seq ``first`` on, as far back as they are kept."""
    # -- virtual clock
    @property
    def seq(self) -> int: ...
    @property
    def next_ns(self) -> int: ...
    def subscribe(self, n: int, now_ns: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self, now_ns: int) -> None: ...
    def seek(self, bin: int, now_ns: int) -> None: ...
    def set_stress(self, stress: Stress | None) -> None: ...
    def step(self, now_ns: int, wall_offset_ns: int = 0) -> list[bytes]:
        """Messages that go out now."""
    def answer(self, connection: int, message: bytes, now_ns: int) -> tuple[str, int]:
        """What is refused (empty: nothing) and the packet that it was for."""
    def take_events(self) -> list[tuple[str, int, int]]:
        """(what, seq, value) since the last step."""
    def play(self, n_packets: int, loop_ns: int) -> int:
        """Makes and answers so many packets, each after ``loop_ns``. Returns ``seq``."""

#: what, connection, session, code, why, count, seq, value, message (csrc/pd_port.h)
PortEvent = tuple[str, int, int | None, int, int, int, int, int, bytes]

class Port:
    """Connections and the thread that serves them (csrc/pd_port.h). ``notify_fd``: an eventfd that
    is written when there are events. OSError when the system has no descriptors left."""

    def __init__(self, max_sessions: int, max_connections: int, notify_fd: int = -1) -> None: ...
    def order(
        self,
        what: str,
        *,
        session: int = 0,
        connection: int = 0,
        value: int = 0,
        message: bytes = b"",
        pointer: Session | Stress | None = None,
    ) -> bool:
        """False: the queue is full, try again. Sessions and Stress must live until a ``ticket``
        ordered after the command that takes them back is done."""
    def take_events(self, most: int = 4096) -> list[PortEvent]: ...
    def step(self, now_ns: int, wall_offset_ns: int = 0) -> int:
        """Virtual clock, in place of the thread. Returns when something is due next."""
    def start(self, priority: int = 0, cpu: int = -1) -> None:
        """OSError."""
    def stop(self) -> None: ...
    @property
    def promote_error(self) -> int: ...
    @property
    def published(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def untold(self) -> int:
        """Events that found no room."""
    @property
    def n_connections(self) -> int: ...
    @property
    def lateness(self) -> Histogram: ...
    @property
    def loops(self) -> Histogram: ...
