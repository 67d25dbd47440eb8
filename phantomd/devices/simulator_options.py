"""What a simulator can be told: ``simulator:?key=value&…`` and faults, checked.

Everything that is computed here is +, −, × and ÷ of literals and options, so that the
configuration, and with it every sample, is the same on every machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from phantomd.core.sim import (
    FOREVER,
    JITTER_LAWS,
    MAX_CHANNELS,
    MAX_SCHEDULE,
    MAX_TARGETS,
    MAX_WINDOWS,
)
from phantomd.devices.base import Address
from phantomd.devices.electrodes import Site, sites
from phantomd.errors import BadAddress, UnsupportedFault

EXAMPLE = "for example simulator:?seed=1&channels=8&rate_hz=250"

# -- the configuration -----------------------------------------------------------------------------


class Target(msgspec.Struct, frozen=True):
    """A flickering target. No windows: always on."""

    hz: float
    windows_s: tuple[tuple[float, float], ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """A fault over the samples start … start + n − 1; ``value``: see enum pd_sim_kind."""

    kind: str
    start: int
    n: int
    channels: int = 0
    value: float = 0.0


class SimConfig(msgspec.Struct, frozen=True):
    """All that a simulator's samples and arrivals depend on."""

    sites: tuple[Site, ...]
    seed: int = 1
    rate_hz: float = 250.0
    quantise: bool = True
    background_uv: float = 10.0
    background_exponent: float = 1.0
    background_shared: float = 0.5
    alpha_hz: float = 10.2
    alpha_uv: float = 5.0
    alpha_closed_gain: float = 3.0
    eyes_closed: bool = False
    targets: tuple[Target, ...] = ()
    ssvep_uv: float = 4.0
    ssvep_harmonics: int = 2
    ssvep_period_s: float = 0.0
    line_hz: float = 50.0
    line_uv: float = 8.0
    blink_per_min: float = 15.0
    emg_per_min: float = 3.0
    emg_uv: float = 30.0
    pop_per_min: float = 0.5
    offset_uv: float = 30_000.0
    drift_uv: float = 60.0
    noise_uv: float = 0.3
    delay_ms: float = 1.0
    jitter_ms: float = 0.2
    jitter_law: str = "exponential"
    clump_ms: float = 0.0
    ppm: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    chaos_per_min: float = 0.0
    modulus: int = 0
    stamps: bool = False
    schedule: tuple[Fault, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(site.label for site in self.sites)


class Number(msgspec.Struct, frozen=True):
    """An option that is a number. ``scale``: from its unit to the field's; ``or_zero``: 0 too."""

    field: str
    low: float
    high: float
    scale: float = 1.0
    whole: bool = False
    or_zero: bool = False

    def __str__(self) -> str:
        text = f"{'a whole number' if self.whole else 'a number'} in {self.low:g}..{self.high:g}"
        return text + (" or 0" if self.or_zero else "")

    def value(self, text: str) -> float | int:
        """Raises ValueError."""
        number = int(text) if self.whole else float(text)
        if not (self.low <= number <= self.high or (self.or_zero and number == 0)):
            raise ValueError(text)
        return number if self.whole else number * self.scale


class Word(msgspec.Struct, frozen=True):
    """An option that is one of some words."""

    field: str
    values: dict[str, Any]

    def __str__(self) -> str:
        return "one of " + ", ".join(self.values)

    def value(self, text: str) -> Any:
        """Raises ValueError."""
        if text not in self.values:
            raise ValueError(text)
        return self.values[text]


#: Options of the address; docs/simulator.md has their defaults and meanings.
OPTIONS: dict[str, Number | Word] = {
    "seed": Number("seed", 0, 2**64 - 1, whole=True),
    "channels": Number("channels", 1, MAX_CHANNELS, whole=True),
    "rate_hz": Number("rate_hz", 64, 16_000),
    "adc": Word("quantise", {"cyton": True, "ideal": False}),
    "background_uv": Number("background_uv", 0, 1000),
    "exponent": Number("background_exponent", 0, 2),
    "shared": Number("background_shared", 0, 1),
    "alpha_hz": Number("alpha_hz", 4, 40),
    "alpha_uv": Number("alpha_uv", 0, 1000),
    "closed_gain": Number("alpha_closed_gain", 0, 100),
    "eyes": Word("eyes_closed", {"open": False, "closed": True}),
    "ssvep_uv": Number("ssvep_uv", 0, 1000),
    "ssvep_harmonics": Number("ssvep_harmonics", 1, 4, whole=True),
    "ssvep_period_s": Number("ssvep_period_s", 0.1, 86_400, or_zero=True),
    "line_hz": Number("line_hz", 45, 65, or_zero=True),
    "line_uv": Number("line_uv", 0, 100_000),
    "blink_per_min": Number("blink_per_min", 0, 60),
    "emg_per_min": Number("emg_per_min", 0, 60),
    "emg_uv": Number("emg_uv", 0, 1000),
    "pop_per_min": Number("pop_per_min", 0, 60),
    "offset_mv": Number("offset_uv", 0, 60, scale=1000.0),
    "drift_uv": Number("drift_uv", 0, 20_000),
    "noise_uv": Number("noise_uv", 0, 1000),
    "delay_ms": Number("delay_ms", 0, 1000),
    "jitter_ms": Number("jitter_ms", 0, 1000),
    "jitter": Word("jitter_law", {law: law for law in JITTER_LAWS}),
    "clump_ms": Number("clump_ms", 0.1, 1000, or_zero=True),
    "ppm": Number("ppm", -100_000, 100_000),
    "drop": Number("drop", 0, 1),
    "duplicate": Number("duplicate", 0, 1),
    "chaos_per_min": Number("chaos_per_min", 0, 12),
    "counter": Number("modulus", 16, 2**31, whole=True, or_zero=True),
    "stamps": Word("stamps", {"true": True, "false": False}),
}
KEYS = (*OPTIONS, "ssvep", "faults")


def config_of(address: Address, labels: tuple[str, ...]) -> SimConfig:
    """``labels``: the montage's. Raises BadAddress naming the option and what it can be."""
    if address.where:
        raise BadAddress(
            f"a simulator is nowhere, not at {address.where!r}", hint=f"options follow ?: {EXAMPLE}"
        )
    values: dict[str, Any] = {}
    for key, text in address.options.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise BadAddress(
                f"a simulator has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(KEYS)}",
            )
        if key in OPTIONS:
            option = OPTIONS[key]
            try:
                values[option.field] = option.value(text)
            except ValueError:
                raise BadAddress(
                    f"the simulator's {key} can't be {text!r}", hint=f"{key} is {option}"
                ) from None
    n_channels = values.pop("channels", min(len(labels) or 1, MAX_CHANNELS))
    config = SimConfig(sites(labels, n_channels), **values)
    return msgspec.structs.replace(
        config,
        targets=_targets(address.options.get("ssvep", ""), config),
        schedule=_schedule(address.options.get("faults", ""), config),
    )


def _bad(key: str, text: str, hint: str) -> NoReturn:
    raise BadAddress(f"the simulator's {key} can't hold {text!r}", hint=hint)


def _span(text: str) -> tuple[float, float]:
    """``4..8``. Raises ValueError."""
    low, dots, high = text.partition("..")
    start, end = float(low), float(high)
    if not dots or not 0 <= start < end <= 1e6:
        raise ValueError(text)
    return start, end


def _targets(text: str, config: SimConfig) -> tuple[Target, ...]:
    """``12,15`` or ``12@0..4/8..12,15@4..8``."""
    most = 0.5 * config.rate_hz
    hint = (
        f"ssvep is up to {MAX_TARGETS} frequencies under {most:g} Hz, each with up to "
        f"{MAX_WINDOWS} windows of seconds: 12,15 or 12@0..4/8..12,15@4..8"
    )
    targets = []
    for part in text.split(",") if text else ():
        hz, at, windows = part.partition("@")
        try:
            spans = tuple(_span(window) for window in windows.split("/")) if at else ()
            target = Target(float(hz), spans)
        except ValueError:
            _bad("ssvep", part, hint)
        if not 0.1 <= target.hz < most or len(target.windows_s) > MAX_WINDOWS:
            _bad("ssvep", part, hint)
        targets.append(target)
    if len(targets) > MAX_TARGETS:
        _bad("ssvep", text, hint)
    return tuple(targets)


# -- faults ----------------------------------------------------------------------------------------


class FaultKind(msgspec.Struct, frozen=True):
    """A fault that can be played. ``argument``: its one number or word, if it has one.

    ``seconds``: how long unless told, None: it takes no duration; inf: until the end.
    ``count``: its argument is how many samples.
    """

    seconds: float | None = None
    argument: str = ""
    takes: Number | Word | None = None
    default: float = 0.0
    channels: bool = False
    count: bool = False
    longest_s: float = 1e6


_PROBABILITY = Number("p", 0, 1)
FAULTS: dict[str, FaultKind] = {
    "drop": FaultKind(10.0, "p", _PROBABILITY, 0.05),
    "burst": FaultKind(None, "n", Number("n", 1, 1e6, whole=True), 10, count=True),
    "gap": FaultKind(1.0),
    "wrap": FaultKind(None, "turns", Number("turns", 1, 1000, whole=True), 1),
    "unplug": FaultKind(5.0),
    "duplicate": FaultKind(10.0, "p", _PROBABILITY, 0.05),
    "stall": FaultKind(1.0, longest_s=3600.0),
    "clump": FaultKind(10.0, "ms", Number("ms", 1, 1000, scale=1e6), 16e6),
    "drift": FaultKind(float("inf"), "ppm", Number("ppm", -100_000, 100_000), 200.0),
    "rate": FaultKind(float("inf"), "percent", Number("percent", -50, 50), 1.0),
    "reset": FaultKind(),
    "flatline": FaultKind(5.0, channels=True),
    "saturate": FaultKind(5.0, channels=True),
    "eyes": FaultKind(float("inf"), "state", Word("state", {"open": 1.0, "closed": 2.0}), 2.0),
    "pop": FaultKind(None, "uv", Number("uv", -200_000, 200_000), 1000.0, channels=True),
    "blink": FaultKind(None, "uv", Number("uv", 0, 10_000), 200.0),
    "emg": FaultKind(1.0, "uv", Number("uv", 0, 10_000), 40.0),
}
#: What they are called where bytes and radios are. The simulator hands over samples: one whose stop
#: byte is damaged, or that is lost because a marker was sent, is a lost sample. Name to kind, and
#: the argument's default where it is another.
ALIASES: dict[str, tuple[str, float | None]] = {
    "silence": ("gap", None),
    "footer": ("drop", None),
    "marker": ("burst", 1.0),
}


def fault_of(
    kind: str,
    duration_s: float | None,
    args: Mapping[str, Any],
    config: SimConfig,
    start: int = 0,
) -> Fault:
    """Raises UnsupportedFault saying what it could be."""
    kind, default = ALIASES.get(kind, (kind, None))
    known = FAULTS.get(kind)
    if known is None:
        near = difflib.get_close_matches(kind, FAULTS, n=1)
        raise UnsupportedFault(
            f"a simulator plays no fault {kind!r}",
            hint=(f"did you mean {near[0]}? " if near else "") + f"it plays {', '.join(FAULTS)}",
        )
    names = (*((known.argument,) if known.argument else ()), *_CHANNEL_NAMES[: 2 * known.channels])
    for name in args:
        if name not in names:
            raise UnsupportedFault(
                f"{kind} has no argument {name!r}",
                hint=f"it takes {' and '.join(names) or 'none'}",
            )
    value = known.default if default is None else default
    if known.takes is not None and known.argument in args:
        given = args[known.argument]
        try:
            value = float(known.takes.value(str(given)))
        except ValueError:
            raise UnsupportedFault(
                f"{kind}: {known.argument} can't be {given!r}",
                hint=f"{known.argument} is {known.takes}",
            ) from None
    n = _samples(kind, duration_s, known, config)
    if known.count:
        n = int(value)
    return Fault(kind, start, n, _mask(kind, args, config) if known.channels else 0, value)


_CHANNEL_NAMES = ("channel", "channels")


def _samples(kind: str, duration_s: float | None, known: FaultKind, config: SimConfig) -> int:
    if known.seconds is None:
        if duration_s is not None:
            raise UnsupportedFault(f"{kind} has no duration", hint="leave duration_s out")
        return 1
    seconds = known.seconds if duration_s is None else duration_s
    if duration_s is None and seconds == float("inf"):
        return FOREVER
    right_type = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not right_type or not 0 < seconds <= known.longest_s:
        raise UnsupportedFault(
            f"{kind} can't last {duration_s!r} s",
            hint=f"duration_s is more than 0 and at most {known.longest_s:g}",
        )
    return max(1, int(seconds * config.rate_hz + 0.5))


def _mask(kind: str, args: Mapping[str, Any], config: SimConfig) -> int:
    """Labels or numbers from 0: one, a list, or joined by ``/``. None named: the first channel."""
    named = [args[name] for name in _CHANNEL_NAMES if name in args]
    wanted: list[Any] = []
    for one in named:
        wanted += (
            one.split("/") if isinstance(one, str) else one if isinstance(one, list) else [one]
        )
    mask = 0
    for one in wanted if named else (0,):
        index = config.labels.index(one) if one in config.labels else one
        if isinstance(index, str) and index.isascii() and index.isdigit():
            index = int(index)
        if isinstance(index, bool) or not isinstance(index, int):
            index = -1
        if not 0 <= index < len(config.sites):
            raise UnsupportedFault(
                f"{kind}: there is no channel {one!r}",
                hint=f"channels are {', '.join(config.labels)}, or 0..{len(config.sites) - 1}",
            )
        mask |= 1 << index
    if not mask:
        raise UnsupportedFault(f"{kind} names no channel", hint="leave channels out for the first")
    return mask


def _schedule(text: str, config: SimConfig) -> tuple[Fault, ...]:
    """``gap@10..10.5,burst@20:n=12,drift@30:ppm=200``: seconds from the first sample."""
    hint = (
        f"faults is up to {MAX_SCHEDULE} of kind@start[..end][:key=value], in seconds: "
        "gap@10..10.5,burst@20:n=12"
    )
    faults = []
    for part in text.split(",") if text else ():
        head, *pairs = part.split(":")
        kind, at, when = head.partition("@")
        args = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if not at or len(args) < len(pairs):
            _bad("faults", part, hint)
        try:
            start_s, end_s = _span(when) if ".." in when else (float(when), None)
        except ValueError:
            _bad("faults", part, hint)
        if not 0 <= start_s <= 1e6:
            _bad("faults", part, hint)
        duration_s = None if end_s is None else end_s - start_s
        start = int(start_s * config.rate_hz + 0.5)
        try:
            faults.append(fault_of(kind, duration_s, args, config, start))
        except UnsupportedFault as error:
            _bad("faults", part, f"{error.message}: {error.hint}")
    if len(faults) > MAX_SCHEDULE:
        _bad("faults", text, hint)
    return tuple(faults)
