"""The validator's lines, each with a decoder that passes and one that doesn't."""

import numpy as np
import pytest

from phantomd.core.gauntlet import RECORD
from phantomd.gauntlet import checklist
from phantomd.gauntlet.play import Play


def play(v: np.ndarray, *, answered=None, loop_ms=2.0, desync=()) -> Play:
    n = len(v)
    records = np.zeros(n, RECORD)
    records["seq"] = records["bin"] = np.arange(n)
    answered = np.ones(n, bool) if answered is None else answered
    records["flags"] = answered
    records["flags"][list(desync)] |= 2
    records["vx"], records["vy"] = v.T
    records["loop_ns"] = loop_ms * 1e6
    truth = np.full((n, 7), np.nan)
    truth[:, :4] = np.random.default_rng(0).standard_normal((n, 4))
    return Play(records, truth, np.full(n, -1), 0.025, "mm")


def moving(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, 2)) * 50


def still(n: int) -> np.ndarray:
    return np.zeros((n, 2))


def test_who_decodes_the_counts_answers_silence_with_stillness():
    line = checklist.extracts(play(moving(100)), play(still(100) + 3.0), 142)
    assert line.passed
    assert "142" in line.asks


@pytest.mark.parametrize(
    ("normal", "silent"),
    [
        (still(100) + 1.0, still(100) + 1.0),  # a constant
        (moving(100), moving(100)),  # a script that ignores the spikes
        (moving(100), moving(100)[::-1]),  # noise
    ],
)
def test_who_ignores_the_counts_is_found_out(normal, silent):
    assert not checklist.extracts(play(normal), play(silent), 142).passed


def test_a_stretch_without_answers_tells_nothing():
    none = np.zeros(100, bool)
    assert not checklist.extracts(play(moving(100)), play(still(100), answered=none), 142).passed


@pytest.mark.parametrize(("ms", "passed"), [(24.9, True), (25.1, False)])
def test_inference_has_25_ms(ms, passed):
    assert checklist.infers_in_time(play(moving(50), loop_ms=ms)).passed is passed


def test_inference_is_not_known_without_answers():
    none = np.zeros(50, bool)
    assert not checklist.infers_in_time(play(moving(50), answered=none)).passed


def test_velocities_come_for_99_percent_of_the_packets_and_are_not_all_zero():
    some = np.ones(1000, bool)
    some[5:14] = False
    assert checklist.sends_velocities(play(moving(1000), answered=some)).passed
    some[14:20] = False
    assert not checklist.sends_velocities(play(moving(1000), answered=some)).passed
    assert not checklist.sends_velocities(play(still(1000))).passed


def test_synchrony_lasts_a_minute():
    assert checklist.keeps_synchrony(play(moving(2400)), 60.0).passed
    assert not checklist.keeps_synchrony(play(moving(2300)), 60.0).passed
    short = checklist.keeps_synchrony(play(moving(400)), 10.0)
    assert not short.passed
    assert "only 10 s" in short.seen


def test_synchrony_ends_with_late_answers_or_a_silence():
    assert checklist.keeps_synchrony(play(moving(2400), desync=[7, 9]), 60.0).passed
    assert not checklist.keeps_synchrony(play(moving(2400), desync=[7, 9, 11]), 60.0).passed
    gone = np.ones(2400, bool)
    gone[100:110] = False
    assert checklist.keeps_synchrony(play(moving(2400), answered=gone), 60.0).passed
    gone[110] = False
    assert not checklist.keeps_synchrony(play(moving(2400), answered=gone), 60.0).passed


def test_who_is_cut_off_comes_back():
    assert checklist.comes_back(1, 0.4, 10.0).passed
    assert not checklist.comes_back(1, None, 10.0).passed
    assert not checklist.comes_back(0, 0.1, 10.0).passed
