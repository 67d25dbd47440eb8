"""From the byte on the wire to the port, beside liblsl's loopback in the same seconds.

    python -m benches.latency [--seconds 60]

A Cyton emulator in a process of its own notes when each packet's bytes leave; a daemon reads them
and keeps an intake journal, which has when they came; a subscriber of ``eeg`` and one of
``features``, each a process, note when they have what. The recording's first channel is a ramp of
the packet's number: each frame says itself which instant of the wire it is of. A liblsl outlet and
an inlet, processes too, push and pull 250 samples a second meanwhile.

Two pairs of rows are of the same thing: what was handed over until somebody has it ("push to pull",
"the port to a client"), and an instant at which something was to be sent until somebody has it
("the instant of the push to pull", "due time to a client"), with the sender's own waiting for a
processor.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.live import LiveDaemon, daemon, table
from benches.lsl_loopback import NAME, RATE_HZ, _inlet, _outlet, _process
from phantomd.client import connect
from phantomd.config import GridConfig
from phantomd.contracts import Flag
from phantomd.core.cyton import PACKET_BYTES
from phantomd.devices.emulator import CytonEmulator
from phantomd.engine.prototype import design
from phantomd.formats.journal import Kind, records

Times = NDArray[np.int64]
Milliseconds = NDArray[np.float64]
#: Of the ramp: far above a count (0.02 µV), and hours within the amplifier's range.
UV_PER_PACKET = 0.5
#: The recording is longer than the run by so much.
SPARE_S = 120.0
READY_S = 60.0
#: Packets that must follow each other for the first one to be taken for one.
SURE = 6
_FIRST, _LAST = 0xA0, 0xC0


class _Stamping(CytonEmulator):
    """Notes when the bytes of each packet are handed to the terminal."""

    def __init__(self, uv: NDArray[np.float64]) -> None:
        super().__init__(uv)
        self.left_ns: list[int] = []

    def _transmit(self, data: bytes) -> bool:
        self.left_ns.append(time.monotonic_ns())
        return super()._transmit(data)


def _emulate(ends: Connection, seconds: float) -> None:
    n = round((seconds + SPARE_S) * RATE_HZ)
    uv = np.random.default_rng(7).normal(0, 20, (n, 8))
    uv[:, 0] = np.arange(n) * UV_PER_PACKET
    board = _Stamping(uv)
    with board:
        ends.send(board.path)
        ends.recv()
        if board.overruns:
            raise RuntimeError(f"{board.overruns} packets found the terminal full")
        ends.send(np.array(board.left_ns))


def _frames(ends: Connection, port: int) -> None:
    """(t_ns, age_us, when it was had, packet) of each frame, until there are no more."""
    rows = []
    with connect("eeg", port=port) as frames:
        ends.send("there")
        for frame in frames:
            had_ns = time.monotonic_ns()
            if not frame.flags & Flag.MISSING:
                rows.append((frame.t_ns, frame.age_us, had_ns, frame.values[0] / UV_PER_PACKET))
    ends.send(np.array(rows))


def _features(ends: Connection, port: int) -> None:
    """(arrival of the window's newest sample, when it was published, when it was had)."""
    rows = []
    with connect("features", port=port) as messages:
        ends.send("there")
        for message in messages:
            had_ns = time.monotonic_ns()
            arrival_ns = message["data"]["window"]["arrival_ns"]
            if arrival_ns is not None:
                published_ns = message["t_ns"] + 1000 * message["age_us"]
                rows.append((arrival_ns, published_ns, had_ns))
    ends.send(np.array(rows))


@dataclass(frozen=True)
class Run:
    """What was measured at once. ``latencies`` by what they are of, in ms, in order."""

    latencies: dict[str, Milliseconds]
    ledger: Mapping[str, Mapping[str, Any]]
    wait_ms: float
    degraded: tuple[str, ...]
    load: tuple[float, float]


def measure(seconds: float) -> Run:
    load_before = os.getloadavg()[0]
    processes = []

    def start(target: object, *arguments: object) -> Connection:
        ends, process = _process(target, *arguments)
        processes.append(process)
        return ends

    try:
        board = start(_emulate, seconds)
        outlet = start(_outlet, seconds)
        outlet.recv()
        with (
            tempfile.TemporaryDirectory(prefix="phantomd-bench-") as directory,
            daemon("--device", f"cyton:{board.recv()}", within_s=READY_S) as live,
        ):
            journal = Path(directory) / "latency.pdj"
            degraded = tuple(_wait_until_locked(live)["degraded"])
            ports = live.call("hello")["ports"]
            subscribers = [start(_frames, ports["eeg"]), start(_features, ports["features"])]
            inlet = start(_inlet, NAME, round(seconds * RATE_HZ), "value")
            for one in (*subscribers, inlet):
                one.recv()
            live.call("journal.start", path=str(journal))
            live.call("ledger", window="latency")
            outlet.send("go")
            due_s, pushed = outlet.recv()
            ledger = live.call("ledger", window="latency")
            live.call("journal.stop")
            begun_ns, ended_ns = round(pushed[0] * 1e9), round(pushed[-1] * 1e9)
            came = _packets(journal)
            live.process.terminate()
            frames, features = (one.recv() for one in subscribers)
        _, pulled = inlet.recv()
        outlet.send("enough")
        board.send("enough")
        left_ns = board.recv()
    finally:
        for process in processes:
            process.terminate()
            process.join()
    wait_ms = 1e3 * design(RATE_HZ, "linear").delay_s + GridConfig().hold_ms
    frames = frames[(frames[:, 0] >= begun_ns) & (frames[:, 0] < ended_ns)]
    features = features[(features[:, 0] >= begun_ns) & (features[:, 0] < ended_ns)]
    latencies = {
        "liblsl: push to pull": (pulled - pushed) * 1e3,
        "liblsl: the instant of the push to pull": (pulled - due_s) * 1e3,
        "wire to native ring": _to_ring(left_ns, came),
        **_of_frames(left_ns, frames, wait_ms),
        "newest sample to features published": (features[:, 1] - features[:, 0]) * 1e-6,
        "newest sample to features at a client": (features[:, 2] - features[:, 0]) * 1e-6,
    }
    return Run(latencies, ledger, wait_ms, degraded, (load_before, os.getloadavg()[0]))


def _wait_until_locked(live: LiveDaemon) -> Any:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s:
        status = live.call("status")
        clock = status["devices"][0]["detail"].get("clock")
        if status["devices"][0]["state"] == "streaming" and clock and clock["locked"]:
            return status
        time.sleep(0.1)
    raise RuntimeError(f"the Cyton is not streaming after {READY_S:g} s: {status['devices']}")


def _packets(journal: Path) -> tuple[NDArray[np.uint8], Times]:
    """Counter of each whole packet, and when its last byte was read."""
    parts = [(body, t_ns) for kind, _, t_ns, body in records(journal) if kind is Kind.BYTES]
    data = np.frombuffer(b"".join(body for body, _ in parts), np.uint8)
    ends = np.cumsum([len(body) for body, _ in parts])
    first = next(at for at in range(PACKET_BYTES) if _is_packet(data, at))
    starts = np.arange(first, len(data) - PACKET_BYTES + 1, PACKET_BYTES)
    if not all(_is_packet(data, int(at), 1) for at in starts):
        raise RuntimeError("bytes were lost on a terminal that loses none")
    times = np.array([t_ns for _, t_ns in parts])
    return data[starts + 1], times[np.searchsorted(ends, starts + PACKET_BYTES)]


def _is_packet(data: NDArray[np.uint8], at: int, n: int = SURE) -> bool:
    firsts = data[at : at + n * PACKET_BYTES : PACKET_BYTES]
    lasts = data[at + PACKET_BYTES - 1 : at + n * PACKET_BYTES : PACKET_BYTES]
    return bool((firsts == _FIRST).all() and (lasts & 0xF0 == _LAST).all())


def _to_ring(left_ns: Times, came: tuple[NDArray[np.uint8], Times]) -> Milliseconds:
    """The stamp is taken when bytes have been read, right before they are taken apart."""
    counters, came_ns = came
    newest = np.searchsorted(left_ns, came_ns, side="right") - 1
    packet = newest - ((newest - counters) % 256)
    return np.asarray((came_ns - left_ns[packet]) * 1e-6)


def _of_frames(
    left_ns: Times, frames: NDArray[np.float64], wait_ms: float
) -> dict[str, Milliseconds]:
    t_ns, age_us, had_ns, packet = frames.T
    wire_ns = np.interp(packet, np.arange(len(left_ns)), left_ns)
    due_ns = t_ns + wait_ms * 1e6
    return {
        "wire to the frame's due time": (due_ns - wire_ns) * 1e-6,
        "wire to the frame at a client": (had_ns - wire_ns) * 1e-6,
        "the same, beyond delay and hold_ms": (had_ns - wire_ns) * 1e-6 - wait_ms,
        "due time to the port": age_us * 1e-3 - wait_ms,
        "the port to a client": (had_ns - t_ns) * 1e-6 - age_us * 1e-3,
        "due time to a client": (had_ns - due_ns) * 1e-6,
    }


def rows(run: Run) -> list[tuple[str, str, str, str, str]]:
    out = []
    for name, ms in run.latencies.items():
        quantiles = (f"{value:.2f}" for value in np.percentile(ms, (50, 99, 99.9)))
        out.append((name, *quantiles, str(len(ms))))
    for name in ("tick", "eeg", "window"):
        of = run.ledger[name]
        quantiles = (f"{1e-3 * of[key]:.2f}" for key in ("p50_us", "p99_us", "p999_us"))
        out.append((f"the ledger's `{name}`", *quantiles, str(of["count"])))
    return out  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    run = measure(options.seconds)
    print(table(("", "p50 ms", "p99 ms", "p99.9 ms", "of"), rows(run)))
    print(
        f"\nDelay and hold_ms: {run.wait_ms:.2f} ms. {os.cpu_count()} cores, load "
        f"{run.load[0]:.1f} before and {run.load[1]:.1f} after."
    )
    for what in run.degraded:
        print(f"degraded: {what}")


if __name__ == "__main__":
    main()
