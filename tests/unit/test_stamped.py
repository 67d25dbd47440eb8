"""Numbers for samples without a counter: what jitters, is lost, stalls, or begins anew."""

import numpy as np
import pytest

from phantomd.devices.stamped import LOOK_NS, StampedIndex

RATE_HZ = 250.0
PERIOD_NS = 4_000_000


def number(stamps_ns, chunk=7, rate_hz=RATE_HZ):
    """(index, row, restart) of each, as a child's intake would count them."""
    numbers, out, index = StampedIndex(rate_hz), [], 0
    rows = np.arange(len(stamps_ns), dtype=float)[:, None]
    for first in range(0, len(stamps_ns), chunk):
        piece = slice(first, first + chunk)
        runs = list(numbers.take(rows[piece], stamps_ns[piece], int(stamps_ns[piece][-1])))
        if first + chunk >= len(stamps_ns):
            late_ns = int(stamps_ns[-1]) + LOOK_NS + 1
            runs += numbers.take(rows[:0], stamps_ns[:0], late_ns)
        for run in runs:
            index += run.lost
            for place, row in enumerate(run.rows[:, 0]):
                assert run.stamps_ns[place] == stamps_ns[int(row)]
                out.append((index, int(row), run.restart and place == 0))
                index += 1
    assert [row for _, row, _ in out] == list(range(len(stamps_ns))), "each once, in order"
    return np.array([index for index, _, _ in out]), [row for _, row, anew in out if anew]


def stamps(taken, jitter_ms=0.0, seed=1, rate_hz=RATE_HZ):
    jitter = np.random.default_rng(seed).uniform(0, jitter_ms * 1e6, len(taken))
    return (1e15 + taken * 1e9 / rate_hz + jitter).astype(np.int64)


@pytest.mark.parametrize("jitter_ms", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("rate_hz", [249.0, 249.975, 250.025, 251.0])
def test_without_a_loss_the_numbers_are_the_counted_ones(jitter_ms, rate_hz):
    index, anew = number(stamps(np.arange(5000), jitter_ms, rate_hz=rate_hz))
    np.testing.assert_array_equal(index, np.arange(5000))
    assert anew == []


@pytest.mark.parametrize(("jitter_ms", "shortest"), [(0.0, 1), (1.0, 4), (10.0, 20)])
def test_a_loss_has_its_true_length(jitter_ms, shortest):
    for lost in (shortest, 2 * shortest, 125, 1000):
        taken = np.r_[np.arange(1000), np.arange(1000 + lost, 2000)]
        index, anew = number(stamps(taken, jitter_ms))
        off = np.abs(index - taken).max() * PERIOD_NS * 1e-6
        assert off <= (0 if jitter_ms < 4 else PERIOD_NS * 1e-6), f"{lost} lost, off by {off} ms"
        assert anew == []


@pytest.mark.parametrize("jitter_ms", [0.0, 1.0])
def test_a_stall_that_is_caught_up_is_no_loss(jitter_ms):
    stamps_ns = stamps(np.arange(2000), jitter_ms)
    stamps_ns[1000:1050] = stamps_ns[1050] - 50_000 + 1000 * np.arange(50)  # pushed at once
    index, anew = number(stamps_ns)
    np.testing.assert_array_equal(index, np.arange(2000))
    assert anew == []


def test_samples_after_a_jump_are_held_back_for_a_moment_only():
    numbers = StampedIndex(RATE_HZ)
    first = np.arange(100) * PERIOD_NS + 10**15
    assert sum(len(run.rows) for run in numbers.take(np.zeros((100, 1)), first, 10**15)) == 100
    jump, now_ns = first[-1:] + 500_000_000, int(first[-1]) + 500_000_000
    assert list(numbers.take(np.zeros((1, 1)), jump, now_ns)) == []
    assert list(numbers.take(np.zeros((0, 1)), jump[:0], now_ns + LOOK_NS)) == []
    (run,) = numbers.take(np.zeros((0, 1)), jump[:0], now_ns + LOOK_NS + 1)
    assert len(run.rows) == 1 and run.lost == 124


@pytest.mark.parametrize("step_s", [-100.0, 3600.0])
def test_stamps_of_another_clock_begin_anew(step_s):
    taken = stamps(np.arange(1000))
    taken[500:] += int(step_s * 1e9)
    index, anew = number(taken)
    assert anew == [500]
    np.testing.assert_array_equal(np.diff(index), 1)
