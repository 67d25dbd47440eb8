"""What is wrong with a device that is there: it sends garbage, too fast, or at another rate.

Looked at twice a second, from counters and the clock's report alone, so that a virtual clock can
do it. Each trouble is named once when it begins and once when it is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Trouble = Literal["garbage", "too-fast", "rate", "clumps"]

#: What is judged is the last two seconds: a backlog that is read after a stall is shorter.
WINDOW_S = 2.0
#: Of the nominal rate, in packets that came, whether they were taken or not.
TOO_FAST = 1.2
#: A backlog is in the window for so many looks.
BACKLOG_LOOKS = 4
#: Bytes outside packets a second, and how few samples come beside them.
GARBAGE_BYTES_S = 200.0
GARBAGE_SHARE = 0.25
#: Off the nominal rate by more than the oscillator of an ADS1299 is (2.5 % over temperature), or
#: off its own rate, as the clock first had it for sure, by more than that drifts.
RATE_OFF = 0.03
RATE_CHANGED = 0.005
#: The clock's rate is the device's own when it is known to this.
SURE_PPM = 200.0
#: Samples a delivery from which on arrivals come in clumps (docs/clock.md).
CLUMPED = 1.5


class Look(msgspec.Struct, frozen=True):
    """Counters since the start, at one instant."""

    t_ns: int
    accepted: int
    refused: int
    junk_bytes: int


class Finding(msgspec.Struct, frozen=True):
    """A trouble that began (``hint``: what to do), or is over."""

    trouble: Trouble
    begins: bool
    message: str
    hint: str = ""
    fields: dict[str, Any] = {}


class Health:
    """Of one stream of a device, from its (re)start on."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._own_hz: float | None = None
        self._off_looks = self._fast_looks = 0
        self._looks: deque[Look] = deque()
        self._had: set[Trouble] = set()

    @property
    def troubles(self) -> list[str]:
        """What is wrong now."""
        return sorted(self._had)

    def look(
        self, t_ns: int, counters: Mapping[str, int], report: Mapping[str, Any] | None
    ) -> list[Finding]:
        """``counters``: of the intake; ``report``: the clock's, None before there is one."""
        now = Look(
            t_ns,
            counters["accepted"],
            counters["duplicates"] + counters["strays"],
            counters["junk_bytes"],
        )
        self._looks.append(now)
        while len(self._looks) > 2 and t_ns - self._looks[1].t_ns >= WINDOW_S * 1e9:
            self._looks.popleft()
        first = self._looks[0]
        seconds = (t_ns - first.t_ns) * 1e-9
        if seconds < WINDOW_S * 0.9:
            return []
        packets_s = (now.accepted + now.refused - first.accepted - first.refused) / seconds
        accepted_s = (now.accepted - first.accepted) / seconds
        junk_s = (now.junk_bytes - first.junk_bytes) / seconds
        found = [
            self._garbage(junk_s, accepted_s),
            self._too_fast(packets_s),
            self._off_rate(report, packets_s),
            self._clumps(report),
        ]
        return [finding for finding in found if finding is not None]

    def _garbage(self, junk_s: float, accepted_s: float) -> Finding | None:
        return self._change(
            "garbage",
            junk_s > GARBAGE_BYTES_S and accepted_s < GARBAGE_SHARE * self._rate_hz,
            f"sends garbage: {junk_s:.0f} bytes a second are no packets, "
            f"{accepted_s:.0f} samples are",
            "another kind of device, another baud rate, or a second program that talks to the "
            "port; unplug the dongle and plug it in again",
            "sends packets again",
            {"junk_bytes_s": round(junk_s)},
        )

    def _too_fast(self, packets_s: float) -> Finding | None:
        self._fast_looks = self._fast_looks + 1 if packets_s > TOO_FAST * self._rate_hz else 0
        return self._change(
            "too-fast",
            self._fast_looks > BACKLOG_LOOKS,
            f"sends too fast: {packets_s:.0f} samples a second instead of {self._rate_hz:g}",
            "its sample rate was changed by another program, or two boards share the radio "
            "channel; close it and open it again",
            f"sends {self._rate_hz:g} samples a second again",
            {"samples_s": round(packets_s, 1)},
        )

    def _off_rate(self, report: Mapping[str, Any] | None, packets_s: float) -> Finding | None:
        if report is None or not report["locked"]:
            return None
        rate_hz = report["rate_hz"]
        off = abs(rate_hz / self._rate_hz - 1) > RATE_OFF
        if self._own_hz is None and report["rate_sd_ppm"] < SURE_PPM and not off:
            self._own_hz = rate_hz
        changed = self._own_hz is not None and abs(rate_hz / self._own_hz - 1) > RATE_CHANGED
        self._off_looks = self._off_looks + 1 if off or changed else 0
        return self._change(
            "rate",
            # Twice running: the clock may take a backlog for a rate, but not for long.
            self._off_looks >= 2 and packets_s <= TOO_FAST * self._rate_hz,
            f"changed its rate: {rate_hz:.2f} Hz instead of {self._rate_hz:g}; "
            "the clock follows, t_ns stays right",
            "check the device's sample rate setting; if it is meant, configure that rate",
            f"has its rate of {self._rate_hz:g} Hz again",
            {"rate_hz": round(rate_hz, 4)},
        )

    def _clumps(self, report: Mapping[str, Any] | None) -> Finding | None:
        clump = report["clump"] if report is not None and report["locked"] else 1.0
        period_ms = 1e3 / self._rate_hz
        return self._change(
            "clumps",
            clump > CLUMPED,
            f"samples arrive in clumps of {clump:.1f}, every {clump * period_ms:.0f} ms: "
            f"their time is known to {period_ms:.1f} ms only",
            "a USB latency timer of 16 ms: install phantomd's udev rule; else a host that is too "
            "busy, or the device's own buffering",
            "samples arrive one by one again",
            {"clump": round(clump, 2)},
        )

    def _change(
        self,
        trouble: Trouble,
        there: bool,
        begins: str,
        hint: str,
        over: str,
        fields: dict[str, Any],
    ) -> Finding | None:
        if there == (trouble in self._had):
            return None
        if there:
            self._had.add(trouble)
            return Finding(trouble, True, begins, hint, fields)
        self._had.discard(trouble)
        return Finding(trouble, False, over, "", fields)
