"""The thread that writes a recording: blocks and marks in, files out. It may be slow, it may fail.

The loop hands over what it has and never waits: ``put`` says whether there was room. What fails is
kept in ``error`` for the loop to find; nothing is written after it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.contracts import Marker
from phantomd.records.brainvision import Triplet
from phantomd.records.clockmap import End, Entry, Gap, Note, Samples, encode

#: A tenth of a second each; behind them the signal ring has 16 s more.
BLOCKS = 64
#: How far back a marker may lie to find its very sample.
SEEN_BLOCKS = 300
LOST, BRIDGED, RESET = 1, 2, 4
NO_TIME = -(2**63)
_CUT = "cut short"


class Block(msgspec.Struct, frozen=True):
    """Samples in order, and what else came with them, in order."""

    index: npt.NDArray[np.uint64]
    t_ns: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float64]
    entries: tuple[Entry, ...] = ()
    markers: tuple[Marker, ...] = ()
    #: The last: why there are no more.
    end: str | None = None


class Disk:
    """Belongs to the loop but for what ``_run`` does."""

    def __init__(self, triplet: Triplet, first: int, n_channels: int) -> None:
        self._triplet = triplet
        self._first = first
        self._next = first
        self._n_channels = n_channels
        self._queue: queue.Queue[Block] = queue.Queue(BLOCKS)
        self._waiting: list[Marker] = []
        #: Index and time of the newest samples, a block each.
        self._seen: deque[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = deque(
            maxlen=SEEN_BLOCKS
        )
        #: The errno and the text of what failed.
        self.error: OSError | None = None
        self._abandoned = threading.Event()
        self.rows = 0
        self.inexact = 0
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, block: Block) -> bool:
        try:
            self._queue.put_nowait(block)
        except queue.Full:
            return False
        return True

    def abandon(self) -> None:
        """There will be no more, and what is waiting is not waited for."""
        self._abandoned.set()
        none = np.zeros(0, np.uint64)
        times, flags = np.zeros(0, np.int64), np.zeros(0, np.uint32)
        self.put(Block(none, times, flags, np.zeros((0, 0)), end=_CUT))

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended: blocks, and is called beside the loop."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                block = self._queue.get()
                self._write(block)
                if block.end is not None or self._abandoned.is_set():
                    self._finish(block.end or _CUT)
                    return
        except OSError as error:
            try:
                self._triplet.cut()
            except OSError as again:
                error.add_note(f"and its last row is cut: {again.strerror}")
            self.error = error
        finally:
            self._triplet.close()

    def _finish(self, reason: str) -> None:
        self._place(True)
        triplet = self._triplet
        triplet.note(encode(End(reason, triplet.rows, triplet.inexact)))
        triplet.sync()

    def _write(self, block: Block) -> None:
        for begin, end in runs(block.index):
            self._write_run(block, begin, end)
        for entry in block.entries:
            self._triplet.note(encode(entry))
        known = block.t_ns != NO_TIME
        if known.any():
            self._seen.append((block.index[known], block.t_ns[known]))
        self._waiting += block.markers
        self._place(False)
        self.rows, self.inexact = self._triplet.rows, self._triplet.inexact

    def _write_run(self, block: Block, begin: int, end: int) -> None:
        """Samples whose indices follow each other. A loss is marked before its rows are there: no
        kill may leave rows of a bridge that nothing tells from samples."""
        first = int(block.index[begin])
        if first > self._next:  # gone before anybody saw them
            self._tell_gap(self._next, first - self._next, b"")
            self._triplet.append_lost(first - self._next)
        flags, values = block.flags[begin:end], block.values[begin:end]
        lost = (flags & LOST) > 0
        bridged = (flags & BRIDGED) > 0
        for at, n in _stretches(lost.astype(np.int8) + bridged):
            bridge = values[at : at + n, : self._n_channels] if bridged[at] else None
            kept = b"" if bridge is None else bridge.astype("<f8").tobytes()
            self._tell_gap(first + at, n, kept)
        self._triplet.append(values, lost)
        self._next = first + len(flags)
        times = block.t_ns[begin:end].astype("<i8").tobytes()
        self._triplet.note(encode(Samples(first, times, flags.astype(np.uint8).tobytes())))
        for at in np.flatnonzero(flags & RESET).tolist():
            if first + at > self._first:
                self._triplet.mark_segment(first + at - self._first)

    def _tell_gap(self, first: int, n: int, bridge: bytes) -> None:
        self._triplet.note(encode(Gap(first, n, bridge)))
        self._triplet.mark_lost(first - self._first, n, bool(bridge))

    def _place(self, at_the_end: bool) -> None:
        """Markers go to the sample that is nearest, once there is one past them."""
        late: list[Marker] = []
        for marker in sorted(self._waiting, key=lambda marker: marker.t_ns):
            index = self._index_of(marker.t_ns, at_the_end)
            if index is None:
                late.append(marker)
                continue
            row = max(0, index - self._first)
            self._triplet.mark(marker.label, row)
            note = Note(row, marker.t_ns, marker.source, marker.label, marker.payload)
            self._triplet.note(encode(note))
        self._waiting = late

    def _index_of(self, t_ns: int, at_the_end: bool) -> int | None:
        """None: its sample is still to come."""
        if not self._seen:
            return self._first if at_the_end else None
        for index, times in reversed(self._seen):
            if times[0] <= t_ns or index is self._seen[0][0]:
                if times[-1] < t_ns and index is self._seen[-1][0] and not at_the_end:
                    return None
                return int(index[np.argmin(np.abs(times - t_ns))])
        return None


def runs(index: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
    """[begin, end) of what follows each other."""
    if not len(index):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(index.astype(np.int64)) != 1) + 1).tolist(), len(index)]
    return list(pairwise(cuts))


def _stretches(kinds: npt.NDArray[np.int8]) -> list[tuple[int, int]]:
    """(first, length) of what is lost, each kind of loss apart."""
    cuts = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return [(first, until - first) for first, until in pairwise(cuts) if kinds[first]]
