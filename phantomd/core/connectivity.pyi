from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEASURES: tuple[str, ...]
"""plv, pli, wpli, wpli2_debiased, imcoh, coh: the first axis of ``Connectivity``'s results."""

class Connectivity:
    """pd_connectivity.h: connectivity of all pairs of channels from cross-spectra of segments.

    The definitions, window and band mean of MNE-Connectivity's ``spectral_connectivity_epochs`` with
    mode 'fourier' and faverage, a segment being an epoch (Lachaux 1999, Stam 2007, Vinck 2011, Nolte
    2004). A plan: each call is of the samples given, without memory of those before.

    Absence is NaN: a pair with a channel that has a value that is none in a segment, or is flat in a
    bin (at most 1e-12 of its largest value: rounding); fewer than two segments; a band without
    bins; the diagonal. One thread at a time. The GIL is released.
    """

    def __init__(
        self,
        n_channels: int,
        rate_hz: float,
        bands: Sequence[tuple[float, float]],
        *,
        nperseg: int,
        noverlap: int | None = None,
        window: npt.ArrayLike | None = None,
        max_segments: int = 64,
    ) -> None:
        """``bands``: low <= f <= high in Hz, 1 to 64. ``noverlap``: nperseg // 2 unless given.
        ``window``: [nperseg], symmetric Hann (MNE's) unless given. ``n_channels``: up to 1024.

        Raises ValueError for numbers that can't be.
        """

    @property
    def n_channels(self) -> int: ...
    @property
    def n_bands(self) -> int: ...
    def matrices(self, x: npt.ArrayLike, out: Array | None = None) -> Array:
        """float64 [measures, bands, channels, channels], ``out`` where that is given. Symmetric, but
        imcoh, whose [i, j] is Im of X_i conj(X_j), and [j, i] its negative.

        ``x``: [n, channels], copied unless it is a C-contiguous float64 array. Raises ValueError for
        another shape or more than ``max_segments``, RuntimeError while another thread runs the plan.
        """

    def means(self, matrices: npt.ArrayLike, use: npt.ArrayLike | None = None) -> Array:
        """float64 [measures, bands]: the mean over pairs, of imcoh of its magnitude. ``use``, bool
        [channels]: leave others out. NaN where a pair is undefined, or there is none. Raises
        ValueError for another shape."""

class Synchrony(NamedTuple):
    """Of a window; all NaN where it is undefined."""

    plv: float
    """Mean over pairs, 0 to 1."""
    phase_dispersion: float
    """1 - plv."""
    z: float
    """(plv - null_median) / null_sd: ``gamma_sync_z`` in the gamma band."""
    null_median: float
    null_sd: float

class PhaseSynchrony:
    """pd_synchrony.h: mean phase-locking value of all pairs in a band, and its z against surrogates
    that are shifted in time and, by three bins, in frequency.

    The analytic signal is ``scipy.signal.hilbert``'s, after the straight line is taken out and the
    transform kept within the band. z is against the median of the surrogates and a spread that is
    pooled over pairs, and never under that of independent phases; it rises with coupling for
    noise and for steady oscillations. Deterministic in ``seed`` and window.

    Absence (all NaN): sampled under twice the band's upper edge, fewer samples than ``n_samples``,
    fewer than 8 bins in the band, fewer than two channels in use, or among them one with NaN, an
    infinity, a value beyond ±1e140, or that is flat in the band. One thread at a time. The GIL is
    released.
    """

    def __init__(
        self,
        n_channels: int,
        rate_hz: float,
        *,
        n_samples: int,
        band_hz: tuple[float, float] = (30.0, 90.0),
        filtered: bool = False,
        surrogates: int = 40,
        seed: int = 0,
    ) -> None:
        """``n_samples``: of the window, up to 65536 (5-smooth numbers are fastest). ``filtered``: x
        is in the band already, and is taken as it is. ``n_channels``: up to 256.

        Raises ValueError for numbers that can't be; a rate that is too low can be, and is undefined.
        """

    @property
    def n_channels(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_bins(self) -> int:
        """Bins in the band."""
    @property
    def possible(self) -> bool:
        """Whether rate and band allow any result."""
    @property
    def shifts(self) -> npt.NDArray[np.int64]:
        """[surrogates, channels], samples: for who wants to have the same null elsewhere."""
    @property
    def matrix(self) -> Array:
        """float64 [channels, channels]: PLV of the last window, a copy. NaN where undefined, on the
        diagonal, and before the first."""
    def run(self, x: npt.ArrayLike, use: npt.ArrayLike | None = None) -> Synchrony:
        """Of the newest ``n_samples`` of x [n, channels], any unit; of channels in ``use`` (bool
        [channels], all unless given). Raises ValueError for another shape, RuntimeError while another
        thread runs the plan."""
