"""How the kernels' costs grow with channels and bands, beside the machine's limits: docs/costs.md.

python -m benches.cost_plot                     the numbers as Markdown
python -m benches.cost_plot --plot FILE         and as a picture
python -m benches.cost_plot --page FILE         and between the markers of that page

Two limits a point, both at best, measured in the same run (benches/machine.py, needs a C compiler):
the multiplications and additions that the work can't do without, at the rate at which independent
ones run from registers; and the bytes that it has to read or write, at the rate at which an array
of that size is read. The first leaves out what is not said here: divisions, roots, moves,
comparisons, and the call.

- filter bank: nine a section, sample and channel; input, outputs and state
- phase tracker: one addition for each sum that is kept of the newest window, all of them read
- artifacts: for each bin four a sample, and once a block the two tapers, the power and two joins of
  sums; all sums of a block written and read
- Welch: 2.5 N log2 N a segment (a transform of N real values), and 7 N for its mean, its taper and
  its power; input and output

CCA's targets and windows are in benches/cca_plot.py, the broadband path in benches/spike_plot.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from benches.bench_artifact import InNumPy, labels
from benches.machine import Machine, machine, told
from benches.plotting import fastest_ns, pyplot
from benches.table import between
from phantomd.core.artifact import ArtifactDetector
from phantomd.core.pll import FIELDS, PhaseTracker
from phantomd.core.sos import FilterBank
from phantomd.core.spectrum import Welch
from phantomd.signal.artifacts import config
from phantomd.signal.designs import band_pass

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
CHANNELS = (8, 16, 32, 64, 128, 256, 512, 1024)
BANDS = (1, 2, 4, 8, 16, 32)
SECTIONS, TICK = 4, 6
BLUE, ORANGE, GREY = "#1f5fa8", "#c8561b", "0.45"


@dataclass(frozen=True, slots=True)
class Work:
    """One call, and the least that it has to do."""

    call: Callable[[], object]
    operations: float
    nbytes: float


@dataclass(frozen=True, slots=True)
class Point:
    """Microseconds; a limit is None without a compiler."""

    at: int
    fastest: float
    median: float
    arithmetic: float | None
    memory: float | None

    @property
    def share(self) -> float | None:
        """Of the nearer limit in what it takes."""
        if self.arithmetic is None or self.memory is None:
            return None
        return max(self.arithmetic, self.memory) / self.fastest


@dataclass(frozen=True, slots=True)
class Curve:
    """``work`` of so many channels, or bands."""

    title: str
    axis: str
    values: Sequence[int]
    work: Callable[[int], Work]


def noise(n: int, channels: int) -> Array:
    return np.random.default_rng(0).standard_normal((n, channels))


def filter_bank(channels: int, bands: int) -> Work:
    edges = np.geomspace(1.0, 100.0, bands + 1)
    designs = [
        band_pass((float(low), float(high)), RATE_HZ, SECTIONS) for low, high in pairwise(edges)
    ]
    x, y = noise(TICK, channels), np.empty((TICK, bands, channels))
    run = FilterBank(designs, channels, RATE_HZ).bind(x, y).run
    work = SECTIONS * bands * channels
    return Work(lambda: run(TICK), 9 * work * TICK, x.nbytes + y.nbytes + 2 * 16 * work)


def phase_tracker(channels: int) -> Work:
    tracker = PhaseTracker(10.0, rate_hz=RATE_HZ, channels=channels)
    twice = PhaseTracker(10.0, rate_hz=RATE_HZ, channels=2 * channels)
    state = twice.nbytes - tracker.nbytes  # of the channels alone: tables are common
    x, out = noise(600, channels), np.empty((channels, len(FIELDS)))
    tracker.push(x)
    return Work(tracker.bind(x[:2].copy(), out), state / 8, state)


def artifact_scores(channels: int) -> Work:
    c = config(labels(channels), RATE_HZ, range_uv=(-187_500.0, 187_500.0))
    detector, x = ArtifactDetector(c), np.cumsum(noise(500, channels), axis=0)
    detector.push(x)
    window = c.hop * c.n_blocks
    hz, peer = np.fft.rfftfreq(window, 1 / RATE_HZ), InNumPy(c, window)
    emg = (hz >= c.emg_hz[0]) & (hz <= c.emg_hz[1])
    used = np.any([peer.eeg, emg, *peer.lines], axis=0)
    bins = int((used | np.roll(used, 1) | np.roll(used, -1)).sum())
    operations = channels * bins * (4 * c.hop + 2 * 2 + 28)
    return Work(detector.bind(x[: c.hop].copy()), operations, channels * bins * 2 * 8 * 2)


def welch(channels: int) -> Work:
    n, nperseg = 500, 250
    plan, x = Welch(channels, RATE_HZ, nperseg=nperseg), noise(n, channels)
    out = plan.psd(x)
    segments = 1 + (n - nperseg) // (nperseg - nperseg // 2)
    operations = channels * segments * (2.5 * nperseg * np.log2(nperseg) + 7 * nperseg)
    return Work(lambda: plan.psd(x, out), operations, x.nbytes + out.nbytes)


CURVES = (
    Curve(
        f"filter bank: 5 bands × {SECTIONS} sections, {TICK} samples",
        "channels",
        CHANNELS,
        lambda n: filter_bank(n, 5),
    ),
    Curve(
        f"filter bank: 8 channels, {SECTIONS} sections, {TICK} samples",
        "bands",
        BANDS,
        lambda n: filter_bank(8, n),
    ),
    Curve("phase tracker: a tick, 2 samples, window 1 s", "channels", CHANNELS, phase_tracker),
    Curve("artifacts: a block of 5 samples, window 1 s", "channels", CHANNELS, artifact_scores),
    Curve("Welch: 2 s in 3 segments of 250", "channels", CHANNELS, welch),
)


def measure(curve: Curve, limits: Machine | None) -> list[Point]:
    points = []
    for at in curve.values:
        work = curve.work(at)
        fastest, median = fastest_ns(work.call)
        arithmetic = memory = None
        if limits is not None:
            arithmetic = 1e6 * work.operations / limits.operations
            memory = 1e6 * work.nbytes / limits.bytes_read(int(work.nbytes))
        points.append(Point(at, fastest / 1e3, median / 1e3, arithmetic, memory))
    return points


def table(curve: Curve, points: Sequence[Point]) -> str:
    lines = [
        f"| {curve.axis} | fastest, µs | median, µs | limit: arithmetic, µs | bytes, µs | share |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for p in points:
        limits = " | ".join("–" if v is None else f"{v:.3g}" for v in (p.arithmetic, p.memory))
        share = "–" if p.share is None else f"{100 * p.share:.0f} %"
        lines.append(f"| {p.at} | {p.fastest:.3g} | {p.median:.3g} | {limits} | {share} |")
    return f"**{curve.title}**\n\n" + "\n".join(lines)


def draw(axes: Any, curve: Curve, points: Sequence[Point]) -> None:
    at = [p.at for p in points]
    axes.loglog(at, [p.fastest for p in points], "o-", color=BLUE, label="fastest")
    axes.loglog(at, [p.median for p in points], "_", color=BLUE, ms=9, label="median")
    if points[0].arithmetic is not None:
        axes.loglog(at, [p.arithmetic for p in points], "-", color=GREY, label="limit: arithmetic")
        axes.loglog(at, [p.memory for p in points], ":", color=GREY, label="limit: bytes")
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [str(value) for value in at])
    axes.set_title(curve.title, fontsize=10)
    axes.set(xlabel=curve.axis, ylabel="µs")
    axes.grid(alpha=0.3)


def draw_shares(axes: Any, measured: dict[Curve, list[Point]]) -> None:
    for curve, points in measured.items():
        if curve.axis != "channels":
            continue
        shares = [100 * (p.share or 0) for p in points]
        axes.plot([p.at for p in points], shares, "o-", label=curve.title.partition(":")[0])
    axes.set_xscale("log", base=2)
    axes.set_xticks(CHANNELS, [str(value) for value in CHANNELS])
    axes.set_title("share of the nearer limit", fontsize=10)
    axes.set(xlabel="channels", ylabel="%", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def plot(path: Path, measured: dict[Curve, list[Point]]) -> None:
    plt = pyplot()

    figure, panels = plt.subplots(2, 3, figsize=(14.5, 8.2), constrained_layout=True)
    for axes, (curve, points) in zip(panels.flat, measured.items(), strict=False):
        draw(axes, curve, points)
    panels[0, 0].legend(fontsize=9)
    if next(iter(measured.values()))[0].share is None:
        panels[1, 2].remove()
    else:
        draw_shares(panels[1, 2], measured)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    limits, load = machine(), os.getloadavg()[0]
    measured = {curve: measure(curve, limits) for curve in CURVES}
    rates = "No C compiler, so no limits" if limits is None else told(limits)
    loads = f"{load:.1f} before and {os.getloadavg()[0]:.1f} after"
    blocks = [f"{rates}; load average {loads} on {os.cpu_count()} cores."]
    blocks += [table(curve, points) for curve, points in measured.items()]
    text = "\n\n".join(blocks)
    print(text)
    if chosen.plot is not None:
        plot(chosen.plot, measured)
    if chosen.page is not None:
        page = between(chosen.page.read_text(), "<!-- costs -->", "<!-- /costs -->", text)
        chosen.page.write_text(page)


if __name__ == "__main__":
    main()
