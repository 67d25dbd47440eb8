"""Kinds of devices, by the first word of their address."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import cast

from phantomd.contracts import DeviceSpec
from phantomd.core.intake import Driver, Intake
from phantomd.devices.base import Address, Device
from phantomd.errors import BadAddress

#: kind: (module, function). The function takes the Address and the montage's labels, and opens the
#: device: it may block, and raises DeviceError. Modules are imported when they are first needed.
KINDS: dict[str, tuple[str, str]] = {
    "simulator": ("phantomd.devices.simulator", "open_simulator"),
    "cyton": ("phantomd.devices.cyton", "CytonDevice"),
}

Opener = Callable[[Address, tuple[str, ...]], Device]


def opener(address: Address) -> Opener:
    """Raises BadAddress for a kind that nobody has registered."""
    if address.kind not in KINDS:
        near = difflib.get_close_matches(address.kind, KINDS, n=1)
        raise BadAddress(
            f"no kind of device is called {address.kind!r}",
            hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}",
        )
    module, function = KINDS[address.kind]
    return cast(Opener, getattr(import_module(module), function))


def replay_driver(spec: DeviceSpec, intake: Intake) -> Driver | None:
    """What turns a journal's bytes of this device into samples again; None where it kept samples."""
    module, _ = KINDS[spec.kind]
    make = getattr(import_module(module), "replay_driver", None)
    return None if make is None else cast(Driver, make(spec, intake))
