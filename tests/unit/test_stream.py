"""Stream servers with real sockets on loopback; event loops are uvloop's and asyncio's."""

import asyncio
import contextlib
import errno
import itertools
import json
import os
import socket
import struct
import threading
import time
from pathlib import Path

import msgpack
import pytest
from served import Host, connect, eeg_opening, read, read_all

from phantomd.contracts import EegHeader
from phantomd.errors import BadParams, ConfigError, PortInUse, PortNotAllowed
from phantomd.net.envelope import Envelope
from phantomd.net.stream import StreamServer, json_opening, msgpack_opening

HEADER = EegHeader(("C3", "C4"), 128.0, 0, 0, bytes(16)).encode()
FRAME_BYTES = 32
EPOCH = "00" * 16


@pytest.fixture(params=["uvloop", "asyncio"])
def host(request):
    with Host(request.param) as host:
        yield host


def frames(first: int, count: int) -> bytes:
    return b"".join(struct.pack("<Q24x", index) for index in range(first, first + count))


def indices(data: bytes) -> list[int]:
    assert len(data) % FRAME_BYTES == 0, "a frame is broken"
    return [struct.unpack_from("<Q", data, at)[0] for at in range(0, len(data), FRAME_BYTES)]


def put(server: StreamServer, data: bytes) -> None:
    """All frames in ``data``, in one callback."""
    for at in range(0, len(data), FRAME_BYTES):
        server.publish(data[at : at + FRAME_BYTES])


def eeg(host: Host, history: int = 256, **more) -> StreamServer:
    server = StreamServer(
        "eeg", "127.0.0.1", 0, greet=lambda: HEADER, history=history, opening=eeg_opening, **more
    )
    return host.start(server)


def messages(host: Host, as_json: bool, history: int = 64, **more) -> StreamServer:
    envelope = Envelope("events", EPOCH, as_json)
    server = StreamServer(
        "events",
        "127.0.0.1",
        0,
        greet=lambda: envelope.metadata(None, None, 0, {}),
        history=history,
        opening=json_opening if as_json else msgpack_opening,
        gap=envelope.gap,
        refuse=envelope.error,
        **more,
    )
    server.envelope = envelope
    return host.start(server)


def say(server: StreamServer, **data) -> None:
    server.publish(server.envelope.data(server.next_seq, None, None, False, data))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def subscribe(host: Host, server: StreamServer, count: int = 1, **how) -> list[socket.socket]:
    """Clients that have their greeting."""
    socks = [connect(server.port, **how) for _ in range(count)]
    for sock in socks:
        if server.name == "eeg":
            assert read(sock, len(HEADER)) == HEADER
        else:
            assert b"metadata" in sock.recv(4096)
    return socks


def fill(host: Host, server: StreamServer, until, at_once: int = 64) -> int:
    """Publish frames until something is so; how many that took."""
    published = server.next_seq
    while not host.call(until):
        assert published < 1_000_000
        host.call(put, server, frames(published, at_once))
        published += at_once
    return published


# -- out -------------------------------------------------------------------------------------------


def test_a_client_gets_the_greeting_and_then_every_message(host):
    server = eeg(host)
    [sock] = subscribe(host, server)
    host.call(put, server, frames(0, 3))
    host.call(server.publish, frames(3, 1))
    assert indices(read(sock, 4 * FRAME_BYTES)) == [0, 1, 2, 3]


def test_a_client_that_comes_later_begins_with_the_next_message(host):
    server = eeg(host)
    host.call(put, server, frames(0, 3))
    [sock] = subscribe(host, server)
    host.call(server.publish, frames(3, 1))
    assert indices(read(sock, FRAME_BYTES)) == [3]


def test_what_one_callback_publishes_is_one_send(host, monkeypatch):
    server = eeg(host)
    [sock] = subscribe(host, server)
    sent = []
    [client] = host.call(lambda: server.clients)

    class Counting:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def send(self, data):
            sent.append(len(data))
            return self.real.send(data)

    client.sock = Counting(client.sock)

    def burst():
        server.publish(frames(0, 1))
        put(server, frames(1, 2))

    host.call(burst)
    read(sock, 3 * FRAME_BYTES)
    assert sent == [3 * FRAME_BYTES]


