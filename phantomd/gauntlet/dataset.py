"""A dataset: spike counts, kinematics and trials in bins; in memory, or mapped from a folder.

The folder has ``dataset.json`` beside ``counts.npy`` (uint8 or uint16, [bin, unit]),
``kinematics.npy`` (float32, [bin, x y vx vy], NaN where unknown) and ``trials.npy`` (``TRIAL``).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import MAX_UNITS, NO_TRIAL, TRIAL, Bins
from phantomd.errors import BadTrials, DatasetError, DatasetTooBig, FilterEmpty, NoUnits

MAX_BINS = 1 << 24
MAX_TRIALS = 1 << 20
#: Bytes of counts: a day of 142 units at 25 ms is half of it.
MAX_COUNT_BYTES = 1 << 30
BIN_MS = (1.0, 10_000.0)
_FORMAT = 1
_NAMED = 12

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    bin_ms: float
    unit: str
    info: dict[str, Any] = {}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked when it is made: raises NoUnits, BadTrials, DatasetTooBig, DatasetError.

    ``unit`` is that of positions; velocities are per second. ``info`` is what else the import knew.
    """

    name: str
    counts: Counts
    kinematics: Floats
    trials: npt.NDArray[np.void]
    bin_ms: float
    unit: str = "mm"
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shape(self)
        _check_trials(self)

    @property
    def n_bins(self) -> int:
        return int(self.counts.shape[0])

    @property
    def n_units(self) -> int:
        return int(self.counts.shape[1])

    @property
    def bin_s(self) -> float:
        return self.bin_ms / 1e3

    @property
    def bin_ns(self) -> int:
        return round(self.bin_ms * 1e6)

    @property
    def duration_s(self) -> float:
        return self.n_bins * self.bin_s

    @cached_property
    def trial_of(self) -> npt.NDArray[np.uint32]:
        """Each bin's trial (its row in ``trials``), or ``NO_TRIAL``."""
        row = np.full(self.n_bins, NO_TRIAL, np.uint32)
        for i, trial in enumerate(self.trials):
            row[trial["start"] : trial["stop"]] = i
        return row

    @cached_property
    def bins(self) -> Bins:
        """As the sessions' core reads it, from this same memory."""
        kinematics = np.ascontiguousarray(self.kinematics, np.float32)
        counts: Counts = np.ascontiguousarray(self.counts)  # type: ignore[assignment]
        return Bins(counts, kinematics, self.trial_of, self.trials, self.bin_ns)

    @cached_property
    def tuning(self) -> npt.NDArray[np.float64]:
        """[unit, 2]: spikes a bin for a unit of velocity in x and y, by least squares with an
        intercept and speed beside it; zero where a unit says nothing."""
        v = np.asarray(self.kinematics[:, 2:4], np.float64)
        known = np.isfinite(v).all(axis=1)
        if known.sum() < 8:
            return np.zeros((self.n_units, 2))
        v = v[known]
        scale = max(float(np.sqrt((v**2).mean())), 1e-12)
        design = np.column_stack([np.ones(len(v)), v / scale, np.hypot(*v.T) / scale])
        fit = np.linalg.lstsq(design, np.asarray(self.counts[known], np.float64), rcond=None)[0]
        return np.ascontiguousarray(fit[1:3].T / scale)

    def metadata(self) -> dict[str, Any]:
        """In both spellings that clients in the field use."""
        rate_hz = 1e3 / self.bin_ms
        return {
            "dataset": self.name,
            "total_packets": self.n_bins,
            "frequency_hz": rate_hz,
            "num_channels": self.n_units,
            "duration_seconds": self.duration_s,
            "num_trials": len(self.trials),
            "channel_count": self.n_units,
            "sampling_rate_hz": rate_hz,
            "trial_count": len(self.trials),
            "total_samples": self.n_bins,
            "bin_size_ms": self.bin_ms,
            "unit": self.unit,
        }

    def select(self, target_id: int | None, trial_id: int | None) -> npt.NDArray[np.uint32]:
        """[n, 2] bins start..stop of the trials that pass; without a filter, everything. Raises
        FilterEmpty, which says what there is."""
        if target_id is None and trial_id is None:
            return np.array([[0, self.n_bins]], np.uint32)
        passes = np.ones(len(self.trials), bool)
        if target_id is not None:
            passes &= self.trials["target_id"] == target_id
        if trial_id is not None:
            passes &= self.trials["id"] == trial_id
        if not passes.any():
            raise FilterEmpty(self._nothing(target_id, trial_id), hint=self._what_exists())
        chosen = self.trials[passes]
        return np.ascontiguousarray(np.column_stack([chosen["start"], chosen["stop"]]), np.uint32)

    def _nothing(self, target_id: int | None, trial_id: int | None) -> str:
        asked = [
            f"{name} {value}"
            for name, value in (("target_id", target_id), ("trial_id", trial_id))
            if value is not None
        ]
        return f"no trial of {self.name} has {' and '.join(asked)}"

    def _what_exists(self) -> str:
        if not len(self.trials):
            return f"{self.name} has no trials: leave the filter out"
        targets = self.targets()
        named = ", ".join(f"{key} ({n} trials)" for key, n in list(targets.items())[:_NAMED])
        ids = self.trials["id"]
        # The ids of a recording need not be without holes.
        span = f"{len(ids)} trials, ids {ids.min()}..{ids.max()}"
        return f"targets: {named or 'none'}; {span}"

    def targets(self) -> dict[int, int]:
        """How many trials each target has."""
        counted = Counter(int(t) for t in self.trials["target_id"] if t >= 0)
        return dict(sorted(counted.items()))

    def summary(self) -> dict[str, Any]:
        """What a person wants to know before using it."""
        total = int(self.counts.sum(dtype=np.uint64))
        speed = np.hypot(self.kinematics[:, 2], self.kinematics[:, 3])
        known = np.isfinite(speed)
        lengths = (self.trials["stop"] - self.trials["start"]) * self.bin_s
        return {
            "dataset": self.name,
            "units": self.n_units,
            "bins": self.n_bins,
            "bin_ms": self.bin_ms,
            "duration_s": round(self.duration_s, 3),
            "trials": len(self.trials),
            "trial_mean_s": round(float(lengths.mean()), 3) if len(lengths) else None,
            "targets": {str(key): n for key, n in self.targets().items()},
            "spikes": total,
            "spikes_per_bin": round(total / self.n_bins, 2),
            "silent_units": int((self.counts.max(axis=0) == 0).sum()),
            "largest_count": int(self.counts.max()),
            "kinematics_known": round(float(known.mean()), 4),
            "speed_max": round(float(speed[known].max()), 1) if known.any() else None,
            "unit": self.unit,
            **self.info,
        }

    # -- on disk -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """All of it or nothing. Raises DatasetError where the folder can't be written, or holds
        something else."""
        if folder.exists() and not (folder / "dataset.json").is_file():
            raise DatasetError(
                f"{folder} exists and is no dataset", hint="name another with --out, or remove it"
            )
        header = _Header(_FORMAT, self.name, self.bin_ms, self.unit, dict(self.info))
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            np.save(made / "counts.npy", self.counts, allow_pickle=False)
            np.save(made / "kinematics.npy", self.kinematics, allow_pickle=False)
            np.save(made / "trials.npy", self.trials, allow_pickle=False)
            (made / "dataset.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(header)) + b"\n"
            )
            made.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
        except OSError as error:
            raise DatasetError(
                f"{folder} can't be written: {error.strerror or error}",
                hint="name a folder of yours with --out",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Mapped, so that what nobody plays takes no memory. Raises DatasetError."""
        try:
            header = msgspec.json.decode((folder / "dataset.json").read_bytes(), type=_Header)
            arrays = [
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("counts", "kinematics", "trials")
            ]
        except (OSError, EOFError, ValueError, msgspec.ValidationError) as error:
            raise DatasetError(
                f"{folder} can't be read: {error}",
                hint="make it with `phantomctl dataset import FILE --out FOLDER`",
            ) from error
        if header.format != _FORMAT:
            raise DatasetError(
                f"{folder} has format {header.format}, this version reads {_FORMAT}",
                hint="import its source file again",
            )
        counts, kinematics, trials = arrays
        return cls(
            header.name,
            counts,
            kinematics,
            np.array(trials),
            header.bin_ms,
            header.unit,
            header.info,
        )


