"""Small datasets, sessions on a virtual clock, and clients of a port that has no thread."""

from __future__ import annotations

import socket
from typing import Any

import msgpack
import numpy as np

from phantomd.core.gauntlet import TRIAL, Port, Session
from phantomd.gauntlet.dataset import Dataset

BIN_NS = 25_000_000


def dataset(n_bins: int = 40, n_units: int = 5, bin_ms: float = 25.0) -> Dataset:
    """Counts tell bin and unit; x is the bin's number; trials 7 and 9 have targets 1 and 0."""
    counts = (np.arange(n_bins)[:, None] + np.arange(n_units)) % 200
    kinematics = np.zeros((n_bins, 4), np.float32)
    kinematics[:, 0] = np.arange(n_bins)
    kinematics[:, 2] = 1000 / bin_ms
    trials = np.zeros(2, TRIAL)
    trials[0] = (7, n_bins // 10, n_bins // 2, 1, 30.0, 40.0, 0)
    trials[1] = (9, n_bins // 2 + 2, n_bins - 2, 0, -3.0, 4.0, 0)
    return Dataset("small", counts.astype(np.uint8), kinematics, trials, bin_ms)


def session(data: Dataset | None = None, spans: Any = None, **how: Any) -> Session:
    data = data or dataset()
    whole = [[0, data.n_bins]] if spans is None else spans
    return Session(data.bins, np.array(whole, np.uint32), **how)


def unpack(messages: list[bytes]) -> list[dict[str, Any]]:
    return [msgpack.unpackb(message) for message in messages]


def run(playing: Session, n: int) -> list[dict[str, Any]]:
    """The next ``n`` packets, each at the instant at which it is due."""
    out: list[dict[str, Any]] = []
    while len(out) < n:
        out += unpack(playing.step(playing.next_ns))
    return out


def velocity(seq: int | None = None, vx: Any = 0.0, vy: Any = 0.0, **more: Any) -> bytes:
    fields = {"vx": vx, "vy": vy, **more}
    return msgpack.packb(fields if seq is None else {**fields, "seq": seq})


class Client:
    """One end of a socket pair, the other of which is the port's."""

    def __init__(self, port: Port, number: int, session_number: int, sndbuf: int = 0) -> None:
        self.sock, self.theirs = socket.socketpair()
        if sndbuf:
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        self.sock.setblocking(False)
        self._unpacker = msgpack.Unpacker()
        assert port.order(
            "join",
            connection=number,
            session=session_number,
            value=self.theirs.fileno(),
            message=msgpack.packb({"type": "metadata"}),
        )

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def take(self) -> list[dict[str, Any]]:
        """All that has come."""
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            if not data:
                break
            self._unpacker.feed(data)
        return list(self._unpacker)

    def close(self) -> None:
        self.sock.close()
        self.theirs.close()
