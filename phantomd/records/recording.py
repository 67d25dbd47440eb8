"""Recordings: the device on 7069 into a BrainVision triplet at its own rate, as the data come.

The owner's choice, never automatic. A recording goes on while the device is away (its samples are
lost), and in a new file when the device comes back as another one. It ends when the owner says so,
when the device is closed, or when the disk refuses or can't keep up: that is told, and nothing else
notices.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phantomd import __version__
from phantomd.config import Config
from phantomd.contracts import GRID_HZ, Event, FeatureWindow, Marker
from phantomd.core.analysis import read_signal
from phantomd.core.engine import GridReader, now_ns, wall_offset_ns
from phantomd.core.ring import Ring
from phantomd.engine.beside import beside
from phantomd.engine.engine import Slot
from phantomd.engine.prototype import design
from phantomd.errors import PhantomError, RecordError
from phantomd.oracle.baseline import Baseline
from phantomd.oracle.focus import WINDOW
from phantomd.oracle.stage import OracleStage, frame_of
from phantomd.records.brainvision import Channel, Triplet
from phantomd.records.clockmap import (
    NO_POSITION,
    VERSION,
    Closed,
    Entry,
    Frames,
    Head,
    LeftOut,
    OracleState,
    Tie,
    Turn,
    encode,
    rest_of,
)
from phantomd.records.disk import NO_TIME, Block, Disk
from phantomd.signal.window import Window

DIRECTORY = "sessions"
#: How often what is new goes to the disk.
EVERY_NS = 100_000_000
_TIE_NS = 1_000_000_000
#: Beyond the reach of the resampler: the first frames of a recording look back before it.
_MARGIN_S = 0.25
_JOIN_S = 10.0
_NAME = re.compile(r"^[\w-][\w.-]{0,99}$")
_AUX_UNITS = {"_g": "g"}

Emit = Callable[[Event], None]


class _File:
    """One triplet being written: of one device, one layout."""

    def __init__(self, slot: Slot, triplet: Triplet, head: Head, grid_next: int) -> None:
        assert slot.signal is not None and slot.spec is not None
        self.path = triplet.path
        self.signal: Ring = slot.signal
        self.grid: Ring = slot.grid
        self.layout = slot.spec.labels
        self.head = head
        self.disk = Disk(triplet, head.first, len(slot.spec.labels))
        self.next = head.first
        self.grid_next = grid_next
        reach_s = design(slot.spec.rate_hz, head.config.grid.phase).taps / slot.spec.rate_hz
        wait_s = head.due_after_ns * 1e-9
        first_whole = grid_next + math.ceil((reach_s + wait_s + _MARGIN_S) * GRID_HZ)
        #: Newest frame of the first window of the oracle that lies inside.
        self.whole_frame = first_whole + WINDOW - 1
        self.baseline: Baseline | None = None
        #: The oracle's instant that comes next; None before the first that lies inside.
        self.until: int | None = None
        self.window: int | None = None
        self.entries: list[Entry] = []
        self.markers: list[Marker] = []
        self.handed_ns = 0
        self.tied_ns = 0
        #: Taken from the rings, and not yet by the disk.
        self.held: list[Block] = []

    def flush(self) -> None:
        while self.held and self.disk.put(self.held[0]):
            del self.held[0]


class Recorder:
    """Part of the daemon, behind the oracle. ``config`` and ``grid_t0_ns`` are the daemon's."""

    def __init__(
        self,
        slot: Callable[[], Slot],
        oracle: OracleStage,
        config: Callable[[], Config],
        grid_t0_ns: Callable[[], int],
        emit: Emit,
    ) -> None:
        self._slot = slot
        self._oracle = oracle
        self._config = config
        self._grid_t0_ns = grid_t0_ns
        self._emit = emit
        self._file: _File | None = None
        self._name: str | None = None
        self._number = 1
        #: Held while a file begins or ends, or the settings change.
        self.changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what control asks -------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """What is being written."""
        return None if self._file is None else self._file.path

    def status(self) -> dict[str, Any] | None:
        file = self._file
        if file is None:
            return None
        rows, rate_hz = file.disk.rows, file.head.device.rate_hz
        return {"seconds": round(rows / rate_hz, 3), "inexact": file.disk.inexact}

    async def start(self, name: str | None = None) -> Path:
        """Raises RecordError."""
        async with self.changing:
            if self._file is not None:
                raise RecordError(
                    f"{self._file.path} is being recorded", hint="phantomctl record stop"
                )
            if name is not None and (not _NAME.match(name) or name.endswith(_ENDINGS)):
                raise RecordError(
                    f"{name!r} is no name for a recording",
                    hint="letters, digits, - _ and dots, no ending: the files get their own",
                )
            self._name, self._number = name, 1
            file = await self._begin()
        self._tell("info", f"recording to {file.path}", file)
        return file.path

    async def stop(self) -> Path:
        """What is recorded is on the disk then. Raises RecordError."""
        async with self.changing:
            if self._file is None:
                raise RecordError("nothing is being recorded", hint="phantomctl record start")
            file = self._file
            await self._end(file, "stopped")
        if file.disk.error is not None:
            raise RecordError(
                f"{file.path}: {file.disk.error.strerror}", hint="it is cut short: free some disk"
            )
        return file.path

    def all(self) -> list[dict[str, Any]]:
        """All in the state directory, the newest last."""
        found = []
        for path in sorted((self._config().state_dir / DIRECTORY).glob("*.eeg")):
            stat = path.stat()
            found.append(
                {
                    "path": str(path),
                    "bytes": stat.st_size,
                    "unix_s": stat.st_mtime,
                    "recording": path == self.path,
                }
            )
        return found

    async def close(self) -> None:
        """The daemon stops."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._file is not None:
            await self.stop()

    # -- what the daemon tells ---------------------------------------------------------------------

    def hear(self, features: FeatureWindow, window: Window) -> None:
        """A window was closed; called before the oracle's next instants."""
        file = self._file
        if file is None or features.device_id != file.head.device.device_id:
            return
        if window.layout.config != file.head.config:
            return  # the last one of the settings before
        first, until = window.native
        file.window = window.index
        left_out = tuple(sorted(window.layout.left_out))
        file.entries.append(
            Closed(window.index, window.closed_ns, first, until, window.flags, left_out)
        )

    def mark(self, marker: Marker) -> None:
        if self._file is not None:
            self._file.markers.append(marker)

    def layout_changed(self, slot: Slot) -> None:
        if slot.number == 0:
            self._look(now_ns())

    def settings_change(self) -> None:
        """Before grid or analysis get new settings: this file is of the old ones."""
        if self._file is not None:
            self._detach(self._file, "there are new settings", again=True)

    def on_tick(self, now_ns: int) -> None:
        file = self._file
        if file is None or not self._look(now_ns):
            return
        self._note_turn(file)
        if now_ns - file.handed_ns >= EVERY_NS:
            file.handed_ns = now_ns
            self._hand_over(file, now_ns)

    # -- inside ------------------------------------------------------------------------------------

    def _look(self, now_ns: int) -> bool:
        """Whether the file is still of what is in the slot."""
        file, slot = self._file, self._slot()
        if file is None:
            return False
        if file.disk.error is not None:
            why = file.disk.error.strerror or str(file.disk.error)
            self._close_broken(file, f"the recording ended: {file.path}: {why}")
            return False
        if slot.signal is None:
            self._detach(file, "the device was closed", again=False)
            return False
        if slot.signal is not file.signal or slot.grid is not file.grid:
            self._detach(file, "another device, or other channels", again=True)
            return False
        return True

    def _note_turn(self, file: _File) -> None:
        """How far the oracle has come, and what it knew of when it did."""
        oracle = self._oracle
        until = oracle.next
        if until is None or until == file.until:
            return
        if file.until is None:
            if frame_of(until) >= file.whole_frame:
                oracle.reset_session()
                file.entries.append(OracleState(until, *oracle.memory))
                self._note_base(file, until)
                file.until = until
            return
        self._note_base(file, file.until)  # what is new is so since before these instants
        file.entries.append(Turn(file.window, until))
        file.until = until

    def _note_base(self, file: _File, instant: int) -> None:
        """What the oracle goes by, where that is new."""
        baseline = self._oracle.baseline
        if file.until is None or baseline is not file.baseline:
            file.entries.append(rest_of(baseline, instant))
        if file.until is None:
            file.entries.append(LeftOut(instant, tuple(sorted(self._oracle.left_out))))
        file.baseline = baseline

    def _hand_over(self, file: _File, now_ns: int, end: str | None = None) -> None:
        """What is new goes to the disk; what the disk has no room for waits, and the rings with
        it."""
        file.flush()
        if file.held and end is None:
            return
        if file.signal.oldest > file.next or file.grid.oldest > file.grid_next:
            message = f"the recording ended: {file.path}: the disk or the loop can't keep up"
            self._close_broken(file, message)
            return
        index, t_ns, flags, values = read_signal(file.signal, file.next, file.signal.next)
        if len(index):
            file.next = int(index[-1]) + 1
        frames = self._frames(file)
        if now_ns - file.tied_ns >= _TIE_NS and len(index):
            file.tied_ns = now_ns
            self._tie(file, int(index[-1]), int(t_ns[-1]), frames)
        entries, file.entries = tuple(file.entries), []
        markers, file.markers = tuple(file.markers), []
        file.held.append(Block(index, t_ns, flags, values, entries, markers, end))
        file.flush()

    def _frames(self, file: _File) -> Any:
        until = file.grid.next
        frames = GridReader(file.grid, deadline_ns=0).frames(file.grid_next, until)
        if len(frames):
            file.entries.append(
                Frames(
                    int(frames["index"][0]),
                    frames["flags"].astype("<u4").tobytes(),
                    frames["native"].astype("<i8").tobytes(),
                    frames["fraction"].astype("<f8").tobytes(),
                )
            )
            file.grid_next = int(frames["index"][-1]) + 1
        return frames

    def _tie(self, file: _File, index: int, t_ns: int, frames: Any) -> None:
        grid: tuple[int | None, int | None, float | None] = (None, None, None)
        placed = frames[frames["native"] != NO_POSITION]
        if len(placed):
            last = placed[-1]
            grid = int(last["index"]), int(last["native"]), float(last["fraction"])
        file.entries.append(Tie(index, None if t_ns == NO_TIME else t_ns, *grid))

    async def _begin(self) -> _File:
        """A new file for what is in the slot. Raises RecordError."""
        slot = self._slot()
        spec, analysis = slot.spec, slot.source.analysis
        if spec is None or slot.signal is None or analysis is None:
            raise RecordError("there is no device on 7069", hint="phantomctl device open ADDRESS")
        config = self._config()
        resolution = spec.resolution or (1.0,) * len(spec.labels)
        channels = [
            Channel(label, "µV", scale)
            for label, scale in zip(spec.labels, resolution, strict=True)
        ]
        channels += [Channel(name, _unit(name)) for name in spec.aux]
        signal, grid = slot.signal, slot.grid
        wall_ns = wall_offset_ns()
        first, grid_next = signal.next, grid.next
        head = Head(
            version=VERSION,
            daemon=f"phantomd/{__version__}",
            unix_ns=now_ns() + wall_ns,
            wall_offset_ns=wall_ns,
            device=spec,
            config=config,
            first=first,
            begun=analysis.begun,
            grid_t0_ns=self._grid_t0_ns(),
            due_after_ns=self._due_after_ns(slot),
        )
        stem = self._name or time.strftime("%Y%m%d_%H%M%S")
        try:
            triplet = await beside(self._create, stem, channels, head)
        except OSError as error:
            raise RecordError(
                f"{error.filename}: {error.strerror}",
                hint="another name, more room, or another state directory (--state)",
            ) from error
        if self._slot().signal is not signal or self._slot().grid is not grid:
            await beside(triplet.close)
            raise RecordError("the device changed meanwhile", hint="start again")
        self._number += 1
        self._file = _File(slot, triplet, head, grid_next)
        return self._file

    def _create(self, stem: str, channels: list[Channel], head: Head) -> Triplet:
        """Never over another. Raises OSError."""
        directory = head.config.state_dir / DIRECTORY
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = self._number
        while True:
            path = directory / f"{stem}{f'_{number}' if number > 1 else ''}.eeg"
            try:
                return Triplet(path, channels, head.device.rate_hz, head.unix_ns, encode(head))
            except FileExistsError:
                if self._name is not None and self._number == 1:
                    raise
                number += 1

    def _due_after_ns(self, slot: Slot) -> int:
        frames = GridReader(slot.grid, deadline_ns=0).frames(slot.grid.next - 1, slot.grid.next)
        if not len(frames):
            raise RecordError("the grid has not begun", hint="try again")
        return int(frames["due_ns"][0] - frames["t_ns"][0])

    async def _end(self, file: _File, reason: str) -> None:
        """Hands over what is left, and waits until it is on the disk."""
        self._note_turn(file)
        self._hand_over(file, now_ns(), reason)
        if self._file is file:
            self._file = None
        await self._finish(file, reason)

    async def _finish(self, file: _File, reason: str) -> None:
        deadline_s = time.monotonic() + _JOIN_S
        while file.held and file.disk.error is None and time.monotonic() < deadline_s:
            await asyncio.sleep(EVERY_NS * 1e-9)
            file.flush()
        if file.held:
            file.disk.abandon()
        await beside(file.disk.join, _JOIN_S)
        if file.disk.error is None and not file.held:
            self._tell("info", f"recorded {file.path}", file, reason=reason)

    def _detach(self, file: _File, reason: str, again: bool) -> None:
        """It ends here and now: what comes next is of another. ``again``: in another file."""
        self._note_turn(file)
        self._hand_over(file, now_ns(), reason)
        if self._file is not file:
            return
        self._file = None
        task = asyncio.get_running_loop().create_task(self._change(file, reason, again))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _change(self, file: _File, reason: str, again: bool) -> None:
        async with self.changing:
            await self._finish(file, reason)
            if not again:
                return
            try:
                begun = await self._begin()
            except PhantomError as error:
                self._tell("alert", f"the recording ended: {error}", file)
                return
        self._tell("info", f"the recording goes on in {begun.path}", begun)

    def _close_broken(self, file: _File, message: str) -> None:
        """No more of it: what is written stays."""
        self._file = None
        file.disk.abandon()
        self._tell("alert", message, file)

    def _tell(self, level: str, message: str, file: _File, **fields: Any) -> None:
        kind = "alert" if level == "alert" else "session"
        self._emit(
            Event(kind, level, message, fields={"path": str(file.path), **fields})  # type: ignore[arg-type]
        )


_ENDINGS = (".eeg", ".vhdr", ".vmrk", ".clock")


def _unit(name: str) -> str:
    return _AUX_UNITS.get(name[-2:], "n/a")
