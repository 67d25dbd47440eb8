"""A closed window: what the tick left of it (csrc/pd_window.h), and its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from phantomd.core.analysis import WindowRecord
from phantomd.signal.analysis import Layout

FILLING, TIMED_OUT, REJECTED, RELOCKED, ARTIFACT = 1, 2, 4, 8, 16
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """``samples``: µV, [n, values]; NaN where a sample was lost and not bridged."""

    record: WindowRecord
    layout: Layout
    samples: Floats

    @property
    def index(self) -> int:
        return self.record[0]

    @property
    def start_ns(self) -> int:
        return self.record[1]

    @property
    def end_ns(self) -> int:
        return self.record[2]

    @property
    def closed_ns(self) -> int:
        return self.record[3]

    @property
    def arrival_ns(self) -> int | None:
        """Of its newest sample that was there."""
        return self.record[4]

    @property
    def native(self) -> tuple[int, int]:
        """Native indices of its samples, [first, until)."""
        return self.record[5], self.record[6]

    @property
    def flags(self) -> int:
        return self.record[7]

    @property
    def lost(self) -> int:
        return self.record[8]

    @property
    def values(self) -> Floats:
        """What the kernels say; ``layout`` takes it apart."""
        return self.record[10]

    @property
    def is_whole(self) -> bool:
        """Every sample is there or bridged, and the segment is older than the window."""
        first, until = self.native
        return not self.flags & (FILLING | TIMED_OUT) and len(self.samples) == until - first > 0

    @cached_property
    def eeg(self) -> Floats:
        """Samples of the channels that are analysed, referred as configured: [n, channels]. Who
        has use for it, and several measures have, must not write it."""
        picked = self.samples[:, list(self.layout.picks)]
        if self.layout.reference:
            picked = picked - self.samples[:, list(self.layout.reference)].mean(axis=1)[:, None]
        eeg = np.ascontiguousarray(picked)
        eeg.flags.writeable = False
        return eeg

    @property
    def dropout_rate(self) -> float:
        """Share of the samples that the window should have and that never arrived."""
        expected = max(1, round((self.end_ns - self.start_ns) * 1e-9 * self.layout.device.rate_hz))
        first, until = self.native
        there = until - first - self.lost
        if there == 0:
            return 1.0
        # One sample more or less lies between the two instants.
        return min(1.0, max(self.lost, expected - there - 1, 0) / expected)
