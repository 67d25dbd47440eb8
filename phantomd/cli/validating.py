"""Drives a session through the checklist of phantomd/gauntlet/checklist.py."""

from __future__ import annotations

import time

from phantomd.cli.course import first_of, record, wait_for_decoder
from phantomd.control import Control
from phantomd.errors import NoAnswers
from phantomd.gauntlet import checklist
from phantomd.gauntlet.checklist import Line
from phantomd.gauntlet.play import Play

_LOOK_S = 0.1
#: Of the stretch that is played with spikes and without, at most.
_STRETCH_S = 4.0
_SETTLE_S = 2.5
_CUTS_PER_MIN = 600.0
_CUT_WITHIN_S = 5.0
_BACK_WITHIN_S = 10.0


def validate(control: Control, code: str, seconds: float, wait_s: float) -> list[Line]:
    """All lines; those that need a decoder fail without one. The session's stress is put back to
    none. Raises UnknownSession."""
    info = control.call("session.get", code=code)
    try:
        wait_for_decoder(control, code, wait_s, None)
    except NoAnswers:
        return [checklist.connects(False, wait_s), *_nothing(seconds)]
    control.call("session.stress", code=code, level="none")
    at = info["packet"]
    stretch_s = min(_STRETCH_S, seconds)
    normal = _played(control, code, at, stretch_s)
    control.call("session.stress", code=code, dropout=1.0)
    silent = _played(control, code, at, stretch_s)
    control.call("session.stress", code=code, level="none")
    whole = _played(control, code, at, seconds)
    return [
        checklist.connects(True, wait_s),
        checklist.decodes(whole),
        checklist.extracts(normal, silent, n_units=_units(control, code)),
        checklist.infers_in_time(whole),
        checklist.sends_velocities(whole),
        checklist.keeps_synchrony(whole, seconds),
        _cut(control, code),
    ]


def _nothing(seconds: float) -> list[Line]:
    return [
        Line(asks, False, "no decoder")
        for asks in (
            "can decode MessagePack packets",
            "can extract spike counts",
            f"inference latency < {checklist.INFERENCE_MS:g} ms",
            "can encode and send velocity predictions",
            f"maintains synchronization for > {checklist.SYNC_S:g} seconds",
            "handles network disconnections gracefully",
        )
    ]


def _units(control: Control, code: str) -> int:
    return int(control.call("session.record", code=code)["units"])


def _played(control: Control, code: str, first_bin: int, seconds: float) -> Play:
    """The settled packets of a stretch, from the seek on."""
    before = control.call("session.get", code=code)["packets"]
    control.call("session.seek", code=code, packet=first_bin)
    bin_s = record(control, code, before).bin_s
    n = max(round(seconds / bin_s), 1)
    give_up_s = time.monotonic() + seconds + _SETTLE_S
    while True:
        found = first_of(record(control, code, before), first_bin)
        if len(found) >= n or time.monotonic() > give_up_s:
            return found.part(slice(0, n))
        left_s = (n - len(found)) * bin_s
        time.sleep(max(_LOOK_S, min(left_s, 1.0)))


def _cut(control: Control, code: str) -> Line:
    """Ends all connections of the session, and looks whether its decoder comes back."""
    control.call("session.stress", code=code, disconnects_per_min=_CUTS_PER_MIN)
    cuts = 0
    until_s = time.monotonic() + _CUT_WITHIN_S
    while not cuts and time.monotonic() < until_s:
        if not control.call("session.get", code=code)["decoder"]:
            cuts += 1
        time.sleep(0.005)
    control.call("session.stress", code=code, level="none")
    cut_s = time.monotonic()
    answered = control.call("session.get", code=code)["answered"]
    while time.monotonic() - cut_s < _BACK_WITHIN_S:
        info = control.call("session.get", code=code)
        if info["decoder"] and info["answered"] > answered:
            return checklist.comes_back(cuts, time.monotonic() - cut_s, _BACK_WITHIN_S)
        time.sleep(_LOOK_S)
    return checklist.comes_back(cuts, None, _BACK_WITHIN_S)
