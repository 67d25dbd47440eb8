"""The oracle in the daemon: from the grid to focus (10 Hz) and trit (1 Hz).

Each tenth of a second of the grid has a focus, made when the newest frame before it is there; each
second a trit, of that instant's focus. Lines keep their cadence whatever they hold.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.config import LEAST_ORACLE_CHANNELS, OracleConfig
from phantomd.contracts import GRID_HZ, FeatureWindow, Flag
from phantomd.core.engine import GridReader, wall_offset_ns
from phantomd.core.engine import now_ns as clock_ns
from phantomd.core.hist import Histogram
from phantomd.core.spd import Spd
from phantomd.engine.beside import beside
from phantomd.engine.engine import Slot
from phantomd.engine.part import Publish
from phantomd.errors import BadBaseline
from phantomd.oracle import baseline as baselines
from phantomd.oracle.alerts import Alerts, Emit
from phantomd.oracle.baseline import Baseline
from phantomd.oracle.cells import Content, Contradiction, Nothing, Value
from phantomd.oracle.channels import picked
from phantomd.oracle.focus import METHODS, WINDOW, BandRatio, FisherRao, Session
from phantomd.oracle.network import inject_focus, oracle_network, tell_window
from phantomd.oracle.propagators import build, encodable, load_propagators, own_cells
from phantomd.oracle.trit import BASELINE, ROLES, Role, skill
from phantomd.signal.analysis import Layout
from phantomd.signal.window import Window
from phantomd.signal.windows import WindowStage

FOCUS_HZ = 10
TRIT_EVERY = 10
#: DESIGN.md: after the due time of the newest grid frame used.
DEADLINE_NS = 25_000_000
TIMEOUT_NS = 5_000_000_000
#: Windows that are kept in mind: more than can end within the delay of the grid.
_VERDICTS = 32
Array = npt.NDArray[np.float64]
#: Channels that are bad by configuration, and those that were found to be.
_Without = tuple[frozenset[str], frozenset[str]]
#: When a frame was last there, whether that was too long ago, and the newest verdicts.
Memory = tuple[int | None, bool, tuple[tuple[int, bool], ...]]


def frame_of(k: int) -> int:
    """The newest frame at or before the k-th tenth of a second of the grid."""
    return k * GRID_HZ // FOCUS_HZ


@dataclass(slots=True)
class _Rest:
    """A baseline being recorded."""

    seconds: float
    until: int
    done: asyncio.Future[None]
    windows: list[Array] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)


class OracleStage:
    """Part of the daemon, behind the windows stage, whose verdicts it hears through ``judge``.

    ``state_dir``: where the baseline lies; None: nowhere (a replay). ``bad``: labels that are left
    out. Raises ConfigError for a propagator that can't be loaded.
    """

    def __init__(
        self,
        slot: Callable[[], Slot],
        config: OracleConfig,
        publish: Publish,
        emit: Emit,
        state_dir: Path | None,
        lateness: Histogram | None = None,
        *,
        bad: Collection[str] = (),
    ) -> None:
        self._slot = slot
        self._config = config
        self._skills: dict[Role, tuple[str, ...]] = {
            "validator": config.validator,
            "coordinator": config.coordinator,
            "generator": config.generator,
        }
        self._publish = publish
        self._path = None if state_dir is None else state_dir / baselines.NAME
        self._lateness = lateness
        #: The newest windows' ends, and whether each has an artifact.
        self._verdicts: deque[tuple[int, bool]] = deque(maxlen=_VERDICTS)
        #: Windows, with the tick that closed each, that no instant has been told of yet.
        self._heard: deque[tuple[int, int, bool, _Without]] = deque(maxlen=_VERDICTS)
        self._session = Session(FOCUS_HZ)
        self._metrics: dict[str, Content] = dict.fromkeys(METHODS, Nothing("warming-up"))
        self._next: int | None = None
        self._last_good_ns: int | None = None
        self._timed_out = False
        self._rest: _Rest | None = None
        self._injected: list[float] = []
        self._bad = frozenset(bad)
        self._propagators = load_propagators(config.propagators)
        self._alerts = Alerts(emit)
        self.baseline: Baseline | None = None
        self.baseline_error: BadBaseline | None = None
        self._labels: tuple[str, ...] = ()
        self._found: frozenset[str] = frozenset()
        self._set_up()

    def follow(self, windows: WindowStage) -> None:
        """Hears the verdicts of these windows, and gives them its metrics as features."""
        windows.listen(lambda features, window: self.judge(features, window.layout))
        windows.measure(self.measure)

    # -- what others tell it -----------------------------------------------------------------------

    def judge(self, features: FeatureWindow, layout: Layout) -> None:
        """A window of the device on 7069 was closed. The metrics do without the channels that it
        did without."""
        spec = self._slot().spec
        if spec is not None and features.device_id == spec.device_id:
            without = layout.bad, layout.left_out
            self._heard.append(
                (features.closed_ns, features.end_ns, features.has_artifact, without)
            )

    def leave_out(self, labels: Collection[str]) -> None:
        """Channels that were found bad before the first window that is heard of."""
        self._found = frozenset(labels)
        self._choose()

    def layout_changed(self, slot: Slot) -> None:
        if slot.number != 0:
            return
        if slot.labels != self._all_labels:
            self._spoil_rest()
        self._set_up()

    def _spoil_rest(self) -> None:
        if self._rest is not None and not self._rest.done.done():
            self._rest.done.set_exception(
                BadBaseline("the channels changed during the rest", hint="calibrate anew")
            )

    def inject(self, focus: float) -> None:
        """A focus from elsewhere, in place of the next window's."""
        self._injected.append(focus)

    @property
    def next(self) -> int | None:
        """The tenth of a second of the grid that comes next."""
        return self._next

    @property
    def left_out(self) -> frozenset[str]:
        """Channels that were found to be bad, as far as it has heard."""
        return self._heard[-1][3][1] if self._heard else self._found

    @property
    def memory(self) -> Memory:
        """What it goes by beside windows and score."""
        heard = ((end_ns, found) for _, end_ns, found, _ in self._heard)  # closed before it comes
        return self._last_good_ns, self._timed_out, (*self._verdicts, *heard)

    def go_on(self, at: int, memory: Memory) -> None:
        """As another stage would have from this instant on, whose ``memory`` it was."""
        self._next = at
        self._last_good_ns, self._timed_out, verdicts = memory
        self._verdicts.clear()
        self._verdicts.extend(verdicts)

    def reset_session(self) -> None:
        """A recording starts: the session's score with it."""
        self._session.reset()

    def measure(self, window: Window) -> dict[str, float]:
        """Features of a window of the device on 7069; others have none."""
        return self.features() if window.layout.device == self._slot().spec else {}

    def features(self) -> dict[str, float]:
        """``focus_band_ratio``, …: the newest of all three metrics; NaN where there is none."""
        return {
            f"focus_{name}": content.value if isinstance(content, Value) else float("nan")
            for name, content in self._metrics.items()
        }

    async def rest(self, seconds: float) -> dict[str, Any]:
        """Records a baseline from now on, writes it and takes it. Raises BadBaseline."""
        if self._path is None:
            raise BadBaseline("there is no state directory", hint="name one with --state")
        if self._rest is not None:
            raise BadBaseline("a baseline is being recorded", hint="wait for it")
        first = self._next if self._next is not None else 0
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rest = self._rest = _Rest(seconds, first + round(seconds * FOCUS_HZ), done)
        try:
            await done
        finally:
            self._rest = None
        good_s = len(rest.windows) * WINDOW / GRID_HZ
        n = len(self._picks)
        whole = Spd(n).covariance(np.concatenate(rest.windows)) if rest.windows else None
        baselines.judge(good_s, seconds, whole, rest.reasons)
        assert whole is not None
        made = Baseline(whole, self._labels, good_s, clock_ns() + wall_offset_ns())
        try:
            await beside(baselines.write, self._path, made)
        except OSError as error:
            raise BadBaseline(
                f"{self._path} can't be written: {error.strerror or error}",
                hint="name another state directory with --state",
            ) from error
        self._load_baseline()
        return {"path": str(self._path), "good_s": good_s, "rejected": rest.reasons}

    def status(self) -> dict[str, Any]:
        """For ``status``."""
        out: dict[str, Any] = {"method": self._config.method, "channels": list(self._labels)}
        out["left_out"] = [label for label in self._labels if label in self._found]
        out["baseline"] = self.baseline.seconds if self.baseline else None
        if self.baseline_error is not None:
            out["baseline_error"] = str(self.baseline_error)
        if self._rest is not None:
            out["resting"] = {"good_s": len(self._rest.windows), "asked_s": self._rest.seconds}
        return out

    def degraded(self) -> list[str]:
        """What it can't do, and what to do about it."""
        notes = []
        if self._slot().spec is not None and len(self._good) < LEAST_ORACLE_CHANNELS:
            here = ", ".join(self._labels[k] for k in self._good) or "none"
            notes.append(
                f"oracle: {len(self._good)} good channels ({here}), {LEAST_ORACLE_CHANNELS} are "
                "needed: focus stays nothing; name others in oracle.channels, or see montage.bad"
            )
        if self.baseline_error is not None:
            notes.append(f"oracle: {self.baseline_error.message}; {self.baseline_error.hint}")
        elif self.baseline is None and self._config.method == "fisher_rao":
            notes.append(
                "oracle: method fisher_rao has no baseline, focus stays nothing: phantomctl "
                "calibrate baseline"
            )
        notes += [f"oracle: {name} fails: {why}" for name, why in self.network.failed.items()]
        return notes

    # -- each tick ---------------------------------------------------------------------------------

    @property
    def next_frame(self) -> int:
        """Index of the grid frame that it waits for."""
        return 0 if self._next is None else frame_of(self._next)

    def on_tick(self, now_ns: int) -> None:
        grid = self._slot().grid
        if self._next is None:
            self._next = grid.next * FOCUS_HZ // GRID_HZ + 1
        while (newest := frame_of(self._next)) < grid.next:
            self._instant(self._next, newest, now_ns)
            self._next += 1

    def _instant(self, k: int, newest: int, now_ns: int) -> None:
        first = max(0, newest + 1 - WINDOW)
        frames = self._reader().frames(first, newest + 1)
        if not len(frames) or frames["index"][-1] != newest:
            return  # the loop slept for as long as the ring lasts: 16 s
        t_ns, due_ns = int(frames["t_ns"][-1]), int(frames["due_ns"][-1])
        self._take_verdicts(t_ns, due_ns)
        # Rounded as on 7069: any client of that port computes the same focus.
        window = frames["values"][:, self._picks].astype(np.float32).astype(np.float64)
        content = self._content(frames, window, t_ns)
        if self._rest is not None:
            self._note_rest(k, window, content)
        focus = self._run(k, window, content)
        self._alerts.note(focus, self.network, t_ns)
        # Live, what was spent on it counts; in virtual time nothing is spent.
        late_ns = (now_ns if self._lateness is None else clock_ns()) - due_ns
        if self._lateness is not None:
            self._lateness.add(late_ns)
        late = late_ns > DEADLINE_NS
        self._publish("focus", t_ns, self._focus_data(focus), late)
        if k % TRIT_EVERY == 0:
            self._publish("trit", t_ns, self._trit_data(focus), late)

    def _content(self, frames: npt.NDArray[Any], window: Array, t_ns: int) -> Content:
        """The window, or why there is none."""
        flags = frames["flags"]
        lost = (flags & int(Flag.MISSING)) > 0
        if self._last_good_ns is None:
            self._last_good_ns = t_ns
        if not lost.all():
            self._last_good_ns = int(frames["t_ns"][~lost][-1])
        self._note_timeout(t_ns - self._last_good_ns > TIMEOUT_NS, t_ns)
        if self._timed_out:
            return Nothing("timeout")
        if lost.all() or len(self._good) < LEAST_ORACLE_CHANNELS:
            return Nothing("no-signal")
        began = np.flatnonzero(flags & int(Flag.DISCONTINUITY))
        if len(frames) < WINDOW or (len(began) and (began[-1] > 0 or lost[0])):
            return Nothing("warming-up")
        if not np.isfinite(window).all():
            return Nothing("dropout")
        if self._has_artifact(t_ns):
            return Nothing("artifact")
        if not window.any():
            return Nothing("no-signal")
        return Value(window)

    def _take_verdicts(self, t_ns: int, due_ns: int) -> None:
        """Those of windows that had ended at the instant, or were closed when it was due: what a
        loop that comes late has heard since would not be there in a replay."""
        while self._heard and (self._heard[0][1] <= t_ns or self._heard[0][0] <= due_ns):
            _, end_ns, found, (bad, left_out) = self._heard.popleft()
            self._verdicts.append((end_ns, found))
            if left_out != self._found or bad != self._bad:
                self._go_without(bad, left_out)

    def _go_without(self, bad: frozenset[str], left_out: frozenset[str]) -> None:
        self._found = left_out
        if bad == self._bad:
            self._choose()
            return
        self._bad = bad
        self._spoil_rest()
        self._set_up()

    def _has_artifact(self, t_ns: int) -> bool:
        """By the newest window that ended by this instant, and by those since. At the instants of
        the trit a window ends, too; between them the last part of a step is not judged yet."""
        before = [found for end_ns, found in self._verdicts if end_ns <= t_ns]
        since = [found for end_ns, found in self._verdicts if end_ns > t_ns]
        return any(since) or (bool(before) and before[-1])

    def _run(self, k: int, window: Array, content: Content) -> Content:
        if isinstance(content, Value):
            good = np.ascontiguousarray(window[:, self._good])
            self._metrics["band_ratio"] = ratio = self._band_ratio(good)
            self._metrics["fisher_rao"] = self._fisher_rao(good)
            self._metrics["session"] = self._session.add(ratio)
        else:
            self._metrics = dict.fromkeys(METHODS, content)
            if not isinstance(content, Nothing) or content.reason != "timeout":
                self._metrics["session"] = self._session.score()
        if self._injected:
            inject_focus(self.network, Value(self._injected.pop(0)), k)
        else:
            tell_window(self.network, content, k)
        return self.network.cell("focus").content

    def _note_timeout(self, timed_out: bool, t_ns: int) -> None:
        if timed_out != self._timed_out:
            self._timed_out = timed_out
            self._alerts.timeout(timed_out, t_ns)

    # -- what goes out -----------------------------------------------------------------------------

    def _focus_data(self, focus: Content) -> dict[str, Any]:
        data = self._cell(focus)
        if isinstance(focus, Value):
            data |= {
                "focus": focus.value,
                "method": self._config.method,
                "window_s": WINDOW / GRID_HZ,
                "channels": len(self._good),
            }
            spec = self._slot().spec
            if spec is not None and spec.rate_hz < GRID_HZ:
                data["rate"] = "below-spec"
        return data | self._own()

    def _trit_data(self, focus: Content) -> dict[str, Any]:
        content = self.network.cell("trit").content
        data = self._cell(content)
        if isinstance(content, Value):
            trit = content.value
            bright = self.network.cell("brightness").content
            data |= {
                "trit": trit,
                "brightness": bright.value if isinstance(bright, Value) else None,
                "role": ROLES[trit],
                "skill": skill(trit, self._skills),
            }
            if isinstance(focus, Value):
                data["focus"] = focus.value
        elif isinstance(content, Nothing) and content.reason == "timeout":
            data["baseline"] = dict(BASELINE)
        elif isinstance(content, Contradiction) and isinstance(focus, Value):
            # The trit alone contradicts: of a user's propagator.
            data |= {"focus": focus.value, "contradicts": encodable([content.a, content.b])}
        return data | self._own()

    def _own(self) -> dict[str, Any]:
        own = own_cells(self.network)
        return {"cells": own} if own else {}

    def _cell(self, content: Content) -> dict[str, Any]:
        if isinstance(content, Value):
            return {"cell": "value"}
        if isinstance(content, Nothing):
            return {"cell": "nothing", "reason": content.reason or "no-signal"}
        assert isinstance(content, Contradiction)
        return {
            "cell": "contradiction",
            "focus": encodable(content.a),
            "contradicts": encodable(content.b),
            "halted": sorted(self.network.halted),
        }

    # -- setting up --------------------------------------------------------------------------------

    def _set_up(self) -> None:
        slot = self._slot()
        labels = slot.labels
        self._all_labels = labels
        given = self.baseline
        self._labels = picked(labels, self._config.channels, self._bad)
        self._picks = [labels.index(label) for label in self._labels]
        self._load_baseline()
        if self._path is None:
            self.take_baseline(given)
        self.network = oracle_network(self._measure)
        build(self.network, self._propagators)

    def _load_baseline(self) -> None:
        self.baseline, self.baseline_error = None, None
        if self._path is not None and self._path.exists():
            try:
                self.baseline = baselines.load(self._path, self._labels)
            except BadBaseline as error:
                self.baseline_error = error
        self._choose()

    def _choose(self) -> None:
        """The metrics, of the channels that are good."""
        self._good = [k for k, label in enumerate(self._labels) if label not in self._found]
        self._band_ratio = BandRatio(max(1, len(self._good)))
        baseline = None
        if self.baseline is not None and self._good:
            rows = np.ix_(self._good, self._good)
            baseline = np.ascontiguousarray(self.baseline.covariance[rows])
        self._fisher_rao = FisherRao(baseline)

    def take_baseline(self, baseline: Baseline | None) -> None:
        """One that is not in the state directory (a replay has its journal's). It is left out
        where it is of another montage."""
        if baseline is None or baseline.labels == self._labels:
            self.baseline, self.baseline_error = baseline, None
            self._choose()

    def _measure(self, window: npt.NDArray[Any]) -> Content:
        return self._metrics[self._config.method]

    def _reader(self) -> GridReader:
        return GridReader(self._slot().grid, deadline_ns=0)

    # -- baseline ----------------------------------------------------------------------------------

    def _note_rest(self, k: int, window: Array, content: Content) -> None:
        """Each second's window once, so that no sample counts twice."""
        rest = self._rest
        assert rest is not None
        if k % FOCUS_HZ == 0:
            if isinstance(content, Value):
                rest.windows.append(window.copy())
            elif isinstance(content, Nothing):
                rest.reasons[content.reason] = rest.reasons.get(content.reason, 0) + 1
        if k >= rest.until and not rest.done.done():
            rest.done.set_result(None)
