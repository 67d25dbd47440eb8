"""Lateness of the tick beside cyclictest's, in pairs: same priority, core and period.

`python -m benches.tick` runs five pairs of a minute idle, and five beside `stress-ng --cpu 2` and
two clients that hammer the control socket. Debian has the two tools in rt-tests and stress-ng.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

from benches.live import LiveDaemon, daemon, table
from phantomd.client import Control
from phantomd.errors import PhantomError

PRIORITY = 70
PERIOD_US = 7812
QUANTILE = 0.999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="each half of a pair")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--load", choices=("idle", "busy", "both"), default="both")
    options = parser.parse_args()
    for tool, package in (("cyclictest", "rt-tests"), ("stress-ng", "stress-ng")):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: install the package {package}")
    for load in ("idle", "busy") if options.load == "both" else (options.load,):
        report(load, options.pairs, options.seconds, options.cpu)


def report(load: str, pairs: int, seconds: float, cpu: int) -> None:
    rows: list[tuple[object, ...]] = []
    ratios = []
    arguments = (f"--set=realtime.tick_cpu={cpu}", f"--set=realtime.tick_priority={PRIORITY}")
    with daemon(*arguments) as live:
        for note in live.call("status")["degraded"]:
            print(f"degraded: {note}")
        for number in range(pairs):
            with busy(live) if load == "busy" else contextlib.nullcontext():
                ours = tick(live, seconds)
                theirs = cyclictest(seconds, cpu)
            ratios.append(ours[1] / theirs[1])
            rows.append(
                (number + 1, *(f"{value:.0f}" for value in (*ours, *theirs)), f"{ratios[-1]:.2f}")
            )
            print(f"{load} pair {number + 1}: {rows[-1]}", flush=True)
    head = (
        "pair",
        "tick p50 µs",
        "p99.9",
        "max",
        "cyclictest p50 µs",
        "p99.9",
        "max",
        "ratio p99.9",
    )
    print(f"\n{load}, {pairs} pairs of {seconds:g} s, FIFO {PRIORITY} on core {cpu}\n")
    print(table(head, rows))
    print(
        f"\n{load}: median ratio {statistics.median(ratios):.2f}, "
        f"spread {min(ratios):.2f} to {max(ratios):.2f} (asked: at most 1.5)\n",
        flush=True,
    )


def tick(live: LiveDaemon, seconds: float) -> tuple[float, float, float]:
    """p50, p99.9 and maximum in µs over the next so many seconds."""
    live.call("ledger", window="bench")
    time.sleep(seconds)
    stage = live.call("ledger", window="bench")["tick"]
    return stage["p50_us"], stage["p999_us"], stage["max_us"]


def cyclictest(seconds: float, cpu: int) -> tuple[float, float, float]:
    command = (
        *("cyclictest", "--quiet", "--mlockall", "--threads=1", f"--affinity={cpu}"),
        *(f"--priority={PRIORITY}", f"--interval={PERIOD_US}", f"--duration={seconds:.0f}"),
        "--histogram=100000",
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = [
        (int(match[1]), int(match[2]))
        for match in re.finditer(r"^(\d+)\s+(\d+)$", done.stdout, re.MULTILINE)
    ]
    total = sum(count for _, count in counts)
    at = {}
    for quantile in (0.5, QUANTILE):
        below = 0
        for value, count in counts:
            below += count
            if below >= quantile * total:
                at[quantile] = float(value)
                break
    largest = max(value for value, count in counts if count)
    return at[0.5], at[QUANTILE], float(largest)


@contextlib.contextmanager
def busy(live: LiveDaemon) -> Iterator[None]:
    """Both cores at work, and two clients that ask as fast as they can."""
    stop = multiprocessing.get_context("spawn").Event()
    hammers = [
        multiprocessing.get_context("spawn").Process(target=hammer, args=(live.control_path, stop))
        for _ in range(2)
    ]
    stress = subprocess.Popen(("stress-ng", "--quiet", "--cpu", "2"), stdout=subprocess.DEVNULL)
    try:
        for process in hammers:
            process.start()
        yield
    finally:
        stop.set()
        stress.terminate()
        stress.wait()
        for process in hammers:
            process.join()


def hammer(path: Path, stop: Event) -> None:
    control = Control(path)
    while not stop.is_set():
        with contextlib.suppress(PhantomError):  # rate-limited is what it is here for
            control.call("status")


if __name__ == "__main__":
    main()
