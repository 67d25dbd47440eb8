"""A daemon of its own for a bench: another process, free ports, its own state."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phantomd.client import Control
from phantomd.errors import NoDaemon

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class LiveDaemon:
    """A running daemon and how to ask about it."""

    process: subprocess.Popen[bytes]
    control_path: Path
    base_port: int

    def call(self, method: str, **params: Any) -> Any:
        with contextlib.closing(Control(self.control_path)) as control:
            return control.call(method, **params)

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * _PAGE_KB / 1024


@contextlib.contextmanager
def daemon(*arguments: str, within_s: float = 60.0) -> Iterator[LiveDaemon]:
    """Runs phantomd until the block ends; ready when it says so."""
    with tempfile.TemporaryDirectory(prefix="phantomd-bench-") as directory:
        control_path = Path(directory) / "control.sock"
        base_port = free_base_port()
        command = [
            *(sys.executable, "-m", "phantomd.cli.phantomd", "--state", directory),
            *("--control", str(control_path), "--base-port", str(base_port), *arguments),
        ]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            live = LiveDaemon(process, control_path, base_port)
            deadline_s = time.monotonic() + within_s
            while not _ready(live):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise RuntimeError(
                        f"phantomd did not get ready (exit status {process.poll()}): {command}"
                    )
                time.sleep(0.02)
            yield live
        finally:
            process.terminate()
            process.wait(10)


def free_base_port() -> int:
    """A base port whose next thirteen are free. Another bench at the same time begins elsewhere."""
    for base in range(20_000 + os.getpid() % 120 * 100, 60_000, 100):
        sockets: list[socket.socket] = []
        try:
            for port in range(base, base + 13):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _ready(live: LiveDaemon) -> bool:
    try:
        return bool(live.call("status")["ready"])
    except NoDaemon:
        return False
