"""The broadband device on a virtual clock: the detector's own bins, on time, late, at the end."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import butter

from phantomd.core.spike import SpikeDetector
from phantomd.devices.broadband import Bin, Broadband, BroadbandOptions
from phantomd.devices.broadband_synthetic import EVENT, synthetic
from phantomd.errors import BadAddress

START_NS = 5_000_000_000
BIN_NS = 25_000_000


def made_up(seconds: float = 1.0, channels: int = 8) -> tuple[npt.NDArray[np.int16], Any]:
    return synthetic(channels, 30_000.0, seconds, seed=3, spikes_hz=20.0)


def direct(samples: npt.NDArray[Any], options: BroadbandOptions) -> npt.NDArray[np.uint16]:
    sos = butter(2, (300, 6000), "bandpass", fs=options.rate_hz, output="sos")
    detector = SpikeDetector(
        sos,
        options.channels,
        options.rate_hz,
        reference=options.reference,
        scale=options.scale_uv,
    )
    return detector.process(samples).counts


def play(device: Broadband, seconds: float, step_ns: int = BIN_NS) -> list[Bin]:
    device.advance(START_NS)
    bins = []
    for now_ns in range(START_NS, START_NS + round(seconds * 1e9) + 1, step_ns):
        device.advance(now_ns)
        bins += device.bins.read()
    return bins


def test_the_bins_are_those_of_the_detector() -> None:
    samples, _ = made_up()
    options = BroadbandOptions(channels=8, loop=False)
    bins = play(Broadband(samples, options), 1.0)
    assert [b.bin_index for b in bins] == list(range(40))
    assert [b.t_ns for b in bins] == [START_NS + BIN_NS * (i + 1) for i in range(40)]
    assert not any(b.late for b in bins)
    np.testing.assert_array_equal([b.counts for b in bins], direct(samples, options))


def test_no_bin_comes_before_its_last_sample() -> None:
    samples, _ = made_up()
    device = Broadband(samples, BroadbandOptions(channels=8))
    assert device.advance(START_NS) == START_NS + BIN_NS
    device.advance(START_NS + BIN_NS - 1)
    assert device.bins.read() == []
    device.advance(START_NS + BIN_NS)
    assert len(device.bins.read()) == 1


def test_late_bins_come_all_the_same_and_are_counted() -> None:
    samples, _ = made_up()
    options = BroadbandOptions(channels=8, loop=False)
    device = Broadband(samples, options)
    device.advance(START_NS)
    device.advance(START_NS + 10 * BIN_NS)
    bins = device.bins.read()
    assert [b.late for b in bins] == [True] * 8 + [False] * 2
    assert device.counters()["late"] == 8
    np.testing.assert_array_equal([b.counts for b in bins], direct(samples, options)[:10])


def test_a_recording_ends_or_begins_again() -> None:
    samples, _ = made_up(0.26)
    once = Broadband(samples, BroadbandOptions(channels=8, loop=False))
    assert len(play(once, 2.0)) == 10
    assert once.driver.ended
    options = BroadbandOptions(channels=8, loop=True)
    again = Broadband(samples, options)
    bins = play(again, 2.0)
    assert len(bins) == 80
    twice = np.concatenate([samples] * 8)
    np.testing.assert_array_equal([b.counts for b in bins], direct(twice, options)[:80])


def test_a_slow_reader_is_told_what_it_lost() -> None:
    samples, _ = made_up()
    device = Broadband(samples, BroadbandOptions(channels=8))
    device.advance(START_NS)
    device.advance(START_NS + 100 * BIN_NS)
    bins = device.bins.read()
    assert device.bins.lost == 36
    assert [b.bin_index for b in bins] == list(range(36, 100))


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_raw_file_is_played(tmp_path: Path, kind: str) -> None:
    samples, _ = made_up(0.5)
    values = samples if kind == "int16" else (samples * np.float32(0.195)).astype(np.float32)
    path = tmp_path / "array.raw"
    values.tofile(path)
    device = Broadband.open(f"broadband:{path}?channels=8&format={kind}&loop=false")
    bins = play(device, 0.5)
    assert device.spec.kind == "broadband"
    assert len(device.spec.labels) == 8
    assert not device.spec.simulated
    expected = direct(samples, BroadbandOptions(channels=8))
    np.testing.assert_array_equal([b.counts for b in bins], expected)


def test_the_same_seed_gives_the_same_recording() -> None:
    (a, true_a), (b, true_b), (c, _) = (
        synthetic(4, 30_000.0, 0.5, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(true_a, true_b)
    assert (a != c).any()


def test_spikes_that_were_put_in_come_out() -> None:
    """19 of 20 within 0.5 ms of their trough, and hardly any where there is none.

    Up to 3 ms later a large spike's way back may cross the threshold again.
    """
    samples, truth = synthetic(16, 30_000.0, 4.0, seed=5, spikes_hz=15.0)
    assert truth.dtype == EVENT
    sos = butter(2, (300, 6000), "bandpass", fs=30_000.0, output="sos")
    detector = SpikeDetector(sos, 16, 30_000.0, reference="median", scale=0.195)
    found = detector.process(samples).events
    from_on = 6000
    hits = true = alarms = 0
    for channel in range(16):
        put = truth["index"][(truth["channel"] == channel) & (truth["index"] >= from_on)]
        got = found["index"][(found["channel"] == channel) & (found["index"] >= from_on)]
        near = abs(put[:, None] - got[None]) <= 15
        hits += int(near.any(axis=1).sum())
        true += len(put)
        after = got[None] - put[:, None]
        alarms += int((~((after >= -15) & (after <= 90)).any(axis=0)).sum())
    assert true > 500
    assert hits >= 0.95 * true
    assert alarms <= 0.02 * true


def test_live_a_thread_of_its_own_plays_it() -> None:
    device = Broadband.open("broadband:?channels=4&seconds=0.5&bin_ms=2&seed=2")
    assert device.truth is not None
    assert device.spec.simulated
    before_ns = time.monotonic_ns()
    device.start(priority=0)
    bins: list[Bin] = []
    tick = threading.Event()
    while len(bins) < 20 and time.monotonic_ns() - before_ns < 20e9:
        bins += device.bins.read()
        tick.wait(0.002)
    device.close()
    assert [b.bin_index for b in bins] == list(range(len(bins)))
    assert len(bins) >= 20
    steps = np.diff([b.t_ns for b in bins])
    assert abs(steps - 2_000_000).max() <= 1
    assert before_ns <= bins[0].t_ns <= time.monotonic_ns()
    count = device.counters()["bins"]
    device.close()
    assert device.counters()["bins"] == count


def test_the_detector_belongs_to_the_device() -> None:
    samples, _ = made_up(0.1)
    device = Broadband(samples, BroadbandOptions(channels=8))
    with pytest.raises(RuntimeError):
        device.driver.detector.process(np.zeros((1, 8), np.int16))
    assert len(device.driver.detector.noise) == 8


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("simulator:", "no broadband device"),
        ("broadband:?chanels=4", "chanels"),
        ("broadband:?channels=many", "channels"),
        ("broadband:?channels=0&seconds=0.1", "recording"),
        ("broadband:?format=int8", "format"),
        ("broadband:?low_hz=7000&seconds=0.1", "no band-pass"),
        ("broadband:?reference=mode", "reference"),
        ("broadband:/no/such/file", "can't be read"),
    ],
)
def test_an_address_that_can_not_be_is_refused(address: str, said: str) -> None:
    with pytest.raises(BadAddress, match=said):
        Broadband.open(address)


def test_a_file_of_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(b"\0" * 50)
    with pytest.raises(BadAddress, match="whole number"):
        Broadband.open(f"broadband:{path}?channels=8")
