from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Detrend = Literal["none", "constant", "linear"]
Scaling = Literal["density", "spectrum"]

class Welch:
    """pd_spectrum.h: Welch's power spectrum of many channels, as ``scipy.signal.welch(axis=0)``.

    A plan: tables and work space are made once, and each ``psd`` is of the samples given, without
    memory of those before. One-sided. Within 1e-12 of the largest bin of SciPy's result.

    Absence: a channel with NaN, an infinity or a value beyond ±1e140 in a segment is NaN, fewer
    samples than ``nperseg`` are NaN in all channels (SciPy would shorten the segment, and with it
    the bins). A constant channel has the power 0.

    One thread at a time. The GIL is released in calls of more than 2000 samples times channels
    times overlap (some 4 µs): who gives it away for less may wait milliseconds to have it back.
    """

    def __init__(
        self,
        n_channels: int,
        rate_hz: float,
        *,
        nperseg: int = 256,
        noverlap: int | None = None,
        nfft: int | None = None,
        window: npt.ArrayLike | None = None,
        detrend: Detrend = "constant",
        scaling: Scaling = "density",
        average: Literal["mean", "median"] = "mean",
        max_segments: int = 64,
    ) -> None:
        """``noverlap``: nperseg // 2 unless given. ``nfft``: nperseg unless given, up to 2**20, any
        number (5-smooth ones are fastest). ``window``: [nperseg], any; periodic Hann unless given.
        ``max_segments``: that a median may be of; it costs memory.

        Raises ValueError for numbers that can't be, or a window without power.
        """

    @property
    def n_channels(self) -> int: ...
    @property
    def n_bins(self) -> int: ...
    @property
    def frequencies(self) -> Array:
        """float64 [bins], Hz: with the bits of ``scipy.fft.rfftfreq``."""

    def segments(self, n: int) -> int:
        """Whole segments in n samples."""

    def psd(self, x: npt.ArrayLike, out: Array | None = None) -> Array:
        """float64 [bins, channels], ``out`` where that is given: U²/Hz for x in U, or U².

        ``x``: [n, channels], copied unless it is a C-contiguous float64 array. Raises ValueError for
        another shape, or more segments than a median was planned for; RuntimeError while another
        thread runs the plan.
        """

    def band_power(
        self, bands: Sequence[tuple[float, float]], psd: npt.ArrayLike | None = None
    ) -> Array:
        """float64 [bands, channels]: the area by ``numpy.trapezoid`` over bins with low <= f <= high,
        of the last ``psd`` unless one is given. U² of a density.

        NaN for a band that holds fewer than two bins: it has no area, which is not 0. Raises
        ValueError before the first psd, or for another shape.
        """

class Spectrogram:
    """pd_spectrum.h: rows of a spectrogram, for display, from samples as they come.

    The first row after ``nperseg`` samples, then one each ``hop``: 10 log10 of the ``Welch`` power
    of the newest ``nperseg`` samples. Blocks are of any size and don't change a bit.

    Absence: NaN in a channel while a value that is none lies in the segment. A power of 0, and any
    below ``floor_db``, is shown as ``floor_db``. One thread at a time; the GIL is released.
    """

    def __init__(
        self,
        n_channels: int,
        rate_hz: float,
        *,
        nperseg: int = 256,
        hop: int | None = None,
        nfft: int | None = None,
        window: npt.ArrayLike | None = None,
        detrend: Detrend = "constant",
        scaling: Scaling = "density",
        floor_db: float = -120.0,
    ) -> None:
        """``hop``: 1 to nperseg, nperseg // 8 unless given. The rest, and what is raised: as
        ``Welch``."""

    @property
    def n_channels(self) -> int: ...
    @property
    def n_bins(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def frequencies(self) -> Array:
        """float64 [bins], Hz."""

    def push(self, x: npt.ArrayLike) -> Array:
        """``x``: [n, channels]. float64 [rows, bins, channels], dB of U²/Hz (or of U²): the rows that
        these samples complete, mostly none. Raises ValueError for another shape, RuntimeError while
        another thread runs it."""

    def reset(self) -> None:
        """As before the first sample. Raises RuntimeError as ``push``."""
