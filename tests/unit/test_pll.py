"""The phase tracker against NumPy's least squares over all frequencies, against the Cramér-Rao
bound and its peers (benches/pll_accuracy.py), and in what real EEG does to it."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from benches import pll_accuracy as campaign
from phantomd.core import PhaseTracker
from phantomd.core.pll import FIELDS

Array = npt.NDArray[np.float64]

RATE = 250.0
COLUMN = {name: i for i, name in enumerate(FIELDS)}
EXACT_RAD = 3e-4


def noise(n: int, channels: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, channels))


def wave(n: int, hertz: float, phase: float = 0.0, rate: float = RATE) -> Array:
    """cos, with this phase at index 0."""
    return np.cos(2 * np.pi * hertz / rate * np.arange(n) + phase)[:, None]


def wrapped(rad: Array | float) -> Any:
    return (np.asarray(rad) + np.pi) % (2 * np.pi) - np.pi


def tracked(x: Array, ref_hz: float = 10.0, rate_hz: float = RATE, **options: Any) -> PhaseTracker:
    tracker = PhaseTracker(ref_hz, rate_hz=rate_hz, channels=x.shape[1], **options)
    tracker.push(x)
    return tracker


# -- the fit ---------------------------------------------------------------------------------------


def least_squares(
    x: Array, tracker: PhaseTracker, mains_hz: tuple[float, ...] = (50.0, 60.0)
) -> tuple[float, float, float]:
    """Frequency, phase at the last sample, amplitude: columns as pd_pll.h says, all frequencies."""
    rate, n = tracker.rate_hz, len(x)
    low, high = tracker.range_hz
    bins = rate / n
    tau = (2 * np.arange(n) - (n - 1)) / n
    seconds = (np.arange(n) - (n - 1)) / rate
    columns = [tau**k for k in range(4 if low >= 4 * bins else 2)]
    for hertz in mains_hz:
        clear = max(low - hertz, hertz - high) / bins
        if clear < 1.5 or not bins <= hertz <= rate / 2 - bins:
            continue
        pair = [wave(2 * np.pi * hertz * seconds) for wave in (np.cos, np.sin)]
        columns += pair + ([tau * each for each in pair] if clear >= 4 else [])
    there = np.isfinite(x)
    nuisance = np.linalg.qr(np.stack(columns, axis=1)[there])[0]
    y = x[there] - nuisance @ (nuisance.T @ x[there])

    def fit(hertz: float) -> tuple[float, float, float]:
        angle = 2 * np.pi * hertz * seconds[there]
        basis = np.stack((np.cos(angle), np.sin(angle)), axis=1)
        basis -= nuisance @ (nuisance.T @ basis)
        (u, v), *_ = np.linalg.lstsq(basis, y, rcond=None)
        return float(y @ basis @ (u, v)), u, v

    grid = np.linspace(low, high, 41)
    best = grid[np.argmax([fit(hertz)[0] for hertz in grid])]
    step = grid[1] - grid[0]
    found = minimize_scalar(
        lambda hertz: -fit(hertz)[0],
        bounds=(max(best - step, low), min(best + step, high)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    _, u, v = fit(found.x)
    return found.x, math.atan2(-v, u), math.hypot(u, v)


@pytest.mark.parametrize(
    ("ref_hz", "rate_hz", "window_s"),
    [(10, 250, 1), (6, 250, 1), (40, 250, 1), (2, 250, 1), (1, 125, 2), (100, 250, 0.5),
     (12.3, 160, 2), (20, 1000, 0.5), (53, 250, 1)],
)  # fmt: skip
@pytest.mark.parametrize("lost", [0, 1, 40], ids="{} lost".format)
def test_the_fit_is_numpys_least_squares(
    ref_hz: float, rate_hz: float, window_s: float, lost: int
) -> None:
    rng = np.random.default_rng(round(ref_hz * rate_hz) + lost)
    n = round(window_s * rate_hz)
    x = 62e3 + 2 * noise(n + 37, 8, seed=lost) + 30 * np.linspace(0, 1, n + 37)[:, None] ** 2
    hertz = ref_hz + rng.uniform(-0.3, 0.3, 8)
    x += 5 * np.cos(2 * np.pi * np.arange(n + 37)[:, None] / rate_hz * hertz + np.arange(8))
    x += 50 * wave(n + 37, 50.0, rate=rate_hz) if ref_hz < 53 else 0
    if lost == 40:
        x[37 + n // 3 : 37 + n // 3 + n // 6] = np.nan
        x[-5:, 3:6] = np.inf
    elif lost:
        x[-4, 2] = -np.inf
    tracker = tracked(x, ref_hz, rate_hz, window_s=window_s)
    window = np.where(np.isfinite(x), x, np.nan)[-n:]
    compared = 0
    for channel in range(8):
        report = tracker.report(channel)
        if not report.defined:
            continue
        f, phase, amplitude = least_squares(window[:, channel], tracker)
        compared += 1
        assert report.frequency_hz == pytest.approx(f, abs=1e-4 / window_s)
        assert abs(wrapped(report.phase_rad - phase)) < EXACT_RAD
        assert report.amplitude_uv == pytest.approx(amplitude, rel=3e-4)
    assert compared >= 6


def test_snr_is_that_of_a_sample() -> None:
    x = np.sqrt(2 * 10**1.5) * wave(400, 10.2) + noise(400, 256)
    assert np.median(tracked(x).read()[:, COLUMN["snr_db"]]) == pytest.approx(15, abs=0.3)


# -- how right -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref_hz", campaign.REFS_HZ)
@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 20.0])
def test_phase_keeps_to_the_bound_and_beats_its_peers(ref_hz: float, snr_db: float) -> None:
    scores = campaign.compare(snr_db, ref_hz, RATE, 512)
    ours, bound = scores.pop("phantomd"), campaign.bound_deg(snr_db, 250)
    assert abs(ours.bias_deg) <= 1 + 2 * bound / math.sqrt(512)  # the mean has an sd of its own
    assert ours.sd_deg <= 1.15 * bound
    assert ours.defined >= 0.95
    assert all(ours.sd_deg < peer.sd_deg for peer in scores.values())


@pytest.mark.parametrize("rate_hz", [125.0, 1000.0])
def test_phase_keeps_to_the_bound_at_other_rates(rate_hz: float) -> None:
    ours = campaign.compare(10.0, 10.0, rate_hz, 512)["phantomd"]
    assert ours.sd_deg <= 1.2 * campaign.bound_deg(10.0, round(rate_hz))
    assert ours.defined >= 0.99


@pytest.mark.parametrize(("ref_hz", "exponent"), [(6.0, 1.0), (10.0, 0.0), (40.0, 0.0)])
def test_noise_is_told_from_a_rhythm(ref_hz: float, exponent: float) -> None:
    assert campaign.false_alarms(ref_hz, RATE, 3072, exponent) <= 0.0118  # 1 % and 1 sd of it


@pytest.mark.parametrize("trouble", campaign.TROUBLES)
@pytest.mark.parametrize("ref_hz", [6.0, 40.0])
def test_phase_stands_what_eeg_brings(trouble: str, ref_hz: float) -> None:
    ours = campaign.mistreated(10.0, ref_hz, RATE, 512, trouble)
    doubled = 3.01 if trouble in ("1/f noise", "all") else 0.0
    bound = campaign.bound_deg(10.0 - doubled, 250)
    assert abs(ours.bias_deg) <= 1
    assert ours.sd_deg <= 1.3 * bound
    assert ours.defined >= 0.99


@pytest.mark.realdata
def test_alpha_is_there_with_eyes_closed_and_little_with_eyes_open(data_dir: Path) -> None:
    opened, closed = (
        campaign.on_eeg(data_dir / "eegmmidb" / f"S001R0{run}.edf", 10.0)[0] for run in (1, 2)
    )
    assert opened < 0.01
    assert closed > 0.3


# -- statistics over the window --------------------------------------------------------------------


@pytest.mark.parametrize("away_hz", [0.0, 0.2, 0.5])
def test_plv_is_that_of_a_phase_that_runs_away(away_hz: float) -> None:
    report = tracked(np.tile(wave(500, 10 + away_hz, 1.0), 2)).report(1)
    turned = 2 * np.pi * away_hz * (np.arange(250) + 250) / RATE
    mean = np.exp(1j * (turned + 1.0)).mean()
    assert report.plv == pytest.approx(abs(mean), abs=3e-3)
    assert report.phase_error_var == 1 - report.plv
    assert abs(wrapped(report.phase_error_mean - np.angle(mean))) < 5e-3
    assert report.sd_rad < 0.02


def test_an_unsteady_phase_has_a_residual() -> None:
    wander = 0.6 * np.sin(2 * np.pi * np.arange(500) / RATE)[:, None]
    steady, unsteady = (
        tracked(np.cos(2 * np.pi * 10 * np.arange(500)[:, None] / RATE + part)).report(0)
        for part in (0 * wander, wander)
    )
    assert steady.sd_rad < 1e-3
    # A sine less the line through it, which the fit takes for frequency.
    expected = 0.6 * math.sqrt((1 - 6 / math.pi**2) / 2)
    assert unsteady.sd_rad == pytest.approx(expected, rel=0.1)
    assert unsteady.plv < 0.95 < steady.plv


def test_a_subharmonic_is_told_and_noise_is_not_one() -> None:
    n = 500
    x = np.hstack((3 * wave(n, 12.0) + wave(n, 6.0), 3 * wave(n, 12.0))).repeat(64, axis=1)
    score = tracked(x + 0.3 * noise(n, 128), 12.0).read()[:, COLUMN["subharmonic"]]
    assert score[:64].min() > 0.8
    assert (score[64:] > 0).mean() < 0.1
    assert ((score >= 0) & (score <= 1)).all()


def test_a_subharmonic_that_the_window_can_not_tell_is_not_zero() -> None:
    slow = tracked(10 * wave(500, 3.0) + noise(500, 1), 3.0).report(0)
    mains = tracked(10 * wave(2000, 100.0, rate=1000.0) + noise(2000, 1), 100.0, 1000.0).report(0)
    assert slow.defined and mains.defined
    assert math.isnan(slow.subharmonic) and math.isnan(mains.subharmonic)


# -- reference -------------------------------------------------------------------------------------


def test_the_reference_is_a_function_of_the_index() -> None:
    tracker = tracked(np.tile(wave(777, 10.0, 0.7), 3) + 0.01 * noise(777, 3))
    report = tracker.report(2)
    expected = wrapped(2 * np.pi * 10 * 776 / RATE)
    assert report.ref_phase_rad == pytest.approx(expected, abs=1e-9)
    assert report.phase_error_rad == pytest.approx(0.7, abs=0.01)
    assert report.phase_error_mean == pytest.approx(0.7, abs=0.01)
    assert tracker.reference(10**9) == pytest.approx(0.0, abs=1e-6)
    tracker.set_phase(0.25)
    assert tracker.report(2).phase_error_rad == pytest.approx(0.7 - math.pi / 2, abs=0.01)


def test_the_reference_is_tied_to_host_time() -> None:
    tracker = tracked(noise(300), 12.3)
    for index, t_ns in ((0, 0), (77, 1_700_000_000_123_456_789), (10**9, -5_000_000_001)):
        tracker.tie(index, t_ns)
        turns = float(Fraction(12.3) * t_ns / 10**9 % 1)
        assert abs(wrapped(tracker.reference(index) - 2 * np.pi * turns)) < 1e-6
        later = tracker.reference(index + 250)
        assert abs(wrapped(later - 2 * np.pi * (turns + 0.3))) < 1e-6


# -- lock ------------------------------------------------------------------------------------------


def locks(x: Array, **options: Any) -> list[bool]:
    """After each hop."""
    tracker = PhaseTracker(10.0, rate_hz=RATE, channels=1, **options)
    out = []
    for start in range(0, len(x) - tracker.hop, tracker.hop):
        tracker.push(x[start : start + tracker.hop])
        out.append(tracker.report(0).locked)
    return out


def test_lock_comes_with_the_third_good_hop_and_goes_with_the_signal() -> None:
    silence = 0.3 * noise(750, 1)
    locked = locks(np.vstack((3 * wave(750, 10.0), 0 * silence)) + np.vstack((silence, silence)))
    hop = 15
    full = math.ceil(250 / hop)
    assert locked.index(True) == full - 1 + 2
    assert all(locked[full + 1 : 750 // hop])
    assert not any(locked[(750 + 250) // hop + 1 :])


def test_a_rhythm_beside_the_reference_does_not_lock() -> None:
    x = 3 * wave(1000, 10.7) + 0.3 * noise(1000, 1)
    assert not any(locks(x))


def test_lock_holds_between_its_two_thresholds() -> None:
    """0.32 Hz beside: a plv of sinc(0.32) = 0.84 neither locks nor opens."""
    away = 3 * wave(1000, 10.32)
    there = np.vstack((3 * wave(500, 10.0), 3 * wave(1000, 10.32)))
    assert not any(locks(away + 0.1 * noise(1000, 1)))
    assert locks(there + 0.1 * noise(1500, 1))[-20:] == [True] * 20


# -- absence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "state"),
    [
        (np.zeros((0, 1)), "filling"),
        (wave(249, 10.0), "filling"),
        (np.zeros((300, 1)), "flat"),
        (np.full((300, 1), 62e3), "flat"),
        (np.linspace(-1, 62e3, 300)[:, None], "flat"),
        (noise(300, 1), "noise"),
        (np.full((300, 1), np.nan), "missing"),
        (np.where(np.arange(300)[:, None] < 240, wave(300, 10.0), np.nan), "defined"),
        (np.where(np.arange(300)[:, None] < 237, wave(300, 10.0), np.nan), "missing"),
        (wave(300, 10.0), "defined"),
        (1e11 * wave(300, 10.0), "defined"),
        (1e-9 * wave(300, 10.0), "defined"),
        (1e14 * (1 + 0.5 * wave(300, 10.0)), "missing"),
        (5e-324 * np.ones((300, 1)), "flat"),
        (wave(300, 11.6) + 1e-3 * noise(300, 1), "outside"),
    ],
)
def test_what_is_not_there_is_told(x: Array, state: str) -> None:
    report = tracked(x).report(0)
    assert report.state == state
    assert report.defined is (state == "defined")
    numbers = report[3:]
    assert all(math.isfinite(v) if report.defined else math.isnan(v) for v in numbers)
    assert report.locked is False or report.defined


@pytest.mark.parametrize("value", [np.nan, np.inf, 200e3, 1e300])
def test_what_left_the_window_left_no_bit(value: float) -> None:
    clean = 5 * wave(900, 10.3) + noise(900, 3)
    struck = clean.copy()
    struck[300, 1] = value
    struck[305:310, :2] = value
    left, right = (PhaseTracker(10.0, rate_hz=RATE, channels=3) for _ in "ab")
    differed = 0
    for i in range(900):
        left.push(clean[i : i + 1])
        right.push(struck[i : i + 1])
        a, b = left.read(), right.read()
        assert np.array_equal(a[2], b[2], equal_nan=True), "another channel"
        same = np.array_equal(a[:, :-1], b[:, :-1], equal_nan=True)
        assert same or 300 <= i < 310 + 250
        differed += not same
    assert differed >= 250


def test_a_short_gap_costs_little() -> None:
    x = 5 * wave(400, 10.3) + 0.3 * noise(400, 64)
    x[330:345] = np.nan
    error = wrapped(tracked(x).read()[:, 0] - 2 * np.pi * 10.3 * 399 / RATE)
    assert np.isfinite(error).all()
    assert abs(error).max() < math.radians(5)


# -- state -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(1, 11), st.booleans())
def test_blocks_of_any_size_give_the_same_bits(sizes: list[int], channels: int, gaps: bool) -> None:
    n = sum(sizes)
    x = wave(n, 9.8) + 0.5 * noise(n, channels, seed=n)
    if gaps:
        x[np.random.default_rng(n).random(x.shape) < 0.02] = np.nan
    cut, single = (PhaseTracker(10.0, rate_hz=RATE, channels=channels) for _ in "ab")
    start = 0
    for size in sizes:
        cut.push(x[start : start + size])
        start += size
    for i in range(n):
        single.push(x[i : i + 1])
    assert np.array_equal(cut.read(), single.read(), equal_nan=True)


def test_bound_buffers_do_what_push_and_read_do() -> None:
    x = wave(600, 10.0) + noise(600, 9)
    plain, fast = (PhaseTracker(10.0, rate_hz=RATE, channels=9) for _ in "ab")
    buffer, out = np.empty((2, 9)), np.empty((9, len(FIELDS)))
    step = fast.bind(buffer, out)
    for i in range(0, 600, 2):
        buffer[:] = x[i : i + 2]
        step()
        plain.push(x[i : i + 2])
        assert np.array_equal(out, plain.read(), equal_nan=True)
    assert np.isfinite(out[:, 0]).any()


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    x = 3 * wave(700, 10.0) + noise(700, 9)
    x[400, 2] = np.nan
    first, second = (PhaseTracker(10.0, rate_hz=RATE, channels=9) for _ in "ab")
    first.tie(0, 123_456_789)
    first.push(x[:433])
    second.restore(first.save())
    first.push(x[433:])
    second.push(x[433:])
    assert np.array_equal(first.read(), second.read())
    assert [first.report(i) for i in range(9)] == [second.report(i) for i in range(9)]
    other = PhaseTracker(10.1, rate_hz=RATE, channels=9)
    with pytest.raises(ValueError, match="not the state"):
        other.restore(first.save())


def test_reset_is_as_before_the_first_sample() -> None:
    x = 3 * wave(500, 10.0) + noise(500, 2)
    used = tracked(np.vstack((1e5 * x, np.full((3, 2), np.nan))))
    used.set_phase(0.3)
    used.reset()
    assert used.report(0).state == "filling"
    used.push(x)
    assert np.array_equal(used.read(), tracked(x).read())


@pytest.mark.parametrize(
    "wrong",
    [
        {"ref_hz": 0.7},
        {"ref_hz": 101.0},
        {"ref_hz": math.nan},
        {"span_hz": 4.5},
        {"span_hz": 0.0},
        {"span_hz": math.nan},
        {"window_s": 0.1},
        {"window_s": 70.0},
        {"window_s": math.inf},
        {"rate_hz": math.nan},
        {"channels": 0},
        {"channels": 5000},
        {"false_alarm": 0.2},
        {"false_alarm": 0.0},
        {"mains_hz": (math.nan,)},
        {"mains_hz": (50.0, 60.0, 70.0)},
    ],
)
def test_what_can_not_be_is_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"ref_hz": 10.0, "rate_hz": 250.0, "channels": 8}
    PhaseTracker(**good)
    with pytest.raises(ValueError, match=r"no phase of|at most two"):
        PhaseTracker(**(good | wrong))


def test_samples_of_another_shape_are_refused() -> None:
    tracker = PhaseTracker(10.0, rate_hz=RATE, channels=8)
    with pytest.raises(ValueError, match="7 channels, not 8"):
        tracker.push(np.zeros((3, 7)))
    with pytest.raises(ValueError, match="not of 8 channels"):
        tracker.bind(np.zeros((3, 7)), np.zeros((8, len(FIELDS))))
    with pytest.raises(ValueError, match="not 8 channels x 12"):
        tracker.bind(np.zeros((3, 8)), np.zeros((8, 3)))
    with pytest.raises(ValueError, match="channel 8 of 8"):
        tracker.report(8)
