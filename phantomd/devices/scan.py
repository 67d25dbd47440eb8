"""What could be opened: serial ports, with why one was or wasn't taken for a headset; what
BrainFlow could open there; and LSL streams of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serial.tools import list_ports

from phantomd.contracts import DeviceInfo
from phantomd.devices.lsl import scan_streams

#: The FTDI chip of the OpenBCI dongle; any FT231X has it, so it is a hint and no proof.
_OPENBCI_USB = (0x0403, 0x6015)


#: What BrainFlow reaches through a dongle: its board, and for whom.
_BRAINFLOW_USB = {
    _OPENBCI_USB: ((0, "Cyton"), (2, "Cyton with Daisy")),
    (0x2458, 0x0001): ((1, "Ganglion"), (22, "Muse 2 by BLED112")),
}


def scan(open_devices: Sequence[DeviceInfo]) -> list[dict[str, Any]]:
    """Rows of address, what it looks like and why; ``device.open`` takes the address. Blocks for a
    second: LSL streams have to answer."""
    rows: list[dict[str, Any]] = [
        {
            "address": "simulator:",
            "kind": "simulator",
            "open": _is_open("simulator:", open_devices),
            "why": "always there",
        }
    ]
    for port in list_ports.comports():
        likely = (port.vid, port.pid) == _OPENBCI_USB
        usb = f"USB {port.vid:04x}:{port.pid:04x}" if port.vid is not None else "no USB device"
        name = f" {port.product}" if port.product else ""
        rows.append(
            {
                "address": f"cyton:{port.device}" if likely else port.device,
                "kind": "cyton" if likely else None,
                "open": _is_open(f"cyton:{port.device}", open_devices),
                "why": f"{usb}{name}: "
                + ("the chip of an OpenBCI dongle" if likely else "not a headset that is known"),
            }
        )
        for board, name in _BRAINFLOW_USB.get((port.vid, port.pid), ()):
            address = f"brainflow:{board}?serial_port={port.device}"
            rows.append(
                {
                    "address": address,
                    "kind": "brainflow",
                    "open": any(info.address.startswith(address) for info in open_devices),
                    "why": f"{usb}: a {name}, by BrainFlow",
                }
            )
    taken = {
        info.detail.get("source_id") for info in open_devices if info.address.startswith("lsl:")
    }
    for row in scan_streams():
        rows.append(
            {**row, "open": row["address"].partition("source_id=")[2] in taken - {"", None}}
        )
    return rows


def _is_open(address: str, open_devices: Sequence[DeviceInfo]) -> bool:
    return any(info.address.partition("?")[0] == address for info in open_devices)
