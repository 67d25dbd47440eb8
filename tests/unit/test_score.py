"""Scores against closed forms."""

import numpy as np
import pytest
from spiking import BIN_NS, dataset, run, session, velocity

from phantomd.core.gauntlet import RECORD
from phantomd.gauntlet.play import DESYNC, INVALID, LOST, Play, joined, played
from phantomd.gauntlet.score import (
    LEVELS,
    latency,
    mean,
    over_time,
    position_accuracy,
    r2,
    reaches,
    robustness,
    score,
    timeliness,
    trinity_area,
)
from phantomd.gauntlet.stress import LEVELS as STRESS

NAN = float("nan")


def play(n=40, *, trial=None, answered=True, loop_ms=5.0, unit="mm") -> Play:
    """An arm on a circle of 100 mm, which the decoder tells exactly; bins of 25 ms."""
    angle = np.arange(n) * 0.1
    truth = np.full((n, 7), NAN)
    truth[:, 0], truth[:, 1] = 100 * np.cos(angle), 100 * np.sin(angle)
    truth[:, 2], truth[:, 3] = -400 * np.sin(angle), 400 * np.cos(angle)
    records = np.zeros(n, RECORD)
    records["seq"] = records["bin"] = np.arange(n)
    records["flags"] = answered * 1
    records["loop_ns"] = loop_ms * 1e6
    for name, column in (("x", 0), ("y", 1), ("vx", 2), ("vy", 3)):
        records[name] = truth[:, column] if answered else NAN
    if trial is None:
        trial = np.full(n, -1)
    return Play(records, truth, np.asarray(trial), 0.025, unit)


def silenced(one: Play, rows, flag=0) -> Play:
    one.records["flags"][rows] = flag
    for name in ("vx", "vy", "x", "y"):
        one.records[name][rows] = NAN
    return one


# -- one number ------------------------------------------------------------------------------------


def test_r2_is_one_for_the_truth_and_zero_for_its_mean():
    true = np.random.default_rng(0).standard_normal((50, 2))
    assert r2(true, true) == 1.0
    assert r2(np.broadcast_to(true.mean(0), true.shape), true) == pytest.approx(0.0)


def test_r2_of_a_scaled_truth_in_closed_form():
    true = np.array([[-1.0, 2.0], [1.0, -2.0]] * 10)
    # the residual is (1 − a) of a signal without a mean
    assert r2(0.7 * true, true) == pytest.approx(1 - 0.3**2)
    # variances 1 and 4
    assert r2(true * [0.7, 0.5], true) == pytest.approx(1 - (0.3**2 * 1 + 0.5**2 * 4) / 5)


def test_r2_hardly_minds_an_axis_in_which_nothing_moves():
    true = np.zeros((100, 2))
    true[:, 0] = np.sin(np.arange(100.0)) * 100
    assert r2(true + np.array([0.0, 1.0]), true) == pytest.approx(1.0, abs=1e-3)


def test_r2_leaves_out_what_is_unknown_and_can_be_undefined():
    true = np.array([[0.0, 0.0], [1.0, 1.0], [NAN, 2.0]])
    assert r2(np.array([[0.0, 0], [1, 1], [50, 50]]), true) == 1.0
    assert r2(true[:1], true[:1]) is None
    assert r2(np.ones((5, 2)), np.ones((5, 2))) is None


def test_the_trinity_s_area_is_that_of_the_triangle():
    phantom, bio, loop = np.array([[0.0, 0]] * 3), np.array([[3.0, 0]] * 3), None
    loop = np.array([[0.0, 4.0], [6.0, 0.0], [3.0, -4.0]])
    np.testing.assert_allclose(trinity_area(phantom, bio, loop), [6.0, 0.0, 6.0])
    # and it is that wherever it stands
    np.testing.assert_allclose(trinity_area(phantom + 7, bio + 7, loop + 7), [6.0, 0.0, 6.0])


@pytest.mark.parametrize(
    ("off", "unit", "accuracy"),
    [(0, "mm", 1.0), (50, "mm", 0.75), (200, "mm", 0.0), (900, "mm", 0.0), (5, "cm", 0.75)],
)
def test_position_accuracy_falls_to_zero_at_200_mm(off, unit, accuracy):
    one = play(unit=unit)
    one.records["x"] += off
    np.testing.assert_allclose(position_accuracy(one), accuracy, atol=1e-5)


