"""The client library against real stream servers and a real control socket."""

import asyncio
import os
import socket
import struct
from pathlib import Path

import msgpack
import msgspec
import numpy as np
import pytest
from served import Host, eeg_opening

from phantomd import client as client_module
from phantomd.client import Control, aconnect, connect
from phantomd.contracts import EegHeader, Flag, control_paths
from phantomd.errors import (
    BadParams,
    ControlError,
    NoDaemon,
    NotAllowed,
    TooManyClients,
    UnknownDevice,
    UnknownMethod,
    UsageError,
)
from phantomd.net.control import ControlServer
from phantomd.net.envelope import Envelope
from phantomd.net.rpc import Method, NoParams
from phantomd.net.stream import StreamServer, json_opening, msgpack_opening

HEADER = EegHeader(("C3", "C4"), 128.0, 1000, 10, bytes(range(16)))


@pytest.fixture
def host():
    with Host() as host:
        yield host


def frame(index: int, *values: float, flags: int = 0) -> bytes:
    return struct.pack("<QqII2f", index, index * 7_812_500, flags, 350, *values)


def put(server: StreamServer, data: bytes, n: int) -> None:
    """So many messages of one size."""
    size = len(data) // n
    for at in range(0, len(data), size):
        server.publish(data[at : at + size])


def eeg(host: Host) -> StreamServer:
    return host.start(
        StreamServer("eeg", "127.0.0.1", 0, greet=HEADER.encode, history=256, opening=eeg_opening)
    )


def messages(host: Host, name: str, **more) -> StreamServer:
    as_json = name in ("focus", "trit", "events")
    server = StreamServer(
        name,
        "127.0.0.1",
        0,
        greet=lambda: server.envelope.metadata(10.0, None, 1000, {"k": 1}),
        history=64,
        opening=json_opening if as_json else msgpack_opening,
        **more,
    )
    server.envelope = Envelope(name, "00" * 16, as_json)
    return host.start(server)


# -- streams ---------------------------------------------------------------------------------------


def test_frames_come_with_their_index_time_flags_age_and_values(host):
    server = eeg(host)
    with connect("eeg", port=server.port) as stream:
        host.call(server.publish, frame(10, 1.5, -2.5, flags=Flag.LATE | Flag.SIMULATED))
        first = next(stream)
    assert (first.index, first.t_ns, first.age_us, first.lost) == (10, 78_125_000, 350, 0)
    assert first.flags == Flag.LATE | Flag.SIMULATED
    assert first.values.dtype == np.float32 and first.values.tolist() == [1.5, -2.5]
    assert first.values.flags.writeable


def test_the_header_is_what_the_server_sent(host):
    with connect("eeg", port=eeg(host).port) as stream:
        assert stream.header == HEADER


def test_an_index_jump_is_told_by_the_frame_and_summed(host):
    server = eeg(host)
    with connect("eeg", port=server.port) as stream:
        host.call(put, server, frame(12, 0, 0) + frame(13, 0, 0) + frame(20, 0, 0), 3)
        assert [next(stream).lost for _ in range(3)] == [2, 0, 6]
        assert stream.lost == 8


def test_frames_larger_than_known_are_read_by_their_announced_size(host):
    header = bytearray(HEADER.encode())
    header[12:16] = (40).to_bytes(4, "little")
    server = StreamServer(
        "eeg", "127.0.0.1", 0, greet=lambda: bytes(header), history=64, opening=eeg_opening
    )
    host.start(server)
    with connect("eeg", port=server.port) as stream:
        host.call(put, server, frame(10, 1, 2) + bytes(8) + frame(11, 3, 4) + bytes(8), 2)
        assert [next(stream).values.tolist() for _ in range(2)] == [[1, 2], [3, 4]]


def test_an_iteration_ends_when_the_stream_does(host):
    server = eeg(host)
    with connect("eeg", port=server.port) as stream:
        host.call(server.publish, frame(10, 0, 0))
        host.wait(server.close())
        assert [one.index for one in stream] == [10]


@pytest.mark.parametrize("name", ["events", "features"])
def test_messages_come_as_maps(host, name):
    server = messages(host, name)
    with connect(name, port=server.port) as stream:
        host.call(server.publish, server.envelope.data(0, 5, 6, False, {"message": "é"}))
        message = next(stream)
    assert message["seq"] == 0 and message["data"] == {"message": "é"}
    assert stream.metadata["epoch"] == "00" * 16 and stream.metadata["data"] == {"k": 1}


def test_gaps_and_clock_steps_are_noted_rather_than_yielded(host):
    server = messages(host, "events")
    with connect("events", port=server.port) as stream:
        host.call(server.announce, server.envelope.gap(0, 4))
        host.call(server.announce, server.envelope.clock(77))
        host.call(server.publish, server.envelope.data(4, 5, 6, False, {}))
        assert next(stream)["seq"] == 4
        assert (stream.lost, stream.wall_offset_ns) == (4, 77)


def test_everything_is_yielded_on_request(host):
    server = messages(host, "events")
    with connect("events", port=server.port, everything=True) as stream:
        host.call(server.announce, server.envelope.gap(0, 4))
        assert [next(stream)["type"] for _ in range(2)] == ["metadata", "gap"]


def test_a_two_way_stream_can_be_spoken_to(host):
    heard = []
    server = messages(host, "markers", receive=lambda client, data: heard.append(data))
    with connect("markers", port=server.port) as stream:
        stream.send({"label": "x"})
        host.until(lambda: bool(heard))
    assert msgpack.unpackb(heard[0]) == {"label": "x"}


