"""How the spike path's cost grows with channels: the picture of docs/spikes.md.

python -m benches.spike_plot                    the numbers as Markdown
python -m benches.spike_plot --plot FILE        and as a picture

Times are of the thread's processor clock, so that other programs count for little. Limits, measured
in the same run: multiplications and additions from registers (a section takes nine a sample and
channel; needs a C compiler), and the bytes of the block read once from memory.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import sosfilt, sosfilt_zi

from benches.bench_spike import BLOCK, RATE_HZ, SOS, blocks, warm
from benches.plotting import fastest_ns, pyplot
from phantomd.core.spike import SpikeDetector

CHANNELS = (8, 16, 32, 64, 128, 256, 512, 1024)
OPERATIONS = 9  # a section, sample and channel
REFERENCES = ("none", "average", "median")


ROOF = """
#include <stdint.h>                 /* brings __GLIBC__ */
typedef float lanes __attribute__((vector_size(32)));
#if defined(__x86_64__) && defined(__GLIBC__)
__attribute__((target_clones("default", "avx2")))
#endif
void run(int rounds, float *at)
{
    lanes *v = (lanes *)at, f = v[12], g = v[13];
    lanes a0 = v[0], a1 = v[1], a2 = v[2], a3 = v[3], a4 = v[4], a5 = v[5];
    lanes m0 = v[6], m1 = v[7], m2 = v[8], m3 = v[9], m4 = v[10], m5 = v[11];
    for (int i = 0; i < rounds; i++) {
        a0 += f; a1 += f; a2 += f; a3 += f; a4 += f; a5 += f;
        m0 *= g; m1 *= g; m2 *= g; m3 *= g; m4 *= g; m5 *= g;
        __asm__ volatile("" ::: "memory");
    }
    *v = a0 + a1 + a2 + a3 + a4 + a5 + m0 + m1 + m2 + m3 + m4 + m5;
}
"""


def roof() -> float | None:
    """Multiplications and additions a second, or None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "roof.c"), Path(folder, "roof.so")
        source.write_text(ROOF)
        flags = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", "-Wno-psabi"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        run = ctypes.CDLL(str(library)).run
        memory = np.full(15 * 8, 0.999, np.float32)
        at = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 32)
        ns, _ = fastest_ns(lambda: run(50_000, at), 15)
    return 1e9 * 50_000 * 12 * 8 / ns


@dataclass(frozen=True, slots=True)
class Cost:
    channels: int
    ours_ms: dict[str, float]
    worst_ms: dict[str, float]
    scipy_ms: float
    operations: int

    @property
    def bytes(self) -> int:
        return 4 * BLOCK * self.channels


def cost(channels: int) -> Cost:
    parts = blocks(channels)
    ours, worst = {}, {}
    for reference in REFERENCES:
        detector = warm(SpikeDetector(SOS, channels, RATE_HZ, reference=reference), list(parts))
        at = 0

        def run(detector: SpikeDetector = detector) -> None:
            nonlocal at
            detector.process(parts[at % len(parts)])
            at += 1

        ours[reference], worst[reference] = (ns / 1e6 for ns in fastest_ns(run, 60))
    sos = SOS.astype(np.float32)
    zi = (sosfilt_zi(SOS)[:, :, None] * parts[0][0]).astype(np.float32)
    scipy, _ = fastest_ns(lambda: sosfilt(sos, parts[0], axis=0, zi=zi), 9)
    work = len(SOS) * OPERATIONS * BLOCK * channels
    return Cost(channels, ours, worst, scipy / 1e6, work)


def bytes_a_second() -> float:
    """Of reading: the sum of 256 MiB that no cache holds."""
    memory = np.ones(1 << 25)
    ns, _ = fastest_ns(lambda: memory.max(), 7)
    return 1e9 * memory.nbytes / ns


def table(costs: list[Cost], operations: float | None, bandwidth: float) -> str:
    lines = [
        "| channels | none | average (median) | median (median) | arithmetic limit | memory limit "
        "| SciPy's band-pass | ratio to average |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for c in costs:
        limit = "–" if operations is None else f"{1e3 * c.operations / operations:.3f}"
        o, w = c.ours_ms, c.worst_ms
        lines.append(
            f"| {c.channels} | {o['none']:.3f} | {o['average']:.3f} ({w['average']:.3f}) "
            f"| {o['median']:.3f} ({w['median']:.3f}) | {limit} | {1e3 * c.bytes / bandwidth:.3f} "
            f"| {c.scipy_ms:.2f} | {c.scipy_ms / o['average']:.1f} |"
        )
    if operations is not None:
        lines.append(f"\nlimits: {operations / 1e9:.0f} G operations/s, {bandwidth / 1e9:.1f} GB/s")
    return "\n".join(lines)


def plot(path: Path, costs: list[Cost], operations: float | None, bandwidth: float) -> None:
    plt = pyplot()

    figure, axes = plt.subplots(figsize=(7.5, 5), constrained_layout=True)
    at = [c.channels for c in costs]
    axes.loglog(
        at, [c.scipy_ms for c in costs], "s-", color="#c8561b", label="SciPy, band-pass alone"
    )
    for reference, colour in zip(REFERENCES, ("#8fb4dc", "#1f5fa8", "#2a8a5a"), strict=True):
        name = f"all of it, reference: {reference}"
        axes.loglog(at, [c.ours_ms[reference] for c in costs], "o-", color=colour, label=name)
    if operations is not None:
        limit = [1e3 * c.operations / operations for c in costs]
        name = f"limit: {operations / 1e9:.0f} G multiplications or additions/s"
        axes.loglog(at, limit, "k:", label=name)
    reading = [1e3 * c.bytes / bandwidth for c in costs]
    axes.loglog(at, reading, "k--", label=f"limit: {bandwidth / 1e9:.0f} GB/s read", lw=0.9)
    axes.axhline(2.5, color="#b00", lw=0.9)
    axes.text(8, 2.6, "10 % of real time", color="#b00", fontsize=8, va="bottom")
    axes.set(
        xlabel="channels", ylabel="ms for 25 ms", title="25 ms at 30 kHz, 2 sections, one core"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [str(n) for n in at])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    operations = roof()
    bandwidth = bytes_a_second()
    costs = [cost(n) for n in CHANNELS]
    print(table(costs, operations, bandwidth))
    if chosen.plot is not None:
        plot(chosen.plot, costs, operations, bandwidth)


if __name__ == "__main__":
    main()
