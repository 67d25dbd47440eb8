"""Phase locking against scipy.signal.hilbert; z against coupling, of noise and of oscillations."""

import math
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import detrend, hilbert

from phantomd.core.connectivity import PhaseSynchrony, Synchrony

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
N = 250
CHANNELS = 8
GAMMA = (30.0, 90.0)
T = np.arange(N)[:, None] / RATE_HZ
BELOW = np.tril_indices(CHANNELS, -1)


def gamma_noise(rng: np.random.Generator, channels: int) -> Array:
    """Of unit variance, cut out of four seconds: nothing in it is periodic in the window."""
    f = np.fft.rfftfreq(4 * N, 1 / RATE_HZ)
    z = rng.standard_normal((len(f), channels)) + 1j * rng.standard_normal((len(f), channels))
    z[(f < GAMMA[0]) | (f > GAMMA[1])] = 0
    y = np.fft.irfft(z, axis=0)[N : 2 * N]
    return np.asarray(y / y.std(axis=0))


def noise(coupling: float, seed: int, channels: int = CHANNELS) -> Array:
    rng = np.random.default_rng(seed)
    common, own = gamma_noise(rng, 1), gamma_noise(rng, channels)
    return math.sqrt(coupling) * common + math.sqrt(1 - coupling) * own


def steady(coupling: float, seed: int, hz: float | None = None) -> Array:
    """The same sinusoid in all channels, at any phases, in noise of their own."""
    rng = np.random.default_rng(seed)
    hz = rng.uniform(35, 85) if hz is None else hz
    wave = math.sqrt(2) * np.sin(2 * np.pi * hz * T + rng.uniform(0, 2 * np.pi, CHANNELS))
    return (
        coupling * wave
        + (1 - coupling) * gamma_noise(rng, CHANNELS)
        + 1e-3 * gamma_noise(rng, CHANNELS)
    )


def plan_of(**options: object) -> PhaseSynchrony:
    return PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, **options)  # type: ignore[arg-type]


def phases(x: Array, *, filtered: bool = False) -> Array:
    """By SciPy: line out, band kept, analytic, length 1."""
    if not filtered:
        z = np.fft.rfft(detrend(x, axis=0, type="linear"), axis=0)
        f = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
        z[(f < GAMMA[0]) | (f > GAMMA[1])] = 0
        x = np.fft.irfft(z, n=len(x), axis=0)
    a = hilbert(x, axis=0)
    return np.asarray(a / abs(a))


def locking(u: Array) -> Array:
    return np.asarray(abs(u.T @ u.conj()) / len(u))


def whole_bins(u: Array) -> Array:
    """Turned back by what each channel's frequency is off a whole bin, half a bin at most."""
    n, c = len(u), np.arange(u.shape[1])
    z = np.fft.fft(u, axis=0)
    k = abs(z).argmax(axis=0)
    below, here, above = z[(k - 1) % n, c], z[k, c], z[(k + 1) % n, c]
    rest = np.clip(np.real((below - above) / (2 * here - below - above)), -0.5, 0.5)
    return np.asarray(u * np.exp(-2j * np.pi * rest * np.arange(n)[:, None] / n))


def null_of(u: Array, shifts: Array) -> tuple[float, float]:
    """Median and sd of pd_synchrony.h, a surrogate pair at a time."""
    n, u = len(u), whole_bins(u)
    turned = u * np.exp(-2j * np.pi * 3 * np.arange(n) / n)[:, None]
    pairs = []
    for i, j in zip(*BELOW, strict=True):
        moved = [np.roll(turned[:, i], -s[i]) @ np.roll(u[:, j], -s[j]).conj() for s in shifts]
        pairs.append(abs(np.array(moved)) / n)
    values = np.array(pairs)
    own = np.median(values, axis=1, keepdims=True)
    mad = np.median(abs(values - own))
    floor = math.sqrt((1 - math.pi / 4) / 61)
    return float(np.median(values.mean(axis=0))), max(1.4826022185056018 * mad, floor) / math.sqrt(
        28
    )


