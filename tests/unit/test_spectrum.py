"""Welch spectra against scipy.signal.welch and numpy.trapezoid; spectrogram rows; odd numbers."""

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import rfftfreq
from scipy.signal import welch

from phantomd.core.spectrum import Spectrogram, Welch

Array = npt.NDArray[np.float64]

RATE_HZ = 128.0
EXACT = 1e-12  # of the largest bin


def eeg(n: int, channels: int, seed: int = 0) -> Array:
    """µV: a random walk, noise and an oscillation on electrode offsets."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((n, channels)), axis=0)
    wave = 15 * np.sin(2 * np.pi * 10.3 * np.arange(n)[:, None] / RATE_HZ + rng.uniform(0, 6))
    return walk + wave + 5 * rng.standard_normal((n, channels)) + rng.uniform(-99, 99, channels)


def reference(x: Array, **options: Any) -> Array:
    if options.get("detrend") == "none":
        options["detrend"] = False
    _, psd = welch(x, RATE_HZ, axis=0, **options)
    return np.asarray(psd)


def assert_exact(psd: Array, r: Array, share: float = EXACT) -> None:
    assert (abs(psd - r) <= share * r.max(axis=0)).all()


# -- exactness -------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    nperseg = draw(st.integers(3, 150))
    return {
        "nperseg": nperseg,
        "noverlap": draw(st.integers(0, nperseg - 1)),
        "nfft": nperseg + draw(st.integers(0, 50)),
        "detrend": draw(st.sampled_from(["none", "constant", "linear"])),
        "scaling": draw(st.sampled_from(["density", "spectrum"])),
        "average": draw(st.sampled_from(["mean", "median"])),
    }


@settings(max_examples=100, deadline=None)
@given(
    options=plans(), more=st.integers(0, 300), channels=st.integers(1, 19), seed=st.integers(0, 999)
)
def test_any_plan_comes_out_as_from_scipy(
    options: dict[str, Any], more: int, channels: int, seed: int
) -> None:
    x = eeg(options["nperseg"] + more, channels, seed)
    plan = Welch(channels, RATE_HZ, **options, max_segments=301)
    assert_exact(plan.psd(x), reference(x, **options))


@pytest.mark.parametrize("name", ["boxcar", "hamming", "blackman", ("kaiser", 7.0), ("dpss", 3)])
def test_any_window_goes(name: Any) -> None:
    from scipy.signal import get_window

    x = eeg(500, 3)
    window = get_window(name, 100)
    psd = Welch(3, RATE_HZ, nperseg=100, window=window).psd(x)
    assert_exact(psd, reference(x, nperseg=100, window=window))


@pytest.mark.parametrize("n", [1, 2, 7, 97, 121, 250, 251, 997, 1024, 4099])
def test_any_length_goes(n: int) -> None:
    x = eeg(3 * n, 2)
    plan = Welch(2, RATE_HZ, nperseg=n, detrend="none")
    assert_exact(plan.psd(x), reference(x, nperseg=n, detrend="none"))
    assert np.array_equal(plan.frequencies, rfftfreq(n, 1 / RATE_HZ))


def test_62_millivolts_of_offset_leave_no_rounding() -> None:
    """SciPy's own result is then exact to 1e-11, so the reference is without the offset."""
    x = np.round(eeg(256, 4), 6)
    far = x + 62e3
    r = reference(np.asarray(np.longdouble(far) - 62000, np.float64), nperseg=64)
    assert_exact(Welch(4, RATE_HZ, nperseg=64).psd(far), r)


def test_channels_have_the_bits_that_they_have_alone() -> None:
    x = eeg(400, 11)
    together = Welch(11, RATE_HZ, nperseg=90).psd(x)
    for channel in range(11):
        alone = Welch(1, RATE_HZ, nperseg=90).psd(x[:, channel : channel + 1])
        assert np.array_equal(alone[:, 0], together[:, channel])


def test_all_ways_of_calling_give_the_same_bits() -> None:
    x = eeg(300, 8)
    plan = Welch(8, RATE_HZ, nperseg=64)
    expected = plan.psd(x)
    out = np.empty_like(expected)
    assert plan.psd(x.tolist(), out) is out
    assert np.array_equal(out, expected)
    assert np.array_equal(plan.psd(np.asfortranarray(x)), expected)
    assert np.array_equal(plan.psd(x[::-1][::-1]), expected)
    assert plan.segments(300) == 8


