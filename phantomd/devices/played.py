"""Where the rows of a played recording come from: a file, or an intake journal.

A source gives blocks of rows in the order of playing, until there are none; it is read by one
thread beside the event loop, never in the sample path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import DeviceSpec
from phantomd.core import play
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.devices.registry import replay_driver
from phantomd.errors import DeviceError, JournalError
from phantomd.formats.base import Recording
from phantomd.formats.journal import Kind, records, take_sample

_NATIVE_LOST = 1
_NATIVE_RESET = 2
_RING_SLOTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as ``PlayDriver.put`` takes them."""

    values: NDArray[np.float64]
    at_ns: NDArray[np.int64]
    flags: NDArray[np.uint32]
    behind: NDArray[np.uint32]
    device_ns: NDArray[np.int64]


class PlayedMarker(msgspec.Struct, frozen=True):
    """At row ``row`` in the order of playing, ``at_ns`` after the start."""

    row: int
    at_ns: int
    label: str
    payload: dict[str, Any] | None = None


class Source(Protocol):
    """``markers``: those of the blocks that were read, by row; whoever plays them takes them."""

    markers: deque[PlayedMarker]

    def next(self, most: int) -> Block | None:
        """The next rows, at most so many; None after the last."""


class RecordingSource:
    """Chosen channels of a recording from sample ``start`` of its timeline on."""

    def __init__(
        self,
        recording: Recording,
        columns: Sequence[int],
        n_eeg: int,
        start: int,
        speed: float,
        loop: bool,
    ) -> None:
        self.markers: deque[PlayedMarker] = deque()
        self._recording = recording
        self._columns = list(columns)
        self._n_eeg = n_eeg
        self._speed = speed
        self._loop = loop
        self._end = recording.n_samples
        self._start = self._first_that_is_there(start)
        self._at = self._start
        self._row = 0
        markers = recording.markers
        self._places = np.array([marker.index for marker in markers], np.int64)
        self.n_outside = int(np.sum((self._places < self._start) | (self._places >= self._end)))

    def _first_that_is_there(self, start: int) -> int:
        """Playing begins with a sample: row 0 is sample 0 of the device."""
        while start < self._end:
            block = self._recording.read(start, min(4096, self._end - start))
            there = np.flatnonzero(~self._lost(block))
            if len(there):
                return start + int(there[0])
            start += len(block)
        raise DeviceError(
            f"{self._recording.path} has no whole sample from {start / self._recording.rate_hz:g} s"
            " on",
            hint="start_s= is in seconds from its first sample; channels= leaves others out",
        )

    def _lost(self, block: NDArray[np.float64]) -> NDArray[np.bool_]:
        """A sample that lacks one EEG channel is lost: a NaN would stay in every filter."""
        return np.asarray(~np.isfinite(block[:, self._columns[: self._n_eeg]]).all(axis=1))

    def next(self, most: int) -> Block | None:
        if self._at >= self._end:
            if not self._loop:
                return None
            self._at = self._start
        n = min(most, self._end - self._at)
        block = self._recording.read(self._at, n)
        row = self._row + np.arange(n)
        flags = np.where(self._lost(block), play.LOST, 0).astype(np.uint32)
        period_ns = 1e9 / (self._recording.rate_hz * self._speed)
        first, last = np.searchsorted(self._places, [self._at, self._at + n])
        for k in range(int(first), int(last)):
            marker = self._recording.markers[k]
            offset = marker.index - self._at
            flags[offset] |= play.MARKED
            apart_s = marker.time_s - marker.index / self._recording.rate_hz
            self.markers.append(
                PlayedMarker(
                    self._row + offset,
                    round((self._row + offset) * period_ns + apart_s / self._speed * 1e9),
                    marker.label,
                    _payload(marker.payload, marker.duration_s),
                )
            )
        self._at += n
        self._row += n
        return Block(
            # As float32 holds it: what is analysed is what a recording of it can hold.
            block[:, self._columns].astype(np.float32).astype(np.float64, order="C"),
            np.rint(row * period_ns).astype(np.int64),
            flags,
            np.zeros(n, np.uint32),
            np.full(n, play.NO_TIME, np.int64),
        )


def _payload(payload: dict[str, Any], duration_s: float) -> dict[str, Any] | None:
    return {**payload, **({"duration_s": duration_s} if duration_s else {})} or None


class _PlanSlot(msgspec.Struct, frozen=True):
    number: int
    spec: DeviceSpec | None = None


class _Plan(msgspec.Struct, frozen=True):
    slots: tuple[_PlanSlot, ...]