def test_latency_s_quantiles_are_exact():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    found = latency(values)
    assert (found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms) == (500, 990, 999, 1000)
    assert latency(np.zeros(0)) is None
    assert latency(np.array([7.0])).p999_ms == 7.0


def test_robustness_is_the_area_under_the_score():
    assert robustness(dict.fromkeys(LEVELS, 0.8)) == pytest.approx(0.8)
    falling = dict(zip(LEVELS, (1.0, 0.75, 0.5, 0.25, 0.0), strict=True))
    assert robustness(falling) == pytest.approx(0.5)
    assert robustness(dict(zip(LEVELS, (1.0, 0, 0, 0, 0), strict=True))) == pytest.approx(0.125)


def test_robustness_needs_all_levels():
    assert robustness({"none": 1.0, "extreme": 0.5}) is None
    assert robustness({**dict.fromkeys(LEVELS, 0.5), "intense": None}) is None
    assert tuple(STRESS) == LEVELS


def test_a_mean_of_nothing_is_nothing():
    assert mean([]) is None
    assert mean([None, NAN]) is None
    assert mean([None, 2.0, NAN, 4.0]) == 3.0


# -- the record ------------------------------------------------------------------------------------


def test_a_perfect_decoder_has_a_perfect_score():
    found = score(play())
    assert found.timely == 1.0
    assert found.score == found.velocity_r2 == pytest.approx(1.0)
    assert found.position_r2 == pytest.approx(1.0)
    assert found.position_accuracy == pytest.approx(1.0)
    assert (found.packets, found.answered, found.missed, found.desyncs) == (40, 40, 0, 0)
    assert found.latency.p50_ms == 5.0
    assert found.trinity_area is None  # no target
    assert found.seconds == 1.0


def test_who_answers_only_what_is_easy_gains_nothing():
    half = silenced(play(), slice(1, None, 2))
    found = score(half)
    assert found.missed == 20
    assert found.timely == 0.5
    v = half.velocity
    stood = np.where((np.arange(40) % 2 == 0)[:, None], v, 0.0)
    assert found.velocity_r2 == pytest.approx(r2(stood, v), rel=1e-5)
    assert found.score == pytest.approx(max(0, r2(stood, v)) * 0.5, rel=1e-5)


def test_packets_before_the_first_answer_are_not_judged():
    found = score(silenced(play(), slice(0, 10)))
    assert (found.packets, found.missed, found.timely) == (30, 0, 1.0)


def test_late_answers_are_not_in_time():
    one = play()
    one.records["flags"][:4] |= DESYNC
    assert score(one).desyncs == 4
    assert timeliness(one) == 0.9


def test_what_the_network_lost_is_missed_by_nobody_but_the_cursor_stands():
    one = silenced(play(), slice(20, 30), LOST)
    found = score(one)
    assert (found.missed, found.lost, found.timely) == (0, 10, 1.0)
    assert found.velocity_r2 < 1.0
    np.testing.assert_array_equal(one.cursor[20:30], np.repeat(one.cursor[19:20], 10, axis=0))


def test_invalid_answers_are_missed():
    found = score(silenced(play(), slice(20, 22), INVALID))
    assert (found.missed, found.invalid) == (2, 2)


def test_a_decoder_that_went_away_goes_on_being_judged():
    found = score(silenced(play(), slice(20, None)))
    assert (found.packets, found.missed) == (40, 20)


def test_without_answers_there_is_nothing_to_say():
    found = score(play(answered=False))
    assert found.packets == found.answered == 0
    assert found.score is None
    assert found.velocity_r2 is None
    assert found.latency is None
    assert over_time(play(answered=False)) == []


def test_without_kinematics_only_time_is_scored():
    one = play()
    one.truth[:] = NAN
    found = score(one)
    assert found.score is found.velocity_r2 is found.position_r2 is found.position_accuracy is None
    assert found.timely == 1.0


def test_over_time_the_score_s_mean_is_the_whole_s():
    one = play(160)
    one.records["vx"] *= 0.9
    curve = over_time(one, window_s=1.0)
    assert [t for t, _, _ in curve] == [0.5, 1.5, 2.5, 3.5]
    assert np.mean([told for _, told, _ in curve]) == pytest.approx(score(one).score, rel=1e-6)


