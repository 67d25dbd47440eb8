"""Focus and trit out of a recording, by the code that made them: the same, value for value.

The samples are those of the data file, the grid's frames the resampler's at the places that the
.clock has, the windows cut where the tick cut them. What a recording can't say is left out: what
the oracle made of samples before its first.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from phantomd.contracts import GRID_NS, Event, FeatureWindow, Flag
from phantomd.core.analysis import Analysis
from phantomd.core.engine import EVENT_WORDS, grid_words
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.resample import Resampler
from phantomd.core.ring import Ring
from phantomd.engine.engine import Slot
from phantomd.engine.part import Publish
from phantomd.engine.plan import GRID_SLOTS, make_source, signal_ring
from phantomd.engine.prototype import design
from phantomd.errors import DamagedRecording
from phantomd.oracle.baseline import Baseline
from phantomd.oracle.focus import WINDOW
from phantomd.oracle.stage import OracleStage, frame_of
from phantomd.records import clockmap
from phantomd.records.clockmap import (
    Closed,
    End,
    Frames,
    Gap,
    Head,
    LeftOut,
    OracleState,
    Rest,
    Samples,
    Turn,
)
from phantomd.records.disk import LOST, NO_TIME, runs
from phantomd.signal.analysis import layout_of, make_analysis, period_of, renew
from phantomd.signal.artifacts import blocks
from phantomd.signal.window import ARTIFACT, FILLING, RELOCKED, TIMED_OUT, Window
from phantomd.signal.windows import WindowStage

_HINT = "the four files as they were written"


class Recomputed(msgspec.Struct, frozen=True):
    """``seconds`` of samples; windows whose verdict was computed again, and how many of these were
    judged otherwise than live (0, or this is another build); ``inexact``: samples that the file
    holds rounded. ``whole``: the recording was closed in good order."""

    file: str
    seconds: float
    instants: int
    windows: int
    differing: int
    inexact: int
    whole: bool
    head: Head


class _Tape:
    """All that the four files say, in memory but for the data."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".eeg")
        self.gaps: list[Gap] = []
        self.windows: deque[Closed] = deque()
        self.steps: list[Turn | OracleState | Rest | LeftOut] = []
        self.end: End | None = None
        samples: list[Samples] = []
        frames: list[Frames] = []
        heads: list[Head] = []
        for entry in clockmap.entries(path.with_suffix(clockmap.ENDING)):
            match entry:
                case Head():
                    heads.append(entry)
                case Samples():
                    samples.append(entry)
                case Frames():
                    frames.append(entry)
                case Gap():
                    self.gaps.append(entry)
                case Closed():
                    self.windows.append(entry)
                case Turn() | OracleState() | Rest() | LeftOut():
                    self.steps.append(entry)
                case End():
                    self.end = entry
                case _:
                    pass
        self.head = heads[0]
        self._read_samples(samples)
        self._read_frames(frames)

    def _read_samples(self, samples: list[Samples]) -> None:
        spec = self.head.device
        n_values = len(spec.labels) + len(spec.aux)
        raw = np.memmap(self.path, "<f4", "r") if self.path.stat().st_size else np.zeros(0, "<f4")
        rows = raw[: len(raw) // n_values * n_values].reshape(-1, n_values)
        index = [s.first + np.arange(len(s.flags), dtype=np.uint64) for s in samples]
        self.index = np.concatenate([np.zeros(0, np.uint64), *index])
        self.t_ns = np.frombuffer(b"".join(s.t_ns for s in samples), "<i8").astype(np.int64)
        flags = np.frombuffer(b"".join(s.flags for s in samples), np.uint8)
        self.flags = flags.astype(np.uint32)
        at = (self.index - np.uint64(self.head.first)).astype(np.int64)
        keep = at < len(rows)
        self.index, self.t_ns, self.flags = self.index[keep], self.t_ns[keep], self.flags[keep]
        of_channels = spec.resolution or (1.0,) * len(spec.labels)
        resolution = np.array((*of_channels, *(1.0,) * len(spec.aux)))
        self.values = rows[at[keep]].astype(np.float64) * resolution
        self.values[(self.flags & LOST) > 0] = np.nan
        for gap in self.gaps:
            if gap.values:
                first = int(np.searchsorted(self.index, np.uint64(gap.first)))
                bridge = np.frombuffer(gap.values, "<f8").reshape(gap.count, len(spec.labels))
                there = min(gap.count, len(self.index) - first)
                self.values[first : first + there, : len(spec.labels)] = bridge[:there]

    def _read_frames(self, frames: list[Frames]) -> None:
        if any(b.first != a.first + len(a.flags) // 4 for a, b in pairwise(frames)):
            raise DamagedRecording(f"{self.path}: frames of its clock are missing", hint=_HINT)
        self.frame_first = frames[0].first if frames else 0
        self.frame_flags = np.frombuffer(b"".join(f.flags for f in frames), "<u4")
        self.frame_native = np.frombuffer(b"".join(f.native for f in frames), "<i8")
        self.frame_fraction = np.frombuffer(b"".join(f.fraction for f in frames), "<f8")

    @property
    def frame_until(self) -> int:
        return self.frame_first + len(self.frame_flags)


def recompute(path: Path, publish: Publish, emit: Callable[[Event], None]) -> Recomputed:
    """``path``: any of the four files. ``publish`` gets ``features``, ``focus`` and ``trit``.
    Raises RecordingError, OSError."""
    return _Again(_Tape(path), publish, emit).run()


class _Again:
    def __init__(self, tape: _Tape, publish: Publish, emit: Callable[[Event], None]) -> None:
        self._tape = tape
        self._head = head = tape.head
        spec, config = head.device, head.config
        signal = signal_ring(spec, self._padded_first())
        analysis = make_analysis(config, spec, signal, None)
        if analysis is None:
            raise DamagedRecording(f"{tape.path}: no channel is analysed", hint=_HINT)
        self._analysis: Analysis = analysis
        self._grid = Ring(grid_words(len(spec.labels)), GRID_SLOTS, first=tape.frame_first)
        n_values = len(spec.labels) + len(spec.aux)
        native = Intake(Ring(NATIVE_HEAD_WORDS + n_values, 256), spec.rate_hz, n_values)
        source = make_source(
            spec, native, self._grid, Ring(EVENT_WORDS, 64), 0, config.grid, analysis
        )
        self._slot = Slot(
            0, spec.labels, self._grid, source, uuid.UUID(int=0), config, spec=spec, signal=signal
        )
        prototype = design(spec.rate_hz, config.grid.phase)
        self._resampler = Resampler(prototype.table, prototype.ahead)
        self._ahead, self._taps = prototype.ahead, prototype.taps
        self._windows = WindowStage(lambda: (self._slot,), publish)
        self._oracle = OracleStage(
            lambda: self._slot, config.oracle, publish, emit, None, bad=config.montage.bad
        )
        self._windows.listen(self._judge)
        self._windows.measure(self._oracle.measure)
        self._closed: dict[int, Closed] = {}
        self._at = 0
        self._pushed = tape.frame_first
        self._relocked = False
        self._recomputed = self._differing = self._instants = 0
        has_scores = layout_of(config, spec).has_artifacts
        self._block = blocks(spec.rate_hz, config.window.length_s)[0] if has_scores else 0

    def run(self) -> Recomputed:
        tape = self._tape
        self._pad()
        if tape.windows:
            step_ns = round(self._head.config.window.step_s * 1e9)
            t0_ns = self._head.grid_t0_ns
            self._analysis.begin(t0_ns + (tape.windows[0].index - 1) * step_ns, t0_ns)
        begun = False
        for step in tape.steps:
            if isinstance(step, Rest):
                self._oracle.take_baseline(_baseline(step))
            elif isinstance(step, LeftOut):
                self._oracle.leave_out(frozenset(step.labels))
            elif isinstance(step, OracleState):
                # Windows until then have no part in what comes but through this.
                self._oracle.go_on(step.next, (step.last_good_ns, step.timed_out, step.verdicts))
                self._pushed = max(self._pushed, frame_of(step.next) - WINDOW + 1)
                self._grid.skip(self._pushed)
                begun = True
            elif begun and not self._turn(step):
                break
        seconds = len(tape.index) / self._head.device.rate_hz
        return Recomputed(
            str(tape.path),
            seconds,
            self._instants,
            self._recomputed,
            self._differing,
            tape.end.inexact if tape.end else 0,
            tape.end is not None,
            self._head,
        )

    # -- inside ------------------------------------------------------------------------------------

    def _turn(self, turn: Turn) -> bool:
        """False: the recording ends before it."""
        newest = frame_of(turn.until - 1)
        if newest >= self._tape.frame_until or not self._close_until(turn.window):
            return False
        due_ns = self._head.grid_t0_ns + newest * GRID_NS + self._head.due_after_ns
        self._windows.on_tick(due_ns)
        while self._pushed <= newest:
            if not self._push(self._pushed):
                return False
            self._pushed += 1
        before = self._oracle.next or 0
        self._oracle.on_tick(due_ns)
        self._instants += (self._oracle.next or 0) - before
        return True

    def _close_until(self, window: int | None) -> bool:
        windows = self._tape.windows
        while window is not None and windows and windows[0].index <= window:
            closed = windows.popleft()
            if closed.left_out != tuple(sorted(self._slot.left_out)):
                self._leave_out(frozenset(closed.left_out))
            if not self._take_until(closed.until):
                return False
            relocked = bool(closed.flags & RELOCKED) and not self._relocked
            self._relocked = bool(closed.flags & RELOCKED)
            self._closed[closed.index] = closed
            self._analysis.close(
                closed.closed_ns, self._head.grid_t0_ns, closed.flags & TIMED_OUT, relocked
            )
        return True

    def _leave_out(self, labels: frozenset[str]) -> None:
        """From here on the analysis does without these channels, as it did then."""
        head, before = self._head, self._analysis
        made, _ = renew(head.config, head.device, before, labels, head.grid_t0_ns)
        assert made is not None
        made.succeed(before, head.grid_t0_ns)
        self._analysis, self._slot.left_out = made, labels
        self._slot.source.replace(made)
        self._windows.layout_changed(self._slot)

    def _take_until(self, until: int) -> bool:
        """Samples before this native index."""
        tape = self._tape
        end = int(np.searchsorted(tape.index, np.uint64(until)))
        if until > self._head.first and (end == 0 or int(tape.index[end - 1]) != until - 1):
            return False
        for begin, stop in runs(tape.index[self._at : end]):
            part = slice(self._at + begin, self._at + stop)
            self._analysis.take(
                int(tape.index[part.start]), tape.t_ns[part], tape.flags[part], tape.values[part]
            )
        self._at = max(self._at, end)
        return True

    def _push(self, index: int) -> bool:
        """Frame ``index`` of the grid, resampled again."""
        tape, head = self._tape, self._head
        at = index - tape.frame_first
        native, fraction = int(tape.frame_native[at]), float(tape.frame_fraction[at])
        flags = int(tape.frame_flags[at])
        n_channels = len(head.device.labels)
        words = np.zeros(self._grid.words, np.uint64)
        t_ns = head.grid_t0_ns + index * GRID_NS
        words[:2] = np.array([t_ns, t_ns + head.due_after_ns], np.int64).view(np.uint64)
        words[2] = flags
        words[3] = np.array([native], np.int64).view(np.uint64)[0]
        words[4] = np.array([fraction]).view(np.uint64)[0]
        values = np.full(n_channels, math.nan)
        if native != clockmap.NO_POSITION:
            oldest = native + self._ahead - self._taps + 1
            row = int(np.searchsorted(tape.index, np.uint64(max(0, oldest))))
            rows = tape.values[row : row + self._taps, :n_channels]
            if len(rows) < self._taps or int(tape.index[row]) != oldest:
                return False
            values = self._resampler.between(np.ascontiguousarray(rows), fraction)
        elif not flags & int(Flag.MISSING):
            raise DamagedRecording(f"{tape.path}: frame {index} has no place", hint=_HINT)
        words[5:] = values.view(np.uint64)
        self._grid.push(words)
        return True

    def _judge(self, features: FeatureWindow, window: Window) -> None:
        """The recording's first windows hold samples from before it: their verdicts are as
        recorded."""
        closed = self._closed.pop(window.index)
        was = bool(closed.flags & ARTIFACT)
        reaches_back = closed.first - self._block < self._head.first
        if reaches_back or (window.flags ^ closed.flags) & FILLING:
            features = msgspec.structs.replace(features, has_artifact=was)
        else:
            self._recomputed += 1
            self._differing += features.has_artifact != was
        self._oracle.judge(features, window.layout)

    def _padded_first(self) -> int:
        """Blocks of the scores count from the segment's first sample: the nearest index, not after
        the first sample, that a whole number of their windows lies after it."""
        head = self._head
        if head.begun >= head.first:
            return head.first
        period = period_of(head.config, head.device)
        return head.begun + (head.first - head.begun) // period * period

    def _pad(self) -> None:
        """Lost samples in place of those before the recording."""
        head = self._head
        first = self._padded_first()
        n = head.first - first
        if n:
            n_values = len(head.device.labels) + len(head.device.aux)
            self._analysis.take(
                first,
                np.full(n, NO_TIME),
                np.full(n, LOST, np.uint32),
                np.full((n, n_values), math.nan),
            )


def _baseline(rest: Rest) -> Baseline | None:
    if not rest.covariance:
        return None
    n = len(rest.labels)
    covariance = np.frombuffer(rest.covariance, "<f8").reshape(n, n).copy()
    return Baseline(covariance, rest.labels, rest.seconds, rest.unix_ns)
