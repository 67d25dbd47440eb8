"""What was played and what was answered: a session's record beside the truth of its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.core.gauntlet import NO_TRIAL, RECORD
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.datasets import LiveSource

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]

#: Of RECORD's flags (csrc/pd_session.h).
ANSWERED, DESYNC, INVALID, LOST = 1, 2, 4, 8
#: Columns of the truth, each float32 but the trial: x y vx vy, target x and y, s since its start.
_TRUTH = 7


@dataclass(frozen=True, eq=False)
class Play:
    """Packets in the order of ``seq``. ``truth`` [n, 7]: x, y, vx, vy, target x and y, seconds
    since the trial's start, NaN where there is none; ``trial`` its row in the dataset, or -1."""

    records: npt.NDArray[np.void]
    truth: Floats
    trial: npt.NDArray[np.int64]
    bin_s: float
    unit: str

    def __post_init__(self) -> None:
        n = len(self.records)
        if self.truth.shape != (n, _TRUTH) or self.trial.shape != (n,):
            raise ValueError(f"{n} records, truth {self.truth.shape}, trial {self.trial.shape}")

    def __len__(self) -> int:
        return len(self.records)

    def part(self, which: slice | Truth) -> Play:
        return Play(
            self.records[which], self.truth[which], self.trial[which], self.bin_s, self.unit
        )

    @property
    def position(self) -> Floats:
        """[n, 2], of the arm: the Bio-Link."""
        return self.truth[:, :2]

    @property
    def velocity(self) -> Floats:
        return self.truth[:, 2:4]

    @property
    def target(self) -> Floats:
        """[n, 2]: the Phantom."""
        return self.truth[:, 4:6]

    @property
    def since_s(self) -> Floats:
        return self.truth[:, 6]

    def flagged(self, flag: int) -> Truth:
        return np.asarray(self.records["flags"] & flag != 0)

    @cached_property
    def answered(self) -> Truth:
        return self.flagged(ANSWERED)

    @cached_property
    def loop_ms(self) -> Floats:
        """Of the answered packets only."""
        return np.asarray(self.records["loop_ns"][self.answered] / 1e6)

    @cached_property
    def decoded_velocity(self) -> Floats:
        """[n, 2]: while nothing is answered the cursor stands still."""
        v = np.stack([self.records["vx"], self.records["vy"]], axis=1).astype(np.float64)
        v[~self.answered] = 0.0
        return v

    @cached_property
    def leg(self) -> npt.NDArray[np.int64]:
        """Numbers what the cursor is integrated over: it begins anew, at the arm, with each trial
        and after each jump."""
        n = len(self)
        new = np.zeros(n, bool)
        if n:
            new[0] = True
            bins = self.records["bin"].astype(np.int64)
            new[1:] = (np.diff(bins) != 1) | (
                (self.trial[1:] != self.trial[:-1]) & (self.trial[1:] >= 0)
            )
        return np.cumsum(new) - 1

    @cached_property
    def cursor(self) -> Floats:
        """[n, 2], of the decoder: the Loop-Back. Without an answer it stays where it was."""
        at = np.stack([self.records["x"], self.records["y"]], axis=1).astype(np.float64)
        first = np.concatenate([[True], np.diff(self.leg) != 0]) if len(self) else np.zeros(0, bool)
        begins = np.nan_to_num(self.position, nan=0.0)
        known = self.answered.copy()
        at[first & ~known] = begins[first & ~known]
        known |= first
        newest = np.maximum.accumulate(np.where(known, np.arange(len(self)), 0))
        return at[newest]

    # -- over the control socket -------------------------------------------------------------------

    def as_map(self) -> dict[str, Any]:
        """Bytes of little-endian arrays, and what they are."""
        return {
            "packets": len(self),
            "records": self.records.tobytes(),
            "truth": self.truth.astype("<f4").tobytes(),
            "trial": self.trial.astype("<i4").tobytes(),
            "bin_s": self.bin_s,
            "unit": self.unit,
        }

    @classmethod
    def of_map(cls, fields: Mapping[str, Any]) -> Play:
        """ValueError where it is none."""
        return cls(
            np.frombuffer(fields["records"], RECORD),
            np.frombuffer(fields["truth"], "<f4").reshape(-1, _TRUTH).astype(np.float64),
            np.frombuffer(fields["trial"], "<i4").astype(np.int64),
            float(fields["bin_s"]),
            str(fields["unit"]),
        )


def joined(parts: list[Play]) -> Play:
    """Pages of one record, in order."""
    return Play(
        np.concatenate([part.records for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.trial for part in parts]),
        parts[0].bin_s,
        parts[0].unit,
    )


def played(records: npt.NDArray[np.void], source: Dataset | LiveSource) -> Play:
    """A live source has no truth: it is NaN there."""
    bin_s = source.bins.bin_ns / 1e9
    truth = np.full((len(records), _TRUTH), np.nan)
    trial = np.full(len(records), -1, np.int64)
    if isinstance(source, Dataset):
        bins = records["bin"].astype(np.int64)
        truth[:, :4] = source.kinematics[bins]
        row = source.trial_of[bins]
        inside = row != NO_TRIAL
        trial[inside] = row[inside]
        trials = source.trials[trial[inside]]
        aimed = trials["target_id"] >= 0
        truth[inside, 4] = np.where(aimed, trials["target_x"], np.nan)
        truth[inside, 5] = np.where(aimed, trials["target_y"], np.nan)
        truth[inside, 6] = (bins[inside] - trials["start"].astype(np.int64)) * bin_s
        return Play(records, truth, trial, bin_s, source.unit)
    return Play(records, truth, trial, bin_s, "unknown")
