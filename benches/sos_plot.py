"""How the filter bank's cost grows: the pictures of docs/sos.md.

python -m benches.sos_plot                    the numbers as Markdown
python -m benches.sos_plot --plot FILE        channels, bands and block sizes as a picture

The limit is what the processor can do when it does nothing else: independent multiplications and
additions from registers, timed in the same run (benches/machine.py, needs a C compiler). A section
takes five multiplications and four additions a sample and channel; they can't be fused, so that the
bits are SciPy's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.signal import sosfilt, sosfilt_zi

from benches.machine import machine, told
from benches.plotting import fastest_ns, pyplot
from phantomd.core.sos import FilterBank
from phantomd.signal.designs import band_pass, bank

RATE_HZ = 250.0
TICK = 6
SECTIONS = 4
OPERATIONS = 9  # a section, sample and channel
CHANNELS = (8, 16, 32, 64, 128, 256, 512, 1024)
BANDS = (1, 2, 4, 8, 16, 32)
BLOCKS = (1, 2, 3, 6, 12, 25, 50, 125, 250, 1000)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call: ``work`` is sections times samples times channels."""

    at: int
    work: int
    ours_ns: float
    ours_median_ns: float
    scipy_ns: float


def cost(at: int, channels: int, n_bands: int, block: int) -> Cost:
    edges = np.geomspace(1.0, 100.0, n_bands + 1)
    designs = [
        band_pass((float(low), float(high)), RATE_HZ, SECTIONS) for low, high in pairwise(edges)
    ]
    x = np.random.default_rng(0).standard_normal((block, channels))
    y = np.empty((block, n_bands, channels))
    bound = FilterBank(designs, channels, RATE_HZ).bind(x, y)
    states = [sosfilt_zi(sos)[:, :, None] * x[0] for sos in designs]

    def loop() -> None:
        for band, sos in enumerate(designs):
            _, states[band] = sosfilt(sos, x, axis=0, zi=states[band])

    ours, median = fastest_ns(lambda: bound.run(block))
    theirs, _ = fastest_ns(loop, 5)
    return Cost(at, SECTIONS * n_bands * block * channels, ours, median, theirs)


def table(title: str, costs: Sequence[Cost], rate: float | None) -> str:
    lines = [
        f"| {title} | a call, fastest | median | share of the limit | SciPy's loop | ratio |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for c in costs:
        share = "–" if rate is None else f"{100 * limit_ns(c, rate) / c.ours_ns:.0f} %"
        lines.append(
            f"| {c.at} | {c.ours_ns / 1e3:.3g} µs | {c.ours_median_ns / 1e3:.3g} µs | {share} "
            f"| {c.scipy_ns / 1e3:.4g} µs | {c.scipy_ns / c.ours_ns:.0f} |"
        )
    return "\n".join(lines)


def limit_ns(c: Cost, rate: float) -> float:
    return 1e9 * OPERATIONS * c.work / rate


def settle_table() -> str:
    """The stated settle times beside what the largest pole radius would say."""
    lines = ["| band | defined after | from the pole radius alone |", "|---|---:|---:|"]
    designs = {**bank(RATE_HZ), "beta, notch 50 Hz": bank(RATE_HZ, mains_hz=50.0)["beta"]}
    settle = FilterBank(list(designs.values()), 1, RATE_HZ).settle
    for (name, sos), samples in zip(designs.items(), settle, strict=True):
        radius = float(np.sqrt(sos[:, 5].max()))
        from_radius = np.log(1e-3) / np.log(radius) / RATE_HZ
        lines.append(f"| {name} | {samples / RATE_HZ:.2f} s | {from_radius:.2f} s |")
    return "\n".join(lines)


def growth() -> dict[str, list[Cost]]:
    return {
        "channels": [cost(n, n, 5, TICK) for n in CHANNELS],
        "bands": [cost(n, 8, n, TICK) for n in BANDS],
        "samples a call": [cost(n, 8, 5, n) for n in BLOCKS],
    }


def plot(path: Path, all_costs: dict[str, list[Cost]], rate: float | None) -> None:
    plt = pyplot()

    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.4), constrained_layout=True)
    rest = {
        "channels": f"5 bands × 4 sections, {TICK} samples",
        "bands": f"8 channels, 4 sections, {TICK} samples",
        "samples a call": "8 channels, 5 bands × 4 sections",
    }
    for axes, (title, costs) in zip(panels, all_costs.items(), strict=True):
        at = [c.at for c in costs]
        axes.loglog(at, [c.scipy_ns / 1e3 for c in costs], "s-", color="#c8561b", label="SciPy")
        ours = [c.ours_ns / 1e3 for c in costs]
        axes.loglog(at, ours, "o-", color="#1f5fa8", label="FilterBank, bound")
        if rate is not None:
            limit = [limit_ns(c, rate) / 1e3 for c in costs]
            name = f"limit: {rate / 1e9:.0f} G multiplications or additions/s"
            axes.loglog(at, limit, "k:", label=name)
        axes.set(xlabel=title, title=rest[title])
        axes.set_xscale("log", base=2 if title != "samples a call" else 10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("µs a call")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    limits, all_costs = machine(), growth()
    rate = None if limits is None else limits.operations
    print(f"limit: {'no compiler' if limits is None else told(limits)}\n")
    for title, costs in all_costs.items():
        print(table(title, costs, rate), end="\n\n")
    print(settle_table())
    if chosen.plot is not None:
        plot(chosen.plot, all_costs, rate)


if __name__ == "__main__":
    main()
