from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

class CanonicalCorrelation:
    """pd_cca.h: canonical correlation of the newest samples with sines and cosines (Lin 2006).

    For each target and window the largest correlation that any weighting of the channels has with
    any weighting of sin and cos of the target's harmonics, all centred in the window; as QR and SVD
    give it, to 1e-9 for cond(Cxx) <= 1e6. Harmonics at or above half the rate are left out. Any
    sample may end a window, and the cost does not depend on its length.

    Absence: a window that is not filled, that holds a NaN, an infinity or squares that overflow, or
    in which no channel varies, has NaN for all its targets, and ``states`` says why. Nothing is
    left of a sample that has left the window. Channels that are flat, or linear combinations of
    others, are left out (pd_cca.h has the rule), and ``ranks`` counts those that stayed.

    One thread at a time. The GIL is released.
    """

    def __init__(
        self,
        targets_hz: npt.ArrayLike,
        windows: npt.ArrayLike,
        *,
        rate_hz: float,
        channels: int,
        harmonics: int = 5,
        hop: int | None = None,
    ) -> None:
        """``targets_hz``: 1 to 512, each under half the rate. ``windows``: 1 to 16 lengths in
        samples, each more than channels + 2 harmonics + 1 (with fewer, everything correlates
        with 1). ``channels``: 1 to 64. ``harmonics``: 1 to 10. ``hop``: samples of a block, at most
        the shortest window; 0.1 s unless given. It costs memory when small and time when large, and
        a result only its last bits.

        Raises ValueError for anything else, MemoryError when ``nbytes`` can't be had.
        """

    @property
    def targets_hz(self) -> tuple[float, ...]: ...
    @property
    def windows(self) -> tuple[int, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def count(self) -> int:
        """Samples pushed since the start or the last reset."""
    @property
    def nbytes(self) -> int: ...
    @property
    def harmonics(self) -> tuple[int, ...]:
        """For each target, how many of its harmonics lie under half the rate."""
    @property
    def references(self) -> tuple[tuple[int, ...], ...]:
        """For each window and target, how many sines and cosines can be told apart in it."""
    @property
    def states(self) -> tuple[str, ...]:
        """For each window, its last correlations: "defined", "filling", "missing" or "flat"."""
    @property
    def ranks(self) -> tuple[int, ...]:
        """For each window, the channels that the last correlation stood on; 0 = undefined."""
    def push(self, x: npt.ArrayLike) -> None:
        """``x``: float64 [n, channels], copied unless C-contiguous. Raises ValueError otherwise."""
    def correlations(self) -> npt.NDArray[np.float64]:
        """float64 [windows, targets] of the newest samples, 0 to 1, or NaN."""
    def bind(
        self, x: npt.NDArray[np.float64], out: npt.NDArray[np.float64]
    ) -> Callable[[], None]:
        """The fast way: each call pushes ``x`` [n, channels] as it is then, and writes
        ``correlations()`` into ``out`` [windows, targets]. Both float64, C-contiguous, held.

        Raises ValueError for another shape or type.
        """
    def reset(self) -> None:
        """As before the first sample."""
    def save(self) -> bytes:
        """All of the state; an object made the same way goes on from it with the same bits."""
    def restore(self, saved: bytes) -> None:
        """Raises ValueError, and changes nothing, when ``saved`` is of another configuration."""

class FilterBankCCA:
    """Filter-bank CCA (Chen et al. 2015): score = sum over bands n of (n^-1.25 + 0.25) rho_n².

    Takes samples that are already filtered, a stream a band (phantomd.core.sos), and has a
    ``CanonicalCorrelation`` for each. Not defined in one band, NaN in the score.
    """

    def __init__(
        self,
        targets_hz: npt.ArrayLike,
        windows: npt.ArrayLike,
        *,
        bands: int,
        rate_hz: float,
        channels: int,
        harmonics: int = 5,
        hop: int | None = None,
    ) -> None:
        """``bands``: 1 to 64. The others, and what is raised: as ``CanonicalCorrelation``."""

    @property
    def bands(self) -> tuple[CanonicalCorrelation, ...]: ...
    @property
    def weights(self) -> tuple[float, ...]: ...
    def push(self, x: npt.NDArray[np.float64] | Sequence[npt.ArrayLike]) -> None:
        """``x``: float64 [bands, n, channels]. Raises ValueError otherwise."""
    def scores(self) -> npt.NDArray[np.float64]:
        """float64 [windows, targets], or NaN."""
    def reset(self) -> None: ...
