"""The filter bank beside its peers: a tick's few samples, and ten seconds at once.

A tick is 8 channels × 5 bands × 4 sections × 6 samples. All but BrainFlow carry their state from
call to call and start as sosfilt_zi does; BrainFlow's DataFilter begins at rest with each call, so
it is in the ten seconds only. Each case checks its output against ``sosfilt``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import sosfilt, sosfilt_zi

from benches.cases import Case
from phantomd.core.sos import FilterBank
from phantomd.signal.designs import BANDS_HZ, Sos, bank

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
CHANNELS = 8
TICK = 6
LONG = 2500
DESIGNS = list(bank(RATE_HZ).values())
A_TICK = Case(
    "filter bank",
    f"a tick: 8 channels × 5 bands × 4 sections × {TICK} samples",
    "filter bank, a tick: 8 channels × 5 bands × 4 sections × 6 samples",
)
TEN_SECONDS = Case("filter bank", "ten seconds at once: 8 channels × 5 bands × 4 sections")
MADE = Case("filter bank", "made, once a plan: levels, settle times, state; 5 bands")


def signal(n: int) -> Array:
    rng = np.random.default_rng(0)
    return 20 * rng.standard_normal((n, CHANNELS)) + rng.uniform(-62e3, 62e3, CHANNELS)


def begun(sos: Sos, x: Array) -> Array:
    return np.asarray(sosfilt_zi(sos)[:, :, None] * x[0])


def check(y: Array, x: Array, ours: bool = False) -> None:
    """y: [n, bands, channels], from the start.

    Two solutions of the equations of sosfilt_zi may differ in the last bits, which 62 mV of offset
    make more than 1e-12 of the output: ours is compared from its own.
    """
    for band, sos in enumerate(DESIGNS):
        zi = begun(sos, x)
        if ours:
            one = FilterBank([sos], 1, RATE_HZ)
            one.seed([1.0])
            level = one.zi(0)[:, :, 0]
            assert abs(level - sosfilt_zi(sos)).max() <= 1e-9 * abs(level).max()
            zi = level[:, :, None] * x[0]
        r, _ = sosfilt(sos, x, axis=0, zi=zi)
        assert abs(y[:, band] - r).max() <= 1e-12 * abs(r).max()


def scipy_loop(x: Array) -> Callable[[], list[Array]]:
    states = [begun(sos, x) for sos in DESIGNS]

    def loop() -> list[Array]:
        outputs = []
        for band, sos in enumerate(DESIGNS):
            y, states[band] = sosfilt(sos, x, axis=0, zi=states[band])
            outputs.append(y)
        return outputs

    return loop


def ezmsg_loop(x: Array) -> Callable[[], list[Array]]:
    pytest.importorskip("ezmsg.sigproc", reason="ezmsg-sigproc is not installed: a peer less")
    from ezmsg.sigproc.butterworthfilter import (
        ButterworthFilterSettings,
        ButterworthFilterTransformer,
    )
    from ezmsg.util.messages.axisarray import AxisArray

    time = AxisArray.TimeAxis(fs=RATE_HZ)
    message = AxisArray(x, dims=["time", "ch"], axes={"time": time})
    filters = [
        ButterworthFilterTransformer(
            ButterworthFilterSettings(order=4, cuton=low, cutoff=high, coef_type="sos")
        )
        for low, high in BANDS_HZ.values()
    ]
    return lambda: [transform(message).data for transform in filters]


# -- a tick ----------------------------------------------------------------------------------------


def test_tick_bound(benchmark: Any) -> None:
    A_TICK.ours(benchmark, "`bind(x, y)`, `run(6)`")
    x, y = signal(TICK), np.empty((TICK, len(DESIGNS), CHANNELS))
    run = FilterBank(DESIGNS, CHANNELS, RATE_HZ).bind(x, y).run
    run(TICK)
    check(y, x, ours=True)
    benchmark(run, TICK)


def test_tick_bound_with_a_channel_missing(benchmark: Any) -> None:
    A_TICK.ours(benchmark, "the same, with a channel missing")
    x, y = signal(TICK), np.empty((TICK, len(DESIGNS), CHANNELS))
    run = FilterBank(DESIGNS, CHANNELS, RATE_HZ).bind(x, y).run
    run(TICK)
    x[:, 3] = np.nan
    benchmark(run, TICK)


def test_tick_into_a_buffer(benchmark: Any) -> None:
    A_TICK.ours(benchmark, "`process(x, y)`")
    x, y = signal(TICK), np.empty((TICK, len(DESIGNS), CHANNELS))
    benchmark(FilterBank(DESIGNS, CHANNELS, RATE_HZ).process, x, y)


def test_tick_into_a_new_array(benchmark: Any) -> None:
    A_TICK.ours(benchmark, "`process(x)`")
    benchmark(FilterBank(DESIGNS, CHANNELS, RATE_HZ).process, signal(TICK))


def test_tick_of_scipy(benchmark: Any) -> None:
    A_TICK.peer(benchmark, "SciPy", "`sosfilt` a band, state carried")
    benchmark(scipy_loop(signal(TICK)))


def test_tick_of_ezmsg_sigproc(benchmark: Any) -> None:
    A_TICK.peer(benchmark, "ezmsg-sigproc", "`ButterworthFilterTransformer` a band")
    x = signal(TICK)
    check(np.stack(ezmsg_loop(x)(), axis=1), x)
    benchmark(ezmsg_loop(x))


# -- ten seconds -----------------------------------------------------------------------------------


def test_ten_seconds(benchmark: Any) -> None:
    TEN_SECONDS.ours(benchmark, "`process(x, y)`")
    x = signal(LONG)
    check(FilterBank(DESIGNS, CHANNELS, RATE_HZ).process(x), x, ours=True)
    out = np.empty((LONG, len(DESIGNS), CHANNELS))
    benchmark(FilterBank(DESIGNS, CHANNELS, RATE_HZ).process, x, out)


def test_ten_seconds_of_scipy(benchmark: Any) -> None:
    TEN_SECONDS.peer(benchmark, "SciPy", "`sosfilt` a band, state carried")
    benchmark(scipy_loop(signal(LONG)))


def test_ten_seconds_of_ezmsg_sigproc(benchmark: Any) -> None:
    TEN_SECONDS.peer(benchmark, "ezmsg-sigproc", "`ButterworthFilterTransformer` a band")
    x = signal(LONG)
    check(np.stack(ezmsg_loop(x)(), axis=1), x)
    benchmark(ezmsg_loop(x))


def test_ten_seconds_of_brainflow(benchmark: Any) -> None:
    TEN_SECONDS.peer(benchmark, "BrainFlow", "`perform_bandpass` a channel and band, from rest")
    reason = "BrainFlow is not installed: a peer less"
    module = pytest.importorskip("brainflow.data_filter", reason=reason)
    kind = module.FilterTypes.BUTTERWORTH.value
    perform = module.DataFilter.perform_bandpass
    x = np.ascontiguousarray(signal(LONG).T)
    x -= x.mean(axis=1, keepdims=True)

    def loop() -> Array:
        y = np.repeat(x[:, None], len(DESIGNS), axis=1)
        for channel in y:
            for row, (low, high) in zip(channel, BANDS_HZ.values(), strict=True):
                perform(row, int(RATE_HZ), low, high, 4, kind, 0.0)
        return y

    y = loop()
    for band, sos in enumerate(DESIGNS):
        r = sosfilt(sos, x)
        assert abs(y[:, band] - r).max() <= 1e-6 * abs(r).max()
    benchmark(loop)


def test_made(benchmark: Any) -> None:
    """Once a plan is made: levels, settle times, state."""
    MADE.ours(benchmark, "`FilterBank(designs, 8, 250)`")
    benchmark(FilterBank, DESIGNS, CHANNELS, RATE_HZ)
