"""A control server's methods, and a client in bytes."""

from __future__ import annotations

import asyncio
import math
import socket
from pathlib import Path

import msgpack
import msgspec
from served import client, read_all

from phantomd.errors import UnknownDevice
from phantomd.net.rpc import Method, NoParams


class EchoParams(msgspec.Struct, forbid_unknown_fields=True):
    value: int
    label: str = ""


class AnyParams(msgspec.Struct, forbid_unknown_fields=True):
    value: object


class Calls:
    """The methods of these tests, and what they remember."""

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.begun = 0
        self.held: asyncio.Event | None = None

    def table(self) -> dict[str, Method]:
        return {
            "echo": Method(EchoParams, lambda p: {"value": p.value}, "gives its value back"),
            "any": Method(AnyParams, lambda p: p.value, "gives anything back"),
            "note": Method(EchoParams, lambda p: self.noted.append(p.value), "remembers"),
            "hold": Method(NoParams, self.hold, "answers when released"),
            "break": Method(NoParams, lambda p: 1 // 0, "has a mistake in it"),
            "device.open": Method(NoParams, self.no_device, "refuses"),
            "nan": Method(NoParams, lambda p: {"plv": math.nan}, "has no value"),
            "big": Method(EchoParams, lambda p: "x" * p.value, "a long answer"),
        }

    async def hold(self, params: NoParams) -> str:
        self.begun += 1
        if self.held is None:
            self.held = asyncio.Event()
        await self.held.wait()
        return "released"

    def release(self) -> None:
        assert self.held is not None
        self.held.set()

    @staticmethod
    async def no_device(params: NoParams) -> None:
        raise UnknownDevice("no device sim-9", hint="device.list has them")


class Peer:
    """A client in bytes."""

    def __init__(self, path: Path) -> None:
        self.sock = client(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.unpacker = msgpack.Unpacker()

    def send(self, *messages: object) -> None:
        self.sock.sendall(b"".join(msgpack.packb(message) for message in messages))

    def answer(self) -> list:
        while True:
            for message in self.unpacker:
                return message
            data = self.sock.recv(1 << 16)
            assert data, "the connection ended without an answer"
            self.unpacker.feed(data)

    def ask(self, method: str, *params: object, request: int = 1) -> list:
        self.send([0, request, method, list(params)])
        return self.answer()

    def ended(self) -> bool:
        return read_all(self.sock) == b""
