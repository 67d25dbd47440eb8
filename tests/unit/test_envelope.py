"""Envelopes of the JSON and MessagePack streams, against the wording of WIRE.md."""

import json
import math

import msgpack
import msgspec
import numpy as np
import pytest

from phantomd import __version__
from phantomd.errors import BadFrame, DeviceBusy
from phantomd.net.envelope import Envelope, finite

EPOCH = "0123456789abcdef0123456789abcdef"


def opened(envelope: Envelope, message: bytes):
    return json.loads(message) if envelope.json else msgpack.unpackb(message)


@pytest.fixture(params=[True, False], ids=["json", "msgpack"])
def envelope(request):
    return Envelope("focus", EPOCH, request.param)


def test_metadata_has_the_keys_of_the_wire_in_their_order(envelope):
    message = opened(envelope, envelope.metadata(10.0, None, -5, {"cells": 1}))
    assert list(message.items()) == [
        ("type", "metadata"),
        ("stream", "focus"),
        ("protocol", 1),
        ("daemon", f"phantomd/{__version__}"),
        ("epoch", EPOCH),
        ("rate_hz", 10.0),
        ("t_ns", None),
        ("wall_offset_ns", -5),
        ("data", {"cells": 1}),
    ]


def test_data_has_the_keys_of_the_wire_in_their_order(envelope):
    message = opened(envelope, envelope.data(7, 123, 45, True, {"b": 1, "a": 2}))
    assert list(message) == ["type", "stream", "seq", "t_ns", "age_us", "late", "data"]
    assert message["data"] == {"b": 1, "a": 2} and list(message["data"]) == ["b", "a"]


def test_a_gap_tells_first_and_count(envelope):
    assert opened(envelope, envelope.gap(3, 9)) == {
        "type": "gap",
        "stream": "focus",
        "first_seq": 3,
        "count": 9,
        "reason": "slow-client",
    }


def test_a_clock_step_tells_the_new_offset(envelope):
    assert opened(envelope, envelope.clock(12)) == {"type": "clock", "wall_offset_ns": 12}


@pytest.mark.parametrize(
    ("error", "closing"), [(BadFrame("what?", hint="so"), True), (DeviceBusy("x"), False)]
)
def test_an_error_says_whether_it_closes(envelope, error, closing):
    message = opened(envelope, envelope.error(error))
    assert message == {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "closing": closing,
    }


def test_nan_and_infinity_are_absent_at_any_depth(envelope):
    data = {"a": math.nan, "b": [1.5, math.inf, {"c": (-math.inf, np.float32("nan"))}]}
    message = opened(envelope, envelope.data(0, 0, 0, False, data))
    assert message["data"] == {"a": None, "b": [1.5, None, {"c": [None, None]}]}


def test_arrays_and_records_become_lists_and_maps(envelope):
    class Window(msgspec.Struct):
        index: int
        plv: float

    data = {"x": np.array([1.0, np.nan]), "n": np.int64(4), "w": Window(2, math.nan), 5: "five"}
    message = opened(envelope, envelope.data(0, 0, 0, False, data))
    assert message["data"] == {
        "x": [1.0, None],
        "n": 4,
        "w": {"index": 2, "plv": None},
        "5": "five",
    }


def test_a_json_message_is_one_line():
    line = Envelope("events", EPOCH, json=True).data(
        0, None, None, False, {"message": "a\nb\r\u2028"}
    )
    assert line.endswith(b"\n") and line.count(b"\n") == 1


def test_finite_leaves_what_both_formats_can_carry():
    value = {"s": "text", "i": -(2**40), "b": True, "n": None, "f": 0.5}
    assert finite(value) == value
