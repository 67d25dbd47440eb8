"""Designs for the filter bank: band-passes, and notches for the mains and its harmonics.

A design is what SciPy calls ``sos``: float64 [sections, 6], sections in series, a0 = 1. Designs are
put in series with ``series``, and go into ``phantomd.core.sos.FilterBank``. SciPy is imported when
something is designed, not with this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from phantomd.config import BANDS_HZ as BANDS_HZ
from phantomd.errors import ConfigError

Sos = npt.NDArray[np.float64]
Edges = tuple[float, float]

ORDER = 4  # sections of a band-pass: 24 dB an octave on either side
MAINS_HZ = (50.0, 60.0)
NOTCH_HZ = 2.0  # between the -3 dB points: the grid keeps within ±0.2 Hz


def band_pass(edges_hz: Edges, rate_hz: float, order: int = ORDER) -> Sos:
    """Butterworth band-pass of ``order`` sections, -3 dB at both edges, 0 dB between.

    Raises ConfigError for edges that are not 0 < low < high < rate / 2, or an order outside 1..12.
    """
    from scipy.signal import butter

    _check_edges(edges_hz, rate_hz)
    if not 1 <= order <= 12:
        raise ConfigError(f"a band-pass of order {order}", hint="choose 1 to 12; 4 is usual")
    return np.asarray(butter(order, edges_hz, "bandpass", fs=rate_hz, output="sos"))


def chebyshev_pass(edges_hz: Edges, rate_hz: float) -> Sos:
    """Chebyshev band-pass (type I, order 4, 0.5 dB of ripple): the sub-bands of filter-bank CCA.

    Raises ConfigError for edges that are not 0 < low < high < rate / 2.
    """
    from scipy.signal import cheby1

    _check_edges(edges_hz, rate_hz)
    return np.asarray(cheby1(4, 0.5, edges_hz, "bandpass", fs=rate_hz, output="sos"))


def _check_edges(edges_hz: Edges, rate_hz: float) -> None:
    low, high = edges_hz
    if not 0 < low < high < rate_hz / 2:
        raise ConfigError(
            f"a band from {low:g} to {high:g} Hz does not fit {rate_hz:g} Hz",
            hint=f"choose 0 < low < high < {rate_hz / 2:g} Hz, or a faster device",
        )


def notch(
    mains_hz: float, rate_hz: float, width_hz: float = NOTCH_HZ, *, highest_hz: float = math.inf
) -> Sos:
    """A zero at the mains frequency and at each harmonic up to ``highest_hz`` that lies, with its
    width, below half the rate: one section each, all equally wide, 0 dB far from them.

    Raises ConfigError where not even the mains frequency fits, or for a width that is none.
    """
    from scipy.signal import iirnotch

    if not 0 < width_hz < mains_hz:
        raise ConfigError(
            f"a notch {width_hz:g} Hz wide at {mains_hz:g} Hz", hint="choose 1 to 4 Hz"
        )
    count = math.ceil((rate_hz / 2 - width_hz / 2) / mains_hz) - 1
    if count < 1:
        raise ConfigError(
            f"a notch at {mains_hz:g} Hz does not fit {rate_hz:g} Hz",
            hint="leave the notch out, or use a faster device",
        )
    harmonics = mains_hz * np.arange(1, count + 1)
    harmonics = harmonics[harmonics <= max(highest_hz, mains_hz)]
    rows = [np.concatenate(iirnotch(f, f / width_hz, fs=rate_hz)) for f in harmonics]
    return np.array(rows)


def series(*designs: Sos) -> Sos:
    """One design that is all of them, in this order. Raises ValueError for none."""
    return np.concatenate(designs)


def bank(
    rate_hz: float,
    bands_hz: Mapping[str, Edges] = BANDS_HZ,
    *,
    order: int = ORDER,
    mains_hz: float | None = None,
) -> dict[str, Sos]:
    """A band-pass a band, where ``mains_hz`` is given behind a notch, with the harmonics up to two
    octaves above the highest band.

    Raises ConfigError where a band or the notch does not fit the rate.
    """
    passes = {name: band_pass(edges, rate_hz, order) for name, edges in bands_hz.items()}
    if mains_hz is None:
        return passes
    highest_hz = 4 * max(high for _, high in bands_hz.values())
    mains = notch(mains_hz, rate_hz, highest_hz=highest_hz)
    return {name: series(mains, sos) for name, sos in passes.items()}
