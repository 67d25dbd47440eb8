"""Draws docs/img/simulator.png: ten seconds of the simulator and its spectra, truth marked.

python benches/simulator_plot.py [ADDRESS]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from benches.plotting import pyplot
from phantomd.contracts import MONTAGE
from phantomd.devices.base import Address
from phantomd.devices.simulator import Simulator, open_simulator

plt = pyplot()

ADDRESS = (
    "simulator:?seed=1&ssvep=12,15&faults="
    "blink@4.2:uv=160,emg@5..6:uv=35,pop@7:channel=C4:uv=300,eyes@7.5:state=closed"
)
OUT = Path(__file__).resolve().parent.parent / "docs" / "img" / "simulator.png"
SECONDS = 10.0
SPECTRUM_SECONDS = 120.0
SPACING_UV = 150.0
COLOURS = {"blink": "tab:orange", "emg": "tab:green", "pop": "tab:red"}


def draw_traces(axes: Any, device: Simulator) -> None:
    """Each channel less its electrode offset; what began is shaded, alpha alone in black."""
    rate_hz = device.spec.rate_hz
    n = int(SECONDS * rate_hz)
    truth = device.truth(0, n)
    t = np.arange(n) / rate_hz
    for c, label in enumerate(device.spec.labels):
        level = -c * SPACING_UV
        trace = truth["signal"][:, c] - truth["offset"][:, c]
        axes.plot(t, level + trace, lw=0.5, color="tab:blue")
        axes.plot(t, level + truth["alpha"][:, c], lw=0.6, color="black")
        axes.text(-0.15, level, label, ha="right", va="center")
    shown: set[str] = set()
    for event in device.events(0, n):
        if event.kind not in COLOURS:
            continue
        span_s = 1.0 if event.kind == "pop" else max((event.n or 1) / rate_hz, 0.34)
        axes.axvspan(
            event.start / rate_hz,
            min(SECONDS, event.start / rate_hz + span_s),
            color=COLOURS[event.kind],
            alpha=0.2,
            lw=0,
            label=None if event.kind in shown else event.kind,
        )
        shown.add(event.kind)
    axes.set(xlim=(0, SECONDS), ylim=(-7.8 * SPACING_UV, 2.0 * SPACING_UV), xlabel="s", yticks=[])
    wrapped = device.spec.address.replace("&faults", "\n&faults")
    axes.set_title(
        f"{wrapped}\nblue: as sent, less the electrode offset; black: its alpha", fontsize=9
    )
    axes.legend(loc="upper left", ncols=3)
    axes.plot([9.9, 9.9], [SPACING_UV, SPACING_UV + 100], color="black", lw=2)
    axes.text(9.85, SPACING_UV + 50, "100 µV", ha="right", va="center")


def draw_spectra(axes: Any, device: Simulator) -> None:
    """Density of a frontal and a parietal channel, with the configured slope and tones."""
    rate_hz = device.spec.rate_hz
    config = device.config
    truth = device.truth(0, int(SPECTRUM_SECONDS * rate_hz))
    for c, colour in ((0, "tab:orange"), (len(config.sites) - 2, "tab:blue")):
        f, p = signal.welch(truth["signal"][:, c], rate_hz, nperseg=int(8 * rate_hz))
        axes.loglog(f[2:], p[2:], lw=0.8, color=colour, label=config.labels[c])
    f, p = signal.welch(truth["background"], rate_hz, nperseg=int(8 * rate_hz), axis=0)
    axes.loglog(f[2:], p.mean(axis=1)[2:], lw=0.8, color="grey", label="background alone")
    # its RMS within 0.5 .. 40 Hz fixes the line
    a = config.background_exponent
    edge = f[(f >= 0.5) & (f <= 40)]
    scale = config.background_uv**2 / (edge**-a).sum() / f[1]
    axes.loglog(edge, scale * edge**-a, "k--", lw=1, label=f"1/f^{a:g}, as configured")
    tones = {"alpha": config.alpha_hz, "line": config.line_hz}
    for i, target in enumerate(config.targets):
        tones[f"ssvep {i + 1}"] = target.hz
    for i, (name, hz) in enumerate(tones.items()):
        axes.axvline(hz, color="black", lw=0.4, ls=":")
        axes.text(hz, 5e3 / 2**i, f"{name} {hz:g} Hz ", ha="right", fontsize=8)
    axes.set(xlim=(0.25, rate_hz / 2), ylim=(3e-2, 1e4), xlabel="Hz", ylabel="µV²/Hz")
    axes.legend(loc="lower left", fontsize=8)


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else ADDRESS
    device = open_simulator(Address.parse(address), MONTAGE)
    figure, (traces, spectra) = plt.subplots(
        1, 2, figsize=(14, 7), width_ratios=(3, 2), layout="constrained"
    )
    draw_traces(traces, device)
    draw_spectra(spectra, device)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT, dpi=110)
    print(OUT)


if __name__ == "__main__":
    main()
