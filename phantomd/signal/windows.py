"""Windows: what the tick has closed, with what is computed on them beside it, as feature windows.

The tick brings what is kept as samples arrive (powers of the bands, correlations, scores); what
needs the whole window (spectra, connectivity, covariance) is computed here, on the samples of
exactly the same window, by kernels that release the GIL.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from phantomd.contracts import FeatureWindow, Quality
from phantomd.core.analysis import read_signal, take_windows
from phantomd.core.artifact import KINDS
from phantomd.core.engine import now_ns as clock_ns
from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring
from phantomd.engine.engine import Slot
from phantomd.engine.part import Publish
from phantomd.signal.analysis import Layout, layout_of
from phantomd.signal.measures import Measure, measures_of
from phantomd.signal.window import ARTIFACT, FILLING, REJECTED, TIMED_OUT, Window

#: DESIGN.md: from the arrival of a window's last sample to its intent.
WINDOW_DEADLINE_NS = 25_000_000
_NO_TIME = -(2**63)


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
        publish: Publish,
        lateness: Histogram | None = None,
    ) -> None:
        self._slots = slots
        self._publish = publish
        self._lateness = lateness
        #: Of each slot: the ring that is read, and those that come after it.
        self._readers: dict[int, deque[_Reader]] = {}
        self._listeners: list[Callable[[FeatureWindow, Window], None]] = []
        self._extra: list[Measure] = []
        #: Windows that were overwritten before they were read.
        self.lost = 0

    def listen(self, call: Callable[[FeatureWindow, Window], None]) -> None:
        """``call`` gets each window from now on, in order (gates, decoders, recordings)."""
        self._listeners.append(call)

    def measure(self, call: Measure) -> None:
        """Further features of every window, from rooms below."""
        self._extra.append(call)

    def layout_changed(self, slot: Slot) -> None:
        """Its windows come in another ring: each is read to its end before the next."""
        readers = self._readers.setdefault(slot.number, deque())
        if slot.windows is None or slot.signal is None or slot.spec is None:
            return
        if not readers or readers[-1].ring is not slot.windows:
            layout = layout_of(slot.config, slot.spec, slot.left_out)
            reader = _Reader(slot, slot.windows, slot.signal, layout, slot.windows.oldest)
            reader.measures = measures_of(slot.config, layout)
            readers.append(reader)

    def on_tick(self, now_ns: int) -> None:
        for slot in self._slots():
            self.layout_changed(slot)
            readers = self._readers[slot.number]
            while readers:
                # The tick writes no more into a ring once it has begun with one after it.
                ended = any(later.ring.next for later in list(readers)[1:])
                self._drain(readers[0], now_ns)
                if not ended and slot.windows is not None:
                    break
                readers.popleft()

    def _drain(self, reader: _Reader, now_ns: int) -> None:
        records, reader.next, lost = take_windows(reader.ring, reader.next)
        self.lost += lost
        for record in records:
            _, t_ns, _, samples = read_signal(reader.signal, record[5], record[6])
            window = Window(record, reader.layout, samples)
            timed = len(t_ns) > 0 and t_ns[-1] != _NO_TIME
            self._hand_on(reader, window, int(t_ns[-1]) if timed else window.end_ns, now_ns)

    def _hand_on(self, reader: _Reader, window: Window, newest_ns: int, now_ns: int) -> None:
        """``newest_ns``: the instant of its newest sample; it is closed up to a sample's period
        before it ends."""
        features: dict[str, float | None] = {}
        for measure in (*reader.measures, *self._extra):
            for name, value in measure(window).items():
                features[name] = _or_none(value)
        dropout_rate = window.dropout_rate
        artifacts, flags = _judge(window)
        reject = bool(window.flags & (REJECTED | TIMED_OUT | FILLING))
        worst = max((score for score in artifacts.values() if score is not None), default=0.0)
        done = FeatureWindow(
            device_id=reader.layout.device.device_id,
            index=window.index,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            stream=reader.layout.device.stream,
            rate_hz=reader.layout.device.rate_hz,
            features=features,
            artifacts=artifacts,
            artifact_flags=flags,
            reject=reject,
            quality=Quality(
                features.get("phase_snr_db"),
                dropout_rate,
                0.0 if reject else (1.0 - dropout_rate) * (1.0 - worst),
            ),
            arrival_ns=window.arrival_ns,
            closed_ns=window.closed_ns,
            has_artifact=bool(window.flags & ARTIFACT),
        )
        if self._lateness is not None:  # live: what was computed took its time
            now_ns = clock_ns()
        late_ns = 0 if done.arrival_ns is None else now_ns - done.arrival_ns
        if self._lateness is not None and done.arrival_ns is not None:
            self._lateness.add(late_ns)
        self._publish("features", newest_ns, done.data(), late_ns > WINDOW_DEADLINE_NS)
        for call in self._listeners:
            call(done, window)


def _judge(window: Window) -> tuple[dict[str, float | None], dict[str, bool | float | None]]:
    """Scores by kind, and the flags: which kinds are there, where the worst is, and the spec's
    names for the EMG gate."""
    table = window.layout.artifacts(window.values)
    scores: dict[str, float | None] = {}
    flags: dict[str, bool | float | None] = {"dropout": window.lost > 0}
    for kind, (score, value, _, _) in zip(KINDS, table, strict=False):
        scores[kind] = _or_none(score)
        if math.isfinite(score):
            flags[kind] = bool(score >= 0.5)
        if kind == "emg":
            flags["gamma_emg_burst_ratio"] = _or_none(value)
    return scores, flags


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
