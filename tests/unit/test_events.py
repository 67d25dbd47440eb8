"""What the tick tells, as lines of the events port."""

import re
from pathlib import Path

import msgspec
import pytest

from phantomd.contracts import DeviceSpec, Event
from phantomd.engine.events import TickEvent, describe, marker_of

ROOT = Path(__file__).resolve().parents[2]
SPEC = DeviceSpec("cyton-0", "cyton:/dev/x", "cyton", 250.0, ("a", "b"))

#: kind: what the record carries (a, b, c, x), and the fields that the line must have.
CASES = {
    TickEvent.GAP: ((10, 125, 0, 0.0), {"first_index": 10, "count": 125, "reason": "lost"}),
    TickEvent.OVERRUN: ((10, 5, 0, 0.0), {"first_index": 10, "count": 5, "reason": "overrun"}),
    TickEvent.REFUSED: ((10, 2, 33, 0.0), {"index": 10, "refused": 2, "junk_bytes": 33}),
    TickEvent.SILENT: ((9, 0, 0, 0.25), {"state": "stalled", "newest_index": 9}),
    TickEvent.RESUMED: ((9, 0, 0, 0.5), {"state": "streaming", "silent_s": 0.5}),
    TickEvent.RESET: ((9, 0, 0, 0.0), {"state": "streaming", "first_index": 9}),
    TickEvent.CLOCK_LOCKED: ((9, 0, 0, 250.01), {"index": 9, "rate_hz": 250.01}),
    TickEvent.CLOCK_RELOCKED: ((9, 0, 0, 250.01), {"level": "warning", "rate_hz": 250.01}),
    TickEvent.CLOCK_FOLLOWED: ((9, 0, 0, 252.5), {"level": "warning", "rate_hz": 252.5}),
    TickEvent.LATE_TICK: ((3, 9_000_000, 1, 0.0), {"late": 3, "heartbeats_skipped": 1}),
}


def line(kind: TickEvent, values, spec=SPEC) -> dict:
    a, b, c, x = values
    return describe((1234, int(kind), 0, a, b, c, x), lambda _: spec).data()


def test_the_kinds_are_those_of_the_header():
    text = (ROOT / "csrc" / "pd_event.h").read_text()
    found = dict(re.findall(r"PD_EVENT_(\w+) = (\d+),", text))
    assert {kind.name: str(kind.value) for kind in TickEvent} == found


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.name)
def test_each_kind_has_its_line(kind):
    values, fields = CASES[kind]
    data = line(kind, values)
    assert data["t_ns"] == 1234 and data["message"]
    assert fields.items() <= data.items()
    assert msgspec.json.decode(msgspec.json.encode(data)) == data
    msgspec.convert({key: data[key] for key in ("kind", "level", "message")}, Event)


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.name)
def test_an_event_of_a_device_that_is_gone_has_no_device_id(kind):
    data = line(kind, CASES[kind][0], None)
    assert "device_id" not in data and data["message"]


def test_what_is_no_line_is_a_marker():
    assert set(TickEvent) - set(CASES) == {TickEvent.MARKER}
    raw = (1234, int(TickEvent.MARKER), 0, 9, ord("A"), 1200, 0.0)
    marker = marker_of(raw, lambda _: SPEC)
    assert marker is not None
    assert (marker.t_ns, marker.label, marker.source) == (1200, "A", "external")
    assert marker.payload == {"device_id": SPEC.device_id, "value": ord("A"), "index": 9}
    assert marker_of((1234, int(TickEvent.GAP), 0, 0, 1, 0, 0.0), lambda _: SPEC) is None


def test_a_gap_says_how_long_it_was():
    assert "125 samples lost (0.500 s)" in line(TickEvent.GAP, (0, 125, 0, 0.0))["message"]
    assert "1 sample lost" in line(TickEvent.GAP, (0, 1, 0, 0.0))["message"]


def test_a_line_has_only_the_keys_that_it_needs():
    assert Event("alert", "info", "x").data() == {"kind": "alert", "level": "info", "message": "x"}
