"""The simulator against its own truth and SciPy's spectra, on a virtual clock."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from phantomd.contracts import MONTAGE
from phantomd.core.intake import NATIVE_HEAD_WORDS, Pump
from phantomd.core.sim import COUNT_UV, PARTS, RAIL_UV
from phantomd.devices.base import Address
from phantomd.devices.simulator import SimEvent, Simulator, open_simulator
from phantomd.devices.simulator_options import FAULTS, KEYS, config_of
from phantomd.errors import BadAddress, UnsupportedFault

S = 1_000_000_000
RATE = 250
#: Nothing but the background.
QUIET = (
    "alpha_uv=0&line_hz=0&blink_per_min=0&emg_per_min=0&pop_per_min=0&offset_mv=0&noise_uv=0"
    "&adc=ideal"
)


def simulator(options: str = "", labels: tuple[str, ...] = MONTAGE) -> Simulator:
    return open_simulator(Address.parse(f"simulator:?{options}"), labels)


def run(device: Simulator, seconds: float, step_s: float | None = None) -> NDArray[np.float64]:
    """From 0 to ``seconds``; the native ring's values, NaN where a sample was lost."""
    end_ns = int(seconds * S)
    for now_ns in range(0, end_ns, int(step_s * S) if step_s else end_ns):
        device.driver.advance(now_ns)
    device.driver.advance(end_ns)
    return native(device)


def native(device: Simulator, first: int = 0) -> NDArray[np.float64]:
    ring = device.driver.intake.ring
    frames = np.array([ring.read(index) for index in range(first, ring.next)])
    return frames[:, NATIVE_HEAD_WORDS:].view(np.float64)


def wait_until(what: Callable[[], bool]) -> None:
    never = threading.Event()
    for _ in range(4000):
        if what():
            return
        never.wait(0.0025)
    raise AssertionError("it did not come within 10 s")


def psd(x: NDArray[np.float64], rate_hz: float = RATE, seconds: float = 8.0) -> Any:
    """Mean over channels of Welch's one-sided density."""
    f, p = signal.welch(x, rate_hz, nperseg=int(seconds * rate_hz), axis=0)
    return f, p.mean(axis=1)


def band_power(x: NDArray[np.float64], low: float, high: float) -> float:
    f, p = psd(x)
    return float(p[(f >= low) & (f <= high)].sum() * f[1])


# -- what it is ------------------------------------------------------------------------------------


def test_spec_says_what_the_address_asked_for() -> None:
    spec = simulator("channels=10&rate_hz=500&delay_ms=3").spec
    assert spec.labels == (*MONTAGE, "F7", "F8")
    assert (spec.rate_hz, spec.simulated, spec.counter_modulus) == (500.0, True, 0)
    assert spec.transport_us == 3000.0
    assert spec.info["range_uv"] == [-RAIL_UV, RAIL_UV]


@pytest.mark.parametrize(
    "options", ["seed=3", "seed=3&channels=32&rate_hz=64", "seed=3&channels=1&rate_hz=2000"]
)
def test_same_samples_whatever_the_steps(options: str) -> None:
    faults = "&faults=drop@2..6:p=0.1,stall@7..8,unplug@9..11,blink@12&chaos_per_min=6"
    first = run(simulator(options + faults), 20)
    second = run(simulator(options + faults), 20, step_s=0.0237)
    assert np.array_equal(first, second, equal_nan=True)


def test_another_seed_is_another_signal() -> None:
    one = np.diff(simulator("seed=1").truth(0, 5000)["background"][:, 4])
    other = np.diff(simulator("seed=2").truth(0, 5000)["background"][:, 4])
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_a_saved_state_goes_on_with_the_same_samples() -> None:
    one, other = simulator("seed=5"), simulator("seed=5")
    run(one, 10)
    other.driver.state = one.driver.state
    other.driver.intake.state = one.driver.intake.state
    other.driver.intake.ring.skip(one.driver.intake.ring.next)
    for device in (one, other):
        device.driver.advance(15 * S)
    resumed = native(other, 10 * RATE)
    assert len(resumed) > 1200 and np.array_equal(native(one, 10 * RATE), resumed)


# -- truth -----------------------------------------------------------------------------------------