def test_a_refusal_that_ends_the_connection_is_raised(host):
    server = messages(host, "events", max_clients=0, refuse=lambda e: server.envelope.error(e))
    with pytest.raises(TooManyClients, match="0 clients"):
        connect("events", port=server.port)


def test_a_port_that_nobody_serves_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(NoDaemon, match=str(port)) as raised:
            connect("eeg", port=port)
    assert "phantomd" in raised.value.hint


def test_another_servers_port_is_told_apart(host):
    server = messages(host, "events")
    with pytest.raises(NoDaemon, match="not phantomd's eeg"):
        connect("eeg", port=server.port)


def test_a_silent_port_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(NoDaemon, match="says nothing"):
            connect("eeg", port=silent.getsockname()[1], timeout_s=0.05)


def test_an_unknown_stream_is_answered_with_the_known():
    with pytest.raises(UsageError) as raised:
        connect("egg")
    assert "eeg" in raised.value.hint


def test_a_wait_can_be_bounded(host):
    with connect("eeg", port=eeg(host).port) as stream:
        stream.timeout(0.01)
        with pytest.raises(TimeoutError):
            next(stream)


def test_the_async_twin_yields_the_same(host):
    server = eeg(host)
    host.until(lambda: True)

    async def first() -> object:
        stream = await aconnect("eeg", port=server.port)
        host.loop.call_soon_threadsafe(server.publish, frame(10, 1, 2))
        async for one in stream:
            stream.close()
            return one, stream.header
        return None

    one, header = asyncio.run(first())
    assert one.index == 10 and one.values.tolist() == [1, 2] and header == HEADER


def test_the_client_depends_on_the_contracts_alone():
    source = Path(client_module.__file__).read_text()
    for room in ("phantomd.net", "phantomd.engine", "phantomd.devices", "phantomd.config"):
        assert room not in source


# -- control ---------------------------------------------------------------------------------------


class SeekParams(msgspec.Struct, forbid_unknown_fields=True):
    packet: int


def unknown_device(params: NoParams) -> None:
    raise UnknownDevice("no device sim-9", hint="device.list has them")


METHODS = {
    "status": Method(NoParams, lambda p: {"ready": True}, ""),
    "session.seek": Method(SeekParams, lambda p: p.packet, ""),
    "device.open": Method(NoParams, unknown_device, ""),
}


@pytest.fixture
def control(host, tmp_path):
    server = host.start(ControlServer(tmp_path / "control.sock", METHODS))
    with Control(server.path, timeout_s=5) as control:
        yield control


def test_a_call_gives_the_result(control):
    assert control.call("status") == {"ready": True}
    assert control.call("session.seek", packet=5) == 5


def test_a_refused_call_raises_code_message_and_hint(control):
    with pytest.raises(UnknownMethod) as raised:
        control.call("statsu")
    assert raised.value.code == "unknown-method" and "status" in raised.value.hint
    with pytest.raises(BadParams):
        control.call("session.seek", packet="five")


def test_an_error_of_another_room_is_a_control_error_with_its_code(control):
    with pytest.raises(ControlError, match="sim-9") as raised:
        control.call("device.open")
    assert raised.value.code == "unknown-device"
    assert control.call("status") == {"ready": True}


def test_a_peer_that_is_not_allowed_is_told(host, tmp_path):
    server = ControlServer(tmp_path / "control.sock", METHODS, allow=lambda *who: False)
    host.start(server)
    with Control(server.path) as control, pytest.raises(NotAllowed):
        control.call("status")


def test_a_daemon_that_ends_is_no_daemon(host, tmp_path):
    server = host.start(ControlServer(tmp_path / "control.sock", METHODS))
    with Control(server.path) as control:
        assert control.call("status")
        host.wait(server.close())
        with pytest.raises(NoDaemon, match="closed"):
            control.call("status")


def test_a_daemon_that_does_not_answer_is_no_daemon(tmp_path):
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "control.sock"))
        hung.listen()
        with Control(tmp_path / "control.sock", timeout_s=0.05) as control:
            with pytest.raises(NoDaemon, match="does not answer"):
                control.call("status")


def test_a_missing_socket_is_named(tmp_path):
    with pytest.raises(NoDaemon, match="there is no control socket") as raised:
        Control(tmp_path / "control.sock")
    assert "PHANTOMD_CONTROL" in raised.value.hint


def test_a_socket_of_a_dead_daemon_is_named(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NoDaemon, match="left behind") as raised:
        Control(tmp_path / "control.sock")
    assert "start it again" in raised.value.hint


def test_a_socket_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(self, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", type("Refused", (socket.socket,), {"connect": refuse}))
    with pytest.raises(NoDaemon, match="permission denied") as raised:
        Control(tmp_path / "control.sock")
    assert "group" in raised.value.hint


@pytest.mark.parametrize(
    ("environ", "paths"),
    [
        ({}, ["/run/phantomd/control.sock"]),
        (
            {"XDG_RUNTIME_DIR": "/run/user/7"},
            ["/run/user/7/phantomd/control.sock", "/run/phantomd/control.sock"],
        ),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "PHANTOMD_CONTROL": "/x.sock"}, ["/x.sock"]),
    ],
)
def test_the_socket_is_where_the_wire_says(environ, paths):
    assert [os.fspath(path) for path in control_paths(environ)] == paths


def test_the_service_is_found_where_the_user_has_no_daemon(host, tmp_path, monkeypatch):
    server = host.start(ControlServer(tmp_path / "service.sock", METHODS))
    paths = (tmp_path / "none.sock", server.path)
    monkeypatch.setattr("phantomd.control.control_paths", lambda: paths)
    with Control() as control:
        assert control.path == server.path
