"""Numbers and picture of docs/resampler.md.

python -m benches.resampler_plot                 the table of rates as Markdown, and the rest
python -m benches.resampler_plot --plot FILE     the response at 250 Hz, as a picture
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benches.plotting import pyplot
from phantomd.core.resample import Resampler
from phantomd.engine.prototype import Phase, Prototype, design

plt = pyplot()

RATES_HZ = (64, 80, 100, 120, 125, 128, 160, 200, 250, 256, 300, 500, 512, 1000, 2048, 4096)
FAST_HZ = (8192, 12000, 16000)
COLOURS: dict[Phase, str] = {"linear": "#1f5fa8", "minimum": "#c8561b"}


def table() -> str:
    lines = [
        "| native rate | passband | stopband | linear: delay | ripple | attenuation | taps "
        "| minimum: delay | ripple | attenuation | phase error |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in (*RATES_HZ, *FAST_HZ):
        linear, minimum = design(float(rate)), design(float(rate), "minimum")
        lines.append(
            f"| {rate} Hz | {linear.passband_hz:g} Hz | {linear.stopband_hz:g} Hz "
            f"| {1e3 * linear.delay_s:.1f} ms | {linear.ripple_db:.3f} dB "
            f"| {linear.attenuation_db:.1f} dB | {linear.taps} "
            f"| {1e3 * minimum.delay_s:.1f} ms | {minimum.ripple_db:.3f} dB "
            f"| {minimum.attenuation_db:.1f} dB "
            f"| {minimum.phase_error_deg:.1f}°, {minimum.phase_error_ms:.2f} ms |"
        )
    return "\n".join(lines)


def between_rows(prototype: Prototype, tone_hz: float) -> float:
    """What interpolating between rows adds to a unit tone: a quarter of what every second row does,
    which the rows left out show."""
    positions = prototype.taps + np.arange(1, 2 * prototype.phases, 2) / prototype.phases
    x = np.cos(2 * np.pi * tone_hz / prototype.rate_hz * np.arange(3 * prototype.taps)[:, None])
    halved = Resampler(prototype.table[::2], prototype.ahead).at_many(x, positions)
    exact = Resampler(prototype.table, prototype.ahead).at_many(x, positions)
    return float(np.abs(halved - exact).max()) / 4


def constant_ripple_uv(prototype: Prototype) -> float:
    x = np.full((4 * prototype.taps, 1), 100e3)
    positions = np.random.default_rng(0).uniform(prototype.taps, 2 * prototype.taps, 100_000)
    return float(np.ptp(Resampler(prototype.table, prototype.ahead).at_many(x, positions)))


def remarks() -> str:
    every = [design(float(rate)) for rate in (*RATES_HZ, *FAST_HZ)]
    tones = np.array([50.0, 60.0, 64.0, 75.0])
    losses = 20 * np.log10(np.abs(design(250.0).response(tones)))
    odd, longer = design(149.0, "minimum"), design(149.0, "minimum", max_delay_s=0.0205)
    slow, hasty = design(64.0, "minimum"), design(64.0, "minimum", max_delay_s=0.020)
    whole = [
        float(rate)
        for rate in (*np.arange(118.0, 126.0, 0.5), *np.arange(12400.0, 12700.0, 10.0))
        if design(float(rate)).passband_hz == 45.0
    ]
    return "\n".join(
        [
            "between rows, worst of these rates: "
            f"{max(between_rows(p, p.passband_hz) for p in every):.1e} at the passband edge, "
            f"{max(between_rows(p, (p.passband_hz + p.stopband_hz) / 2) for p in every):.1e} "
            "in the middle of the transition",
            f"100 mV, worst of these rates: {max(map(constant_ripple_uv, every)):.1e} µV of ripple",
            "transition at 250 Hz: "
            + ", ".join(
                f"{loss:.1f} dB at {tone:g} Hz" for tone, loss in zip(tones, losses, strict=True)
            ),
            f"minimum phase at 149 Hz: {1e3 * odd.delay_s:.1f} ms, {odd.phase_error_deg:.0f}°; "
            f"given a sample more: {1e3 * longer.delay_s:.1f} ms, {longer.phase_error_deg:.0f}°",
            f"minimum phase at 64 Hz: {1e3 * slow.delay_s:.1f} ms, {slow.phase_error_deg:.1f}°; "
            f"within 20 ms: {1e3 * hasty.delay_s:.1f} ms, {hasty.phase_error_deg:.0f}°",
            f"45 Hz are reached from {whole[0]:g} to {whole[-1]:g} Hz",
            f"table at 250 Hz: {design(250.0).table.nbytes >> 10} KiB",
        ]
    )


def measured(prototype: Prototype, tones_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.complex128]:
    """Gains of tones that were sent through the kernel, at random positions."""
    rate = prototype.rate_hz
    rng = np.random.default_rng(0)
    positions = rng.uniform(prototype.taps, prototype.taps + 4 * rate, 4000)
    n = np.arange(round(2 * prototype.taps + 4 * rate) + 2)
    kernel = Resampler(prototype.table, prototype.ahead)
    gains = np.empty(tones_hz.size, dtype=np.complex128)
    for i, tone in enumerate(tones_hz):
        angle = 2 * np.pi * tone / rate
        x = np.stack((np.cos(angle * n), np.sin(angle * n)), axis=1)
        y = kernel.at_many(x, positions)
        gains[i] = np.mean((y[:, 0] + 1j * y[:, 1]) * np.exp(-1j * angle * positions))
    return gains


def plot(path: Path, rate_hz: float = 250.0) -> None:
    figure, (wide, flat, phase_axes, delay_axes) = plt.subplots(
        4, 1, figsize=(8.5, 12.0), constrained_layout=True
    )
    figure.suptitle(f"Resampler, {rate_hz:g} Hz to the 128 Hz grid")
    every = np.linspace(0.5, 420.0, 3000)
    passed = np.linspace(0.5, 45.0, 300)
    tones = np.arange(1.0, 46.0, 2.0)
    styles: dict[Phase, str] = {"linear": "-", "minimum": "--"}
    for phase, colour in COLOURS.items():
        prototype = design(rate_hz, phase)
        name = f"{phase}: waits {1e3 * prototype.delay_s:.0f} ms"
        loss = 20 * np.log10(np.abs(prototype.response(every)) + 1e-9)
        wide.plot(every, loss, styles[phase], color=colour, label=name, lw=1.2)
        response = prototype.response(passed)
        found = measured(prototype, tones)
        flat.plot(passed, 20 * np.log10(np.abs(response)), styles[phase], color=colour)
        flat.plot(tones, 20 * np.log10(np.abs(found)), ".", color=colour)
        angle = np.unwrap(np.angle(response))
        phase_axes.plot(passed, np.degrees(angle), styles[phase], color=colour)
        phase_axes.plot(tones, np.degrees(np.angle(found)), ".", color=colour)
        group = -np.gradient(angle, 2 * np.pi * passed)
        delay_axes.plot(passed, 1e3 * group, styles[phase], color=colour)
    edge = design(rate_hz).stopband_hz
    wide.axvspan(edge, every[-1], ymin=0, ymax=1, color="0.93", lw=0, label="aliases and images")
    wide.plot([edge, every[-1]], [-60, -60], "k:", lw=1, label="limit: -60 dB")
    wide.set(
        ylim=(-120, 5), xlim=(0, every[-1]), ylabel="gain, dB", xlabel="native tone or image, Hz"
    )
    wide.legend(loc="upper right")
    for limit in (-0.1, 0.1):
        flat.axhline(limit, color="k", ls=":", lw=1)
    flat.set(ylim=(-0.13, 0.13), ylabel="gain, dB (dots: tones sent through)")
    phase_axes.set(ylabel="phase, degrees, delay taken out")
    delay_axes.set(ylabel="group delay left, ms")
    for axes in (flat, phase_axes, delay_axes):
        axes.set(xlim=(0, 46), xlabel="Hz")
    for axes in (wide, flat, phase_axes, delay_axes):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    if chosen.plot is None:
        print(table(), remarks(), sep="\n\n")
    else:
        plot(chosen.plot)


if __name__ == "__main__":
    main()
