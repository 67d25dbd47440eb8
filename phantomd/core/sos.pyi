from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

def design(bands: Sequence[npt.ArrayLike], tolerance: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Bands and sections as C takes them (pd_sos_band, pd_sos_section), with settling times.
    ValueError as ``FilterBank``."""

class FilterBank:
    """pd_sos.h: every channel through every band, a band being second-order sections in series.

    The state is kept from call to call; blocks are of any size, and the output has the bits of
    ``scipy.signal.sosfilt`` with ``zi = sosfilt_zi(sos) * x[0]``, whatever the blocks (values below
    2.2e-308 count as zero). The unit of the input is that of the output.

    A missing sample (NaN, an infinity, or beyond ±1e150) is NaN in all bands of its channel. The
    filters coast meanwhile, fed with the channel's mean of the last half second; after more than
    one second the channel starts anew at its first value. After each gap, and at the start, a band
    is settling for ``settle`` values: they are given, and ``fed`` and ``defined`` say so.

    One thread at a time. The GIL is released in calls of more than 20000 sections times samples
    times channels (some 4 µs): who gives it away for less may wait milliseconds to have it back.
    """

    state: npt.NDArray[np.uint8]
    """The whole state, live: copied and written back (into a bank of the same bands, channels and
    rate) it goes on from there."""

    def __init__(
        self,
        bands: Sequence[npt.ArrayLike],
        n_channels: int,
        rate_hz: float,
        *,
        tolerance: float = 1e-3,
    ) -> None:
        """``bands``: designs as SciPy has them, float64 [sections, 6] each, copied; see
        phantomd.signal.designs. ``rate_hz``: for the half second and the second above.

        ``tolerance``: a band is settled when no bounded past moves its output by more than this
        share of the largest output that a signal of that bound can give.

        Raises ValueError for a shape or number that can't be, a0 other than 1, a pole on or
        outside the unit circle, or a band that takes more than 2**22 samples to settle.
        """

    @property
    def n_bands(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def settle(self) -> npt.NDArray[np.uint32]:
        """uint32 [bands]: values without a gap until a band's output is defined, at least 1."""

    @property
    def fed(self) -> npt.NDArray[np.uint32]:
        """uint32 [channels]: values since the last gap; 0 while the newest is missing."""

    def defined(self, window: int = 1) -> npt.NDArray[np.bool_]:
        """bool [bands, channels]: whether the newest ``window`` outputs are there and settled.
        Raises ValueError for a window that is none."""

    def zi(self, band: int) -> Array:
        """float64 [sections, 2, channels]: a copy of the state, as ``sosfilt(axis=0)`` has it.
        Raises IndexError for a band that there is not."""

    def reset(self) -> None:
        """As before the first sample. Raises RuntimeError while another thread runs the bank."""

    def seed(self, first: npt.ArrayLike) -> None:
        """As if each channel had been at ``first`` [channels] forever; zeros: ``sosfilt`` without
        zi; NaN: that channel is reset. Raises ValueError for another length, RuntimeError as
        ``reset``."""

    def process(
        self,
        x: npt.ArrayLike,
        out: Array | None = None,
        fed: npt.NDArray[np.uint32] | None = None,
    ) -> Array:
        """float64 [n, bands, channels], ``out`` where that is given.

        ``x``: [n, channels], copied unless it is a C-contiguous float64 array. ``fed``, uint32 [n,
        channels], is filled with the values since the last gap at each sample: band b is defined
        where ``fed >= settle[b]``. Raises ValueError for another shape, or where ``x`` and ``out``
        overlap, RuntimeError as ``reset``.
        """

    def bind(self, x: Array, y: Array) -> BoundBank:
        """The fast way to call: the buffers are looked at here, and never again."""

class BoundBank:
    """A filter bank with its buffers, for the few samples of a tick."""

    def __init__(self, bank: FilterBank, x: Array, y: Array) -> None:
        """``x``: float64 [n, channels], ``y``: writable float64 [n, bands, channels], C-contiguous
        and apart, n at least 1. Raises ValueError for anything else."""

    def run(self, n: int) -> None:
        """The first ``n`` rows of x to those of y. Raises ValueError for more rows than there are,
        RuntimeError while another thread runs the bank."""
