"""The contract of what turns spike counts into a velocity, one bin after the other.

``fit`` once, then ``decode`` each bin as it comes: a decoder is causal and keeps what it needs of
the past itself, until ``reset``. The same calls give the same bits, also after ``save`` and
``load``. A unit that is missing (NaN, None) is no evidence, and neither is a bin without any; the
velocity is always a finite number. Register a new one in registry.py: tests/unit/
test_decoder_battery.py then holds it to all of this.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.errors import DecoderError, NotFitted, WrongUnits

Array = npt.NDArray[np.float64]
Setting = int | float | str
Counts = npt.NDArray[Any] | Sequence[float | None]

_FORMAT = 1
#: A unit that hardly fires would turn its one spike into a huge one.
_LEAST_SCALE = 0.05
#: A count is cut off at so many times the largest one of the training bins (and so many spikes).
_SURPRISE = 3.0
#: Of the training bins, the last part, on which settings are chosen.
HELD_BACK = 0.2


class Velocity(NamedTuple):
    """In the dataset's unit a second."""

    vx: float
    vy: float


class Teaching(NamedTuple):
    """What a packet says beside its spikes, and a decoder that learns may look at once it has
    answered. NaN where it is unknown."""

    x: float
    y: float
    vx: float
    vy: float
    target_x: float
    target_y: float
    #: Where the decoder's own cursor is, as the packet before had it.
    cursor_x: float
    cursor_y: float


class VelocityDecoder(ABC):
    """A kind says its ``name``, its ``MODEL`` (attributes that are its whole fitted state, all of
    them float64 arrays) and ``_fit``, ``_begin``, ``_decode``."""

    name: ClassVar[str]
    MODEL: ClassVar[tuple[str, ...]]
    #: Looks at what packets teach.
    learns: ClassVar[bool] = False

    def __init__(self, **settings: Setting) -> None:
        self.settings = settings
        self._is_fitted = False
        self.mean: Array = np.zeros(0)
        self.ceiling: Array = np.zeros(0)
        self.scale: Array = np.zeros(0)
        self.v_mean: Array = np.zeros(2)
        self.bin_s = 0.0

    # -- what is called ----------------------------------------------------------------------------

    @property
    def n_units(self) -> int:
        return len(self.mean)

    def fit(self, counts: npt.ArrayLike, kinematics: npt.ArrayLike, bin_s: float) -> Self:
        """counts [bin, unit], kinematics [bin, x y vx vy] (NaN: unknown), both in the order of
        time. Raises DecoderError where there is nothing to learn from."""
        c, k = np.asarray(counts, np.float64), np.asarray(kinematics, np.float64)
        if c.ndim != 2 or k.shape != (len(c), 4) or not c.shape[1]:
            raise DecoderError(
                f"counts {list(c.shape)} and kinematics {list(k.shape)}",
                hint="[bin, unit] and [bin, 4], as many bins",
            )
        known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(k).all(axis=1))
        if known.sum() < 50 or not bin_s > 0:
            raise DecoderError(
                f"{int(known.sum())} bins of {bin_s} s with known kinematics",
                hint="a decoder learns from 50 bins at least, and better from some thousand",
            )
        c = np.where(np.isfinite(c), c, np.nan)
        seen = np.isfinite(c)
        n = np.maximum(seen.sum(axis=0), 1)
        self.mean = np.where(seen, c, 0.0).sum(axis=0) / n
        spread = np.where(seen, c - self.mean, 0.0)
        self.scale = np.maximum(np.sqrt((spread**2).sum(axis=0) / n), _LEAST_SCALE)
        self.ceiling = _SURPRISE * np.where(seen, c, 0.0).max(axis=0) + _SURPRISE
        self.bin_s = float(bin_s)
        self.v_mean = k[known, 2:].mean(axis=0)
        self._fit((c - self.mean) / self.scale, k, known)
        self._is_fitted = True
        self.reset()
        return self

    def reset(self) -> None:
        """Forget the past bins, not what was learned."""
        self._must_be_fitted()
        self._begin()

    def decode(self, counts: Counts) -> Velocity:
        """Of the newest bin, [unit]. Raises NotFitted, WrongUnits."""
        self._must_be_fitted()
        c = np.asarray(counts, np.float64)
        if c.shape != self.mean.shape:
            raise WrongUnits(
                f"{c.size} counts for a decoder of {self.n_units} units",
                hint="fit it to this dataset, or send it the one that it knows",
            )
        z = (np.minimum(c, self.ceiling) - self.mean) / self.scale
        vx, vy = self._decode(np.where(np.isfinite(c), z, np.nan))
        return Velocity(float(vx), float(vy))

    def learn(self, teaching: Teaching) -> None:
        """What is known about the bin that was decoded last, after the answer is out."""
        return

    def decode_all(self, counts: npt.ArrayLike) -> Array:
        """[bin, 2], bin after bin from a reset on."""
        self.reset()
        return np.array([self.decode(row) for row in np.asarray(counts)]).reshape(-1, 2)

    def save(self, path: Path) -> None:
        """One .npz, without anything that runs when it is read. Raises DecoderError."""
        self._must_be_fitted()
        about = {"format": _FORMAT, "kind": self.name, "settings": self.settings}
        arrays = {name: getattr(self, name) for name in (*_COMMON, *self.MODEL)}
        try:
            with path.open("wb") as file:
                np.savez(
                    file,
                    about=np.frombuffer(msgspec.json.encode(about), np.uint8),
                    bin_s=np.float64(self.bin_s),
                    **arrays,
                )
        except OSError as error:
            raise DecoderError(
                f"{path} can't be written: {error.strerror}", hint="name a place of yours"
            ) from error

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """From what ``save`` wrote. Raises DecoderError."""
        for name in (*_COMMON, *self.MODEL):
            value = arrays[name]
            if value.dtype != np.float64 or not np.isfinite(value).all():
                raise DecoderError(f"{name} is no model's array", hint="fit and save it anew")
            setattr(self, name, value)
        self.bin_s = float(arrays["bin_s"])
        self._is_fitted = True
        self.reset()
        return self

    # -- what a kind does --------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, z: Array, kinematics: Array, known: npt.NDArray[np.bool_]) -> None:
        """z [bin, unit] are counts in standard deviations off their mean, NaN where missing."""

    @abstractmethod
    def _begin(self) -> None:
        """No past."""

    @abstractmethod
    def _decode(self, z: Array) -> Array | tuple[float, float]:
        """[2] for z [unit], NaN where missing."""

    def _must_be_fitted(self) -> None:
        if not self._is_fitted:
            raise NotFitted(f"{self.name} knows nothing yet", hint="fit it, or load a saved one")


