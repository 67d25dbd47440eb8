"""The resampler against its specification, by tones that know nothing of its prototype.

A native tone at f comes out as itself and as images at k rate ± f. Sampled at random positions all
of these are different functions of time, so one least-squares fit gives the gain of each.
"""

import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from phantomd.core.resample import Resampler
from phantomd.engine.prototype import Phase, Prototype, design
from phantomd.errors import ConfigError, DeviceError

Array = npt.NDArray[np.float64]

WHOLE_BAND = (125.0, 128.0, 160.0, 200.0, 250.0, 256.0, 300.0, 500.0, 512.0, 1000.0, 2048.0)
REDUCED = (64.0, 80.0, 100.0, 120.0)
PHASES: tuple[Phase, ...] = ("linear", "minimum")
GRID_HZ = 128.0
RIPPLE = 0.1  # dB
ALIAS = 1e-3  # -60 dB


def resampler(prototype: Prototype) -> Resampler:
    return Resampler(prototype.table, prototype.ahead)


def gains(prototype: Prototype, tone_hz: float) -> tuple[complex, Array, Array]:
    """Gain of a tone to itself; frequencies of its images and their gains."""
    rate = prototype.rate_hz
    rng = np.random.default_rng(1)
    inside = 4 * prototype.taps
    positions = rng.uniform(prototype.taps, prototype.taps + inside + rate, 700)
    n = np.arange(math.ceil(positions.max()) + prototype.taps + 1)
    x = np.stack([f(2 * np.pi * tone_hz / rate * n) for f in (np.cos, np.sin)], axis=1)
    y = resampler(prototype).at_many(x, positions)
    images = np.array([abs(k * rate + s * tone_hz) for k in range(1, 5) for s in (-1, 1)])
    angles = 2 * np.pi / rate * np.multiply.outer(positions, np.r_[tone_hz, images])
    basis = np.concatenate((np.cos(angles), np.sin(angles)), axis=1)
    parts = np.linalg.lstsq(basis, y[:, 0] + 1j * y[:, 1], rcond=None)[0]
    cosine, sine = np.split(parts, 2)
    image_gains = np.hypot(abs(cosine[1:]), abs(sine[1:])) / math.sqrt(2)
    return (cosine[0] - 1j * sine[0]) / 2, images, image_gains


def drifting_grid(prototype: Prototype, seconds: float) -> Array:
    """Grid instants in native samples: 200 ppm off, and wandering by half a sample."""
    t = np.arange(round(seconds * GRID_HZ)) / GRID_HZ
    samples = prototype.rate_hz * (1 + 200e-6) * t + 0.5 * np.sin(2 * np.pi * 0.3 * t)
    return np.asarray(prototype.taps + 0.123 + samples)


def through(prototype: Prototype, tones_hz: Array, positions: Array) -> tuple[Array, Array]:
    """Output for unit tones, a channel each, and what they are at these positions."""
    turn = 2 * np.pi / prototype.rate_hz * tones_hz
    n = np.arange(math.ceil(positions.max()) + prototype.taps + 1)
    x = np.cos(np.multiply.outer(n, turn))
    return resampler(prototype).at_many(x, positions), np.cos(np.multiply.outer(positions, turn))


