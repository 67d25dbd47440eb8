"""Markers in and out: from clients' bytes, from control, to everybody."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Host, connect, read_messages

from phantomd.contracts import Marker
from phantomd.errors import BadMarker, PhantomError, RateLimited
from phantomd.net.history import Subscriber
from phantomd.net.markers import BURST, Markers, marker_stream
from phantomd.net.messages import Messages, _Inbox

EPOCH = "0123456789abcdef" * 2
NOW_NS = 5_000_000_000


class Taken:
    """A Markers with somebody at each of its ends."""

    def __init__(self) -> None:
        self.published: list[Marker] = []
        self.kept: list[Marker] = []
        self.panics: list[str] = []
        self.client = Subscriber.__new__(Subscriber)
        self.markers = Markers(
            self.published.append, self.panics.append, self.kept.append, lambda: NOW_NS
        )

    def say(self, **message: object) -> None:
        self.markers.receive(self.client, message)


def test_a_marker_goes_out_once_and_into_the_journal():
    taken = Taken()
    heard: list[Marker] = []
    taken.markers.listen(heard.append)
    taken.say(label="TRIAL_START", payload={"trial": 3}, t_ns=4_999_000_000, colour="ignored")
    expected = [Marker(4_999_000_000, "external", "TRIAL_START", {"trial": 3})]
    assert taken.published == taken.kept == heard == expected


def test_without_a_time_it_happened_when_it_came():
    taken = Taken()
    taken.say(label="x", source="protocol")
    assert taken.published == [Marker(NOW_NS, "protocol", "x", None)]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"label": 3},
        {"label": ""},
        {"label": "x", "source": "somebody"},
        {"label": "x", "payload": [1]},
        {"label": "x", "t_ns": 1.5},
        {"label": "x", "t_ns": 10**18},
    ],
)
def test_what_is_no_marker_is_refused_with_the_shape_of_one(message):
    taken = Taken()
    with pytest.raises(BadMarker) as refused:
        taken.say(**message)
    assert refused.value.hint
    assert not taken.published


def test_panic_is_set_by_any_marker_of_that_name_even_in_a_flood():
    taken = Taken()
    for _ in range(BURST):
        taken.say(label="x")
    with pytest.raises(RateLimited):
        taken.say(label="x")
    taken.say(label="PANIC")
    assert taken.panics == ["marker PANIC from external"]
    assert len(taken.published) == BURST + 1


@pytest.fixture
def host():
    with Host() as host:
        yield host


def test_a_client_of_the_port_hears_its_own_marker_and_its_errors(host: Host):
    def receive(client: Subscriber, message: dict) -> None:
        markers.receive(client, message)

    stream = host.start(Messages("markers", EPOCH, "127.0.0.1", 0, history=64, receive=receive))
    markers = Markers(marker_stream(stream), lambda _: None, lambda _: None)
    sock = connect(stream.port)
    messages = read_messages(sock)
    assert next(messages)["type"] == "metadata"
    for piece in (b"\x81\xa5lab", b"el\xa2go" + msgpack.packb({"label": 1})):
        sock.sendall(piece)
    answers = {message["type"]: message for message in (next(messages), next(messages))}
    assert answers["data"]["data"] == {"source": "external", "label": "go", "payload": None}
    assert answers["data"]["seq"] == 0
    assert answers["error"]["code"] == "bad-marker"
    assert answers["error"]["closing"] is False


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(1, 20))
def test_any_bytes_are_maps_or_a_named_error(data, cut):
    inbox = _Inbox()
    try:
        for at in range(0, len(data), cut):
            for message in inbox.take(data[at : at + cut]):
                assert isinstance(message, dict)
    except PhantomError as error:
        assert error.code in ("bad-frame", "too-big")