# -- band powers -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    low=st.one_of(st.floats(0, 64), st.integers(0, 32).map(lambda k: 2.0 * k)),
    width=st.one_of(st.floats(0, 40), st.integers(0, 20).map(lambda k: 2.0 * k)),
    seed=st.integers(0, 99),
)
def test_a_band_is_the_trapezoid_over_its_bins(low: float, width: float, seed: int) -> None:
    x = eeg(128, 3, seed)
    plan = Welch(3, RATE_HZ, nperseg=64)
    psd = plan.psd(x)
    f = plan.frequencies
    inside = (f >= low) & (f <= low + width)
    (power,) = plan.band_power([(low, low + width)])
    if inside.sum() < 2:
        assert np.isnan(power).all()
    else:
        r = np.trapezoid(psd[inside], f[inside], axis=0)
        assert abs(power - r).max() <= EXACT * r.max()


def focus_of(ratios: Array) -> float:
    return float(1 / (1 + np.exp(-2 * (ratios.mean() - 1))))


@pytest.mark.parametrize("seed", range(20))
def test_focus_is_that_of_the_specification(seed: int) -> None:
    """specs/neurofeedback-oracle.md, Stage 1, with welch(fs=) and numpy.trapezoid."""
    x = eeg(128, 8, seed)

    def band_power(s: Array, low: float, high: float) -> float:
        f, psd = welch(s, fs=RATE_HZ, nperseg=min(len(s), 64))
        inside = np.logical_and(f >= low, f <= high)
        return float(np.trapezoid(psd[inside], f[inside]))

    r = [band_power(s, 13.0, 30.0) / band_power(s, 8.0, 12.0) for s in x.T]
    plan = Welch(8, RATE_HZ, nperseg=64)
    plan.psd(x)
    beta, alpha = plan.band_power([(13.0, 30.0), (8.0, 12.0)])
    assert abs(beta / alpha - r).max() <= 1e-11 * max(r)
    assert abs(focus_of(beta / alpha) - focus_of(np.array(r))) <= 1e-9


def test_band_power_is_of_the_last_psd_or_of_a_given_one() -> None:
    plan = Welch(2, RATE_HZ, nperseg=64)
    first = plan.psd(eeg(128, 2, 0)).copy()
    expected = plan.band_power([(8, 12)])
    plan.psd(eeg(128, 2, 1))
    assert not np.array_equal(plan.band_power([(8, 12)]), expected)
    assert np.array_equal(plan.band_power([(8, 12)], first), expected)


# -- what there is not -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, 2e140])
@pytest.mark.parametrize("average", ["mean", "median"])
def test_a_missing_value_is_nan_in_its_channel_alone(missing: float, average: Any) -> None:
    x = eeg(300, 10)
    plan = Welch(10, RATE_HZ, nperseg=64, average=average)
    whole = plan.psd(x)
    x[150, 3] = missing
    torn = plan.psd(x)
    assert np.isnan(torn[:, 3]).all()
    others = np.arange(10) != 3
    assert np.array_equal(torn[:, others], whole[:, others])
    assert np.isnan(plan.band_power([(8, 12)])[0]).tolist() == [c == 3 for c in range(10)]


def test_what_lies_behind_the_last_segment_does_not_count() -> None:
    x = eeg(100, 1)
    expected = Welch(1, RATE_HZ, nperseg=64).psd(x[:96])
    x[96:] = np.nan
    assert np.array_equal(Welch(1, RATE_HZ, nperseg=64).psd(x), expected)


@pytest.mark.parametrize("n", [0, 1, 63])
def test_fewer_samples_than_a_segment_are_undefined(n: int) -> None:
    plan = Welch(3, RATE_HZ, nperseg=64)
    assert np.isnan(plan.psd(eeg(n, 3))).all()
    assert np.isnan(plan.band_power([(8, 12)])).all()


@pytest.mark.parametrize("detrend", ["constant", "linear"])
def test_a_flat_channel_has_the_power_zero(detrend: Any) -> None:
    psd = Welch(1, RATE_HZ, nperseg=64, detrend=detrend).psd(np.full((128, 1), 62e3 + 0.1))
    assert (psd == 0).all()


def test_denormals_are_zero_and_the_thread_has_its_own_back() -> None:
    assert (Welch(1, RATE_HZ, nperseg=64).psd(np.full((64, 1), 5e-324)) == 0).all()
    assert np.float64(np.finfo(np.float64).tiny) / 2 > 0


def test_the_largest_values_leave_no_infinity() -> None:
    x = np.where(np.arange(4096) % 2, 1e140, -1e140)[:, None]
    psd = Welch(1, RATE_HZ, nperseg=4096).psd(x)
    assert np.isfinite(psd).all()
    assert psd[-1, 0] > 1e279