def test_parts_sum_to_the_signal() -> None:
    truth = simulator("seed=4&ssvep=12,15&adc=ideal").truth(0, 60 * RATE)
    total = sum(truth[part] for part in PARTS)
    off = np.abs(total - truth["signal"])
    assert (off <= 0.5 * np.spacing(np.abs(total).astype(np.float32)) + 1e-9).all()


def test_converter_rounds_to_24_bits() -> None:
    truth = simulator("seed=4").truth(0, 10 * RATE)
    counts = truth["signal"] / COUNT_UV
    assert np.abs(counts - np.rint(counts)).max() < 1e-6
    total = sum(truth[part] for part in PARTS)
    assert np.abs(total - truth["signal"]).max() <= 0.5 * COUNT_UV + 1e-9


def test_truth_is_what_was_sent_also_after_faults() -> None:
    device = simulator("seed=9&faults=pop@3:channel=P4:uv=900")
    driver = device.driver
    driver.advance(0)
    driver.advance(5 * S)
    device.truth(0, 2000)
    device.fault("blink", None, {"uv": 250})
    device.fault("flatline", 0.5, {"channels": ["C3", 7]})
    driver.advance(6 * S)
    device.fault("eyes", None, {"state": "closed"})
    device.fault("saturate", 0.2, {"channel": 0})
    driver.advance(10 * S)
    sent = native(device)
    assert np.array_equal(device.truth(0, len(sent))["signal"], sent)
    assert sent[:, 0].max() == RAIL_UV
    assert [event.kind for event in device.faults()] == [
        "pop", "blink", "flatline", "eyes", "saturate"
    ]  # fmt: skip


def test_truth_can_be_asked_again_and_out_of_order() -> None:
    device = simulator("seed=6")
    late, early = device.truth(5000, 100)["signal"], device.truth(100, 100)["signal"]
    whole = device.truth(0, 5100)["signal"]
    assert np.array_equal(whole[5000:], late) and np.array_equal(whole[100:200], early)


# -- the signal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("rate_hz", [250, 1000])
def test_background_has_the_exponent(exponent: float, rate_hz: int) -> None:
    device = simulator(f"seed=2&exponent={exponent}&rate_hz={rate_hz}&{QUIET}")
    f, p = psd(device.truth(0, 200 * rate_hz)["background"], rate_hz)
    band = (f >= 1) & (f <= 45)
    slope = np.polyfit(np.log(f[band]), np.log(p[band]), 1, w=1 / np.sqrt(f[band]))[0]
    assert slope == pytest.approx(-exponent, abs=0.12)


def test_background_has_its_rms() -> None:
    background = simulator("seed=2").truth(0, 400 * RATE)["background"]
    assert np.sqrt(band_power(background, 0.5, 40)) == pytest.approx(10.0, rel=0.05)


def test_neighbours_correlate_more_than_opposite_ends() -> None:
    background = simulator("seed=2").truth(0, 200 * RATE)["background"]
    r = np.asarray(np.corrcoef(np.diff(background, axis=0).T))
    # shared · (1 + cos angle) / 2, from the positions
    assert r[0, 2] == pytest.approx(0.5 * (1 + 0.309 * 0.545 + 0.951 * 0.673) / 2, abs=0.03)
    assert r[0, 2] > r[0, 4] > r[0, 7]


def test_alpha_rises_when_the_eyes_close() -> None:
    closed = simulator("seed=2&eyes=closed").truth(0, 200 * RATE)["signal"][:, 6:]
    opened = simulator("seed=2").truth(0, 200 * RATE)["signal"][:, 6:]
    ratio = band_power(closed, 9, 11.5) / band_power(opened, 9, 11.5)
    assert 4 < ratio < 9


def test_alpha_waxes_and_wanes_about_its_rms() -> None:
    device = simulator("seed=2&alpha_uv=6")
    phase, peak = device.alpha(0, 600 * RATE)
    alpha = device.truth(0, 600 * RATE)["alpha"]
    weight = device.config.sites[6].alpha
    assert np.abs(alpha[:, 6] - weight * peak * np.cos(phase)).max() < 1e-9
    assert np.sqrt(np.mean(peak**2) / 2) == pytest.approx(6.0, rel=0.15)
    assert np.percentile(peak, 95) / np.percentile(peak, 5) > 4
    turns = np.unwrap(phase) / (2 * np.pi)
    # wander of 0.35 Hz that forgets itself in 8 s: 0.04 Hz (sd) of the mean over 600 s
    assert (turns[-1] - turns[0]) / 600 == pytest.approx(10.2, abs=0.12)


