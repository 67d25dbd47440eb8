"""How the cost of a spectrum grows: the table and picture of docs/spectrum.md.

python -m benches.spectrum_plot                    the numbers as Markdown
python -m benches.spectrum_plot --plot FILE        channels and segment lengths as a picture

The limit is what the processor does in multiplications and additions from registers and nothing
else (benches/machine.py), at 2.5 n log2 n + 7 n of them a segment and channel: a transform of real
numbers, mean, window and squares.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import welch

from benches.machine import machine
from benches.plotting import fastest_ns, pyplot
from phantomd.core.spectrum import Welch

CHANNELS = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
SEGMENTS = (32, 64, 125, 128, 250, 251, 256, 500, 512, 1000, 1009, 1024, 2048)
SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Cost:
    at: int
    operations: float
    ours_ns: float
    scipy_ns: float


def cost(at: int, channels: int, n: int, nperseg: int) -> Cost:
    x = np.random.default_rng(0).standard_normal((n, channels))
    rows = np.ascontiguousarray(x.T)
    plan = Welch(channels, 128.0, nperseg=nperseg)
    out = plan.psd(x)
    ours, _ = fastest_ns(lambda: plan.psd(x, out), 15)
    theirs, _ = fastest_ns(lambda: welch(rows, 128.0, nperseg=nperseg), 5)
    each = 2.5 * nperseg * math.log2(nperseg) + 7 * nperseg
    return Cost(at, each * channels * plan.segments(n), ours, theirs)


def table(title: str, costs: Sequence[Cost], rate: float | None) -> str:
    lines = [
        f"| {title} | a call | share of the limit | SciPy | ratio |",
        "|---:|---:|---:|---:|---:|",
    ]
    for c in costs:
        share = "–" if rate is None else f"{100 * 1e9 * c.operations / rate / c.ours_ns:.0f} %"
        lines.append(
            f"| {c.at} | {c.ours_ns / 1e3:.3g} µs | {share} | {c.scipy_ns / 1e3:.4g} µs "
            f"| {c.scipy_ns / c.ours_ns:.1f} |"
        )
    return "\n".join(lines)


def plot(path: Path, growth: dict[str, list[Cost]], rate: float | None) -> None:
    plt = pyplot()

    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.2), constrained_layout=True)
    rest = {
        "channels": "128 samples, segments of 64",
        "samples a segment": f"8 channels, {SAMPLES} samples",
    }
    for axes, (title, costs) in zip(panels, growth.items(), strict=True):
        at = [c.at for c in costs]
        axes.loglog(at, [c.scipy_ns / 1e3 for c in costs], "s-", color="#c8561b", label="SciPy")
        axes.loglog(at, [c.ours_ns / 1e3 for c in costs], "o-", color="#1f5fa8", label="Welch")
        if rate is not None:
            limit = [1e6 * c.operations / rate for c in costs]
            axes.loglog(at, limit, "k:", label=f"limit: {rate / 1e9:.0f} G operations/s")
        axes.set(xlabel=title, title=rest[title])
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("µs a call")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    limits = machine()
    rate = None if limits is None else limits.operations
    growth = {
        "channels": [cost(c, c, 128, 64) for c in CHANNELS],
        "samples a segment": [cost(n, 8, SAMPLES, n) for n in SEGMENTS],
    }
    if rate is not None:
        print(f"limit: {rate / 1e9:.0f} G multiplications or additions a second\n")
    for title, costs in growth.items():
        print(table(title, costs, rate), "\n")
    if chosen.plot is not None:
        plot(chosen.plot, growth, rate)


if __name__ == "__main__":
    main()
