from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from phantomd.core.intake import Driver, Intake

KINDS: tuple[str, ...]
"""Faults, in the order of ``enum pd_sim_kind``."""
JITTER_LAWS: tuple[str, ...]
CAUSES: tuple[str, ...]
PARTS: tuple[str, ...]
"""What a sample is the sum of, in the order of adding."""
MAX_CHANNELS: int
MAX_TARGETS: int
MAX_WINDOWS: int
MAX_SCHEDULE: int
FOREVER: int
"""Length of a fault that lasts."""
RAIL_UV: float
COUNT_UV: float
"""One count of the simulated converter: a Cyton at gain 24."""

class Site(Protocol):
    """Where an electrode is on the unit sphere (right, front, up), and how much it sees."""

    @property
    def position(self) -> tuple[float, float, float]: ...
    @property
    def alpha(self) -> float: ...
    @property
    def ssvep(self) -> float: ...
    @property
    def blink(self) -> float: ...
    @property
    def emg(self) -> float: ...

class Target(Protocol):
    """A flickering target: always on, or only within its windows."""

    @property
    def hz(self) -> float: ...
    @property
    def windows_s(self) -> Sequence[tuple[float, float]]: ...

class Fault(Protocol):
    """See ``struct pd_sim_fault``; ``channels`` is a bit mask."""

    @property
    def kind(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def value(self) -> float: ...

class Config(Protocol):
    """See ``struct pd_sim_config`` and ``struct pd_sim_signal_config``."""

    @property
    def seed(self) -> int: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def quantise(self) -> bool: ...
    @property
    def modulus(self) -> int: ...
    @property
    def stamps(self) -> bool: ...
    @property
    def background_uv(self) -> float: ...
    @property
    def background_exponent(self) -> float: ...
    @property
    def background_shared(self) -> float: ...
    @property
    def alpha_hz(self) -> float: ...
    @property
    def alpha_uv(self) -> float: ...
    @property
    def alpha_closed_gain(self) -> float: ...
    @property
    def eyes_closed(self) -> bool: ...
    @property
    def ssvep_uv(self) -> float: ...
    @property
    def ssvep_harmonics(self) -> int: ...
    @property
    def ssvep_period_s(self) -> float: ...
    @property
    def line_hz(self) -> float: ...
    @property
    def line_uv(self) -> float: ...
    @property
    def blink_per_min(self) -> float: ...
    @property
    def emg_per_min(self) -> float: ...
    @property
    def emg_uv(self) -> float: ...
    @property
    def pop_per_min(self) -> float: ...
    @property
    def offset_uv(self) -> float: ...
    @property
    def drift_uv(self) -> float: ...
    @property
    def noise_uv(self) -> float: ...
    @property
    def delay_ms(self) -> float: ...
    @property
    def jitter_ms(self) -> float: ...
    @property
    def jitter_law(self) -> str: ...
    @property
    def clump_ms(self) -> float: ...
    @property
    def ppm(self) -> float: ...
    @property
    def drop(self) -> float: ...
    @property
    def duplicate(self) -> float: ...
    @property
    def chaos_per_min(self) -> float: ...
    @property
    def sites(self) -> Sequence[Site]: ...
    @property
    def targets(self) -> Sequence[Target]: ...
    @property
    def schedule(self) -> Sequence[Fault]: ...

class Record(TypedDict):
    """A line of the log. ``did`` (once ``what`` is "done"): see ``enum pd_sim_kind``."""

    what: str
    cause: str
    kind: str
    id: int
    start: int
    n: int
    channels: int
    value: float
    did: int

class SimDriver(Driver):
    """Samples of a seeded headset into an intake, by the clock.

    The intake has as many values as there are sites, and the configuration's modulus. ``start_ns``:
    when sample 0 is taken; None: at the first ``advance``. ValueError for what can't be.
    """

    def __init__(self, intake: Intake, config: Config, *, start_ns: int | None = None) -> None: ...
    def ask(self, kind: str, n: int, channels: int = 0, value: float = 0.0) -> bool:
        """A fault over ``n`` samples, from the first one taken after the last ``advance``.

        False: asked faster than they are taken up. ValueError for values out of range. Safe while a
        pump runs; callers hold the GIL, which makes them one producer.
        """
    def take_log(self) -> list[Record]:
        """What has been put down since the last call."""
    @property
    def log_dropped(self) -> int:
        """Records lost because nobody took them."""
    @property
    def start_ns(self) -> int | None: ...
    @property
    def dropped(self) -> int:
        """Samples lost by the configured probability, and by no fault."""
    @property
    def duplicated(self) -> int: ...

class SimTruth:
    """The same signal made again from its seed, part by part; shares nothing with the driver."""

    def __init__(self, config: Config) -> None: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def next(self) -> int:
        """Index of the next sample."""
    def repeat(self, record: Record) -> None:
        """A fault that the driver logged as begun. ValueError when its start has passed."""
    def samples(
        self, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The next n: signal [n, channels] as sent, parts [9, n, channels], and alpha [2, n].

        All in µV but alpha[0], the phase of the alpha source in turns; alpha[1] is its peak.
        """
    def skip(self, n: int) -> None:
        """Passes n samples over."""
    def take_log(self) -> list[Record]:
        """Faults that are over, and blinks, bursts and pops of the signal's own (cause nature)."""
