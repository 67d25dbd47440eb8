"""NWB files in the form of MC_Maze: sorted units, a behaviour module, a table of trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.errors import BadTimes, BadTrials, DatasetError, DatasetTooBig, NoUnits
from phantomd.gauntlet.binning import (
    MAX_SPIKES,
    Array,
    bin_means,
    bin_spikes,
    grid,
    ragged,
    times_of,
    trial_table,
)
from phantomd.gauntlet.dataset import Dataset

BIN_MS = 25.0
_POSITIONS = ("cursor_pos", "hand_pos", "finger_pos", "cursor_position", "hand_position")
_VELOCITIES = ("hand_vel", "cursor_vel", "finger_vel", "hand_velocity", "cursor_velocity")
_MAX_SAMPLES = 1 << 27


def read_nwb(path: Path, bin_ms: float | None, name: str) -> Dataset:
    """See importing.import_file."""
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise DatasetError(
            "NWB files need pynwb, which is not installed",
            hint="install the extra: pip install 'phantomd[datasets]'",
        ) from error
    with NWBHDF5IO(str(path), mode="r", load_namespaces=True) as io:
        return _dataset(io.read(), BIN_MS if bin_ms is None else bin_ms, name)


def _dataset(nwb: Any, bin_ms: float, name: str) -> Dataset:
    times_s, ends, unit_ids = _units(nwb)
    series = dict(_series(nwb))
    position = next((series[key] for key in _POSITIONS if key in series), None)
    velocity = next((series[key] for key in _VELOCITIES if key in series), None)
    if position is None and velocity is None:
        raise DatasetError(
            f"no movement: behaviour has {', '.join(sorted(series)) or 'nothing'}",
            hint=f"one of {', '.join(_POSITIONS[:2])} and {', '.join(_VELOCITIES[:2])} is needed",
        )
    moved = [_samples(one) for one in (position, velocity) if one is not None]
    start_s = min(float(t[0]) for t, _ in moved)
    stop_s = max(float(t[-1]) + _period(t) for t, _ in moved)
    n_bins = grid(start_s, stop_s, bin_ms, len(ends))
    means = [bin_means(t, v, start_s, bin_ms, n_bins) for t, v in moved]
    if position is None:
        x, v = _integral(means[0], bin_ms), means[0]
    elif velocity is None:
        x, v = means[0], _derivative(*moved[0], start_s, bin_ms, n_bins)
    else:
        x, v = means
    trials = _trials(nwb, start_s, bin_ms, n_bins)
    unit, info = _unit_of(velocity if position is None else position)
    return Dataset(
        name,
        bin_spikes(times_s, ends, start_s, bin_ms, n_bins),
        np.column_stack([x, v]).astype(np.float32),
        trials,
        bin_ms,
        unit,
        {
            "source": "NWB",
            "starts_at_s": start_s,
            "unit_ids": unit_ids,
            "position": position.name if position is not None else None,
            "velocity": velocity.name if velocity is not None else None,
            **info,
        },
    )


def _units(nwb: Any) -> tuple[Array, npt.NDArray[np.int64], list[int]]:
    """All spike times, one unit after the other; where each unit's end; ids."""
    table = nwb.units
    if table is None or "spike_times" not in table.colnames:
        raise NoUnits("no units with spike times", hint="a dataset has sorted units")
    index = table["spike_times"]
    if not hasattr(index, "target"):
        raise NoUnits("spike_times is no ragged column", hint="write it with pynwb")
    n_spikes = len(index.target.data)
    if n_spikes > MAX_SPIKES:
        raise DatasetTooBig(f"{n_spikes} spikes", hint=f"at most {MAX_SPIKES}")
    ends = ragged(np.asarray(index.data[:]), n_spikes, "spike_times")
    return (
        np.asarray(index.target.data[:], np.float64),
        ends,
        [int(number) for number in table.id[:]],
    )


def _series(nwb: Any) -> Iterator[tuple[str, Any]]:
    """Time series of the behaviour module, those in containers, too."""
    module = nwb.processing.get("behavior")
    if module is None:
        return
    for name, one in module.data_interfaces.items():
        inner = getattr(one, "spatial_series", None) or getattr(one, "time_series", None)
        if inner:
            for key, series in inner.items():
                yield (name if len(inner) == 1 and key not in _POSITIONS else key), series
        elif hasattr(one, "data"):
            yield name, one


