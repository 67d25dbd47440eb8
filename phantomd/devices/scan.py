"""What could be opened: serial ports, with why one was or wasn't taken for a headset; what
BrainFlow could open there; and LSL streams of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from phantomd.contracts import DeviceInfo
from phantomd.devices.lsl import scan_streams
from phantomd.devices.port_holder import holder_of

#: The FTDI chip of the OpenBCI dongle; any FT231X has it, so it is a hint and no proof.
_OPENBCI_USB = (0x0403, 0x6015)


#: What BrainFlow reaches through a dongle: its board, and for whom.
_BRAINFLOW_USB = {
    _OPENBCI_USB: ((0, "Cyton"), (2, "Cyton with Daisy")),
    (0x2458, 0x0001): ((1, "Ganglion"), (22, "Muse 2 by BLED112")),
}


def scan(open_devices: Sequence[DeviceInfo]) -> list[dict[str, Any]]:
    """Rows of address, what it looks like and why; ``device.open`` takes each address.

    ``kind`` is None for a port that nothing speaks for; ``held_by`` is the program that has it.
    Blocks for as long as LSL streams may take to answer; the ports are looked at meanwhile.
    """
    with ThreadPoolExecutor(1) as aside:
        streams = aside.submit(scan_streams)
        rows = _ports(open_devices)
        return rows + _streams(streams.result(), open_devices)


def _ports(open_devices: Sequence[DeviceInfo]) -> list[dict[str, Any]]:
    """The simulator and the serial ports."""
    rows: list[dict[str, Any]] = [
        {
            "address": "simulator:",
            "kind": "simulator",
            "open": _open_as("simulator:", open_devices) is not None,
            "held_by": None,
            "why": "always there",
        }
    ]
    for port in sorted(list_ports.comports(), key=lambda port: port.device):
        address = f"cyton:{port.device}"
        likely = (port.vid, port.pid) == _OPENBCI_USB
        mine = _open_as(address, open_devices)
        held_by = None if mine is not None else holder_of(port.device)
        rows.append(
            {
                "address": address,
                "kind": "cyton" if likely else None,
                "open": mine is not None,
                "held_by": held_by,
                "why": "; ".join(_reasons(port, likely, mine, held_by)),
            }
        )
        for board, name in _BRAINFLOW_USB.get((port.vid, port.pid), ()):
            address = f"brainflow:{board}?serial_port={port.device}"
            rows.append(
                {
                    "address": address,
                    "kind": "brainflow",
                    "open": any(info.address.startswith(address) for info in open_devices),
                    "why": f"{_usb(port)}: a {name}, by BrainFlow",
                }
            )
    return rows


def _streams(
    found: Sequence[dict[str, Any]], open_devices: Sequence[DeviceInfo]
) -> list[dict[str, Any]]:
    """LSL's, each with whether it is open."""
    taken = {
        info.detail.get("source_id") for info in open_devices if info.address.startswith("lsl:")
    }
    return [
        {**row, "open": row["address"].partition("source_id=")[2] in taken - {"", None}}
        for row in found
    ]


def _reasons(
    port: ListPortInfo, likely: bool, mine: DeviceInfo | None, held_by: str | None
) -> list[str]:
    name = f" {port.product}" if port.product else ""
    serial = f", serial {port.serial_number}" if port.serial_number else ""
    what = "the chip of an OpenBCI dongle" if likely else "not a headset that is known"
    reasons = [f"{_usb(port)}{name}{serial}: {what}"]
    if mine is not None:
        reasons.append(f"taken as {mine.device_id}, {mine.state}")
    elif held_by is not None:
        reasons.append(f"not taken: {held_by} has it")
    elif not os.access(port.device, os.R_OK | os.W_OK):
        reasons.append("not taken: no permission to open it")
    elif likely:
        reasons.append("not taken: nobody asked for it; `phantomctl device open` does")
    return reasons


def _usb(port: ListPortInfo) -> str:
    return f"USB {port.vid:04x}:{port.pid:04x}" if port.vid is not None else "no USB device"


def _open_as(address: str, open_devices: Sequence[DeviceInfo]) -> DeviceInfo | None:
    """The device that has this port, under whatever name it was asked for."""
    kind, _, where = address.partition(":")
    for info in open_devices:
        its_kind, _, its_where = info.address.partition("?")[0].partition(":")
        same = its_where == where or (
            where and its_where and Path(its_where).resolve() == Path(where).resolve()
        )
        if its_kind == kind and same:
            return info
    return None