# -- reaches ---------------------------------------------------------------------------------------


def reach(cursor, *, then=1) -> Play:
    """A trial with its target at (100, 0), then so many bins outside of it."""
    n = len(cursor) + then
    one = play(n, trial=[0] * len(cursor) + [-1] * then)
    one.truth[:, :2] = 0
    one.truth[: len(cursor), 4:6] = [100.0, 0.0]
    one.truth[: len(cursor), 6] = np.arange(len(cursor)) * 0.025
    one.records["x"][: len(cursor)], one.records["y"][: len(cursor)] = np.array(cursor, float).T
    return one


def test_a_straight_reach_is_wholly_efficient():
    (found,) = reaches(one := reach([(20 * i, 0) for i in range(6)]), one.cursor)
    assert found.hit_s == pytest.approx(4 * 0.025)  # 80 mm: 20 from the target
    assert found.efficiency == pytest.approx(1.0)


def test_a_detour_costs_what_it_is_long():
    (found,) = reaches(one := reach([(0, 0), (0, 90), (90, 90), (90, 0)]), one.cursor)
    assert found.efficiency == pytest.approx(90 / 270)


def test_a_reach_that_does_not_arrive_has_no_time():
    one = reach([(0, 0), (10, 0), (20, 0)])
    assert [r.hit_s for r in reaches(one, one.cursor)] == [None]
    found = score(one)
    assert (found.trials, found.hits, found.time_to_target_s) == (1, 0, None)


def test_a_reach_that_is_not_over_is_not_judged_yet():
    one = reach([(0, 0), (10, 0)], then=0)
    assert reaches(one, one.cursor) == []


def test_the_arm_is_judged_on_the_same_trials():
    one = reach([(0, 0), (10, 0)], then=0)
    one.truth[1, :2] = [90.0, 0.0]  # the arm has arrived, the decoder may yet
    assert (score(one).trials, score(one).arm_hits) == (0, 0)
    ended = reach([(0, 0), (10, 0)])
    ended.truth[1, :2] = [90.0, 0.0]
    assert (score(ended).trials, score(ended).hits, score(ended).arm_hits) == (1, 0, 1)


def test_a_reach_that_was_joined_late_is_not_judged():
    one = reach([(0, 0), (90, 0), (100, 0)]).part(slice(1, None))
    assert reaches(one, one.cursor) == []


# -- from a session --------------------------------------------------------------------------------


def test_the_record_of_a_session_scores_as_it_was_played():
    data = dataset()
    playing = session(data)
    playing.subscribe(1, 0)
    for message in run(playing, 38):
        k = message["data"]["kinematics"]
        if message["seq"] not in (5, 6):
            answer = velocity(message["seq"], k["vx"], k["vy"])
            assert playing.answer(0, answer, message["t_ns"] + 3_000_000)[0] == ""
    run(playing, 90)
    one = played(playing.records(), data)
    found = score(one.part(slice(0, 38)))
    assert (found.answered, found.missed) == (36, 2)
    assert found.latency.p50_ms == pytest.approx(3.0)
    # The truth is x = bin, and the cursor lacks the two steps that nobody told.
    begins = np.flatnonzero(np.diff(one.leg, prepend=-1))[:3]
    assert [int(one.records["bin"][i]) for i in begins] == [0, 4, 22]
    assert one.cursor[10, 0] == pytest.approx(10 - 2 + 1)
    assert one.cursor[6, 0] == one.cursor[4, 0]
    assert one.since_s[4] == 0.0
    assert tuple(one.target[4]) == (30.0, 40.0)
    assert one.bin_s == BIN_NS / 1e9


def test_pages_of_a_record_come_back_as_they_were():
    data = dataset()
    playing = session(data)
    playing.subscribe(1, 0)
    run(playing, 200)
    whole = played(playing.records(), data)
    again = joined([Play.of_map(whole.part(slice(a, a + 50)).as_map()) for a in (0, 50)])
    assert again.records.tobytes() == whole.records[:100].tobytes()
    np.testing.assert_allclose(again.truth, whole.truth[:100], rtol=1e-6)
    np.testing.assert_array_equal(again.trial, whole.trial[:100])
