"""Starts processes that end with this one.

The kernel's "signal me when my parent dies" means the thread that made the process, not its
process. So they are all made by one thread that lives as long as this process does.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import phantomd

_Order = tuple[list[str], tuple[int, ...], dict[str, str], "Future[subprocess.Popen[bytes]]"]

_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules. -P: the directory that the daemon happens to stand
    in is no place to import from. -u: what is printed is in the log at once."""
    return [sys.executable, "-uP", "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Of such a process: it finds the package that this one runs."""
    root = str(Path(phantomd.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def spawn(
    command: list[str], *, pass_fds: tuple[int, ...], env: dict[str, str]
) -> subprocess.Popen[bytes]:
    """A session of its own, no input, stdout and stderr in one pipe. Raises OSError."""
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="spawner", daemon=True)
            _thread.start()
    made: Future[subprocess.Popen[bytes]] = Future()
    _orders.put((command, pass_fds, env, made))
    return made.result()


def _serve() -> None:
    while True:
        command, pass_fds, env, made = _orders.get()
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
                env=env,
            )
            made.set_result(process)
        except OSError as error:
            made.set_exception(error)
