"""A daemon's outside, for its clients' tests: control and streams, with made-up answers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
from served import WAIT_S, Host, eeg_opening

from phantomd.contracts import (
    GRID_NS,
    DeviceInfo,
    EegHeader,
    Flag,
    Hello,
    StageStats,
    Status,
    StreamStatus,
)
from phantomd.errors import PhantomError, UnknownDevice
from phantomd.net.control import ControlServer
from phantomd.net.envelope import Envelope
from phantomd.net.methods import (
    AddressParams,
    DeviceParams,
    FaultParams,
    HelloParams,
    ImpedanceParams,
    JournalParams,
    MarkerParams,
    PanicClearParams,
    PanicSetParams,
)
from phantomd.net.rpc import Method, NoParams
from phantomd.net.stream import StreamServer, json_opening, msgpack_opening

EPOCH = "0123456789abcdef" * 2
#: Wall clock 1 s ahead of the monotonic one, both since 1970.
WALL_OFFSET_NS = 1_000_000_000
FIRST = 100
LABELS = ("C3", "C4")


def header(labels: tuple[str, ...] = LABELS) -> EegHeader:
    return EegHeader(labels, 128.0, WALL_OFFSET_NS, FIRST, bytes.fromhex(EPOCH))


def frame(index: int, values: tuple[float, ...], flags: int = Flag.SIMULATED) -> bytes:
    start = struct.pack("<QqII", index, index * GRID_NS, flags, 250)
    return start + struct.pack(f"<{len(values)}f", *values)


def frames(first: int, count: int) -> list[bytes]:
    """Values are ± the index; every third frame is MISSING."""
    nan = float("nan")
    return [
        frame(index, (nan, nan), Flag.SIMULATED | Flag.MISSING)
        if index % 3 == 0
        else frame(index, (float(index), -float(index)))
        for index in range(first, first + count)
    ]


class FakeDaemon:
    """``asked`` are the requests that change something, in order."""

    def __init__(self, host: Host, path: Path, labels: tuple[str, ...] = LABELS) -> None:
        self.host = host
        self.path = path
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.reload_error: PhantomError | None = None
        self._envelopes = {
            "events": Envelope("events", EPOCH, json=True),
            "markers": Envelope("markers", EPOCH, json=False),
        }
        self.eeg: StreamServer = host.start(
            StreamServer(
                "eeg",
                "127.0.0.1",
                0,
                greet=lambda: header(labels).encode(),
                history=4096,
                opening=eeg_opening,
            )
        )
        self.events = self._messages("events", json_opening)
        self.markers = self._messages("markers", msgpack_opening)
        self.status = _status()
        self.stages = {"eeg": StageStats(512, 2, 90.0, 1500.0, 9000.0, 12000.0, 7800.0)}
        self.absent = DeviceInfo(
            "cyton-1",
            "cyton:/dev/ttyUSB1",
            "cyton",
            "absent",
            0.0,
            [],
            0,
            {"error": "there is no /dev/ttyUSB1"},
        )
        host.start(ControlServer(path, self._methods()))

    # -- streams -----------------------------------------------------------------------------------

    def when_subscribed(self, server: StreamServer, act: Callable[[], None]) -> Future[None]:
        """Do something on the loop as soon as the stream has a client."""

        async def wait() -> None:
            async with asyncio.timeout(WAIT_S):
                while not server.clients:
                    await asyncio.sleep(0)
            act()

        return asyncio.run_coroutine_threadsafe(wait(), self.host.loop)

    def publish_frames(self, data: list[bytes]) -> None:
        for one in data:
            self.eeg.publish(one)

    def end_frames(self) -> None:
        self._ended = asyncio.ensure_future(self.eeg.close())

    def say_event(self) -> None:
        self._say("events", {"kind": "gap", "level": "warning", "message": "3 lost"})

    def put_marker(self) -> None:
        self._say("markers", {"source": "ui", "label": "go", "payload": None})

    def _say(self, stream: str, data: dict[str, Any]) -> None:
        server: StreamServer = getattr(self, stream)
        message = self._envelopes[stream].data(server.next_seq, 2_000_000_000, 10, False, data)
        server.publish(message)

    def _messages(self, name: str, opening: Callable[[bytes], bool | None]) -> Any:
        envelope = self._envelopes[name]
        return self.host.start(
            StreamServer(
                name,
                "127.0.0.1",
                0,
                greet=lambda: envelope.metadata(None, None, WALL_OFFSET_NS, {}),
                history=64,
                opening=opening,
                gap=envelope.gap,
                refuse=envelope.error,
            )
        )

    # -- control -----------------------------------------------------------------------------------

    def _methods(self) -> dict[str, Method]:
        def does(name: str, params: type[msgspec.Struct], result: Any) -> tuple[str, Method]:
            def call(given: msgspec.Struct) -> Any:
                default = {each.name: each.default for each in msgspec.structs.fields(params)}
                set_ones = {
                    key: value
                    for key, value in msgspec.structs.asdict(given).items()
                    if value != default[key] and value != {}
                }
                self.asked.append((name, set_ones))
                return result

            return name, Method(params, call, "")

        def says(name: str, answer: Callable[[], Any]) -> tuple[str, Method]:
            params = HelloParams if name == "hello" else NoParams
            return name, Method(params, lambda _: answer(), "")

        def close(given: DeviceParams) -> dict[str, str]:
            if given.device_id != "cyton-0":
                raise UnknownDevice(f"no device {given.device_id!r}", hint="open: cyton-0")
            self.asked.append(("device.close", {"device_id": given.device_id}))
            return {"device_id": given.device_id}

        return dict(
            [
                says("hello", self._hello),
                says("status", lambda: self.status),
                says("ledger", lambda: self.stages),
                says("config.show", lambda: {"grid.hold_ms": 20.0, "devices": ["simulator:"]}),
                says("config.reload", self._reload),
                says("device.list", lambda: self.status.devices),
                says("device.scan", lambda: [_SCANNED]),
                does("device.open", AddressParams, {"device_id": "cyton-1"}),
                ("device.close", Method(DeviceParams, close, "")),
                does("device.fault", FaultParams, {"device_id": "simulator-0"}),
                does("device.impedance", ImpedanceParams, {"C3": 5.5, "C4": None}),
                does("marker.put", MarkerParams, {"t_ns": 7}),
                does("panic.set", PanicSetParams, {"panic": True}),
                does("panic.clear", PanicClearParams, {"panic": False}),
                does("journal.start", JournalParams, {"path": "/tmp/x.pdj"}),
                does("journal.stop", NoParams, {"path": "/x.pdj", "bytes": 12e6, "dropped": 0}),
            ]
        )

    def _reload(self) -> dict[str, list[str]]:
        if self.reload_error is not None:
            raise self.reload_error
        return {"changed": ["grid.hold_ms"], "needs_restart": ["streams.base_port"]}

    def _hello(self) -> Hello:
        ports = {
            "eeg": self.eeg.port,
            "events": self.events.port,
            "markers": self.markers.port,
        }
        return Hello("phantomd/9.9.9", 1, EPOCH, None, WALL_OFFSET_NS, ports)


_SCANNED = {
    "address": "cyton:/dev/ttyUSB0",
    "kind": "cyton",
    "open": True,
    "why": "the chip of an OpenBCI dongle",
}


def _status() -> Status:
    clock = {
        "rate_hz": 250.002,
        "rate_sd_ppm": 0.5,
        "uncertainty_ns": 140e3,
        "locked": 1,
    }
    device = DeviceInfo(
        "cyton-0",
        "cyton:/dev/ttyUSB0",
        "cyton",
        "streaming",
        250.0,
        [f"C{n}" for n in range(8)],
        12,
        {"clock": clock},
    )
    return Status(
        ready=True,
        degraded=["tick-priority: SCHED_FIFO 70 was refused: raise LimitRTPRIO"],
        devices=[device],
        streams={"eeg": StreamStatus(3, 512, 7), "events": StreamStatus(1, 4, 0)},
        sessions=0,
        recording=None,
        panic=True,
        uptime_s=187.0,
        detail={"panic_reason": "hand on the switch"},
    )