def _samples(series: Any) -> tuple[Array, Array]:
    """Times in seconds, and x and y. Raises BadTimes, DatasetTooBig."""
    shape = series.data.shape
    if len(shape) != 2 or shape[1] < 2:
        raise DatasetError(
            f"{series.name} has the shape {list(shape)}", hint="x and y are wanted, [samples, 2]"
        )
    if shape[0] > _MAX_SAMPLES:
        raise DatasetTooBig(f"{shape[0]} samples of {series.name}", hint=f"at most {_MAX_SAMPLES}")
    values = np.asarray(series.data[:, :2], np.float64)
    if series.timestamps is not None:
        times_s = np.asarray(series.timestamps[:], np.float64)
    else:
        rate_hz = float(series.rate or 0.0)
        if not rate_hz > 0:
            raise BadTimes(f"{series.name} has neither timestamps nor a rate", hint="one is needed")
        times_s = float(series.starting_time or 0.0) + np.arange(len(values)) / rate_hz
    if len(times_s) != len(values):
        raise BadTimes(
            f"{series.name}: {len(times_s)} timestamps for {len(values)} samples",
            hint="there is one a sample",
        )
    return times_of(times_s, series.name), values


def _period(times_s: Array) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0


def _derivative(times_s: Array, x: Array, start_s: float, bin_ms: float, n_bins: int) -> Array:
    v = np.gradient(x, times_s, axis=0) if len(times_s) > 1 else np.full_like(x, np.nan)
    return bin_means(times_s, v, start_s, bin_ms, n_bins)


def _integral(v: Array, bin_ms: float) -> Array:
    """From 0; over bins that are not known the position stands still."""
    moved = np.nan_to_num(v) * (bin_ms / 1e3)
    x = np.cumsum(moved, axis=0) - moved
    x[~np.isfinite(v)] = np.nan
    return np.asarray(x)


def _unit_of(series: Any) -> tuple[str, dict[str, Any]]:
    """The unit in which the numbers are: metres with a conversion of 0.001 are millimetres."""
    said = str(series.unit or "").strip()
    conversion = float(series.conversion or 1.0)
    length = said.split("/")[0].strip().lower()
    if length in ("m", "meter", "meters", "metre", "metres"):
        for factor, unit in ((1.0, "m"), (1e-2, "cm"), (1e-3, "mm")):
            if np.isclose(conversion, factor):
                return unit, {}
        return "m", {"conversion": conversion}
    known = {"millimeter": "mm", "millimeters": "mm", "centimeters": "cm", "centimeter": "cm"}
    return known.get(length, length or "unknown"), {}


def _trials(nwb: Any, begin_s: float, bin_ms: float, n_bins: int) -> npt.NDArray[np.void]:
    table = nwb.trials
    if table is None:
        return trial_table(np.zeros(0), np.zeros(0), np.zeros(0), [], begin_s, bin_ms, n_bins)
    start_s = np.asarray(table["start_time"][:], np.float64)
    stop_s = np.asarray(table["stop_time"][:], np.float64)
    return trial_table(
        np.asarray(table.id[:]), start_s, stop_s, _targets(table), begin_s, bin_ms, n_bins
    )


def _targets(table: Any) -> list[tuple[int, float, float] | None]:
    """Each trial's active target: its number among the trial's, and where it is."""
    n = len(table)
    if "target_pos" not in table.colnames:
        return [None] * n
    active = table["active_target"][:] if "active_target" in table.colnames else np.zeros(n)
    column = table["target_pos"]
    _check_ragged(column, "target_pos")
    targets: list[tuple[int, float, float] | None] = []
    for row in range(n):
        places = np.asarray(column[row], np.float64)
        if places.size == 0 or places.size % 2:
            raise BadTrials(
                f"trial {row}: {places.size} numbers in target_pos", hint="x and y of each target"
            )
        places = places.reshape(-1, 2)
        number = int(active[row])
        if not 0 <= number < len(places):
            raise BadTrials(
                f"trial {row}: active_target {number} of {len(places)} targets",
                hint="it counts the targets of its trial from 0",
            )
        x, y = places[number].tolist()
        targets.append((number, x, y) if np.isfinite([x, y]).all() else None)
    return targets


def _check_ragged(column: Any, what: str) -> None:
    """Each level of a column that may be ragged twice. Raises BadRagged."""
    while hasattr(column, "target"):
        ragged(np.asarray(column.data[:]), len(column.target.data), what)
        column = column.target
