"""Hypothesis against the control socket: whatever comes, the next client is served.

Short by default. A campaign of 100,000 examples a test (``PHANTOMD_FUZZ_EXAMPLES`` sets another
number): ``HYPOTHESIS_PROFILE=campaign pytest --timeout 0 tests/fuzz/test_control_bytes.py``.
"""

import contextlib
import os
import socket
import sys

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import WAIT_S, Host, read_all

from phantomd.errors import BadFrame, ControlError, TooBig
from phantomd.net.control import ControlServer, Limits
from phantomd.net.frames import Scanner
from phantomd.net.rpc import Method, NoParams, parse

CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"
EXAMPLES = int(os.environ.get("PHANTOMD_FUZZ_EXAMPLES", "100000" if CAMPAIGN else "100"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not CAMPAIGN,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)
requests = st.tuples(
    st.sampled_from([0, 0, 1, 2, -1, None]),
    st.integers(0, 2**32) | values,
    st.sampled_from(["echo", "wait", "Echo", ""]) | values,
    st.lists(st.dictionaries(st.sampled_from(["value", "x"]), values), max_size=2) | values,
).map(lambda fields: msgpack.packb(list(fields))) | st.tuples(
    st.just(2), st.text(max_size=5), st.just([])
).map(lambda fields: msgpack.packb(list(fields)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Requests, some bytes of them changed, cut out or doubled."""
    data = bytearray(b"".join(draw(st.lists(requests, min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 2))
        if what == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == 1:
            del data[at : at + draw(st.integers(0, 8))]
        else:
            data[at:at] = data[at : at + draw(st.integers(0, 8))]
    return bytes(data)


hostile = st.binary(max_size=200) | st.binary(max_size=60).map(b"\x94".__add__) | damaged()


class EchoParams(msgspec.Struct, forbid_unknown_fields=True):
    value: object = None


async def wait(params: NoParams) -> str:
    return "done"


METHODS = {
    "echo": Method(EchoParams, lambda params: params.value, "gives its value back"),
    "wait": Method(NoParams, wait, "answers later"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "control.sock"
    with Host() as host:
        yield host.start(ControlServer(path, METHODS, limits=Limits(silence_s=0.5)))


def ask(sock: socket.socket, value: int) -> list:
    sock.sendall(msgpack.packb([0, value, "echo", [{"value": value}]]))
    return msgpack.unpackb(sock.recv(4096))


@fuzzed
@given(data=hostile)
def test_any_bytes_are_answered_or_refused_and_the_next_client_is_served(server, data):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(server.path))
        with contextlib.suppress(BrokenPipeError):  # refused before it had said all
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        unpacker = msgpack.Unpacker(strict_map_key=False, timestamp=0)
        unpacker.feed(read_all(sock))
        for kind, request, error, _result in unpacker:
            assert kind == 1 and (request is None or isinstance(request, int))
            assert error is None or (error["code"] != "internal" and error["message"])
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(WAIT_S)
        other.connect(str(server.path))
        assert ask(other, 7) == [1, 7, None, 7]


@fuzzed
@given(value=values, more=st.binary(max_size=8), budget=st.integers(1, 50))
def test_the_scanner_agrees_with_msgpack_about_the_end(value, more, budget):
    data = msgpack.packb(value)
    scanner = Scanner(1 << 20, 100, 1 << 20)
    end = scanner.scan(bytearray(data + more), budget)
    while end is None:
        end = scanner.scan(bytearray(data + more), budget)
    assert end == len(data)


@fuzzed
@given(data=hostile)
def test_what_the_scanner_lets_through_is_a_request_or_a_bad_frame(data):
    scanner = Scanner(1 << 16, 16, 1 << 12)
    try:
        end = scanner.scan(bytearray(data), sys.maxsize)
        if end is None:
            assert scanner.hungry
            return
        assert 0 < end <= len(data)
        request, method, _ = parse(data[:end])
        assert isinstance(method, str) and (request is None or isinstance(request, int))
    except ControlError as error:
        assert isinstance(error, BadFrame | TooBig) and error.hint
