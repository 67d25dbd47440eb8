"""How well a decoder did: pure functions of a session's record. docs/gauntlet.md says what each
number means and why.

Judged are all packets from the first answer on. What is not answered is not left out: the cursor
stood still there. None is what can't be said: no answers, no kinematics, no target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.gauntlet.play import DESYNC, INVALID, LOST, Floats, Play, Truth

#: Position accuracy is zero from this distance on, and a target has this radius.
ACCURACY_MM = 200.0
TARGET_MM = 20.0
WINDOW_S = 2.0
#: In the order of the area under the score, at equal distances.
LEVELS = ("none", "light", "moderate", "intense", "extreme")
_MM = {"mm": 1.0, "cm": 0.1, "m": 0.001}


class Latency(msgspec.Struct, frozen=True):
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Score(msgspec.Struct, frozen=True):
    """``score``: the part of the velocity that was told, times the part that was told in time:
    max(0, R²)·timely. ``trinity_area`` in square units of position, mean over packets with a
    target; times to target are means over the trials that were hit."""

    score: float | None
    packets: int
    answered: int
    missed: int
    invalid: int
    lost: int
    desyncs: int
    timely: float | None
    velocity_r2: float | None
    position_r2: float | None
    position_accuracy: float | None
    trinity_area: float | None
    trials: int
    hits: int
    arm_hits: int
    time_to_target_s: float | None
    arm_time_to_target_s: float | None
    path_efficiency: float | None
    latency: Latency | None
    unit: str
    seconds: float


def judged(play: Play) -> Play:
    """From the first answer on."""
    answered = np.flatnonzero(play.answered)
    return play.part(slice(int(answered[0]) if len(answered) else len(play), None))


def score(whole: Play) -> Score:
    """Of a session's record."""
    play = judged(whole)
    velocity = r2(play.decoded_velocity, play.velocity)
    timely = timeliness(play)
    trials = reaches(play, play.cursor)
    over = {one.first for one in trials}
    arm = [one for one in reaches(play, play.position) if one.first in over]
    return Score(
        score=None if velocity is None or timely is None else max(0.0, velocity) * timely,
        packets=len(play),
        answered=int(play.answered.sum()),
        missed=int((~play.answered & ~play.flagged(LOST)).sum()),
        invalid=int(play.flagged(INVALID).sum()),
        lost=int(play.flagged(LOST).sum()),
        desyncs=int(play.flagged(DESYNC).sum()),
        timely=timely,
        velocity_r2=velocity,
        position_r2=r2(play.cursor, play.position),
        position_accuracy=mean(position_accuracy(play)),
        trinity_area=mean(trinity_area(play.target, play.position, play.cursor)),
        trials=len(trials),
        hits=sum(one.hit_s is not None for one in trials),
        arm_hits=sum(one.hit_s is not None for one in arm),
        time_to_target_s=mean(one.hit_s for one in trials),
        arm_time_to_target_s=mean(one.hit_s for one in arm),
        path_efficiency=mean(one.efficiency for one in trials),
        latency=latency(play.loop_ms),
        unit=play.unit,
        seconds=len(play) * play.bin_s,
    )


def r2(decoded: Floats, true: Floats) -> float | None:
    """Coefficient of determination over both axes together: 1 − error / variance, each summed over
    x and y, so that an axis in which little moves weighs little. None: fewer than two known rows,
    or nothing moves."""
    known = np.isfinite(true).all(axis=1) & np.isfinite(decoded).all(axis=1)
    if known.sum() < 2:
        return None
    p, t = decoded[known], true[known]
    total = float(((t - t.mean(axis=0)) ** 2).sum())
    return 1 - float(((p - t) ** 2).sum()) / total if total > 0 else None


def timeliness(play: Play) -> float | None:
    """Part of the packets that were answered within 50 ms; those that the simulated network lost
    count for nobody."""
    asked = ~play.flagged(LOST)
    if not asked.any():
        return None
    return float((play.answered & ~play.flagged(DESYNC))[asked].mean())


def trinity_area(phantom: Floats, bio: Floats, loop: Floats) -> Floats:
    """[n]: ½·|cross product| of the triangle's sides."""
    a, b = bio - phantom, loop - phantom
    return np.asarray(0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]))


