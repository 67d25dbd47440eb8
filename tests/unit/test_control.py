"""The control socket: MessagePack-RPC, who may, and what hostile clients can't do."""

import asyncio
import contextlib
import grp
import logging
import math
import os
import random
import socket
import stat
import struct
import sys
import time
from pathlib import Path

import msgpack
import msgspec
import pytest
from served import WAIT_S, Host, client, read_all

from phantomd.errors import (
    ConfigError,
    ControlError,
    PortInUse,
    StateUnusable,
    TooBig,
    UnknownDevice,
)
from phantomd.net.control import ControlServer, Limits
from phantomd.net.frames import Scanner
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


@pytest.fixture(params=["uvloop", "asyncio"])
def host(request):
    with Host(request.param) as host:
        yield host


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def serve(host, calls, tmp_path):
    def start(limits: Limits | None = None, **more) -> ControlServer:
        path = tmp_path / "phantomd" / "control.sock"
        return host.start(ControlServer(path, calls.table(), limits=limits, **more))

    return start


@pytest.fixture
def others(serve):
    """Checks, at the end, that another client is served as if nothing were."""
    server = serve(Limits(silence_s=0.2))
    other = Peer(server.path)
    yield server
    assert other.ask("echo", {"value": 5}) == [1, 1, None, {"value": 5}]
    assert Peer(server.path).ask("echo", {"value": 6}) == [1, 1, None, {"value": 6}]


def refusal_of(peer: Peer, data: bytes) -> dict:
    """What bytes are refused with; the connection then ends."""
    with contextlib.suppress(BrokenPipeError):  # refused before the last byte
        peer.sock.sendall(data)
    kind, request, error, result = peer.answer()
    assert (kind, request, result) == (1, None, None) and error["hint"]
    assert peer.ended()
    return error


# -- requests --------------------------------------------------------------------------------------


def test_a_request_is_answered_with_its_id(serve):
    peer = Peer(serve().path)
    assert peer.ask("echo", {"value": 3}, request=77) == [1, 77, None, {"value": 3}]


def test_requests_in_one_packet_are_answered_in_order(serve):
    peer = Peer(serve().path)
    peer.send(*([0, i, "echo", [{"value": i}]] for i in range(50)))
    assert [peer.answer()[1] for _ in range(50)] == list(range(50))


def test_a_request_may_come_byte_by_byte(serve):
    peer = Peer(serve().path)
    for byte in msgpack.packb([0, 1, "echo", [{"value": 3}]]):
        peer.sock.sendall(bytes([byte]))
    assert peer.answer()[3] == {"value": 3}


def test_a_notification_is_done_and_not_answered(serve, calls):
    peer = Peer(serve().path)
    peer.send([2, "note", [{"value": 9}]])
    assert peer.ask("echo", {"value": 1})[3] == {"value": 1}
    assert calls.noted == [9]


def test_a_slow_method_holds_up_nobody(serve, calls, host):
    server = serve()
    peer = Peer(server.path)
    peer.send([0, 1, "hold", []], [0, 2, "echo", [{"value": 2}]])
    assert peer.answer()[1] == 2
    host.call(calls.release)
    assert peer.answer() == [1, 1, None, "released"]


def test_an_error_of_the_daemon_keeps_its_code_and_hint(serve):
    error = Peer(serve().path).ask("device.open")[2]
    assert error == {
        "code": "unknown-device",
        "message": "no device sim-9",
        "hint": "device.list has them",
    }


def test_a_mistake_in_a_handler_is_logged_and_answered_and_the_daemon_goes_on(others, caplog):
    with caplog.at_level(logging.ERROR, "phantomd.net"):
        error = Peer(others.path).ask("break")[2]
    assert error["code"] == "internal" and "log" in error["hint"]
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_carries_nil_instead_of_nan(serve):
    assert Peer(serve().path).ask("nan")[3] == {"plv": None}


