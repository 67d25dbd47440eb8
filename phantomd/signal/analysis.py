"""From configuration and a device to the kernels behind the tick, and what their records mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from phantomd.config import CcaConfig, Config
from phantomd.contracts import DeviceSpec
from phantomd.core.analysis import Analysis
from phantomd.core.ring import Ring
from phantomd.signal.designs import Sos, band_pass, chebyshev_pass

_NS = 1_000_000_000
#: A step's samples are waited for as long as the grid waits, and for as long as one tick takes.
_MARGIN_NS = 10_000_000
#: Upper edge of CCA's sub-bands (Chen et al. 2015), or what the rate leaves of it.
_CCA_TOP_HZ = 88.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """How a window's values lie: powers [bands, channels], correlations [sub-bands, windows,
    targets]."""

    device: DeviceSpec
    #: Channels that are analysed, by their places in a sample.
    picks: tuple[int, ...]
    bands: tuple[str, ...]
    targets_hz: tuple[float, ...]
    windows_s: tuple[float, ...]
    subbands: int

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.device.labels[pick] for pick in self.picks)

    def powers(self, values: Floats) -> Floats:
        """µV², [bands, channels]; NaN where it is undefined."""
        n = len(self.bands) * len(self.picks)
        return values[:n].reshape(len(self.bands), len(self.picks))

    def correlations(self, values: Floats) -> Floats:
        """0..1, [sub-bands, windows, targets]; NaN where it is undefined."""
        n = len(self.bands) * len(self.picks)
        return values[n:].reshape(self.subbands, len(self.windows_s), len(self.targets_hz))


def layout_of(config: Config, spec: DeviceSpec) -> Layout:
    """What a device gets of what is configured: bands and targets that its rate can have."""
    fits = tuple(
        name for name, (_, high) in config.analysis.bands.items() if high < spec.rate_hz / 2
    )
    targets = tuple(hz for hz in config.cca.targets_hz if hz < spec.rate_hz / 2)
    has_cca = bool(targets) and _subbands(config.cca, spec.rate_hz) > 0
    return Layout(
        spec,
        tuple(range(len(spec.labels))),
        fits,
        targets if has_cca else (),
        config.cca.windows_s if has_cca else (),
        _subbands(config.cca, spec.rate_hz) if has_cca else 0,
    )


def make_analysis(
    config: Config, spec: DeviceSpec, signal: Ring, windows: Ring | None
) -> Analysis | None:
    """The kernels of a device; None where it has no channel to analyse.

    ``windows``: the ring that it goes on with where its records are as long."""
    layout = layout_of(config, spec)
    if not layout.picks:
        return None
    step_ns = round(config.window.step_s * _NS)
    wait_ns = round((config.grid.hold_ms + config.grid.lost_after_ms) * 1e6) + _MARGIN_NS
    return Analysis(
        rate_hz=spec.rate_hz,
        n_values=len(spec.labels) + len(spec.aux),
        n_channels=len(spec.labels),
        picks=layout.picks,
        step_ns=step_ns,
        n_steps=max(1, round(config.window.length_s / config.window.step_s)),
        wait_ns=wait_ns,
        power_bands=[_band(config.analysis.bands[name], spec.rate_hz) for name in layout.bands],
        cca_bands=[_subband(band, spec.rate_hz) for band in range(layout.subbands)],
        targets_hz=layout.targets_hz,
        cca_windows=[round(seconds * spec.rate_hz) for seconds in layout.windows_s],
        harmonics=config.cca.harmonics,
        hop=max(1, round(spec.rate_hz / 10)),
        signal=signal,
        windows=windows,
    )


@lru_cache(maxsize=64)
def _band(edges_hz: tuple[float, float], rate_hz: float) -> Sos:
    return band_pass(edges_hz, rate_hz)


def _low_hz(band: int) -> float:
    """Sub-bands begin at 6, 16, 24, … Hz, as Chen et al. (2015) found best."""
    return 6.0 if band == 0 else 8.0 * (band + 1)


def _top_hz(rate_hz: float) -> float:
    return min(_CCA_TOP_HZ, 0.45 * rate_hz)


def _subbands(cca: CcaConfig, rate_hz: float) -> int:
    """Those that are at least an octave wide at this rate."""
    return sum(2 * _low_hz(band) <= _top_hz(rate_hz) for band in range(cca.subbands))


@lru_cache(maxsize=64)
def _subband(band: int, rate_hz: float) -> Sos:
    return chebyshev_pass((_low_hz(band), _top_hz(rate_hz)), rate_hz)