_COMMON = ("mean", "scale", "ceiling", "v_mean")


def read_model(path: Path) -> tuple[str, dict[str, Setting], dict[str, npt.NDArray[Any]]]:
    """Kind, settings and arrays of a saved decoder. Raises DecoderError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = msgspec.json.decode(arrays.pop("about").tobytes())
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {_FORMAT}")
        return about["kind"], about["settings"], arrays
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DecoderError(
            f"{path} is no saved decoder: {error}", hint="`save` of a fitted one writes them"
        ) from error


def lagged(z: Array, n_lags: int) -> Array:
    """[bin, unit·lag]: each bin with those before it, newest first; missing and before the first:
    0, the mean."""
    filled = np.nan_to_num(z, nan=0.0)
    out = np.zeros((len(z), n_lags, z.shape[1]))
    for lag in range(min(n_lags, len(z))):
        out[lag:, lag] = filled[: len(z) - lag]
    return out.reshape(len(z), -1)


def r2(decoded: Array, true: Array) -> float:
    """Coefficient of determination, mean of the two axes."""
    residual = ((decoded - true) ** 2).sum(axis=0)
    total = np.maximum(((true - true.mean(axis=0)) ** 2).sum(axis=0), 1e-300)
    return float((1 - residual / total).mean())


def held_back(n: int) -> int:
    """How many of the first bins train while settings are chosen on the rest."""
    return n - max(round(n * HELD_BACK), 1)
