"""The filter bank against scipy.signal.sosfilt, and what gaps, starts and bad numbers do."""

import math
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfilt, sosfilt_zi

from phantomd.core.sos import BoundBank, FilterBank
from phantomd.signal.designs import BANDS_HZ, Sos, band_pass, bank, notch, series

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
OFFSET_UV = 62e3
EXACT = 1e-12
DESIGNS = list(bank(RATE_HZ).values())


def levels(sos: Sos) -> Array:
    """[sections, 2]: the state in which a constant 1 has been there forever.

    SciPy's own has other last bits on other processors (its LAPACK chooses kernels), which
    electrode offsets of 62 mV show: the bank's, which is held against SciPy's to 1e-9.
    """
    one = FilterBank([sos], 1, RATE_HZ)
    one.seed([1.0])
    zi = one.zi(0)[:, :, 0]
    theirs = sosfilt_zi(sos)
    assert abs(zi - theirs).max() <= 1e-9 * abs(theirs).max()
    return zi


def reference(sos: Sos, x: Array, *, at_rest: bool = False) -> Array:
    """[n, channels] by SciPy, from rest or as if the first value had been there forever."""
    zi = levels(sos)[:, :, None] * (np.zeros(x.shape[1]) if at_rest else x[0])
    y, _ = sosfilt(sos, x, axis=0, zi=zi)
    return np.asarray(y)


def assert_exact(y: Array, designs: list[Sos], x: Array, *, at_rest: bool = False) -> None:
    for band, sos in enumerate(designs):
        r = reference(sos, x, at_rest=at_rest)
        assert abs(y[:, band] - r).max() <= EXACT * abs(r).max(), f"band {band}"


def in_blocks(filters: FilterBank, x: Array, sizes: list[int]) -> Array:
    """All of x, in blocks of these sizes, over and over."""
    pieces, start, i = [], 0, 0
    while start < len(x):
        pieces.append(filters.process(x[start : start + sizes[i % len(sizes)]]))
        start += sizes[i % len(sizes)]
        i += 1
    return np.concatenate(pieces)


