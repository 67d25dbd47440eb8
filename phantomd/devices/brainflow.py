"""BrainFlow's boards: ``brainflow:0?serial_port=/dev/ttyUSB0``, ``brainflow:-1`` (synthetic).

The library runs in a child (``brainflow_driver``): it spins on a core when a dongle is unplugged,
and never says so. Here is only what an address may say; the keys are BrainFlowInputParams'.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from phantomd.devices.base import Address
from phantomd.devices.child import ChildDevice
from phantomd.errors import BadAddress, DeviceMissing

DRIVER = "phantomd.devices.brainflow_driver:Board"
#: brainflow.board_shim.BrainFlowInputParams, and how its values are written.
NUMBERS = ("ip_port", "ip_port_aux", "ip_port_anc", "ip_protocol", "timeout", "master_board")
TEXTS = (
    "serial_port",
    "mac_address",
    "ip_address",
    "ip_address_aux",
    "ip_address_anc",
    "other_info",
    "serial_number",
    "file",
    "file_aux",
    "file_anc",
)
#: Ours: which of the board's data are read, what it is told before it streams, and how long it may
#: say nothing.
OURS = ("preset", "config", "silence_s")
PRESETS = ("default", "auxiliary", "ancillary")
#: A Cyton alone takes some seconds to be reset and configured.
OPEN_S = 30.0


def board_of(address: Address, labels: tuple[str, ...]) -> int:
    """The board's number. Raises BadAddress for what no board could take."""
    try:
        board = int(address.where)
    except ValueError:
        raise BadAddress(
            f"{str(address)!r} names no board",
            hint="brainflow:0 is a Cyton, -1 synthetic; BrainFlow's BoardIds has them all",
        ) from None
    known = (*TEXTS, *NUMBERS, *OURS)
    for key, value in address.options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise BadAddress(
                f"a BrainFlow board has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}",
            )
        if key in NUMBERS and not value.lstrip("-").isdecimal():
            raise BadAddress(f"{key}={value} is no whole number", hint=f"for example {key}=1")
        if key == "preset" and value not in PRESETS:
            raise BadAddress(f"there is no preset {value!r}", hint=f"one of {', '.join(PRESETS)}")
        if key == "silence_s" and not _positive(value):
            raise BadAddress(f"silence_s={value} is no time", hint="seconds, for example 5")
    return board


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) <= 3600
    except ValueError:
        return False


def open_board(address: Address, labels: tuple[str, ...]) -> ChildDevice:
    """The registry's opener. Raises DeviceError."""
    board = board_of(address, labels)
    port = address.options.get("serial_port", "")
    if port.startswith("/") and not Path(port).exists():
        # While it is away, no process is started only to find that out.
        raise DeviceMissing(f"there is no {port}", hint="plug the dongle in")
    options = {**address.options, "board": str(board)}
    return ChildDevice(address, labels, DRIVER, options=options, open_s=OPEN_S)
