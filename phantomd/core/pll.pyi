from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

STATES: tuple[str, ...]
FIELDS: tuple[str, ...]
"""The columns of ``read``: the numbers of ``PhaseReport`` in its order, then ``locked`` as 0 or 1."""

class PhaseReport(NamedTuple):
    """One channel at its newest sample. All numbers are NaN, and ``locked`` False, unless
    ``defined``. pd_pll.h says what each is."""

    defined: bool
    state: str
    """"defined", or why not: "filling" (fewer samples than the window), "missing" (more than a
    quarter of the window), "flat", "outside" (the best frequency ends the range searched), "noise"."""
    locked: bool
    phase_rad: float
    """Of a cosine: 0 at the crest, -pi to pi."""
    ref_phase_rad: float
    phase_error_rad: float
    """phase - reference."""
    phase_error_mean: float
    """Circular mean over the window."""
    phase_error_var: float
    """Circular variance, 1 - plv."""
    plv: float
    """|mean of exp(i error)| over the window."""
    sd_rad: float
    """Circular sd of the phase over the window about a steady frequency's."""
    frequency_hz: float
    amplitude_uv: float
    snr_db: float
    """A² / 2 sigma² a sample, as if noise were everywhere as it is near the frequency."""
    subharmonic: float
    """0 to 1: a steady response at half the frequency; NaN too where the window can't tell."""

class PhaseTracker:
    """pd_pll.h: phase, frequency and amplitude of a rhythm near a reference, at the newest sample.

    The maximum-likelihood fit of one sinusoid within ``ref_hz`` ± ``span_hz`` to the newest
    window, together with offset, drift and mains; at the Cramér-Rao bound (docs/pll.md). NaN,
    infinities and magnitudes over 1e12 are missing samples, and weigh nothing. Push them for what
    was lost: the count of samples is the clock of the reference. Nothing is left of a sample that
    has left the window, except in ``locked``.

    One thread at a time. The GIL is released.
    """

    def __init__(
        self,
        ref_hz: float,
        *,
        rate_hz: float,
        channels: int,
        span_hz: float = 1.0,
        window_s: float = 1.0,
        mains_hz: Sequence[float] = (50.0, 60.0),
        false_alarm: float = 0.008,
    ) -> None:
        """``ref_hz``: 0.75 turns a window at least, 0.4 of the rate at most. ``span_hz``: times
        ``window_s`` at most 4. ``window_s``: 32 to 16384 samples. ``mains_hz``: at most two,
        taken out unless within 1.5 bins (1/window) of what is searched. ``false_alarm``: share
        of windows of noise that may be taken for a rhythm, 1e-6 to 0.1.

        Raises ValueError for anything else, MemoryError when ``nbytes`` can't be had.
        """

    @property
    def channels(self) -> int: ...
    @property
    def ref_hz(self) -> float: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def window(self) -> int:
        """Samples."""
    @property
    def hop(self) -> int:
        """Samples of a block of sums, and between two judgements of the lock."""
    @property
    def range_hz(self) -> tuple[float, float]:
        """What is searched: the span and a quarter of a bin, from half a turn a window on."""
    @property
    def count(self) -> int:
        """Samples pushed since the start or the last reset."""
    @property
    def nbytes(self) -> int: ...
    def push(self, x: npt.ArrayLike) -> None:
        """``x``: float64 µV [n, channels], copied unless C-contiguous. Raises ValueError
        otherwise."""
    def read(self) -> npt.NDArray[np.float64]:
        """float64 [channels, FIELDS] at the newest sample."""
    def report(self, channel: int) -> PhaseReport:
        """Raises ValueError for a channel that is not there."""
    def bind(
        self, x: npt.NDArray[np.float64], out: npt.NDArray[np.float64]
    ) -> Callable[[], None]:
        """The fast way: each call pushes ``x`` [n, channels] as it is then, and writes ``read()``
        into ``out`` [channels, FIELDS]. Both float64, C-contiguous, held.

        Raises ValueError for another shape or type.
        """
    def set_phase(self, turns: float) -> None:
        """The reference's phase at index 0, from the next report on."""
    def tie(self, index: int, t_ns: int) -> None:
        """The reference is 0 at host time 0, and sample ``index`` is at ``t_ns``."""
    def reference(self, index: int) -> float:
        """The reference's phase, -pi to pi, at any sample."""
    def reset(self) -> None:
        """As before the first sample; the reference is 0 at index 0 again."""
    def save(self) -> bytes:
        """All of the state; an object made the same way goes on from it with the same bits."""
    def restore(self, saved: bytes) -> None:
        """Raises ValueError, and changes nothing, when ``saved`` is of another configuration."""
