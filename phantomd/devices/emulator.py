"""A Cyton on a pseudo-terminal: ``phantomctl emulate cyton --from FILE --faults SPEC``.

The board answers the commands of firmware v3 and plays a recording at 250 Hz on an absolute clock:
packet n is sent at ``t0_ns + n · period``, or at once when that has passed. The radio can be made
as bad as wished, from a seed, and keeps a log of what it did. It never waits for a reader: what
finds the buffer full is lost, and counted.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import math
import os
import random
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from phantomd.core.cyton import encode
from phantomd.devices.cyton_board import Board
from phantomd.devices.radio_faults import Played, RadioFaults, parse_faults
from phantomd.formats.openbci import read_openbci

AtEnd = Literal["stop", "loop", "hangup"]

G_PER_COUNT = 0.002 / 16
#: So long does the loop sleep at most, that ``stop`` is heard.
WAIT_S = 0.05
#: What a sleep may oversleep on an idle machine (timer slack and waking up).
SPIN_NS = 200_000
#: So long is a reader given to take the end of the recording.
TAKE_NS = 1_000_000_000


class CytonEmulator:
    """Start with ``with``: a thread serves the pty until the block ends, or the recording hangs up.

    ``uv`` float64[n, 8], or [n, 16] for one with a Daisy; ``accel_g`` float64[n, 3] or None;
    ``kohm``: of its electrodes. ``path`` is the terminal to open (another one after the schedule
    unplugged it: ``replugged(path)`` is told), ``t0_ns`` the CLOCK_MONOTONIC instant of packet 0
    once ``streaming`` is set. With a schedule of faults the first start counts: packets of a stream
    that is started again go on in its time.
    """

    def __init__(
        self,
        uv: NDArray[np.float64],
        accel_g: NDArray[np.float64] | None = None,
        *,
        faults: str = "",
        rate_hz: float = 250.0,
        at_end: AtEnd = "stop",
        seed: int = 0,
        kohm: tuple[float, ...] = (),
        replugged: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._faults = parse_faults(faults)
        self._nominal_ns = 1e9 / rate_hz
        self._period_ns = self._nominal_ns / (1 + self._faults.ppm * 1e-6)
        self._replugged = replugged
        self._base = 0
        self._back_ns = 0
        self._at_end = at_end
        self._seed = seed
        self._board = Board(uv, kohm)
        self._aux = _aux(accel_g, len(uv))
        self._radio = RadioFaults(self._faults, random.Random(seed), self._nominal_ns)
        self._unsent = b""
        self._overruns = self._next = 0
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.streaming = threading.Event()
        self.t0_ns = 0
        self._master = self._slave = -1
        self.path = self._plug_in()

    def _plug_in(self) -> str:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        return os.ttyname(self._slave)

    def __enter__(self) -> CytonEmulator:
        self._thread = threading.Thread(target=self.serve, name="cyton-emulator", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Hangs up; returns when the thread has ended."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        else:
            self._hang_up()
            self._ended.set()

    @property
    def log(self) -> list[Played]:
        """Each fault that was played, in order: what, and the number of the packet."""
        return list(self._radio.log)

    @property
    def alive(self) -> bool:
        """Whether it is plugged in, or will be again."""
        return self._master >= 0 or self._back_ns > 0

    @property
    def period_ns(self) -> float:
        """Between two packets, with the drift that was asked for."""
        return self._period_ns

    def wait(self, within_s: float) -> bool:
        """Whether it has ended by itself, or ends within this time."""
        return self._ended.wait(within_s)

    @property
    def sent(self) -> int:
        """Packets whose time came since the stream began, lost ones included."""
        return self._next - self._base

    @property
    def board(self) -> Board:
        return self._board

    @property
    def overruns(self) -> int:
        """Packets lost because nobody read."""
        return self._overruns

    def serve(self) -> None:
        """Serves until stopped, or hung up for good."""
        try:
            while not self._stopping.is_set() and (self._master >= 0 or self._back_ns):
                if self._master < 0:
                    self._wait_for_the_plug()
                    continue
                due_ns = self._next_due_ns()
                readable, _, _ = select.select([self._master], [], [], _sleep_s(due_ns))
                if readable:
                    self._listen()
                elif due_ns is not None:
                    # A radio's crystal has no scheduler: the last moment is not slept.
                    while 0 < due_ns - time.monotonic_ns() < SPIN_NS:
                        pass
                self._play(time.monotonic_ns())
        finally:
            self._hang_up()
            self._ended.set()

    def _wait_for_the_plug(self) -> None:
        left_s = (self._back_ns - time.monotonic_ns()) * 1e-9
        if self._stopping.wait(max(0.0, left_s)):
            return
        self._back_ns = 0
        self._unsent = b""
        self._board.hear(ord("v"), time.monotonic_ns())
        self.path = self._plug_in()
        self._replugged(self.path)

    def _next_due_ns(self) -> int | None:
        if not self._board.streaming or self._next >= self._last:
            return None
        return self.t0_ns + int(self._radio.ready_ns(self._next))

    @property
    def _last(self) -> int:
        return sys.maxsize if self._at_end == "loop" else self._base + self._board.packets

    def _listen(self) -> None:
        try:
            said = os.read(self._master, 4096)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            return
        was = self._board.streaming
        for byte in said:
            self._answer(self._board.hear(byte, time.monotonic_ns()))
            if self._board.streaming and not was:
                self._begin()
            was = self._board.streaming

    def _begin(self) -> None:
        now_ns = time.monotonic_ns()
        if self._radio.schedule and self.streaming.is_set():
            while self.t0_ns + self._radio.taken_ns(self._next) <= now_ns:
                self._next += 1
            self._base = self._next
            return
        self._next = self._base = 0
        self._radio = RadioFaults(self._faults, random.Random(self._seed), self._nominal_ns)
        self.t0_ns = now_ns + int(self._period_ns)
        self.streaming.set()

    def _play(self, now_ns: int) -> None:
        self._answer(self._board.expire(now_ns))
        self._flush()
        while self._board.streaming and self._next < self._last:
            if self.t0_ns + self._radio.ready_ns(self._next) > now_ns:
                return
            unplugged = self._radio.unplugged(self._radio.taken_ns(self._next) * 1e-9)
            if unplugged is not None:
                self._radio.note("unplug", self._next)
                if math.isfinite(unplugged.end_s):
                    self._back_ns = self.t0_ns + int(unplugged.end_s * 1e9)
                self._hang_up()
                return
            self._send(self._next)
            self._next += 1
        if self._board.streaming and self._at_end == "hangup" and self._is_taken(now_ns):
            self._hang_up()

    def _is_taken(self, now_ns: int) -> bool:
        """Whether the recording has been read to its end: a hang-up discards what has not."""
        over_ns = now_ns - self.t0_ns - self._radio.ready_ns(self._last)
        if over_ns < 0 or (self._unsent and over_ns < TAKE_NS):
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(self._slave, termios.FIONREAD, waiting)
        return waiting[0] == 0 or over_ns >= TAKE_NS

    def _send(self, absolute: int) -> None:
        number = absolute - self._base
        taken_ns = self._radio.taken_ns(absolute)
        if absolute in self._radio.markers:
            self._board.hear_marker("M")
        aux, stop = self._board.aux(
            self._aux[self._board.row(number)], number, int(taken_ns / 1_000_000)
        )
        counts = self._radio.spoil_counts(self._board.packet_counts(number), absolute)
        packet = encode(
            np.array([number & 255], np.uint8),
            np.ascontiguousarray(counts)[np.newaxis],
            aux[np.newaxis],
            stop,
        )
        data = self._radio.spoil(packet, absolute, taken_ns * 1e-9)
        if data and not self._transmit(data):
            self._overruns += 1
            self._radio.note("overrun", absolute)

    def _answer(self, text: bytes) -> None:
        if text:
            self._unsent += text
            self._flush()

    def _transmit(self, data: bytes) -> bool:
        """A packet goes out whole or not at all, as from a radio: what the terminal takes no more
        of goes first next time."""
        if not self._flush():
            return False
        self._unsent = data
        self._flush()
        if len(self._unsent) == len(data):
            self._unsent = b""
            return False
        return True

    def _flush(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            if self._unsent:
                self._unsent = self._unsent[os.write(self._master, self._unsent) :]
        return not self._unsent

    def _hang_up(self) -> None:
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)
        self._slave = self._master = -1


def _sleep_s(due_ns: int | None) -> float:
    if due_ns is None:
        return WAIT_S
    return min(WAIT_S, max(0.0, (due_ns - SPIN_NS - time.monotonic_ns()) * 1e-9))


def _aux(accel_g: NDArray[np.float64] | None, n: int) -> NDArray[np.uint8]:
    """uint8[n, 6]: big-endian x, y, z; zeros between readings."""
    if accel_g is None:
        return np.zeros((n, 6), np.uint8)
    raw = np.clip(np.rint(accel_g / G_PER_COUNT), -32768, 32767).astype(">i2")
    return raw.view(np.uint8).reshape(n, 6)


def run(
    file: Path,
    *,
    faults: str = "",
    link: Path | None = None,
    at_end: AtEnd = "stop",
    rate_hz: float = 250.0,
    seed: int = 0,
    stop: threading.Event | None = None,
    out: TextIO | None = None,
) -> int:
    """The command: serves until interrupted, ``stop`` is set, or the recording hangs up.

    One JSON line each to ``out``: ``path`` at once, ``t0_ns`` when streaming starts, ``sent``,
    ``overruns`` and ``faults`` at the end. ``link``: a symbolic link to the terminal, removed at
    the end. Raises UsageError, RecordingError, OSError.
    """
    to = out or sys.stdout
    recording = read_openbci(file)
    emulator = CytonEmulator(
        recording.uv,
        recording.accel_g,
        faults=faults,
        rate_hz=rate_hz,
        at_end=at_end,
        seed=seed,
        replugged=lambda path: _relink(link, path),
    )
    with _linked(link, emulator.path), emulator, contextlib.suppress(KeyboardInterrupt):
        _say(to, {"path": emulator.path, "link": str(link) if link else None})
        told_ns = 0
        while emulator.alive and not (stop and stop.is_set()):
            emulator.streaming.wait(WAIT_S)
            if emulator.t0_ns != told_ns:
                told_ns = emulator.t0_ns
                _say(to, {"t0_ns": told_ns, "period_ns": emulator.period_ns})
            emulator.wait(WAIT_S)
    faults_played = [{"what": played.what, "packet": played.packet} for played in emulator.log]
    _say(to, {"sent": emulator.sent, "overruns": emulator.overruns, "faults": faults_played})
    return 0


def _say(out: TextIO, line: dict[str, object]) -> None:
    print(json.dumps(line), file=out, flush=True)


def _relink(link: Path | None, path: str) -> None:
    """The link leads to the new terminal, in one step."""
    if link is not None:
        scratch = link.with_name(link.name + ".new")
        scratch.symlink_to(path)
        scratch.replace(link)


@contextlib.contextmanager
def _linked(link: Path | None, path: str) -> Iterator[None]:
    if link is None:
        yield
        return
    if link.is_symlink():
        link.unlink()
    link.symlink_to(path)
    try:
        yield
    finally:
        link.unlink(missing_ok=True)
