"""The spike kernel against plain NumPy and SciPy in float32, sample for sample and bit for bit."""

import gzip
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt
from spike_reference import Result, Setting, at_once, step_by_step

from phantomd.core.sos import FilterBank
from phantomd.core.spike import MISSING, SETTLING, UNARMED, SpikeDetector

Array = npt.NDArray[np.float32]

RATE_HZ = 30_000.0
SLOW_HZ = 3000.0  # every sample goes into the noise: many windows in few samples


def band(rate_hz: float, high_hz: float, order: int = 2) -> npt.NDArray[np.float64]:
    return np.asarray(butter(order, (300.0, high_hz), "bandpass", fs=rate_hz, output="sos"))


SOS = band(RATE_HZ, 6000.0)
ARGUMENTS = {"reference", "reference_on", "threshold", "polarity"}


def setting_of(detector: SpikeDetector, sos: npt.NDArray[np.float64], **options: Any) -> Setting:
    refractory = max(1, round(options.get("refractory_ms", 1.0) * detector.rate_hz / 1e3))
    chosen = {k: options[k] for k in options.keys() & ARGUMENTS}
    return Setting(
        sos, detector.rate_hz, detector.settle, detector.bin_samples, refractory, **chosen
    )


def recording(n: int, channels: int, seed: int, rate_hz: float = SLOW_HZ) -> Array:
    """Noise, something in common, offsets, and spikes on every channel; µV."""
    rng = np.random.default_rng(seed)
    x = 8 * rng.standard_normal((n, channels)) + 30 * rng.standard_normal((n, 1))
    x += rng.uniform(-3000, 3000, channels)
    for c in range(channels):
        for at in rng.integers(0, n, n // 150):
            x[at : at + 3, c] -= np.array([80.0, 120.0, 40.0])[: n - at] * rng.choice([1, -1])
    return x.astype(np.float32)


def run(
    detector: SpikeDetector, x: npt.NDArray[np.generic], sizes: list[int]
) -> tuple[Array, Array, Array, list[tuple[int, int, float]]]:
    """All of x in blocks of these sizes, over and over: y, counts, flags, events."""
    y = np.empty(x.shape, np.float32)
    counts, flags, events = [], [], []
    start = i = 0
    while start < len(x):
        stop = min(len(x), start + sizes[i % len(sizes)])
        got = detector.process(x[start:stop], y=y[start:stop])
        assert got.overflow == 0
        counts.append(got.counts)
        flags.append(got.flags)
        events += [(int(e["index"]), int(e["channel"]), float(e["value"])) for e in got.events]
        start, i = stop, i + 1
    return y, np.concatenate(counts), np.concatenate(flags), events


def assert_same(
    got: tuple[Array, Array, Array, list[tuple[int, int, float]]],
    noise: Array,
    expected: Result,
) -> None:
    y, counts, flags, events = got
    tiny = (abs(expected.y) < 1e-30) & (abs(y) < 1e-30)  # denormals count as zero
    np.testing.assert_array_equal(np.where(tiny, 0, y), np.where(tiny, 0, expected.y))
    assert events == expected.events
    np.testing.assert_array_equal(counts, np.array(expected.counts).reshape(counts.shape))
    np.testing.assert_array_equal(flags, np.array(expected.flags).reshape(flags.shape))
    np.testing.assert_array_equal(noise, expected.noise)


# -- exactness -------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 70),
    reference=st.sampled_from(["none", "average", "median"]),
    reference_on=st.sampled_from(["band", "raw"]),
    polarity=st.sampled_from(["negative", "positive", "both"]),
    order=st.integers(1, 3),
    bin_ms=st.sampled_from([25.0, 10.1, 1.0]),
    refractory_ms=st.sampled_from([1.0, 0.0, 8.0]),
    sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6).filter(any),
    gaps=st.lists(
        st.tuples(st.integers(0, 449), st.integers(1, 90), st.integers(0, 70)), max_size=5
    ),
    seed=st.integers(0, 1000),
)
def test_every_sample_is_that_of_the_reference(
    channels: int,
    reference: str,
    reference_on: str,
    polarity: str,
    order: int,
    bin_ms: float,
    refractory_ms: float,
    sizes: list[int],
    gaps: list[tuple[int, int, int]],
    seed: int,
) -> None:
    x = recording(450, channels, seed)
    good = np.random.default_rng(seed).random(channels) < 0.8
    good[0] = True
    for at, length, channel in gaps:
        lost = np.nan if length % 2 else -np.inf
        if channel >= channels:
            x[at : at + length] = lost
        else:
            x[at : at + length, channel] = lost
    sos = band(SLOW_HZ, 1200.0, order)
    options = {
        "bin_ms": bin_ms,
        "reference": reference,
        "reference_on": reference_on,
        "polarity": polarity,
        "refractory_ms": refractory_ms,
        "good": good,
        "threshold": 3.0,
    }
    detector = SpikeDetector(sos, channels, SLOW_HZ, **options)
    expected = step_by_step(setting_of(detector, sos, **options), x, good)
    assert_same(run(detector, x, sizes), detector.noise, expected)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 1700), min_size=1, max_size=8).filter(any),
    reference=st.sampled_from(["average", "median"]),
    seed=st.integers(0, 100),
)
def test_blocks_do_not_change_a_bit(sizes: list[int], reference: str, seed: int) -> None:
    x = recording(4000, 37, seed, RATE_HZ)
    x[1000:1003, 2] = np.nan
    x[2000:2400, 30] = np.inf
    whole = SpikeDetector(SOS, 37, RATE_HZ, reference=reference)
    cut = SpikeDetector(SOS, 37, RATE_HZ, reference=reference)
    one, many = run(whole, x, [4000]), run(cut, x, sizes)
    for a, b in zip(one[:3], many[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[3] == many[3]
    np.testing.assert_array_equal(whole.noise, cut.noise)


def test_the_band_is_that_of_sosfilt() -> None:
    x = recording(2000, 5, 0)
    detector = SpikeDetector(SOS, 5, RATE_HZ, reference="none")
    y, *_ = run(detector, x, [750])
    expected, _ = at_once(setting_of(detector, SOS, reference="none"), x)
    np.testing.assert_array_equal(y, expected)


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 300),
    kind=st.sampled_from(["noise", "ties", "equal", "outliers", "two"]),
    seed=st.integers(0, 10_000),
)
def test_the_median_is_exact_whatever_the_values(channels: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, channels)).astype(np.float32)
    if kind == "ties":
        x = np.round(x)
    elif kind == "equal":
        x[:] = x[:, :1]
    elif kind == "outliers":
        x[rng.random(x.shape) < 0.4] *= np.float32(1e8)
    elif kind == "two":
        x = np.where(rng.random(x.shape) < 0.5, np.float32(-1e8), np.float32(1e-30))
    identity = [[1.0, 0, 0, 1, 0, 0]]
    detector = SpikeDetector(identity, channels, SLOW_HZ, reference="median")
    y, *_ = run(detector, x, [40])
    np.testing.assert_array_equal(y, x - np.median(x, axis=1, keepdims=True))