# -- gains -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", WHOLE_BAND)
def test_passband_reaches_45_hz_within_a_tenth_of_a_decibel(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    assert prototype.passband_hz == 45.0
    for tone in (0.5, 4.0, 10.0, 17.3, 25.0, 33.0, 40.0, 43.0, 45.0):
        gain, _, _ = gains(prototype, tone)
        assert abs(20 * math.log10(abs(gain))) < RIPPLE, f"{tone} Hz"


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", WHOLE_BAND + REDUCED)
def test_nothing_aliases_into_the_passband(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    edge = prototype.passband_hz
    for tone in np.linspace(0.5, min(rate / 2, 400.0), 41):
        gain, images, image_gains = gains(prototype, float(tone))
        frequencies = np.r_[tone, images]
        on_grid = abs(frequencies - GRID_HZ * np.round(frequencies / GRID_HZ))
        aliased = (on_grid <= edge) & (frequencies > edge)
        assert np.r_[abs(gain), image_gains][aliased].max(initial=0.0) <= ALIAS, f"{tone} Hz"


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", [166.5, 250.0, 500.0, 1000.0])
def test_native_tones_from_83_hz_on_are_gone(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    tones = np.linspace(83.0, rate / 2, 60)
    y, _ = through(prototype, tones, drifting_grid(prototype, 4.0))
    # Each is there with its image, so their root mean square may be that of two.
    assert np.sqrt(np.mean(y**2, axis=0)).max() <= ALIAS


@pytest.mark.parametrize("rate", WHOLE_BAND)
def test_a_drifting_grid_reads_the_tone_where_it_is(rate: float) -> None:
    prototype = design(rate)
    y, expected = through(prototype, np.linspace(0.5, 45.0, 60), drifting_grid(prototype, 4.0))
    allowed = 10 ** (RIPPLE / 20) - 1 + ALIAS
    assert abs(y - expected).max() <= allowed


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", [64.0, 125.0, 250.0, 1000.0, 16000.0])
def test_the_record_says_what_tones_find(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    tones = np.linspace(0.5, prototype.passband_hz, 24)
    measured = np.array([gains(prototype, float(tone))[0] for tone in tones])
    assert abs(20 * np.log10(abs(measured))).max() <= prototype.ripple_db + 1e-3
    assert prototype.response(tones) == pytest.approx(measured, abs=2e-5)
    assert prototype.attenuation_db >= 61.5
    assert prototype.ripple_db <= 0.085


# -- a constant ------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", [*WHOLE_BAND, *REDUCED, 16000.0])
def test_100_millivolts_leave_no_ripple(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    x = np.full((4 * prototype.taps, 1), 100e3)
    rng = np.random.default_rng(2)
    positions = rng.uniform(prototype.taps, 2 * prototype.taps, 5000)
    assert np.ptp(resampler(prototype).at_many(x, positions)) <= 1e-8  # µV; 0.05 are allowed


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", [64.0, 125.0, 250.0, 16000.0])
def test_rows_sum_to_one_in_any_order(rate: float, phase: Phase) -> None:
    table = design(rate, phase).table
    for row in (table, table[:, ::-1], np.sort(table, axis=1)):
        assert (np.cumsum(row, axis=1)[:, -1] == 1.0).all()


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", WHOLE_BAND + REDUCED)
def test_linear_phase_is_on_time(rate: float) -> None:
    prototype = design(rate)
    for tone in np.linspace(0.5, prototype.passband_hz, 10):
        gain, _, _ = gains(prototype, float(tone))
        assert abs(np.angle(gain, deg=True)) < 1e-4


@pytest.mark.parametrize("rate", WHOLE_BAND + REDUCED)
def test_minimum_phase_is_late_and_early_as_stated(rate: float) -> None:
    prototype = design(rate, "minimum")
    tones = np.linspace(0.5, prototype.passband_hz, 46)
    turns = np.array([np.angle(gains(prototype, float(tone))[0]) for tone in tones]) / (2 * np.pi)
    assert abs(360 * turns).max() == pytest.approx(prototype.phase_error_deg, abs=0.05)
    assert abs(1e3 * turns / tones).max() == pytest.approx(prototype.phase_error_ms, abs=0.01)
    assert prototype.phase_error_deg < 14.0


def wait_s(prototype: Prototype) -> float:
    """From an instant to the newest sample that can change the value there."""
    taps = prototype.taps
    impulse = np.zeros((6 * taps, 1))
    impulse[3 * taps] = 1.0
    positions = 3 * taps + np.linspace(-taps, taps, 16 * taps + 1)
    y = resampler(prototype).at_many(impulse, positions)[:, 0]
    return float(3 * taps - positions[np.flatnonzero(y)[0]]) / prototype.rate_hz


@pytest.mark.parametrize("rate", [*WHOLE_BAND, *REDUCED, 16000.0])
def test_linear_phase_waits_50_ms_at_most(rate: float) -> None:
    prototype = design(rate)
    assert wait_s(prototype) <= prototype.delay_s <= 0.050


@pytest.mark.parametrize("rate", [*WHOLE_BAND, 100.0, 120.0, 16000.0])
def test_minimum_phase_waits_20_ms_at_most(rate: float) -> None:
    prototype = design(rate, "minimum")
    assert wait_s(prototype) <= prototype.delay_s <= 0.020


def test_minimum_phase_below_100_hz_waits_two_samples_and_one_when_told() -> None:
    assert design(64.0, "minimum").delay_s == 2 / 64
    short = design(64.0, "minimum", max_delay_s=0.020)
    assert short.delay_s == 1 / 64
    assert short.phase_error_deg > 4 * design(64.0, "minimum").phase_error_deg


# -- slow devices, fast devices --------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rate", REDUCED)
def test_a_slow_device_states_its_passband(rate: float, phase: Phase) -> None:
    prototype = design(rate, phase)
    assert (rate - 40) / 2 < prototype.passband_hz < 45.0
    for tone in np.linspace(0.5, prototype.passband_hz, 8):
        gain, _, _ = gains(prototype, float(tone))
        assert abs(20 * math.log10(abs(gain))) < RIPPLE, f"{tone} Hz"


def test_a_fast_device_runs_out_of_taps_and_states_its_passband() -> None:
    prototype = design(16000.0)
    assert prototype.taps <= 1024
    assert 38.0 <= prototype.passband_hz < 45.0
    gain, _, _ = gains(prototype, prototype.passband_hz)
    assert abs(20 * math.log10(abs(gain))) < RIPPLE


def test_less_delay_costs_passband() -> None:
    assert design(250.0, max_delay_s=0.030).passband_hz < design(250.0).passband_hz
    assert design(250.0, max_delay_s=0.030).delay_s <= 0.030


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(64.0, 3000.0),
    phase=st.sampled_from(PHASES),
    part=st.floats(0.0, 1.0),
    offset=st.floats(0.0, 1.0),
)
def test_any_rate_keeps_the_limits(rate: float, phase: Phase, part: float, offset: float) -> None:
    prototype = design(rate, phase)
    tone = 0.5 + part * (prototype.passband_hz - 0.5)
    gain, _, image_gains = gains(prototype, tone)
    assert abs(20 * math.log10(abs(gain))) < RIPPLE
    assert image_gains.max() <= ALIAS
    constant = np.full((3 * prototype.taps, 1), 100e3)
    y = resampler(prototype).at(constant, prototype.taps + offset)
    assert abs(y[0] - 100e3) <= 1e-8


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [64.0, 125.0, 250.0, 1000.0, 16000.0])
def test_interpolating_between_rows_costs_less_than_a_millionth(rate: float) -> None:
    """Twice the row distance has four times the error, and every second row shows it exactly."""
    prototype = design(rate)
    coarse = Resampler(prototype.table[::2], prototype.ahead)
    positions = prototype.taps + (np.arange(1, 2 * prototype.phases, 2)) / prototype.phases
    n = np.arange(3 * prototype.taps)[:, None]
    for tone, allowed in ((prototype.passband_hz, 1e-6), (prototype.stopband_hz, 1e-6)):
        x = np.cos(2 * np.pi * tone / rate * n)
        error = coarse.at_many(x, positions) - resampler(prototype).at_many(x, positions)
        assert abs(error).max() / 4 <= allowed


@cache
def real_eeg(path: Path) -> Array:
    return np.loadtxt(path, delimiter=",", skiprows=5, usecols=range(1, 9), max_rows=5000)


def assert_is_resample_poly(prototype: Prototype, x: Array, up: int, down: int) -> None:
    x = x - x[0]
    expected = resample_poly(x, up, down, window=prototype.h(up))
    positions = np.arange(len(expected)) * down / up
    taps = prototype.taps
    inside = (positions > taps) & (positions < len(x) - taps)
    y = resampler(prototype).at_many(x, positions[inside])
    assert abs(y - expected[inside]).max() <= 1e-12 * abs(x).max()


# The last is a position offset: steps of 1/1024 sample, so that grid instants fall between.
RATIOS = [
    (250, 64, 125),
    (256, 1, 2),
    (500, 32, 125),
    (512, 1, 4),
    (1000, 16, 125),
    (160, 4, 5),
    (125, 128, 125),
    (300, 32, 75),
    (250, 1024, 125),
    (250, 77, 130),
]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("rate", "up", "down"), RATIOS)
def test_noise_comes_out_as_from_resample_poly(rate: int, up: int, down: int, phase: Phase) -> None:
    x = np.random.default_rng(3).standard_normal((2000, 3))
    assert_is_resample_poly(design(float(rate), phase), x, up, down)


@pytest.mark.realdata
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("rate", "up", "down"), RATIOS)
def test_eeg_comes_out_as_from_resample_poly(
    data_dir: Path, rate: int, up: int, down: int, phase: Phase
) -> None:
    path = data_dir / "openbci_gui" / "OpenBCI_GUI-v6-blinks-jawClench-alpha.txt"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    assert_is_resample_poly(design(float(rate), phase), real_eeg(path), up, down)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [63.9, 16001.0, math.nan])
