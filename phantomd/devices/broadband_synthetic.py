"""A made-up broadband recording: for tests, benches and demonstrations, with its spikes known.

White noise of 8 µV in each channel, a common one of 15 µV, a slow wave, offsets of up to ±2 mV, and
on each channel one unit: Poisson with 2 ms of refractory time, rates log-normal about the mean, a
trough of 80 to 250 µV. It may be repeated without a seam.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EVENT = np.dtype([("index", "<i8"), ("channel", "<u4")])

NOISE_UV, COMMON_UV, WAVE_UV, OFFSET_UV = 8.0, 15.0, 150.0, 2000.0
TROUGH_UV = (80.0, 250.0)
REFRACTORY_S = 0.002


def waveform(rate_hz: float) -> npt.NDArray[np.float64]:
    """Of a spike, 1.2 ms: a trough of -1 after 0.3 ms, and a slower, smaller peak."""
    t_ms = np.arange(round(1.2e-3 * rate_hz)) / rate_hz * 1e3
    shape = -np.exp(-(((t_ms - 0.3) / 0.1) ** 2)) + 0.35 * np.exp(-(((t_ms - 0.65) / 0.2) ** 2))
    return np.asarray(shape / -shape.min())


def synthetic(
    channels: int,
    rate_hz: float,
    seconds: float,
    *,
    seed: int = 1,
    spikes_hz: float = 10.0,
    scale_uv: float = 0.195,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.void]]:
    """int16 [samples, channels] in counts of ``scale_uv``, and its spikes.

    Those are EVENT, ``index`` where the trough is, by index and channel. The same arguments
    give the same recording.

    Raises ValueError for less than one sample.
    """
    n = round(seconds * rate_hz)
    if n < 1 or channels < 1:
        raise ValueError(f"{channels} channels and {seconds} s are no recording")
    rng = np.random.default_rng(seed)
    t = np.arange(n) / n
    shared = COMMON_UV * rng.standard_normal(n)
    shared += WAVE_UV * np.sin(2 * np.pi * max(1, round(2 * seconds)) * t)
    shape = waveform(rate_hz)
    trough = int(shape.argmin())
    samples = np.empty((n, channels), np.int16)
    events = []
    for channel in range(channels):
        x = shared + NOISE_UV * rng.standard_normal(n) + rng.uniform(-OFFSET_UV, OFFSET_UV)
        rate = spikes_hz * rng.lognormal(-0.125, 0.5)
        starts = _train(rng, rate, seconds, rate_hz)
        spike = rng.uniform(*TROUGH_UV) * shape
        for start in starts.tolist():
            x[(start + np.arange(len(spike))) % n] += spike
        samples[:, channel] = np.clip(np.round(x / scale_uv), -32768, 32767)
        events += [((start + trough) % n, channel) for start in starts.tolist()]
    return samples, np.sort(np.array(events, EVENT))


def _train(
    rng: np.random.Generator, rate: float, seconds: float, rate_hz: float
) -> npt.NDArray[np.int64]:
    """Sample indices; the last one leaves the refractory time free before the first comes again."""
    if rate <= 0:
        return np.empty(0, np.int64)
    gaps = REFRACTORY_S + rng.exponential(
        max(1 / rate - REFRACTORY_S, 0), size=int(seconds / REFRACTORY_S) + 1
    )
    times = np.cumsum(gaps)
    times = times[times < seconds - REFRACTORY_S]
    return np.asarray((times * rate_hz).astype(np.int64))
