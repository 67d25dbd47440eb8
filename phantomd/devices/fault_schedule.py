"""Faults at given times: ``kind@start[..end][:key=value…]``, seconds from the start of the stream.

``gap@10..10.5,wrap@20,clump@30..40:ms=32,unplug@50..55`` for the Cyton emulator; the simulator has
the same form (docs/faults.md). ``chaos`` draws a schedule from a seed.
"""

from __future__ import annotations

import math
import random

import msgspec

from phantomd.errors import UsageError


class FaultKind(msgspec.Struct, frozen=True):
    """``lasts_s``: without an end; inf: for good, 0: an instant. ``args``: key to default and
    range."""

    lasts_s: float
    does: str
    args: dict[str, tuple[float, float, float]] = {}


_P = {"p": (0.05, 0.0, 1.0)}
_CHANNELS = {"channels": (1.0, 0.0, 65_535.0)}

KINDS: dict[str, FaultKind] = {
    "drop": FaultKind(10, "each packet is lost with probability p", _P),
    "burst": FaultKind(0, "n packets in a row are lost", {"n": (10, 1, 100_000)}),
    "gap": FaultKind(1, "nothing comes through"),
    "silence": FaultKind(5, "the board says nothing, then goes on: a low battery"),
    "wrap": FaultKind(
        0, "turns × 256 packets are lost: the counter shows nothing", {"turns": (1, 1, 64)}
    ),
    "dup": FaultKind(10, "packets come twice", _P),
    "footer": FaultKind(10, "the stop byte is damaged", _P),
    "header": FaultKind(10, "the start byte is damaged", _P),
    "counter": FaultKind(10, "the packet counter is damaged", _P),
    "payload": FaultKind(10, "a byte of the channels is damaged", _P),
    "insert": FaultKind(10, "a byte comes in between", _P),
    "cut": FaultKind(10, "the packet's end is missing", _P),
    "garbage": FaultKind(5, "random bytes instead of packets"),
    "marker": FaultKind(
        0, "a marker is sent: n packets are lost, the next one has it", {"n": (1, 0, 16)}
    ),
    "clump": FaultKind(
        10,
        "packets leave every ms milliseconds, from phase on",
        {"ms": (16, 1, 1000), "phase": (0, 0, 1000)},
    ),
    "stall": FaultKind(1, "packets wait, then all come at once"),
    "drift": FaultKind(
        math.inf, "the board's clock is fast by ppm", {"ppm": (200, -20_000, 20_000)}
    ),
    "rate": FaultKind(math.inf, "the rate is higher by percent", {"percent": (1, -50, 300)}),
    "unplug": FaultKind(5, "the port hangs up, and is there again, with a board that waits for b"),
    "flatline": FaultKind(5, "channels hold their value (a bit each)", _CHANNELS),
    "saturate": FaultKind(5, "channels are at the limit (a bit each)", _CHANNELS),
}


class Scheduled(msgspec.Struct, frozen=True):
    """One fault. ``end_s`` is inf for what lasts for good."""

    kind: str
    start_s: float
    end_s: float
    args: dict[str, float] = {}

    def at(self, t_s: float) -> bool:
        return self.start_s <= t_s < self.end_s

    def __str__(self) -> str:
        end = "" if math.isinf(self.end_s) else f"..{self.end_s:g}"
        args = "".join(f":{key}={value:g}" for key, value in self.args.items())
        return f"{self.kind}@{self.start_s:g}{end}{args}"


def parse_scheduled(item: str) -> Scheduled:
    """Raises UsageError."""
    name, _, rest = item.partition("@")
    kind = KINDS.get(name)
    if kind is None:
        raise UsageError(f"no fault is called {name!r}", hint=f"there are {', '.join(KINDS)}")
    when, *pairs = rest.split(":")
    start, dots, end = when.partition("..")
    form = f"{name}@START..END" + "".join(f":{key}=…" for key in kind.args)
    try:
        start_s = _seconds(start)
        end_s = _seconds(end) if dots else start_s + kind.lasts_s
        said = {key: float(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    except ValueError:
        raise UsageError(f"{item!r} can't be read", hint=f"write {form}") from None
    if not 0 <= start_s <= end_s:
        raise UsageError(f"{item!r} ends before it begins", hint=f"write {form}")
    for key, value in said.items():
        if key not in kind.args:
            known = ", ".join(kind.args) or "none"
            raise UsageError(f"{item!r}: {name} has no {key!r}", hint=f"its arguments: {known}")
        _, least, most = kind.args[key]
        if not least <= value <= most:
            raise UsageError(f"{item!r}: {key} is out of range", hint=f"from {least:g} to {most:g}")
    return Scheduled(
        name, start_s, end_s, {key: said.get(key, kind.args[key][0]) for key in kind.args}
    )


def _seconds(text: str) -> float:
    if text.endswith("ms"):
        return float(text[:-2]) * 1e-3
    return float(text.removesuffix("s"))


#: What a schedule by chance is made of, and how long each may last.
_CHAOS: dict[str, tuple[float, float]] = {
    "drop": (0.5, 2.0),
    "burst": (0, 0),
    "gap": (0.02, 1.5),
    "silence": (0.5, 1.5),
    "wrap": (0, 0),
    "dup": (0.5, 2.0),
    "footer": (0.5, 2.0),
    "header": (0.5, 2.0),
    "insert": (0.5, 2.0),
    "cut": (0.5, 2.0),
    "garbage": (0.1, 1.0),
    "marker": (0, 0),
    "clump": (1.0, 8.0),
    "stall": (0.05, 1.0),
    "drift": (2.0, 8.0),
    "rate": (2.0, 8.0),
    "unplug": (0.3, 2.0),
    "flatline": (0.5, 2.0),
    "saturate": (0.5, 2.0),
}
CHAOS_KINDS = tuple(_CHAOS)


def chaos(
    draw: random.Random,
    start_s: float,
    end_s: float,
    apart_s: float = 2.5,
    kinds: tuple[str, ...] = CHAOS_KINDS,
) -> list[Scheduled]:
    """Faults by chance, one after another, each ``apart_s`` and up to twice that after the end of
    the one before."""
    made: list[Scheduled] = []
    t_s = start_s
    while True:
        t_s += apart_s * draw.uniform(1.0, 2.0)
        name = draw.choice(kinds)
        least, most = _CHAOS[name]
        end = t_s + draw.uniform(least, most) if math.isfinite(most) else math.inf
        until_s = t_s if math.isinf(end) else end
        args = {key: default for key, (default, _, _) in KINDS[name].args.items()}
        if name == "burst":
            args["n"] = float(draw.randint(2, 300))
            until_s += args["n"] / 250
        elif name == "wrap":
            args["turns"] = float(draw.randint(1, 2))
            until_s += args["turns"] * 256 / 250
        elif name == "clump":
            args["ms"] = float(draw.choice((16, 32, 48, 64)))
            args["phase"] = round(draw.uniform(0, args["ms"]), 3)
        elif name == "drift":
            args["ppm"] = float(draw.choice((-200, -100, 100, 200)))
        elif name == "rate":
            args["percent"] = float(draw.choice((-1, -0.5, 0.5, 1)))
        elif name in ("flatline", "saturate"):
            args["channels"] = float(1 << draw.randrange(8))
        if until_s >= end_s:
            return made
        made.append(Scheduled(name, round(t_s, 4), round(end, 4), args))
        t_s = until_s
