"""Another daemon's eeg port as a device: ``remote:host:7069``.

Its frames are native samples at 128 Hz, under its frame index; the socket goes straight to a C
parser (csrc/pd_remote.h). The other host's clock is another clock: ours is taught by arrivals, less
the age that frames say of themselves and half the round trip. docs/replay.md.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any

import numpy as np

from phantomd.contracts import GRID_HZ, DeviceSpec, EegHeader, Flag
from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.remote import MAX_FRAME_BYTES, RemoteDriver
from phantomd.core.ring import Ring
from phantomd.devices.base import Address, no_faults
from phantomd.errors import BadAddress, DeviceError, DeviceMissing, DeviceSilent

PORT = 7069
CONNECT_S = 2.0
HEADER_S = 5.0
#: The frames from which their age is measured, and how long they are waited for.
PEEK_FRAMES = 24
PEEK_S = 0.5
RING_SLOTS = 8192
MAX_VALUES = 256
#: Of struct tcp_info (linux/tcp.h): the least round trip, in µs.
_TCP_INFO_BYTES = 192
_MIN_RTT_AT = 148
_HINT = "remote:host:7069, the eeg port of another phantomd"


def place_of(address: Address, labels: tuple[str, ...] = ()) -> tuple[str, int]:
    """Host and port. Raises BadAddress."""
    if address.options:
        raise BadAddress(f"a remote has no option {next(iter(address.options))!r}", hint=_HINT)
    host, colon, port = address.where.rpartition(":")
    if not colon or ("]" in port):
        host, port = address.where, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise BadAddress("a remote's address names its host", hint=_HINT)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise BadAddress(f"{port!r} is no port", hint=_HINT)
    return host, int(port)


def open_remote(address: Address, labels: tuple[str, ...]) -> RemoteDevice:
    """Raises DeviceError."""
    return RemoteDevice(address)


def replay_driver(spec: DeviceSpec, intake: Intake) -> RemoteDriver:
    """What turns a journal's bytes of this device into samples again."""
    return RemoteDriver(intake, int(spec.info["frame_bytes"]))


class RemoteDevice:
    """A connection to another daemon. See ``base.Device``.

    A change of its epoch closes it, as every end of the connection does: it is opened anew, with
    the new header.
    """

    def __init__(self, address: Address, *, device_id: str = "remote") -> None:
        """Raises BadAddress, DeviceMissing, DeviceSilent or DeviceError."""
        host, port = place_of(address)
        self._sock = _connect(host, port)
        try:
            header, frame_bytes = _header(self._sock, f"{host}:{port}")
            age_us, simulated = _age(self._sock, frame_bytes)
            path_us = _min_rtt_us(self._sock) / 2
            self._sock.setblocking(False)
        except OSError as error:
            self._sock.close()
            raise DeviceMissing(
                f"{host}:{port} went away: {error}", hint="is the other daemon still running?"
            ) from error
        except BaseException:
            self._sock.close()
            raise
        n = len(header.labels)
        intake = Intake(Ring(NATIVE_HEAD_WORDS + n, RING_SLOTS), float(GRID_HZ), n)
        self._driver = RemoteDriver(intake, frame_bytes, self._sock.fileno())
        self._spec = DeviceSpec(
            device_id=device_id,
            address=str(address),
            kind="remote",
            rate_hz=float(GRID_HZ),
            labels=header.labels,
            simulated=simulated,
            transport_us=age_us + path_us,
            info={
                "epoch": header.epoch.hex(),
                "frame_bytes": frame_bytes,
                "age_us": round(age_us),
                "half_round_trip_us": round(path_us),
            },
        )

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def fd(self) -> int:
        return self._sock.fileno()

    def start(self) -> None:
        """Nothing to do: it streams."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self._spec)


def _connect(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=CONNECT_S)
    except (OSError, UnicodeError) as error:
        raise DeviceMissing(
            f"nobody answers at {host}:{port}: {error}",
            hint="does a daemon run there, and does its streams.host let others in?",
        ) from error


def _header(sock: socket.socket, where: str) -> tuple[EegHeader, int]:
    until_s = time.monotonic() + HEADER_S
    try:
        start = _exactly(sock, 12, until_s)
        size = EegHeader.size(start)
        if size > 64 + 16 * MAX_VALUES:
            raise ValueError(f"a header of {size} bytes")
        data = start + _exactly(sock, size - len(start), until_s)
        header = EegHeader.decode(data)
    except (ValueError, UnicodeError, struct.error, TimeoutError) as error:
        raise DeviceSilent(
            f"what answers at {where} is no eeg port: {error or 'nothing came'}", hint=_HINT
        ) from error
    frame_bytes = int.from_bytes(data[12:16], "little")
    if not 0 < len(header.labels) <= MAX_VALUES or frame_bytes > MAX_FRAME_BYTES:
        raise DeviceError(
            f"{where} has {len(header.labels)} channels, {MAX_VALUES} can be taken", hint=_HINT
        )
    if header.rate_hz != GRID_HZ:
        raise DeviceError(
            f"{where} has frames at {header.rate_hz:g} Hz, not {GRID_HZ}", hint="update phantomd"
        )
    return header, frame_bytes


def _exactly(sock: socket.socket, n: int, until_s: float) -> bytes:
    data = b""
    while len(data) < n:
        sock.settimeout(max(1e-3, until_s - time.monotonic()))
        more = sock.recv(n - len(data))
        if not more:
            raise ConnectionResetError("it closed the connection")
        data += more
    return data


def _age(sock: socket.socket, frame_bytes: int) -> tuple[float, bool]:
    """How old its frames are when it publishes them, at the least, in µs; and whether they are a
    simulator's. They are looked at and left where they are: the parser will get them."""
    until_s = time.monotonic() + PEEK_S
    wanted = PEEK_FRAMES * frame_bytes
    data = b""
    while len(data) < wanted and (left_s := until_s - time.monotonic()) > 0:
        sock.settimeout(left_s)
        with contextlib.suppress(TimeoutError):
            before = len(data)
            data = sock.recv(wanted, socket.MSG_PEEK)
            if not data:
                raise ConnectionResetError("it closed the connection")
            if len(data) == before:
                time.sleep(0.01)  # peeking returns at once what was seen before
    n = len(data) // frame_bytes
    rows = np.frombuffer(data[: n * frame_bytes], np.uint8).reshape(n, frame_bytes)
    heads = np.ascontiguousarray(rows[:, 16:24]).view("<u4")
    flags, age_us = heads[:, 0], heads[:, 1].astype(np.float64)
    simulated = bool((flags & Flag.SIMULATED).any())
    on_time = age_us[(flags & Flag.LATE) == 0]
    return (float(on_time.min()) if len(on_time) else 0.0), simulated


def _min_rtt_us(sock: socket.socket) -> float:
    """What the kernel measured, from the handshake on; 0 where it does not say."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(info) < _MIN_RTT_AT + 4:
        return 0.0
    (min_rtt_us,) = struct.unpack_from("<I", info, _MIN_RTT_AT)
    return float(min_rtt_us) if min_rtt_us < 10_000_000 else 0.0