def test_more_than_the_history_in_one_callback_loses_nothing_for_a_reader(host):
    server = eeg(host, history=64)
    [sock] = subscribe(host, server)
    host.call(put, server, frames(0, 500))
    assert indices(read(sock, 500 * FRAME_BYTES)) == list(range(500))
    assert host.call(server.status).dropped == 0


def test_a_hundred_subscribers_get_the_same(host):
    server = eeg(host)
    socks = subscribe(host, server, 100)
    for first in range(0, 128, 4):
        host.call(put, server, frames(first, 4))
    assert {read(sock, 128 * FRAME_BYTES) for sock in socks} == {frames(0, 128)}
    assert host.call(server.status).clients == 100
    for sock in socks:
        sock.close()


# -- slow clients ----------------------------------------------------------------------------------


def test_a_slow_client_loses_its_own_oldest_frames_and_framing_holds(host):
    server = eeg(host, history=64)
    [slow] = subscribe(host, server, rcvbuf=4096)
    published = fill(host, server, lambda: server.status().dropped > 100)
    dropped = host.call(server.status).dropped
    seen = indices(read(slow, (published - dropped) * FRAME_BYTES))
    assert seen[0] == 0 and seen[-1] == published - 1
    assert len(set(seen)) == len(seen) and seen == sorted(seen)
    jumps = sum(b - a - 1 for a, b in itertools.pairwise(seen))
    assert jumps == dropped


def test_readers_miss_nothing_beside_clients_that_do_not_read(host):
    server = eeg(host)
    slow = subscribe(host, server, 10, rcvbuf=4096)
    readers = subscribe(host, server, 20)
    got = {sock: b"" for sock in readers}

    def everybody_behind():
        return sum(client.dropped > 0 for client in server.clients) == len(slow)

    published = 0
    while not host.call(everybody_behind):
        host.call(put, server, frames(published, 64))
        published += 64
        for sock in readers:
            got[sock] += read(sock, 64 * FRAME_BYTES)
    assert set(got.values()) == {frames(0, published)}
    for sock in (*slow, *readers):
        sock.close()


def test_a_clients_queue_is_the_history_and_no_more(host):
    server = eeg(host, history=64)
    [slow] = subscribe(host, server, rcvbuf=4096)
    published = fill(host, server, lambda: server.status().dropped > 0)
    in_kernel = published - 64 - host.call(server.status).dropped
    host.call(put, server, frames(published, 1000))
    assert host.call(server.status).dropped == 1000 + published - 64 - in_kernel
    slow.close()


def test_a_gap_message_stands_in_place_of_what_was_lost(host):
    server = messages(host, as_json=True)
    [slow] = subscribe(host, server, rcvbuf=4096)
    while host.call(server.status).dropped < 200:
        host.call(say, server, message="x" * 200)
    last = host.call(lambda: server.next_seq) - 1
    lines, data = [], b""
    while not lines or lines[-1].get("seq") != last:
        *whole, data = (data + slow.recv(1 << 16)).split(b"\n")
        lines += [json.loads(line) for line in whole]
    expected = 0
    for line in lines:
        if line["type"] == "gap":
            assert line["first_seq"] == expected and line["reason"] == "slow-client"
            expected += line["count"]
        else:
            assert line["seq"] == expected
            expected += 1
    gaps = [line["count"] for line in lines if line["type"] == "gap"]
    assert sum(gaps) == host.call(server.status).dropped and gaps


def test_a_slow_client_still_learns_of_the_newest_announcement_that_it_lost(host):
    server = messages(host, as_json=False)
    [slow] = subscribe(host, server, rcvbuf=4096)
    while host.call(server.status).dropped == 0:
        host.call(say, server, message="x" * 1000)
    for offset in (1, 2):
        host.call(server.announce, server.envelope.clock(offset))
    for _ in range(64):
        host.call(say, server, message="y")
    unpacker = msgpack.Unpacker()
    kinds = []
    while not kinds or kinds[-1].get("data", {}).get("message") != "y":
        unpacker.feed(slow.recv(1 << 16))
        kinds += unpacker
    at = next(i for i, message in enumerate(kinds) if message["type"] == "gap")
    assert kinds[at + 1] == {"type": "clock", "wall_offset_ns": 2}


