"""CCA against the textbook: QR of the centred window and of centred references, and the SVD of
their product (Björck and Golub 1973; Lin, Zhang, Wu, Gao 2006)."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat
from scipy.signal import cheby1, sosfiltfilt

from phantomd.core.cca import CanonicalCorrelation, FilterBankCCA

Array = npt.NDArray[np.float64]

RATE = 250.0
FORTY = 8 + 0.2 * np.arange(40)
EXACT = 1e-9


def references(f: float, n: int, rate: float, harmonics: int) -> Array:
    turns = f / rate * np.arange(n)
    kept = [h for h in range(1, harmonics + 1) if h * f < rate / 2]
    waves = [wave(2 * np.pi * h * turns) for h in kept for wave in (np.sin, np.cos)]
    return np.stack(waves, axis=1)


def basis(x: Array, least: float = 0.0) -> Array:
    """Orthonormal, of the centred columns; `least` leaves out what is dependent."""
    x = x - x.mean(axis=0)
    if least == 0.0:
        return np.asarray(np.linalg.qr(x)[0])
    u, sizes, _ = np.linalg.svd(x, full_matrices=False)
    return np.asarray(u[:, sizes > least * sizes[0]])


def textbook(
    x: Array, targets: Array, rate: float = RATE, harmonics: int = 5, least: float = 0.0
) -> Array:
    qx = basis(x, least)
    rho = [
        np.linalg.svd(qx.T @ basis(references(f, len(x), rate, harmonics)), compute_uv=False)[0]
        for f in targets
    ]
    return np.array(rho)


def noise(n: int, channels: int, condition: float = 1.0, seed: int = 0) -> Array:
    """Microvolts, with this condition number of the channels' covariance."""
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.standard_normal((channels, channels)))
    mixing = (u * np.geomspace(1.0, condition**-0.5, channels)) @ v
    return np.asarray(30.0 * rng.standard_normal((n, channels)) @ mixing)


def of_window(x: Array, targets: Array = FORTY, **options: int) -> CanonicalCorrelation:
    cca = CanonicalCorrelation(targets, [len(x)], rate_hz=RATE, channels=x.shape[1], **options)
    cca.push(x)
    return cca


# -- against the textbook --------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_every_window_is_the_textbooks_at_any_sample(condition: float) -> None:
    windows = (63, 125, 250, 251, 500, 1000, 2000)
    x = noise(2180, 9, condition)
    assert np.linalg.cond(np.cov(x.T)) > condition / 2
    cca = CanonicalCorrelation(FORTY, windows, rate_hz=RATE, channels=9)
    begin = 0
    for end in (2000, 2006, 2025, 2026, 2180):
        cca.push(x[begin:end])
        begin = end
        for rho, window in zip(cca.correlations(), windows, strict=True):
            expected = textbook(x[end - window : end], FORTY)
            assert abs(rho - expected).max() <= EXACT, f"{window} samples until {end}"
    assert cca.ranks == (9,) * len(windows)


def test_62_millivolts_of_drifting_offset_cost_nothing() -> None:
    offset = np.linspace(62e3, 62.1e3, 1000)[:, None] * np.linspace(-1, 1, 9)
    x = noise(1000, 9, 1e4) + offset
    rho = of_window(x).correlations()[0]
    assert abs(rho - textbook(x, FORTY)).max() <= EXACT


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape_is_the_textbooks(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 20))
    harmonics = data.draw(st.integers(1, 7))
    least = channels + 2 * harmonics + 2
    window = data.draw(st.integers(max(least, 70), 400))
    targets = np.array(data.draw(st.lists(st.floats(6.0, 40.0), min_size=1, max_size=11)))
    hop = data.draw(st.integers(1, min(window, 60)))
    x = noise(window + data.draw(st.integers(0, 130)), channels, seed=window)
    cca = CanonicalCorrelation(
        targets, [window], rate_hz=RATE, channels=channels, harmonics=harmonics, hop=hop
    )
    cca.push(x)
    expected = textbook(x[-window:], targets, harmonics=harmonics)
    assert abs(cca.correlations()[0] - expected).max() <= EXACT


def test_a_pure_tone_correlates_with_1() -> None:
    n = np.arange(250)
    x = np.stack([np.sin(2 * np.pi * 12.0 / RATE * n + phase) for phase in (0.3, 1.1)], axis=1)
    rho = of_window(x + 1e-3 * noise(250, 2), np.array([12.0, 13.0])).correlations()[0]
    assert rho[0] > 0.999
    assert of_window(x, np.array([12.0])).correlations()[0, 0] == pytest.approx(1.0, abs=1e-12)


def test_a_signal_orthogonal_to_every_reference_correlates_with_0() -> None:
    x = np.cos(2 * np.pi * 40.0 / RATE * np.arange(250))[:, None]
    assert of_window(x, np.array([9.0]), harmonics=3).correlations()[0, 0] < 1e-12


