"""What clients do wrong, on every port: they are told, and everybody else gets every frame."""

import asyncio
import contextlib
import functools
import json
import random
import socket
import struct
from pathlib import Path

import msgpack
import pytest
from live import EegClient
from running import ask, contiguous
from served import WAIT_S

from phantomd.contracts import Event
from phantomd.net import control

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ERROR_KEYS = {"code", "message", "hint"}


@pytest.fixture
def disturbed(run, daemon_at):
    """Runs what a bad client does beside a subscriber that must not notice; gives its result."""

    def do(disturb):
        async def go():
            async with daemon_at() as daemon:
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await eeg.read(8)
                async with asyncio.timeout(WAIT_S):
                    result = await disturb(daemon)
                await eeg.read(32)
                assert (await ask(daemon.control_path, "status"))["ready"] is True
                await daemon.stop()
                await eeg.read_rest()
                contiguous(eeg)
                return result

        return run(go())

    return do


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def answers(daemon, data: bytes, *, end: bool) -> list:
    """What the control socket answers to these bytes until it closes; ``end``: after our FIN."""
    reader, writer = await asyncio.open_unix_connection(str(daemon.control_path))
    with contextlib.suppress(ConnectionError):  # refused before it had said all
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
    said = await reader.read(-1)
    writer.close()
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(said)
    return list(unpacker)


@pytest.mark.parametrize(
    ("data", "end", "code"),
    [
        (random.Random(5).randbytes(64 * 1024), False, "bad-frame"),
        (b"\x94\x00\x01\xdb\x80\x00\x00\x00", False, "too-big"),
        (b"\x94\x00\x01\xa6status\xdd\x80\x00\x00\x00", False, "too-big"),
        (b"\x94" + b"\x91" * 100_000, False, "too-big"),
        (b"\x94\x00\x01\xa6sta", True, "bad-frame"),
        (b"\x94\x00\x01\xa6sta", False, "bad-frame"),
        (REQUEST, False, "bad-frame"),
        (msgpack.packb([0, 1, "stauts", []]), True, "unknown-method"),
        (msgpack.packb([0, 1, "device.open", [{"adress": "x"}]]), True, "bad-params"),
        (msgpack.packb([0, 1, "panic.clear", []]), True, "bad-params"),
        (msgpack.packb([0, 1, "panic.clear", [{"reason": ""}]]), True, "bad-params"),
    ],
    ids=[
        "random bytes",
        "a string of 2 GiB",
        "an array of 2 Gi values",
        "a depth bomb",
        "half a message and the end",
        "half a message and silence",
        "HTTP",
        "unknown method",
        "unknown key",
        "panic cleared without a reason",
        "panic cleared with an empty reason",
    ],
)
def test_garbage_on_control_is_named_with_a_hint(disturbed, monkeypatch, data, end, code):
    brief = functools.partial(control.Limits, silence_s=0.1)
    monkeypatch.setattr(control, "Limits", brief)
    (answer,) = disturbed(lambda daemon: answers(daemon, data, end=end))
    kind, _, error, result = answer
    assert (kind, result) == (1, None)
    assert error.keys() == ERROR_KEYS
    assert error["code"] == code and error["message"] and error["hint"]


@pytest.mark.parametrize("stream", ["eeg", "events"])
def test_an_http_request_closes_that_connection_alone(disturbed, stream):
    async def browse(daemon):
        port = daemon.ports.streams[stream].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        said = await reader.read(-1)
        writer.close()
        return said

    said = disturbed(browse)
    if stream == "events":
        error = json.loads(said.splitlines()[-1])
        assert error["type"] == "error" and error["closing"] is True
        assert error["code"] == "bad-frame" and "HTTP" in error["hint"]
    else:
        assert b"HTTP" not in said


@pytest.mark.parametrize("how", ["reset", "half closed", "never reads"])
@pytest.mark.parametrize("where", ["eeg", "events", "control"])
def test_clients_that_vanish_disturb_nobody(disturbed, where, how):
    async def come_and_go(daemon):
        kept = []
        for _ in range(20):
            if where == "control":
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(daemon.control_path))
                sock.sendall(msgpack.packb([0, 1, "status", []]) + b"\x94\x00")
            else:
                sock = socket.create_connection(("127.0.0.1", daemon.ports.streams[where].port))
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            else:
                if how == "half closed":
                    sock.shutdown(socket.SHUT_WR)
                kept.append(sock)
            await asyncio.sleep(0)
        for sock in kept:
            sock.close()

    disturbed(come_and_go)


def test_a_client_killed_in_the_middle_of_opening_leaves_no_half_open_device(disturbed):
    """What it began goes on: the answer has nobody to go to, the device has."""

    async def ask_and_die(daemon):
        reader, writer = await asyncio.open_unix_connection(str(daemon.control_path))
        writer.write(msgpack.packb([0, 1, "device.open", [{"address": "simulator:?seed=2"}]]))
        await writer.drain()
        writer.transport.abort()
        while [info.state for info in daemon.status().devices] != ["streaming", "streaming"]:
            await asyncio.sleep(0)
        assert reader is not None

    disturbed(ask_and_die)


def test_connections_that_came_and_went_leave_no_descriptors(disturbed):
    async def come_and_go(daemon):
        # The device, too, has some.
        while [info.state for info in daemon.status().devices] != ["streaming"]:
            await asyncio.sleep(0)
        before = descriptors()
        for _ in range(50):
            for port in (daemon.ports.streams["eeg"].port, daemon.ports.streams["events"].port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                await reader.read(8)
                writer.close()
                await writer.wait_closed()
        # The daemon notices when it next sends: frames come every 8 ms, events on occasion.
        while daemon.ports.streams["eeg"].status().clients > 1:
            await asyncio.sleep(0)
        while daemon.ports.streams["events"].status().clients:
            daemon.emit(Event("alert", "info", "a test"))
            await asyncio.sleep(0)
        # Sockets that said farewell are closed a turn or two later.
        async with asyncio.timeout(WAIT_S):
            while descriptors() > before:
                await asyncio.sleep(0)

    disturbed(come_and_go)