# -- clients that go -------------------------------------------------------------------------------


def test_a_reset_removes_a_client(host):
    server = eeg(host)
    [sock, other] = subscribe(host, server, 2)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    host.until(lambda: server.status().clients == 1)
    host.call(server.publish, frames(0, 1))
    assert indices(read(other, FRAME_BYTES)) == [0]


def test_a_client_that_closed_is_gone_once_something_is_sent_to_it(host):
    server = eeg(host)
    [sock, other] = subscribe(host, server, 2)
    sock.close()
    published = fill(host, server, lambda: server.status().clients == 1, at_once=1)
    assert indices(read(other, published * FRAME_BYTES)) == list(range(published))


def test_a_half_closed_client_goes_on_getting_its_data(host):
    server = eeg(host)
    [sock] = subscribe(host, server)
    sock.shutdown(socket.SHUT_WR)
    host.until(lambda: server.clients[0].half_closed)
    host.call(put, server, frames(0, 2))
    assert indices(read(sock, 2 * FRAME_BYTES)) == [0, 1]


def test_a_half_closed_client_that_dies_on_a_silent_stream_is_not_counted(host):
    server = eeg(host)
    [sock] = subscribe(host, server)
    sock.shutdown(socket.SHUT_WR)
    host.until(lambda: server.clients[0].half_closed)
    assert host.call(server.status).clients == 1
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    host.until(lambda: server.status().clients == 0)


def test_a_client_beyond_the_limit_is_told_so(host):
    server = messages(host, as_json=True, max_clients=1)
    [other] = subscribe(host, server)
    lines = read_all(connect(server.port)).splitlines()
    assert json.loads(lines[-1])["code"] == "too-many-clients"
    host.call(say, server, message="on")
    assert b"on" in other.recv(4096)


def test_a_half_closed_client_makes_room_for_a_new_one(host):
    server = eeg(host, max_clients=1)
    [old] = subscribe(host, server)
    old.shutdown(socket.SHUT_WR)
    host.until(lambda: server.clients[0].half_closed)
    [new] = subscribe(host, server)
    host.call(server.publish, frames(0, 1))
    assert indices(read(new, FRAME_BYTES)) == [0]
    assert read_all(old) == b""


# -- what clients send -----------------------------------------------------------------------------

HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("request_line", [HTTP, b"POST / HTTP/1.1\r\n\r\n", b"PHANTOM2"])
def test_an_http_request_on_the_frames_closes_that_connection_alone(host, request_line):
    server = eeg(host)
    [other] = subscribe(host, server)
    sock = connect(server.port)
    sock.sendall(request_line)
    assert read_all(sock) == HEADER
    host.call(server.publish, frames(0, 1))
    assert indices(read(other, FRAME_BYTES)) == [0]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "msgpack"])
def test_an_http_request_on_a_message_stream_is_refused_with_a_hint(host, as_json):
    server = messages(host, as_json)
    [other] = subscribe(host, server)
    sock = connect(server.port)
    sock.sendall(HTTP)
    data = read_all(sock)
    if as_json:
        refusal = json.loads(data.splitlines()[-1])
    else:
        unpacker = msgpack.Unpacker()
        unpacker.feed(data)
        refusal = list(unpacker)[-1]
    assert refusal["type"] == "error" and refusal["code"] == "bad-frame"
    assert refusal["closing"] is True and "HTTP" in refusal["hint"]
    host.call(say, server, message="on")
    assert b"on" in other.recv(4096)


def test_what_could_begin_a_message_is_thrown_away_and_changes_nothing(host):
    server = eeg(host)
    [sock] = subscribe(host, server)
    for part in (b"PHAN", b"TOM1", os.urandom(100_000)):
        sock.sendall(part)
    host.call(server.publish, frames(0, 1))
    assert indices(read(sock, FRAME_BYTES)) == [0]


@pytest.mark.parametrize(
    ("opening", "start", "fits"),
    [
        (eeg_opening, b"P", None),
        (eeg_opening, b"PO", False),
        (eeg_opening, b"PHANTOM1more", True),
        (json_opening, b" \r\n", None),
        (json_opening, b"\n{", True),
        (json_opening, b"[", False),
        (json_opening, b"\xff", False),
        (msgpack_opening, b"\x80", True),
        (msgpack_opening, b"\xdf", True),
        (msgpack_opening, b"\x90", False),
        (msgpack_opening, b"G", False),
    ],
)
def test_first_bytes_are_judged_by_what_can_begin_a_message(opening, start, fits):
    assert opening(start) is fits


