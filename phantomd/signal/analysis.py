"""From configuration and a device to the kernels behind the tick, and what their records mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from phantomd.config import CcaConfig, Config
from phantomd.contracts import DeviceSpec
from phantomd.core.analysis import PHASES, SCORES, Analysis
from phantomd.core.artifact import KINDS
from phantomd.core.ring import Ring
from phantomd.engine.plan import Kernels
from phantomd.signal import artifacts
from phantomd.signal.filters import Filter, design_aside, sos

_NS = 1_000_000_000
#: A step's samples are waited for as long as the grid waits, and for as long as one tick takes.
_MARGIN_NS = 10_000_000
#: Upper edge of CCA's sub-bands (Chen et al. 2015), or what the rate leaves of it.
_CCA_TOP_HZ = 88.0
#: The kernels of phase and of artifacts are made for these.
_PHASE_TOP = 0.4
_LEAST_ARTIFACT_HZ = 64.0
#: So much of the signal ring may be overwritten while kernels learn from it.
_OVERWRITTEN_S = 2.0
Floats = npt.NDArray[np.float64]

#: What a window has of a channel's phase, in order (csrc/pd_pll.h).
PHASE_NAMES = (
    "phase_rad",
    "ref_phase_rad",
    "phase_error_rad",
    "phase_error_mean",
    "phase_error_var",
    "plv",
    "sd_rad",
    "frequency_hz",
    "amplitude_uv",
    "snr_db",
    "subharmonic",
    "locked",
)


@dataclass(frozen=True)
class Layout:
    """How a window's values lie: powers [bands, channels], correlations [sub-bands, windows,
    targets], phases [channels, 12], artifacts [kinds, 4]."""

    device: DeviceSpec
    config: Config
    #: Channels that the configuration calls bad, and those that were found to be.
    bad: frozenset[str]
    left_out: frozenset[str]
    #: Channels that are not bad by configuration, and whether bad ones are looked for among them.
    eligible: tuple[int, ...]
    watched: bool
    #: Channels that are analysed, by their places in a sample; the mean of ``reference`` is taken
    #: from each.
    picks: tuple[int, ...]
    reference: tuple[int, ...]
    bands: tuple[str, ...]
    targets_hz: tuple[float, ...]
    windows_s: tuple[float, ...]
    subbands: int
    #: 0: phases are not told.
    ref_hz: float
    has_artifacts: bool
    mains_hz: float

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.device.labels[pick] for pick in self.picks)

    def powers(self, values: Floats) -> Floats:
        """µV², [bands, channels]; NaN where it is undefined."""
        return self._part(values, 0).reshape(len(self.bands), len(self.picks))

    def correlations(self, values: Floats) -> Floats:
        """0..1, [sub-bands, windows, targets]; NaN where it is undefined."""
        shape = self.subbands, len(self.windows_s), len(self.targets_hz)
        return self._part(values, 1).reshape(shape)

    def phases(self, values: Floats) -> Floats:
        """[channels, PHASE_NAMES], or [0, 12]; NaN where it is undefined."""
        return self._part(values, 2).reshape(-1, PHASES)

    def artifacts(self, values: Floats) -> Floats:
        """[kinds, 4], or [0, 4]: score, value, worst channel, channels that lack it."""
        return self._part(values, 3).reshape(-1, SCORES)

    def _part(self, values: Floats, part: int) -> Floats:
        return values[self._parts[part]]

    @cached_property
    def _parts(self) -> tuple[slice, ...]:
        sizes = (
            len(self.bands) * len(self.picks),
            self.subbands * len(self.windows_s) * len(self.targets_hz),
            len(self.picks) * PHASES if self.ref_hz else 0,
            len(KINDS) * SCORES if self.has_artifacts else 0,
        )
        ends = accumulate(sizes)
        return tuple(slice(end - size, end) for size, end in zip(sizes, ends, strict=True))


def layout_of(config: Config, spec: DeviceSpec, left_out: frozenset[str] = frozenset()) -> Layout:
    """What a device gets of what is configured: bands, targets and frequencies that its rate can
    have; channels that are not bad. ``left_out`` were found to be: where no other is left, they
    stay."""
    bands = config.analysis.bands
    fits = tuple(name for name, (_, high) in bands.items() if high < spec.rate_hz / 2)
    targets = tuple(hz for hz in config.cca.targets_hz if hz < spec.rate_hz / 2)
    has_cca = bool(targets) and _subbands(config.cca, spec.rate_hz) > 0
    bad = frozenset(config.montage.bad)
    eligible = tuple(i for i, label in enumerate(spec.labels) if label not in bad)
    good = tuple(i for i in eligible if spec.labels[i] not in left_out)
    if not good:
        good, left_out = eligible, frozenset()
    fits_phase = 0 < config.phase.ref_hz <= _PHASE_TOP * spec.rate_hz
    return Layout(
        device=spec,
        config=config,
        bad=bad,
        left_out=left_out,
        eligible=eligible,
        watched=config.montage.auto_bad,
        picks=good,
        reference=_reference(config.montage.reference, spec.labels, good, left_out),
        bands=fits,
        targets_hz=targets if has_cca else (),
        windows_s=config.cca.windows_s if has_cca else (),
        subbands=_subbands(config.cca, spec.rate_hz) if has_cca else 0,
        ref_hz=config.phase.ref_hz if fits_phase else 0.0,
        has_artifacts=spec.rate_hz >= _LEAST_ARTIFACT_HZ and spec.stream == "eeg",
        mains_hz=float(config.montage.mains_hz),
    )


def _reference(
    named: str | tuple[str, ...],
    labels: tuple[str, ...],
    good: tuple[int, ...],
    left_out: frozenset[str],
) -> tuple[int, ...]:
    """Channels whose mean is the reference. Of a single channel there is no average. Named ones
    that were found bad are no part of it, where another one is left."""
    if isinstance(named, tuple):
        every = tuple(i for i, label in enumerate(labels) if label in named)
        return tuple(i for i in every if labels[i] not in left_out) or every
    return good if named == "average" and len(good) > 1 else ()


def _bands(config: Config, layout: Layout) -> list[Filter]:
    rate_hz, mains_hz = layout.device.rate_hz, layout.mains_hz
    edges = (config.analysis.bands[name] for name in layout.bands)
    return [Filter("band", low, high, rate_hz, mains_hz) for low, high in edges]


def _cca_bands(layout: Layout) -> list[Filter]:
    rate_hz = layout.device.rate_hz
    return [
        Filter("subband", _low_hz(band), _top_hz(rate_hz), rate_hz)
        for band in range(layout.subbands)
    ]


def prepare(config: Config, spec: DeviceSpec) -> None:
    """Has all designed that ``make_analysis`` will ask for. May take seconds: beside the loop.
    Raises ConfigError for what can't be."""
    layout = layout_of(config, spec)
    period_of(config, spec)
    design_aside([*_bands(config, layout), *_cca_bands(layout)])


