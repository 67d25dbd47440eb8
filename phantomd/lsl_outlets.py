"""The daemon's streams as LSL outlets, for LabRecorder, MNE-LSL, OpenViBE, the OpenBCI GUI.

A process of its own, and a client like any other: when liblsl hangs, the daemon does not. The
daemon starts it where ``[lsl] publish`` names streams (net/lsl.py), and it ends with the daemon:

    python -m phantomd.lsl_outlets '{"ports": {"eeg": 7069}, "name": "phantomd", …}'

``eeg`` is its channels, MISSING frames are NaN. Streams of numbers (features, focus, trit) are a
channel a name; all others are strings: a marker its label, the rest JSON.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import pylsl
from pylsl.util import set_config_content

from phantomd.client import EegConnection, MessageConnection, connect
from phantomd.contracts import Flag
from phantomd.errors import PhantomError

AGAIN_S = 0.5
TYPES = {"features": "Features", "focus": "Focus", "trit": "Trit", "markers": "Markers"}
#: Of a stream's numbers, those that are no channels of their own are left out.
NUMBERS = ("features", "focus", "trit")
NAN = float("nan")


class Job(msgspec.Struct, frozen=True):
    """``life_fd``: its other end is the daemon's."""

    ports: dict[str, int]
    host: str = "127.0.0.1"
    name: str = "phantomd"
    scope: str = "machine"
    life_fd: int = -1


class Outlets:
    """Of one stream: one, or one a device."""

    def __init__(self, job: Job, stream: str) -> None:
        self._job = job
        self._stream = stream
        self._offset_s = _clock_offset_s()
        self._open: dict[str, tuple[tuple[str, ...], Any]] = {}

    def eeg(self, connection: EegConnection) -> None:
        """Until the stream ends: the daemon stops, or its layout changes."""
        header = connection.header
        outlet = self._outlet("", header.labels, header.rate_hz, "microvolts")
        for frame in connection:
            values = frame.values
            if frame.flags & Flag.MISSING:
                values = np.full_like(values, np.nan)
            outlet.push_sample(values.tolist(), self._stamp(frame.t_ns))

    def messages(self, connection: MessageConnection) -> None:
        rate_hz = connection.metadata.get("rate_hz") or 0.0
        if self._stream not in NUMBERS:
            self._outlet("", (), 0.0)  # there to be found before the first message
        for message in connection:
            if message.get("type") != "data":
                continue
            data = message["data"]
            stamp_s = self._stamp(message.get("t_ns"))
            if self._stream in NUMBERS:
                device, numbers = numbers_of(self._stream, data)
                outlet = self._outlet(device, tuple(numbers), rate_hz, "none")
                outlet.push_sample(list(numbers.values()), stamp_s)
            else:
                self._outlet("", (), 0.0).push_sample([text_of(self._stream, data)], stamp_s)

    # -- inside ------------------------------------------------------------------------------------

    def _outlet(
        self, device: str, labels: tuple[str, ...], rate_hz: float, unit: str = "none"
    ) -> Any:
        """``labels`` (): a channel of strings. Other channels than before are another outlet."""
        known = self._open.get(device)
        if known is not None and known[0] == labels:
            return known[1]
        self._open.pop(device, None)
        kind = TYPES.get(self._stream, self._stream.upper() if labels else "Markers")
        where = ":".join(filter(None, (self._job.name, self._stream, device)))
        info = pylsl.StreamInfo(
            " ".join(filter(None, (self._job.name, self._stream, device))),
            kind,
            len(labels) or 1,
            rate_hz if labels else 0.0,
            "float32" if labels else "string",
            f"phantomd:{socket.gethostname()}:{where}",
        )
        info.set_channel_labels(list(labels) or [self._stream])
        info.set_channel_types(kind.lower())
        info.set_channel_units(unit)
        info.desc().append_child_value("manufacturer", "phantomd")
        outlet = pylsl.StreamOutlet(info)
        self._open[device] = (labels, outlet)
        return outlet

    def _stamp(self, t_ns: int | None) -> float:
        return (time.monotonic_ns() if t_ns is None else t_ns) * 1e-9 + self._offset_s


def numbers_of(stream: str, data: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """The device that they are of, and a number a channel, NaN where there is none."""
    if stream == "features":
        artifacts = {f"artifact {name}": value for name, value in data["artifacts"].items()}
        return data["device_id"], _floats({**data["features"], **artifacts})
    return "", _floats({stream: data.get(stream)})


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: NAN if value is None else float(value) for name, value in values.items()}


def text_of(stream: str, data: Mapping[str, Any]) -> str:
    """A marker is its label, with its payload behind it; everything else is JSON."""
    if stream == "markers":
        payload = data.get("payload")
        more = "" if payload is None else " " + msgspec.json.encode(payload).decode()
        return f"{data['label']}{more}"
    return msgspec.json.encode(data).decode()


def _clock_offset_s() -> float:
    """liblsl's clock minus CLOCK_MONOTONIC, the least disturbed of some looks."""
    looks = []
    for _ in range(16):
        before_s = time.monotonic()
        theirs_s = pylsl.local_clock()
        after_s = time.monotonic()
        looks.append((after_s - before_s, theirs_s - (before_s + after_s) / 2))
    return float(min(looks)[1])


def _serve(job: Job, stream: str) -> None:
    """For ever: the stream is closed when its layout changes, and is there again at once."""
    outlets = Outlets(job, stream)
    while True:
        try:
            with connect(stream, job.host, job.ports[stream]) as connection:
                if isinstance(connection, EegConnection):
                    outlets.eeg(connection)
                else:
                    outlets.messages(connection)
        except PhantomError as error:
            print(f"{stream}: {error}", file=sys.stderr, flush=True)
        time.sleep(AGAIN_S)


def _run(job: Job, streams: Iterable[str]) -> None:
    def serve(stream: str) -> None:
        try:
            _serve(job, stream)
        finally:
            os._exit(1)  # what nobody foresaw: the traceback is out, the daemon starts us again

    for stream in streams:
        threading.Thread(target=serve, args=(stream,), name=stream, daemon=True).start()


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    if "LSLAPICFG" not in os.environ:
        set_config_content(
            f"[multicast]\nResolveScope = {job.scope}\n"
            "[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -1\n"
        )
    _run(job, job.ports)
    if job.life_fd >= 0:
        os.read(job.life_fd, 1)
        os._exit(0)  # liblsl's threads are not waited for
    threading.Event().wait()


if __name__ == "__main__":
    main()