# -- exactness -------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(coupling=st.floats(0, 1), seed=st.integers(0, 999), filtered=st.booleans())
def test_plv_and_null_are_those_of_scipy_and_the_header(
    coupling: float, seed: int, filtered: bool
) -> None:
    x = noise(coupling, seed) + (0 if filtered else np.linspace(100, 200, N)[:, None])
    plan = plan_of(filtered=filtered, seed=seed)
    told = plan.run(x)
    u = phases(x, filtered=filtered)
    plv = locking(u)
    assert abs(plan.matrix[BELOW] - plv[BELOW]).max() <= 1e-12
    assert abs(told.plv - plv[BELOW].mean()) <= 1e-12
    assert told.phase_dispersion == 1 - told.plv
    middle, sd = null_of(u, plan.shifts)
    assert abs(told.null_median - middle) <= 1e-11
    assert abs(told.null_sd - sd) <= 1e-11
    assert abs(told.z - (told.plv - middle) / sd) <= 1e-8


def test_the_same_window_gives_the_same_bits() -> None:
    x = noise(0.3, 1)
    told = plan_of().run(x)
    assert plan_of().run(x) == told
    assert plan_of().run(np.r_[np.full((9, CHANNELS), np.nan), x]) == told
    assert plan_of().run(x.tolist()) == told
    assert plan_of(seed=1).run(x).z != told.z
    assert plan_of(seed=1).run(x).plv == told.plv


# -- z and coupling --------------------------------------------------------------------------------

Signal = Callable[[float, int], Array]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000), signal=st.sampled_from([noise, steady]))
def test_z_rises_with_coupling(seed: int, signal: Signal) -> None:
    """Wherever the phases themselves tell of more coupling: 0.05 of PLV, or more."""
    plan = plan_of()
    told = [plan.run(signal(coupling, seed)) for coupling in np.linspace(0, 1, 11)]
    for less in told:
        for more in told:
            if more.plv >= less.plv + 0.05:
                assert more.z > less.z
    assert told[0].z < 5
    assert told[-1].plv > 0.9
    assert told[-1].z > 40


