"""Impedance from the ADS1299's lead-off current: 6 nA at 31.25 Hz (a quarter of its 125 Hz).

As OpenBCI's software reckons it: ohms = √2 · V_rms / 6 nA − 2,200, the last being the resistor
between pin and amplifier. V_rms is taken at that frequency alone, over whole periods of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CURRENT_A = 6e-9
TONE_HZ = 31.25
SERIES_OHM = 2200.0
#: Whole periods: a second and a little.
PERIODS = 32
#: Of the amplifier's range: beyond it the sample is at the limit.
RAIL = 0.999
_RANGE_UV = 4.5e6


def window_samples(rate_hz: float) -> int:
    """How many samples PERIODS of the tone are: 256 at 250 Hz, 128 at 125."""
    return round(PERIODS * rate_hz / TONE_HZ)


def kohm_of(uv: NDArray[np.float64], rate_hz: float, gains: Sequence[float]) -> NDArray[np.float64]:
    """float64[n, channels] in µV, n as ``window_samples``, to float64[channels] in kΩ; NaN where a
    sample is at the amplifier's limit.

    At 125 Hz (Daisy) a sample is the mean of two conversions, which takes cos(π · 31.25 / 250) of
    the tone: that is put right.
    """
    n = len(uv)
    turns = np.exp(-2j * math.pi * TONE_HZ / rate_hz * np.arange(n))
    amp_v = 2e-6 / n * np.abs(turns @ (uv - uv.mean(axis=0)))
    if rate_hz < 250.0:
        amp_v = amp_v / math.cos(math.pi * TONE_HZ / 250.0)
    kohm = np.maximum(0.0, amp_v / CURRENT_A - SERIES_OHM) * 1e-3
    limit = RAIL * _RANGE_UV / np.asarray(gains, np.float64)
    return np.where((np.abs(uv) >= limit).any(axis=0), np.nan, kohm)