# -- spectrogram -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 70), min_size=1, max_size=8).filter(any))
def test_rows_are_welch_in_decibels_whatever_the_blocks(sizes: list[int]) -> None:
    x = eeg(500, 9)
    rows = Spectrogram(9, RATE_HZ, nperseg=64, hop=10)
    pieces, start, i = [], 0, 0
    while start < len(x):
        pieces.append(rows.push(x[start : start + sizes[i % len(sizes)]]))
        start += sizes[i % len(sizes)]
        i += 1
    told = np.concatenate(pieces)
    plan = Welch(9, RATE_HZ, nperseg=64)
    starts = range(0, 500 - 64 + 1, 10)
    expected = [10 * np.log10(plan.psd(x[start : start + 64])) for start in starts]
    assert told.shape == (len(starts), 33, 9)
    assert abs(told - np.array(expected)).max() <= 1e-10
    rows.reset()
    assert np.array_equal(rows.push(x), told)


def test_a_gap_is_nan_while_it_is_in_the_segment() -> None:
    x = eeg(400, 2)
    x[100, 1] = np.nan
    told = Spectrogram(2, RATE_HZ, nperseg=64, hop=16).push(x)
    assert np.isfinite(told[:, :, 0]).all()
    starts = 16 * np.arange(len(told))
    torn = (starts <= 100) & (starts + 64 > 100)
    assert np.array_equal(np.isnan(told[:, :, 1]).all(axis=1), torn)


def test_silence_is_shown_as_the_floor() -> None:
    told = Spectrogram(1, RATE_HZ, nperseg=64, floor_db=-90.0).push(np.zeros((100, 1)))
    assert told.size > 0
    assert (told == -90.0).all()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nperseg": 0}, "segments of 0"),
        ({"nperseg": 2**20 + 1}, "segments of"),
        ({"nperseg": 64, "noverlap": 64}, "overlap of 64"),
        ({"nperseg": 64, "noverlap": -1}, "overlap of -1"),
        ({"nperseg": 64, "nfft": 63}, "nfft 63"),
        ({"nperseg": 4, "window": [1.0, 2.0]}, "window of 2 values"),
        ({"nperseg": 4, "window": np.zeros(4)}, "no sum"),
        ({"nperseg": 4, "window": [1, -1, 1, -1], "scaling": "spectrum"}, "no sum"),
        ({"nperseg": 4, "window": [1, math.nan, 1, 1]}, "no sum"),
        ({"detrend": "cubic"}, "detrend 'cubic'"),
        ({"scaling": "energy"}, "scaling 'energy'"),
        ({"average": "mode"}, "average 'mode'"),
        ({"average": "median", "max_segments": 0}, "max_segments 0"),
    ],
)
def test_a_plan_that_is_none_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Welch(2, RATE_HZ, **options)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Welch(2, rate)
    with pytest.raises(ValueError, match="rate"):
        Spectrogram(2, rate)


@pytest.mark.parametrize("channels", [-1, 0, 65537])
def test_a_number_of_channels_that_is_none_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match="channels"):
        Welch(channels, RATE_HZ)


def test_arrays_of_another_shape_are_refused() -> None:
    plan = Welch(4, RATE_HZ, nperseg=64)
    with pytest.raises(ValueError, match="no psd"):
        plan.band_power([(8, 12)])
    with pytest.raises(ValueError, match="x has shape"):
        plan.psd(np.zeros((100, 3)))
    with pytest.raises(ValueError, match="x has shape"):
        plan.psd(np.zeros(100))
    with pytest.raises(ValueError, match="out has shape"):
        plan.psd(np.zeros((100, 4)), np.empty((33, 3)))
    with pytest.raises(ValueError, match="psd has shape"):
        plan.band_power([(8, 12)], np.zeros((32, 4)))
    with pytest.raises(ValueError, match="median was planned for 2"):
        Welch(4, RATE_HZ, nperseg=64, average="median", max_segments=2).psd(np.zeros((200, 4)))
    with pytest.raises(ValueError, match="x has shape"):
        Spectrogram(4, RATE_HZ).push(np.zeros((100, 3)))


def test_a_second_thread_is_refused_while_one_runs() -> None:
    plan = Welch(64, RATE_HZ, nperseg=256)
    x, out = np.zeros((50_000, 64)), np.empty((129, 64))
    small = np.zeros((10, 64))
    refused = threading.Event()

    def meddle() -> None:
        while not refused.is_set():
            try:
                plan.psd(small)
            except RuntimeError:
                refused.set()

    other = threading.Thread(target=meddle, daemon=True)
    other.start()
    for _ in range(100):
        try:
            plan.psd(x, out)
        except RuntimeError:
            continue
        if refused.is_set():
            break
    other.join(timeout=20)
    assert refused.is_set()
