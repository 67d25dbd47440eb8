import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

NONE: int
LOCKED: int
RELOCKED: int
FOLLOWED: int

class ClockReport(msgspec.Struct, frozen=True):
    """What a clock knows about itself; ``status`` shows it. docs/clock.md says how to read it."""

    locked: bool
    rate_hz: float
    """Rate of the device in host seconds, without what is being slewed just now."""
    rate_sd_ppm: float
    offset_sd_us: float
    """Random error of the time at the newest sample."""
    uncertainty_us: float
    """That (3 sd), the bias that the jitter allows, and a native period where there are clumps."""
    jitter_us: float
    """Typical spread of the block minima about the line."""
    clump: float
    """Typical number of samples a delivery; 1: they come one by one."""
    blocks: int
    steps: int
    """Times that the read-out was stepped (DISCONTINUITY)."""
    follows: int
    """Changes of rate or delay that were found."""

class Clock:
    """Sample index of a device to host time, from arrival times (csrc/pd_clock.h, docs/clock.md).

    ``rate_hz``: nominal. ``prior_ppm``: how far the true rate may well be from it (0: 100 ppm);
    data that contradict it overrule it. ``transport_us``: known constant delay, subtracted.
    ValueError for numbers that can't be. One thread at a time.
    """

    def __init__(
        self, rate_hz: float, prior_ppm: float = 0.0, transport_us: float = 0.0
    ) -> None: ...
    rate_hz: float
    """The nominal rate."""
    def observe(self, index: int, arrival_ns: int, behind: int = 0) -> int:
        """Sample ``index`` was read at ``arrival_ns`` together with ``behind`` newer ones.

        Returns NONE, LOCKED, RELOCKED or FOLLOWED. An index that does not grow is ignored.
        """
    def observe_many(
        self, indices: ArrayLike, arrivals_ns: ArrayLike, behind: ArrayLike | None = None
    ) -> NDArray[np.int32]:
        """The same for int64 vectors of one length, without the GIL. Returns an event a sample.

        ValueError for other shapes or negative indices.
        """
    def observe_trace(
        self, indices: ArrayLike, arrivals_ns: ArrayLike, behind: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Observes, and returns what was told about each sample right after it, in ns.

        t(index) − (index − indices[0]) · nominal period − arrivals_ns[0]; NaN before the lock.
        """
    def time_ns(self, index: float) -> int:
        """When this sample was taken. LookupError before the lock."""
    def index(self, t_ns: int) -> float:
        """The inverse, fractional. LookupError before the lock."""
    @property
    def locked(self) -> bool: ...
    def report(self) -> ClockReport: ...
    def restart(self) -> None:
        """The device came back: forgets the offset, keeps what was learnt about the rate."""
