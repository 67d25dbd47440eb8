"""The child: ``python -m phantomd.devices.child_main CONTROL_FD WAKE_FD`` runs one driver.

It is told what to run over the control socket, answers with what the device is, gets the shared
memory, and then writes samples into it until it is stopped or the device is gone. It ends with the
daemon, whatever either is doing (core/shared.pyi: guard).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import mmap
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.core.shared import SharedWriter, guard
from phantomd.devices.driver import (
    PACKET_BYTES,
    Block,
    Described,
    Driver,
    Failed,
    FromChild,
    Job,
    Marked,
    Marker,
    Spec,
    Start,
    ToChild,
)
from phantomd.errors import BadAddress, PhantomError

#: Waiting for the word to start, the heart goes on beating.
WAIT_S = 0.25


class Child:
    """One driver's life. ``run`` returns the exit status."""

    def __init__(self, control_fd: int, wake_fd: int) -> None:
        for fd in (control_fd, wake_fd):
            os.set_inheritable(fd, False)
        guard(control_fd)
        self._control = socket.socket(fileno=control_fd)
        self._ready = select.poll()
        self._ready.register(control_fd, select.POLLIN)
        self._wake_fd = wake_fd
        self._writer: SharedWriter | None = None
        self._next = 0

    def run(self) -> int:
        driver: Driver | None = None
        try:
            data, _, _, _ = socket.recv_fds(self._control, PACKET_BYTES, 0)
            job = msgspec.msgpack.decode(data, type=Job)
            driver = load(job.driver)(job.options)
            spec = msgspec.convert(msgspec.to_builtins(driver.describe()), Spec)
            self._say(Described(spec))
            if self._started(spec):
                self._stream(driver, spec)
        except PhantomError as error:
            self._say(Failed(error.code, error.message, error.hint))
            return 1
        except Exception as error:
            traceback.print_exc()
            hint = "the log has its traceback"
            self._say(Failed("device-failed", f"the driver failed: {error!r}", hint))
            return 1
        finally:
            if (close := getattr(driver, "close", None)) is not None:
                close()
        return 0

    def _started(self, spec: Spec) -> bool:
        """Takes the shared memory and waits for the word. False: stopped before."""
        data, fds, _, _ = socket.recv_fds(self._control, PACKET_BYTES, 1)
        if not data:
            return False
        message = msgspec.msgpack.decode(data, type=ToChild)
        if not isinstance(message, Start):
            return False
        if fds:
            memory = mmap.mmap(fds[0], message.memory_bytes)
            os.close(fds[0])
            self._writer = SharedWriter(memory, max(1, len(spec.channels) + len(spec.aux)))
        while not self._ready.poll(WAIT_S * 1000):
            self._beat()
        data = self._control.recv(PACKET_BYTES)
        return bool(data) and isinstance(msgspec.msgpack.decode(data, type=ToChild), Start)

    def _stream(self, driver: Driver, spec: Spec) -> None:
        n_values = len(spec.channels) + len(spec.aux)
        blocks = driver.blocks()
        try:
            for item in blocks:
                now_ns = time.monotonic_ns()
                self._beat()
                if self._ready.poll(0):
                    return  # to stop is all that can be said now
                if isinstance(item, Marker):
                    t_ns = now_ns if item.t_ns is None else item.t_ns
                    self._say(Marked(item.label, int(t_ns), item.payload))
                elif item is not None:
                    if isinstance(item, tuple):
                        item = Block(item[0], item[1])
                    elif not isinstance(item, Block):
                        item = Block(item)
                    self._put(item, n_values, spec.counter_modulus, now_ns)
        finally:
            if isinstance(blocks, Generator):
                blocks.close()

    def _put(self, block: Block, n_values: int, modulus: int, now_ns: int) -> None:
        values = np.ascontiguousarray(block.values, np.float64).reshape(-1, n_values)
        n = len(values)
        if n == 0 or self._writer is None:
            return
        if block.counters is not None and modulus:
            index = np.asarray(block.counters).astype(np.int64).astype(np.uint64)
        else:
            self._next += block.lost
            index = np.arange(self._next, self._next + n, dtype=np.uint64)
            self._next += n
        arrival = np.full(n, now_ns) if block.arrival_ns is None else _ns(block.arrival_ns)
        self._writer.put(
            values,
            np.ascontiguousarray(index),
            arrival,
            None if block.device_ns is None else _ns(block.device_ns),
            together=block.arrival_ns is None,
            restart=block.restart,
        )
        # A full pipe has woken it already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_fd, b"\0")

    def _beat(self) -> None:
        if self._writer is not None:
            self._writer.beat()

    def _say(self, message: FromChild) -> None:
        """Never waits: who does not read loses markers."""
        with contextlib.suppress(BlockingIOError):
            self._control.send(msgspec.msgpack.encode(message), socket.MSG_DONTWAIT)


def _ns(stamps: Any) -> NDArray[np.int64]:
    return np.ascontiguousarray(stamps, np.int64)


def load(where: str) -> Any:
    """The class. Raises BadAddress."""
    place, _, name = where.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        return getattr(module, name)
    except (OSError, ImportError, AttributeError, SyntaxError) as error:
        traceback.print_exc()
        raise BadAddress(
            f"the driver {where} can't be loaded: {error}",
            hint="python:FILE.py:CLASS or python:MODULE:CLASS; the log has the traceback",
        ) from error


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the daemon ends us
    control_fd, wake_fd = (int(text) for text in sys.argv[1:3])
    status = Child(control_fd, wake_fd).run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a vendor's threads and atexit handlers are not waited for


if __name__ == "__main__":
    main()