class JournalSource:
    """What slot 0's device took in, at its arrival spacing: bytes go through its parser again.

    Where the device came back with the same channels the rows go on with a reset; where another one
    took its place they end.
    """

    def __init__(self, path: Path, speed: float) -> None:
        """Raises JournalError for a file that is none, or in which slot 0 had no device."""
        self.markers: deque[PlayedMarker] = deque()
        self._path = path
        self._speed = speed
        self.spec = self._first_spec()
        self._blocks = self._read()
        self._left: Block | None = None
        self._zero_ns: int | None = None

    def _first_spec(self) -> DeviceSpec:
        for kind, _, _, body in records(self._path):
            if kind is Kind.PLAN:
                for slot in msgspec.msgpack.decode(body, type=_Plan).slots:
                    if slot.number == 0 and slot.spec is not None:
                        return slot.spec
        raise JournalError(
            f"{self._path}: slot 0 had no device", hint="it was written while nothing streamed"
        )

    def next(self, most: int) -> Block | None:
        block = self._left if self._left is not None else next(self._blocks, None)
        self._left = None
        if block is None:
            return None
        if len(block.flags) > most:
            self._left = _part(block, most, None)
            block = _part(block, 0, most)
        return block

    def _read(self) -> Iterator[Block]:
        feed: _Feed | None = None
        states: list[tuple[Kind, bytes]] = []
        last_ns = 0
        for kind, slot, t_ns, body in records(self._path):
            if kind is Kind.PLAN:
                if self._other_device(body):
                    return
                continue
            if slot != 0 or kind not in _OF_DEVICE:
                continue
            if kind in (Kind.INTAKE_STATE, Kind.DRIVER_STATE):
                states.append((kind, body))
                continue
            if states:
                feed = _Feed(self.spec, states)
                states = []
            if feed is None:
                continue
            feed.take(kind, t_ns, body)
            block = feed.block()
            if block is None:
                continue
            if self._zero_ns is None:
                self._zero_ns = int(block.at_ns[0])
            at_ns = np.maximum(block.at_ns - self._zero_ns, last_ns)
            last_ns = int(at_ns[-1])
            yield Block(
                block.values,
                np.rint(at_ns / self._speed).astype(np.int64),
                block.flags,
                block.behind,
                block.device_ns,
            )

    def _other_device(self, body: bytes) -> bool:
        for slot in msgspec.msgpack.decode(body, type=_Plan).slots:
            if slot.number == 0 and slot.spec is not None:
                return _kind_of(slot.spec) != _kind_of(self.spec)
        return False


_OF_DEVICE = frozenset(
    {
        Kind.BYTES,
        Kind.SAMPLE,
        Kind.PACKET,
        Kind.RESET,
        Kind.INTAKE_STATE,
        Kind.DRIVER_STATE,
    }
)


class _Feed:
    """One opening of the device: its records through its parser and an intake."""

    def __init__(self, spec: DeviceSpec, states: Sequence[tuple[Kind, bytes]]) -> None:
        self._n_values = len(spec.labels) + len(spec.aux)
        first = next(
            (Intake.next_of(body) for kind, body in states if kind is Kind.INTAKE_STATE), 0
        )
        self._ring = Ring(NATIVE_HEAD_WORDS + self._n_values, _RING_SLOTS, first=first)
        self._intake = Intake(self._ring, spec.rate_hz, self._n_values, spec.counter_modulus)
        self._driver = replay_driver(spec, self._intake)
        for kind, body in states:
            if kind is Kind.INTAKE_STATE:
                self._intake.state = body
            elif self._driver is not None:
                self._driver.state = body
        self._next = first
        self._begun = False

    def take(self, kind: Kind, t_ns: int, body: bytes) -> None:
        if kind is Kind.BYTES and self._driver is not None:
            self._driver.feed(body, t_ns)
        elif kind in (Kind.SAMPLE, Kind.PACKET):
            take_sample(self._intake, kind, t_ns, body)
        elif kind is Kind.RESET:
            self._intake.reset()

    def block(self) -> Block | None:
        """What the last record brought."""
        first = max(self._next, self._ring.oldest)
        self._next = self._ring.next
        if first == self._next:
            return None
        frames = np.stack([self._ring.read(index) for index in range(first, self._next)])
        lost = frames[:, 2] & _NATIVE_LOST
        reset = frames[:, 2] & _NATIVE_RESET
        flags = np.where(lost != 0, play.LOST, 0) | np.where(reset != 0, play.RESET, 0)
        if not self._begun:
            flags[np.flatnonzero(lost == 0)[0]] |= play.RESET
            self._begun = True
        return Block(
            np.ascontiguousarray(frames[:, NATIVE_HEAD_WORDS:]).view(np.float64),
            frames[:, 0].astype(np.int64),
            flags.astype(np.uint32),
            (frames[:, 2] >> 32).astype(np.uint32),
            frames[:, 1].astype(np.int64),
        )


def _kind_of(spec: DeviceSpec) -> tuple[object, ...]:
    return spec.kind, spec.labels, spec.aux, spec.rate_hz, spec.counter_modulus


def _part(block: Block, first: int, until: int | None) -> Block:
    return Block(
        block.values[first:until],
        block.at_ns[first:until],
        block.flags[first:until],
        block.behind[first:until],
        block.device_ns[first:until],
    )
