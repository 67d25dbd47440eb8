"""What a grid frame costs, beside SciPy's polyphase resampler with the same prototype.

pytest benches/test_resample.py: ten seconds of eight channels a round; ``ns_per_frame`` in the
extra info is the fastest round over its frames. SciPy gets the whole signal at once and a fixed
ratio; ours gets a position a frame, as the tick thread has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly

from benches.cases import Case
from phantomd.core.resample import Resampler
from phantomd.engine.prototype import design

SECONDS = 10
RATIOS = [(250, 64, 125), (1000, 16, 125)]
DESIGN = Case("resampler", "a prototype designed, once a device opens")


def case(rate: int) -> Case:
    readme = "resampler, to the 128 Hz grid: ten seconds of 8 channels" if rate == 250 else ""
    return Case("resampler", f"ten seconds of 8 channels, {rate} to 128 Hz", readme)


def per_frame(benchmark: Any, frames: int) -> None:
    if benchmark.enabled:
        benchmark.extra_info["ns_per_frame"] = 1e9 * benchmark.stats.stats.min / frames


@pytest.mark.parametrize(("rate", "up", "down"), RATIOS)
def test_frame(benchmark: Any, rate: int, up: int, down: int) -> None:
    case(rate).ours(benchmark, "`at_many(x, positions)`, a position a frame")
    prototype = design(float(rate))
    x = np.random.default_rng(0).standard_normal((SECONDS * rate, 8))
    frames = np.arange(SECONDS * 128) * down / up
    inside = (frames > prototype.taps) & (frames < len(x) - prototype.taps)
    positions = frames[inside]
    resampler = Resampler(prototype.table, prototype.ahead)
    y = benchmark(resampler.at_many, x, positions)
    per_frame(benchmark, len(positions))
    expected = resample_poly(x, up, down, window=prototype.h(up))
    assert abs(y - expected[inside]).max() < 1e-11


@pytest.mark.parametrize(("rate", "up", "down"), RATIOS)
def test_frame_of_scipy(benchmark: Any, rate: int, up: int, down: int) -> None:
    case(rate).peer(benchmark, "SciPy", "`resample_poly`, the same prototype, a fixed ratio")
    window = design(float(rate)).h(up)
    x = np.random.default_rng(0).standard_normal((SECONDS * rate, 8))
    y = benchmark(resample_poly, x, up, down, window=window)
    per_frame(benchmark, len(y))


@pytest.mark.parametrize("phase", ["linear", "minimum"])
def test_design(benchmark: Any, phase: str) -> None:
    """Once a device opens, on the way to its first frame."""
    DESIGN.ours(benchmark, f"{phase} phase")
    benchmark(design.__wrapped__, 250.0, phase)
