"""Artifact scores beside NumPy: what a tick costs.

pytest benches/bench_artifact.py. "a second of ticks": 125 ticks of two samples at 250 Hz, each
read; the scores are worked out with each block of five. The peer works out the same values with
NumPy from the whole window, as often. Set OPENBLAS_NUM_THREADS=1, as the daemon does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benches.cases import Case
from phantomd.core.artifact import BEHIND, FRONTAL, KINDS, ArtifactDetector
from phantomd.devices.electrodes import LABELS
from phantomd.signal.artifacts import Config, config

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
TICK = 2
TICKS = 125
CHANNELS = (8, 64)


def labels(channels: int) -> tuple[str, ...]:
    return tuple((*LABELS, *(f"E{i}" for i in range(channels)))[:channels])


def case(channels: int) -> Case:
    readme = f"artifact scores, a second of ticks: {channels} channels" if channels == 8 else ""
    return Case("artifacts", f"a second of 125 ticks, seven scores, {channels} channels", readme)


def signal(channels: int) -> Array:
    rng = np.random.default_rng(0)
    return np.asarray(np.cumsum(rng.standard_normal((1000, channels)), axis=0))


class InNumPy:
    """All values of a window but clipping and dropout of odd samples, from the window alone."""

    def __init__(self, c: Config, n: int) -> None:
        hz, width = np.fft.rfftfreq(n, 1 / c.rate_hz), c.rate_hz / n
        at = 2 * np.pi * np.arange(n) / n
        self.c, self.n = c, n
        self.hann, self.sine = (0.5 - 0.5 * np.cos(at))[:, None], np.sin(at)[:, None]
        mains = np.zeros(len(hz), bool)
        for f in (*c.line_hz, *(2 * f for f in c.line_hz)):
            mains |= abs(hz - f) <= 2.01 * width
        self.eeg = (hz >= c.eeg_hz[0]) & (hz <= c.eeg_hz[1]) & ~mains
        self.emg = (hz >= c.emg_hz[0]) & (hz <= c.emg_hz[1]) & ~mains
        self.lines = [abs(hz - f) <= 1.01 * width for f in c.line_hz]
        self.front = [i for i, role in enumerate(c.roles) if role & FRONTAL]
        self.behind = [i for i, role in enumerate(c.roles) if role & BEHIND]
        blocks = np.arange(c.n_blocks)
        self.slope = (blocks - blocks.mean()) / ((blocks - blocks.mean()) ** 2).sum() * c.n_blocks

    def values(self, x: Array) -> dict[str, Array]:
        c, box = self.c, self.c.box
        curve = dict(zip(KINDS, c.curves, strict=True))

        def over(kind: str, value: Array, size: Array) -> Array:
            return np.asarray(value / np.hypot(curve[kind].floor, curve[kind].weight * size))

        centred = x - x.mean(axis=0)
        hann = abs(np.fft.rfft(centred * self.hann, axis=0)) ** 2
        sine = abs(np.fft.rfft(centred * self.sine, axis=0)) ** 2
        unit = 2 / (c.rate_hz * self.n)
        eeg = unit / 0.375 * hann[self.eeg]
        eeg_rms = np.sqrt(eeg.sum(axis=0) * c.rate_hz / self.n)
        line = np.max([hann[used].sum(axis=0) for used in self.lines], axis=0)
        line = np.sqrt(unit / 0.375 * line * c.rate_hz / self.n)
        emg = unit / 0.875 * (hann[self.emg] + sine[self.emg]).mean(axis=0)
        means = centred.reshape(c.n_blocks, c.hop, -1).mean(axis=1)
        sums = np.concatenate((np.zeros((1, x.shape[1])), means.cumsum(axis=0)))
        boxes = (sums[box:] - sums[:-box]) / box
        t = boxes[box:-box] - (boxes[: -2 * box] + boxes[2 * box :]) / 2
        apart = t[:, self.front].mean(axis=1) - t[:, self.behind].mean(axis=1)
        behind = np.sqrt((t[:, self.behind] ** 2).mean())
        steps = abs(x[c.lag :] - x[: -c.lag])
        where = (np.arange(len(steps)) + c.lag) // c.hop
        rest = abs(where[:, None] - where[steps.argmax(axis=0)]) > 1
        size = np.sqrt((steps**2 * rest).sum(axis=0) / rest.sum(axis=0))
        return {
            "clipping": ((x <= c.range_uv[0]) | (x >= c.range_uv[1])).mean(axis=0),
            "dropout": np.isnan(x).mean(axis=0),
            "line": over("line", line, eeg_rms),
            "blink": over("blink", np.array([abs(apart).max()]), behind),
            "emg": over("emg", emg, eeg.mean(axis=0)),
            "pop": over("pop", steps.max(axis=0), size),
            "drift": over("drift", abs(self.slope @ means), eeg_rms),
        }


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_second_of_ticks(benchmark: Any, channels: int) -> None:
    case(channels).ours(benchmark, "two new samples in a tick, `bind(x)`")
    c = config(labels(channels), RATE_HZ, range_uv=(-187_500.0, 187_500.0))
    detector = ArtifactDetector(c)
    x = signal(channels)
    detector.push(x)
    tick = detector.bind(x[:TICK].copy())

    def second() -> None:
        for _ in range(TICKS):
            tick()

    benchmark(second)
    benchmark.extra_info["channel_ticks"] = channels * TICKS
    detector.push(x)
    expected = InNumPy(c, 250).values(x[-250:])
    found = detector.values()
    for i, kind in enumerate(KINDS):
        if kind not in ("blink", "dropout"):
            assert np.allclose(found[i], expected[kind], rtol=1e-9, atol=1e-9), kind


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_second_of_ticks_in_numpy(benchmark: Any, channels: int) -> None:
    case(channels).peer(benchmark, "NumPy", "a window as often, 50 times")
    c = config(labels(channels), RATE_HZ, range_uv=(-187_500.0, 187_500.0))
    peer, x = InNumPy(c, 250), signal(channels)

    def second() -> None:
        for block in range(50):
            peer.values(x[block * 5 : block * 5 + 250])

    benchmark(second)