def test_the_unit_of_the_samples_changes_no_bit() -> None:
    x = noise(300, 9)
    rho = of_window(x).correlations()
    for scale in (2.0**-30, 2.0**60):
        assert np.array_equal(of_window(x * scale).correlations(), rho)


def test_each_channel_may_have_a_unit_of_its_own() -> None:
    x = noise(300, 9)
    scaled = x * 10.0 ** np.arange(-4, 5)
    assert abs(of_window(scaled).correlations() - of_window(x).correlations()).max() <= EXACT


def test_a_billion_samples_later_the_phases_still_add_up() -> None:
    """The count is all that time leaves; it is the first field of the state."""
    hop, later = 25, 25 * 40_000_000
    x = noise(333, 4)
    cca = CanonicalCorrelation(FORTY, [300], rate_hz=RATE, channels=4, hop=hop)
    state = cca.save()
    cca.restore(later.to_bytes(8, "little") + state[8:])
    cca.push(x)
    assert cca.count == later + 333
    assert abs(cca.correlations()[0] - textbook(x[-300:], FORTY)).max() <= EXACT


# -- rank ------------------------------------------------------------------------------------------


def test_average_reference_takes_one_from_the_rank_and_nothing_from_the_result() -> None:
    x = noise(400, 9)
    x -= x.mean(axis=1, keepdims=True)
    cca = of_window(x)
    rho = cca.correlations()[0]
    assert cca.ranks == (8,)
    assert abs(rho - textbook(x[:, :8], FORTY)).max() <= EXACT


def test_combinations_of_other_channels_are_left_out() -> None:
    x = noise(400, 5)
    more = np.concatenate((x, x[:, :1], x @ np.ones((5, 1)), x[:, 1:2] - 3 * x[:, 4:]), axis=1)
    cca = of_window(more)
    rho = cca.correlations()[0]
    assert cca.ranks == (5,)
    assert abs(rho - textbook(more, FORTY, least=1e-10)).max() <= EXACT


@pytest.mark.parametrize("level", [0.0, 62e3, -187499.99, 1e-300])
def test_a_flat_channel_is_left_out(level: float) -> None:
    x = noise(300, 4)
    flat = np.insert(x, 2, level, axis=1)
    cca = of_window(flat)
    assert abs(cca.correlations()[0] - textbook(x, FORTY)).max() <= EXACT
    assert cca.ranks == (4,)


def test_what_is_only_rounding_noise_on_a_level_is_flat() -> None:
    x = noise(300, 4)
    rng = np.random.default_rng(5)
    level = 62e3 + np.spacing(62e3) * rng.integers(-1, 2, (300, 1))
    cca = of_window(np.concatenate((x, level), axis=1))
    assert abs(cca.correlations()[0] - textbook(x, FORTY)).max() <= EXACT
    assert cca.ranks == (4,)
    alone = of_window(level)
    assert np.isnan(alone.correlations()).all()
    assert alone.states == ("flat",)


@pytest.mark.parametrize("value", [0.0, 62e3, 5e-324])
def test_no_variance_is_undefined_not_zero(value: float) -> None:
    cca = of_window(np.full((200, 3), value))
    assert np.isnan(cca.correlations()).all()
    assert cca.states == ("flat",)
    assert cca.ranks == (0,)


def test_denormal_samples_are_flat() -> None:
    cca = of_window(1e-310 * noise(200, 3))
    assert np.isnan(cca.correlations()).all()
    assert cca.states == ("flat",)


def test_one_channel() -> None:
    x = noise(150, 1)
    cca = of_window(x)
    assert abs(cca.correlations()[0] - textbook(x, FORTY)).max() <= EXACT
    assert cca.ranks == (1,)


def test_more_channels_than_references() -> None:
    x = noise(400, 30)
    rho = of_window(x, harmonics=2).correlations()[0]
    assert abs(rho - textbook(x, FORTY, harmonics=2)).max() <= EXACT


def test_equal_correlations_are_no_trouble() -> None:
    """Four channels that are references themselves: four times 1."""
    tone = references(11.0, 250, RATE, 2)
    rho = of_window(tone, np.array([11.0, 30.0])).correlations()[0]
    assert rho[0] == pytest.approx(1.0, abs=1e-12)


def test_harmonics_from_half_the_rate_on_are_left_out_and_it_is_said() -> None:
    targets = np.array([10.0, 25.0, 31.25, 41.0, 62.5, 124.0])
    x = noise(300, 6)
    cca = of_window(x, targets)
    assert cca.harmonics == (5, 4, 3, 3, 1, 1)
    assert cca.references == ((10, 8, 6, 6, 2, 2),)
    assert abs(cca.correlations()[0] - textbook(x, targets)).max() <= EXACT