@pytest.mark.realdata
@pytest.mark.parametrize("reference", ["none", "average", "median"])
def test_real_data_give_the_spikes_of_the_reference(data_dir: Path, reference: str) -> None:
    x = locust(data_dir)
    detector = SpikeDetector(band(15_000.0, 6000.0), 4, 15_000.0, reference=reference)
    setting = setting_of(detector, band(15_000.0, 6000.0), reference=reference)
    y, counts, _, events = run(detector, x, [375, 7, 1000])
    expected_y, expected = at_once(setting, x)
    np.testing.assert_array_equal(y, expected_y)
    assert [(index, channel) for index, channel, _ in events] == expected
    assert len(expected) > (1000 if reference == "none" else 200)
    bins = np.zeros((len(counts), 4), int)
    for index, channel in expected:
        bins[index // 375, channel] += index // 375 < len(bins)
    np.testing.assert_array_equal(counts, bins)


@pytest.mark.realdata
@pytest.mark.parametrize("reference", ["none", "average", "median"])
def test_float32_costs_next_to_no_spike(data_dir: Path, reference: str) -> None:
    """Beside SciPy in float64: less than one spike in a thousand is another one."""
    x = locust(data_dir)
    detector = SpikeDetector(band(15_000.0, 6000.0), 4, 15_000.0, reference=reference)
    setting = setting_of(detector, band(15_000.0, 6000.0), reference=reference)
    ours = {(index, channel) for index, channel, _ in run(detector, x, [375])[3]}
    _, events = at_once(setting, x, np.float64)
    assert len(ours ^ set(events)) <= 0.001 * len(events)


def locust(data_dir: Path) -> Array:
    folder = data_dir / "extracellular_locust"
    paths = [folder / f"Locust_{i}.dat.gz" for i in range(1, 5)]
    if not all(path.exists() for path in paths):
        pytest.skip(f"no recording in {folder}")
    sites = [np.frombuffer(gzip.decompress(path.read_bytes()), np.float64) for path in paths]
    return np.stack(sites, axis=1).astype(np.float32)


def test_int16_is_float32_times_the_scale() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-32768, 32767, (3000, 19), dtype=np.int16)
    counted = SpikeDetector(SOS, 19, RATE_HZ, scale=0.195)
    scaled = SpikeDetector(SOS, 19, RATE_HZ)
    ints = run(counted, x, [100])
    floats = run(scaled, x.astype(np.float32) * np.float32(0.195), [750])
    np.testing.assert_array_equal(ints[0], floats[0])
    assert ints[3] == floats[3]


