"""A hundred subscribers on the eeg port, ten of which never read: what the ninety get.

`python -m benches.subscribers` prints frames missed by the readers, messages dropped for the
others, and the tick's lateness with and without them.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import struct
import time
from dataclasses import dataclass, field

from benches.live import LiveDaemon, daemon, table
from phantomd.contracts import PORTS

HEADER_BYTES = 192
FRAME_BYTES = 56


@dataclass(slots=True, eq=False)
class Reader:
    """Counts frames, and looks at every index."""

    sock: socket.socket
    pending: bytearray = field(default_factory=bytearray)
    skipped: int = 0
    last: int = -1
    frames: int = 0
    missed: int = 0

    def take(self) -> None:
        self.pending += self.sock.recv(65_536)
        if not self.skipped:
            if len(self.pending) < HEADER_BYTES:
                return
            del self.pending[:HEADER_BYTES]
            self.skipped = 1
        whole = len(self.pending) // FRAME_BYTES
        for number in range(whole):
            (index,) = struct.unpack_from("<Q", self.pending, number * FRAME_BYTES)
            if self.last >= 0:
                self.missed += index - self.last - 1
            self.last = index
        self.frames += whole
        del self.pending[: whole * FRAME_BYTES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--deaf", type=int, default=10, help="how many of them never read")
    options = parser.parse_args()
    with daemon() as live:
        alone = measure(live, options.seconds, 0, 0)
        crowd = measure(live, options.seconds, options.subscribers - options.deaf, options.deaf)
        again = measure(live, options.seconds, 0, 0)
    head = ("subscribers", "frames each", "missed by readers", "dropped", "CPU %", "tick p99.9 µs",
            "tick max µs", "eeg p99.9 µs")  # fmt: skip
    print(table(head, (alone, crowd, again)))


def measure(live: LiveDaemon, seconds: float, n_readers: int, n_deaf: int) -> tuple[object, ...]:
    port = live.base_port + PORTS["eeg"]
    readers = [Reader(socket.create_connection(("127.0.0.1", port))) for _ in range(n_readers)]
    deaf = [_deaf(port) for _ in range(n_deaf)]
    dropped = live.call("status")["streams"]["eeg"]["dropped"]
    live.call("ledger", window="bench")
    cpu_s = live.cpu_s()
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.sock, selectors.EVENT_READ, reader)
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if not readers:
                time.sleep(left_s)
                break
            for key, _ in selector.select(left_s):
                key.data.take()
    cpu_percent = 100 * (live.cpu_s() - cpu_s) / seconds
    ledger = live.call("ledger", window="bench")
    dropped = live.call("status")["streams"]["eeg"]["dropped"] - dropped
    for one in (*(reader.sock for reader in readers), *deaf):
        one.close()
    counts = [reader.frames for reader in readers] or [0]
    frames = f"{min(counts)}–{max(counts)}"
    return (
        f"{n_readers} + {n_deaf} deaf",
        frames,
        sum(reader.missed for reader in readers),
        dropped,
        f"{cpu_percent:.1f}",
        f"{ledger['tick']['p999_us']:.0f}",
        f"{ledger['tick']['max_us']:.0f}",
        f"{ledger['eeg']['p999_us']:.0f}",
    )


def _deaf(port: int) -> socket.socket:
    """Connects with a small receive buffer, and never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


if __name__ == "__main__":
    main()
