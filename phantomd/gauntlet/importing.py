"""Recordings of spikes and movement, from the files that labs have, as binned datasets.

NWB in the form of MC_Maze (pynwb), MATLAB in that of a trial structure or of plain matrices (up to
v7.2 by SciPy, v7.3 by h5py), and NPZ. What a file claims is checked before memory is taken for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from phantomd.errors import DatasetError, DatasetTooBig
from phantomd.gauntlet.dataset import Dataset

#: Of a file; a recording of an hour has some hundred megabytes.
MAX_FILE_BYTES = 4 << 30


def import_file(path: Path, *, bin_ms: float | None = None, name: str | None = None) -> Dataset:
    """``bin_ms``: None takes 25 ms, or the width that binned counts have. Raises DatasetError and
    its kinds: NoUnits, BadTimes, BadRagged, BadTrials, DatasetTooBig."""
    if bin_ms is not None and not (math.isfinite(bin_ms) and 1.0 <= bin_ms <= 10_000.0):
        raise DatasetError(f"bins of {bin_ms} ms", hint="a bin has 1 ms to 10 s")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(
            f"{path} can't be read: {error.strerror}", hint="name an existing file"
        ) from error
    if size > MAX_FILE_BYTES:
        raise DatasetTooBig(
            f"{path} has {size >> 20} MiB", hint=f"at most {MAX_FILE_BYTES >> 20} MiB"
        )
    read = _reader(path)
    try:
        return read(path, bin_ms, name or path.stem)
    except DatasetError:
        raise
    except MemoryError as error:
        raise DatasetTooBig(
            f"{path} does not fit into memory", hint="import a part of it"
        ) from error
    except Exception as error:
        # The libraries that read these formats raise nearly everything on a damaged file.
        raise DatasetError(
            f"{path} can't be read: {type(error).__name__}: {error}",
            hint="it is damaged, or has another form than docs/gauntlet.md describes",
        ) from error


Reader = Callable[[Path, float | None, str], Dataset]


def _reader(path: Path) -> Reader:
    match path.suffix.lower():
        case ".nwb":
            from phantomd.gauntlet.nwb import read_nwb

            return read_nwb
        case ".mat":
            from phantomd.gauntlet.matlab import read_mat

            return read_mat
        case ".npz":
            from phantomd.gauntlet.matlab import read_npz

            return read_npz
    raise DatasetError(
        f"{path.name} is no kind of file that can be imported",
        hint="there are .nwb, .mat and .npz",
    )
