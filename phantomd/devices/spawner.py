"""Starts processes that end with this one.

The kernel's "signal me when my parent dies" means the thread that made the process, not its
process. So they are all made by one thread that lives as long as this process does.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from concurrent.futures import Future

_Order = tuple[list[str], tuple[int, ...], dict[str, str], "Future[subprocess.Popen[bytes]]"]

_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


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
