"""A session on a virtual clock: its packets, its clock, and what becomes of answers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from spiking import BIN_NS, dataset, run, session, unpack, velocity

from phantomd.core.gauntlet import NEVER, Session, Stress
from phantomd.gauntlet.session import phase_ns
from phantomd.gauntlet.stress import StressConfig

WALL_NS = 1_700_000_000_000_000_000


def playing(**how: object) -> Session:
    one = session(**how)
    one.subscribe(1, 0)
    return one


def test_a_packet_is_what_the_wire_page_says():
    one = playing(phase_ns=4_000_000)
    (message,) = unpack(one.step(4_020_000, WALL_NS))
    assert {key: message[key] for key in ("type", "stream", "seq", "t_ns", "age_us", "late")} == {
        "type": "data",
        "stream": "spikes",
        "seq": 0,
        "t_ns": 4_000_000,
        "age_us": 20,
        "late": False,
    }
    assert message["data"] == {
        "timestamp": pytest.approx(1_700_000_000.004),
        "sequence_number": 0,
        "spikes": {
            "channel_ids": [0, 1, 2, 3, 4],
            "spike_counts": [0, 1, 2, 3, 4],
            "bin_size_ms": 25.0,
        },
        "kinematics": {"vx": 40.0, "vy": 0.0, "x": 0.0, "y": 0.0},
        "intention": {
            "target_id": None,
            "target_x": None,
            "target_y": None,
            "distance_to_target": None,
        },
        "trial_id": None,
        "trial_time_ms": None,
        "loop": [],
    }


def test_distance_and_trial_time_are_real_values():
    sixth = run(playing(), 6)[5]["data"]
    assert sixth["trial_id"] == 7
    assert sixth["trial_time_ms"] == 25.0
    assert sixth["intention"]["target_id"] == 1
    assert sixth["intention"]["distance_to_target"] == pytest.approx(np.hypot(30 - 5, 40))


def test_unknown_kinematics_are_nil():
    data = dataset()
    data.kinematics[0] = np.nan
    first = run(playing(data=data), 1)[0]["data"]
    assert first["kinematics"] == {"vx": None, "vy": None, "x": None, "y": None}


def test_counts_of_every_width_come_through():
    data = dataset(n_units=6)
    wide = data.counts.astype(np.uint16)
    wide[0] = [0, 127, 128, 255, 256, 65535]
    first = run(playing(data=replace(data, counts=wide)), 1)[0]["data"]
    assert first["spikes"]["spike_counts"] == [0, 127, 128, 255, 256, 65535]


def test_sessions_come_in_bursts_that_are_spread_over_the_period():
    phases = np.array([phase_ns(number, BIN_NS) for number in range(1, 1001)])
    steps, within = np.divmod(phases, BIN_NS // 50)
    assert np.bincount(steps, minlength=50).tolist() == pytest.approx([20] * 50, abs=1)
    assert within.max() < 20_000
    for step in range(50):  # one behind the other, each time
        assert len(np.unique(within[steps == step])) == np.count_nonzero(steps == step)
    assert max(phase_ns(number, 1_000_000) for number in range(1, 5000)) < 1_000_000


def test_packets_come_at_their_phase_each_period():
    one = playing(phase_ns=7_000_000)
    assert [p["t_ns"] for p in run(one, 4)] == [7_000_000 + k * BIN_NS for k in range(4)]


def test_nothing_is_due_without_a_subscriber():
    one = session()
    assert one.next_ns == NEVER
    one.subscribe(1, 0)
    run(one, 3)
    one.subscribe(0, 60_000_000)
    assert one.next_ns == NEVER
    one.subscribe(1, 10**9)
    assert run(one, 1)[0]["data"]["sequence_number"] == 3


def test_the_end_wraps_and_seq_goes_on():
    last, first = run(playing(), 41)[-2:]
    assert (last["seq"], last["data"]["sequence_number"]) == (39, 39)
    assert (first["seq"], first["data"]["sequence_number"]) == (40, 0)


def test_without_loop_it_ends_and_a_seek_revives_it():
    one = playing(loop=False)
    run(one, 40)
    assert one.state == "ended"
    assert ("ended", 40, 0) in one.take_events()
    assert one.next_ns == NEVER
    one.seek(10, 2 * 10**9)
    packet = run(one, 1)[0]
    assert (packet["seq"], packet["data"]["sequence_number"]) == (40, 10)


def test_a_pause_is_no_burst():
    one = playing()
    run(one, 3)
    one.pause()
    assert one.step(10**10) == []
    one.resume(10**10 + 1)
    times = [p["t_ns"] for p in run(one, 3)]
    assert times[0] >= 10**10 + 1
    assert np.diff(times).tolist() == [BIN_NS, BIN_NS]
    assert one.bin == 6


def test_pausing_and_resuming_at_once_does_not_hurry_the_next_packet():
    one = playing()
    first = run(one, 1)[0]["t_ns"]
    for _ in range(10):
        one.pause()
        one.resume(first + 1000)
    assert run(one, 1)[0]["t_ns"] == first + BIN_NS


def test_a_stall_skips_instants_and_no_bins():
    one = playing()
    run(one, 2)
    (late,) = unpack(one.step(2 * BIN_NS + 260_000_000))
    assert late["late"]
    assert late["data"]["sequence_number"] == 2
    assert one.step(2 * BIN_NS + 260_000_001) == []
    following = run(one, 2)
    assert [p["data"]["sequence_number"] for p in following] == [3, 4]
    assert [p["late"] for p in following] == [False, False]


def test_a_filter_plays_its_trials_without_silence():
    packets = run(playing(spans=[[4, 6], [22, 24]]), 6)
    assert [p["data"]["sequence_number"] for p in packets] == [4, 5, 22, 23, 4, 5]
    assert set(np.diff([p["t_ns"] for p in packets])) == {BIN_NS}


@pytest.mark.parametrize(("to", "found"), [(0, 4), (5, 5), (6, 22), (23, 23), (30, 4)])
def test_a_seek_under_a_filter_goes_to_the_next_bin_that_passes(to, found):
    one = playing(spans=[[4, 6], [22, 24]])
    run(one, 1)
    one.seek(to, 0)
    packet = run(one, 1)[0]
    assert (packet["seq"], packet["data"]["sequence_number"]) == (1, found)


# -- answers ---------------------------------------------------------------------------------------


def test_an_answer_comes_back_in_the_next_packet():
    one = playing()
    run(one, 1)
    assert one.answer(3, velocity(0, 10.0, -20.0), 12_000_000) == ("", 0)
    assert run(one, 1)[0]["data"]["loop"] == [
        {
            "seq": 0,
            "vx": 10.0,
            "vy": -20.0,
            "x": 0.25,
            "y": -0.5,
            "loop_ms": 12.0,
            "desync": False,
        }
    ]
    assert run(one, 1)[0]["data"]["loop"] == []


def test_an_answer_without_seq_is_to_the_newest_packet():
    one = playing()
    run(one, 5)
    assert one.answer(3, velocity(), 4 * BIN_NS + 1) == ("", 4)


def test_answers_out_of_order_are_all_taken():
    one = playing()
    run(one, 5)
    for seq in (3, 0, 4, 1, 2):
        assert one.answer(3, velocity(seq), 5 * BIN_NS - 1)[0] == ""
    assert [a["seq"] for a in run(one, 1)[0]["data"]["loop"]] == [3, 0, 4, 1, 2]
    assert one.records()["seq"].tolist() == [0, 1, 2, 3, 4]


def test_the_cursor_starts_each_trial_at_the_kinematics():
    one = playing()
    positions = []
    for packet in run_answering(one, 25, vx=4.0):
        positions += [(a["seq"], a["x"]) for a in packet["data"]["loop"]]
    x = dict(positions)
    assert x[3] == pytest.approx(0.0 + 4 * 0.1)  # before any trial: from where it began
    assert x[4] == pytest.approx(4 + 0.1)  # trial 7 begins in bin 4
    assert x[19] == pytest.approx(4 + 16 * 0.1)
    assert x[21] == pytest.approx(4 + 18 * 0.1)  # between trials it goes on
    assert x[22] == pytest.approx(22 + 0.1)


def test_a_late_answer_of_an_earlier_trial_leaves_the_cursor_alone():
    one = playing()
    run(one, 24)
    t_ns = 24 * BIN_NS - 1
    one.answer(0, velocity(22, 4.0), t_ns)
    one.answer(0, velocity(21, 1e6), t_ns)
    one.answer(0, velocity(23, 4.0), t_ns)
    assert [a["x"] for a in run(one, 1)[0]["data"]["loop"]] == pytest.approx([22.1, 22.1, 22.2])


def test_a_decoder_may_say_its_own_position():
    one = playing()
    run(one, 1)
    one.answer(0, velocity(0, 1.0, 1.0, x=50.0, y=-60.0), 1)
    (answer,) = run(one, 1)[0]["data"]["loop"]
    assert (answer["x"], answer["y"]) == (50.0, -60.0)


def run_answering(one: Session, n: int, *, loop_ns: int = 10_000_000, **answer: float) -> list:
    packets = []
    for _ in range(n):
        packets += run(one, 1)
        seq = packets[-1]["seq"]
        one.answer(0, velocity(seq, **answer), packets[-1]["t_ns"] + loop_ns)
    return packets


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (velocity(4), "never-sent"),
        (velocity(1 << 63), "never-sent"),
        (velocity(0), "answered-twice"),
        (velocity(2, float("nan")), "bad-answer"),
        (velocity(2, float("inf")), "bad-answer"),
        (velocity(2, 2e9), "bad-answer"),
        (velocity(2, "fast"), "bad-answer"),
        (velocity(2, None), "bad-answer"),
        (velocity(2, True), "bad-answer"),
        (velocity(2, x=1.0), "bad-answer"),
        (velocity(vx=1.0, seq=-1), "bad-answer"),
        (velocity(vx=1.0, seq=1.0), "bad-answer"),
        (b"\x80", "bad-answer"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(message, refusal):
    one = playing()
    run(one, 4)
    one.answer(0, velocity(0), 4 * BIN_NS - 1)
    assert one.answer(0, message, 4 * BIN_NS - 1)[0] == refusal
    assert one.counts()["invalid"] == 1
    assert one.counts()["answered"] == 1


def test_an_invalid_answer_counts_as_missed_and_can_not_be_mended():
    one = playing()
    run(one, 1)
    one.answer(0, velocity(0, float("nan")), 1)
    assert one.answer(0, velocity(0, 1.0), 2)[0] == "answered-twice"
    assert one.counts()["missed"] == 1
    assert one.records()["flags"].tolist() == [4 | 16]


def test_an_answer_after_two_seconds_is_too_old():
    one = playing()
    run(one, 81)
    t_ns = 80 * BIN_NS
    assert one.answer(0, velocity(0), t_ns)[0] == "too-old"
    assert one.answer(0, velocity(1), t_ns)[0] == "too-old"
    assert one.answer(0, velocity(2), t_ns)[0] == ""


def test_the_first_that_answers_is_the_decoder_until_it_leaves():
    one = playing()
    run(one, 2)
    assert one.answer(5, velocity(0), 1)[0] == ""
    assert one.answer(6, velocity(1), 1)[0] == "decoder-taken"
    assert one.decoder == 5


def test_packets_without_an_answer_are_missed_once_there_is_a_decoder():
    one = playing()
    run(one, 5)
    one.answer(0, velocity(4), 4 * BIN_NS + 1)
    run(one, 84)
    assert one.counts()["missed"] == 5  # packets 5..9 are too old by now; 0..3 had no decoder
    records = one.records()
    assert records["seq"].tolist() == list(range(10))
    assert (records["flags"] & 16 != 0).tolist() == [False] * 4 + [True] * 6
    assert np.isnan(records["vx"]).tolist() == [True] * 4 + [False] + [True] * 5


# -- events ----------------------------------------------------------------------------------------


def told(one: Session) -> list[str]:
    return [what for what, _, _ in one.take_events()]


def test_desync_is_told_once_and_when_it_is_over():
    one = playing()
    run_answering(one, 3)
    told(one)
    events = []
    for loop_ns in [60_000_000] * 4 + [20_000_000] * 8:
        run_answering(one, 1, loop_ns=loop_ns)
        events += told(one)
    assert events == ["desync", "in-time"]
    assert one.counts()["desyncs"] == 4


def test_exactly_50_ms_is_in_time():
    one = playing()
    run_answering(one, 1, loop_ns=50_000_000)
    assert one.counts()["desyncs"] == 0
    run_answering(one, 1, loop_ns=50_000_001)
    assert one.counts()["desyncs"] == 1


def test_a_decoder_that_falls_silent_is_told_and_so_is_its_return():
    one = playing()
    run_answering(one, 3)
    told(one)
    run(one, 30)
    assert told(one) == ["drop"]
    run_answering(one, 1)
    assert told(one) == ["back"]


def test_jitter_over_three_milliseconds_is_told():
    one = playing()
    run(one, 3)
    assert told(one) == []
    one.step(one.next_ns + 2_900_000)
    assert told(one) == []
    run(one, 1)
    one.step(one.next_ns + 3_200_000)
    ((what, seq, value),) = one.take_events()
    assert (what, seq, value) == ("jitter", 5, 3_200_000)


# -- stress ----------------------------------------------------------------------------------------


def stressed(n: int, **faults: float) -> list[dict]:
    one = playing()
    one.set_stress(Stress(StressConfig(seed=5, **faults), 5))
    return run(one, n)


@pytest.mark.parametrize(
    "faults",
    [
        {"noise_std": 0.5, "drift_amplitude": 0.3},
        {"gain_std": 0.5, "dropout": 0.4, "shift": 1.5},
        {"loss": 0.3, "duplicate": 0.3, "reorder": 0.3, "latency_ms": 30.0, "jitter_ms": 30.0},
    ],
)
def test_the_same_seed_gives_the_same_packets(faults):
    assert stressed(60, **faults) == stressed(60, **faults)


def test_loss_takes_packets_and_leaves_their_numbers():
    packets = stressed(300, loss=0.3)
    seqs = [p["seq"] for p in packets]
    assert seqs == sorted(seqs)
    assert 0.2 < 1 - len(seqs) / (seqs[-1] + 1) < 0.4


def test_duplicates_are_the_same_packet_twice():
    packets = stressed(200, duplicate=0.5)
    twice = [a for a, b in pairwise(packets) if a == b]
    assert 40 < len(twice) < 100


def test_latency_and_jitter_keep_the_order_and_reordering_does_not():
    assert [p["seq"] for p in stressed(100, latency_ms=80.0, jitter_ms=200.0)] == list(range(100))
    moved = [p["seq"] for p in stressed(100, reorder=0.3)]
    assert moved != sorted(moved)


def test_the_simulated_way_is_a_part_of_the_loop():
    one = playing()
    one.set_stress(Stress(StressConfig(latency_ms=60.0), 5))
    one.step(0)
    assert one.answer(0, velocity(0), 59_000_000)[0] == "never-sent"
    assert [p["seq"] for p in unpack(one.step(60_000_000))] == [0]
    assert one.answer(0, velocity(0), 61_000_000)[0] == ""
    assert one.records()["loop_ns"].tolist() == [61_000_000]


def test_a_packet_that_was_lost_on_the_way_was_never_sent():
    one = playing()
    one.set_stress(Stress(StressConfig(loss=1.0), 5))
    one.step(0)
    assert one.answer(0, velocity(0), 1)[0] == "never-sent"
    assert one.counts()["lost"] == 1


def test_stress_can_be_switched_while_it_runs():
    one = playing()
    plain = [p["data"]["spikes"]["spike_counts"] for p in run(one, 40)]
    one.set_stress(Stress(StressConfig(dropout=1.0), 5))
    assert [sum(p["data"]["spikes"]["spike_counts"]) for p in run(one, 5)] == [0] * 5
    one.set_stress(None)
    assert [p["data"]["spikes"]["spike_counts"] for p in run(one, 35)] == plain[5:]


# -- what it can't be ------------------------------------------------------------------------------


@pytest.mark.parametrize("spans", [[[0, 0]], [[3, 2]], [[0, 41]], np.zeros((0, 2))])
def test_spans_outside_the_dataset_are_refused(spans):
    with pytest.raises(ValueError, match="at least one bin"):
        session(spans=spans)


def test_a_day_of_packets_leaves_nothing_behind():
    one = playing()
    n = 24 * 3600 * 40 // 12  # two hours; benches.sessions has the whole day
    assert one.play(n, 10_000_000) == n
    counts = one.counts()
    assert counts["answered"] == n
    assert counts["missed"] == 0
    assert len(one.records()) == 2048
