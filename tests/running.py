"""A daemon in a process of its own, and subscribers that hold it to what it promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from live import FRAME, EegClient
from served import WAIT_S, connect, read, read_all

from phantomd.contracts import GRID_NS, EegHeader, Flag
from phantomd.control import Control

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
#: A cold start beside other people's work.
START_S = 90.0

#: Modules are read before the privileges go: the interpreter may lie where only root can look.
_AS_NOBODY = f"""
import difflib, os, resource, shutil, sys
import scipy.signal, uvloop
import phantomd.cli.phantomd, phantomd.devices.simulator, phantomd.devices.cyton
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
phantomd.cli.phantomd.main(sys.argv[1:])
"""


def command(*arguments: str, unprivileged: bool = False, namespace: str = "") -> list[str]:
    """``namespace``: the network namespace to run in (root)."""
    if namespace:
        return ["ip", "netns", "exec", namespace, *command(*arguments)]
    how = ["-c", _AS_NOBODY] if unprivileged else ["-m", "phantomd.cli.phantomd"]
    return [sys.executable, *how, *arguments]


def fails_to_start(*arguments: str) -> tuple[int, str]:
    """Exit status and what was said, of a daemon that is not to come up."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=START_S, env=_environment()
    )
    return done.returncode, done.stderr


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Running:
    """``with Running(tmp_path, "--device", …) as daemon``: ready when the block begins (the daemon
    says so as it does to systemd), killed after it if need be."""

    def __init__(
        self, directory: Path, *arguments: str, unprivileged: bool = False, namespace: str = ""
    ) -> None:
        self.control_path = directory / "control.sock"
        self.state = directory / "state"
        self.log_path = directory / "log"
        if unprivileged and os.getuid() == 0:
            directory.chmod(0o777)
            for parent in directory.parents[:-1]:
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.settimeout(0.25)
        notify = directory / "notify.sock"
        self._told.bind(str(notify))
        notify.chmod(0o666)
        base = ("--state", str(self.state), "--control", str(self.control_path), "--base-port", "0")
        self.started_s = time.monotonic()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command(*base, *arguments, unprivileged=unprivileged, namespace=namespace),
                stderr=log,
                env=_environment(NOTIFY_SOCKET=str(notify)),
            )

    def __enter__(self) -> Self:
        while True:
            try:
                assert self._told.recv(4096).startswith(b"READY=1")
            except TimeoutError:
                late = time.monotonic() - self.started_s > START_S
                if self.process.poll() is None and not late:
                    continue
                self.process.kill()
                self.process.wait(WAIT_S)
                raise AssertionError(f"it did not come up: {self.log}") from None
            return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._told.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def call(self, method: str, **params: Any) -> Any:
        with Control(self.control_path) as control:
            return control.call(method, **params)

    def port(self, stream: str) -> int:
        return int(self.call("hello")["ports"][stream])

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Exit status, and how many seconds it took."""
        begun_s = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(WAIT_S)
        return status, time.monotonic() - begun_s


class Subscriber:
    """Of 7069, blocking. ``frames`` are all that it got: they must follow each other."""

    def __init__(self, port: int) -> None:
        self._sock = connect(port)
        start = read(self._sock, 12)
        self.header = EegHeader.decode(start + read(self._sock, EegHeader.size(start) - 12))
        self._data = b""

    def read(self, n_frames: int) -> np.ndarray:
        data = read(self._sock, n_frames * FRAME.itemsize)
        self._data += data
        return np.frombuffer(data, FRAME)

    def read_rest(self) -> np.ndarray:
        """Until FIN; whole frames only."""
        data = read_all(self._sock)
        assert len(data) % FRAME.itemsize == 0, "the stream ended inside a frame"
        self._data += data
        return np.frombuffer(data, FRAME)

    @property
    def frames(self) -> np.ndarray:
        return np.frombuffer(self._data, FRAME)

    def assert_contiguous(self) -> None:
        first = self.header.first_index
        np.testing.assert_array_equal(
            self.frames["index"], np.arange(first, first + len(self.frames))
        )
        assert (np.diff(self.frames["t_ns"]) == 7_812_500).all()


# -- beside a daemon in this process ---------------------------------------------------------------


async def ask(path: Path, method: str, **params: Any) -> Any:
    """One request on the control socket; raises what the answer's error says."""

    def call() -> Any:
        with Control(path) as control:
            return control.call(method, **params)

    return await asyncio.to_thread(call)


class Events:
    """A subscriber of 7078."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.metadata: dict[str, Any] = {}
        self.seen: list[dict[str, Any]] = []

    @classmethod
    async def connect(cls, port: int) -> Events:
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        self.metadata = json.loads(await self._reader.readline())
        return self

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self._reader.readline())

    async def until(self, kind: str, text: str = "", **fields: Any) -> dict[str, Any]:
        """The next line of this kind with this in its message and these fields."""
        while True:
            data = (await self.line())["data"]
            self.seen.append(data)
            if (
                data["kind"] == kind
                and text in data["message"]
                and all(data.get(key) == value for key, value in fields.items())
            ):
                return data

    def close(self) -> None:
        self._writer.close()


async def until_frame(eeg: EegClient, accept: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Reads on to the first frame that is like this."""
    async with asyncio.timeout(WAIT_S):
        while True:
            frame = await eeg.read(1)
            if accept(frame[0]):
                return frame[0]


def whole(frame: np.ndarray) -> bool:
    return not frame["flags"] & Flag.MISSING


def contiguous(eeg: EegClient) -> np.ndarray:
    """All frames that it got; they must follow each other from the header's first index on."""
    frames = np.frombuffer(eeg.frames, FRAME)
    first = EegHeader.decode(eeg.header).first_index
    np.testing.assert_array_equal(frames["index"], np.arange(first, first + len(frames)))
    assert (np.diff(frames["t_ns"]) == GRID_NS).all()
    return frames