def test_ssvep_is_on_frequency_phase_and_schedule() -> None:
    device = simulator("ssvep=12@0..4,15@4..8&ssvep_period_s=8&ssvep_uv=5&ssvep_harmonics=1")
    ssvep = device.truth(0, 80 * RATE)["ssvep"][:, 6] / device.config.sites[6].ssvep
    t = np.arange(80 * RATE) / RATE
    settled = (t % 8 > 1) & (t % 8 < 4)
    assert np.abs(ssvep - 5 * np.sin(2 * np.pi * 12 * t))[settled].max() < 1e-3
    settled = t % 8 > 5
    assert np.abs(ssvep - 5 * np.sin(2 * np.pi * 15 * t))[settled].max() < 1e-3


@pytest.mark.parametrize("line_hz", [50, 60])
def test_line_is_at_its_frequency_with_a_third_harmonic(line_hz: int) -> None:
    device = simulator(f"line_hz={line_hz}&rate_hz=1000")
    f, p = psd(device.truth(0, 100_000)["line"], 1000, seconds=50)
    assert f[p.argmax()] == pytest.approx(line_hz, abs=0.05)
    first = p[np.abs(f - line_hz) < 1].sum()
    third = p[np.abs(f - 3 * line_hz) < 1].sum()
    assert np.sqrt(third / first) == pytest.approx(0.2, rel=0.05)


def test_a_tone_beyond_half_the_rate_is_absent() -> None:
    truth = simulator("rate_hz=64").truth(0, 1000)
    assert not truth["line"].any() and truth["alpha"].any()
    assert np.isfinite(truth["signal"]).all()


def test_blinks_come_at_their_rate_with_a_refractory_time() -> None:
    device = simulator("seed=8&channels=1&blink_per_min=15")
    blinks = [e for e in device.events(0, 3600 * RATE) if e.kind == "blink"]
    # a Poisson count of 900 less regular by the refractory time: 4 sd are under 120
    assert abs(len(blinks) - 900) < 120
    assert np.diff([blink.start for blink in blinks]).min() >= int(0.8 * RATE)
    assert all(80 <= blink.value <= 300 for blink in blinks)


def test_a_blink_has_its_height_shape_and_topography() -> None:
    device = simulator(f"{QUIET}&faults=blink@2:uv=200")
    blink = device.truth(0, 4 * RATE)["blink"]
    fp1 = blink[:, 0]
    assert fp1.max() == pytest.approx(200, rel=0.02)
    assert fp1.min() == pytest.approx(-0.12 * 200, rel=0.05)
    assert 0.30 <= np.count_nonzero(fp1) / RATE <= 0.36
    assert np.flatnonzero(fp1)[0] - 2 * RATE in (0, 1)
    heights = blink.max(axis=0)[[0, 2, 4, 6]]
    assert (np.diff(heights) < 0).all() and heights[-1] < 0.05 * heights[0]


def test_emg_lies_within_its_burst_and_band() -> None:
    device = simulator(f"rate_hz=1000&{QUIET}&faults=emg@1..61:uv=40")
    emg = device.truth(0, 63_000)["emg"]
    assert not emg[:1000].any() and not emg[61_010:].any() and emg[1100:60_900].all()
    weight = device.config.sites[0].emg
    assert emg[2000:60_000, 0].std() == pytest.approx(40 * weight, rel=0.05)
    f, p = psd(emg[2000:60_000], 1000)
    inside = p[(f > 20) & (f < 120)].sum() / p.sum()
    assert inside > 0.75


