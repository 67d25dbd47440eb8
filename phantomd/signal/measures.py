"""What is computed on a window beside the tick: features by name, NaN where one is undefined.

A measure takes a window and gives its features; ``measures_of`` lists those of a device. Names:
``alpha_uv2`` is the mean over the channels, ``alpha_uv2.C3`` of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from phantomd.config import Config
from phantomd.core.connectivity import MEASURES, Connectivity, PhaseSynchrony
from phantomd.core.spd import Spd
from phantomd.core.spectrum import Welch
from phantomd.signal.analysis import PHASE_NAMES, Layout
from phantomd.signal.window import Window

Features = dict[str, float]
Measure = Callable[[Window], Features]
Floats = npt.NDArray[np.float64]

#: Welch's segments: half a second, so that a one-second window has three.
_SEGMENT_S = 0.5
_TOTAL_HZ = (1.0, 45.0)
#: The phases that are averaged over channels, by the names of their features; what goes out by
#: channel.
_MEDIANS = {
    "phase_error_var": "phase_error_var",
    "plv": "plv",
    "sd_rad": "phase_sd_rad",
    "frequency_hz": "phase_frequency_hz",
    "amplitude_uv": "phase_amplitude_uv",
    "snr_db": "phase_snr_db",
    "subharmonic": "subharmonic",
}
_BY_CHANNEL = ("phase_rad", "phase_error_rad", "plv")
GAMMA_HZ = (30.0, 90.0)


def measures_of(config: Config, layout: Layout) -> list[Measure]:
    """What is computed on each window of such a device, in order."""
    measures: list[Measure] = [band_powers, correlations, phases]
    if layout.device.stream == "eeg":
        measures += [
            Spectrum(config, layout),
            Pairs(config, layout),
            Gamma(config, layout),
            Drift(layout),
        ]
    return measures


def band_powers(window: Window) -> Features:
    """``alpha_uv2``: mean square behind the tick's filter bank."""
    out: Features = {}
    powers = window.layout.powers(window.values)
    for name, mean, row in zip(
        window.layout.bands, powers.mean(axis=1).tolist(), powers, strict=True
    ):
        out[f"{name}_uv2"] = mean
        out.update(_by_channel(f"{name}_uv2", window.layout.labels, row))
    return out


def correlations(window: Window) -> Features:
    """``fbcca.12Hz.2s``: filter-bank CCA's score of a target over a window of its own."""
    layout = window.layout
    if not layout.targets_hz:
        return {}
    rho = layout.correlations(window.values)
    weights = (np.arange(1, layout.subbands + 1) ** -1.25 + 0.25)[:, None, None]
    scores = (weights * rho**2).sum(axis=0)
    return {
        f"fbcca.{hz:g}Hz.{seconds:g}s": float(scores[i, k])
        for i, seconds in enumerate(layout.windows_s)
        for k, hz in enumerate(layout.targets_hz)
    }


def phases(window: Window) -> Features:
    """Each channel's phase against the machine's oscillator, and medians over the channels that
    have one; ``phase_error_mean`` is their circular mean."""
    table = window.layout.phases(window.values)
    if not len(table):
        return {}
    columns = dict(zip(PHASE_NAMES, table.T, strict=True))
    out: Features = {}
    for name, key in _MEDIANS.items():
        out[key] = _median([value for value in columns[name].tolist() if math.isfinite(value)])
    errors = columns["phase_error_mean"][np.isfinite(columns["phase_error_mean"])]
    mean = np.exp(1j * errors).mean() if len(errors) else math.nan
    out["phase_error_mean"] = float(np.angle(mean)) if len(errors) else math.nan
    for name in _BY_CHANNEL:
        out.update(_by_channel(name, window.layout.labels, columns[name]))
    return out