def test_an_answer_over_the_limit_is_an_error_and_the_connection_stays(serve):
    peer = Peer(serve().path)
    assert peer.ask("big", {"value": 1 << 20})[2]["code"] == "too-big"
    assert peer.ask("echo", {"value": 1})[2] is None


def test_a_client_that_closes_its_sending_half_gets_its_answers(serve, calls, host):
    peer = Peer(serve().path)
    peer.send([0, 1, "hold", []])
    peer.sock.shutdown(socket.SHUT_WR)
    host.until(lambda: calls.begun == 1)
    host.call(calls.release)
    assert peer.answer()[3] == "released" and peer.ended()


# -- wrong requests --------------------------------------------------------------------------------


def test_an_unknown_method_is_answered_with_the_nearest(others):
    peer = Peer(others.path)
    error = peer.ask("ecko", {"value": 1})[2]
    assert error["code"] == "unknown-method" and "echo" in error["hint"]
    assert peer.ask("echo", {"value": 1})[2] is None


def test_wrong_params_are_answered_with_path_and_keys(others):
    error = Peer(others.path).ask("echo", {"value": "three"})[2]
    assert error["code"] == "bad-params"
    assert "$.value" in error["message"] and "value, label" in error["hint"]


def test_extra_params_are_refused_with_the_valid_keys(others):
    error = Peer(others.path).ask("echo", {"value": 1, "lable": "x"})[2]
    assert error["code"] == "bad-params"
    assert "lable" in error["message"] and "value, label" in error["hint"]


@pytest.mark.parametrize("params", [[1], [{"value": 1}, {}], [None]])
def test_params_that_are_not_one_map_are_refused(serve, params):
    assert Peer(serve().path).ask("echo", *params)[2]["code"] == "bad-params"


def test_a_method_must_forbid_unknown_fields():
    class Loose(msgspec.Struct):
        value: int

    with pytest.raises(TypeError, match="Loose"):
        Method(Loose, lambda p: None, "")


# -- hostile bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc1",
        b"\x94\x00\xc1",
        msgpack.packb({"method": "echo"}),
        msgpack.packb([0, 1, "echo"]),
        msgpack.packb([1, 1, None, None]),
        msgpack.packb([False, 1, "echo", []]),
        msgpack.packb([0, True, "echo", []]),
        msgpack.packb([0, 1, b"echo", []]),
        msgpack.packb([0, 1, "echo", [{1: 2}]]),
        b"\x94\x00\x01\xa2\xff\xfe\x90",
        b"\x94\x00\x01\xa4echo\x91\x81\xa1a\xc7\x03\xff123",
    ],
)
def test_bytes_that_are_no_request_end_that_connection_alone(others, data):
    assert refusal_of(Peer(others.path), data)["code"] == "bad-frame"


