"""What a session does to its decoder: levels, single faults, and the turning of a tuning.

The formulas of noise and drift are those of the field's service, with a seeded generator a session
and rounding to the nearest; csrc/pd_stress.h has them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from phantomd.core.gauntlet import Stress
from phantomd.gauntlet.dataset import Dataset

Level = Literal["none", "light", "moderate", "intense", "extreme"]
Probability = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=1000)]


class StressConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything off. Noise and drift: standard deviation and amplitude as in the formulas;
    ``dropout``: part of the units that is silent; ``gain_std``: of the units' log gain;
    ``rotation_deg``: of all preferred directions; ``shift``: units by which the array has moved.
    ``latency_ms`` and ``jitter_ms`` delay packets, and are a part of the loop's latency."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    noise_std: Annotated[float, Meta(ge=0, le=100)] = 0.0
    drift_amplitude: Annotated[float, Meta(ge=0, le=100)] = 0.0
    drift_period_s: Annotated[float, Meta(ge=0.001, le=1e6)] = 60.0
    dropout: Probability = 0.0
    gain_std: Annotated[float, Meta(ge=0, le=5)] = 0.0
    rotation_deg: Annotated[float, Meta(ge=-360, le=360)] = 0.0
    shift: Annotated[float, Meta(ge=0, le=1024)] = 0.0
    latency_ms: Milliseconds = 0.0
    jitter_ms: Milliseconds = 0.0
    loss: Probability = 0.0
    duplicate: Probability = 0.0
    reorder: Probability = 0.0
    disconnects_per_min: Annotated[float, Meta(ge=0, le=600)] = 0.0

    @property
    def is_on(self) -> bool:
        return self != StressConfig(seed=self.seed, drift_period_s=self.drift_period_s)

    def changed(self, level: Level | None, changes: Mapping[str, Any]) -> StressConfig:
        """A level first (it takes back every other fault), then single faults on top."""
        base = StressConfig(seed=self.seed, **LEVELS[level]) if level is not None else self
        return msgspec.structs.replace(base, **changes)

    def faults(self) -> dict[str, float]:
        """Those that are on."""
        quiet = StressConfig(seed=self.seed)
        values = msgspec.structs.asdict(self)
        return {
            key: value
            for key, value in values.items()
            if key != "seed" and value != getattr(quiet, key)
        }


#: As the specification has them.
LEVELS: dict[str, dict[str, float]] = {
    "none": {},
    "light": {"noise_std": 0.2, "drift_amplitude": 0.1},
    "moderate": {"noise_std": 0.5, "drift_amplitude": 0.3},
    "intense": {"noise_std": 1.0, "drift_amplitude": 0.5},
    "extreme": {"noise_std": 2.0, "drift_amplitude": 0.8},
}


def compiled(config: StressConfig, n_units: int, dataset: Dataset | None) -> Stress | None:
    """For the sessions' core; None where nothing is on. Takes milliseconds. ``dataset``: of
    which the tuning is turned; a live source has none that is known, and keeps its own."""
    if not config.is_on:
        return None
    source = None
    if dataset is not None and config.rotation_deg % 360:
        mean = np.asarray(dataset.counts.mean(axis=0), np.float64)
        source = turned(dataset.tuning, mean, config.rotation_deg)
    return Stress(config, n_units, source)


def turned(
    tuning: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], degrees: float
) -> npt.NDArray[np.uint16]:
    """Which unit each unit's place is taken by, so that every preferred direction is turned.

    Recorded spikes can't be made anew. But among many units there is for each one another whose
    tuning is nearly that of the first, turned: of all permutations this is the one that comes
    nearest in tuning (and then in firing rate), in least squares.
    """
    from scipy.optimize import linear_sum_assignment  # half a second that few need

    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    wanted = tuning @ np.array([[c, s], [-s, c]])
    size = max(float(np.hypot(*tuning.T).max()), 1e-12)
    far = ((wanted[:, None, :] - tuning[None, :, :]) ** 2).sum(axis=2) / size**2
    root = np.sqrt(mean)
    far += 0.01 * (root[:, None] - root[None, :]) ** 2 / max(float(root.max()) ** 2, 1e-12)
    _, chosen = linear_sum_assignment(far)
    return np.asarray(chosen, np.uint16)
