"""Kinds of devices, by the first word of their address."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import NamedTuple, cast

from phantomd.contracts import DeviceSpec
from phantomd.core.intake import Driver, Intake
from phantomd.devices.base import Address, Device
from phantomd.errors import BadAddress, ConfigError


class Kind(NamedTuple):
    """Names in ``module``, which is imported when it is first needed.

    ``opens`` takes the Address and the montage's labels and opens the device: it may block, and
    raises DeviceError. ``checks`` takes the same, touches nothing, and raises BadAddress. ``node``
    is the option that names its device node; "": what stands behind the colon; None: it has none.
    ``waits``: like ``opens``, with a threading.Event as third argument: it waits for a device that
    is not there, at no cost to speak of, until the event is set; "": it is tried again and again.
    ``many``: what stands behind the colon does not tell two devices apart, the options do.
    ``retry_s``: the longest pause between two attempts to open one that is away; what costs much to
    try says more.
    """

    module: str
    opens: str
    checks: str
    node: str | None = None
    many: bool = False
    retry_s: float = 0.8
    waits: str = ""


KINDS: dict[str, Kind] = {
    "simulator": Kind("phantomd.devices.simulator", "open_simulator", "config_of"),
    "cyton": Kind("phantomd.devices.cyton", "CytonDevice", "config_of", node=""),
    "brainflow": Kind(
        "phantomd.devices.brainflow",
        "open_board",
        "board_of",
        node="serial_port",
        many=True,
        retry_s=5.0,
    ),
    "lsl": Kind(
        "phantomd.devices.lsl", "open_stream", "wanted", retry_s=2.0, waits="wait_for_stream"
    ),
    "python": Kind(
        "phantomd.devices.child", "open_python", "driver_of", node="port", many=True, retry_s=5.0
    ),
    "remote": Kind("phantomd.devices.remote", "open_remote", "place_of"),
    "replay": Kind("phantomd.devices.replay", "open_live", "check", node=""),
    "broadband": Kind("phantomd.devices.broadband", "open_live", "check", node=""),
}

Opener = Callable[[Address, tuple[str, ...]], Device]


def opener(address: Address) -> Opener:
    """Raises BadAddress for a kind that nobody has registered."""
    kind = _kind(address)
    return cast(Opener, getattr(import_module(kind.module), kind.opens))


def waiter(address: Address) -> Callable[[Address, tuple[str, ...], Event], Device] | None:
    """Opens the device as soon as it is there (see Kind); None: there is nothing that waits."""
    kind = _kind(address)
    if not kind.waits:
        return None
    return cast(
        Callable[[Address, tuple[str, ...], Event], Device],
        getattr(import_module(kind.module), kind.waits),
    )


def node_of(address: Address) -> Path | None:
    """The device node whose appearance says that the device may be back."""
    option = _kind(address).node
    if option is None:
        return None
    path = address.options.get(option, "") if option else address.where
    # A driver of somebody's own may call something else its port.
    return Path(path) if path and (not option or path.startswith("/")) else None


def same(one: Address, other: Address) -> bool:
    """Whether two addresses mean one device; two of nowhere in particular never do."""
    if one.kind != other.kind or one.where != other.where or not one.where:
        return False
    return not _kind(one).many or one.options == other.options


def retry_s(address: Address) -> float:
    """See Kind. Raises BadAddress."""
    return _kind(address).retry_s


def check(text: str, labels: tuple[str, ...]) -> Address:
    """The address, if its driver could take it. Opens nothing; raises BadAddress."""
    address = Address.parse(text)
    kind = _kind(address)
    getattr(import_module(kind.module), kind.checks)(address, labels)
    return address


def check_configured(devices: Sequence[str], labels: tuple[str, ...]) -> None:
    """Raises ConfigError for the first configured device that could never be opened."""
    before: list[Address] = []
    for text in devices:
        try:
            address = check(text, labels)
        except BadAddress as error:
            raise ConfigError(f"devices: {text!r}: {error.message}", hint=error.hint) from error
        for first in before:
            if same(address, first):
                raise ConfigError(
                    f"devices: {text!r} is the same device as {str(first)!r}", hint="name it once"
                )
        before.append(address)


def _kind(address: Address) -> Kind:
    try:
        return KINDS[address.kind]
    except KeyError:
        near = difflib.get_close_matches(address.kind, KINDS, n=1)
        raise BadAddress(
            f"no kind of device is called {address.kind!r}",
            hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}",
        ) from None


def replay_driver(spec: DeviceSpec, intake: Intake) -> Driver | None:
    """What turns a journal's bytes of this device into samples; None where it kept samples."""
    make = getattr(import_module(KINDS[spec.kind].module), "replay_driver", None)
    return None if make is None else cast(Driver, make(spec, intake))
