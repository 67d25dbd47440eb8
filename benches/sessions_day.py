"""A day of sessions in virtual time, through the real port: does memory grow?

`python -m benches.sessions_day` steps the port (csrc/pd_port.h) from one instant at which something
is due to the next, as fast as it goes. Each session has a subscriber behind a socket that answers
every packet; a tenth of them, at least one, are under stress, network faults and cuts of the
connection among it. One session plays 24 hours, ten play two.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from benches.live import table
from phantomd.core.gauntlet import Port, Session, Stress
from phantomd.gauntlet.stress import StressConfig
from phantomd.gauntlet.synthetic import synthetic

_PERIOD_NS = 25_000_000
_THINKING_NS = 2_000_000
#: The newest packet's answer needs no number.
_ANSWER = b"\x82\xa2vx\x01\xa2vy\xff"
_FAULTS = StressConfig(
    seed=7,
    noise_std=0.5,
    drift_amplitude=0.3,
    latency_ms=5.0,
    jitter_ms=2.0,
    loss=0.01,
    duplicate=0.01,
    reorder=0.01,
    disconnects_per_min=1.0,
)


@dataclass(frozen=True)
class Day:
    hours: float
    sessions: int
    took_s: float
    packets: int
    answered: int
    missed: int
    lost: int
    cuts: int
    rss_kb: tuple[int, ...]
    files: tuple[int, int]

    def row(self) -> tuple[object, ...]:
        return (
            f"{self.hours:g}",
            self.sessions,
            f"{self.took_s:.0f}",
            self.packets,
            self.answered,
            self.missed,
            self.lost,
            self.cuts,
            " ".join(str(kb - self.rss_kb[0]) for kb in self.rss_kb[1:]),
            self.files[1] - self.files[0],
        )


HEAD = ("hours", "sessions", "took s", "packets", "answered", "missed", "lost", "connections cut",
        "memory since the first 2 %, kB, each quarter", "files left open")  # fmt: skip


class World:
    """A port on a virtual clock, its sessions, and their subscribers' ends of the sockets."""

    def __init__(self, n: int) -> None:
        data = synthetic()
        self.port = Port(n, n)
        self.sessions = []
        self.stress = Stress(_FAULTS, data.bins.n_units)  # the port does not keep it
        self.ends: list[socket.socket | None] = [None] * n
        self.ours: list[socket.socket | None] = [None] * n
        self.cuts = 0
        for i in range(n):
            session = Session(
                data.bins,
                data.select(None, None),
                phase_ns=i * _PERIOD_NS // n,
                record_slots=2048,
            )
            session.seek(i * 997 % data.bins.n_bins, 0)
            self.sessions.append(session)
            self.port.order("add", session=i, pointer=session)
            if i % 10 == 0:
                self.port.order("stress", session=i, pointer=self.stress)
            self.join(i)

    def join(self, i: int) -> None:
        ours, end = socket.socketpair()
        end.setblocking(False)
        self.ours[i], self.ends[i] = ours, end
        self.port.order("join", connection=i, session=i, value=ours.fileno(), message=b"\x80")

    def take_events(self) -> None:
        for event in self.port.take_events():
            if event[0] == "left":
                self.cuts += 1
                for sockets in (self.ours, self.ends):
                    sock = sockets[event[1]]
                    assert sock is not None
                    sock.close()
                self.join(event[1])

    def run(self, from_ns: int, until_ns: int) -> None:
        """Packets when they are due, and their answers a little later."""
        step, ends = self.port.step, self.ends
        now_ns = from_ns
        while now_ns < until_ns:
            next_ns = step(now_ns)
            answers = False
            for end in ends:
                assert end is not None
                try:
                    end.recv(65536)
                except BlockingIOError:
                    continue
                end.send(_ANSWER)
                answers = True
            if answers:
                next_ns = min(next_ns, step(now_ns + _THINKING_NS))
            self.take_events()
            # A session that was cut off has nothing to do until somebody has joined.
            now_ns = max(min(next_ns, now_ns + _PERIOD_NS), now_ns + 1)

    def close(self) -> None:
        for sock in (*self.ours, *self.ends):
            if sock is not None:
                sock.close()


def play(hours: float, n: int) -> Day:
    """Memory is looked at after two hundredths of it, and at the end of each quarter."""
    world = World(n)
    until_ns = int(hours * 3600e9)
    begun_s, at_ns, rss, files = time.monotonic(), 0, [], []
    for part in (0.02, 0.25, 0.5, 0.75, 1.0):
        world.run(at_ns, int(part * until_ns))
        at_ns = int(part * until_ns)
        rss.append(rss_kb())
        files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    counts = [session.counts() for session in world.sessions]
    world.close()
    return Day(
        hours=hours,
        sessions=n,
        took_s=time.monotonic() - begun_s,
        packets=sum(one["packets"] for one in counts),
        answered=sum(one["answered"] for one in counts),
        missed=sum(one["missed"] for one in counts),
        lost=sum(one["lost"] for one in counts),
        cuts=world.cuts,
        rss_kb=tuple(rss),
        files=(files[0], files[-1]),
    )


def rss_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, nargs="*", default=[24.0, 2.0])
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 10])
    options = parser.parse_args()
    days = [play(hours, n) for hours, n in zip(options.hours, options.sessions, strict=True)]
    print(table(HEAD, [day.row() for day in days]))


if __name__ == "__main__":
    main()