def eeg(n: int, channels: int, seed: int = 0) -> Array:
    """µV: a random walk and noise on electrode offsets of up to ±62 mV."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((n, channels)), axis=0)
    return walk + 20 * rng.standard_normal((n, channels)) + rng.uniform(-1, 1, channels) * OFFSET_UV


# -- exactness -------------------------------------------------------------------------------------


@st.composite
def random_bands(draw: st.DrawFn) -> list[Sos]:
    designs = []
    for _ in range(draw(st.integers(1, 4))):
        low = draw(st.floats(0.5, 100.0))
        high = low + draw(st.floats(0.5, 20.0))
        sos = band_pass((low, high), RATE_HZ, draw(st.integers(1, 7)))
        if draw(st.booleans()):
            sos = series(notch(draw(st.sampled_from([50.0, 60.0])), RATE_HZ), sos)
        designs.append(sos)
    return designs


@settings(max_examples=60, deadline=None)
@given(
    designs=random_bands(),
    channels=st.integers(1, 19),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    at_rest=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_blocks_come_out_as_from_sosfilt(
    designs: list[Sos], channels: int, sizes: list[int], at_rest: bool, seed: int
) -> None:
    x = eeg(300, channels, seed)
    filters = FilterBank(designs, channels, RATE_HZ)
    if at_rest:
        filters.seed(np.zeros(channels))
    assert_exact(in_blocks(filters, x, sizes), designs, x, at_rest=at_rest)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 70), min_size=1, max_size=8).filter(any))
def test_blocks_do_not_change_a_bit(sizes: list[int]) -> None:
    x = eeg(400, 9)
    x[60:63, 2] = np.nan
    x[100:, 5] = np.nan
    whole = FilterBank(DESIGNS, 9, RATE_HZ).process(x)
    cut = in_blocks(FilterBank(DESIGNS, 9, RATE_HZ), x, sizes)
    assert np.array_equal(cut, whole, equal_nan=True)


@pytest.mark.parametrize("rate", [128.0, 250.0, 1000.0, 30000.0])
def test_every_rate_is_exact(rate: float) -> None:
    designs = list(bank(rate, mains_hz=50.0).values())
    x = eeg(3000, 3)
    assert_exact(FilterBank(designs, 3, rate).process(x), designs, x)


@pytest.mark.realdata
def test_real_eeg_comes_out_as_from_sosfilt(data_dir: Path) -> None:
    path = data_dir / "openbci_gui" / "OpenBCI_GUI-v6-blinks-jawClench-alpha.txt"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    x = np.loadtxt(path, delimiter=",", skiprows=5, usecols=range(1, 9), max_rows=5000)
    designs = list(bank(RATE_HZ, mains_hz=60.0).values())
    assert_exact(in_blocks(FilterBank(designs, 8, RATE_HZ), x, [1, 2, 6]), designs, x)


def test_the_final_state_is_that_of_sosfilt() -> None:
    x = eeg(77, 11)
    filters = FilterBank(DESIGNS, 11, RATE_HZ)
    filters.process(x)
    for band, sos in enumerate(DESIGNS):
        _, final = sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])
        assert abs(filters.zi(band) - final).max() <= EXACT * abs(final).max()


def test_all_ways_of_calling_give_the_same_bits() -> None:
    x = eeg(60, 8)
    expected = FilterBank(DESIGNS, 8, RATE_HZ).process(x)
    filters = FilterBank(DESIGNS, 8, RATE_HZ)
    out = np.empty_like(expected)
    assert filters.process(x.tolist(), out) is out
    assert np.array_equal(out, expected)
    buffer, y = np.empty((6, 8)), np.empty((6, len(DESIGNS), 8))
    bound = FilterBank(DESIGNS, 8, RATE_HZ).bind(buffer, y)
    for start in range(0, 60, 6):
        buffer[:] = x[start : start + 6]
        bound.run(6)
        assert np.array_equal(y, expected[start : start + 6])


# -- start and settling ----------------------------------------------------------------------------


def test_62_millivolts_do_not_ring() -> None:
    y = FilterBank(DESIGNS, 1, RATE_HZ).process(np.full((2500, 1), OFFSET_UV))
    assert abs(y).max() <= 1e-8  # µV: rounding


def test_a_start_at_rest_would_ring() -> None:
    filters = FilterBank(DESIGNS, 1, RATE_HZ)
    filters.seed([0.0])
    assert abs(filters.process(np.full((2500, 1), OFFSET_UV))).max() > 1e3


@pytest.mark.parametrize("name", BANDS_HZ)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-6])
def test_settle_is_the_tail_of_the_impulse_response(name: str, tolerance: float) -> None:
    sos = bank(RATE_HZ)[name]
    h = abs(sosfilt(sos, np.r_[1.0, np.zeros(20_000)]))
    tail = np.cumsum(h[::-1])[::-1]
    expected = int(np.argmax(tail <= tolerance * tail[0]))
    (settle,) = FilterBank([sos], 1, RATE_HZ, tolerance=tolerance).settle
    assert abs(int(settle) - expected) <= 1


@settings(max_examples=40, deadline=None)
@given(band=st.sampled_from(range(len(DESIGNS))), seed=st.integers(0, 1000))
def test_once_settled_the_past_counts_for_a_thousandth(band: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sos = DESIGNS[band]
    (settle,) = FilterBank([sos], 1, RATE_HZ).settle
    largest = np.sum(abs(sosfilt(sos, np.r_[1.0, np.zeros(20_000)])))
    past = np.sign(rng.standard_normal((3000, 1)))
    now = rng.standard_normal((int(settle) + 200, 1))
    begun, known = FilterBank([sos], 1, RATE_HZ), FilterBank([sos], 1, RATE_HZ)
    known.process(np.r_[past, now[:1] * 0])
    known_y = known.process(now)
    begun.seed([0.0])
    begun_y = begun.process(now)
    assert abs(known_y - begun_y)[int(settle) - 1 :].max() <= 1e-3 * largest


def test_a_repeated_pole_settles_later_than_its_radius_says() -> None:
    radius = 0.95
    section = [1.0, 0.0, 0.0, 1.0, -2 * radius, radius**2]
    (settle,) = FilterBank([[section] * 4], 1, RATE_HZ).settle
    assert settle > 2 * math.log(1e-3) / math.log(radius)


def test_settling_is_flagged_a_band_and_channel_at_a_time() -> None:
    filters = FilterBank(DESIGNS, 2, RATE_HZ)
    x = eeg(2000, 2)
    x[1000, 1] = np.nan
    fed = np.empty((2000, 2), np.uint32)
    filters.process(x, fed=fed)
    assert fed[:, 0].tolist() == list(range(1, 2001))
    assert fed[998:1002, 1].tolist() == [999, 1000, 0, 1]
    assert filters.fed.tolist() == [2000, 999]
    expected = np.array([[True, s <= 999] for s in filters.settle])
    assert np.array_equal(filters.defined(), expected)
    assert expected.any(axis=0).all()
    assert not expected.all()
    window = 250
    assert np.array_equal(filters.defined(window)[:, 1], filters.settle + window - 1 <= 999)


# -- gaps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, 1e151])
def test_a_missing_sample_is_nan_in_its_channel_alone(missing: float) -> None:
    x = eeg(200, 9)
    whole = FilterBank(DESIGNS, 9, RATE_HZ).process(x)
    x[50:55, 3] = missing
    torn = FilterBank(DESIGNS, 9, RATE_HZ).process(x)
    others = np.arange(9) != 3
    assert np.array_equal(torn[:, :, others], whole[:, :, others])
    assert np.isnan(torn[50:55, :, 3]).all()
    assert np.isfinite(torn[:50, :, 3]).all()
    assert np.isfinite(torn[55:, :, 3]).all()


def test_filters_coast_on_the_level_of_their_channel() -> None:
    x = eeg(600, 1)
    level = x[0, 0]
    for value in x[:300, 0]:
        level += (value - level) / (0.5 * RATE_HZ)
    bridged = x.copy()
    bridged[300:320] = level
    x[300:320] = np.nan
    y = FilterBank(DESIGNS, 1, RATE_HZ).process(x)
    for band, sos in enumerate(DESIGNS):
        r = reference(sos, bridged)
        assert abs(y[320:, band] - r[320:]).max() <= EXACT * abs(r).max()


@pytest.mark.parametrize(("gap", "anew"), [(250, False), (251, True)])
def test_more_than_a_second_starts_the_channel_anew(gap: int, anew: bool) -> None:
    x = eeg(900, 1)
    x[300 : 300 + gap] = np.nan
    y = FilterBank(DESIGNS, 1, RATE_HZ).process(x)
    fresh = FilterBank(DESIGNS, 1, RATE_HZ).process(x[300 + gap :])
    assert np.array_equal(y[300 + gap :], fresh) is anew


def test_an_electrode_that_came_back_elsewhere_does_not_ring() -> None:
    x = np.full((1500, 1), OFFSET_UV)
    x[500:900] = np.nan
    x[900:] = -OFFSET_UV
    assert np.nanmax(abs(FilterBank(DESIGNS, 1, RATE_HZ).process(x))) <= 1e-8


def test_leading_gaps_start_at_the_first_value() -> None:
    x = eeg(400, 2)
    late = x.copy()
    late[:37, 1] = np.nan
    y = FilterBank(DESIGNS, 2, RATE_HZ).process(late)
    assert np.isnan(y[:37, :, 1]).all()
    assert np.array_equal(
        y[37:, :, 1], FilterBank(DESIGNS, 1, RATE_HZ).process(x[37:, 1:])[:, :, 0]
    )


def test_a_channel_that_never_comes_is_never_defined() -> None:
    filters = FilterBank(DESIGNS, 2, RATE_HZ)
    x = eeg(3000, 2)
    x[:, 0] = np.nan
    assert np.isnan(filters.process(x)[:, :, 0]).all()
    assert filters.defined().tolist() == [[False, True]] * len(DESIGNS)


# -- odd numbers -----------------------------------------------------------------------------------


def test_what_dies_away_has_no_denormals() -> None:
    filters = FilterBank(DESIGNS, 1, RATE_HZ)
    filters.process(np.full((10, 1), 1e-300))
    y = filters.process(np.zeros((20_000, 1)))
    tiny = np.finfo(np.float64).tiny
    assert ((y == 0) | (abs(y) >= tiny)).all()
    assert abs(y[-1]).max() < 1e-300
    assert np.float64(tiny) / 2 > 0  # the thread has its denormals back


def test_a_state_put_back_goes_on_from_there() -> None:
    x = eeg(300, 5)
    filters = FilterBank(DESIGNS, 5, RATE_HZ)
    filters.process(x[:100])
    saved = filters.state.copy()
    expected = filters.process(x[100:])
    other = FilterBank(DESIGNS, 5, RATE_HZ)
    other.state[:] = saved
    assert np.array_equal(other.process(x[100:]), expected)


def test_reset_forgets_everything() -> None:
    x = eeg(300, 5)
    filters = FilterBank(DESIGNS, 5, RATE_HZ)
    first = filters.process(x)
    filters.reset()
    assert filters.fed.tolist() == [0] * 5
    assert np.array_equal(filters.process(x), first)


def test_no_samples_are_no_samples() -> None:
    filters = FilterBank(DESIGNS, 4, RATE_HZ)
    assert filters.process(np.empty((0, 4))).shape == (0, len(DESIGNS), 4)
    assert filters.fed.tolist() == [0] * 4


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "said"),
    [
        ([], "sections"),
        ([[[1.0, 0, 0, 1, 0]]], "shape"),
        ([np.empty((0, 6))], "shape"),
        ([[[1.0, 0, 0, 2, 0, 0]]], "a0"),
        ([[[1.0, 0, 0, 1, -2.0, 1.0]]], "unstable"),
        ([[[1.0, 0, 0, 1, 0, 1.0]]], "unstable"),
        ([[[math.nan, 0, 0, 1, 0, 0]]], "coefficient"),
        ([[[1.0, 0, 0, 1, -1 + 1e-9, 0]]], "settle"),
    ],
)
def test_a_design_that_is_none_is_refused(bands: list[npt.ArrayLike], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FilterBank(bands, 2, RATE_HZ)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        FilterBank(DESIGNS, 2, rate)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        FilterBank(DESIGNS, 2, RATE_HZ, tolerance=tolerance)


@pytest.mark.parametrize("channels", [-1, 0, 65537])
def test_a_number_of_channels_that_is_none_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match="channels"):
        FilterBank(DESIGNS, channels, RATE_HZ)


def test_buffers_of_another_shape_are_refused() -> None:
    filters = FilterBank([DESIGNS[0]], 4, RATE_HZ)
    with pytest.raises(ValueError, match="channels"):
        filters.process(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="y has shape"):
        filters.process(np.zeros((5, 4)), np.empty((4, 1, 4)))
    with pytest.raises(ValueError, match="fed has shape"):
        filters.process(np.zeros((5, 4)), fed=np.empty((5, 1), np.uint32))
    with pytest.raises(ValueError, match="y has shape"):
        filters.bind(np.zeros((5, 4)), np.empty((5, 2, 4)))
    with pytest.raises(ValueError, match="values for 4 channels"):
        filters.seed([1.0])
    with pytest.raises(ValueError, match="a window of 0"):
        filters.defined(0)
    with pytest.raises(IndexError, match="no band 1"):
        filters.zi(1)


def test_overlapping_buffers_are_refused() -> None:
    memory = np.zeros(60)
    x, y = memory[:20].reshape(5, 4), memory[10:30].reshape(5, 1, 4)
    filters = FilterBank([DESIGNS[0]], 4, RATE_HZ)
    with pytest.raises(ValueError, match="same memory"):
        filters.process(x, y)
    with pytest.raises(ValueError, match="same memory"):
        filters.bind(x, y)


@pytest.mark.parametrize("n", [-1, 7])
def test_a_bound_buffer_has_no_more_rows_than_it_has(n: int) -> None:
    filters = FilterBank([DESIGNS[0]], 4, RATE_HZ)
    bound: BoundBank = filters.bind(np.zeros((6, 4)), np.empty((6, 1, 4)))
    with pytest.raises(ValueError, match="0 to 6"):
        bound.run(n)


def test_a_second_thread_is_refused_while_one_runs() -> None:
    filters = FilterBank(DESIGNS, 64, RATE_HZ)
    x, y = np.zeros((20_000, 64)), np.empty((20_000, len(DESIGNS), 64))
    refused = threading.Event()

    def meddle() -> None:
        while not refused.is_set():
            try:
                filters.reset()
            except RuntimeError:
                refused.set()

    other = threading.Thread(target=meddle, daemon=True)
    other.start()
    for _ in range(100):
        filters.process(x, y)
        if refused.is_set():
            break
    was_refused = refused.is_set()
    refused.set()
    other.join()
    assert was_refused
