"""The picture of docs/clock.md; ``python -m benches.clock_accuracy --plot FILE`` draws it."""

from pathlib import Path

import numpy as np

from benches.clock_world import Jitter, crystal, deliver, error_ms, exponential, gamma, uniform
from benches.plotting import pyplot

RATE_HZ = 250.0
LAWS: dict[str, Jitter] = {
    "exponential, mean 3 ms": exponential(0.003),
    "gamma k = 2, mean 3 ms": gamma(2.0, 0.0015),
    "gamma k = 2, scale 3 ms": gamma(2.0, 0.003),
}
PTY = {"uniform 20–200 µs": uniform(20e-6, 200e-6)}


def plot(path: Path) -> None:
    """Error against time: known gaps and a 1 % rate step, three laws of jitter."""
    plt = pyplot()

    figure, axes = plt.subplots(2, 2, figsize=(11.0, 6.5), layout="constrained")
    at_s = 60.0
    for name, law in (LAWS | PTY).items():
        rng = np.random.default_rng(1)
        true_s = crystal(rng, RATE_HZ, 90.0, ppm=50.0)
        gap = deliver(rng, RATE_HZ, true_s, law).lose(at_s, 1250)
        gap_error = error_ms(gap)
        for axis, step_ppm in ((axes[1, 0], 1e4), (axes[1, 1], -1e4)):
            rng = np.random.default_rng(2)
            true_s = crystal(rng, RATE_HZ, 90.0, ppm=50.0, steps=((at_s, step_ppm),))
            delivery = deliver(rng, RATE_HZ, true_s, law)
            axis.plot(delivery.true_s - at_s, error_ms(delivery), label=name, lw=1.2)
        axes[0, 0].plot(gap.true_s, gap_error * 1e3, ".", ms=1.5, label=name)
        axes[0, 1].plot(gap.true_s - at_s, gap_error * 1e3, ".", ms=2.5, label=name)
    titles = (
        (axes[0, 0], "from the lock on; 5 s lost at 60 s", "error, µs", (0.0, 90.0), None),
        (axes[0, 1], "around the 5 s that were lost", "error, µs", (-2.0, 8.0), (-50.0, 200.0)),
        (axes[1, 0], "rate 1 % lower at 0 s", "error, ms", (-1.0, 5.0), None),
        (axes[1, 1], "rate 1 % higher at 0 s", "error, ms", (-1.0, 5.0), None),
    )
    for axis, title, unit, across, up in titles:
        axis.set(title=title, ylabel=unit, xlabel="s", xlim=across)
        if up is not None:
            axis.set_ylim(*up)
        axis.grid(alpha=0.3)
    for axis in (axes[1, 0], axes[1, 1]):
        axis.axhspan(-1.0, 1.0, color="tab:green", alpha=0.12, lw=0)
    axes[0, 0].legend(markerscale=6, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"\nwritten: {path}")
