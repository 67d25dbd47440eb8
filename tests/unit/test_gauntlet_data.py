"""Datasets: the embedded one against the facts page, filters, folders, and stress on counts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from spiking import dataset

from phantomd.core.gauntlet import NO_TRIAL, TRIAL, Stress
from phantomd.errors import (
    BadTrials,
    DatasetError,
    DatasetTooBig,
    FilterEmpty,
    NoUnits,
    PhantomError,
)
from phantomd.gauntlet.dataset import Dataset, narrow
from phantomd.gauntlet.stress import LEVELS, StressConfig, compiled, turned
from phantomd.gauntlet.synthetic import refractory, synthetic


@pytest.fixture(scope="module")
def cortex() -> Dataset:
    return synthetic()


# -- the embedded cortex: numbers of the facts page (MC_Maze small) --------------------------------


def test_it_has_the_shape_of_the_recording(cortex):
    assert cortex.n_units == 142
    assert cortex.n_bins == 11_746
    assert cortex.bin_ms == 25.0
    assert cortex.duration_s == pytest.approx(293.65)
    assert len(cortex.trials) == 100
    lengths_s = (cortex.trials["stop"] - cortex.trials["start"]) * 0.025
    assert lengths_s.mean() == pytest.approx(2.88, abs=0.005)
    assert cortex.targets() == {0: 77, 1: 11, 2: 12}


def test_it_fires_as_the_recording_does(cortex):
    a_bin = cortex.counts.sum(axis=1)
    assert a_bin.mean() == pytest.approx(10.0, abs=0.2)
    # Shared variability: the units together vary more than as many independent ones.
    assert a_bin.var() / a_bin.mean() > 1.1
    rates_hz = cortex.counts.mean(axis=0) / 0.025
    assert rates_hz.min() > 0.05 and rates_hz.max() < 60


def test_its_units_say_where_the_hand_goes(cortex):
    """Single-bin ridge is poor, ten lags are good, as on the recording (0.078; 0.80 for 250 ms
    of history in a recurrent network)."""
    one, ten = ridge_r2(cortex, 1), ridge_r2(cortex, 10)
    assert 0.05 < one < 0.35
    assert ten > 0.5


def ridge_r2(data: Dataset, lags: int) -> float:
    x, v = data.counts.astype(float), data.kinematics[:, 2:4].astype(float)
    z = np.concatenate([np.roll(x, lag, axis=0) for lag in range(lags)], axis=1)[lags:]
    v = v[lags:]
    n = len(z) * 4 // 5
    mean, bias = z[:n].mean(axis=0), v[:n].mean(axis=0)
    a = z[:n] - mean
    w = np.linalg.solve(a.T @ a + 300 * np.eye(a.shape[1]), a.T @ (v[:n] - bias))
    error = v[n:] - ((z[n:] - mean) @ w + bias)
    return float(1 - (error**2).sum() / ((v[n:] - v[n:].mean(axis=0)) ** 2).sum())


def test_its_movement_is_its_own_integral(cortex):
    x, v = cortex.kinematics[:, :2].astype(float), cortex.kinematics[:, 2:].astype(float)
    middle = (x[2:] - x[:-2]) / 2
    inside = cortex.trial_of[1:-1] != NO_TRIAL
    inside &= (cortex.trial_of[:-2] == cortex.trial_of[1:-1]) & (
        cortex.trial_of[2:] == cortex.trial_of[1:-1]
    )
    error = (middle - v[1:-1] * 0.025)[inside]
    assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((middle[inside] ** 2).mean())


def test_reaches_end_at_their_targets(cortex):
    for trial in cortex.trials[:20]:
        way = cortex.kinematics[trial["start"] : trial["stop"], :2]
        far = np.hypot(way[:, 0] - trial["target_x"], way[:, 1] - trial["target_y"])
        assert far.min() < 8.0
        assert np.hypot(*way[0]) < 10.0


def test_the_same_seed_gives_the_same_cortex(cortex):
    again = synthetic.__wrapped__()
    assert (again.counts == cortex.counts).all()
    assert (again.kinematics == cortex.kinematics).all()
    assert (synthetic(7).counts != cortex.counts).any()


def test_refractory_times_keep_their_distance():
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 1, 2000))
    kept = refractory(times, 0.002)
    slow = [times[0]]
    for t in times[1:]:
        if t - slow[-1] >= 0.002:
            slow.append(t)
    np.testing.assert_array_equal(kept, slow)


# -- filters and checks ----------------------------------------------------------------------------


def test_a_filter_gives_the_bins_of_its_trials():
    data = dataset()
    assert data.select(None, None).tolist() == [[0, 40]]
    assert data.select(1, None).tolist() == [[4, 20]]
    assert data.select(None, 9).tolist() == [[22, 38]]


@pytest.mark.parametrize("asked", [(5, None), (None, 8), (1, 9)])
def test_a_filter_that_matches_nothing_says_what_there_is(asked):
    with pytest.raises(FilterEmpty) as caught:
        dataset().select(*asked)
    assert caught.value.code == "filter-empty"
    assert "targets: 0 (1 trials), 1 (1 trials)" in caught.value.hint
    assert "ids 7..9" in caught.value.hint


def trials(*rows: tuple) -> np.ndarray:
    out = np.zeros(len(rows), TRIAL)
    for i, row in enumerate(rows):
        out[i] = (*row, 0)
    return out


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 5, 5, 0, 0.0, 0.0)], "bins 5..5"),
        ([(0, 5, 50, 0, 0.0, 0.0)], "bins 5..50"),
        ([(0, 0, 9, 0, 0.0, 0.0), (1, 8, 12, 0, 0.0, 0.0)], "inside the one before"),
        ([(0, 0, 9, 0, np.nan, 0.0)], "without a position"),
    ],
)
def test_trials_that_can_not_be_are_refused(rows, words):
    with pytest.raises(BadTrials, match=words):
        replace(dataset(), trials=trials(*rows))


def test_a_dataset_is_checked_when_it_is_made():
    data = dataset()
    with pytest.raises(NoUnits):
        replace(data, counts=np.zeros((40, 0), np.uint8))
    with pytest.raises(DatasetError, match="kinematics"):
        replace(data, kinematics=np.zeros((39, 4), np.float32))
    with pytest.raises(DatasetTooBig):
        replace(data, counts=np.zeros((40, 1025), np.uint8))
    with pytest.raises(DatasetError, match="bins of"):
        replace(data, bin_ms=0.5)
    with pytest.raises(DatasetError, match="whole numbers"):
        narrow(np.full((3, 3), 0.5))
    with pytest.raises(DatasetError, match="from -1"):
        narrow(np.full((3, 3), -1))


def test_a_folder_comes_back_as_it_was_and_mapped(tmp_path):
    data = dataset()
    data.save(tmp_path / "set")
    again = Dataset.load(tmp_path / "set")
    assert isinstance(again.counts, np.memmap)
    assert (again.counts == data.counts).all()
    assert (again.kinematics == data.kinematics).all()
    assert (again.trials == data.trials).all()
    assert again.metadata() == data.metadata()
    data.save(tmp_path / "set")  # again, in its place
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_a_damaged_folder_is_refused_by_name(tmp_path):
    dataset().save(tmp_path / "set")
    for name in ("counts.npy", "kinematics.npy", "trials.npy", "dataset.json"):
        whole = (tmp_path / "set" / name).read_bytes()
        for damage in (b"", whole[: len(whole) // 2], b"\x93NUMPY" + b"\xff" * 100):
            (tmp_path / "set" / name).write_bytes(damage)
            with pytest.raises(PhantomError):
                Dataset.load(tmp_path / "set")
        (tmp_path / "set" / name).write_bytes(whole)
    Dataset.load(tmp_path / "set")


def test_another_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DatasetError, match="no dataset"):
        dataset().save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


# -- stress on counts ------------------------------------------------------------------------------

N = 142


def many(n: int, counts: np.ndarray, **faults: float) -> np.ndarray:
    plan = Stress(StressConfig(seed=3, **faults), len(counts))
    return np.array([plan.counts(i, i * 0.025, counts.astype(np.uint16)) for i in range(n)])


def test_noise_has_the_reference_formulas_moments():
    """c += N sigma (c + 1): of counts far from 0 mean and deviation are known."""
    c = 100.0
    out = many(400, np.full(N, c), noise_std=0.2)
    assert out.mean() == pytest.approx(c, abs=0.5)
    assert out.std() == pytest.approx(0.2 * (c + 1), rel=0.02)


def test_noise_on_silence_is_rounded_and_not_cut():
    """P(round(sigma N) = k) for sigma 1: a truncating one would have 0.68 zeros among positives."""
    out = many(400, np.zeros(N), noise_std=1.0)
    assert (out == 0).mean() == pytest.approx(norm.cdf(0.5), abs=0.01)
    assert (out == 1).mean() == pytest.approx(norm.cdf(1.5) - norm.cdf(0.5), abs=0.01)


def test_drift_follows_the_two_sines():
    plan = Stress(StressConfig(seed=3, drift_amplitude=0.3, drift_period_s=60.0), N)
    counts = np.full(N, 1000, np.uint16)
    t_s = np.arange(0, 60, 0.5)
    out = np.array([plan.counts(i, t, counts).mean() for i, t in enumerate(t_s)])
    d = 0.3 * np.sin(2 * np.pi * t_s / 60) + 0.03 * np.sin(2 * np.pi * t_s / 6)
    slope = np.polyfit(d * 1001, out - 1000, 1)[0]
    assert slope == pytest.approx(1.0, abs=0.08)  # the units' offsets: 0.3 / sqrt(142)
    np.testing.assert_allclose(out - 1000, slope * d * 1001, atol=1.0)


def test_drift_of_each_unit_differs_by_three_tenths():
    plan = Stress(StressConfig(seed=3, drift_amplitude=0.1), 1000)
    out = plan.counts(0, 15.0, np.full(1000, 10_000, np.uint16)).astype(float) - 10_000
    assert (out / out.mean()).std() == pytest.approx(0.3, abs=0.02)


def test_dropout_silences_its_part_and_a_larger_one_the_same_units_too():
    few = many(1, np.ones(N), dropout=0.2)[0] == 0
    more = many(1, np.ones(N), dropout=0.6)[0] == 0
    assert few.sum() == round(0.2 * N)
    assert more.sum() == round(0.6 * N)
    assert not (few & ~more).any()
    assert (many(5, np.ones(N), dropout=0.2) == many(1, np.ones(N), dropout=0.2)).all()


def test_gain_is_drawn_once_a_unit_and_keeps_small_counts_unbiased():
    large = many(1, np.full(N, 10_000), gain_std=0.4)[0] / 10_000
    assert np.log(large).std() == pytest.approx(0.4, abs=0.06)
    small = many(4000, np.ones(N), gain_std=0.4).mean(axis=0)
    np.testing.assert_allclose(small, large, atol=0.05)


def test_a_shift_moves_spikes_along_the_array():
    counts = np.arange(1, N + 1)
    whole = many(1, counts, shift=3.0)[0]
    assert whole[:3].tolist() == [0, 0, 0]
    assert (whole[3:] == counts[:-3]).all()
    part = many(2000, np.full(N, 4), shift=1.25)
    # A quarter of each unit's spikes go on to the next place, which has three quarters of its own.
    assert part[:, 10].mean() == pytest.approx(4.0, abs=0.1)
    assert part[:, 1].mean() == pytest.approx(3.0, abs=0.1)
    assert part[:, 0].sum() == 0


def test_levels_are_the_specifications():
    assert {name: tuple(values.values()) for name, values in LEVELS.items()} == {
        "none": (),
        "light": (0.2, 0.1),
        "moderate": (0.5, 0.3),
        "intense": (1.0, 0.5),
        "extreme": (2.0, 0.8),
    }
    quiet = StressConfig(seed=1)
    assert not quiet.is_on
    extreme = quiet.changed("extreme", {"dropout": 0.1})
    assert extreme.faults() == {"noise_std": 2.0, "drift_amplitude": 0.8, "dropout": 0.1}
    assert extreme.changed("none", {}) == quiet


def test_stress_out_of_range_is_refused():
    for fault in ({"noise_std": -1.0}, {"dropout": 1.5}, {"loss": float("nan")}, {"shift": 1e9}):
        with pytest.raises(ValueError, match="can't have"):
            Stress(StressConfig(**fault), N)


@pytest.mark.parametrize("degrees", [90.0, -45.0])
def test_a_rotation_turns_the_preferred_directions(cortex, degrees):
    tuning = cortex.tuning
    source = turned(tuning, cortex.counts.mean(axis=0), degrees)
    assert sorted(source.tolist()) == list(range(N))
    depth = np.hypot(*tuning.T)
    strong = depth > np.median(depth)
    before = np.arctan2(tuning[strong, 1], tuning[strong, 0])
    after = np.arctan2(tuning[source, 1], tuning[source, 0])[strong]
    turn = np.angle(np.exp(1j * (after - before)))
    assert np.rad2deg(np.median(turn)) == pytest.approx(degrees, abs=8)


def test_a_rotated_session_points_elsewhere(cortex):
    plan = compiled(StressConfig(rotation_deg=90.0), N, cortex)
    assert plan is not None
    counts = np.array(
        [plan.counts(i, 0.0, c.astype(np.uint16)) for i, c in enumerate(cortex.counts)]
    )
    rotated = replace(cortex, counts=narrow(counts))
    a, b = cortex.tuning @ [1, 1j], rotated.tuning @ [1, 1j]
    assert np.rad2deg(np.angle((b * a.conj()).sum())) == pytest.approx(90, abs=10)