def test_what_a_client_of_a_two_way_stream_says_is_received_and_answered(host):
    heard = []

    def receive(client, data):
        heard.append(data)
        server.reply(client, server.envelope.encode({"type": "session", "state": "running"}))

    server = messages(host, as_json=False, receive=receive)
    [sock] = subscribe(host, server)
    sock.sendall(b"\x81\xa1a\x01")
    assert msgpack.unpackb(sock.recv(4096)) == {"type": "session", "state": "running"}
    assert heard == [b"\x81\xa1a\x01"]


def test_a_wrong_answer_is_refused_and_the_connection_stays(host):
    def receive(client, data):
        raise BadParams("vx is NaN", hint="send numbers")

    server = messages(host, as_json=False, receive=receive)
    [sock] = subscribe(host, server)
    sock.sendall(b"\x80")
    refusal = msgpack.unpackb(sock.recv(4096))
    assert refusal["code"] == "bad-params" and refusal["closing"] is False
    host.call(say, server, message="on")
    assert b"on" in sock.recv(4096)


# -- starting, closing -----------------------------------------------------------------


def test_a_port_in_use_is_named_with_how_to_find_who_has_it(host):
    taken = eeg(host)
    server = StreamServer(
        "eeg", "127.0.0.1", taken.port, greet=bytes, history=64, opening=eeg_opening
    )
    with pytest.raises(PortInUse, match=str(taken.port)) as raised:
        host.wait(server.start())
    assert "ss -ltnp" in raised.value.hint and str(taken.port) in raised.value.hint


def test_a_port_that_the_system_refuses_is_named(host, monkeypatch):
    def refuse(self, address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", type("Refused", (socket.socket,), {"bind": refuse}))
    server = StreamServer("eeg", "127.0.0.1", 80, greet=bytes, history=64, opening=eeg_opening)
    with pytest.raises(PortNotAllowed, match="port 80") as raised:
        host.wait(server.start())
    assert "1024" in raised.value.hint


def test_a_host_that_is_not_this_machine_is_named(host):
    server = StreamServer("eeg", "192.0.2.1", 0, greet=bytes, history=64, opening=eeg_opening)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        host.wait(server.start())


def test_closing_gives_readers_what_is_queued(host):
    server = eeg(host)
    [slow] = subscribe(host, server, rcvbuf=4096)
    published = fill(host, server, lambda: bool(server.clients[0].blocked), at_once=8)
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(slow)))
    reader.start()
    host.wait(server.close(5.0))
    reader.join(5)
    assert indices(got[0]) == list(range(published))


def test_closing_does_not_wait_for_those_who_do_not_read(host):
    server = eeg(host)
    [sock] = subscribe(host, server, rcvbuf=4096)
    fill(host, server, lambda: server.status().dropped > 0)
    began_s = time.monotonic()
    host.wait(server.close(0.05))
    assert time.monotonic() - began_s < 1.0
    sock.close()


def test_out_of_descriptors_the_listener_pauses_and_then_goes_on(host, monkeypatch):
    server = eeg(host)
    calls = []
    listener = server._listener
    real = listener._sock

    class Exhausted:
        def __getattr__(self, name):
            return getattr(real, name)

        def accept(self):
            calls.append(host.loop.time())
            if len(calls) < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

    host.call(setattr, listener, "_sock", Exhausted())
    [sock] = subscribe(host, server)
    assert calls[1] - calls[0] > 0.2 and calls[2] - calls[1] > 0.2
    sock.close()


def test_vanishing_and_returning_clients_leave_no_descriptors_behind(host):
    server = eeg(host)
    before = descriptors()
    for _ in range(50):
        for sock in subscribe(host, server, 2):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    host.until(lambda: server.status().clients == 0)
    assert descriptors() <= before + 1


def test_a_stream_that_was_never_started_can_be_closed():
    server = StreamServer("eeg", "127.0.0.1", 0, greet=bytes, history=64, opening=eeg_opening)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(server.close())
