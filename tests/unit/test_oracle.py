"""The oracle behind a device in virtual time: what stands on 7070 and 7071, and when."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from boards import T0_NS
from focus_reference import compute_focus
from oracle_bench import Oracle
from windows_bench import noise

from phantomd.config import OracleConfig
from phantomd.contracts import GRID_NS, MONTAGE
from phantomd.core.engine import GridReader
from phantomd.errors import BadBaseline
from phantomd.oracle import baseline as baselines
from phantomd.oracle.cells import Value
from phantomd.oracle.channels import picked


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Oracle:
    oracle = Oracle(tmp_path_factory.mktemp("state"))
    oracle.run(0.0, 14.0)
    return oracle


def test_lines_keep_their_cadence(quiet):
    for stream, per_s in (("focus", 10), ("trit", 1)):
        instants = [t_ns for t_ns, _ in quiet.lines[stream]]
        assert len(instants) in range(14 * per_s - 2, 14 * per_s + 1)
        gaps = np.diff(instants)
        assert abs(gaps - 1e9 / per_s).max() < GRID_NS
        assert len(quiet.lines["trit"]) >= 13


def test_focus_is_the_reference_s_on_the_samples_as_7069_has_them(quiet):
    grid = quiet.bench.slot.grid
    reader = GridReader(grid, deadline_ns=0)
    compared = 0
    for t_ns, data in quiet.lines["focus"]:
        if data["cell"] != "value":
            continue
        newest = (t_ns - T0_NS) // GRID_NS
        frames = reader.frames(newest - 127, newest + 1)
        expected = compute_focus(frames["values"].astype(np.float32).astype(float).T)
        assert data["focus"] == pytest.approx(expected, abs=1e-9)
        assert data["method"] == "band_ratio" and data["window_s"] == 1.0
        compared += 1
    assert compared > 100


def test_a_trit_stands_on_the_focus_of_its_instant(quiet):
    focus = dict(quiet.lines["focus"])
    values = [(t_ns, data) for t_ns, data in quiet.lines["trit"] if data["cell"] == "value"]
    assert len(values) >= 10
    for t_ns, data in values:
        assert data["focus"] == focus[t_ns]["focus"]
        expected = 1 if data["focus"] > 0.66 else -1 if data["focus"] < 0.33 else 0
        assert data["trit"] == expected
        assert data["brightness"] == {-1: 0.2, 0: 0.5, 1: 1.0}[expected]
        assert data["role"] == {-1: "validator", 0: "coordinator", 1: "generator"}[expected]
        assert data["skill"] == getattr(OracleConfig(), data["role"])[0]


def test_before_a_second_of_signal_it_is_warming_up_and_never_zero(quiet):
    first = quiet.lines["focus"][3][1]
    assert first["cell"] == "nothing" and "focus" not in first
    assert "trit" not in quiet.lines["trit"][0][1]


def test_all_three_metrics_are_features(quiet):
    features = quiet.stage.features()
    assert set(features) == {"focus_band_ratio", "focus_fisher_rao", "focus_session"}
    assert np.isnan(features["focus_fisher_rao"])
    assert 0 < features["focus_session"] < 1


def test_losses_under_the_window_are_a_dropout(tmp_path):
    oracle = Oracle(tmp_path)
    oracle.run(0.0, 4.0)
    oracle.run(4.0, 8.0, lost=tuple(range(1000, 1050)))
    reasons = oracle.reasons()
    assert "dropout" in reasons
    hit = [t for t, data in oracle.lines["focus"] if data.get("reason") == "dropout"]
    # While the loss lies in the second before the instant, and no longer.
    assert hit[-1] - hit[0] < 1.5e9
    assert reasons[-1] == "value"


def test_a_window_that_was_rejected_is_an_artifact(tmp_path):
    def blinking(n: int) -> np.ndarray:
        x = noise(n).copy()
        if 1250 <= n < 1325:
            x[:2] += 250 * np.sin(np.pi * (n - 1250) / 75) ** 2
        return x

    oracle = Oracle(tmp_path, blinking)
    oracle.run(0.0, 9.0)
    hit = [t for t, data in oracle.lines["focus"] if data.get("reason") == "artifact"]
    assert hit and T0_NS + 5e9 < hit[0] < T0_NS + 5.8e9
    assert hit[-1] < T0_NS + 7.5e9
    trits = [data["cell"] for t, data in oracle.lines["trit"] if t in hit]
    assert trits and set(trits) == {"nothing"}


def test_a_loop_that_comes_late_says_the_same(tmp_path):
    """As a blink begins: windows that were closed after an instant was due are no part of it."""

    def blinking(n: int) -> np.ndarray:
        x = noise(n).copy()
        if 1250 <= n < 1325:
            x[:2] += 250 * np.sin(np.pi * (n - 1250) / 75) ** 2
        return x

    said = []
    for every in (1, 75):  # 4 ms, 300 ms
        oracle = Oracle(tmp_path, blinking)
        for step, ms in enumerate(range(0, 7500, 4)):
            oracle.bench.run(ms / 1e3, (ms + 4) / 1e3)
            if step % every == 0:
                oracle.stage.on_tick(T0_NS + ms * 1_000_000)
        said.append([(t, data) for t, data in oracle.lines["focus"] if t < T0_NS + 7_000_000_000])
    prompt, late = (dict(lines) for lines in said)
    assert any(data.get("reason") == "artifact" for data in late.values())
    shared = prompt.keys() & late.keys()
    assert len(shared) > 60
    assert {t: prompt[t] for t in shared} == {t: late[t] for t in shared}


def test_after_five_seconds_without_data_the_baseline_holds_and_the_operator_is_told(tmp_path):
    oracle = Oracle(tmp_path)
    oracle.run(0.0, 4.0)
    oracle.silence(4.0, 11.0)
    assert oracle.reasons()[-1] == "timeout"
    assert oracle.reasons("trit")[-1] == "timeout"
    assert oracle.lines["trit"][-1][1]["baseline"] == {"trit": 0, "brightness": 0.5}
    assert "trit" not in oracle.lines["trit"][-1][1]
    assert [event.level for event in oracle.events] == ["alert"]
    told_ns = oracle.events[0].fields["t_ns"]
    assert 5.0e9 <= told_ns - (T0_NS + 4.0e9) < 5.2e9
    between = oracle.reasons()[42:85]
    assert set(between) <= {"dropout", "no-signal"} and "no-signal" in between
    oracle.bench.board.next = 11 * 250
    oracle.run(11.0, 14.0)
    assert [event.level for event in oracle.events] == ["alert", "info"]
    assert oracle.reasons()[-1] == "value"


def test_a_dead_headset_is_no_signal(tmp_path):
    oracle = Oracle(tmp_path, lambda n: np.zeros(8))
    oracle.run(0.0, 5.0)
    assert set(oracle.reasons()[20:]) <= {"no-signal", "artifact"}


def test_an_injected_focus_out_of_range_contradicts_and_halts(tmp_path):
    oracle = Oracle(tmp_path)
    oracle.run(0.0, 4.9)
    for _ in range(3):
        oracle.stage.inject(1.2)
    oracle.run(4.9, 5.9)
    hit = [data for _, data in oracle.lines["focus"] if data["cell"] == "contradiction"]
    assert len(hit) == 3 and hit[0]["focus"] == 1.2
    assert hit[0]["halted"] == ["brightness", "trit"]
    assert oracle.lines["focus"][-1][1]["cell"] == "value"


def test_a_user_s_propagator_hears_the_trit(tmp_path):
    oracle = Oracle(tmp_path)
    heard = []
    oracle.stage.network.add("mine", ["trit"], ["mine"], lambda t: Value(-t))
    oracle.stage.network.watch("mine", lambda cell: heard.append(cell.content))
    oracle.run(0.0, 3.0)
    assert any(isinstance(content, Value) for content in heard)


# -- channels --------------------------------------------------------------------------------------

EDF = tuple(f"{name:.<4}".capitalize() for name in ("Oz", *MONTAGE, "O1"))


@pytest.mark.parametrize(
    ("labels", "wanted", "bad", "expected"),
    [
        (MONTAGE, (), (), MONTAGE),
        (MONTAGE, (), ("F3",), tuple(label for label in MONTAGE if label != "F3")),
        (EDF, (), (), EDF[1:9]),
        (EDF, ("Oz", "O1", *MONTAGE[:4]), ("Fp1",), ("Oz..", "Fp2.", "F3..", "F4..", "O1..")),
        (("TP9", "AF7", "AF8", "TP10"), (), (), ("TP9", "AF7", "AF8", "TP10")),
        (("EEG 1", "EEG 2"), ("EEG 2",), (), ("EEG 2",)),
    ],
)
def test_channels_are_chosen_by_name(labels, wanted, bad, expected):
    assert picked(labels, wanted, bad) == expected


def test_two_bad_channels_are_left_out_and_a_third_ends_the_focus(tmp_path):
    oracle = Oracle(tmp_path, bad=("Fp1", "C4"))
    oracle.run(0.0, 2.6)
    assert oracle.lines["focus"][-1][1]["channels"] == 6
    assert oracle.stage.degraded() == []
    oracle = Oracle(tmp_path, bad=("Fp1", "C4", "P3"))
    oracle.run(0.0, 2.6)
    assert oracle.reasons()[-1] == "no-signal"
    (note,) = oracle.stage.degraded()
    assert "5 good channels (Fp2, F3, F4, C3, P4), 6 are needed" in note


# -- baseline --------------------------------------------------------------------------------------


def rested(oracle: Oracle, seconds: float, begin_s: float) -> dict:
    async def run() -> dict:
        resting = asyncio.ensure_future(oracle.stage.rest(seconds))
        await asyncio.sleep(0)
        oracle.run(begin_s, begin_s + seconds + 1.0)
        return await resting

    return asyncio.run(run())


def test_a_rest_becomes_a_baseline_that_fisher_rao_stands_on(tmp_path):
    oracle = Oracle(tmp_path, method="fisher_rao")
    oracle.run(0.0, 3.0)
    assert oracle.reasons()[-1] == "warming-up"
    told = rested(oracle, 5.0, 3.0)
    assert told["good_s"] >= 4.0
    assert (tmp_path / "baseline.npz").stat().st_mode & 0o777 == 0o600
    oracle.run(9.0, 10.5)
    assert oracle.lines["focus"][-1][1]["method"] == "fisher_rao"
    assert 0.2689 < oracle.lines["focus"][-1][1]["focus"] < 0.7
    assert Oracle(tmp_path).stage.baseline is not None, "it is there after a restart"


def test_a_bad_rest_is_refused_and_says_why(tmp_path):
    def jumping(n: int) -> np.ndarray:
        return noise(n) + (400 * (n // 60 % 2)) * np.eye(8)[0]

    oracle = Oracle(tmp_path, jumping)
    oracle.run(0.0, 3.0)
    with pytest.raises(BadBaseline, match="artifact in") as refused:
        rested(oracle, 5.0, 3.0)
    assert "try again" in refused.value.hint
    assert not (tmp_path / "baseline.npz").exists()


def test_a_baseline_of_another_montage_is_refused_by_name(tmp_path):
    path = tmp_path / "baseline.npz"
    baselines.write(path, baselines.Baseline(np.eye(8), tuple("ABCDEFGH"), 30.0, 1))
    oracle = Oracle(tmp_path, method="fisher_rao")
    assert oracle.stage.baseline is None
    assert "A B C D" in str(oracle.stage.baseline_error)
    assert "calibrate" in oracle.stage.status()["baseline_error"]
    assert any("A B C D" in note and "calibrate" in note for note in oracle.stage.degraded())
    oracle.run(0.0, 3.0)
    assert oracle.reasons()[-1] == "warming-up"


def saved(path, **changed) -> None:
    whole = {
        "format": 1, "covariance": np.eye(2), "labels": np.array(["C3", "C4"]), "rate_hz": 128.0,
        "seconds": 30.0, "unix_ns": 1,
    }  # fmt: skip
    np.savez(path, **{**whole, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rate_hz": 125.0}, "125 Hz, not 128"),
        ({"labels": np.array(["C3", "Cz"])}, "(C3 Cz), not of 2 (C3 C4)"),
        ({"labels": np.array(["C3"]), "covariance": np.eye(1)}, "of 1 channels (C3), not of 2"),
        ({"covariance": np.eye(3)}, "no covariance of 2 channels"),
        ({"covariance": np.ones((2, 2))}, "not positive definite"),
        ({"covariance": np.array([[1.0, 0.5], [0.0, 1.0]])}, "not positive definite"),
        ({"format": 2}, "of format 2"),
        ({"seconds": np.ones(2)}, "no baseline"),
    ],
)
def test_a_baseline_of_something_else_is_refused_by_what_is_wrong(tmp_path, changed, said):
    path = tmp_path / "baseline.npz"
    saved(path)
    assert baselines.load(path, ("C3", "C4")).seconds == 30.0
    saved(path, **changed)
    with pytest.raises(BadBaseline) as refused:
        baselines.load(path, ("C3", "C4"))
    assert said in refused.value.message and "calibrate" in refused.value.hint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY"])
def test_what_is_no_baseline_is_named(tmp_path, content):
    path = tmp_path / "baseline.npz"
    path.write_bytes(content)
    with pytest.raises(BadBaseline):
        baselines.load(path, ("Cz",))