def narrow(counts: npt.NDArray[Any]) -> Counts:
    """Counts in the smallest of the two types that holds them. Raises DatasetError on what is no
    count."""
    if counts.size == 0:
        raise DatasetError("no spike counts", hint="the file holds no bins, or no units")
    if counts.dtype.kind not in "iub":
        if counts.dtype.kind != "f" or not np.equal(np.mod(counts, 1), 0).all():
            raise DatasetError(
                "spike counts that are no whole numbers",
                hint="counts are spikes a bin; rates have to be multiplied by the bin's width",
            )
        counts = np.clip(counts, -1, 65536).astype(np.int64)
    least, most = int(counts.min()), int(counts.max())
    if least < 0 or most > 65535:
        raise DatasetError(f"spike counts from {least} to {most}", hint="a count is 0..65535")
    if most < 256:
        return np.ascontiguousarray(counts, np.uint8)
    return np.ascontiguousarray(counts, np.uint16)


def _check_shape(data: Dataset) -> None:
    counts, kinematics = data.counts, data.kinematics
    if counts.ndim != 2 or counts.dtype not in (np.uint8, np.uint16):
        raise DatasetError(
            f"counts are {counts.dtype}{list(counts.shape)}", hint="they are uint8[bin, unit]"
        )
    n_bins, n_units = counts.shape
    if n_units == 0:
        raise NoUnits(f"{data.name} has no units", hint="a dataset has at least one")
    if n_bins == 0:
        raise DatasetError(f"{data.name} has no bins", hint="it is shorter than one bin")
    if n_units > MAX_UNITS or n_bins > MAX_BINS or counts.nbytes > MAX_COUNT_BYTES:
        raise DatasetTooBig(
            f"{n_bins} bins of {n_units} units",
            hint=f"at most {MAX_UNITS} units, {MAX_BINS} bins, {MAX_COUNT_BYTES >> 20} MiB",
        )
    if kinematics.shape != (n_bins, 4) or kinematics.dtype != np.float32:
        raise DatasetError(
            f"kinematics are {kinematics.dtype}{list(kinematics.shape)}",
            hint=f"they are float32[{n_bins}, 4]: x, y, vx, vy",
        )
    if not BIN_MS[0] <= data.bin_ms <= BIN_MS[1]:
        raise DatasetError(f"bins of {data.bin_ms} ms", hint="a bin has 1 ms to 10 s")


def _check_trials(data: Dataset) -> None:
    trials = data.trials
    if trials.dtype != TRIAL or trials.ndim != 1:
        raise BadTrials("trials are no table of trials", hint="import the source file again")
    if len(trials) > MAX_TRIALS:
        raise DatasetTooBig(f"{len(trials)} trials", hint=f"at most {MAX_TRIALS}")
    if not len(trials):
        return
    start, stop = trials["start"].astype(np.int64), trials["stop"].astype(np.int64)
    if (start >= stop).any() or stop.max() > data.n_bins:
        row = int(np.argmax((start >= stop) | (stop > data.n_bins)))
        raise BadTrials(
            f"trial {row} has bins {start[row]}..{stop[row]} of {data.n_bins}",
            hint="a trial ends after it starts, and inside the recording",
        )
    if (start[1:] < stop[:-1]).any():
        row = int(np.argmax(start[1:] < stop[:-1])) + 1
        raise BadTrials(f"trial {row} begins inside the one before", hint="trials can't overlap")
    aimed = trials["target_id"] >= 0
    if not np.isfinite(trials["target_x"][aimed]).all() or not (
        np.isfinite(trials["target_y"][aimed]).all()
    ):
        raise BadTrials("a target without a position", hint="target_pos must be numbers")