def test_a_rate_that_no_prototype_has_is_refused(rate: float) -> None:
    with pytest.raises(DeviceError, match="can't be resampled"):
        design(rate)


def test_a_delay_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="can't be as short"):
        design(250.0, max_delay_s=0.005)
    with pytest.raises(ConfigError, match="can't be as short"):
        design(250.0, "minimum", max_delay_s=0.003)


@pytest.mark.parametrize("delay", [0.0, -1.0, 1.1, math.nan, math.inf])
def test_a_delay_that_is_none_is_refused(delay: float) -> None:
    with pytest.raises(ConfigError, match="is no resampler's"):
        design(250.0, max_delay_s=delay)


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ConfigError, match="no phase 'zero'"):
        design(250.0, "zero")  # type: ignore[arg-type]


@pytest.mark.parametrize("passband", [0.0, 64.0, math.nan])
def test_a_passband_beyond_the_grid_is_refused(passband: float) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        design(250.0, passband_hz=passband)


@pytest.mark.parametrize("position", [9.99, 88.0, -1.0, 1e300, math.inf, math.nan])
def test_a_position_that_reads_outside_is_refused(position: float) -> None:
    prototype = design(250.0)  # 22 taps, 11 ahead: positions 10 to 88.99 of a hundred samples
    x = np.ones((99, 2))
    assert resampler(prototype).at(x, 10.0) == pytest.approx(1.0)
    assert resampler(prototype).at(x, 87.99) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="outside the 99 samples"):
        resampler(prototype).at(x, position)


@pytest.mark.parametrize("shape", [(1, 4), (5, 0), (5, 1025), (20,)])
def test_a_table_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"table has|taps"):
        Resampler(np.ones(shape), 2)


def test_the_daemon_designs_without_scipy() -> None:
    program = (
        "import sys; from phantomd.engine.prototype import design; design(250.0, 'minimum'); "
        "sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
