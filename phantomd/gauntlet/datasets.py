"""What a session can play: the embedded dataset, imported folders, and live devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import NO_TRIAL, TRIAL, Bins, live_words
from phantomd.core.ring import Ring
from phantomd.engine.beside import beside
from phantomd.errors import FilterEmpty, UnknownDataset
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.synthetic import SEED, synthetic

DEFAULT = "synthetic"
LIVE = "live:"
#: Datasets that are kept when nobody plays them.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class LiveSource:
    """Bins as a device makes them: ``ring`` is that of a broadband device, whose records are the
    bin's number, its ``t_ns``, flags, then the counts as uint16, four to a word."""

    name: str
    ring: Ring
    n_units: int
    bin_ms: float = 25.0

    def __post_init__(self) -> None:
        if self.ring.words < live_words(self.n_units):
            raise ValueError(f"{self.name}: {self.ring.words} words for {self.n_units} units")

    @cached_property
    def bins(self) -> Bins:
        """Its shape alone: there is nothing in it."""
        return Bins(
            np.zeros((1, self.n_units), np.uint8),
            np.full((1, 4), np.nan, np.float32),
            np.full(1, NO_TRIAL, np.uint32),
            np.zeros(0, TRIAL),
            round(self.bin_ms * 1e6),
        )

    def metadata(self) -> dict[str, Any]:
        rate_hz = 1e3 / self.bin_ms
        return {
            "dataset": self.name,
            "total_packets": None,
            "frequency_hz": rate_hz,
            "num_channels": self.n_units,
            "duration_seconds": None,
            "num_trials": 0,
            "channel_count": self.n_units,
            "sampling_rate_hz": rate_hz,
            "trial_count": 0,
            "total_samples": None,
            "bin_size_ms": self.bin_ms,
            "unit": None,
        }

    def select(self, target_id: int | None, trial_id: int | None) -> npt.NDArray[np.uint32]:
        if target_id is not None or trial_id is not None:
            raise FilterEmpty(
                f"{self.name} is live: it has no trials", hint="leave target_id and trial_id out"
            )
        return np.zeros((0, 2), np.uint32)


class Datasets:
    """By name: ``synthetic``, ``synthetic:SEED``, a folder of ``home``, the path of one,
    ``live:ID``. Made or opened beside the loop, once; those used longest ago are forgotten."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._known: dict[str, asyncio.Future[Dataset]] = {}
        self._live: dict[str, LiveSource] = {}

    def add_live(self, device_id: str, source: LiveSource) -> None:
        """From now on ``live:ID``; sessions that play the one before keep it."""
        self._live[device_id] = source

    def drop_live(self, device_id: str) -> None:
        self._live.pop(device_id, None)

    async def get(self, name: str) -> Dataset | LiveSource:
        """Raises UnknownDataset, DatasetError."""
        if name.startswith(LIVE):
            return self._live_source(name.removeprefix(LIVE))
        future = self._known.pop(name, None)
        if future is None or (future.done() and future.exception() is not None):
            future = beside(self._maker(name))
        self._known[name] = future
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        # Who waits may be cancelled, the others still want it.
        return await asyncio.shield(future)

    def names(self) -> list[str]:
        folders = self.home.glob("*/dataset.json") if self.home.is_dir() else ()
        live = [f"{LIVE}{device_id}" for device_id in self._live]
        return [DEFAULT, *sorted(path.parent.name for path in folders), *live]

    def _live_source(self, device_id: str) -> LiveSource:
        try:
            return self._live[device_id]
        except KeyError:
            raise UnknownDataset(
                f"no open device {device_id!r} has spikes",
                hint=f"there are: {', '.join(self.names())}",
            ) from None

    def _maker(self, name: str) -> Callable[[], Dataset]:
        kind, _, seed = name.partition(":")
        if kind == DEFAULT and (not seed or seed.isdecimal()):
            return lambda: synthetic(int(seed) if seed else SEED)
        is_name = "/" not in name and not name.startswith(".")
        folder = self.home / name if is_name else Path(name).expanduser()
        if not (folder / "dataset.json").is_file():
            raise UnknownDataset(
                f"there is no dataset {name!r}",
                hint=f"there are: {', '.join(self.names())}; "
                "`phantomctl dataset import FILE` makes more",
            )
        return lambda: Dataset.load(folder)
