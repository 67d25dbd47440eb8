"""What can go wrong between a Cyton and its dongle: a spec, and a seeded generator with a log.

``drop=0.001,burst=0.0001:50,clump=16`` from the start to the end, see FAULTS; and at given
times, see ``fault_schedule``: ``gap@10..10.5,wrap@20``.
"""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.devices.fault_schedule import KINDS, Scheduled, chaos, parse_scheduled
from phantomd.errors import UsageError

#: name: (how it is written, what it does).
FAULTS = {
    "drop": ("P", "a packet is lost with probability P"),
    "burst": ("P:N", "with probability P a packet, N packets from it on are lost"),
    "dup": ("P", "a packet comes twice"),
    "footer": ("P", "the stop byte is damaged"),
    "header": ("P", "the start byte is damaged"),
    "counter": ("P", "the packet counter is damaged, the framing is not"),
    "payload": ("P", "a byte of the channels is damaged: nobody can tell"),
    "insert": ("P", "a byte comes in between, anywhere in the packet"),
    "cut": ("P", "the packet's end is missing"),
    "garbage": ("P:N", "up to N random bytes before a packet"),
    "clump": ("MS", "packets leave in clumps, every MS milliseconds, as FTDI's timer does"),
    "ppm": ("X", "the board's clock is fast by X parts in a million"),
    "gap": ("T:D", "T seconds after the start nothing comes through for D seconds"),
    "unplug": ("T", "the port hangs up T seconds after the start"),
    "chaos": ("N", "N scheduled faults a minute, drawn from the seed"),
}


class Played(msgspec.Struct, frozen=True):
    what: str
    packet: int


class Faults(msgspec.Struct, frozen=True):
    """A spec, parsed. Probabilities a packet; ``unplug_s`` -1: never."""

    drop: float = 0.0
    burst: float = 0.0
    burst_packets: int = 0
    dup: float = 0.0
    footer: float = 0.0
    header: float = 0.0
    counter: float = 0.0
    payload: float = 0.0
    insert: float = 0.0
    cut: float = 0.0
    garbage: float = 0.0
    garbage_bytes: int = 0
    clump_ms: float = 0.0
    ppm: float = 0.0
    gap_s: float = -1.0
    gap_for_s: float = 0.0
    unplug_s: float = -1.0
    chaos: float = 0.0
    schedule: tuple[Scheduled, ...] = ()


def parse_faults(spec: str) -> Faults:
    """Raises UsageError: an unknown fault, or a value that it can't have."""
    faults: dict[str, float] = {}
    schedule: list[Scheduled] = []
    for item in filter(None, (part.strip() for part in spec.split(","))):
        if "@" in item:
            schedule.append(parse_scheduled(item))
            continue
        name, _, value = item.partition("=")
        if name not in FAULTS:
            raise UsageError(
                f"no fault is called {name!r}",
                hint=f"there are {', '.join(FAULTS)}, and with a time {', '.join(KINDS)}",
            )
        first, colon, second = value.partition(":")
        form = FAULTS[name][0]
        try:
            if bool(colon) != (":" in form):
                raise ValueError
            values = [_number(first), *([_number(second)] if colon else [])]
        except ValueError:
            raise UsageError(f"{item!r} can't be read", hint=f"write {name}={form}") from None
        if form.startswith("P") and not 0 <= values[0] <= 1:
            raise UsageError(f"{item!r}: a probability lies in 0..1", hint=f"write {name}={form}")
        if name != "ppm" and min(values) < 0:
            raise UsageError(f"{item!r} is negative", hint=f"write {name}={form}")
        if name == "clump" and first.endswith("s"):
            values = [1e3 * values[0]]
        faults.update(zip(_FIELDS.get(name, (name,)), values, strict=True))
    return msgspec.convert(
        {
            **faults,
            **{key: int(faults[key]) for key in _WHOLE if key in faults},
            "schedule": tuple(schedule),
        },
        Faults,
    )


_FIELDS = {
    "burst": ("burst", "burst_packets"),
    "garbage": ("garbage", "garbage_bytes"),
    "clump": ("clump_ms",),
    "gap": ("gap_s", "gap_for_s"),
    "unplug": ("unplug_s",),
}
_WHOLE = ("burst_packets", "garbage_bytes")


