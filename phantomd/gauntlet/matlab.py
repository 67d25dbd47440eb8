"""Counts that are binned already: MATLAB files and NPZ.

Two forms. A structure array ``trial_data`` with an element a trial: ``bin_size`` (s), ``pos``,
``vel``, one or more ``*_spikes`` [bins, units], ``target_direction`` (rad). Or plain matrices:
``counts`` (or ``spikes``, ``spike_counts``) [bins, units], ``pos`` and ``vel`` [bins, 2] or
``kinematics`` [bins, 4], ``bin_ms`` or ``bin_size`` (s), and ``trial_start``, ``trial_stop``
(bins, from 0), ``trial_id``, ``target_id``, ``target_pos`` [trials, 2].
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import TRIAL
from phantomd.errors import BadTimes, BadTrials, DatasetError, DatasetTooBig, NoUnits
from phantomd.gauntlet.dataset import MAX_COUNT_BYTES, Dataset, narrow

_COUNTS = ("counts", "spikes", "spike_counts")
_MAX_BYTES = 4 * MAX_COUNT_BYTES
_BIN_MS = 25.0


def read_mat(path: Path, bin_ms: float | None, name: str) -> Dataset:
    """See importing.import_file."""
    import scipy.io

    try:
        _check_sizes(scipy.io.whosmat(str(path)))
        fields = scipy.io.loadmat(str(path), squeeze_me=False)
    except NotImplementedError:  # v7.3 is HDF5
        fields = _read_hdf5(path)
    if "trial_data" in fields:
        return _from_trials(_elements(fields["trial_data"]), bin_ms, name, "MATLAB")
    return _from_matrices(fields, bin_ms, name, "MATLAB")


def read_npz(path: Path, bin_ms: float | None, name: str) -> Dataset:
    """See importing.import_file."""
    with zipfile.ZipFile(path) as archive:
        # A few bytes can claim any size.
        total = sum(member.file_size for member in archive.infolist())
    if total > _MAX_BYTES:
        raise DatasetTooBig(f"{total >> 20} MiB unpacked", hint=f"at most {_MAX_BYTES >> 20} MiB")
    with np.load(path, allow_pickle=False) as fields:
        return _from_matrices({key: fields[key] for key in fields.files}, bin_ms, name, "NPZ")


def _check_sizes(entries: list[tuple[str, tuple[int, ...], str]]) -> None:
    for name, shape, _ in entries:
        if math.prod(shape) * 8 > _MAX_BYTES:
            raise DatasetTooBig(
                f"{name} has the shape {list(shape)}", hint=f"at most {_MAX_BYTES >> 20} MiB"
            )


def _read_hdf5(path: Path) -> dict[str, Any]:
    """MATLAB stores columns first, so that HDF5 sees everything transposed."""
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(
            "MATLAB files of version 7.3 need h5py, which is not installed",
            hint="install the extra: pip install 'phantomd[datasets]'; or save with -v7",
        ) from error

    def value(item: Any) -> Any:
        if isinstance(item, h5py.Group):
            return _hdf5_structure({key: item[key] for key in item}, file, value)
        if item.size * 8 > _MAX_BYTES:
            raise DatasetTooBig(f"{item.name} has {item.size} numbers", hint="import a part of it")
        if item.attrs.get("MATLAB_empty", 0):
            return np.zeros(0)
        return np.asarray(item[()]).T

    with h5py.File(path, "r") as file:
        return {key: value(file[key]) for key in file if not key.startswith("#")}


def _hdf5_structure(fields: dict[str, Any], file: Any, value: Any) -> Any:
    """A structure, or the elements of a structure array, whose fields are references."""
    import h5py

    if not fields or any(
        isinstance(one, h5py.Group) or h5py.check_ref_dtype(one.dtype) is None
        for one in fields.values()
    ):
        return {key: value(one) for key, one in fields.items()}
    columns = {key: np.ravel(one[()]) for key, one in fields.items()}
    n = min(len(column) for column in columns.values())
    return [{key: value(file[column[i]]) for key, column in columns.items()} for i in range(n)]


def _elements(trial_data: Any) -> list[Mapping[str, Any]]:
    if isinstance(trial_data, list):
        return trial_data
    if isinstance(trial_data, dict):
        return [trial_data]
    if getattr(trial_data, "dtype", None) is None or trial_data.dtype.names is None:
        raise DatasetError("trial_data is no structure", hint="an element a trial, with its fields")
    names = trial_data.dtype.names
    return [{key: one[key] for key in names} for one in trial_data.ravel()]


def _number(value: Any, what: str) -> float:
    flat = np.ravel(np.asarray(value))
    if flat.size != 1 or flat.dtype.kind not in "iuf" or not np.isfinite(flat[0]):
        raise DatasetError(f"{what} is no number", hint="one number is wanted")
    return float(flat[0])


def _width(said_ms: float | None, asked_ms: float | None) -> float:
    """Binned counts have the width that they have."""
    if said_ms is None:
        return _BIN_MS if asked_ms is None else asked_ms
    if asked_ms is not None and not math.isclose(said_ms, asked_ms):
        raise DatasetError(
            f"the counts have bins of {said_ms:g} ms, not {asked_ms:g}",
            hint="leave --bin-ms out: what is binned can't be binned anew",
        )
    return round(said_ms, 6)


# -- a structure a trial ---------------------------------------------------------------------------


def _from_trials(
    elements: list[Mapping[str, Any]], asked_ms: float | None, name: str, source: str
) -> Dataset:
    if not elements:
        raise BadTrials("trial_data is empty", hint="an element a trial")
    spikes = [key for key in elements[0] if key.endswith("_spikes")]
    if not spikes:
        raise NoUnits("no *_spikes in trial_data", hint="[bins, units], such as M1_spikes")
    bin_ms = _width(_number(elements[0].get("bin_size"), "bin_size") * 1e3, asked_ms)
    counts: list[Any] = []
    kinematics: list[Any] = []
    lengths: list[int] = []
    directions: list[float] = []
    ends: list[Any] = []
    for row, element in enumerate(elements):
        own = np.concatenate([_matrix(element, key, row) for key in spikes], axis=1)
        pos, vel = _matrix(element, "pos", row, 2), _matrix(element, "vel", row, 2)
        if not len(own) == len(pos) == len(vel):
            raise BadTimes(
                f"trial {row}: {len(own)} bins of spikes, {len(pos)} of pos, {len(vel)} of vel",
                hint="all have the same bins",
            )
        if counts and own.shape[1] != counts[0].shape[1]:
            raise NoUnits(f"trial {row} has {own.shape[1]} units", hint="all trials have the same")
        counts.append(own)
        kinematics.append(np.column_stack([pos[:, :2], vel[:, :2]]))
        lengths.append(len(own))
        directions.append(_number(element.get("target_direction", np.nan), "target_direction"))
        ends.append(pos[-1, :2] if len(pos) else [np.nan, np.nan])
    stops = np.cumsum(lengths)
    trials = np.zeros(len(elements), TRIAL)
    trials["id"] = np.arange(len(elements))
    trials["start"], trials["stop"] = stops - lengths, stops
    _aim(trials, np.array(directions), np.array(ends, float))
    return Dataset(
        name,
        narrow(np.concatenate(counts)),
        np.concatenate(kinematics).astype(np.float32),
        trials[trials["stop"] > trials["start"]],
        bin_ms,
        "cm",
        {
            "source": f"{source}, trial_data",
            "areas": [key.removesuffix("_spikes") for key in spikes],
        },
    )


def _aim(
    trials: npt.NDArray[np.void],
    directions: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
) -> None:
    """Directions are numbered in their order. The file says where targets point, not where they
    are: a target is taken to be where its trials end on average."""
    for number, direction in enumerate(np.unique(directions)):
        own = directions == direction
        trials["target_id"][own] = number
        trials["target_x"][own], trials["target_y"][own] = np.nanmean(ends[own], axis=0)


def _matrix(element: Mapping[str, Any], key: str, row: int, columns: int = 1) -> Any:
    value = np.asarray(element.get(key))
    if value.dtype.kind not in "iufb" or value.ndim != 2 or value.shape[1] < columns:
        raise DatasetError(
            f"trial {row}: {key} is {value.dtype}{list(value.shape)}",
            hint=f"[bins, {columns} or more] numbers",
        )
    return value


# -- plain matrices --------------------------------------------------------------------------------


def _from_matrices(
    fields: Mapping[str, Any], asked_ms: float | None, name: str, source: str
) -> Dataset:
    key = next((key for key in _COUNTS if key in fields), None)
    if key is None:
        known = ", ".join(key for key in fields if not key.startswith("__"))
        raise NoUnits(f"no {', '.join(_COUNTS)} among {known or 'nothing'}", hint="[bins, units]")
    counts = np.asarray(fields[key])
    if counts.ndim != 2:
        raise DatasetError(f"{key} has the shape {list(counts.shape)}", hint="[bins, units]")
    said_ms = None
    if "bin_ms" in fields:
        said_ms = _number(fields["bin_ms"], "bin_ms")
    elif "bin_size" in fields:
        said_ms = _number(fields["bin_size"], "bin_size") * 1e3
    kinematics = _kinematics(fields, len(counts))
    return Dataset(
        name,
        narrow(counts),
        kinematics,
        _plain_trials(fields),
        _width(said_ms, asked_ms),
        str(np.ravel(fields["unit"])[0]) if "unit" in fields else "unknown",
        {"source": source},
    )


def _kinematics(fields: Mapping[str, Any], n_bins: int) -> npt.NDArray[np.float32]:
    if "kinematics" in fields:
        parts = [np.asarray(fields["kinematics"])]
    elif "pos" in fields and "vel" in fields:
        parts = [np.asarray(fields["pos"]), np.asarray(fields["vel"])]
    else:
        raise DatasetError("no movement", hint="pos and vel [bins, 2], or kinematics [bins, 4]")
    for part in parts:
        if part.ndim != 2 or len(part) != n_bins or part.dtype.kind not in "iuf":
            raise BadTimes(
                f"movement is {part.dtype}{list(part.shape)} for {n_bins} bins of counts",
                hint="there is one row a bin",
            )
    if sum(part.shape[1] for part in parts) != 4:
        raise DatasetError("movement has other columns", hint="x, y, vx, vy")
    return np.column_stack(parts).astype(np.float32)


def _plain_trials(fields: Mapping[str, Any]) -> npt.NDArray[np.void]:
    if "trial_start" not in fields or "trial_stop" not in fields:
        return np.zeros(0, TRIAL)
    start, stop = (_integers(fields[key], key) for key in ("trial_start", "trial_stop"))
    n = len(start)
    ids = _integers(fields["trial_id"], "trial_id") if "trial_id" in fields else np.arange(n)
    aim = _integers(fields["target_id"], "target_id") if "target_id" in fields else np.full(n, -1)
    places = np.asarray(fields["target_pos"]) if "target_pos" in fields else np.zeros((n, 2))
    if not len(stop) == len(ids) == len(aim) == n or places.shape != (n, 2):
        raise BadTrials("columns of the trials have different lengths", hint="one row a trial")
    if n and (min(start.min(), stop.min()) < 0 or max(start.max(), stop.max()) > 1 << 31):
        raise BadTrials("a trial outside the recording", hint="bins are counted from 0")
    trials = np.zeros(n, TRIAL)
    trials["id"], trials["start"], trials["stop"] = ids, start, stop
    trials["target_id"] = aim if "target_pos" in fields else -1
    trials["target_x"], trials["target_y"] = places.T
    return trials


def _integers(value: Any, what: str) -> npt.NDArray[np.int64]:
    flat = np.ravel(np.asarray(value))
    if flat.dtype.kind not in "iuf" or (flat.dtype.kind == "f" and (flat % 1 != 0).any()):
        raise BadTrials(f"{what} holds no whole numbers", hint="one a trial")
    return flat.astype(np.int64)