@pytest.mark.parametrize("head", [b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf"])
def test_a_length_of_2_gib_is_refused_at_once(others, head):
    data = b"\x94\x00\x01\xa4echo\x91" + head + b"\x80\0\0\0" + b"\x01" * 8
    assert refusal_of(Peer(others.path), data)["code"] == "too-big"


@pytest.mark.parametrize("level", [b"\x91", b"\xdd\x00\x00\x00\x01", b"\x81\xa1k"])
def test_a_depth_bomb_of_100000_levels_is_refused(others, level):
    bomb = b"\x94\x00\x01\xa4echo\x91" + level * 100_000 + b"\xc0"
    assert refusal_of(Peer(others.path), bomb)["code"] == "too-big"


def test_sixteen_levels_are_taken_and_seventeen_are_not(serve):
    def levels(count: int) -> object:
        return [levels(count - 1)] if count else 1

    server = serve()
    # The message, its params and their map are the first three.
    assert Peer(server.path).ask("any", {"value": levels(13)})[2] is None
    data = msgpack.packb([0, 1, "any", [{"value": levels(14)}]])
    assert refusal_of(Peer(server.path), data)["code"] == "too-big"


def test_a_message_of_1_mib_is_taken_and_more_is_not(serve):
    server = serve()
    around = len(msgpack.packb([0, 1, "any", [{"value": "x" * 70_000}]])) - 70_000
    peer = Peer(server.path)
    peer.send([0, 1, "any", [{"value": "x" * ((1 << 20) - around)}]])
    assert len(peer.answer()[3]) == (1 << 20) - around
    data = msgpack.packb([0, 1, "any", [{"value": "x" * ((1 << 20) - around + 1)}]])
    assert refusal_of(Peer(server.path), data)["code"] == "too-big"


def test_a_million_values_in_a_mebibyte_are_refused(others):
    data = b"\x94\x00\x01\xa3any\x91\x81\xa5value\xdd\x00\x0f\x00\x00" + b"\xc0" * 0xF0000
    assert refusal_of(Peer(others.path), data)["code"] == "too-big"


def test_half_a_message_and_silence_end_the_connection(others):
    error = refusal_of(Peer(others.path), b"\x94\x00\x01\xa4ec")
    assert error["code"] == "bad-frame" and "0.2 s" in error["message"]


def test_half_a_message_and_the_end_is_refused(others):
    peer = Peer(others.path)
    peer.sock.sendall(b"\x94\x00")
    peer.sock.shutdown(socket.SHUT_WR)
    assert peer.answer()[2]["code"] == "bad-frame" and peer.ended()


def test_the_time_for_half_a_message_begins_anew_with_each_message(serve, host):
    server = serve(Limits(silence_s=0.2, rate_per_s=1e6))
    peer = Peer(server.path)
    request = msgpack.packb([0, 1, "echo", [{"value": 1}]])
    until_s = time.monotonic() + 0.5
    peer.sock.sendall(request[:5])
    while time.monotonic() < until_s:
        peer.sock.sendall(request[5:] + request[:5])
        assert peer.answer()[2] is None


def test_random_bytes_leave_the_daemon_serving(others):
    for seed in range(50):
        peer = Peer(others.path)
        noise = bytes([0x94]) + random.Random(seed).randbytes(4000)
        with contextlib.suppress(OSError):  # already refused
            peer.sock.sendall(noise)
            peer.sock.shutdown(socket.SHUT_WR)
        assert peer.answer()[2]["code"] in ("bad-frame", "too-big")


# -- too much --------------------------------------------------------------------------------------


def test_too_many_requests_are_refused_and_the_connection_stays(serve):
    server = serve(Limits(rate_per_s=50, burst=20))
    peer, other = Peer(server.path), Peer(server.path)
    peer.send(*([0, i, "echo", [{"value": i}]] for i in range(40)))
    errors = [peer.answer()[2] for _ in range(40)]
    refused = [error for error in errors if error]
    assert errors[:20] == [None] * 20 and refused
    assert {error["code"] for error in refused} == {"rate-limited"}
    assert other.ask("echo", {"value": 5})[2] is None
    while peer.ask("echo", {"value": 1})[2]:
        pass  # until a token has come back


def test_more_requests_under_way_than_allowed_are_refused(serve, calls, host):
    server = serve(Limits(in_flight=4))
    peer = Peer(server.path)
    peer.send(*([0, i, "hold", []] for i in range(5)))
    kind, request, error, _ = peer.answer()
    assert (kind, request, error["code"]) == (1, 4, "rate-limited")
    assert "under way" in error["message"]
    host.call(calls.release)
    assert sorted(peer.answer()[1] for _ in range(4)) == [0, 1, 2, 3]


def test_a_connection_too_many_is_told_so(serve):
    server = serve(Limits(connections=2))
    peers = [Peer(server.path) for _ in range(2)]
    for peer in peers:
        peer.ask("echo", {"value": 1})
    assert Peer(server.path).answer()[2]["code"] == "too-many-clients"
    peers[0].sock.close()


def test_a_client_that_does_not_read_is_cut_off_and_others_are_served(others, host):
    peer = Peer(others.path)
    host.until(lambda: others.n_connections == 2)
    requests = [[0, i, "big", [{"value": 60_000}]] for i in range(100)]
    with contextlib.suppress(BrokenPipeError):  # cut off before it had said all
        peer.send(*requests)
    host.until(lambda: others.n_connections == 1)


def test_a_slow_reader_gets_every_long_answer(serve):
    peer = Peer(serve().path)
    peer.send(*([0, i, "big", [{"value": 500_000}]] for i in range(10)))
    assert [len(peer.answer()[3]) for _ in range(10)] == [500_000] * 10


def test_hammering_clients_delay_the_loop_by_a_few_turns_at_most(serve, host):
    server = serve(Limits(rate_per_s=1e9, burst=10**9))
    peers = [Peer(server.path) for _ in range(8)]
    for peer in peers:
        peer.send(*([0, i, "echo", [{"value": i}]] for i in range(1000)))

    async def worst_lag_s() -> float:
        worst = 0.0
        for _ in range(20):
            before_s = time.monotonic()
            await asyncio.sleep(0)
            worst = max(worst, time.monotonic() - before_s)
        return worst

    assert host.wait(worst_lag_s()) < 0.1  # 8000 requests at once would take longer
    for peer in peers:
        assert [peer.answer()[1] for _ in range(1000)] == list(range(1000))


# -- who may ---------------------------------------------------------------------------------------


def as_nobody(path: Path, groups: list[int]) -> tuple[int, list]:
    """Exit status and answer of a child that asks as uid nobody."""
    theirs, ours = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(65534)
            ours.sendall(msgpack.packb(Peer(path).ask("echo", {"value": 1})))
            status = 0
        finally:
            os._exit(status)
    ours.close()
    with theirs:
        theirs.settimeout(WAIT_S)
        data = read_all(theirs)
    _, status = os.waitpid(child, 0)
    return status, msgpack.unpackb(data) if data else []


def reachable(path: Path) -> None:
    """Let everybody get as far as the socket, so that the daemon itself must refuse."""
    path.chmod(0o666)
    for directory in (path.parent, *path.parent.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="must be root to become another user")


@pytest.mark.root
@needs_root
def test_a_peer_of_another_user_is_not_allowed(others):
    reachable(others.path)
    status, answer = as_nobody(others.path, [])
    assert status == 0 and answer[2]["code"] == "not-allowed"
    assert "root" in answer[2]["hint"]


@pytest.mark.root
@needs_root
def test_a_member_of_the_group_is_allowed(serve):
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, 65534))
    server = serve(allow=group.gr_name)
    reachable(server.path)
    assert server.path.stat().st_gid == group.gr_gid
    assert as_nobody(server.path, [group.gr_gid])[1][3] == {"value": 1}
    assert as_nobody(server.path, [])[1][2]["code"] == "not-allowed"


