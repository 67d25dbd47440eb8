"""Which windows not to trust: the constants behind ``phantomd.core.artifact``, and the rule.

``config`` turns a device's labels, rate and range into the kernel's configuration; ``judge`` turns
the kernel's report into scores by name and a verdict. docs/artifacts.md has the evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from phantomd.core.artifact import BEHIND, FRONTAL, IGNORED, KINDS
from phantomd.errors import ConfigError
from phantomd.signal import montage

if TYPE_CHECKING:
    from phantomd.core.artifact import Report

WINDOW_S = 1.0
HOP_S = 1 / 40
BOX_S = 0.1  # a period of 10 Hz: its mean has little alpha, and no mains
FLAT_S = 0.2
LAG_S = 0.01
FEW = 0.05  # of the channels, rounded up: what they alone have is a bad channel, not a bad window
OF_SEVERAL = ("line", "emg", "drift")
LINES_HZ = (50.0, 60.0)
EEG_HZ = (4.0, 30.0)
EMG_HZ = (70.0, 110.0)
EMG_LEAST_RATE_HZ = 230.0
EMG_SLOW_HZ = (30.0, 47.0)  # below that rate
EMG_SLOW_LEAST_RATE_HZ = 120.0
FLAT_UV = 0.5  # peak to peak: under the noise of any amplifier with an electrode on it
RAIL_SHARE = 1e-4  # of the range: so near to its end is at it


class Curve(msgspec.Struct, frozen=True):
    """score = v**power / (v**power + threshold**power), v = x / sqrt(floor² + (weight · y)²).

    x and y: docs/artifacts.md. So 0.5 is where v is the threshold. ``least``: how many channels
    have it before the window does: the window's score is that of the least-th worst channel.
    """

    threshold: float
    floor: float
    weight: float
    power: int
    least: int = 1


#: Floors, weights and powers were chosen: see docs/artifacts.md. The thresholds of clipping and
#: dropout are a matter of definition; the others came out of `python -m benches.artifact_eval
#: --fit`, which names the training data, and stay as they are.
CURVES: dict[str, Curve] = {
    "clipping": Curve(0.01, 1.0, 0.0, 2),
    "dropout": Curve(0.1, 1.0, 0.0, 2),
    "line": Curve(3.8, 5.0, 1.0, 2),
    "blink": Curve(1.3, 20.0, 3.0, 4),
    "emg": Curve(0.27, 3.0, 1.0, 2),
    "pop": Curve(1.9, 60.0, 8.0, 4),
    "drift": Curve(1.4, 200.0, 3.0, 4),
}
EMG_SLOW = Curve(1.0, 3.0, 1.0, 2)


class Config(msgspec.Struct, frozen=True):
    """``struct pd_artifact_config``."""

    rate_hz: float
    roles: tuple[int, ...]
    hop: int
    n_blocks: int
    box: int
    flat: int
    lag: int
    range_uv: tuple[float, float]
    flat_uv: float
    line_hz: tuple[float, float]
    eeg_hz: tuple[float, float]
    emg_hz: tuple[float, float]
    curves: tuple[Curve, ...]


def blocks(rate_hz: float, window_s: float = WINDOW_S) -> tuple[int, int]:
    """Samples of a block, of about 25 ms, and how many, an even number, make the window best.

    Raises ConfigError for a window that can't be made of 8 to 256 of them.
    """
    wanted = rate_hz * HOP_S
    low, high = max(1, math.ceil(wanted / 1.6)), max(1, math.floor(wanted * 2))
    best = min(
        range(low, max(low, high) + 1),
        key=lambda hop: (
            abs(hop * 2 * round(rate_hz * window_s / (2 * hop)) - rate_hz * window_s),
            abs(hop - wanted),
        ),
    )
    count = 2 * round(rate_hz * window_s / (2 * best))
    if not 8 <= count <= 256:
        raise ConfigError(
            f"artifact scores of {window_s:g} s windows at {rate_hz:g} Hz",
            hint="choose windows of 0.5 to 4 s",
        )
    return best, count


def config(
    labels: Sequence[str],
    rate_hz: float,
    *,
    range_uv: tuple[float, float] | None = None,
    bad: Collection[str] = (),
    window_s: float = WINDOW_S,
    lines_hz: tuple[float, float] = LINES_HZ,
) -> Config:
    """For ``phantomd.core.artifact.ArtifactDetector``.

    ``range_uv``: what the device can give at most, or None where that isn't known: clipping is then
    undefined. ``bad``: labels that have no part in the window's scores. EMG is judged from 70 to
    110 Hz at 230 Hz and above, from 30 to 47 Hz at 120 Hz and above, and is undefined below.

    Raises ConfigError for a rate under 64 Hz or a window that can't be.
    """
    if not 64 <= rate_hz <= 40_000:
        raise ConfigError(
            f"artifact scores at {rate_hz:g} Hz", hint="they need a device of 64 to 40000 Hz"
        )
    hop, n_blocks = blocks(rate_hz, window_s)
    eyes, others = montage.frontal(labels), montage.behind(labels)
    roles = tuple(
        FRONTAL * (i in eyes) | BEHIND * (i in others) | IGNORED * (label in bad)
        for i, label in enumerate(labels)
    )
    emg_hz, curves = (0.0, 0.0), dict(CURVES)
    if rate_hz >= EMG_LEAST_RATE_HZ:
        emg_hz = EMG_HZ
    elif rate_hz >= EMG_SLOW_LEAST_RATE_HZ:
        emg_hz, curves["emg"] = EMG_SLOW_HZ, EMG_SLOW
    least = max(1, math.ceil(FEW * sum(not role & IGNORED for role in roles)))
    for kind in OF_SEVERAL:
        curves[kind] = msgspec.structs.replace(curves[kind], least=least)
    low, high = range_uv or (math.nan, math.nan)
    margin = RAIL_SHARE * (high - low)
    block_s = hop / rate_hz
    return Config(
        rate_hz=rate_hz,
        roles=roles,
        hop=hop,
        n_blocks=n_blocks,
        box=max(1, min(n_blocks // 3, round(BOX_S / block_s))),
        flat=max(1, min(n_blocks, round(FLAT_S / block_s))),
        lag=max(1, min(hop, round(LAG_S * rate_hz))),
        range_uv=(low + margin, high - margin),
        flat_uv=FLAT_UV,
        line_hz=lines_hz,
        eeg_hz=EEG_HZ,
        emg_hz=emg_hz,
        curves=tuple(curves[kind] for kind in KINDS),
    )


class Verdict(msgspec.Struct, frozen=True):
    """``scores``: None where undefined. ``worst``: the label behind each score that is one.
    ``reasons``: kinds at or above 0.5, worst first; "missing" where a kind lacks its input in
    some channel, "warming-up" before the window is full. ``reject``: whether there is any."""

    scores: dict[str, float | None]
    worst: dict[str, str]
    reasons: tuple[str, ...]

    @property
    def reject(self) -> bool:
        return bool(self.reasons)


def judge(report: Report, labels: Sequence[str], *, kinds: Collection[str] = KINDS) -> Verdict:
    """A window is rejected when the score of any kind is 0.5 or more, and when a kind that this
    configuration can tell is not told for each channel: what can't be seen does not pass.

    ``kinds``: those that reject. Scores are given of all.
    """
    scores: dict[str, float | None] = {}
    worst: dict[str, str] = {}
    for i, kind in enumerate(KINDS):
        score, channel = report["score"][i], report["channel"][i]
        scores[kind] = None if math.isnan(score) else score
        if channel is not None:
            worst[kind] = labels[channel]
    found = sorted(
        (
            (score, kind)
            for kind, score in scores.items()
            if kind in kinds and score is not None and score >= 0.5
        ),
        reverse=True,
    )
    reasons = [kind for _, kind in found]
    if report["samples"] == 0:
        reasons.append("warming-up")
    elif any(
        n
        for kind, n in zip(KINDS, report["undefined"], strict=True)
        if kind in kinds and kind in report["available"]
    ):
        reasons.append("missing")
    return Verdict(scores, worst, tuple(reasons))
