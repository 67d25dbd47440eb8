"""The baseline: covariance of thirty seconds of rest, in ``baseline.npz``."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.contracts import GRID_HZ
from phantomd.errors import BadBaseline

NAME = "baseline.npz"
SECONDS = 30.0
#: Of the seconds asked for, so many must be without loss and artifact. People blink 15 to 20 times
#: a minute with open eyes: 48 of the 60 s of eegmmidb's S001R01 are good (benches/oracle_eyes.py).
LEAST_GOOD = 0.5
#: Weakest direction over strongest: below it channels are copies of each other, or dead.
LEAST_CONDITION = 1e-9
_FORMAT = 1
#: What a damaged archive raises.
_DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError)
Array = npt.NDArray[np.float64]


class Baseline(msgspec.Struct, frozen=True, eq=False):
    """``covariance``: [channels, channels], µV²."""

    covariance: Array
    labels: tuple[str, ...]
    seconds: float
    unix_ns: int


def judge(good_s: float, asked_s: float, covariance: Array | None, reasons: dict[str, int]) -> None:
    """Raises BadBaseline for a rest that was none."""
    if covariance is None or good_s < LEAST_GOOD * asked_s:
        worst = ", ".join(f"{name} in {count} windows" for name, count in sorted(reasons.items()))
        raise BadBaseline(
            f"only {good_s:.1f} of {asked_s:g} s of rest were good ({worst or 'no data'})",
            hint="sit still with relaxed jaw and open eyes, check the electrodes, and try again",
        )
    values = np.linalg.eigvalsh(covariance)
    if not values[0] > LEAST_CONDITION * values[-1]:
        raise BadBaseline(
            "the channels do not differ: one is dead, or a copy or the mean of others",
            hint="check electrodes and bridges (`phantomctl top` shows the channels), or leave the "
            "channel out: montage.bad",
        )


def write(path: Path, baseline: Baseline) -> None:
    """Whole or not at all, readable by its owner alone. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".baseline-")
    try:
        with os.fdopen(fd, "wb") as file:
            np.savez(
                file,
                format=_FORMAT,
                covariance=baseline.covariance,
                labels=np.array(baseline.labels),
                rate_hz=float(GRID_HZ),
                seconds=baseline.seconds,
                unix_ns=baseline.unix_ns,
            )
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def load(path: Path, labels: tuple[str, ...]) -> Baseline:
    """Raises BadBaseline for a file that is none, or one of another montage or rate."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            made = Baseline(
                np.asarray(saved["covariance"], np.float64),
                tuple(str(label) for label in saved["labels"]),
                float(saved["seconds"]),
                int(saved["unix_ns"]),
            )
            rate_hz = float(saved["rate_hz"])
            made_as = int(saved["format"])
    except FileNotFoundError:
        raise BadBaseline(f"there is no {path}", hint="phantomctl calibrate baseline") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, *_DAMAGED) as error:
        raise BadBaseline(f"{path} is no baseline: {error}", hint="calibrate anew") from error
    hint = "calibrate anew with these electrodes: phantomctl calibrate baseline"
    if made_as != _FORMAT:
        raise BadBaseline(f"{path} is of format {made_as}, not {_FORMAT}", hint="calibrate anew")
    if rate_hz != GRID_HZ:
        raise BadBaseline(f"{path} was made at {rate_hz:g} Hz, not {GRID_HZ}", hint=hint)
    if made.labels != labels:
        raise BadBaseline(
            f"{path} is of {len(made.labels)} channels ({' '.join(made.labels)}), not of "
            f"{len(labels)} ({' '.join(labels)})",
            hint=hint,
        )
    n = len(labels)
    if made.covariance.shape != (n, n) or not np.isfinite(made.covariance).all():
        raise BadBaseline(f"{path}: no covariance of {n} channels", hint="calibrate anew")
    is_symmetric = np.allclose(made.covariance, made.covariance.T, rtol=1e-9, atol=0.0)
    if not is_symmetric or not np.linalg.eigvalsh(made.covariance)[0] > 0:
        raise BadBaseline(f"{path}: not positive definite", hint="calibrate anew")
    return made
