"""Streams of the Lab Streaming Layer: ``lsl:name=Foo``, ``lsl:type=EEG``, ``lsl:source_id=…``.

liblsl runs in a child (``lsl_driver``). Here is what an address may say, and what can be seen.
"""

from __future__ import annotations

import difflib
import json
import subprocess
from threading import Event
from typing import Any

from phantomd.devices.base import Address
from phantomd.devices.child import ChildDevice
from phantomd.devices.spawner import environment, python
from phantomd.errors import BadAddress

DRIVER = "phantomd.devices.lsl_driver:Stream"
PROPERTIES = ("name", "type", "source_id")
#: What the stream is taken for: its own type, where that is one of these.
SIGNALS = ("eeg", "meg", "emg", "eog", "eye", "aux")
#: How far streams are looked for: liblsl's ResolveScope.
SCOPES = ("machine", "link", "site", "organization")
OPTIONS = {"as": SIGNALS, "scope": SCOPES}
#: What our own outlets (phantomd/lsl_outlets.py) begin their source_id with.
OURS = "phantomd:"
OPEN_S = 10.0
#: Looking for all streams: how long liblsl listens, and how long its process may take.
SCAN_S = 0.7
SCAN_PROCESS_S = 3.0


def wanted(address: Address, labels: tuple[str, ...]) -> tuple[str, str]:
    """The property and its value. Raises BadAddress."""
    prop, equals, value = address.where.partition("=")
    if prop not in PROPERTIES or not equals or not value:
        near = difflib.get_close_matches(prop, PROPERTIES, 1)
        raise BadAddress(
            f"{str(address)!r} names no stream",
            hint=f"did you mean lsl:{near[0]}={value or '…'}?"
            if near
            else "lsl:name=Foo, lsl:type=EEG or lsl:source_id=…",
        )
    for key, said in address.options.items():
        if key not in OPTIONS:
            near = difflib.get_close_matches(key, OPTIONS, 1)
            raise BadAddress(
                f"an LSL stream has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else "it has as and scope",
            )
        if said not in OPTIONS[key]:
            raise BadAddress(f"{key}={said} is not known", hint=f"one of {', '.join(OPTIONS[key])}")
    return prop, value


def open_stream(address: Address, labels: tuple[str, ...]) -> ChildDevice:
    """The registry's opener. Raises DeviceError."""
    return ChildDevice(address, labels, DRIVER, options=_options(address, labels), open_s=OPEN_S)


def wait_for_stream(address: Address, labels: tuple[str, ...], give_up: Event) -> ChildDevice:
    """The same, but that a stream which is not there is waited for, in one process. Raises
    DeviceError."""
    options = {**_options(address, labels), "wait": "true"}
    return ChildDevice(address, labels, DRIVER, options=options, open_s=OPEN_S, give_up=give_up)


def _options(address: Address, labels: tuple[str, ...]) -> dict[str, str]:
    prop, value = wanted(address, labels)
    return {**address.options, "property": prop, "value": value}


def scan_streams() -> list[dict[str, Any]]:
    """Rows of ``phantomctl device scan``. Call it beside the loop."""
    command = python("phantomd.devices.lsl_driver", str(SCAN_S))
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SCAN_S + SCAN_PROCESS_S, env=environment()
        )
        streams = json.loads(done.stdout) if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return []
    return [
        {
            "address": f"lsl:source_id={one['source_id']}"
            if one["source_id"]
            else f"lsl:name={one['name']}",
            "kind": "lsl",
            "open": False,
            "why": f"{one['name']} ({one['type']}) on {one['hostname']}: {one['channels']} channels"
            + (f", {one['rate_hz']:g} Hz" if one["rate_hz"] else ", irregular"),
        }
        for one in streams
        if not one["source_id"].startswith(OURS)
    ]
