from typing import Any, Final

import numpy.typing as npt

from phantomd.core.intake import Driver
from phantomd.core.ring import Ring
from phantomd.core.spike import SpikeDetector

LATE: Final = 1
"""The bin was taken more than ``late_ns`` after its end."""
WRAPPED: Final = 2
"""The recording began again within the bin."""
HEAD_WORDS: Final = 3
"""Words before the counts: bin index, t_ns, flags."""

def words(n_channels: int) -> int:
    """64-bit words of a record, the ring's frame: HEAD_WORDS, counts uint16 [n_channels] and the
    channels' flags uint8 [n_channels], each padded to a word."""

class BroadbandDriver(Driver):
    """pd_broadband.h: plays ``samples`` at the detector's rate, a record for each bin into ``ring``.

    A driver by the clock: a Pump calls it in a thread of its own, or ``advance`` on a virtual clock;
    each call takes one bin. The detector belongs to the device from then on: calls of it meet RuntimeError,
    its noise may be read.
    """

    ring: Ring
    detector: SpikeDetector

    def __init__(
        self,
        detector: SpikeDetector,
        samples: npt.NDArray[Any],
        ring: Ring,
        *,
        loop: bool = False,
        late_ns: int = 25_000_000,
    ) -> None:
        """``samples``: C-contiguous int16 or float32 [n, channels]; not copied. ``ring``: frames of
        ``words(channels)``. Raises ValueError for anything else, or a detector that has begun."""

    @property
    def bins(self) -> int:
        """Records written."""

    @property
    def late(self) -> int:
        """LATE ones among them."""

    @property
    def spikes(self) -> int: ...
    @property
    def ended(self) -> bool:
        """No bin comes any more."""