def renew(
    config: Config,
    spec: DeviceSpec,
    before: Analysis,
    left_out: frozenset[str],
    grid_t0_ns: int,
) -> tuple[Analysis | None, int]:
    """Kernels for the place of ``before``, which have learnt from its signal ring, and from which
    native index on. Its blocks of artifact scores lie as those before, so that a window's scores
    are the same however much was learnt. May take seconds: beside the loop."""
    prepare(config, spec)
    made = make_analysis(config, spec, before.signal, None, left_out)
    oldest = before.signal.oldest + round(_OVERWRITTEN_S * spec.rate_hz)
    first = before.begun
    if first < oldest:
        period = period_of(config, spec)
        first += -(-(oldest - first) // period) * period
    if made is not None:
        made.learn(first, grid_t0_ns)
    return made, first


def period_of(config: Config, spec: DeviceSpec) -> int:
    """Samples after which blocks and windows of the artifact scores begin together again."""
    if not layout_of(config, spec).has_artifacts:
        return 1
    return math.prod(artifacts.blocks(spec.rate_hz, config.window.length_s))


def make_analysis(
    config: Config,
    spec: DeviceSpec,
    signal: Ring,
    windows: Ring | None,
    left_out: frozenset[str] = frozenset(),
) -> Analysis | None:
    """The kernels of a device; None where it has no channel to analyse.

    ``windows``: the ring that it goes on with where its records are as long."""
    layout = layout_of(config, spec, left_out)
    if not layout.picks:
        return None
    step_ns = round(config.window.step_s * _NS)
    wait_ns = round((config.grid.hold_ms + config.grid.lost_after_ms) * 1e6) + _MARGIN_NS
    mains_hz = layout.mains_hz
    return Analysis(
        rate_hz=spec.rate_hz,
        n_values=len(spec.labels) + len(spec.aux),
        n_channels=len(spec.labels),
        picks=layout.picks,
        reference=layout.reference,
        step_ns=step_ns,
        n_steps=max(1, round(config.window.length_s / config.window.step_s)),
        wait_ns=wait_ns,
        power_bands=[sos(each) for each in _bands(config, layout)],
        cca_bands=[sos(each) for each in _cca_bands(layout)],
        targets_hz=layout.targets_hz,
        cca_windows=[round(seconds * spec.rate_hz) for seconds in layout.windows_s],
        harmonics=config.cca.harmonics,
        hop=max(1, round(spec.rate_hz / 10)),
        artifact=_artifact_config(config, layout) if layout.has_artifacts else None,
        rejects=config.artifacts.reject,
        ref_hz=layout.ref_hz,
        span_hz=config.phase.span_hz,
        phase_s=config.phase.window_s,
        mains_hz=(mains_hz, 2 * mains_hz if 4 * mains_hz < spec.rate_hz else 0.0),
        signal=signal,
        windows=windows,
    )


def _artifact_config(config: Config, layout: Layout) -> artifacts.Config:
    spec = layout.device
    low_high = spec.info.get("range_uv")
    return artifacts.config(
        spec.labels,
        spec.rate_hz,
        range_uv=(float(low_high[0]), float(low_high[1])) if low_high else None,
        bad=tuple(layout.bad | layout.left_out),
        window_s=config.window.length_s,
        lines_hz=(layout.mains_hz, 2 * layout.mains_hz),
    )


def _low_hz(band: int) -> float:
    """Sub-bands begin at 6, 16, 24, … Hz, as Chen et al. (2015) found best."""
    return 6.0 if band == 0 else 8.0 * (band + 1)


def _top_hz(rate_hz: float) -> float:
    return min(_CCA_TOP_HZ, 0.45 * rate_hz)


def _subbands(cca: CcaConfig, rate_hz: float) -> int:
    """Those that are at least an octave wide at this rate."""
    return sum(2 * _low_hz(band) <= _top_hz(rate_hz) for band in range(cca.subbands))


KERNELS = Kernels(make_analysis, prepare, renew)
