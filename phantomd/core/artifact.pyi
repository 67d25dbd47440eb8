from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KINDS: tuple[str, ...]
"""In the order of ``enum pd_artifact_kind``."""
FRONTAL: int
BEHIND: int
IGNORED: int
"""Bits of a channel's role."""
MAX_CHANNELS: int

class Curve(Protocol):
    """See ``struct pd_artifact_curve``."""

    @property
    def threshold(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def power(self) -> int: ...
    @property
    def least(self) -> int: ...

class Config(Protocol):
    """See ``struct pd_artifact_config``; phantomd.signal.artifacts makes one."""

    @property
    def rate_hz(self) -> float: ...
    @property
    def roles(self) -> Sequence[int]: ...
    @property
    def hop(self) -> int: ...
    @property
    def n_blocks(self) -> int: ...
    @property
    def box(self) -> int: ...
    @property
    def flat(self) -> int: ...
    @property
    def lag(self) -> int: ...
    @property
    def range_uv(self) -> tuple[float, float]: ...
    @property
    def flat_uv(self) -> float: ...
    @property
    def line_hz(self) -> tuple[float, float]: ...
    @property
    def eeg_hz(self) -> tuple[float, float]: ...
    @property
    def emg_hz(self) -> tuple[float, float]: ...
    @property
    def curves(self) -> Sequence[Curve]: ...

class Report(TypedDict):
    """``struct pd_artifact_report``. NaN where undefined; ``channel`` None where no channel is."""

    end: int
    samples: int
    available: tuple[str, ...]
    defined: tuple[str, ...]
    score: tuple[float, ...]
    value: tuple[float, ...]
    channel: tuple[int | None, ...]
    undefined: tuple[int, ...]

class Bound:
    """Each call pushes the samples as they are then, and reads unless told not to."""

    def __call__(self, read: bool = True) -> None: ...

class ArtifactDetector:
    """pd_artifact.h: what spoils the newest window, each kind as a score from 0 to 1.

    A score of 0.5 is where a value reaches its threshold. The window is the newest ``window``
    samples that are whole blocks of ``hop``: it ends up to hop - 1 samples before the newest.
    Nothing is left of a sample that has left it, and nothing has to settle.

    Absence: before the window is full all is NaN. In a channel that lacks a value (NaN, an infinity
    or beyond 1e30 µV) only clipping and dropout are defined. What a configuration can't tell
    (a blink without frontal channels, EMG without a band) is NaN, and not in ``available``.

    One thread at a time. The GIL is released in ``push`` and ``read``.
    """

    def __init__(self, config: Config) -> None:
        """Raises ValueError for a configuration that can't be, MemoryError when ``nbytes`` can't be
        had."""

    @property
    def channels(self) -> int: ...
    @property
    def window(self) -> int:
        """Samples."""
    @property
    def hop(self) -> int: ...
    @property
    def count(self) -> int:
        """Samples pushed since the start or the last reset."""
    @property
    def nbytes(self) -> int: ...
    @property
    def available(self) -> tuple[str, ...]:
        """Kinds that this configuration can tell."""
    def push(self, x: npt.ArrayLike, lost: npt.ArrayLike | None = None) -> None:
        """``x``: float64 [n, channels], µV, calibrated and bridged, copied unless C-contiguous.
        ``lost``: bool [n], samples that never arrived. Raises ValueError for another shape."""
    def read(self) -> Report:
        """Of the newest window; worked out once a block."""
    def scores(self) -> Array:
        """float64 [kinds, channels], 0 to 1, or NaN; blink: of frontal channels alone."""
    def values(self) -> Array:
        """float64 [kinds, channels]: what the scores are of."""
    def bind(self, x: Array) -> Bound:
        """The fast way: ``x`` [n, channels], float64, C-contiguous, held. Raises ValueError for
        another shape or type."""
    def reset(self) -> None:
        """As before the first sample."""
    def save(self) -> bytes:
        """All of the state; an object made the same way goes on from it with the same bits."""
    def restore(self, saved: bytes) -> None:
        """Raises ValueError, and changes nothing, when ``saved`` is of another configuration."""