def test_harmonics_that_a_short_window_can_not_tell_apart_are_left_out() -> None:
    """A tenth of a turn: the harmonics are polynomials of low degree, and soon dependent."""
    cca = of_window(noise(50, 1), np.array([0.5, 20.0]))
    rho = cca.correlations()[0]
    assert cca.references[0][0] < cca.references[0][1] == 10
    assert 0 < rho[0] < 1


# -- absence ---------------------------------------------------------------------------------------


def test_a_window_is_undefined_until_it_is_full() -> None:
    cca = CanonicalCorrelation(FORTY, [100, 130], rate_hz=RATE, channels=3)
    assert cca.states == ("filling", "filling")
    x = noise(130, 3)
    cca.push(x[:99])
    assert np.isnan(cca.correlations()).all()
    cca.push(x[99:100])
    rho = cca.correlations()
    assert np.isfinite(rho[0]).all()
    assert np.isnan(rho[1]).all()
    assert cca.states == ("defined", "filling")
    cca.reset()
    assert cca.states == ("filling", "filling")
    assert np.isnan(cca.correlations()).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_a_missing_sample_makes_its_windows_undefined_and_then_no_bit_of_it_is_left(
    value: float,
) -> None:
    windows = (60, 200)
    x = noise(700, 5)
    struck = x.copy()
    struck[333, 2] = value
    clean, cca = (CanonicalCorrelation(FORTY, windows, rate_hz=RATE, channels=5) for _ in range(2))
    for i in range(700):
        clean.push(x[i : i + 1])
        cca.push(struck[i : i + 1])
        if i < 200 or (i % 7 and not 390 <= i <= 395 and not 530 <= i <= 535):
            continue
        expected, rho = clean.correlations(), cca.correlations()
        for w, window in enumerate(windows):
            inside = 333 <= i < 333 + window
            assert cca.states[w] == ("missing" if inside else "defined")
            assert np.isnan(rho[w]).all() if inside else np.array_equal(rho[w], expected[w])


def test_a_reset_leaves_no_bit_of_what_was_before() -> None:
    x = noise(300, 5)
    fresh, cca = (CanonicalCorrelation(FORTY, [200], rate_hz=RATE, channels=5) for _ in "ab")
    cca.push(np.full((444, 5), np.nan))
    cca.reset()
    cca.push(x)
    fresh.push(x)
    assert np.array_equal(cca.correlations(), fresh.correlations())


def test_200_millivolts_leave_no_bit_behind() -> None:
    x = noise(600, 8) + 62e3
    struck = x.copy()
    struck[300:303] += 200e3
    clean, cca = (CanonicalCorrelation(FORTY, [250], rate_hz=RATE, channels=8) for _ in range(2))
    clean.push(x[:400])
    cca.push(struck[:400])
    assert not np.array_equal(cca.correlations(), clean.correlations())
    clean.push(x[400:553])
    cca.push(struck[400:553])
    assert np.array_equal(cca.correlations(), clean.correlations())


# -- the object ------------------------------------------------------------------------------------


def test_any_cut_of_the_samples_gives_the_same_bits() -> None:
    x = noise(500, 9)
    whole, cut = (CanonicalCorrelation(FORTY, [77, 250], rate_hz=RATE, channels=9) for _ in "ab")
    whole.push(x)
    for part in np.split(x, [3, 4, 30, 131, 131, 499]):
        cut.push(part)
    assert np.array_equal(whole.correlations(), cut.correlations())


