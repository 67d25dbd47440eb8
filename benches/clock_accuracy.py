"""Prints the tables of docs/clock.md: how far the device clock is off, case by case.

    python -m benches.clock_accuracy             a quarter of a minute
    python -m benches.clock_accuracy --quick     fewer and shorter runs, some seconds
    python -m benches.clock_accuracy --plot docs/img/clock.png

Everything but the last table is virtual time from fixed seeds: the same on every machine.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benches.clock_plot import LAWS, PTY, RATE_HZ, plot
from benches.clock_world import (
    Delivery,
    Floats,
    crystal,
    deliver,
    deliver_clumps,
    drained,
    error_ms,
    exponential,
    settled_s,
    spiked,
    uniform,
)
from phantomd.core.clock import Clock


@dataclass(frozen=True)
class Size:
    """How much is run: seeds a case, and seconds of steady state."""

    seeds: int
    steady_s: float


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def us(value_ms: float) -> str:
    return f"{value_ms * 1e3:.1f}"


def steady(size: Size) -> None:
    spans = [(a, b) for a, b in ((60, 300), (300, 600), (600, size.steady_s)) if b > a]
    head = ["arrival jitter", "order", *(f"{a}–{b:.0f} s: bias, sd µs" for a, b in spans)]
    rows = []
    for name, law in LAWS.items():
        for spikes in (False, True):
            for fifo in (False, True):
                runs = []
                for seed in range(size.seeds):
                    rng = np.random.default_rng(100 + seed)
                    true_s = crystal(rng, RATE_HZ, size.steady_s, ppm=30.0)
                    jitter = spiked(law) if spikes else law
                    delivery = deliver(rng, RATE_HZ, true_s, jitter, fifo=fifo)
                    runs.append(error_ms(delivery))
                errors, nominal_s = np.array(runs), np.arange(len(runs[0])) / RATE_HZ
                cells = []
                for start, end in spans:
                    part = errors[:, (nominal_s >= start) & (nominal_s < end)]
                    cells.append(f"{us(float(part.mean()))}, {us(float(part.std()))}")
                label = f"{name}{', 1 % spikes of 20 ms' if spikes else ''}"
                rows.append([label, "queue" if fifo else "free", *cells])
    table("Steady state, 250 Hz", head, rows)


def start(size: Size) -> None:
    rows = []
    for name, law in (LAWS | PTY).items():
        worst = []
        for seed in range(size.seeds):
            rng = np.random.default_rng(seed)
            delivery = deliver(rng, RATE_HZ, crystal(rng, RATE_HZ, 40.0, ppm=30.0), law)
            error = np.abs(error_ms(delivery))
            edges = (0.2, 1.0, 5.0, 20.0, 40.0)
            worst.append(
                [
                    np.nanmax(error[(delivery.true_s >= a) & (delivery.true_s < b)])
                    for a, b in pairwise(edges)
                ]
            )
        rows.append([name, *(us(float(value)) for value in np.max(worst, axis=0))])
    table(
        "From the lock on, largest error in µs",
        ["arrival jitter", "0.2–1 s", "1–5 s", "5–20 s", "20–40 s"],
        rows,
    )


def gaps(size: Size) -> None:
    rows = []
    for name, law in (LAWS | PTY).items():
        cells = []
        for samples in (5, 125, 300, 1250):
            worst = 0.0
            for seed in range(size.seeds):
                rng = np.random.default_rng(seed)
                true_s = crystal(rng, RATE_HZ, 60.0, ppm=50.0)
                delivery = deliver(rng, RATE_HZ, true_s, law).lose(20.0, samples)
                error = error_ms(delivery)[delivery.true_s > 20.0]
                worst = max(worst, float(np.abs(error).max()))
            cells.append(us(worst))
        rows.append([name, *cells])
    table(
        "Known gaps, 20 s after the start: largest error afterwards in µs",
        ["arrival jitter", "20 ms", "0.5 s", "300 packets", "5 s"],
        rows,
    )


def changes(size: Size) -> None:
    rows = []
    for label, ppm, shift_s in (
        ("rate 1 % lower", 1e4, 0.0),
        ("rate 1 % higher", -1e4, 0.0),
        ("rate 1000 ppm lower", 1e3, 0.0),
        ("rate 1000 ppm higher", -1e3, 0.0),
        ("delay 10 ms longer", 0.0, 0.010),
        ("delay 10 ms shorter", 0.0, -0.010),
        ("delay 100 ms longer", 0.0, 0.100),
        ("delay 100 ms shorter", 0.0, -0.100),
    ):
        for name, law in (LAWS | PTY).items():
            settled, worst, slowest, steps = [], 0.0, 1.0, 0
            for seed in range(size.seeds):
                rng = np.random.default_rng(seed)
                at_s = 60.0 + rng.random()
                change = ((at_s, ppm),) if ppm else ()
                true_s = crystal(rng, RATE_HZ, 90.0, ppm=30.0, steps=change)
                shifts = ((at_s, shift_s),) if shift_s else ()
                delivery = deliver(rng, RATE_HZ, true_s, law, shifts=shifts)
                clock = Clock(RATE_HZ)
                error = error_ms(delivery, clock)
                told_ms = delivery.true_s * 1e3 + error
                slowest = min(slowest, float(np.nanmin(np.diff(told_ms)) * RATE_HZ * 1e-3))
                error[delivery.true_s >= at_s] -= shift_s * 1e3
                settled.append(settled_s(delivery, error, at_s))
                worst = max(worst, float(np.abs(error[delivery.true_s > at_s]).max()))
                steps = max(steps, clock.report().steps)
            median, last = np.median(settled), max(settled)
            step = "stepped" if steps else f"{slowest:.3f}"
            rows.append([label, name, f"{median:.2f}", f"{last:.2f}", f"{worst:.1f}", step])
    table(
        "Changes, a minute after the start: until within 1 ms of the new truth",
        [
            "change",
            "arrival jitter",
            "median s",
            "longest s",
            "largest error ms",
            "shortest read-out interval, periods",
        ],
        rows,
    )


def drift(size: Size) -> None:
    rows = []
    for ppm in (200.0, -200.0):
        for name, law in (LAWS | PTY).items():
            worst, rates = 0.0, []
            for seed in range(size.seeds):
                rng = np.random.default_rng(seed)
                delivery = deliver(rng, RATE_HZ, crystal(rng, RATE_HZ, 60.0, ppm=ppm), law)
                clock = Clock(RATE_HZ)
                error = error_ms(delivery, clock)[delivery.true_s > 1.0]
                worst = max(worst, float(np.abs(error).max()))
                rates.append((RATE_HZ / clock.report().rate_hz - 1.0) * 1e6 - ppm)
            rows.append([f"{ppm:+.0f}", name, us(worst), f"{np.abs(rates).max():.2f}"])
    table(
        "Crystal off by 200 ppm, unknown at the start",
        ["ppm", "arrival jitter", "largest error from 1 s on µs", "rate error after 60 s ppm"],
        rows,
    )


def wander(size: Size) -> None:
    seconds = size.steady_s
    rows = []
    for name, law in (LAWS | PTY).items():
        cells = []
        for ppm in (0.001, 0.01, 0.1):
            errors = []
            for seed in range(max(2, size.seeds // 3)):
                rng = np.random.default_rng(seed)
                true_s = crystal(rng, RATE_HZ, seconds, ppm=20.0, wander_ppm=ppm)
                delivery = deliver(rng, RATE_HZ, true_s, law)
                errors.append(error_ms(delivery)[delivery.true_s > 120.0])
            spread, most = np.std(np.concatenate(errors)), max(np.abs(e).max() for e in errors)
            cells.append(f"{us(float(spread))}, {us(float(most))}")
        rows.append([name, *cells])
    table(
        "Crystal that wanders, from 120 s on: sd, largest error in µs",
        ["arrival jitter", "0.001 ppm/√s", "0.01 ppm/√s", "0.1 ppm/√s"],
        rows,
    )


def stalls(size: Size) -> None:
    rows = []
    for name, law in (LAWS | PTY).items():
        cells = []
        for stall_s in (0.1, 0.5, 1.0, 2.0):
            moved = 0.0
            for seed in range(size.seeds):
                rng = np.random.default_rng(seed)
                true_s = crystal(rng, RATE_HZ, 70.0, ppm=30.0)
                delivery = deliver(rng, RATE_HZ, true_s, law, stalls=((60.0, stall_s),))
                error = error_ms(delivery)
                ends = float(error[delivery.true_s < 60.0][-1])
                moved = max(moved, float(np.abs(error[delivery.true_s >= 60.0] - ends).max()))
            cells.append(us(moved))
        rows.append([name, *cells])
    table(
        "Host stalls, the backlog arriving at once: how far the time moved in 10 s, µs",
        ["arrival jitter", "0.1 s", "0.5 s", "1 s", "2 s"],
        rows,
    )


def busy(size: Size) -> None:
    """A host under load reads everything somewhat later, and then no longer."""
    rows = []
    for name, law in (LAWS | PTY).items():
        cells = []
        for busy_s in (1.0, 5.0, 15.0):
            moved = []
            for seed in range(size.seeds):
                rng = np.random.default_rng(seed)
                true_s = crystal(rng, RATE_HZ, 120.0, ppm=30.0)
                loaded = (true_s >= 60.0) & (true_s < 60.0 + busy_s)
                idle, late = (
                    error_ms(deliver(np.random.default_rng(seed), RATE_HZ, true_s, law, extra_s=s))
                    for s in (np.zeros(len(true_s)), np.where(loaded, 40e-6, 0.0))
                )
                moved.append(float(np.nanmax(np.abs(late - idle))))
            cells.append(f"{us(float(np.median(moved)))}, {us(max(moved))}")
        rows.append([name, *cells])
    table(
        "Host busy from 60 s on, all 40 µs later: how far that moved the time, median and most, µs",
        ["arrival jitter", "for 1 s", "for 5 s", "for 15 s"],
        rows,
    )


def clumps(size: Size) -> None:
    rows = []
    for low_ms, high_ms in ((16, 16), (15, 17), (16, 64), (64, 64)):
        for split in (False, True):
            interval, least, most, stated, typical = 0.0, 9.0, -9.0, 0.0, 0.0
            for ppm in (50.0, -50.0):
                rng = np.random.default_rng(5)
                true_s = crystal(rng, RATE_HZ, min(300.0, size.steady_s), ppm=ppm)
                clump_s = (low_ms * 1e-3, high_ms * 1e-3)
                delivery = deliver_clumps(rng, RATE_HZ, true_s, clump_s, split=split)
                clock = Clock(RATE_HZ)
                error = error_ms(delivery, clock)
                kept = delivery.true_s > 1.0
                told_ms = (delivery.true_s * 1e3 + error)[kept]
                interval = max(interval, float(np.abs(np.diff(told_ms) - 4.0).max()))
                least, most = min(least, error[kept].min()), max(most, error[kept].max())
                stated = clock.report().uncertainty_us * 1e-3
                typical = clock.report().clump
            rows.append(
                [
                    f"{low_ms} ms" if low_ms == high_ms else f"{low_ms}–{high_ms} ms",
                    "microseconds apart" if split else "one stamp",
                    us(interval),
                    f"{least:.2f} … {most:.2f}",
                    f"{stated:.2f}",
                    f"{typical:.1f}",
                ]
            )
    table(
        "Clumps, 250 Hz (period 4 ms), from 1 s on",
        [
            "a read every",
            "stamps",
            "interval off by at most µs",
            "error ms",
            "stated uncertainty ms",
            "`clump`",
        ],
        rows,
    )


def straightness_us(delivery: Delivery, error: Floats, start_s: float) -> float:
    kept = (delivery.true_s > start_s) & ~np.isnan(error)
    line = np.polyfit(delivery.true_s[kept], error[kept], 1)
    return float(np.std(error[kept] - np.polyval(line, delivery.true_s[kept])) * 1e3)


def rates(size: Size) -> None:
    rows = []
    for rate_hz in (125.0, 128.0, 160.0, 250.0, 256.0, 500.0, 512.0, 1000.0):
        found: list[list[float]] = []
        for seed in range(size.seeds):
            rng = np.random.default_rng(seed)
            true_s = crystal(rng, rate_hz, 60.0, ppm=20.0)
            low = deliver(rng, rate_hz, true_s, uniform(20e-6, 200e-6), fifo=True)
            high = deliver(rng, rate_hz, true_s, exponential(0.003))
            error = error_ms(low)
            late = error_ms(high)
            found.append(
                [
                    straightness_us(low, error, 0.0),
                    straightness_us(low, error, 5.0),
                    float(np.abs(late[high.true_s > 1.0]).max()) * 1e3,
                    float(np.abs(late[high.true_s > 30.0]).max()) * 1e3,
                ]
            )
        rows.append([f"{rate_hz:.0f}", *(f"{value:.2f}" for value in np.max(found, axis=0))])
    table(
        "Rates: jitter of 20–200 µs (a pty), and exponential of 3 ms; µs, worst of all seeds",
        [
            "Hz",
            "pty, from the lock on: RMS off a straight line",
            "the same from 5 s on",
            "3 ms, from 1 s on: largest error",
            "the same from 30 s on",
        ],
        rows,
    )


def oddities(size: Size) -> None:
    """What goes wrong by the nature of things; largest error in ms from two instants on."""
    start_s, rows = 60.0, []
    for name, law in (LAWS | PTY).items():
        worst: dict[str, list[float]] = {}
        for seed in range(size.seeds):
            rng = np.random.default_rng(seed)
            true_s = crystal(rng, RATE_HZ, 180.0, ppm=30.0)
            bent_s = crystal(rng, RATE_HZ, 180.0, ppm=30.0, steps=((start_s, 50.0),))
            late_s = drained(true_s, start_s, 2.0, 1.0 / (1.4 * RATE_HZ))
            more_s = law(rng, len(true_s)) + law(rng, len(true_s))
            more_s[(true_s < start_s) | (true_s >= 120.0)] = 0.0
            cases = {
                "first second slow (30 ms, shrinking)": (
                    deliver(rng, RATE_HZ, true_s, law, extra_s=0.03 * np.maximum(0, 1 - true_s)),
                    0.0,
                    4.0,
                ),
                "2 s of backlog drain at 1.4 times the rate": (
                    deliver(rng, RATE_HZ, true_s, law, extra_s=late_s),
                    start_s,
                    start_s + 10.0,
                ),
                "jitter doubled and more for a minute": (
                    deliver(rng, RATE_HZ, true_s, law, extra_s=more_s),
                    start_s,
                    150.0,
                ),
                "rate 50 ppm lower": (deliver(rng, RATE_HZ, bent_s, law), start_s, 120.0),
            }
            for label, (delivery, from_s, then_s) in cases.items():
                error = np.abs(error_ms(delivery))
                found = [float(np.nanmax(error[true_s >= at_s])) for at_s in (from_s, then_s)]
                worst[label] = list(np.maximum(worst.get(label, [0.0, 0.0]), found))
        for label, (at_once, later) in worst.items():
            rows.append([label, name, f"{at_once:.2f}", f"{later:.2f}"])
    rows.sort(key=lambda row: row[0])
    table(
        "Oddities: largest error in ms",
        ["what", "arrival jitter", "from its start on", "later on"],
        rows,
    )


def cost(size: Size) -> None:
    rng = np.random.default_rng(1)
    true_s = crystal(rng, RATE_HZ, 3600.0, ppm=30.0)
    delivery = deliver(rng, RATE_HZ, true_s, exponential(0.003))
    rows = []
    for _ in range(3):
        clock = Clock(RATE_HZ)
        began = time.perf_counter()
        clock.observe_many(delivery.index, delivery.arrival_ns, delivery.behind)
        seconds = time.perf_counter() - began
        rows.append([f"{seconds * 1e3:.0f}", f"{seconds / len(true_s) * 1e9:.0f}"])
    table("Cost (this machine)", ["an hour of 250 Hz, ms", "ns a sample"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw errors against time")
    arguments = parser.parse_args()
    size = Size(3, 700.0) if arguments.quick else Size(12, 2100.0)
    for section in (
        steady, start, gaps, drift, changes, wander, stalls, busy, clumps, rates, oddities, cost,
    ):  # fmt: skip
        section(size)
    if arguments.plot is not None:
        plot(arguments.plot)


if __name__ == "__main__":
    main()
