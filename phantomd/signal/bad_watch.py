"""Bad channels while they stream: every ten seconds a look at the newest ten, in pieces.

It goes by windows alone, a piece or two each, so that nothing waits for it and a replay finds the
same at the same window. What is found is shown and told, and the analysis goes on without it
(engine/renewal.py), until it is good again: so those left out are looked at, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from phantomd.contracts import Event, FeatureWindow, Level
from phantomd.errors import ConfigError
from phantomd.signal.analysis import Layout
from phantomd.signal.bad_channels import BadChannel, BadChannels
from phantomd.signal.window import Window

LOOK_NS = 10_000_000_000
#: A look at so many channels and a piece or two more is over before the next one begins.
CHANNELS_A_PIECE = 32
_REASONS = {
    "missing": "{value:.0%} of its samples are missing",
    "railed": "{value:.0%} of its samples are at the amplifier's limit",
    "flat": "flat, {value:.2g} µV from peak to peak",
    "noisy": "noisy, {value:.1f} spreads above the others",
    "weak": "weak, {value:.1f} spreads from the others",
    "apart": "it has nothing in common with its neighbours, a correlation of {value:.2f} at most",
}
_HINT = (
    "press the electrode on, add gel, look at its cable; until it is good the analysis goes on "
    "without it"
)


@dataclass(slots=True)
class _Watched:
    """A device's channels."""

    picks: tuple[int, ...]
    judge: BadChannels
    next: int | None = None
    due_ns: int = 0
    looking: Iterator[tuple[BadChannel, ...] | None] | None = None
    found: dict[str, BadChannel] = field(default_factory=dict)


class BadWatch:
    """A listener of the windows stage. ``heard`` is told a device's bad channels when they change:
    its id and the labels."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        heard: Callable[[str, frozenset[str]], None] = lambda _id, _labels: None,
    ) -> None:
        self._emit = emit
        self._heard = heard
        self._watched: dict[str, tuple[Layout, _Watched | None]] = {}
        _warm()

    def found(self, device_id: str) -> list[dict[str, Any]]:
        """For ``status``: label, reason, value and limit of each."""
        _, watched = self._watched.get(device_id, (None, None))
        found = watched.found.values() if watched is not None else ()
        return [msgspec.to_builtins(bad) for bad in found]

    def hear(self, features: FeatureWindow, window: Window) -> None:
        """The next window of any device."""
        device_id = features.device_id
        layout, watched = self._watched.get(device_id, (None, None))
        if layout is None or _what(layout) != _what(window.layout):
            before = watched.found if watched is not None else {}
            watched = _watched(window.layout)
            self._watched[device_id] = window.layout, watched
            if watched is not None and layout is not None and layout.device == window.layout.device:
                labels = watched.judge.labels
                watched.found = {label: bad for label, bad in before.items() if label in labels}
            after = watched.found if watched is not None else {}
            if before.keys() != after.keys():
                self._heard(device_id, frozenset(after))
        if watched is None:
            return
        _take(watched, window)
        if watched.looking is None:
            if not watched.judge.ready or window.end_ns < watched.due_ns:
                return
            watched.looking = watched.judge.look()
            watched.due_ns = window.end_ns + LOOK_NS
        for _ in range(1 + len(watched.judge.labels) // CHANNELS_A_PIECE):
            found = next(watched.looking)
            if found is not None:
                watched.looking = None
                self._settle(device_id, watched, found, window.end_ns)
                return

    def _settle(
        self, device_id: str, watched: _Watched, found: tuple[BadChannel, ...], t_ns: int
    ) -> None:
        before, watched.found = watched.found, {bad.label: bad for bad in found}
        for bad in found:
            if bad.label not in before:
                what = _REASONS[bad.reason].format(value=bad.value)
                self._say(device_id, f"{bad.label} is bad: {what}", t_ns, bad, "warning")
        for label, bad in before.items():
            if label not in watched.found:
                self._say(device_id, f"{label} is good again", t_ns, bad, "info")
        if set(before) != set(watched.found):
            self._heard(device_id, frozenset(watched.found))

    def _say(self, device_id: str, message: str, t_ns: int, bad: BadChannel, level: Level) -> None:
        begins = level == "warning"
        fields: dict[str, Any] = {"t_ns": t_ns, "channel": bad.label, "bad": begins}
        if begins:
            fields |= {"reason": bad.reason, "value": bad.value, "limit": bad.limit, "hint": _HINT}
        self._emit(Event("alert", level, f"{device_id}: {message}", device_id, fields=fields))


def _what(layout: Layout) -> tuple[Any, ...]:
    """Whatever of a layout is something else to look at."""
    return layout.device, layout.eligible, layout.watched


def _watched(layout: Layout) -> _Watched | None:
    """None: channels that are no EEG, or too slow, have no look."""
    spec = layout.device
    if spec.stream != "eeg" or not layout.eligible or not layout.watched:
        return None
    low_high = spec.info.get("range_uv")
    range_uv = (float(low_high[0]), float(low_high[1])) if low_high else None
    try:
        labels = tuple(spec.labels[place] for place in layout.eligible)
        judge = BadChannels(labels, spec.rate_hz, range_uv=range_uv)
    except ConfigError:
        return None
    return _Watched(layout.eligible, judge)


def _take(watched: _Watched, window: Window) -> None:
    """The samples that are new with this window; what was overwritten is missing."""
    first, until = window.native
    begin = first if watched.next is None or watched.next > until else watched.next
    n = until - begin
    if n <= 0:
        return
    watched.next = until
    there = min(n, until - first)
    x = np.full((n, len(watched.picks)), np.nan)
    if there and len(window.samples) == until - first:
        x[n - there :] = window.samples[-there:, list(watched.picks)]
    watched.judge.push(x)


def _warm() -> None:
    """The first look of a process takes thirty times as long as the others."""
    judge = BadChannels(("Fz", "Cz", "C3", "C4"), 64.0)
    judge.push(np.random.default_rng(0).normal(0, 10, (640, 4)))
    judge.find()
