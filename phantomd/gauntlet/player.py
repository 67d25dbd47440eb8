"""A reference decoder as a client of port 7072: packets in, answers out. No sockets here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from phantomd.decoders.base import Teaching, VelocityDecoder
from phantomd.gauntlet.dataset import Dataset

#: More bins than this are not worth making up for: the past is forgotten.
_MOST_LOST = 40
_SEEN = 128
#: Of the trials, those that decoders learn from; the rest is what the gauntlet plays.
TRAINING = 0.8

_NAN = float("nan")


def split_bin(dataset: Dataset) -> int:
    """The first bin that no reference decoder has seen: where the last fifth of the trials
    begins, or, without trials, of the bins."""
    if not len(dataset.trials):
        return int(dataset.n_bins * TRAINING)
    return int(dataset.trials["stop"][max(int(len(dataset.trials) * TRAINING) - 1, 0)])


def fit(decoder: VelocityDecoder, dataset: Dataset) -> VelocityDecoder:
    """On what lies before the split. Raises DecoderError."""
    cut = split_bin(dataset)
    return decoder.fit(dataset.counts[:cut], dataset.kinematics[:cut], dataset.bin_s)


class Player:
    """``answer`` each message of the port; send what it gives, then ``learn``."""

    def __init__(self, decoder: VelocityDecoder) -> None:
        self.decoder = decoder
        self._seq: int | None = None
        self._bin = 0
        self._seen: deque[int] = deque(maxlen=_SEEN)
        self._said = (0.0, 0.0)
        self._cursor = (_NAN, _NAN)
        self._teaching: Teaching | None = None

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """None: nothing is to be said. Raises WrongUnits."""
        if message.get("type") == "metadata":
            self._seq = None
            self.decoder.reset()
        if message.get("type") != "data":
            return None
        seq, data = message["seq"], message["data"]
        if seq in self._seen:
            return None  # the network has doubled it
        self._seen.append(seq)
        if self._seq is not None and seq < self._seq:
            # It was overtaken: its bin has been made up for, and the cursor still moves.
            return {"vx": self._said[0], "vy": self._said[1], "seq": seq}
        self._catch_up(seq, data["sequence_number"])
        self._said = self.decoder.decode(data["spikes"]["spike_counts"])
        self._teaching = self._taught(data) if self.decoder.learns else None
        return {"vx": self._said[0], "vy": self._said[1], "seq": seq}

    def learn(self) -> None:
        """After the answer is out."""
        if self._teaching is not None:
            self.decoder.learn(self._teaching)
            self._teaching = None

    def _catch_up(self, seq: int, at: int) -> None:
        """A packet that was lost is a bin without units; after a jump there is no past."""
        if self._seq is not None:
            lost = seq - self._seq - 1
            if at - self._bin - 1 != lost or lost > _MOST_LOST:
                self.decoder.reset()
            else:
                for _ in range(lost):
                    self.decoder.decode(np.full(self.decoder.n_units, np.nan))
        self._seq, self._bin = seq, at

    def _taught(self, data: Mapping[str, Any]) -> Teaching:
        for one in data["loop"]:
            self._cursor = (one["x"], one["y"])
        k, aim = data["kinematics"], data["intention"]
        told = (k["x"], k["y"], k["vx"], k["vy"], aim["target_x"], aim["target_y"])
        x, y, vx, vy, target_x, target_y = (_NAN if value is None else value for value in told)
        return Teaching(x, y, vx, vy, target_x, target_y, *self._cursor)
