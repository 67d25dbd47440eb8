"""What is named as wrong with a device, from counters and the clock's report on a virtual clock."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from phantomd.core.clock import Clock
from phantomd.core.cyton import CytonDriver, encode
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.devices.radio_faults import RadioFaults, parse_faults
from phantomd.engine.health import Finding, Health

NO_COUNTS = np.zeros((1, 8), np.int32)


def played(faults: str, seconds: float, seed: int = 1) -> list[tuple[float, Finding]]:
    """A Cyton on a virtual clock with these faults, looked at twice a second."""
    intake = Intake(Ring(NATIVE_HEAD_WORDS + 11, 4096), 250.0, 11, modulus=256)
    driver, clock, health = CytonDriver(intake), Clock(250.0), Health(250.0)
    radio = RadioFaults(parse_faults(faults), random.Random(seed))
    found: list[tuple[float, Finding]] = []
    looked_s, seen = 0.0, 0
    waiting, waiting_s = b"", 0.0
    for number in range(10**9):
        ready_s = radio.ready_ns(number) * 1e-9
        if ready_s > waiting_s and waiting:  # all that is there comes in one read
            driver.feed(waiting, 10**9 + int(waiting_s * 1e9))
            waiting = b""
            while seen < intake.next:
                arrival, _, word, *_ = intake.ring.read(seen).tolist()
                if not word & 1:
                    clock.observe(seen, arrival, word >> 32)
                seen += 1
        while looked_s + 0.5 <= ready_s:
            looked_s += 0.5
            report = msgspec.structs.asdict(clock.report()) if clock.locked else None
            for each in health.look(int(looked_s * 1e9), intake.counters(), report):
                found.append((looked_s, each))
            if looked_s >= seconds:
                return found
        packet = encode(np.array([number & 255], np.uint8), NO_COUNTS)
        waiting += radio.spoil(packet, number, radio.taken_ns(number) * 1e-9)
        waiting_s = ready_s
    raise AssertionError


@pytest.mark.parametrize(
    "faults", ["", "drop=0.05", "stall@5..6", "gap@5..6.5", "burst@5:n=300", "ppm=200"]
)
def test_what_is_no_trouble_is_not_named(faults: str) -> None:
    assert played(faults, 15) == []


@pytest.mark.parametrize(
    ("faults", "trouble", "within_s", "over_s"),
    [
        ("garbage@5..10", "garbage", 2.5, 12.5),
        ("rate@5..12:percent=100", "too-fast", 3.5, 14.5),
        ("rate@10..20:percent=1", "rate", 4.0, 26.0),
        ("clump@5..10:ms=16", "clumps", 2.5, 13.0),
    ],
)
def test_each_trouble_is_named_once_and_once_when_it_is_over(
    faults: str, trouble: str, within_s: float, over_s: float
) -> None:
    start_s = float(faults.split("@")[1].split("..")[0])
    mine = [(t_s, found) for t_s, found in played(faults, 30) if found.trouble == trouble]
    assert [found.begins for _, found in mine] == [True, False], mine
    (begun_s, first), (ended_s, _) = mine
    assert start_s < begun_s <= start_s + within_s
    assert ended_s <= over_s
    assert first.hint
