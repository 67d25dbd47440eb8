"""LSL out: keeps the process of ``phantomd/lsl_outlets.py`` running beside the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

import msgspec

from phantomd.config import LslConfig
from phantomd.contracts import Event
from phantomd.devices.child_log import log_lines
from phantomd.devices.spawner import environment, python, spawn
from phantomd.engine.beside import beside
from phantomd.errors import ConfigError

FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 60.0
#: One that ran for so long had a right to end: it starts again after the first pause.
STEADY_S = 60.0


class LslOutlets:
    """``ports``: what the daemon serves, by stream. Belongs to the event loop."""

    def __init__(
        self,
        config: LslConfig,
        host: str,
        ports: Callable[[], Mapping[str, int]],
        emit: Callable[[Event], None],
    ) -> None:
        self._config = config
        self._host = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        self._ports = ports
        self._emit = emit
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._jitter = random.Random()
        #: Its other end is the process's: it ends when this one does.
        self._life: tuple[int, int] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Raises ConfigError for a stream that this daemon does not have."""
        served = self._ports()
        for stream in self._config.publish:
            if stream not in served:
                raise ConfigError(
                    f"lsl.publish: this daemon serves no {stream}",
                    hint=f"it serves {', '.join(served)}",
                )
        if self._config.publish:
            self._life = os.pipe2(os.O_CLOEXEC)
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._life is not None:
            for fd in self._life:
                os.close(fd)

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        told = False
        while True:
            begun_s = time.monotonic()
            why = await self._run_once()
            if time.monotonic() - begun_s > STEADY_S:
                pause_s, told = FIRST_PAUSE_S, False
            if not told:
                told = True
                text = f"the LSL outlets ended ({why}); started again"
                self._emit(Event("alert", "warning", text))
            await asyncio.sleep(pause_s * self._jitter.uniform(0.75, 1.25))
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    async def _run_once(self) -> str:
        """Until it ends. Cancelled, it is killed."""
        assert self._life is not None
        ports = self._ports()
        job = {
            "ports": {stream: ports[stream] for stream in self._config.publish},
            "host": self._host,
            "name": self._config.name,
            "scope": self._config.scope,
            "life_fd": self._life[0],
        }
        command = python("phantomd.lsl_outlets", msgspec.json.encode(job).decode())
        try:
            process = await beside(_spawn, command, self._life)
        except OSError as error:
            return error.strerror or str(error)
        self._process = process
        log_lines(process, "the LSL outlets")
        try:
            await _ended(process.pid)
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode < 0:
            return signal.Signals(-process.returncode).name
        return f"status {process.returncode}; is pylsl installed? the log has what it said"


def _spawn(command: list[str], life: tuple[int, int]) -> subprocess.Popen[bytes]:
    return spawn(command, pass_fds=(life[0],), env=environment())


async def _ended(pid: int) -> None:
    """The process is a zombie until somebody waits for it: the number is still its own."""
    loop, ended, fd = asyncio.get_running_loop(), asyncio.Event(), os.pidfd_open(pid)
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
