"""What can go wrong between a Cyton and its dongle: a spec, and a seeded generator with a log.

``drop=0.001,burst=0.0001:50,clump=16,gap=10s:0.5s,unplug=20s``; see FAULTS for all of them.
"""

from __future__ import annotations

import random

import msgspec

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


def parse_faults(spec: str) -> Faults:
    """Raises UsageError: an unknown fault, or a value that it can't have."""
    faults: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in spec.split(","))):
        name, _, value = item.partition("=")
        if name not in FAULTS:
            raise UsageError(f"no fault is called {name!r}", hint=f"there are {', '.join(FAULTS)}")
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
        {**faults, **{key: int(faults[key]) for key in _WHOLE if key in faults}}, Faults
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


class RadioFaults:
    """Plays faults on one packet after another. ``log`` says which, by packet number."""

    def __init__(self, faults: Faults, draw: random.Random) -> None:
        self.log: list[Played] = []
        self._faults = faults
        self._draw = draw
        self._burst_until = 0

    def note(self, what: str, packet: int) -> None:
        self.log.append(Played(what, packet))

    def spoil(self, packet: bytes, number: int, taken_s: float) -> bytes:
        """What comes out of the dongle for packet ``number``, taken so long after the start."""
        faults = self._faults
        if faults.gap_s <= taken_s < faults.gap_s + faults.gap_for_s and faults.gap_s >= 0:
            self.note("gap", number)
            return b""
        if self._happens(faults.burst):
            self._burst_until = number + faults.burst_packets
        if number < self._burst_until:
            self.note("burst", number)
            return b""
        if self._happens(faults.drop):
            self.note("drop", number)
            return b""
        data = bytearray(packet)
        for what in ("footer", "header", "counter", "payload", "insert", "cut"):
            if self._happens(getattr(faults, what)):
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
