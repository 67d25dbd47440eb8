"""Spike times and sampled movement into bins, with the checks that a recording needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import MAX_UNITS, TRIAL
from phantomd.errors import BadRagged, BadTimes, BadTrials, DatasetTooBig, NoUnits
from phantomd.gauntlet.dataset import MAX_BINS, MAX_COUNT_BYTES, MAX_TRIALS, Counts, narrow

MAX_SPIKES = 1 << 28

Array = npt.NDArray[np.float64]


def ragged(index: npt.NDArray[Any], n_values: int, what: str) -> npt.NDArray[np.int64]:
    """Ends of the rows of a ragged column, checked. Raises BadRagged."""
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise BadRagged(f"the index of {what} is no list of integers", hint="write it with pynwb")
    ends = index.astype(np.uint64)
    if len(ends) and (int(ends.max()) > n_values or (ends[1:] < ends[:-1]).any()):
        row = int(np.argmax((ends > n_values) | np.concatenate([[False], ends[1:] < ends[:-1]])))
        raise BadRagged(
            f"row {row} of {what} ends at {int(ends[row])}; there are {n_values} values",
            hint="the index of a ragged column grows up to the number of its values",
        )
    return ends.astype(np.int64)


def grid(start_s: float, stop_s: float, bin_ms: float, n_units: int) -> int:
    """How many whole bins lie between, if a dataset can have so many. Raises BadTimes,
    NoUnits, DatasetTooBig."""
    if n_units == 0:
        raise NoUnits("no sorted units", hint="a dataset has at least one unit with spike times")
    if n_units > MAX_UNITS:
        raise DatasetTooBig(f"{n_units} units", hint=f"at most {MAX_UNITS}")
    if not np.isfinite([start_s, stop_s]).all() or stop_s <= start_s:
        raise BadTimes(
            f"a recording from {start_s} to {stop_s} s", hint="its times must be numbers, and grow"
        )
    n_bins = (stop_s - start_s) * 1e3 / bin_ms + 1e-6
    if n_bins > MAX_BINS or n_bins * n_units * 2 > MAX_COUNT_BYTES:
        raise DatasetTooBig(
            f"{stop_s - start_s:.0f} s of {n_units} units in bins of {bin_ms:g} ms",
            hint=f"at most {MAX_BINS} bins and {MAX_COUNT_BYTES >> 20} MiB; take wider bins",
        )
    if n_bins < 1:
        raise BadTimes(f"a recording of {stop_s - start_s} s", hint="it is shorter than one bin")
    return int(n_bins)


def bin_spikes(
    times_s: Array, ends: npt.NDArray[np.int64], start_s: float, bin_ms: float, n_bins: int
) -> Counts:
    """[bin, unit] from the times of all units, one unit after the other. Raises BadTimes."""
    if len(times_s) > MAX_SPIKES:
        raise DatasetTooBig(f"{len(times_s)} spikes", hint=f"at most {MAX_SPIKES}")
    counts = np.zeros((n_bins, len(ends)), np.int64)
    begin = 0
    for unit, end in enumerate(ends.tolist()):
        own = times_s[begin:end]
        begin = end
        if not np.isfinite(own).all() or (own[1:] < own[:-1]).any():
            raise BadTimes(
                f"the spike times of unit {unit} go back, or are no numbers",
                hint="each unit's times are seconds, in growing order",
            )
        # A hair above: a time of 0.075 s belongs to bin 3 of 25 ms.
        place = np.floor((own - start_s) * 1e3 / bin_ms + 1e-6)
        inside = place[(place >= 0) & (place < n_bins)].astype(np.int64)
        counts[:, unit] = np.bincount(inside, minlength=n_bins)
    return narrow(counts)


def times_of(timestamps: Array, what: str) -> Array:
    """Checked. Raises BadTimes."""
    if not len(timestamps):
        raise BadTimes(f"{what} has no samples", hint="it must cover the recording")
    if not np.isfinite(timestamps).all() or (np.diff(timestamps) <= 0).any():
        raise BadTimes(
            f"the timestamps of {what} go back, stand still, or are no numbers",
            hint="they are seconds, in growing order",
        )
    return timestamps


def bin_means(times_s: Array, values: Array, start_s: float, bin_ms: float, n_bins: int) -> Array:
    """[bin, column]: the mean of the samples in each bin, NaN where there are none."""
    place = np.floor((times_s - start_s) * 1e3 / bin_ms + 1e-6)
    inside = (place >= 0) & (place < n_bins)
    row = place[inside].astype(np.int64)
    out = np.full((n_bins, values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        own = values[inside, column]
        known = np.isfinite(own)
        n = np.bincount(row[known], minlength=n_bins)
        total = np.bincount(row[known], own[known], minlength=n_bins)
        np.divide(total, n, out=out[:, column], where=n > 0)
    return out


def trial_table(
    ids: npt.NDArray[Any],
    start_s: Array,
    stop_s: Array,
    targets: list[tuple[int, float, float] | None],
    begin_s: float,
    bin_ms: float,
    n_bins: int,
) -> npt.NDArray[np.void]:
    """Bins from the first that begins in a trial to the one in which it ends. Trials outside the
    recording are left out. Raises BadTrials."""
    if len(start_s) > MAX_TRIALS:
        raise DatasetTooBig(f"{len(start_s)} trials", hint=f"at most {MAX_TRIALS}")
    if not (np.isfinite(start_s).all() and np.isfinite(stop_s).all()):
        raise BadTrials("a trial's times are no numbers", hint="start_time and stop_time, seconds")
    if (stop_s < start_s).any() or (np.diff(start_s) < 0).any():
        raise BadTrials("trials end before they start, or go back", hint="sort them by start_time")
    first = np.ceil((start_s - begin_s) * 1e3 / bin_ms - 1e-6).clip(0, n_bins).astype(np.int64)
    last = np.floor((stop_s - begin_s) * 1e3 / bin_ms + 1e-6).clip(0, n_bins).astype(np.int64)
    first[1:] = np.maximum(first[1:], last[:-1])  # a bin belongs to the trial that it began in
    kept = np.flatnonzero(last > first)
    out = np.zeros(len(kept), TRIAL)
    for row, trial in enumerate(kept.tolist()):
        target = targets[trial]
        number, x, y = (-1, 0.0, 0.0) if target is None else target
        out[row] = (int(ids[trial]), first[trial], last[trial], number, x, y, 0)
    return out
