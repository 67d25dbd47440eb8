"""What a child writes to its stdout and stderr, in the daemon's log: bounded in length and rate."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time

log = logging.getLogger(__name__)

LINE_BYTES = 500
#: Lines a minute; what is beyond is counted.
LINES = 60
WINDOW_S = 60.0
#: A child that writes on and on is read slowly.
PAUSE_S = 0.1


def log_lines(process: subprocess.Popen[bytes], name: str) -> None:
    """From a thread of its own, until nobody can write there any more."""
    threading.Thread(target=_read, args=(process, name), name="child-log", daemon=True).start()


def _read(process: subprocess.Popen[bytes], name: str) -> None:
    assert process.stdout is not None
    lines = Lines(name, process.pid)
    with process.stdout as pipe:
        while data := os.read(pipe.fileno(), 1 << 16):
            if lines.take(data, time.monotonic()):
                time.sleep(PAUSE_S)
    lines.end()


class Lines:
    """Whole lines to the log, at most LINES a minute, LINE_BYTES each."""

    def __init__(self, name: str, pid: int) -> None:
        self._prefix = f"driver of {name} [{pid}]"
        self._rest = b""
        self._since_s = -WINDOW_S
        self._said = self._dropped = 0

    def take(self, data: bytes, now_s: float) -> bool:
        """Whether there is too much of it."""
        if now_s - self._since_s >= WINDOW_S:
            self._tell_dropped()
            self._since_s, self._said = now_s, 0
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_BYTES]
        for line in lines:
            self._say(line)
        return self._said >= LINES

    def end(self) -> None:
        self._say(self._rest)
        self._tell_dropped()

    def _say(self, line: bytes) -> None:
        text = line[:LINE_BYTES].decode(errors="replace").strip()
        if not text:
            return
        if self._said >= LINES:
            self._dropped += 1
            return
        self._said += 1
        log.info("%s: %s", self._prefix, "".join(c if c.isprintable() else "·" for c in text))

    def _tell_dropped(self) -> None:
        if self._dropped:
            log.warning("%s: %d more lines were not logged", self._prefix, self._dropped)
            self._dropped = 0
