import numpy as np
from numpy.typing import NDArray

from phantomd.core.ring import Ring

NATIVE_HEAD_WORDS: int
"""Words of a native frame before its values (csrc/pd_native.h)."""

NEVER: int
"""What ``Driver.advance`` returns once it has ended."""

class Intake:
    """Packets with a counter, or samples with an index, to a native ring without ambiguity.

    ``ring`` has ``NATIVE_HEAD_WORDS + n_values`` words. ``modulus``: range of the packet counter, 0
    when samples bring their own index. Times are CLOCK_MONOTONIC in ns. ValueError on a mismatch.
    """

    def __init__(self, ring: Ring, rate_hz: float, n_values: int, modulus: int = 0) -> None: ...
    @property
    def ring(self) -> Ring: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def modulus(self) -> int: ...
    @property
    def n_values(self) -> int: ...
    def counted(
        self,
        counter: int,
        arrival_ns: int,
        values: NDArray[np.float64],
        behind: int = 0,
        device_ns: int | None = None,
    ) -> bool:
        """A packet; ``values`` float64[n_values] in µV. False: refused as a copy or a stray."""
    def indexed(
        self,
        index: int,
        arrival_ns: int,
        values: NDArray[np.float64],
        behind: int = 0,
        device_ns: int | None = None,
    ) -> bool:
        """A sample at its own index, counted from the last reset."""
    def junk(self, n: int) -> None:
        """``n`` bytes belonged to no packet."""
    def mark(self, marker: int) -> None:
        """The device put this marker (not 0) at the sample that is accepted next."""
    def reset(self) -> None:
        """The device is back: the next sample begins a new segment."""
    def counters(self) -> dict[str, int]:
        """Since the start: accepted, lost, duplicates, strays, resets, junk_bytes."""
    @property
    def last_arrival_ns(self) -> int | None: ...
    @property
    def next(self) -> int:
        """The native index that comes next."""
    @property
    def journal_begun(self) -> bool:
        """Whether the journal that was last asked for has this intake's state already."""
    @staticmethod
    def next_of(state: bytes) -> int:
        """``next`` of a saved state: where its ring must begin."""
    state: bytes

class Driver:
    """The C side of a device: turns bytes, or the passing of time, into samples of its intake."""

    @property
    def intake(self) -> Intake: ...
    @property
    def by_clock(self) -> bool:
        """Whether it makes its own samples (simulator) instead of being fed bytes."""
    @property
    def ended(self) -> bool:
        """There will be no more samples, and that is no fault (the end of a recording)."""
    @property
    def fault(self) -> str:
        """Why it takes no more of what comes (bytes that contradict themselves); "": it does."""
    @property
    def heard_ns(self) -> int | None:
        """When it last had word of the device, be it only that samples are missing."""
    def feed(self, data: bytes | bytearray | memoryview, arrival_ns: int) -> None:
        """Bytes as they were read at ``arrival_ns``."""
    def advance(self, now_ns: int) -> int:
        """Hands over all that has arrived by ``now_ns``; returns when the next sample arrives,
        or NEVER."""
    def woken(self, now_ns: int) -> int:
        """A driver that reads its own descriptor (core/shared.pyi) takes what is there; 0, or the
        errno that ends it."""
    def reset(self) -> None:
        """The device was started anew: forgets what was pending, and the next sample begins a new
        segment, as far on in the index as time has passed. Only while no pump runs."""
    def begin_journal(self, t_ns: int) -> None:
        """Gives a journal that was asked for the state of this device, which is away. Only while no
        pump runs."""
    state: bytes

class Pump:
    """The intake thread of a live device; it starts at once.

    ``fd``: where a driver of bytes reads, or what wakes one that reads it itself (non-blocking), -1
    for one by the clock. ``notify_fd``: an
    eventfd that is told when the thread ends by itself. ``priority`` 0: not promoted. OSError when
    the thread can't be made.
    """

    def __init__(
        self,
        driver: Driver,
        fd: int = -1,
        *,
        notify_fd: int = -1,
        priority: int = 60,
        cpu: int = -1,
    ) -> None: ...
    @property
    def driver(self) -> Driver: ...
    def stop(self) -> None:
        """Ends the thread; returns when it has ended."""
    @property
    def promote_error(self) -> int:
        """The errno that refused the real-time priority, or 0."""
    @property
    def end_error(self) -> int:
        """The errno that ended the thread (the device is gone), or 0."""
    @property
    def bytes_read(self) -> int: ...
    @property
    def rounds(self) -> int: ...
