"""The simulator's artifacts: runs that have them, and where they are by its truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benches.artifact_data import Array
from benches.artifact_windows import Bools, Sorted, Windows
from phantomd.contracts import MONTAGE
from phantomd.devices.base import Address
from phantomd.devices.simulator import Simulator, open_simulator
from phantomd.signal import artifacts

RUN_S = 120.0
RAIL_UV = 187_500.0
QUIET = "blink_per_min=0&emg_per_min=0&pop_per_min=0"


class Truth:
    """A run, its windows, and for each kind how much of it is in each window: ``amount``."""

    def __init__(self, options: str, seed: int, run_s: float = RUN_S) -> None:
        device = simulator(f"{options}&seed={seed}", run_s)
        self.rate_hz = device.spec.rate_hz
        n = int(run_s * self.rate_hz)
        truth = device.truth(0, n)
        lost = np.zeros(n, bool)
        for event in device.faults():
            if event.kind in ("gap", "burst", "silence"):
                lost[event.start : event.start + (event.n or 0)] = True
        uv = truth["signal"].copy()
        uv[lost] = np.nan
        self.uv, self.parts = uv, truth
        self.windows = Windows(
            device.spec.labels, self.rate_hz, uv, range_uv=(-RAIL_UV, RAIL_UV), lost=lost
        )
        stuck = np.zeros(n)
        for event in device.faults():
            if event.kind in ("flatline", "saturate"):
                stuck[event.start : event.start + (event.n or 0)] = 1.0
        lag = max(1, round(artifacts.LAG_S * self.rate_hz))
        jumps = np.zeros(truth["pop"].shape)
        jumps[lag:] = abs(truth["pop"][lag:] - truth["pop"][:-lag])
        self.amount = {
            "blink": self.windows.largest(abs(truth["blink"]).max(axis=1)),
            "emg": self._over(truth["emg"], lambda part: part.std(axis=0).max()),
            "pop": self._over(jumps, lambda part: part[lag:].max()),
            "tail": self.windows.largest(abs(truth["pop"]).max(axis=1)),
            "line": self._over(truth["line"], lambda part: part.std(axis=0).max()),
            "drift": self._over(truth["offset"], lambda part: abs(part[-1] - part[0]).max()),
            "lost": self._over(lost[:, None].astype(float), lambda part: part.mean()),
            "stuck": self._over(stuck[:, None], lambda part: part.mean()),
        }

    def _over(self, part: Array, f: Callable[[Array], float]) -> Array:
        n = self.windows.samples
        return np.array([f(part[end - n : end]) for end in self.windows.ends])

    def clean(self) -> Bools:
        a = self.amount
        still = (a["blink"] < 5) & (a["emg"] < 1) & (a["tail"] < 5) & (a["drift"] < 50)
        return np.asarray(still & (a["line"] < 10) & (a["lost"] == 0) & (a["stuck"] == 0))


#: Of what the window holds at least, to count as having it: µV, or a share.
PRESENT = {"blink": 50.0, "emg": 10.0, "pop": 100.0, "line": 40.0, "drift": 300.0}


def simulator(options: str, run_s: float) -> Simulator:
    device = open_simulator(Address.parse(f"simulator:?{options}"), MONTAGE)
    device.driver.advance(0)
    device.driver.advance(int(run_s * 1e9) + 1)
    return device


def every(seconds: int, kind: str, length_s: float, run_s: float = RUN_S) -> str:
    """At most 32 of them."""
    times = range(seconds, int(run_s) - 2, seconds)
    return "faults=" + ",".join(f"{kind}@{t}..{t + length_s:g}" for t in times)


#: For each kind: a run that has it, the truth that says where, and how much counts.
CONDITIONS: tuple[tuple[str, str, str, str, float], ...] = (
    ("clipping", "saturate", f"{QUIET}&{every(8, 'saturate', 0.6)}", "stuck", 0.05),
    ("dropout", "flatline", f"{QUIET}&{every(8, 'flatline', 0.6)}", "stuck", 0.25),
    ("dropout", "gap", f"{QUIET}&{every(8, 'gap', 0.3)}", "lost", 0.05),
    ("line", "50 Hz, 100 µV against 8", f"{QUIET}&line_uv=100", "line", PRESENT["line"]),
    ("line", "60 Hz, 100 µV against 8", f"{QUIET}&line_uv=100&line_hz=60", "line", PRESENT["line"]),
    ("blink", "all at once", "blink_per_min=15", "blink", PRESENT["blink"]),
    ("blink", "alpha 60 µV", "blink_per_min=15&alpha_uv=60", "blink", PRESENT["blink"]),
    ("emg", "all at once", "emg_per_min=12", "emg", PRESENT["emg"]),
    ("emg", "500 Hz", "emg_per_min=12&rate_hz=500", "emg", PRESENT["emg"]),
    ("emg", "160 Hz", "emg_per_min=12&rate_hz=160", "emg", PRESENT["emg"]),
    ("emg", "128 Hz", "emg_per_min=12&rate_hz=128", "emg", PRESENT["emg"]),
    ("pop", "all at once", "pop_per_min=10", "pop", PRESENT["pop"]),
    ("drift", "300 µV/s (sd)", f"{QUIET}&drift_uv=6000", "drift", PRESENT["drift"]),
)


def plain_of(options: str) -> str:
    """The same without artifacts: what the windows of a run are compared with, besides its own."""
    kept = [o for o in options.split("&") if o.startswith(("rate_hz", "alpha_uv"))]
    return "&".join([QUIET, *kept])


def simulated(seeds: Iterable[int]) -> list[tuple[str, str, Sorted]]:
    found = []
    plain: dict[tuple[str, int], Truth] = {}
    for kind, name, options, truth, least in CONDITIONS:
        sorted_ = Sorted()
        for seed in seeds:
            run, key = Truth(options, seed), (plain_of(options), seed)
            if key not in plain:
                plain[key] = Truth(key[0], seed)
            values = np.concatenate((run.windows.of(kind), plain[key].windows.of(kind)))
            positive = np.concatenate(
                (run.amount[truth] >= least, np.zeros(len(plain[key].windows.ends), bool))
            )
            negative = np.concatenate((run.clean(), plain[key].clean()))
            sorted_.add(values, positive, negative & ~positive, np.full(len(values), seed))
        found.append((kind, name, sorted_))
    return found
