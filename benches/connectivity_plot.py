"""What gamma synchrony says of coupling: the table and picture of docs/connectivity.md.

python -m benches.connectivity_plot                    the numbers as Markdown
python -m benches.connectivity_plot --plot FILE        z and PLV against coupling as a picture

Eight channels, one second at 250 Hz, 30 to 90 Hz, 60 windows a point. Noise: each channel is
sqrt(c) of something common and sqrt(1 - c) of its own. Oscillation: c of a sinusoid of random
frequency, at a random phase in each channel, and 1 - c of noise of its own. "Shifts in time alone"
is the usual null on the same phases, with the median and MAD of its 40 means.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import detrend, hilbert

from benches.plotting import pyplot
from phantomd.core.connectivity import PhaseSynchrony

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
N = 250
CHANNELS = 8
LOW, HIGH = 30.0, 90.0
WINDOWS = 60
COUPLINGS = np.linspace(0, 1, 11)
WIDTHS_HZ = (60.0, 30.0, 10.0, 5.0, 2.0, 1.0)
BELOW = np.tril_indices(CHANNELS, -1)
T = np.arange(N)[:, None] / RATE_HZ


def noise_of(
    rng: np.random.Generator, channels: int, low: float = LOW, high: float = HIGH
) -> Array:
    f = np.fft.rfftfreq(4 * N, 1 / RATE_HZ)
    z = rng.standard_normal((len(f), channels)) + 1j * rng.standard_normal((len(f), channels))
    z[(f < low) | (f > high)] = 0
    y = np.fft.irfft(z, axis=0)[N : 2 * N]
    return np.asarray(y / y.std(axis=0))


def noise(coupling: float, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    common, own = noise_of(rng, 1), noise_of(rng, CHANNELS)
    return math.sqrt(coupling) * common + math.sqrt(1 - coupling) * own


def oscillation(coupling: float, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, CHANNELS)
    wave = math.sqrt(2) * np.sin(2 * np.pi * rng.uniform(35, 85) * T + phase)
    return coupling * wave + (1.001 - coupling) * noise_of(rng, CHANNELS)


def z_of_time_shifts(x: Array, shifts: npt.NDArray[np.int64]) -> float:
    z = np.fft.rfft(detrend(x, axis=0, type="linear"), axis=0)
    f = np.fft.rfftfreq(N, 1 / RATE_HZ)
    z[(f < LOW) | (f > HIGH)] = 0
    a = hilbert(np.fft.irfft(z, n=N, axis=0), axis=0)
    u = a / abs(a)
    i, j = BELOW
    transforms = np.fft.fft(u, axis=0)
    every = abs(np.fft.ifft(transforms[:, i] * transforms[:, j].conj(), axis=0)) / N
    means = every[(shifts[:, i] - shifts[:, j]) % N, np.arange(len(i))].mean(axis=1)
    middle = np.median(means)
    return float((every[0].mean() - middle) / (1.4826 * np.median(abs(means - middle))))


def sweep(signal: Callable[[float, int], Array]) -> tuple[Array, Array, Array]:
    """PLV, z, z of time shifts: [couplings, windows]."""
    plan = PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, band_hz=(LOW, HIGH))
    shifts = plan.shifts
    told = np.empty((3, len(COUPLINGS), WINDOWS))
    for row, coupling in enumerate(COUPLINGS):
        for seed in range(WINDOWS):
            x = signal(float(coupling), seed)
            result = plan.run(x)
            told[:, row, seed] = result.plv, result.z, z_of_time_shifts(x, shifts)
    return told[0], told[1], told[2]


def spread(values: Array) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def sweep_table(name: str, told: tuple[Array, Array, Array]) -> str:
    lines = [
        f"| {name}: coupling | PLV | z | z of shifts in time alone |",
        "|---:|---:|---:|---:|",
    ]
    for row, coupling in enumerate(COUPLINGS):
        plv, z, other = (values[row] for values in told)
        lines.append(f"| {coupling:.1f} | {np.median(plv):.2f} | {spread(z)} | {spread(other)} |")
    return "\n".join(lines)


def width_table() -> str:
    """Channels that are not coupled, but share a band narrower than gamma."""
    plan = PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, band_hz=(LOW, HIGH))
    lines = [
        "| not coupled, all in a band of | PLV | z | z ≥ 3 | z ≥ 3 and dispersion ≤ 0.4 |",
        "|---:|---:|---:|---:|---:|",
    ]
    for width in WIDTHS_HZ:
        told = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            x = noise_of(rng, CHANNELS, 60 - width / 2, 60 + width / 2)
            told.append(plan.run(x + 0.02 * noise_of(rng, CHANNELS)))
        z = np.array([result.z for result in told])
        plv = np.array([result.plv for result in told])
        both = (z >= 3) & (1 - plv <= 0.4)
        lines.append(
            f"| {width:g} Hz | {np.median(plv):.2f} | {spread(z)} | {100 * (z >= 3).mean():.1f} % "
            f"| {100 * both.mean():.1f} % |"
        )
    return "\n".join(lines)


def plot(path: Path, sweeps: dict[str, tuple[Array, Array, Array]]) -> None:
    plt = pyplot()

    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.2), constrained_layout=True)
    for axes, (name, (_, z, other)) in zip(panels, sweeps.items(), strict=False):
        for values, colour, label in (
            (z, "#1f5fa8", "PhaseSynchrony"),
            (other, "#c8561b", "shifts in time alone"),
        ):
            low, middle, high = np.percentile(values, [5, 50, 95], axis=1)
            axes.plot(COUPLINGS, middle, "o-", color=colour, label=label)
            axes.fill_between(COUPLINGS, low, high, color=colour, alpha=0.2, lw=0)
        axes.axhline(3, color="k", ls=":", lw=1)
        axes.set(xlabel="coupling", ylabel="z", title=name)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8, loc="upper left")
    for name, (plv, _, _) in sweeps.items():
        panels[2].plot(COUPLINGS, np.median(plv, axis=1), "o-", label=name)
    panels[2].axhline(0.6, color="k", ls=":", lw=1)
    panels[2].set(xlabel="coupling", ylabel="mean PLV", title="phase locking", ylim=(0, 1))
    panels[2].legend(fontsize=8)
    panels[2].grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    sweeps = {"noise": sweep(noise), "steady oscillation": sweep(oscillation)}
    for name, told in sweeps.items():
        print(sweep_table(name, told), "\n")
    print(width_table())
    if chosen.plot is not None:
        plot(chosen.plot, sweeps)


if __name__ == "__main__":
    main()
