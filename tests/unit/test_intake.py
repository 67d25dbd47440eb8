"""From packets with a wrapping counter to samples with an index that is theirs for good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.ring import Ring

T0_NS = 10**12
PERIOD_NS = 4_000_000
LOST, RESET = 1, 2


def make(modulus: int = 256, slots: int = 4096) -> Intake:
    return Intake(Ring(NATIVE_HEAD_WORDS + 1, slots), 250.0, 1, modulus)


def value(x: float) -> NDArray[np.float64]:
    return np.array([x], np.float64)


def native(intake: Intake, index: int) -> tuple[int, int, float]:
    """(flags, lost_before, value) of csrc/pd_native.h."""
    words = intake.ring.read(index)
    return int(words[2]) & 0xFFFFFFFF, int(words[3]) & 0xFFFFFFFF, float(words[5:].view("f8")[0])


def send(intake: Intake, n: int, *, delay_ns: int = 0, modulus: int = 256) -> bool:
    return intake.counted(n % modulus, T0_NS + n * PERIOD_NS + delay_ns, value(n))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.integers(0, 5_000_000))
def test_each_sample_keeps_its_place_whatever_is_lost(gaps: list[int], jitter_ns: int) -> None:
    """Gaps up to 12 s: many turns of the counter."""
    intake = make(slots=1 << 16)
    sent = {0}
    send(intake, 0)
    n = 0
    for number, gap in enumerate(gaps):
        for _ in range(5):
            n += 1
            assert send(intake, n, delay_ns=jitter_ns * (number % 2))
            sent.add(n)
        n += gap
        assert send(intake, n)
        sent.add(n)
    assert intake.next == n + 1
    for index in range(n + 1):
        flags, _, x = native(intake, index)
        assert bool(flags & LOST) == (index not in sent)
        assert np.isnan(x) if flags & LOST else x == index
    counters = intake.counters()
    assert counters["accepted"] == len(sent)
    assert counters["lost"] == n + 1 - len(sent)


def test_the_sample_after_a_loss_says_how_long_it_was() -> None:
    intake = make()
    send(intake, 0)
    send(intake, 4)
    assert [native(intake, i)[:2] for i in range(5)] == [
        (RESET, 0),
        (LOST, 3),
        (LOST, 3),
        (LOST, 3),
        (0, 3),
    ]


def test_a_loss_longer_than_the_ring_is_told_in_full() -> None:
    intake = make(slots=64)
    send(intake, 0)
    send(intake, 1000)
    assert intake.next == 1001
    assert native(intake, 1000)[1] == 999
    assert native(intake, 1000 - 63) == pytest.approx((LOST, 999, np.nan), nan_ok=True)
    with pytest.raises(LookupError):
        intake.ring.read(500)


def test_a_copy_is_refused_and_counted() -> None:
    intake = make()
    for n in range(5):
        send(intake, n)
    assert not intake.counted(4, T0_NS + 4 * PERIOD_NS, value(4))
    assert intake.next == 5
    assert intake.counters()["duplicates"] == 1


def test_a_counter_from_the_future_is_refused() -> None:
    intake = make()
    for n in range(5):
        send(intake, n)
    assert not intake.counted(105, T0_NS + 5 * PERIOD_NS, value(5))
    assert send(intake, 6)
    assert intake.counters()["strays"] == 1
    assert native(intake, 5)[0] == LOST


def test_a_device_that_counts_anew_is_believed_after_eight_packets() -> None:
    intake = make()
    for n in range(100):
        send(intake, n)
    for k in range(9):
        arrival_ns = T0_NS + (100 + k) * PERIOD_NS
        assert intake.counted(200 + k, arrival_ns, value(100 + k)) == (k >= 7)
    assert native(intake, 107) == (RESET, 7, 107.0)
    assert intake.counters()["resets"] == 2


def test_a_reset_goes_on_as_far_as_time_has_passed() -> None:
    intake = make()
    for n in range(10):
        send(intake, n)
    intake.reset()
    assert intake.counted(77, T0_NS + 509 * PERIOD_NS, value(1.0))
    assert native(intake, 509) == (RESET, 499, 1.0)


def test_indices_of_its_own_are_counted_from_the_reset() -> None:
    intake = make(modulus=0)
    assert intake.indexed(5000, T0_NS, value(1.0))
    assert intake.indexed(5003, T0_NS + 3 * PERIOD_NS, value(2.0))
    assert not intake.indexed(5001, T0_NS + 3 * PERIOD_NS, value(9.0))
    assert [native(intake, i)[2] for i in (0, 3)] == [1.0, 2.0]
    assert (intake.next, intake.counters()["lost"], intake.counters()["duplicates"]) == (4, 2, 1)
    intake.reset()
    assert intake.indexed(0, T0_NS + 4 * PERIOD_NS, value(3.0))
    assert intake.indexed(1, T0_NS + 5 * PERIOD_NS, value(4.0))
    assert [native(intake, i)[2] for i in (4, 5)] == [3.0, 4.0]


def test_junk_is_told_with_the_next_sample() -> None:
    intake = make()
    send(intake, 0)
    intake.junk(17)
    send(intake, 1)
    words = intake.ring.read(1)
    assert int(words[4]) & 0xFFFFFFFF == 17
    assert intake.counters()["junk_bytes"] == 17


def test_saved_state_goes_on_where_it_was() -> None:
    first = make()
    for n in range(300):
        send(first, n)
    saved = first.state
    second = Intake(Ring(NATIVE_HEAD_WORDS + 1, 4096, first=Intake.next_of(saved)), 250.0, 1, 256)
    second.state = saved
    for intake in (first, second):
        send(intake, 310)
        assert not send(intake, 310)
    assert second.next == first.next == 311
    assert second.state == first.state
    with pytest.raises(ValueError, match="another build"):
        second.state = saved[:-1]


def test_the_last_arrival_is_nothing_before_the_first() -> None:
    intake = make()
    assert intake.last_arrival_ns is None
    send(intake, 0)
    assert intake.last_arrival_ns == T0_NS


@pytest.mark.parametrize(
    ("words", "rate_hz", "values", "modulus"),
    [(1, 250.0, 1, 0), (6, 0.0, 1, 0), (6, float("nan"), 1, 0), (5, 250.0, 0, 0), (6, 250.0, 1, 1)],
)
def test_what_does_not_fit_is_refused(
    words: int, rate_hz: float, values: int, modulus: int
) -> None:
    with pytest.raises(ValueError, match="needs a ring"):
        Intake(Ring(words, 16), rate_hz, values, modulus)


def test_calls_that_do_not_fit_the_intake_are_refused() -> None:
    with pytest.raises(ValueError, match="no packet counter"):
        make(modulus=0).counted(1, T0_NS, value(1.0))
    with pytest.raises(ValueError, match="1 values, not 2"):
        make().counted(1, T0_NS, np.zeros(2))


def test_a_bare_driver_takes_neither_bytes_nor_time() -> None:
    driver = Driver()
    with pytest.raises(TypeError):
        driver.feed(b"x", T0_NS)
    with pytest.raises(TypeError):
        driver.advance(T0_NS)