def _number(text: str) -> float:
    """``0.5``, ``0.5s`` or ``500ms``."""
    for unit, scale in (("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * scale
    return float(text)


#: Of a schedule by chance: more than anybody emulates.
CHAOS_S = 86_400.0
MAX_COUNT = (1 << 23) - 1
_INSTANTS = ("burst", "wrap", "marker")
#: So much longer than its end is a fault remembered: packets of a stall are asked for late.
_KEEP_S = 5.0
_BYTES = ("footer", "header", "counter", "payload", "insert", "cut")


class RadioFaults:
    """Plays faults on one packet after another. ``log`` says which, by packet number.

    Pure: what comes out depends on the spec, the seed and the packets alone. ``period_ns`` is the
    board's at first.
    """

    def __init__(self, faults: Faults, draw: random.Random, period_ns: float = 4_000_000.0) -> None:
        self.log: list[Played] = []
        self._faults = faults
        self._draw = draw
        self._burst_until = 0
        self.schedule = list(faults.schedule)
        if faults.chaos > 0:
            apart_s = 60.0 / faults.chaos / 1.5
            self.schedule += chaos(draw, 0.0, CHAOS_S, apart_s)
        self.schedule.sort(key=lambda one: one.start_s)
        self._next = 0
        self._active: list[Scheduled] = []
        self._begun: list[Scheduled] = []
        self._held: dict[int, int] = {}
        self._segments = _segments(self.schedule, period_ns / (1 + faults.ppm * 1e-6))
        self.markers: list[int] = []

    def note(self, what: str, packet: int) -> None:
        self.log.append(Played(what, packet))

    # -- when --------------------------------------------------------------------------------------

    def taken_ns(self, number: int) -> float:
        """When the board takes packet ``number``, after packet 0: with drift and steps of rate."""
        for first, at_ns, period_ns in reversed(self._segments):
            if number >= first:
                return at_ns + (number - first) * period_ns
        return 0.0

    def ready_ns(self, number: int) -> float:
        """When it leaves the dongle: at the end of its clump or stall."""
        taken_ns = self.taken_ns(number)
        clump_ms, phase_ns, ready_ns = self._faults.clump_ms, 0.0, taken_ns
        for one in self._around(taken_ns * 1e-9):
            if one.kind == "clump":
                clump_ms, phase_ns = one.args["ms"], one.args["phase"] * 1e6
            elif one.kind == "stall":
                ready_ns = max(ready_ns, one.end_s * 1e9)
        if clump_ms:
            clump_ns = clump_ms * 1e6
            clump_end_ns = math.ceil((taken_ns - phase_ns) / clump_ns) * clump_ns + phase_ns
            ready_ns = max(ready_ns, clump_end_ns)
        return ready_ns

    def unplugged(self, t_s: float) -> Scheduled | None:
        """The unplugging that this instant lies in."""
        if 0 <= self._faults.unplug_s <= t_s:
            return Scheduled("unplug", self._faults.unplug_s, math.inf)
        return next((one for one in self._around(t_s) if one.kind == "unplug"), None)

    def _around(self, t_s: float) -> list[Scheduled]:
        """What is scheduled for this instant; instants do not go back by more than a stall."""
        while self._next < len(self.schedule) and self.schedule[self._next].start_s <= t_s:
            self._active.append(self.schedule[self._next])
            self._next += 1
        if any(one.end_s < t_s - _KEEP_S for one in self._active):
            self._active = [one for one in self._active if one.end_s >= t_s - _KEEP_S]
        return [one for one in self._active if one.at(t_s)]

    # -- what --------------------------------------------------------------------------------------

    def spoil_counts(self, counts: NDArray[np.int32], number: int) -> NDArray[np.int32]:
        """int32[channels] as the amplifier gives them: flat or at the limit."""
        for one in self._around(self.taken_ns(number) * 1e-9):
            if one.kind not in ("flatline", "saturate"):
                continue
            self.note(one.kind, number)
            counts = counts.copy()
            for channel in range(len(counts)):
                if int(one.args["channels"]) >> channel & 1:
                    held = self._held.setdefault(channel, int(counts[channel]))
                    counts[channel] = MAX_COUNT if one.kind == "saturate" else held
            return counts
        self._held.clear()
        return counts

    def spoil(self, packet: bytes, number: int, taken_s: float) -> bytes:
        """What comes out of the dongle for packet ``number``, taken so long after the start."""
        faults = self._faults
        if faults.gap_s <= taken_s < faults.gap_s + faults.gap_for_s and faults.gap_s >= 0:
            self.note("gap", number)
            return b""
        scheduled = self._around(taken_s)
        for one in self._active:
            if one.kind in _INSTANTS and one not in self._begun:
                self._begin(one, number)
        if self._happens(faults.burst):
            self._burst_until = max(self._burst_until, number + faults.burst_packets)
        if number < self._burst_until:
            self.note("burst", number)
            return b""
        if self._happens(faults.drop):
            self.note("drop", number)
            return b""
        data = bytearray(packet)
        damaged = False
        for one in scheduled:
            if one.kind in ("gap", "silence", "unplug"):
                self.note(one.kind, number)
                return b""
            if one.kind == "garbage":
                self.note("garbage", number)
                return self._draw.randbytes(len(packet))
            if one.kind == "drop" and self._happens(one.args["p"]):
                self.note("drop", number)
                return b""
            if one.kind in _BYTES and not damaged and self._happens(one.args["p"]):
                self.note(one.kind, number)
                self._damage(one.kind, data)
                damaged = True
            if one.kind == "dup" and self._happens(one.args["p"]):
                self.note("dup", number)
                data *= 2
        for what in _BYTES:
            if not damaged and self._happens(getattr(faults, what)):
                self.note(what, number)
                self._damage(what, data)
                break
        if self._happens(faults.dup):
            self.note("dup", number)
            data *= 2
        if self._happens(faults.garbage):
            self.note("garbage", number)
            data[:0] = self._draw.randbytes(self._draw.randint(1, max(1, faults.garbage_bytes)))
        return bytes(data)

    def _begin(self, one: Scheduled, number: int) -> None:
        """What begins at an instant and is so many packets long."""
        self._begun.append(one)
        n = {
            "burst": one.args.get("n", 0),
            "wrap": 256 * one.args.get("turns", 0),
            "marker": one.args.get("n", 0),
        }[one.kind]
        self.note(one.kind, number)
        self._burst_until = max(self._burst_until, number + int(n))
        if one.kind == "marker":
            self.markers.append(number + int(n))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._draw.random() < probability

    def _damage(self, what: str, data: bytearray) -> None:
        draw = self._draw
        if what == "footer":
            data[-1] = draw.randrange(0xC0)
        elif what == "header":
            data[0] = draw.randrange(0xA0)
        elif what == "counter":
            data[1] ^= draw.randint(1, 255)
        elif what == "payload":
            data[draw.randrange(2, 26)] ^= draw.randint(1, 255)
        elif what == "insert":
            data.insert(draw.randrange(1, len(data)), draw.randrange(256))
        else:
            del data[draw.randrange(1, len(data)) :]


def _segments(schedule: list[Scheduled], period_ns: float) -> list[tuple[int, float, float]]:
    """First packet, when it is taken, and the period from there on."""
    changes = sorted(
        (
            (t_s, one, t_s == one.end_s)
            for one in schedule
            if one.kind in ("drift", "rate")
            for t_s in (one.start_s, one.end_s)
            if math.isfinite(t_s)
        ),
        key=lambda change: change[0],
    )
    segments = [(0, 0.0, period_ns)]
    for t_s, one, ends in changes:
        first, at_ns, now_ns = segments[-1]
        number = first + max(0, math.ceil((t_s * 1e9 - at_ns) / now_ns))
        factor = 1 + (one.args["ppm"] * 1e-6 if one.kind == "drift" else one.args["percent"] * 1e-2)
        next_ns = now_ns * factor if ends else now_ns / factor
        segments.append((number, at_ns + (number - first) * now_ns, next_ns))
    return segments