@pytest.mark.parametrize("signal", [noise, steady])
def test_z_rises_on_average_at_every_step(signal: Signal) -> None:
    plan = plan_of()
    means = [
        np.mean([plan.run(signal(coupling, seed)).z for seed in range(40)])
        for coupling in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert (np.diff(means) > 0).all()
    assert abs(means[0]) < 1


@settings(max_examples=25, deadline=None)
@given(hz=st.floats(35, 85), seed=st.integers(0, 100_000))
def test_locked_sinusoids_stand_out_at_any_frequency(hz: float, seed: int) -> None:
    """The field's null gave -0.56 to 4.7 here."""
    told = plan_of().run(steady(0.8, seed, hz))
    assert told.plv > 0.9
    assert told.z > 30
    assert told.null_median < 0.3


def test_sinusoids_of_different_frequencies_do_not_stand_out() -> None:
    rng = np.random.default_rng(0)
    hz = 40 + 5.0 * np.arange(CHANNELS)
    told = plan_of().run(np.sin(2 * np.pi * hz * T + rng.uniform(0, 6, CHANNELS)))
    assert told.plv < 0.1
    assert told.z < 3


def test_noise_without_coupling_is_below_three() -> None:
    plan = plan_of()
    z = np.array([plan.run(noise(0, seed)).z for seed in range(400)])
    assert abs(np.median(z)) < 0.3
    assert 0.6 < z.std() < 1.2
    assert (z > 3).mean() <= 0.01


def test_the_pooled_spread_is_that_of_the_surrogate_means() -> None:
    """Pairs are uncorrelated under the null, also where channels are copies of each other."""
    plan = plan_of(surrogates=1000)
    for seed in range(3):
        for x in (noise(0, seed), noise(1, seed) + 1e-6 * noise(0, seed + 50)):
            u = whole_bins(phases(x))
            n = len(u)
            turned = u * np.exp(-2j * np.pi * 3 * np.arange(n) / n)[:, None]
            means = [locking_of(turned, u, shifts)[BELOW].mean() for shifts in plan.shifts[:300]]
            assert 0.6 < np.std(means) / plan.run(x).null_sd < 1.4


def locking_of(turned: Array, u: Array, shifts: Array) -> Array:
    moved = np.stack([np.roll(turned[:, i], -s) for i, s in enumerate(shifts)], axis=1)
    still = np.stack([np.roll(u[:, i], -s) for i, s in enumerate(shifts)], axis=1)
    return np.asarray(abs(moved.T @ still.conj()) / len(u))


# -- what there is not -----------------------------------------------------------------------------


def assert_undefined(told: Synchrony) -> None:
    assert all(math.isnan(value) for value in told)


@pytest.mark.parametrize(("rate", "possible"), [(125.0, False), (179.9, False), (180.0, True)])
def test_gamma_needs_180_hz(rate: float, possible: bool) -> None:
    plan = PhaseSynchrony(4, rate, n_samples=180)
    told = plan.run(np.random.default_rng(0).standard_normal((180, 4)))
    assert plan.possible is possible
    assert math.isnan(told.z) is not possible


def test_too_few_samples_bins_or_channels_are_undefined() -> None:
    x = noise(0.5, 0)
    assert_undefined(plan_of().run(x[1:]))
    assert_undefined(plan_of().run(x[:0]))
    assert_undefined(plan_of(band_hz=(30.0, 36.5)).run(x))
    assert_undefined(PhaseSynchrony(1, RATE_HZ, n_samples=N).run(x[:, :1]))
    assert_undefined(plan_of().run(x, np.arange(CHANNELS) == 3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e140])
def test_a_missing_value_undefines_all_but_the_other_pairs(bad: float) -> None:
    x = noise(0.5, 0)
    plan = plan_of()
    plan.run(x)
    whole = plan.matrix
    x[70, 2] = bad
    assert_undefined(plan.run(x))
    others = np.arange(CHANNELS) != 2
    assert np.isnan(plan.matrix[2]).all()
    assert np.array_equal(plan.matrix[others][:, others], whole[others][:, others], equal_nan=True)
    told = plan.run(x, others)
    assert told.z > 3
    assert math.isnan(plan.matrix[0, 2])


@pytest.mark.parametrize("flat", ["constant", "line", "far"])
def test_flat_channels_are_undefined(flat: str) -> None:
    x = noise(0.5, 0)
    x[:, 2] = {
        "constant": np.full(N, 62e3 + 0.1),
        "line": 62e3 + np.linspace(0, 100, N),
        "far": 1e6 + 1e-9 * x[:, 2],
    }[flat]
    assert_undefined(plan_of().run(x))


def test_what_does_not_fit_is_refused() -> None:
    for channels in (0, 257):
        with pytest.raises(ValueError, match="channels"):
            PhaseSynchrony(channels, RATE_HZ, n_samples=N)
    for n in (0, 65537):
        with pytest.raises(ValueError, match="window of"):
            PhaseSynchrony(2, RATE_HZ, n_samples=n)
    for surrogates in (0, 1001):
        with pytest.raises(ValueError, match="surrogates"):
            plan_of(surrogates=surrogates)
    for rate, band in ((math.nan, GAMMA), (0.0, GAMMA), (RATE_HZ, (90.0, 30.0))):
        with pytest.raises(ValueError, match="no sampling rate"):
            PhaseSynchrony(2, rate, n_samples=N, band_hz=band)
    with pytest.raises(ValueError, match="x has shape"):
        plan_of().run(np.zeros((N, 3)))
    with pytest.raises(ValueError, match="use has shape"):
        plan_of().run(np.zeros((N, CHANNELS)), [True])


def test_a_second_thread_is_refused_while_one_runs() -> None:
    plan = PhaseSynchrony(32, RATE_HZ, n_samples=2000)
    x = np.random.default_rng(0).standard_normal((2000, 32))
    refused = threading.Event()

    def run_until_one_is_refused(block: np.ndarray) -> None:
        while not refused.is_set():
            try:
                plan.run(block)
            except RuntimeError:
                refused.set()

    # Whichever of the two comes second: which one it is, is the scheduler's choice.
    other = threading.Thread(target=run_until_one_is_refused, args=(x[:0],), daemon=True)
    other.start()
    run_until_one_is_refused(x)
    other.join(timeout=20)
    assert refused.is_set()
    assert not other.is_alive()
    plan.run(x)
