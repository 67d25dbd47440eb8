"""The embedded dataset: a seeded motor cortex that makes delayed centre-out reaches.

The statistics are those of the recording that the field's service plays (MC_Maze small): 142 units,
11,746 bins of 25 ms, 100 trials of 2.88 s, some 10 spikes a bin, active targets 77/11/12.

Units are tuned to direction by a cosine (Georgopoulos 1982) and to speed (Moran and Schwartz
1999), 100 ms ahead of the movement, and some to the target while it is only prepared. Their spikes
are Poisson with 2 ms of refractoriness; slow gains that units share make them vary together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import TRIAL
from phantomd.gauntlet.dataset import Dataset, narrow

N_UNITS = 142
N_BINS = 11_746
N_TRIALS = 100
BIN_MS = 25.0
TRIAL_BINS = 11_520  # of all trials: 2.88 s each
TARGETS = (77, 11, 12)
SPIKES_A_BIN = 10.0
REACH_MM = 120.0
REFRACTORY_S = 0.002
LEAD_BINS = 4
SEED = 40
#: Steps of a bin in which movement is computed, before it is averaged.
_STEPS = 25

Array = npt.NDArray[np.float64]


@lru_cache(maxsize=4)
def synthetic(seed: int = SEED) -> Dataset:
    """The same seed gives the same dataset. Kept in memory for who asks next."""
    rng = np.random.default_rng(seed)
    trials = _trials(rng)
    position, velocity, prepared = _movement(rng, trials)
    rates = _rates(rng, velocity, prepared)
    counts = _spikes(rng, rates)
    kinematics = np.column_stack([position, velocity]).astype(np.float32)
    name = "synthetic" if seed == SEED else f"synthetic-{seed}"
    info = {"seed": seed, "source": "synthetic motor cortex"}
    return Dataset(name, narrow(counts), kinematics, trials, BIN_MS, "mm", info)


def _trials(rng: np.random.Generator) -> npt.NDArray[np.void]:
    """Lengths vary by a fifth; short pauses between trials take up the rest."""
    lengths = rng.normal(TRIAL_BINS / N_TRIALS, 22, N_TRIALS).clip(92, 170).astype(int)
    while (rest := TRIAL_BINS - int(lengths.sum())) != 0:
        lengths[rng.choice(N_TRIALS, min(abs(rest), N_TRIALS), replace=False)] += np.sign(rest)
    pauses = np.full(N_TRIALS, 2)
    left = N_BINS - TRIAL_BINS - int(pauses.sum())
    pauses[rng.choice(N_TRIALS, left, replace=False)] += 1
    target_id = rng.permutation(np.repeat(np.arange(len(TARGETS)), TARGETS))
    direction = rng.integers(0, 8, N_TRIALS) * (np.pi / 4) + rng.normal(0, 0.1, N_TRIALS)
    distance = REACH_MM * rng.uniform(0.9, 1.1, N_TRIALS)
    trials = np.zeros(N_TRIALS, TRIAL)
    trials["id"] = np.arange(N_TRIALS)
    trials["start"] = np.cumsum(pauses + lengths) - lengths
    trials["stop"] = trials["start"] + lengths
    trials["target_id"] = target_id
    trials["target_x"] = distance * np.cos(direction)
    trials["target_y"] = distance * np.sin(direction)
    return trials


def _min_jerk(s: npt.NDArray[np.floating[Any]]) -> Array:
    """Flash and Hogan 1985: the way from 0 to 1, for s in 0..1."""
    s = s.clip(0, 1)
    return np.asarray(s**3 * (10 - 15 * s + 6 * s**2), np.float64)


def _movement(rng: np.random.Generator, trials: npt.NDArray[np.void]) -> tuple[Array, Array, Array]:
    """Position and velocity [bin, 2], and the direction that is prepared, a unit vector or 0."""
    step_s = BIN_MS / 1e3 / _STEPS
    fine = np.zeros((N_BINS * _STEPS + 1, 2))
    prepared = np.zeros((N_BINS, 2))
    for trial in trials:
        start, stop = int(trial["start"]), int(trial["stop"])
        length_s = (stop - start) * BIN_MS / 1e3
        target = np.array([trial["target_x"], trial["target_y"]], float)
        cue_s = rng.uniform(0.2, 0.4)
        reach_s, back_s = rng.uniform(0.4, 0.65), rng.uniform(0.5, 0.7)
        back_at_s = length_s - back_s - 0.05
        go_s = rng.uniform(max(cue_s + 0.3, back_at_s - 1.1), back_at_s - 0.7)
        moves_s = min(go_s + rng.uniform(0.22, 0.35), back_at_s - reach_s)
        t_s: Array = np.asarray(np.arange((stop - start) * _STEPS) * step_s, np.float64)
        out = _min_jerk((t_s - moves_s) / reach_s)
        back = _min_jerk((t_s - back_at_s) / back_s)
        across = np.array([-target[1], target[0]]) * rng.normal(0, 0.06)
        way = (out - back)[:, None] * target + (out * (1 - out) - back * (1 - back))[:, None] * (
            4 * across
        )
        fine[start * _STEPS : stop * _STEPS] = way
        first = start + round(cue_s / (BIN_MS / 1e3))
        last = start + round(moves_s / (BIN_MS / 1e3))
        prepared[first:last] = target / np.hypot(*target)
    # A hand that holds still is never quite still.
    tremor = rng.standard_normal(fine.shape)
    smooth = np.exp(-0.5 * (np.arange(-200, 201) / 60.0) ** 2)
    for axis in range(2):
        slow = np.convolve(tremor[:, axis], smooth, "same")
        fine[:, axis] += 1.2 * slow / slow.std()
    position = fine[:-1].reshape(N_BINS, _STEPS, 2).mean(axis=1)
    velocity = (fine[_STEPS::_STEPS] - fine[:-1:_STEPS]) / (BIN_MS / 1e3)
    return position, velocity, prepared


def _slow(rng: np.random.Generator, tau_bins: float) -> Array:
    """Unit-variance noise with this correlation time."""
    keep = np.exp(-1 / tau_bins)
    noise = rng.standard_normal(N_BINS) * np.sqrt(1 - keep**2)
    out = np.empty(N_BINS)
    value = float(rng.standard_normal())
    for i, step in enumerate(noise.tolist()):
        value = keep * value + step
        out[i] = value
    return out


def _rates(rng: np.random.Generator, velocity: Array, prepared: Array) -> Array:
    """Spikes a bin, [bin, unit]."""
    ahead = np.concatenate([velocity[LEAD_BINS:], np.repeat(velocity[-1:], LEAD_BINS, axis=0)])
    v = ahead / 400.0
    speed = np.hypot(*v.T)
    preferred = rng.uniform(0, 2 * np.pi, N_UNITS)
    axis = np.stack([np.cos(preferred), np.sin(preferred)])
    depth = rng.gamma(2.0, 0.55, N_UNITS)
    speedy = rng.normal(0.5, 0.5, N_UNITS)
    plans = np.where(rng.random(N_UNITS) < 0.5, rng.gamma(2.0, 0.15, N_UNITS), 0.0)
    # Around the turned axis: what is prepared need not be what is moved.
    turned = preferred + rng.normal(0, 0.5, N_UNITS)
    plan_axis = np.stack([np.cos(turned), np.sin(turned)])
    drive = 1 + depth * (v @ axis) + np.outer(speed, speedy) + plans * (prepared @ plan_axis)
    shared = np.stack([_slow(rng, 8.0), _slow(rng, 40.0), _slow(rng, 400.0)])
    gain = np.exp(rng.normal(0, 0.12, (N_UNITS, 3)) @ shared)
    base = rng.lognormal(0.0, 1.0, N_UNITS)
    rates = base * np.clip(drive, 0.02, None) * gain.T
    return np.asarray(rates * (SPIKES_A_BIN / rates.sum(axis=1).mean()))


def _spikes(rng: np.random.Generator, rates: Array) -> npt.NDArray[np.int64]:
    """Counts [bin, unit]: spikes at times of an inhomogeneous Poisson process, those that come
    within the refractory time of the one before left out, and the rate raised to make up for it."""
    bin_s = BIN_MS / 1e3
    counts = np.empty(rates.shape, np.int64)
    for unit in range(rates.shape[1]):
        per_s = rates[:, unit] / bin_s
        intensity = per_s / (1 - np.minimum(per_s * REFRACTORY_S, 0.5)) * bin_s
        total = np.concatenate([[0.0], np.cumsum(intensity)])
        n = rng.poisson(total[-1])
        drawn = np.sort(rng.uniform(0, total[-1], n))
        times_s = np.interp(drawn, total, np.arange(len(total)) * bin_s)
        times_s = refractory(times_s, REFRACTORY_S)
        counts[:, unit] = np.bincount((times_s / bin_s).astype(int), minlength=N_BINS)[:N_BINS]
    return counts


def refractory(times_s: Array, dead_s: float) -> Array:
    """Sorted times without those that follow a kept one by less than ``dead_s``."""
    while len(times_s) > 1:
        close = np.concatenate([[False], np.diff(times_s) < dead_s])
        # In a run of close ones only the first is surely to go: it decides about the next.
        gone = close & ~np.concatenate([[False], close[:-1]])
        if not gone.any():
            break
        times_s = times_s[~gone]
    return times_s