def test_a_pop_steps_one_channel_and_recovers() -> None:
    device = simulator(f"{QUIET}&faults=pop@2:channel=C4:uv=1500")
    pop = device.truth(0, 8 * RATE)["pop"]
    assert pop[2 * RATE - 1, 5] == 0 and pop[2 * RATE, 5] == 1500
    assert pop[2 * RATE + RATE // 2, 5] == pytest.approx(1500 / np.e, rel=1e-6)
    assert not np.delete(pop, 5, axis=1).any() and pop[-1, 5] == 0


def test_offsets_stay_within_their_range_and_drift_slowly() -> None:
    offset = simulator("offset_mv=60&channels=32").truth(0, 120 * RATE)["offset"]
    assert 30_000 < np.abs(offset).max() < 60_500
    assert np.abs(np.diff(offset, axis=0)).max() < 0.5


def test_events_agree_with_the_parts() -> None:
    device = simulator("seed=12&pop_per_min=6")
    n = 300 * RATE
    truth, events = device.truth(0, n), device.events(0, n)
    for kind, part in (("blink", "blink"), ("emg", "emg")):
        within = np.zeros(n + 2 * RATE, bool)
        for event in events:
            if event.kind == kind and event.n is not None:
                within[event.start : event.start + event.n] = True
        assert not truth[part][~within[:n]].any()
    pops = [event for event in events if event.kind == "pop"]
    assert pops and all(len(pop.channels) == 1 for pop in pops)


# -- faults ----------------------------------------------------------------------------------------


def play(kind: str, options: str = "", **args: Any) -> tuple[Simulator, SimEvent]:
    """40 s with the fault asked for after 4 s; the device, and what the log says in the end."""
    device = simulator(options)
    duration_s = args.pop("duration_s", None)
    device.driver.advance(0)
    device.driver.advance(4 * S)
    device.fault(kind, duration_s, args)
    device.driver.advance(40 * S)
    (event,) = device.faults()
    return device, event


@pytest.mark.parametrize("counter", [0, 256])
@pytest.mark.parametrize(
    ("kind", "args", "lost"),
    [
        ("burst", {"n": 12}, 12),
        ("gap", {"duration_s": 0.5}, 125),
        ("silence", {"duration_s": 5}, 1250),
        ("wrap", {"turns": 1}, 256),
        ("drop", {"p": 1.0, "duration_s": 0.2}, 50),
        ("stall", {"duration_s": 2}, 0),
        ("clump", {"ms": 64}, 0),
        ("duplicate", {"p": 0.5}, 0),
    ],
)
def test_lost_frames_are_the_dropped_ones(
    kind: str, args: dict[str, Any], lost: int, counter: int
) -> None:
    device, event = play(kind, f"counter={counter}", **args)
    counters = device.driver.intake.counters()
    assert counters["lost"] == lost
    values = native(device)
    missing = np.flatnonzero(np.isnan(values[:, 0]))
    assert missing.tolist() == list(range(event.start, event.start + lost))
    truth = device.truth(0, len(values))["signal"]
    kept = ~np.isnan(values[:, 0])
    assert np.array_equal(values[kept], truth[kept])
    if lost:
        assert event.did == lost


def test_a_fault_begins_with_the_next_sample_taken() -> None:
    _, event = play("gap", duration_s=1)
    assert event.start == 4 * RATE + 1


def test_configured_drops_are_counted() -> None:
    device = simulator("drop=0.02&duplicate=0.01")
    run(device, 60)
    counters = device.driver.intake.counters()
    assert counters["lost"] == device.dropped > 200
    assert counters["duplicates"] == device.duplicated > 80


def test_an_unplugged_device_returns_as_a_reset() -> None:
    device, event = play("unplug", duration_s=3)
    assert device.driver.intake.counters()["resets"] == 2
    assert event.did == 750


def test_flatline_holds_the_last_value() -> None:
    device, event = play("flatline", channels="F3/F4", duration_s=2)
    assert event.channels == ("F3", "F4")
    flat = native(device)[event.start - 1 : event.start + 500]
    assert (np.ptp(flat, axis=0) == 0).tolist() == [c in (2, 3) for c in range(8)]


def test_chaos_is_seeded_and_accounts_for_its_losses() -> None:
    device = simulator("seed=3&chaos_per_min=6")
    for now_s in range(301):
        device.driver.advance(now_s * S)
    faults = device.faults()
    assert {event.cause for event in faults} == {"chaos"} and len(faults) > 15
    lossy = sum(event.did or 0 for event in faults if event.kind in ("drop", "burst", "gap"))
    assert device.driver.intake.counters()["lost"] == lossy > 0


def test_faults_asked_while_a_pump_runs_end_in_the_log() -> None:
    device = simulator("rate_hz=16000")
    pump = Pump(device.driver, priority=0)
    try:
        wait_until(lambda: device.driver.intake.counters()["accepted"] > 0)
        device.fault("gap", 0.01, {})
        wait_until(lambda: any(event.did is not None for event in device.faults()))
        done = device.driver.intake.counters()["accepted"]
        wait_until(lambda: device.driver.intake.counters()["accepted"] > done)
    finally:
        pump.stop()
    (event,) = device.faults()
    assert event.did == 160 == device.driver.intake.counters()["lost"]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("sed=1", "did you mean seed"),
        ("rate_hz=8", "64..16000"),
        ("rate_hz=nan", "64..16000"),
        ("channels=33", "1..32"),
        ("channels=2.5", "whole number"),
        ("eyes=shut", "open, closed"),
        ("jitter=normal", "exponential, gamma, spikes"),
        ("line_hz=10", "45..65 or 0"),
        ("ssvep=12,130", "under 125 Hz"),
        ("ssvep=12@4..2", "windows of seconds"),
        ("ssvep=1,2,3,4,5,6,7,8,9", "up to 8"),
        ("faults=gap", "kind@start"),
        ("faults=gapp@3", "did you mean gap"),
        ("faults=gap@3:p=1", "it takes none"),
        ("faults=flatline@1..2:channel=Oz", "channels are Fp1"),
    ],
)
def test_a_bad_option_is_named_with_what_it_can_be(options: str, hint: str) -> None:
    with pytest.raises(BadAddress) as caught:
        simulator(options)
    assert hint in caught.value.hint
    assert options.partition("=")[0] in caught.value.message