class Spectrum:
    """``alpha_rel``: share of a band in 1 to 45 Hz, of Welch's density; ``peak_hz``: where the mean
    density of the channels between 4 and 30 Hz, times the frequency, is largest."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._bands = {name: config.analysis.bands[name] for name in layout.bands}
        nperseg = max(16, round(_SEGMENT_S * layout.device.rate_hz))
        self._welch = Welch(len(layout.picks), layout.device.rate_hz, nperseg=nperseg)
        f = self._welch.frequencies
        self._peak = (f >= 4.0) & (f <= 30.0)

    def __call__(self, window: Window) -> Features:
        if not window.is_whole:
            return dict.fromkeys([*(f"{name}_rel" for name in self._bands), "peak_hz"], math.nan)
        density = self._welch.psd(window.eeg)
        areas = self._welch.band_power((_TOTAL_HZ, *self._bands.values())).mean(axis=1)
        total = areas[0] if areas[0] > 0 else math.nan
        out = {
            f"{name}_rel": float(area / total)
            for name, area in zip(self._bands, areas[1:], strict=True)
        }
        f = self._welch.frequencies[self._peak]
        weighed = density[self._peak].mean(axis=1) * f
        seen = np.isfinite(weighed).all() and weighed.max() > 0
        out["peak_hz"] = float(f[weighed.argmax()]) if seen else math.nan
        return out


class Pairs:
    """``alpha_wpli``, ``alpha_coh``, ``alpha_imcoh``: means over all pairs of channels, from the
    cross-spectra of the window's half-second segments."""

    _NAMES = ("wpli", "coh", "imcoh")

    def __init__(self, config: Config, layout: Layout) -> None:
        self._bands = layout.bands
        self._pairs = (
            Connectivity(
                len(layout.picks),
                layout.device.rate_hz,
                [config.analysis.bands[name] for name in layout.bands],
                nperseg=max(16, round(_SEGMENT_S * layout.device.rate_hz)),
            )
            if layout.bands and len(layout.picks) > 1
            else None
        )

    def __call__(self, window: Window) -> Features:
        keys = [f"{band}_{name}" for name in self._NAMES for band in self._bands]
        if self._pairs is None or not window.is_whole:
            return dict.fromkeys(keys, math.nan)
        means = self._pairs.means(self._pairs.matrices(window.eeg))
        rows = [means[MEASURES.index(name)] for name in self._NAMES]
        return dict(zip(keys, np.concatenate(rows).tolist(), strict=True))


class Gamma:
    """``gamma_sync_z``: mean pairwise PLV of 30 to 90 Hz against circular shifts;
    ``phase_dispersion``: 1 - that PLV. Undefined under 180 Hz."""

    def __init__(self, config: Config, layout: Layout) -> None:
        # One sample less than the window has: it may have one more or less.
        n = math.floor(config.window.length_s * layout.device.rate_hz) - 1
        self._sync = PhaseSynchrony(
            len(layout.picks), layout.device.rate_hz, n_samples=n, band_hz=GAMMA_HZ
        )

    def __call__(self, window: Window) -> Features:
        if not window.is_whole:
            return {"gamma_sync_z": math.nan, "gamma_plv": math.nan, "phase_dispersion": math.nan}
        found = self._sync.run(window.eeg)
        return {
            "gamma_sync_z": found.z,
            "gamma_plv": found.plv,
            "phase_dispersion": found.phase_dispersion,
        }


class Drift:
    """``covariance_step``: Fisher-Rao distance of the window's covariance from that of the last
    whole window before it: how fast the state of the signal moves."""

    def __init__(self, layout: Layout) -> None:
        self._spd = Spd(len(layout.picks))
        self._before: Floats | None = None

    def __call__(self, window: Window) -> Features:
        if not window.is_whole:
            self._before = None
            return {"covariance_step": math.nan}
        before, self._before = self._before, self._spd.covariance(window.eeg)
        step = math.nan if before is None else self._spd.distance(self._before, before)
        return {"covariance_step": step}


def _median(values: list[float]) -> float:
    """numpy.median of a handful, at a tenth of its time."""
    n = len(values)
    if n == 0:
        return math.nan
    values.sort()
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2.0


def _by_channel(name: str, labels: tuple[str, ...], values: Floats) -> Features:
    return dict(zip(_names(name, labels), values.tolist(), strict=True))


@lru_cache(maxsize=1024)
def _names(name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}.{label}" for label in labels)
