"""The scanner finds where a message ends, without unpacking it."""

import struct
import sys

import msgpack
import pytest

from phantomd.errors import TooBig
from phantomd.net.frames import Scanner


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
