"""Windows: what the tick has closed, with what is computed on them beside it, as feature windows.

The tick brings what is kept as samples arrive (powers of the bands, correlations, scores); what
needs the whole window (spectra, connectivity, covariance) is computed here, on the samples of
exactly the same window, by kernels that release the GIL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from phantomd.config import Config
from phantomd.contracts import FeatureWindow, Quality
from phantomd.core.analysis import WindowRecord, read_signal, take_windows
from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring
from phantomd.engine.engine import Slot
from phantomd.engine.part import Publish
from phantomd.signal.analysis import Layout, layout_of

#: DESIGN.md: from the arrival of a window's last sample to its intent.
WINDOW_DEADLINE_NS = 25_000_000

_FILLING, _TIMED_OUT, _REJECTED, _RELOCKED = 1, 2, 4, 8
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window, as the tick left it, and its samples."""

    record: WindowRecord
    layout: Layout
    #: µV, [n, values]; NaN where a sample was lost and not bridged.
    samples: Floats
    #: Signal flags of each sample (csrc/pd_window.h).
    flags: npt.NDArray[np.uint32]

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
    def is_whole(self) -> bool:
        """Every sample is there or bridged, and the segment is older than the window."""
        n = self.record[6] - self.record[5]
        return not self.record[7] & (_FILLING | _TIMED_OUT) and len(self.samples) == n > 0

    @property
    def eeg(self) -> Floats:
        """Samples of the channels that are analysed, [n, channels]."""
        return np.ascontiguousarray(self.samples[:, list(self.layout.picks)])

    @property
    def dropout_rate(self) -> float:
        """Share of the samples that the window should have and that never arrived."""
        expected = (self.end_ns - self.start_ns) * 1e-9 * self.layout.device.rate_hz
        lost, there = self.record[8], len(self.samples) - self.record[8]
        return min(1.0, max(lost, round(expected) - there, 0) / max(1, round(expected)))


#: Features of a window, by name; NaN where one is undefined.
Measure = Callable[[Window], dict[str, float]]


@dataclass(slots=True)
class _Reader:
    """How far the windows of a slot have been read, and what they mean."""

    slot: Slot
    ring: Ring
    signal: Ring
    layout: Layout
    next: int
    measures: list[Measure] = field(default_factory=list)


class WindowStage:
    """Part of the daemon: each window goes out on ``features``, then to ``listen``\\ ers."""

    def __init__(
        self,
        slots: Callable[[], Iterable[Slot]],
        config: Config,
        publish: Publish,
        lateness: Histogram | None = None,
    ) -> None:
        self._slots = slots
        self._config = config
        self._publish = publish
        self._lateness = lateness
        self._readers: dict[int, _Reader] = {}
        self._listeners: list[Callable[[FeatureWindow, Window], None]] = []
        #: Windows that were overwritten before they were read.
        self.lost = 0

    def listen(self, call: Callable[[FeatureWindow, Window], None]) -> None:
        """``call`` gets each window from now on, in order (gates, decoders, recordings)."""
        self._listeners.append(call)

    def layout_changed(self, slot: Slot) -> None:
        """The next ``on_tick`` looks at the slot anew."""

    def on_tick(self, now_ns: int) -> None:
        for slot in self._slots():
            reader = self._readers.get(slot.number)
            if reader is None or reader.ring is not slot.windows:
                if reader is not None:
                    self._drain(reader, now_ns)
                reader = self._new_reader(slot)
            if reader is not None:
                self._drain(reader, now_ns)

    def _new_reader(self, slot: Slot) -> _Reader | None:
        if slot.windows is None or slot.signal is None or slot.spec is None:
            self._readers.pop(slot.number, None)
            return None
        layout = layout_of(self._config, slot.spec)
        reader = _Reader(slot, slot.windows, slot.signal, layout, slot.windows.oldest)
        reader.measures = measures_of(self._config, layout)
        self._readers[slot.number] = reader
        return reader

    def _drain(self, reader: _Reader, now_ns: int) -> None:
        records, reader.next, lost = take_windows(reader.ring, reader.next)
        self.lost += lost
        for record in records:
            _, _, flags, samples = read_signal(reader.signal, record[5], record[6])
            self._hand_on(reader, Window(record, reader.layout, samples, flags), now_ns)

    def _hand_on(self, reader: _Reader, window: Window, now_ns: int) -> None:
        features: dict[str, float | None] = {}
        for measure in reader.measures:
            for name, value in measure(window).items():
                features[name] = value if math.isfinite(value) else None
        dropout_rate = window.dropout_rate
        reject = bool(window.record[7] & _REJECTED) or dropout_rate >= 0.5
        done = FeatureWindow(
            device_id=reader.layout.device.device_id,
            index=window.index,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            stream=reader.layout.device.stream,
            rate_hz=reader.layout.device.rate_hz,
            features=features,
            artifacts={},
            artifact_flags={"dropout": dropout_rate > 0},
            reject=reject,
            quality=Quality(None, dropout_rate, 0.0 if reject else 1.0 - dropout_rate),
            arrival_ns=window.record[4],
            closed_ns=window.record[3],
        )
        late_ns = 0 if done.arrival_ns is None else now_ns - done.arrival_ns
        if self._lateness is not None and done.arrival_ns is not None:
            self._lateness.add(late_ns)
        self._publish("features", done.end_ns, done.data(), late_ns > WINDOW_DEADLINE_NS)
        for call in self._listeners:
            call(done, window)


def measures_of(config: Config, layout: Layout) -> list[Measure]:
    """What is computed on each window of such a device, in order."""
    return [_band_powers, _correlations]


def _band_powers(window: Window) -> dict[str, float]:
    """``alpha_uv2``: mean over the channels; ``alpha_uv2.C3``: one."""
    powers = window.layout.powers(window.record[10])
    out: dict[str, float] = {}
    for name, row in zip(window.layout.bands, powers, strict=True):
        out[f"{name}_uv2"] = float(row.mean())
        for label, value in zip(window.layout.labels, row, strict=True):
            out[f"{name}_uv2.{label}"] = float(value)
    return out


def _correlations(window: Window) -> dict[str, float]:
    """``fbcca.12Hz.2s``: filter-bank CCA's score of a target over a window of its own."""
    layout = window.layout
    if not layout.targets_hz:
        return {}
    rho = layout.correlations(window.record[10])
    weights = (np.arange(1, layout.subbands + 1) ** -1.25 + 0.25)[:, None, None]
    scores = (weights * rho**2).sum(axis=0)
    return {
        f"fbcca.{hz:g}Hz.{seconds:g}s": float(scores[i, k])
        for i, seconds in enumerate(layout.windows_s)
        for k, hz in enumerate(layout.targets_hz)
    }