def in_mm(unit: str) -> float:
    """How many of the unit a millimetre has; an unknown unit is taken for millimetres."""
    return _MM.get(unit, 1.0)


def position_accuracy(play: Play) -> Floats:
    """[n]: max(0, 1 − min(distance / 200 mm, 1)), of the cursor from the arm."""
    far = np.hypot(*(play.cursor - play.position).T)
    return np.asarray(
        np.maximum(0.0, 1.0 - np.minimum(far / (ACCURACY_MM * in_mm(play.unit)), 1.0))
    )


def latency(loop_ms: Floats) -> Latency | None:
    """Exact quantiles: the smallest latency that so many answers did not exceed."""
    if not len(loop_ms):
        return None
    ordered = np.sort(loop_ms)
    p50, p99, p999 = (
        float(ordered[max(math.ceil(q * len(ordered)) - 1, 0)]) for q in (0.5, 0.99, 0.999)
    )
    return Latency(p50, p99, p999, float(ordered[-1]))


class Reach(msgspec.Struct, frozen=True):
    """A whole trial. ``efficiency``: the straight way to where the target was entered, by the way
    that was gone; None when it was not hit, or was never left."""

    first: int
    last: int
    hit_s: float | None
    efficiency: float | None


def reaches(play: Play, path: Floats) -> list[Reach]:
    """Trials that were played from their start, and to their end or the hit."""
    radius = TARGET_MM * in_mm(play.unit)
    visit = play.leg * 2 + (play.trial >= 0)
    edges = np.flatnonzero(np.diff(visit)) + 1
    out = []
    for first, last in zip([0, *edges], [*edges, len(play)], strict=True):
        if first == last or play.since_s[first] != 0.0 or not np.isfinite(play.target[first]).all():
            continue
        way, target = path[first:last], play.target[first:last]
        near = np.hypot(*(way - target).T) <= radius
        if near.any():
            hit = int(np.argmax(near))
            start = play.position[first]
            out.append(
                Reach(
                    first, last, float(play.since_s[first + hit]), _straight(start, way[: hit + 1])
                )
            )
        elif last < len(play):
            out.append(Reach(first, last, None, None))
    return out


def _straight(start: Floats, way: Floats) -> float | None:
    steps = np.diff(np.concatenate([start[None], way]), axis=0)
    gone = float(np.hypot(*steps.T).sum())
    if not np.isfinite(gone) or gone == 0.0:
        return None
    return float(np.hypot(*(way[-1] - start)) / gone)


def over_time(
    whole: Play, window_s: float = WINDOW_S
) -> list[tuple[float, float | None, float | None]]:
    """(middle in s, score, trinity area) of each window. The score there is that of the whole
    with the window's mean error: 1 − error / variance of the whole, times the window's timely
    part."""
    play = judged(whole)
    v = play.velocity
    known: Truth = np.asarray(np.isfinite(v).all(axis=1))
    moved = v[known] - v[known].mean(axis=0) if known.any() else v[known]
    spread = float((moved**2).sum() / max(len(moved), 1))
    areas = trinity_area(play.target, play.position, play.cursor)
    n = max(round(window_s / play.bin_s), 1)
    out = []
    for first in range(0, len(play) - n + 1, n):
        rows = slice(first, first + n)
        here = known[rows]
        told = None
        in_time = timeliness(play.part(rows))
        if here.any() and spread > 0 and in_time is not None:
            error = ((play.decoded_velocity[rows] - v[rows])[here] ** 2).sum() / here.sum()
            told = max(0.0, 1 - float(error) / spread) * in_time
        out.append(((first + n / 2) * play.bin_s, told, mean(areas[rows])))
    return out


def robustness(scores: Mapping[str, float | None]) -> float | None:
    """Area under the score over the levels of stress, which stand at equal distances, by
    trapezoids; 1 is a decoder that nothing troubles. None unless all levels were played."""
    ys = [scores.get(level) for level in LEVELS]
    if any(y is None for y in ys):
        return None
    y = np.array(ys, float)
    return float(((y[1:] + y[:-1]) / 2).mean())


def mean(values: npt.NDArray[np.float64] | Iterable[float | None]) -> float | None:
    """Of what is known."""
    known = np.array([v for v in values if v is not None], float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else None
