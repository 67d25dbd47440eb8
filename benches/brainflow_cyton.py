"""One recording through two drivers: ours and BrainFlow's, each on a Cyton emulator of its own.

    python -m benches.brainflow_cyton [--seconds 20] [--markdown]

Handover: from the instant at which a packet leaves the emulator until its sample is in the native
ring, where the tick takes it. Stamp: from then to the arrival time that the clock is taught with.
Lost: samples that the driver had not, of those that the emulator's log says could be had. CPU: of
all that the driver needs, in ms a second. Unplugged: until its pump has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import MONTAGE
from phantomd.core.intake import NATIVE_HEAD_WORDS, Pump
from phantomd.devices.base import Address, Device
from phantomd.devices.child import ChildDevice
from phantomd.devices.emulator import CytonEmulator
from phantomd.devices.registry import opener

_TICKS = os.sysconf("SC_CLK_TCK")
RATE_HZ = 250.0
ADDRESSES = {"phantomd": "cyton:{}", "BrainFlow": "brainflow:0?serial_port={}"}
FAULTS = ("", "clump=16", "drop=0.01", "footer=0.01")
#: How often the ring is looked at: the resolution of the handover.
LOOK_S = 0.0001


@dataclass(frozen=True)
class Result:
    """Times in ms; ``could`` are the packets that came through whole."""

    driver: str
    faults: str
    handover_ms: NDArray[np.float64]
    stamp_ms: NDArray[np.float64]
    could: int
    had: int
    wrong: int
    cpu_ms_per_s: float
    unplug_ms: float


def recording(seconds: float) -> NDArray[np.float64]:
    """Noise whose first channel tells each row from all others."""
    n = round(seconds * RATE_HZ)
    uv = np.random.default_rng(7).normal(0, 20, (n, 8))
    uv[:, 0] = np.arange(n) * 0.5
    return uv


def _emulate(uv: NDArray[np.float64], faults: str, ends: Connection) -> None:
    with CytonEmulator(uv, faults=faults, seed=3) as board:
        ends.send(board.path)
        board.streaming.wait()
        ends.send((board.t0_ns, board.period_ns))
        ends.recv()
        board.stop()
        ends.send((time.monotonic_ns(), [(played.what, played.packet) for played in board.log]))


@contextlib.contextmanager
def _emulator(uv: NDArray[np.float64], faults: str) -> Iterator[Connection]:
    """In a process of its own: what it needs is not counted."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_emulate, args=(uv, faults, theirs), daemon=True)
    process.start()
    try:
        yield mine
    finally:
        process.terminate()
        process.join()


def measure(driver: str, faults: str, seconds: float) -> Result:
    uv = recording(seconds)
    with _emulator(uv, faults) as board:
        address = Address.parse(ADDRESSES[driver].format(board.recv()))
        device = opener(address)(address, MONTAGE)
        before = set(_threads())
        notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        pump = Pump(device.driver, device.fd, notify_fd=notify_fd)
        threads = set(_threads()) - before
        try:
            device.start()
            t0_ns, period_ns = board.recv()
            cpu_s, begun_s = _cpu_s(device, threads), time.monotonic()
            seen = _watch(device, t0_ns + round(len(uv) * period_ns) + 100_000_000)
            cpu_s = (_cpu_s(device, threads) - cpu_s) / (time.monotonic() - begun_s)
            board.send("unplug")
            gone_ns, log = board.recv()
            while pump.end_error == 0:
                time.sleep(LOOK_S)
            unplug_ms = (time.monotonic_ns() - gone_ns) * 1e-6
        finally:
            pump.stop()
            device.close()
            os.close(notify_fd)
        return _judge(driver, faults, device, uv, seen, (t0_ns, period_ns), log, cpu_s, unplug_ms)


def _watch(device: Device, until_ns: int) -> list[tuple[int, int]]:
    """(time, next index) whenever there was something new."""
    intake, seen, last = device.driver.intake, [], 0
    while (now_ns := time.monotonic_ns()) < until_ns:
        newest = intake.next
        if newest != last:
            seen.append((now_ns, newest))
            last = newest
        time.sleep(LOOK_S)
    return seen


def _judge(
    driver: str,
    faults: str,
    device: Device,
    uv: NDArray[np.float64],
    seen: list[tuple[int, int]],
    wire: tuple[int, float],
    log: list[tuple[str, int]],
    cpu_s: float,
    unplug_ms: float,
) -> Result:
    ring = device.driver.intake.ring
    rows = np.array([ring.read(index) for index in range(ring.oldest, ring.next)])
    head = rows[:, :NATIVE_HEAD_WORDS].view(np.int64)
    values = rows[:, NATIVE_HEAD_WORDS : NATIVE_HEAD_WORDS + 8].view(np.float64)
    there = np.flatnonzero(~np.isnan(values[:, 0]))
    packet = np.rint(values[there, 0] / 0.5).astype(int)
    right = (packet >= 0) & (packet < len(uv))
    right[right] &= (np.abs(values[there[right]] - uv[packet[right]]) < 0.1).all(axis=1)
    t0_ns, period_ns = wire
    wire_ns = t0_ns + packet * period_ns
    times, indices = np.array(seen).T
    at = np.searchsorted(indices, there + 1)
    whole = right & (at < len(times))
    handed_ns = times[np.minimum(at, len(times) - 1)]
    spoilt = {number for what, number in log if what in ("drop", "footer", "overrun")}
    return Result(
        driver,
        faults or "none",
        (handed_ns - wire_ns)[whole] * 1e-6,
        (head[there, 0] - wire_ns)[whole] * 1e-6,
        len(uv) - len(spoilt),
        len(np.unique(packet[right])),
        int((~right).sum()),
        cpu_s * 1e3,
        unplug_ms,
    )


def _threads() -> list[str]:
    return [path.name for path in Path("/proc/self/task").iterdir()]


def _cpu_s(device: Device, threads: set[str]) -> float:
    """Of the pump, and of the child where there is one."""
    paths = [Path(f"/proc/self/task/{name}/stat") for name in threads]
    if isinstance(device, ChildDevice):
        paths.append(Path(f"/proc/{device.pid}/stat"))
    total = 0
    for path in paths:
        fields = path.read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def row(result: Result, markdown: bool) -> str:
    p50, p99, p999 = np.percentile(result.handover_ms, (50, 99, 99.9))
    s50, s99 = np.percentile(result.stamp_ms, (50, 99))
    cells = (
        result.faults,
        result.driver,
        f"{p50:.2f} / {p99:.2f} / {p999:.2f}",
        f"{s50:.2f} / {s99:.2f}",
        f"{result.could - result.had} of {result.could}",
        f"{result.wrong}",
        f"{result.cpu_ms_per_s:.0f}",
        f"{result.unplug_ms:.0f}",
    )
    if markdown:
        return "| " + " | ".join(cells) + " |"
    return "  ".join(
        cell.ljust(width) for cell, width in zip(cells, (12, 10, 22, 15, 14, 6, 6, 8), strict=True)
    )


HEADER = (
    "faults",
    "driver",
    "handover p50 / p99 / p99.9 ms",
    "stamp p50 / p99 ms",
    "lost",
    "wrong",
    "CPU ms/s",
    "unplug noticed ms",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if arguments.markdown:
        print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for faults in FAULTS:
        for driver in ADDRESSES:
            result = measure(driver, faults, arguments.seconds)
            print(row(result, arguments.markdown))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
