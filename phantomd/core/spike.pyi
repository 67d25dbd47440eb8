from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

EVENT: Final[np.dtype[np.void]]
"""index int64, channel uint32, value float32: a spike."""

MISSING: Final = 1
"""A sample of the bin is missing in this channel."""
SETTLING: Final = 2
"""Or lies too near to a missing one, or to the start."""
UNARMED: Final = 4
"""For a part of the bin no noise was known, so there was no threshold."""

class Spikes(NamedTuple):
    """What one block gave: the bins that ended within it, and its spikes."""

    first_bin: int
    """Index of the first of ``counts``."""
    counts: npt.NDArray[np.uint16]
    """[bins, channels]; stops at 65535."""
    flags: npt.NDArray[np.uint8]
    """[bins, channels]: MISSING | SETTLING | UNARMED."""
    events: npt.NDArray[np.void]
    """EVENT [spikes], by sample, then by channel: the first ``max_events`` of the block."""
    overflow: int
    """Spikes that are in ``counts`` but had no room in ``events``."""

class SpikeDetector:
    """pd_spike.h: band-pass, common reference, robust noise, threshold crossings, bins of counts.

    float32 throughout, in the order of operations that the header states; the band-pass has the bits of
    ``scipy.signal.sosfilt`` in float32. The state is kept from call to call; blocks are of any size
    and change nothing. Units are those of the input (µV here).

    A missing sample (NaN, an infinity, beyond ±1e9) has no part in the reference; its channel
    coasts, and has no spikes until ``settle`` samples after it. The noise is median(|d|) / 0.6745 over windows of
    101 samples, ``every`` samples apart (3 kHz), averaged over the windows so far and from the 32nd on
    exponentially (1.1 s).

    One thread at a time; the GIL is released.
    """

    state: npt.NDArray[np.uint8]
    """The whole state, live: copied and written back (into a detector of the same arguments) it goes
    on from there."""
    n_channels: int
    rate_hz: float
    bin_samples: float
    """Samples a bin: bin b ends before sample floor((b + 1) * bin_samples)."""

    def __init__(
        self,
        sos: npt.ArrayLike,
        n_channels: int,
        rate_hz: float,
        *,
        bin_ms: float = 25.0,
        reference: str = "average",
        reference_on: str = "band",
        good: npt.ArrayLike | None = None,
        threshold: float = 4.5,
        polarity: str = "negative",
        refractory_ms: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        """``sos``: a design as SciPy has it, [1 to 8 sections, 6]; for spikes
        ``butter(2, (300, 6000), "bandpass", fs=rate_hz, output="sos")``. 1 to 16384 channels.

        ``reference``: "average", "median" or "none", over the ``good`` channels (bool [channels];
        None: all). ``reference_on``: "band", after the band-pass, or "raw", before it.
        ``threshold``: of the noise. ``polarity``: "negative", "positive" or "both".
        ``scale``: unit a count of int16 input; float32 input is taken as it is.

        Raises ValueError for a shape, number or choice that can't be, a reference without a good
        channel, or a filter that is unstable in float32.
        """

    @property
    def index(self) -> int:
        """Of the next sample; the first is 0."""

    @property
    def bin(self) -> int:
        """Of the next bin to end; the first is 0."""

    @property
    def settle(self) -> int:
        """Samples without a gap until a channel is trusted."""

    @property
    def every(self) -> int:
        """Samples from one of the noise's to the next."""

    @property
    def noise(self) -> npt.NDArray[np.float32]:
        """float32 [channels], NaN while there is none: before the first window, or flat."""

    def set_good(self, good: npt.ArrayLike) -> None:
        """Who is in the reference from the next sample on. Raises ValueError when none is left,
        RuntimeError as ``process``."""

    def reset(self) -> None:
        """As before the first sample. Raises RuntimeError as ``process``."""

    def process(
        self,
        x: npt.ArrayLike,
        *,
        y: npt.NDArray[np.float32] | None = None,
        max_events: int = 65536,
    ) -> Spikes:
        """``x``: [n, channels], int16 or float32 (anything else is converted to float32), copied
        unless C-contiguous. ``y``: float32 [n, channels], filled with the referenced band, NaN where
        it is missing. Raises ValueError for another shape or where ``x`` and ``y`` overlap,
        RuntimeError while another thread runs the detector.
        """