# -- noise, threshold, refractory time -------------------------------------------------------------


def test_the_noise_is_within_three_percent_of_gaussian_noise() -> None:
    """RMS over channels; the filter's own output is the reference."""
    x = np.random.default_rng(2).standard_normal((90_000, 64)).astype(np.float32)
    detector = SpikeDetector(SOS, 64, RATE_HZ, reference="none")
    detector.process(x)
    sigma = sosfilt(SOS, x.astype(np.float64), axis=0)[1000:].std(axis=0)
    error = detector.noise / sigma - 1
    assert abs(error.mean()) <= 0.01
    assert np.sqrt((error**2).mean()) <= 0.03


def test_spikes_hardly_move_the_noise() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((90_000, 16)).astype(np.float32)
    spiking = x.copy()
    for c in range(16):
        for at in rng.integers(0, 89_000, 60):  # 20 a second
            spiking[at : at + 10, c] -= 30
    calm, busy = (SpikeDetector(SOS, 16, RATE_HZ, reference="none") for _ in range(2))
    calm.process(x)
    busy.process(spiking)
    assert abs(busy.noise / calm.noise - 1).max() <= 0.1
    assert spiking.std() > 1.5


def train(at: list[int], n: int = 6000, depth: float = -500.0) -> Array:
    """Alternating ±1 and a deep sample at each of these: through the identity, no filter's tail."""
    x = np.where(np.arange(n) % 2, 1.0, -1.0).astype(np.float32)[:, None]
    x[at] = depth
    return x


def detect(x: Array, **options: object) -> list[int]:
    detector = SpikeDetector(
        [[1.0, 0, 0, 1, 0, 0]], x.shape[1], RATE_HZ, reference="none", **options
    )
    return [int(e["index"]) for e in detector.process(x).events]


def test_a_spike_in_the_refractory_time_is_none() -> None:
    assert detect(train([3000, 3010, 3028, 3030, 3059])) == [3000, 3030]
    assert detect(train([3000, 3002]), refractory_ms=0.0) == [3000, 3002]