def test_a_rule_decides_by_user_group_and_process(serve):
    asked = []

    def rule(uid: int, gid: int, pid: int) -> bool:
        asked.append((uid, gid, pid))
        return False

    error = Peer(serve(allow=rule).path).answer()[2]
    assert error["code"] == "not-allowed"
    assert asked == [(os.getuid(), os.getgid(), os.getpid())]


def test_a_group_that_does_not_exist_is_named(serve):
    with pytest.raises(ConfigError, match="no-such-group"):
        serve(allow="no-such-group")


# -- the socket file -------------------------------------------------------------------------------


def test_the_socket_is_for_the_user_and_the_group_alone(serve):
    path = serve().path
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_socket_of_a_dead_daemon_is_replaced(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = host.start(ControlServer(path, calls.table()))
    assert Peer(server.path).ask("echo", {"value": 1})[2] is None


def test_the_socket_of_a_living_daemon_is_left_to_it(serve, host, calls):
    server = serve()
    with pytest.raises(PortInUse, match="another daemon") as raised:
        host.wait(ControlServer(server.path, calls.table()).start())
    assert "ss -lxp" in raised.value.hint
    assert Peer(server.path).ask("echo", {"value": 1})[2] is None


def test_two_daemons_that_start_together_are_told_apart_by_the_lock(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    holding, go = socket.socketpair()
    child = os.fork()
    if child == 0:
        import fcntl

        with open(f"{path}.lock", "w") as lock:  # noqa: PTH123
            fcntl.lockf(lock, fcntl.LOCK_EX)
            holding.sendall(b"!")
            holding.recv(1)
        os._exit(0)
    with holding, go:
        go.recv(1)
        with pytest.raises(PortInUse):
            host.wait(ControlServer(path, calls.table()).start())
        go.sendall(b"!")
        os.waitpid(child, 0)


def test_a_file_that_is_no_socket_is_not_touched(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(StateUnusable, match="no socket"):
        host.wait(ControlServer(path, calls.table()).start())
    assert path.read_text() == "precious"


def test_a_path_that_can_not_be_made_is_named(host, calls, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match=r"control\.sock") as raised:
        host.wait(ControlServer(tmp_path / "file" / "control.sock", calls.table()).start())
    assert "--control" in raised.value.hint


def test_a_path_too_long_for_a_socket_is_named(host, calls, tmp_path):
    with pytest.raises(StateUnusable):
        host.wait(ControlServer(tmp_path / ("x" * 120), calls.table()).start())


def test_closing_removes_the_socket_and_gives_readers_their_answers(host, calls, tmp_path):
    server = ControlServer(tmp_path / "control.sock", calls.table())
    host.wait(server.start())
    peer = Peer(server.path)
    assert peer.ask("echo", {"value": 1})[2] is None
    host.wait(server.close())
    assert peer.ended() and not server.path.exists()


def test_closing_cancels_what_is_under_way(host, calls, tmp_path):
    server = ControlServer(tmp_path / "control.sock", calls.table())
    host.wait(server.start())
    peer = Peer(server.path)
    peer.send([0, 1, "hold", []])
    host.until(lambda: calls.begun == 1)
    host.wait(server.close())
    assert peer.ended()


# -- the scanner -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -33,
        200,
        70_000,
        2**40,
        -(2**40),
        1.5,
        None,
        True,
        "",
        "x" * 40,
        "x" * 300,
        "x" * 70_000,
        b"x" * 300,
        [],
        [1] * 20,
        [1] * 70_000,
        {},
        {str(i): [i, {"a": b"x"}] for i in range(40)},
        msgpack.ExtType(5, b"abc"),
        *(msgpack.ExtType(5, b"x" * (1 << n)) for n in range(5)),
        msgpack.ExtType(5, b"x" * 300),
    ],
)
def test_the_scanner_finds_the_end_that_msgpack_wrote(value):
    data = msgpack.packb(value)
    assert Scanner(1 << 20, 16, 1 << 20).scan(bytearray(data + b"\xc1"), sys.maxsize) == len(data)


def test_the_scanner_goes_on_where_bytes_or_budget_ended():
    data = msgpack.packb({"a": [1, "two" * 100, {"b": 2.5}], "c": b"x" * 300})
    scanner, buffer, end = Scanner(1 << 20, 16, 1 << 20), bytearray(), None
    for byte in data:
        assert end is None
        buffer.append(byte)
        end = scanner.scan(buffer, 1)
        while end is None and not scanner.hungry:
            end = scanner.scan(buffer, 1)
    assert end == len(data)


def test_announced_arrays_allocate_nothing():
    nested = bytearray(struct.pack(">BI", 0xDD, 0x000FFFF0) * 4)
    with pytest.raises(TooBig):
        Scanner(1 << 20, 16, 1 << 20).scan(nested, sys.maxsize)


def test_codes_of_control_errors_are_their_own():
    kinds = ControlError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
