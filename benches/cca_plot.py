"""How the cost of CCA grows: numbers and pictures of docs/cca.md.

python -m benches.cca_plot               the tables as Markdown
python -m benches.cca_plot --plot DIR    cca_targets.png and cca_window.png into a folder

Times are medians of a tick, of the thread's processor clock: six new samples and the correlations
of one window. The limits are of the same machine and run, at best: the multiply-adds of a tick at
the rate at which a product of large matrices does them on one core, and the bytes of its sums at
that of a copy within 1 MiB.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benches.bench_cca import FORTY, RATE_HZ, TICK, Batched, noise
from benches.plotting import pyplot
from phantomd.core.cca import CanonicalCorrelation

plt = pyplot()

CHANNELS, HARMONICS, HOP = 9, 5, 25
TARGETS = (4, 8, 16, 24, 40, 64, 80, 120, 160)
CONDITIONS = (1.0, 1e3, 1e6, 1e8, 1e9)
SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
BLUE, ORANGE, GREY = "#1f5fa8", "#c8561b", "0.45"


def time_us(call: Callable[[], object], quantile: float = 0.5, seconds: float = 0.25) -> float:
    call()
    times: list[int] = []
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        begin = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - begin)
    return float(np.quantile(times, quantile)) / 1e3


def machine() -> tuple[float, float]:
    """Multiply-adds and bytes (read and written) a microsecond."""
    a, b = np.random.default_rng(0).standard_normal((2, 512, 512))
    product = np.empty((512, 512))
    macs = 512**3 / time_us(lambda: np.matmul(a, b, out=product), 0.0)
    source = np.zeros(64 * 1024)
    target = source.copy()
    return macs, 2 * source.nbytes / time_us(lambda: np.copyto(target, source), 0.0)


def work(targets: int) -> tuple[float, float]:
    """Multiply-adds and bytes of a mean tick, divisions and roots not counted.

    A mean tick gathers its new samples and half a block of the window's oldest, closes two blocks,
    and joins five sums; a block is complete every HOP / TICK ticks, and joins three pairs.
    """
    c, r, padded = CHANNELS, 2 * HARMONICS * targets, 16
    node = c * r + r + c * padded
    gathered = (TICK + (HOP - 1) / 2) * c * (r + padded)
    closed = (2 + TICK / HOP) * 3 * c * r
    joined = (5 + 6 * TICK / HOP) * c * r
    rows = c * r * (2 + (HARMONICS + 1) / 2 + (c + 1) / 2)
    roots = targets * (c * (c + 1) / 2 * 2 * HARMONICS + 2 / 3 * c**3 + 8 * 8 * c)
    moved = (5 + 1 + 9 * TICK / HOP) * node * 8
    return gathered + closed + joined + rows + roots, moved


def ours_us(targets: int, seconds: float) -> float:
    window = round(seconds * RATE_HZ)
    frequencies = np.linspace(8.0, 15.8, targets)
    cca = CanonicalCorrelation(
        frequencies, [window], rate_hz=RATE_HZ, channels=CHANNELS, harmonics=HARMONICS, hop=HOP
    )
    cca.push(noise(window + 100))
    return time_us(cca.bind(noise(TICK), np.empty((1, targets))))


def numpy_us(targets: int, seconds: float) -> float:
    window = round(seconds * RATE_HZ)
    peer, x = Batched(np.linspace(8.0, 15.8, targets), window, HARMONICS), noise(window)
    return time_us(lambda: peer.by_svd(x))


Row = tuple[float, float, float, float, float]


def measure(by_targets: bool) -> list[Row]:
    """Targets or seconds, ours, NumPy, limit of multiply-adds, limit of bytes; µs."""
    macs, bandwidth = machine()
    rows: list[Row] = []
    for value in TARGETS if by_targets else SECONDS:
        targets, seconds = (int(value), 1.0) if by_targets else (40, float(value))
        done, moved = work(targets)
        times = ours_us(targets, seconds), numpy_us(targets, seconds)
        rows.append((float(value), *times, done / macs, moved / bandwidth))
    return rows


def exactness() -> str:
    """Largest distance from QR and SVD, twenty draws of 250 samples on 62 mV of offset."""
    peer, targets = Batched(FORTY, 250), FORTY
    rng = np.random.default_rng(0)
    lines = ["| cond(Cxx) | largest error |", "|---:|---:|"]
    for condition in CONDITIONS:
        worst = 0.0
        for _ in range(20):
            u, _, v = np.linalg.svd(rng.standard_normal((CHANNELS, CHANNELS)))
            mixing = (u * np.geomspace(1.0, condition**-0.5, CHANNELS)) @ v
            x = 62e3 + 30.0 * rng.standard_normal((250, CHANNELS)) @ mixing
            cca = CanonicalCorrelation(targets, [250], rate_hz=RATE_HZ, channels=CHANNELS)
            cca.push(x)
            worst = max(worst, float(abs(cca.correlations()[0] - peer.by_svd(x)).max()))
        lines.append(f"| {condition:.0e} | {worst:.0e} |")
    return "\n".join(lines)


def table(rows: list[Row], name: str) -> str:
    lines = [
        f"| {name} | a tick, µs | batched NumPy, µs | ratio | multiply-adds, µs | bytes, µs |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {x:g} | {ours:.1f} | {peer:.0f} | {peer / ours:.0f} | {macs:.1f} | {moved:.1f} |"
        for x, ours, peer, macs, moved in rows
    ]
    return "\n".join(lines)


def plot(rows: list[Row], name: str, title: str, path: Path) -> None:
    x, ours, peer, macs, moved = np.array(rows).T
    figure, axes = plt.subplots(figsize=(8.0, 5.0), constrained_layout=True)
    axes.loglog(x, peer, "s--", color=ORANGE, label="NumPy, batched SVD, references ready")
    axes.loglog(x, ours, "o-", color=BLUE, label="a tick: 6 samples in, one window out")
    axes.loglog(x, macs, "-", color=GREY, label="limit: its multiply-adds, one core")
    axes.loglog(x, moved, ":", color=GREY, label="limit: its bytes, from cache")
    axes.set(title=title, xlabel=name, ylabel="µs", ylim=(0.2, 2e4))
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="DIR")
    chosen = parser.parse_args()
    targets, windows = measure(by_targets=True), measure(by_targets=False)
    print(table(targets, "targets"), table(windows, "window, s"), exactness(), sep="\n\n")
    if chosen.plot is not None:
        title = "CCA, 9 channels, 5 harmonics, window 1 s"
        plot(targets, "targets", title, chosen.plot / "cca_targets.png")
        title = "CCA, 9 channels, 5 harmonics, 40 targets"
        plot(windows, "window, s", title, chosen.plot / "cca_window.png")


if __name__ == "__main__":
    main()