def test_a_simulator_is_nowhere() -> None:
    with pytest.raises(BadAddress):
        open_simulator(Address.parse("simulator:/dev/ttyUSB0"), MONTAGE)


@pytest.mark.parametrize(
    ("kind", "duration_s", "args", "hint"),
    [
        ("explode", None, {}, "it plays drop, burst"),
        ("drop", None, {"q": 1}, "it takes p"),
        ("drop", None, {"p": 2}, "0..1"),
        ("drop", None, {"p": [1]}, "0..1"),
        ("burst", 3.0, {}, "leave duration_s out"),
        ("gap", -1.0, {}, "more than 0"),
        ("gap", float("nan"), {}, "more than 0"),
        ("stall", 4000.0, {}, "at most 3600"),
        ("flatline", None, {"channel": "Xx"}, "channels are Fp1"),
        ("flatline", None, {"channels": []}, "leave channels out"),
        ("flatline", None, {"channels": [8]}, "0..7"),
    ],
)
def test_a_bad_fault_is_refused_with_a_hint(
    kind: str, duration_s: float | None, args: dict[str, Any], hint: str
) -> None:
    with pytest.raises(UnsupportedFault) as caught:
        simulator().fault(kind, duration_s, args)
    assert hint in caught.value.hint


def test_faults_asked_too_fast_are_refused_and_leave_it_running() -> None:
    device = simulator()
    with pytest.raises(UnsupportedFault, match="taken up"):
        for _ in range(5000):
            device.fault("blink", None, {})
    device.driver.advance(0)
    device.driver.advance(S)
    assert sum(event.refused for event in device.faults()) > 0
    assert device.driver.intake.counters()["accepted"] > 200


def test_truth_says_when_faults_were_forgotten() -> None:
    device = simulator()
    with pytest.raises(UnsupportedFault):
        for _ in range(5000):
            device.fault("blink", None, {})
    device.driver.advance(0)
    with pytest.raises(LookupError):
        device.truth(0, 10)


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_plays_with_its_defaults(kind: str) -> None:
    _, event = play(kind)
    assert event.kind == kind and event.cause == "asked"
    assert (event.n is None) == (event.did is None)


def test_every_option_is_in_the_docs(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "simulator.md").read_text()
    assert [key for key in KEYS if f"`{key}`" not in page] == []
    assert [kind for kind in FAULTS if f"`{kind}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [("silence", "gap", 0.0), ("footer", "drop", 0.05), ("marker", "burst", 1.0)],
)
def test_faults_of_bytes_and_radios_are_what_becomes_of_their_samples(
    name: str, kind: str, value: float
) -> None:
    config = config_of(Address.parse(f"simulator:?faults={name}@2"), MONTAGE)
    (fault,) = config.schedule
    assert (fault.kind, fault.start) == (kind, 500)
    assert fault.value == value
