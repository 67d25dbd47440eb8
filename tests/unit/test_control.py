"""The control socket: MessagePack-RPC, who may, and what hostile clients can't do."""

import asyncio
import contextlib
import logging
import random
import socket
import time

import msgpack
import msgspec
import pytest
from control_peer import Peer
from patience import Pace

from phantomd.errors import (
    ControlError,
)
from phantomd.net.control import Limits
from phantomd.net.rpc import Method


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

    with Pace() as pace:
        worst_s = host.wait(worst_lag_s())
    assert worst_s < pace.stretch(0.1)  # 8000 requests at once would take longer
    for peer in peers:
        assert [peer.answer()[1] for _ in range(1000)] == list(range(1000))


def test_codes_of_control_errors_are_their_own():
    kinds = ControlError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
