"""An eeg port that is nobody's daemon: it says what a test wants it to say."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Self

from phantomd.contracts import GRID_NS, MONTAGE, EegHeader

EPOCH = bytes(range(16))


def header(labels: tuple[str, ...] = MONTAGE, rate_hz: float = 128.0) -> bytes:
    return EegHeader(labels, rate_hz, 0, 1000, EPOCH).encode()


def frame(index: int, values: tuple[float, ...], flags: int = 0, age_us: int = 70_000) -> bytes:
    head = struct.pack("<QqII", index, index * GRID_NS, flags, age_us)
    return head + struct.pack(f"<{len(values)}f", *values)


class EegPort:
    """Serves ``first`` to each connection, then a frame each 1/128 s, or hangs up after ``n``;
    ``silent``: says no more after ``n``, to its first connection."""

    def __init__(
        self,
        first: bytes | None = None,
        *,
        n: int | None = None,
        age_us: int = 70_000,
        silent: bool = False,
    ):
        self._silent = silent
        self.connections = 0
        self._first = header() if first is None else first
        self._n = n
        self._age_us = age_us
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = self._listener.accept()
                self.connections += 1
                serve = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(serve)
                serve.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.sendall(self._first)
            begun_s = time.monotonic()
            k = 0
            n = None if self._silent and self.connections > 1 else self._n
            while not self._stop.is_set() and (n is None or k < n):
                if self._stop.wait(max(0.0, begun_s + k / 128 - time.monotonic())):
                    return
                sock.sendall(frame(1000 + k, (float(k),) * 8, age_us=self._age_us))
                k += 1
            if self._silent:
                self._stop.wait()