def test_bound_buffers_do_what_push_and_correlations_do() -> None:
    x = noise(300, 9)
    plain, fast = (CanonicalCorrelation(FORTY, [100], rate_hz=RATE, channels=9) for _ in "ab")
    buffer, out = np.empty((6, 9)), np.empty((1, 40))
    step = fast.bind(buffer, out)
    for i in range(0, 300, 6):
        buffer[:] = x[i : i + 6]
        step()
        plain.push(x[i : i + 6])
        assert np.array_equal(out, plain.correlations(), equal_nan=True)


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    x = noise(500, 9)
    first, second = (CanonicalCorrelation(FORTY, [100], rate_hz=RATE, channels=9) for _ in "ab")
    first.push(x[:333])
    second.restore(first.save())
    first.push(x[333:])
    second.push(x[333:])
    assert np.array_equal(first.correlations(), second.correlations())
    other = CanonicalCorrelation(FORTY + 0.1, [100], rate_hz=RATE, channels=9)
    with pytest.raises(ValueError, match="not the state"):
        other.restore(first.save())


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets_hz": [125.0]},
        {"targets_hz": [0.0]},
        {"targets_hz": [math.nan]},
        {"targets_hz": []},
        {"windows": [19]},
        {"windows": [0]},
        {"windows": []},
        {"hop": 101},
        {"hop": 0},
        {"harmonics": 0},
        {"harmonics": 11},
        {"channels": 65},
        {"rate_hz": math.inf},
        {"rate_hz": math.nan},
    ],
)
def test_what_can_not_be_is_refused(wrong: dict[str, object]) -> None:
    good = {"targets_hz": [10.0], "windows": [100], "rate_hz": 250.0, "channels": 8}
    CanonicalCorrelation(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no CCA of|empty|no window"):
        CanonicalCorrelation(**(good | wrong))  # type: ignore[arg-type]


def test_samples_of_another_shape_are_refused() -> None:
    cca = CanonicalCorrelation([10.0], [100], rate_hz=RATE, channels=8)
    with pytest.raises(ValueError, match="7 channels, not 8"):
        cca.push(np.zeros((3, 7)))
    with pytest.raises(ValueError):
        cca.push(np.zeros(8))
    with pytest.raises(ValueError, match="not of 8 channels"):
        cca.bind(np.zeros((3, 7)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="not 1 windows x 1 targets"):
        cca.bind(np.zeros((3, 8)), np.zeros((1, 2)))


# -- filter bank -----------------------------------------------------------------------------------


def test_the_filter_bank_weighs_squared_correlations() -> None:
    x = np.stack([noise(260, 8, seed=band) for band in range(5)])
    bank = FilterBankCCA(FORTY, [125, 250], bands=5, rate_hz=RATE, channels=8)
    bank.push(x)
    weights = np.arange(1, 6) ** -1.25 + 0.25
    assert bank.weights == pytest.approx(weights, rel=1e-14)
    for window, scores in zip((125, 250), bank.scores(), strict=True):
        rho = np.stack([textbook(band[-window:], FORTY) for band in x])
        assert abs(scores - weights @ rho**2).max() <= EXACT


def test_a_band_that_is_undefined_makes_the_score_so() -> None:
    x = np.stack([noise(250, 8, seed=band) for band in range(3)])
    x[1, 40, 3] = np.nan
    bank = FilterBankCCA(FORTY, [100, 250], bands=3, rate_hz=RATE, channels=8)
    bank.push(x)
    scores = bank.scores()
    assert np.isfinite(scores[0]).all()
    assert np.isnan(scores[1]).all()
    with pytest.raises(ValueError, match="not \\(bands, samples, channels\\)"):
        bank.push(x[:2])


# -- people ----------------------------------------------------------------------------------------

TWELVE = np.array(
    [9.25, 11.25, 13.25, 9.75, 11.75, 13.75, 10.25, 12.25, 14.25, 10.75, 12.75, 14.75]
)
LATENCY = 35  # samples of 256 Hz: 0.135 s from the eye to the visual cortex
# Percent without and with a filter bank; the mean of all ten subjects: 51.3, 55.7; 80.0, 85.0.
RIGHT = {
    ("S08", 1): (53.3, 55.0),
    ("S08", 2): (90.0, 95.0),
    ("S09", 1): (90.0, 86.7),
    ("S09", 2): (100.0, 100.0),
}


@pytest.mark.realdata
@pytest.mark.parametrize(("subject", "seconds"), list(RIGHT))
def test_real_trials_are_told_as_the_textbook_tells_them(
    data_dir: Path, subject: str, seconds: int
) -> None:
    path = data_dir / "ssvep12_ucsd" / f"{subject}testEEG.mat"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    data = loadmat(path)
    trials, labels = np.moveaxis(data["X"], 2, 0), data["y"].ravel() - 1
    designs = [cheby1(4, 0.5, (8 * n - 2 * (n == 1), 88), "bandpass", output="sos", fs=256.0)
               for n in (1, 2, 3)]  # fmt: skip
    window, rate = 256 * seconds, 256.0
    cca = CanonicalCorrelation(TWELVE, [window], rate_hz=rate, channels=8)
    bank = FilterBankCCA(TWELVE, [window], bands=3, rate_hz=rate, channels=8)
    weights = np.array(bank.weights)
    hits = np.zeros(2)
    for trial, label in zip(trials, labels, strict=True):
        seen = slice(LATENCY, LATENCY + window)
        bands = np.stack([sosfiltfilt(sos, trial, axis=0)[seen] for sos in designs])
        cca.reset()
        cca.push(trial[seen])
        bank.reset()
        bank.push(bands)
        rho, score = cca.correlations()[0], bank.scores()[0]
        expected = textbook(trial[seen], TWELVE, rate)
        in_bands = np.stack([textbook(band, TWELVE, rate) for band in bands])
        assert abs(rho - expected).max() <= EXACT
        assert rho.argmax() == expected.argmax()
        assert score.argmax() == (weights @ in_bands**2).argmax()
        hits += (rho.argmax() == label, score.argmax() == label)
    assert tuple(100 * hits / len(trials)) == pytest.approx(RIGHT[subject, seconds], abs=0.05)
