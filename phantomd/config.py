"""TOML to contracts. A key that nobody knows is an error naming the file, the key, its neighbour.

Precedence: ``--set key=value`` over the file over the defaults below. Every key is documented here,
and ``phantomctl config`` shows the effective values.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from phantomd.contracts import BASE_PORT, MONTAGE
from phantomd.errors import ConfigError, PhantomError, UnknownKey, WrongType

Priority = Annotated[int, Meta(ge=0, le=99)]
Milliseconds = Annotated[float, Meta(ge=0, le=10_000)]
Label = Annotated[str, Meta(min_length=1, max_length=16)]


Reference = Literal["none", "average"] | Annotated[tuple[Label, ...], Meta(min_length=1)]


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[daemon]``"""

    #: Sessions, models, traces, baseline, the panic latch.
    state: str = "~/.bci"
    #: Control socket; empty: $PHANTOMD_CONTROL, else the run directory.
    control: str = ""
    #: Members of this group may use the control socket, besides the daemon's own user and root.
    control_group: str = "phantomd"


class StreamsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[streams]``"""

    host: str = "127.0.0.1"
    base_port: Annotated[int, Meta(ge=0, le=65_000)] = BASE_PORT
    #: Connections a stream.
    max_clients: Annotated[int, Meta(ge=1, le=4096)] = 256


class GridConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[grid]``: from native samples to the 128 Hz grid."""

    #: Resampling filter: linear phase, or less delay with a phase error.
    phase: Literal["linear", "minimum"] = "linear"
    #: How long a frame waits for late samples beyond the resampler's delay.
    hold_ms: Milliseconds = 20.0
    #: Losses up to this length are bridged, frames under longer ones are MISSING.
    bridge_ms: Milliseconds = 20.0
    #: A sample this late counts as lost.
    lost_after_ms: Milliseconds = 100.0


class MontageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[montage]``"""

    #: Labels of the first device's channels, and of the frames before there is one.
    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=64)] = MONTAGE
    #: What the analysis refers each channel to: "none" (as the amplifier does), "average" (the mean
    #: of all channels that are not bad), or the mean of these channels. Port 7069 has the channels
    #: as the amplifier gives them.
    reference: Literal["none", "average"] | Annotated[tuple[Label, ...], Meta(min_length=1)] = (
        "none"
    )
    #: Of the wall socket: where the notches and the line-noise features lie.
    mains_hz: Literal[50, 60] = 50
    #: Channels that the analysis leaves out, by label.
    bad: tuple[Label, ...] = ()
    #: Further bad channels are looked for every ten seconds, and shown in ``status`` and on
    #: ``events``. The analysis does without them until they are good again.
    auto_bad: bool = True


Hertz = Annotated[float, Meta(gt=0, le=50_000)]
Seconds = Annotated[float, Meta(gt=0, le=60)]


#: The filter bank's bands, where none are configured.
BANDS_HZ = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}


class WindowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[window]``: what features and gates are computed on."""

    length_s: Seconds = 1.0
    #: A window every so often; the length is a whole number of steps.
    step_s: Annotated[float, Meta(ge=0.05, le=10)] = 0.25


class AnalysisConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[analysis]``: the filter bank, on the native samples."""

    #: Name to edges in Hz; a band that does not fit a device's rate is undefined there.
    bands: dict[str, tuple[Hertz, Hertz]] = msgspec.field(default_factory=lambda: dict(BANDS_HZ))


class CcaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[cca]``: correlations with sines and cosines, for SSVEP."""

    #: Empty: none.
    targets_hz: Annotated[tuple[Hertz, ...], Meta(max_length=512)] = ()
    harmonics: Annotated[int, Meta(ge=1, le=10)] = 5
    windows_s: Annotated[tuple[Seconds, ...], Meta(min_length=1, max_length=16)] = (1.0, 2.0, 4.0)
    #: Filter-bank CCA's; 1: plain CCA on 6 to 90 Hz.
    subbands: Annotated[int, Meta(ge=1, le=8)] = 3


class LslConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[lsl]``: streams as outlets of the Lab Streaming Layer."""

    #: Streams by their names: eeg, features, intents, markers, …
    publish: tuple[
        Literal[
            "eeg",
            "focus",
            "trit",
            "features",
            "state",
            "intents",
            "markers",
            "actions",
            "events",
        ],
        ...,
    ] = ()
    #: What the outlets are called before the stream's name, and known by in their source_id.
    name: Annotated[str, Meta(min_length=1, max_length=64)] = "phantomd"
    #: How far they can be seen: liblsl's ResolveScope.
    scope: Literal["machine", "link", "site", "organization"] = "machine"


class PhaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[phase]``: each channel's phase against a reference oscillator of the machine's own."""

    #: 0: none.
    ref_hz: Annotated[float, Meta(ge=0, le=10_000)] = 10.0
    #: The rhythm is looked for within so much of it.
    span_hz: Annotated[float, Meta(gt=0, le=4)] = 1.0
    window_s: Annotated[float, Meta(ge=0.25, le=4)] = 1.0


ArtifactKind = Literal["clipping", "dropout", "line", "blink", "emg", "pop", "drift"]


class ArtifactConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[artifacts]``"""

    #: Kinds that reject a window, when their score is 0.5 or more or can't be told.
    reject: tuple[ArtifactKind, ...] = (
        "clipping",
        "dropout",
        "line",
        "blink",
        "emg",
        "pop",
        "drift",
    )


#: Of the specification's eight, so many must be good.
LEAST_ORACLE_CHANNELS = 6


class OracleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[oracle]``: focus and trit. Thresholds, window and brightness are the specification's."""

    #: Which metric is the focus; all three are in ``features``.
    method: Literal["band_ratio", "fisher_rao", "session"] = "band_ratio"
    #: Labels that focus is computed on, at least six; empty: the specification's eight (Fp1 Fp2 F3
    #: F4 C3 C4 P3 P4) where the first device has six of them, else all of its channels. Those in
    #: montage.bad are left out.
    channels: tuple[Label, ...] = ()
    #: Functions that add cells and propagators of your own to the oracle's network:
    #: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``, called with the network (docs/oracle.md).
    propagators: tuple[str, ...] = ()
    #: Skills of each role, the first available one is named.
    validator: tuple[str, ...] = ("gf3-trit-oracle", "bisimulation-oracle", "abductive-oracle")
    coordinator: tuple[str, ...] = (
        "dynamic-sufficiency",
        "catlab-asi-interleave",
        "agent-o-rama",
    )
    generator: tuple[str, ...] = (
        "nonlinear-dynamics-observatory",
        "lolita",
        "monad-bayes-asi-interleave",
    )


class RealtimeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[realtime]``: priorities are SCHED_FIFO's, 0 does not ask for any; a core of -1 is any."""

    tick_priority: Priority = 70
    tick_cpu: Annotated[int, Meta(ge=-1, le=1023)] = -1
    #: Of the thread that sends the frames of 7069.
    frames_priority: Priority = 55
    frames_cpu: Annotated[int, Meta(ge=-1, le=1023)] = -1
    intake_priority: Priority = 60
    intake_cpu: Annotated[int, Meta(ge=-1, le=1023)] = -1


class GauntletConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[gauntlet]``: sessions on port 7072."""

    #: Sessions at the same time, ``default`` among them.
    max_sessions: Annotated[int, Meta(ge=1, le=4096)] = 2048
    #: Of the thread that makes packets and reads answers.
    priority: Priority = 65
    cpu: Annotated[int, Meta(ge=-1, le=1023)] = -1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    #: Device addresses; the first one is on 7069. None: frames go on MISSING until one is opened.
    devices: tuple[str, ...] = ("simulator:",)
    daemon: DaemonConfig = DaemonConfig()
    streams: StreamsConfig = StreamsConfig()
    grid: GridConfig = GridConfig()
    montage: MontageConfig = MontageConfig()
    window: WindowConfig = WindowConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    cca: CcaConfig = CcaConfig()
    phase: PhaseConfig = PhaseConfig()
    artifacts: ArtifactConfig = ArtifactConfig()
    oracle: OracleConfig = OracleConfig()
    realtime: RealtimeConfig = RealtimeConfig()
    gauntlet: GauntletConfig = GauntletConfig()
    lsl: LslConfig = LslConfig()

    @property
    def state_dir(self) -> Path:
        return Path(self.daemon.state).expanduser()


#: What ``config.reload`` can change in a running daemon; the rest needs a restart.
RELOADABLE = ("grid", "window", "analysis", "cca", "phase", "artifacts")
#: The montage's labels are the ports', too.
_RELOADABLE_MONTAGE = ("reference", "mains_hz", "bad", "auto_bad")


def reloadable(key: str) -> bool:
    """Whether a running daemon can change what this dotted key says."""
    section, _, name = key.partition(".")
    return section in RELOADABLE or (section == "montage" and name in _RELOADABLE_MONTAGE)


def reloaded(old: Config, new: Config) -> Config:
    """What a running daemon with the old configuration makes of the new one."""
    montage = msgspec.structs.replace(
        old.montage, **{name: getattr(new.montage, name) for name in _RELOADABLE_MONTAGE}
    )
    sections = {section: getattr(new, section) for section in RELOADABLE}
    return msgspec.structs.replace(old, montage=montage, **sections)


def load(path: str | os.PathLike[str] | None = None, settings: Iterable[str] = ()) -> Config:
    """Reads the file (none: the defaults), then applies ``key=value`` settings, dots for sections.

    Raises ConfigError, UnknownKey, WrongType.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file", hint="name an existing file") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: {error}", hint="the file must be TOML") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}", hint="the file must be readable UTF-8") from error
        check_keys(tree, Config, str(path))
        convert(tree, str(path))
    for setting in settings:
        _apply(tree, setting)
    config = convert(tree, "--set")
    _check_analysis(config)
    return config


def convert(tree: Mapping[str, Any], origin: str) -> Config:
    """Raises WrongType, which names the key."""
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        key = path.rstrip("`").removeprefix("$.") or "?"
        raise WrongType(f"{origin}: {key}: {reason}", hint=_hint_for(key)) from None
    _check_montage(config.montage, origin)
    return config


def _check_montage(montage: MontageConfig, origin: str) -> None:
    """Channels are named as ``labels`` has them. Raises ConfigError."""
    known = set(montage.labels)
    if len(known) < len(montage.labels):
        twice = next(name for name in montage.labels if montage.labels.count(name) > 1)
        raise ConfigError(
            f"{origin}: montage.labels: {twice!r} twice", hint="give each channel its own label"
        )
    named = montage.reference if isinstance(montage.reference, tuple) else ()
    for key, names in (("reference", named), ("bad", montage.bad)):
        for name in names:
            if name not in known:
                labels = {label.lower(): label for label in montage.labels}
                near = difflib.get_close_matches(name.lower(), labels, n=1)
                raise ConfigError(
                    f"{origin}: montage.{key}: no channel is called {name!r}",
                    hint=f"did you mean {labels[near[0]]!r}?"
                    if near
                    else f"montage.labels has {', '.join(montage.labels)}",
                )
    both = set(named) & set(montage.bad)
    if both:
        raise ConfigError(
            f"{origin}: montage: {', '.join(sorted(both))} is bad, and the reference",
            hint="refer to channels that are good",
        )
    if len(set(montage.bad)) == len(known):
        raise ConfigError(
            f"{origin}: montage.bad: no good channel is left", hint="leave at least one out of it"
        )


def _check_analysis(config: Config) -> None:
    """What no type says. Raises ConfigError."""
    steps = config.window.length_s / config.window.step_s
    if abs(steps - round(steps)) > 1e-9 or not 1 <= round(steps) <= 64:
        raise ConfigError(
            f"window.length_s {config.window.length_s:g} is no whole number of steps of "
            f"{config.window.step_s:g} s",
            hint="1 to 64 steps make a window: for example length_s = 1.0, step_s = 0.25",
        )
    if 0 < len(set(config.oracle.channels)) < LEAST_ORACLE_CHANNELS:
        raise ConfigError(
            f"oracle.channels names {len(set(config.oracle.channels))} channels",
            hint=f"at least {LEAST_ORACLE_CHANNELS}, or none for the specification's eight",
        )
    for name, (low, high) in config.analysis.bands.items():
        if low >= high:
            raise ConfigError(
                f"analysis.bands.{name} goes from {low:g} to {high:g} Hz",
                hint="the lower edge comes first",
            )


