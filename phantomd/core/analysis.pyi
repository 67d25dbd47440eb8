from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from phantomd.core.artifact import Config
from phantomd.core.ring import Ring

MAX_CCA: int
MAX_STEPS: int
PHASES: int
"""Values of a channel's phase in a window (csrc/pd_analysis.h)."""
SCORES: int
"""Values of a kind of artifact."""

#: index, start_ns, end_ns, closed_ns, arrival_ns (of the newest sample that was there), first and
#: until (native indices), flags, lost, bridged, values.
WindowRecord = tuple[
    int, int, int, int, int | None, int, int, int, int, int, npt.NDArray[np.float64]
]

def signal_words(n_values: int) -> int:
    """Words of a frame of the signal ring (csrc/pd_window.h)."""

class Analysis:
    """The kernels behind one source (csrc/pd_analysis.h), and its windows ring.

    ``picks``: the channels (of the first ``n_channels`` values of a sample) that are analysed;
    the mean of ``reference`` is taken from each. Window k ends ``k · step_ns`` after the engine's grid
    began and is ``n_steps`` long; it is closed at the latest ``wait_ns`` after its end.
    ``power_bands``, ``cca_bands``: designs (float64 [sections, 6]) whose powers, and whose correlations
    with sines and cosines of ``targets_hz`` over ``cca_windows`` samples, stand in each window.
    ``artifact``: of all ``n_channels``; the kinds in ``rejects`` reject a window. ``ref_hz`` (0: none): the
    phase near it, within ``span_hz``, over ``phase_s``. ``signal``: a ring of ``signal_words(n_values)``; ``windows``: another analysis's, which is gone on
    with where its records are as long. ``next``: the native index that comes first.
    ValueError for what can't be.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        n_values: int,
        n_channels: int,
        picks: Sequence[int],
        reference: Sequence[int] = (),
        step_ns: int,
        n_steps: int,
        wait_ns: int,
        power_bands: Sequence[npt.ArrayLike] = (),
        cca_bands: Sequence[npt.ArrayLike] = (),
        targets_hz: npt.ArrayLike = (),
        cca_windows: npt.ArrayLike = (),
        harmonics: int = 5,
        hop: int = 0,
        tolerance: float = 1e-3,
        artifact: Config | None = None,
        rejects: Sequence[str] = (),
        ref_hz: float = 0.0,
        span_hz: float = 1.0,
        phase_s: float = 1.0,
        mains_hz: tuple[float, float] = (0.0, 0.0),
        signal: Ring,
        windows: Ring | None = None,
        next: int = 0,
    ) -> None: ...
    @property
    def signal(self) -> Ring: ...
    @property
    def windows(self) -> Ring: ...
    @property
    def n_values(self) -> int: ...
    @property
    def n_window_values(self) -> int: ...
    @property
    def lock_error(self) -> int:
        """The errno that refused to lock it in memory, or 0."""
    @property
    def state_bytes(self) -> int:
        """What a journal keeps of it."""
    @property
    def begun(self) -> int:
        """Native index that the segment began with: blocks of the scores count from it."""
    def begin(self, t_ns: int, grid_t0_ns: int) -> None:
        """By hand, in place of a source: the first window is the one that t_ns lies in the last step
        of."""
    @property
    def next(self) -> int:
        """The native index that it takes next."""
    def learn(self, first: int, grid_t0_ns: int) -> None:
        """Before it is in a plan: takes what the signal ring has from native index ``first`` on, in
        silence."""
    def succeed(self, before: Analysis, grid_t0_ns: int) -> None:
        """By hand, in place of a source: it goes on where ``before``, of the same signal ring, has come
        to. ValueError for one of another."""
    def take(
        self,
        first: int,
        t_ns: npt.NDArray[np.int64],
        flags: npt.NDArray[np.uint32],
        values: npt.NDArray[np.float64],
    ) -> None:
        """By hand: the next samples, from native index ``first`` on, as ``read_signal`` has them."""
    def close(self, now_ns: int, grid_t0_ns: int, flags: int, relocked: bool) -> None:
        """By hand: closes the next window. ``relocked``: the clock's time was stepped in its last
        step."""
    def restore(self, arena: bytes) -> None:
        """State from a journal of the same build; ValueError otherwise."""

def take_windows(windows: Ring, next: int) -> tuple[list[WindowRecord], int, int]:
    """Windows from ring index ``next`` on, the index after them, and how many were overwritten."""

def read_signal(
    signal: Ring, first: int, until: int
) -> tuple[
    npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.float64]
]:
    """What is still there of the samples [first, until): index, t_ns, flags, values [n, n_values]."""