def test_staying_outside_is_one_spike() -> None:
    assert detect(train(list(range(3000, 3200)))) == [3000]


def test_the_polarity_chooses_the_side() -> None:
    x = train([3000])
    x[4000] = 500
    assert detect(x) == [3000]
    assert detect(x, polarity="positive") == [4000]
    assert detect(x, polarity="both") == [3000, 4000]


def test_nothing_is_found_before_the_noise_is_known() -> None:
    (settle,) = FilterBank([SOS], 1, RATE_HZ).settle
    detector = SpikeDetector(SOS, 2, RATE_HZ)
    assert detector.settle == settle
    assert detector.every == 10
    known = detector.settle + 100 * detector.every
    x = recording(known + 1, 2, 0)
    got = detector.process(x[:known])
    assert np.isnan(detector.noise).all()
    assert len(got.events) == 0
    assert (got.flags[0] == SETTLING | UNARMED).all()
    detector.process(x[known:])
    assert (detector.noise > 0).all()


# -- what is missing, flat, or too much ------------------------------------------------------------


def test_a_missing_sample_silences_its_channel_alone_and_says_so() -> None:
    x = recording(9000, 3, 5)
    gap = x.copy()
    gap[6000, 1] = np.nan
    whole, holed = (SpikeDetector(SOS, 3, RATE_HZ, reference="none") for _ in range(2))
    one, other = run(whole, x, [750]), run(holed, gap, [750])
    assert [e for e in one[3] if e[1] != 1] == [e for e in other[3] if e[1] != 1]
    quiet = range(6000, 6001 + holed.settle)
    assert not [e for e in other[3] if e[1] == 1 and e[0] in quiet]
    assert other[2][8].tolist() == [0, MISSING | SETTLING, 0]
    assert np.isnan(other[0]).sum() == 1


def test_a_missing_channel_is_left_out_of_the_reference() -> None:
    x = recording(3000, 9, 6)
    holed = x.copy()
    holed[:, 4] = np.nan
    eight = np.delete(x, 4, axis=1)
    for reference in ("average", "median"):
        nine = SpikeDetector(SOS, 9, RATE_HZ, reference=reference)
        y, *_ = run(nine, holed, [100])
        z, *_ = run(SpikeDetector(SOS, 8, RATE_HZ, reference=reference), eight, [100])
        kept = np.delete(y, 4, axis=1)
        tolerance = 0 if reference == "median" else 1e-5
        assert abs(kept - z).max() <= tolerance * abs(z).max()
        assert np.isnan(y[:, 4]).all()


def test_a_long_gap_begins_the_channel_anew() -> None:
    """Without that, 60 mV of other offset would ring after it."""
    x = np.zeros((9000, 1), np.float32)
    x[3000:6000] = np.nan
    x[6000:] = 60e3
    y, *_ = run(SpikeDetector(SOS, 1, RATE_HZ, reference="none"), x, [100])
    assert np.nanmax(abs(y)) < 0.1


def test_a_flat_channel_has_no_noise_and_no_spikes() -> None:
    x = recording(12_000, 2, 7)
    x[:, 1] = 40_000.0
    detector = SpikeDetector(SOS, 2, RATE_HZ, reference="none")
    got = detector.process(x)
    assert np.isnan(detector.noise[1])
    assert not (got.events["channel"] == 1).any()
    assert (got.flags[:, 1] & UNARMED).all()
    assert not (got.flags[3:, 0] & UNARMED).any()


def test_zeros_have_no_noise_either() -> None:
    detector = SpikeDetector(SOS, 1, RATE_HZ)
    got = detector.process(np.zeros((6000, 1), np.float32))
    assert np.isnan(detector.noise).all()
    assert (got.flags & UNARMED).all()