def check_keys(
    tree: Mapping[str, Any], struct: type[msgspec.Struct], origin: str, at: str = ""
) -> None:
    """Raises UnknownKey for the first key that ``struct`` does not have, at any depth."""
    hints = typing.get_type_hints(struct)
    for key, value in tree.items():
        where = f"{at}{key}"
        if key not in hints:
            near = _nearest(key, at, hints)
            known = ", ".join(sorted(hints))
            raise UnknownKey(
                f"{origin}: unknown key {where!r}",
                hint=f"did you mean {near!r}?" if near else f"known here: {known}",
            )
        kind = hints[key]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if not isinstance(value, Mapping):
                raise WrongType(
                    f"{origin}: {where}: Expected `section`, got `{type(value).__name__}`",
                    hint=f"write [{where}] and its keys below",
                )
            check_keys(value, kind, origin, where + ".")


def _nearest(key: str, at: str, known: Iterable[str]) -> str | None:
    """The key that was meant: one of the same section, else one of the same name elsewhere."""
    here = {name: at + name for name in known}
    elsewhere = {name.rpartition(".")[2]: name for name in _all_keys(Config)}
    for names in (here, elsewhere):
        for near in difflib.get_close_matches(key, names, n=1):
            return names[near]
    return None


def changes(old: Config, new: Config) -> list[str]:
    """Dotted keys whose values differ, or which only one of them has (bands by name)."""
    before, after = flat(old), flat(new)
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def flat(config: Config) -> dict[str, Any]:
    """Dotted key to value, in the order of the file."""
    out: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], at: str) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, f"{at}{key}.")
            else:
                out[at + key] = value

    walk(msgspec.to_builtins(config), "")
    return out


def _all_keys(struct: type[msgspec.Struct], at: str = "") -> Iterable[str]:
    for key, kind in typing.get_type_hints(struct).items():
        yield at + key
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _all_keys(kind, f"{at}{key}.")


def _hint_for(key: str) -> str:
    """What the key may hold, from its type."""
    struct: Any = Config
    kind: Any = None
    for part in key.split("[")[0].split("."):
        if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
            break
        kind = typing.get_type_hints(struct, include_extras=True).get(part)
        struct = kind
    if kind is None:
        return "see phantomd/config.py for every key"
    return f"{key} takes {_describe(kind)}"


def _describe(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is Annotated:
        base, *notes = typing.get_args(kind)
        limits = [
            text
            for note in notes
            if isinstance(note, Meta)
            for text in (
                f"at least {note.ge}" if note.ge is not None else "",
                f"at most {note.le}" if note.le is not None else "",
            )
            if text
        ]
        return ", ".join([_describe(base), *limits])
    if origin is Literal:
        return " or ".join(repr(value) for value in typing.get_args(kind))
    if origin is tuple:
        return f"a list of {_describe(typing.get_args(kind)[0])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(part) for part in typing.get_args(kind))
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _apply(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            f"--set {setting}: no key=value", hint="for example --set grid.hold_ms=30"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set grid.phase=minimum
    *sections, last = key.split(".")
    said: dict[str, Any] = {last: value}
    for section in reversed(sections):
        said = {section: said}
    check_keys(said, Config, "--set")
    at = tree
    for section in sections:
        inner = at.setdefault(section, {})
        if not isinstance(inner, dict):
            raise WrongType(f"--set {key}: {section} has no keys", hint=_hint_for(section))
        at = inner
    at[last] = value


def describe_error(error: PhantomError) -> str:
    """One line for a terminal."""
    return f"{error.message}\n  hint: {error.hint}" if error.hint else error.message