def test_a_spike_without_room_is_counted() -> None:
    x = recording(9000, 6, 8)
    everything = SpikeDetector(SOS, 6, RATE_HZ).process(x)
    n = len(everything.events)
    some = SpikeDetector(SOS, 6, RATE_HZ).process(x, max_events=10)
    none = SpikeDetector(SOS, 6, RATE_HZ).process(x, max_events=0)
    assert n > 10
    assert some.events.tolist() == everything.events[:10].tolist()
    assert (some.overflow, none.overflow) == (n - 10, n)
    np.testing.assert_array_equal(none.counts, everything.counts)


def test_bins_need_not_be_whole() -> None:
    rate_hz = 24_414.0625
    detector = SpikeDetector(band(rate_hz, 6000.0), 1, rate_hz)
    ends = [int(np.floor((b + 1) * 0.025 * rate_hz)) for b in range(40)]
    seen = []
    for index in range(ends[-1]):
        if len(detector.process(np.full((1, 1), index % 7, np.float32)).counts):
            seen.append(index + 1)
    assert seen == ends
    assert detector.bin == 40


def test_a_copied_state_goes_on() -> None:
    x = recording(6000, 8, 9)
    first = SpikeDetector(SOS, 8, RATE_HZ, reference="median")
    first.process(x[:3210])
    second = SpikeDetector(SOS, 8, RATE_HZ, reference="median")
    second.state[:] = first.state
    a, b = run(first, x[3210:], [64]), run(second, x[3210:], [1000])
    assert a[3] == b[3]
    np.testing.assert_array_equal(a[0], b[0])


def test_reset_is_a_new_detector() -> None:
    x = recording(5000, 3, 10)
    detector = SpikeDetector(SOS, 3, RATE_HZ)
    first = run(detector, x, [500])
    detector.reset()
    assert (detector.index, detector.bin) == (0, 0)
    second = run(detector, x, [500])
    assert first[3] == second[3]
    np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sos": [[1, 0, 0, 1, 2, 2]]}, "unstable"),
        ({"sos": np.zeros((9, 6))}, "sections"),
        ({"sos": [[1, 0, 0, 2, 0, 0]]}, "a0"),
        ({"sos": [[np.nan, 0, 0, 1, 0, 0]]}, "coefficient"),
        ({"n_channels": 0}, "channels"),
        ({"n_channels": 16385}, "channels"),
        ({"rate_hz": 0.0}, "rate"),
        ({"bin_ms": 0.0}, "bin"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": np.nan}, "threshold"),
        ({"scale": 0.0}, "scale"),
        ({"reference": "mode"}, "reference"),
        ({"reference_on": "air"}, "reference_on"),
        ({"polarity": "up"}, "polarity"),
        ({"good": [0, 0]}, "good"),
        ({"good": [1, 1, 1]}, "good"),
    ],
)
def test_what_can_not_be_is_refused(options: dict[str, object], said: str) -> None:
    arguments = {"sos": SOS, "n_channels": 2, "rate_hz": RATE_HZ, **options}
    with pytest.raises(ValueError, match=said):
        SpikeDetector(**arguments)


def test_a_wrong_block_is_refused() -> None:
    detector = SpikeDetector(SOS, 2, RATE_HZ)
    with pytest.raises(ValueError, match="shape"):
        detector.process(np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match="shape"):
        detector.process(np.zeros((5, 2), np.float32), y=np.zeros((4, 2), np.float32))
    x = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="same memory"):
        detector.process(x, y=x)
    with pytest.raises(ValueError, match="good"):
        detector.set_good([False, False])
    assert detector.process(np.zeros((0, 2), np.float32)).counts.shape == (0, 2)


def test_a_second_thread_is_refused() -> None:
    detector = SpikeDetector(SOS, 256, RATE_HZ, reference="median")
    x = np.random.default_rng(0).standard_normal((60_000, 256)).astype(np.float32)
    started = threading.Event()

    def work() -> None:
        started.set()
        detector.process(x)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    refused = False
    while thread.is_alive() and not refused:
        try:
            detector.process(x[:1])
        except RuntimeError:
            refused = True
    thread.join()
    assert refused
