"""Windows that the tick closes: which samples they hold, what stands in them, and when."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from boards import PERIOD_NS, T0_NS, Board
from scipy.signal import sosfilt, sosfilt_zi
from windows_bench import Bench, noise

from phantomd.config import CcaConfig, Config, GridConfig, MontageConfig, load
from phantomd.contracts import Flag
from phantomd.core.analysis import read_signal
from phantomd.core.cca import FilterBankCCA
from phantomd.core.connectivity import MEASURES, Connectivity
from phantomd.core.engine import GridReader
from phantomd.core.sos import FilterBank
from phantomd.devices.base import Address
from phantomd.devices.simulator import open_simulator
from phantomd.errors import ConfigError
from phantomd.signal.analysis import layout_of
from phantomd.signal.designs import BANDS_HZ
from phantomd.signal.filters import Filter, design_aside
from phantomd.signal.filters import sos as sos_of

STEP_NS = 250_000_000
TARGETS = CcaConfig(targets_hz=(8.0, 10.0, 12.0), windows_s=(0.5, 1.0))


@pytest.fixture(scope="module")
def quiet() -> Bench:
    bench = Bench(Config(cca=TARGETS))
    bench.run(0.0, 8.0)
    return bench


def test_windows_follow_each_other_on_the_host_s_time(quiet):
    assert len(quiet.windows) == 32 or len(quiet.windows) == 31
    for (_, before), (_, after) in pairwise(quiet.windows):
        assert after.index == before.index + 1
        assert after.end_ns == before.end_ns + STEP_NS
    for features, window in quiet.windows:
        assert window.end_ns == T0_NS + window.index * STEP_NS
        assert window.end_ns - window.start_ns == 4 * STEP_NS
        assert features.index == window.index


def test_a_window_holds_the_samples_of_its_time_and_no_others(quiet):
    for _, window in quiet.whole():
        first, until = window.native
        _, t_ns, _, _ = read_signal(quiet.slot.signal, first, until)
        if len(t_ns):  # what is older than the ring has been overwritten
            # The clock moves by microseconds while the window lasts.
            assert t_ns[0] >= window.start_ns - 100_000
            assert t_ns[-1] < window.end_ns + 100_000
        assert until - first in (249, 250, 251)
    for (_, before), (_, after) in pairwise(quiet.whole()):
        assert before.native[0] < after.native[0] <= before.native[1] < after.native[1]


def test_it_is_closed_by_the_tick_that_sees_its_last_sample(quiet):
    for features, _ in quiet.whole():
        assert features.arrival_ns is not None
        assert 0 <= features.closed_ns - features.arrival_ns <= PERIOD_NS


def test_the_tick_looks_for_a_window_s_last_sample_when_it_is_expected():
    """Stepped when it asked to be, and not a grid period later."""
    bench = Bench()
    bench.run(0.0, 4.0)  # the clock is locked
    bench.windows.clear()
    now_ns, until_ns, steps = T0_NS + 4 * 10**9, T0_NS + 12 * 10**9, 0
    while now_ns < until_ns:
        bench.board.send(now_ns)
        next_ns = bench.engine.step(now_ns)
        bench.stage.on_tick(now_ns)
        steps += 1
        now_ns = max(next_ns, now_ns + 1)
    waits_ns = [one.closed_ns - one.arrival_ns for one, _ in bench.whole()]
    assert len(waits_ns) >= 30 and max(waits_ns) <= 1_000_000
    assert steps < 8 * (128 + 40 + 2 * 4), "frames, heartbeats, and two looks a window"


def test_powers_are_those_of_sosfilt_over_the_same_samples(quiet):
    x = read_signal(quiet.slot.signal, 0, 1 << 60)[3][:, :8]
    layout = layout_of(quiet.config, quiet.board.spec)
    for b, name in enumerate(layout.bands):
        sos = sos_of(Filter("band", *BANDS_HZ[name], 250.0, 50.0))
        y, _ = sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])
        compared = 0
        for features, window in quiet.whole():
            first, until = window.native
            mine = layout.powers(window.values)[b]
            if np.isnan(mine).any():
                assert features.features[f"{name}_uv2"] is None
                continue
            theirs = (y[first:until] ** 2).mean(axis=0)
            assert mine == pytest.approx(theirs, rel=1e-9)
            assert features.features[f"{name}_uv2"] == pytest.approx(theirs.mean(), rel=1e-9)
            compared += 1
        assert compared >= 3, name


def test_correlations_are_those_of_the_library_on_the_same_samples(quiet):
    x = read_signal(quiet.slot.signal, 0, 1 << 60)[3][:, :8]
    filters = FilterBank(
        [sos_of(Filter("subband", low, 88.0, 250.0)) for low in (6, 16, 24)], 8, 250.0
    )
    y = np.ascontiguousarray(filters.process(x).transpose(1, 0, 2))
    for features, window in quiet.whole()[-3:]:
        bank = FilterBankCCA(
            TARGETS.targets_hz, [125, 250], bands=3, rate_hz=250.0, channels=8, harmonics=5
        )
        bank.push(np.ascontiguousarray(y[:, : window.native[1]]))
        for seconds, row in zip((0.5, 1.0), bank.scores(), strict=True):
            for hz, score in zip(TARGETS.targets_hz, row, strict=True):
                mine = features.features[f"fbcca.{hz:g}Hz.{seconds:g}s"]
                assert mine is None if np.isnan(score) else mine == pytest.approx(score, abs=1e-9)


def test_phases_are_told_against_the_host_s_time():
    """A cosine of 10 Hz that is at its crest at host time 0 has no phase error."""

    def rhythm(n: int) -> np.ndarray:
        t_s = (T0_NS + n * PERIOD_NS) % 10**9 * 1e-9
        lag = np.arange(8) * 0.1
        return noise(n) + 60 * np.cos(2 * np.pi * 10 * t_s - lag)

    bench = Bench(signal=rhythm)
    bench.run(0.0, 6.0)
    features = bench.windows[-1][0].features
    for channel, label in enumerate(bench.board.spec.labels):
        error = features[f"phase_error_rad.{label}"]
        assert error == pytest.approx(-0.1 * channel, abs=0.1)
    assert features["phase_error_mean"] == pytest.approx(-0.35, abs=0.05)
    assert features["plv"] > 0.95
    assert features["phase_frequency_hz"] == pytest.approx(10.0, abs=0.05)
    assert bench.windows[-1][0].quality.snr_db == pytest.approx(10 * np.log10(1800 / 64), abs=2)


def test_a_saturated_channel_clips_and_rejects_its_windows():
    """On a simulator that saturates its third channel from 4 s to 6 s."""
    address = Address.parse("simulator:?seed=2&blink_per_min=0&emg_per_min=0&pop_per_min=0")
    device = open_simulator(address, Config().montage.labels)
    bench = Bench(board=device)
    for ms in range(0, 8000, 4):
        if ms == 4000:
            device.fault("saturate", 2.0, {"channel": 2})
        bench.engine.step(T0_NS + ms * 1_000_000)
        bench.stage.on_tick(T0_NS + ms * 1_000_000)
    during = [f for f, w in bench.whole() if w.native[0] >= 1010 and w.native[1] <= 1490]
    before = [f for f, w in bench.whole() if w.native[0] > 250 and w.native[1] < 990]
    assert len(during) >= 3 and len(before) >= 3
    for features in during:
        assert features.artifacts["clipping"] >= 0.5
        assert features.artifact_flags["clipping"] is True and features.reject
    for features in before:
        assert features.artifacts["clipping"] is not None
        assert features.artifacts["clipping"] < 0.5


def test_without_a_rhythm_there_is_no_phase(quiet):
    undefined = [f.features["plv"] is None for f, _ in quiet.whole()]
    assert np.mean(undefined) > 0.9


def test_a_blink_rejects_its_windows_and_marks_the_frames_after_them():
    def blinking(n: int) -> np.ndarray:
        x = noise(n).copy()
        if 1000 <= n < 1075:
            x[:2] += 250 * np.sin(np.pi * (n - 1000) / 75) ** 2
        return x

    bench = Bench(signal=blinking)
    bench.run(0.0, 8.0)
    clean = [f for f, w in bench.whole() if w.native[1] < 990 or w.native[0] > 1080]
    assert not any(f.reject for f in clean)
    hit = [f for f, w in bench.whole() if w.native[0] <= 1000 and w.native[1] >= 1075]
    assert len(hit) >= 2
    for features in hit:
        assert features.reject and features.artifact_flags["blink"] is True
        assert features.artifacts["blink"] > 0.9 and features.artifacts["pop"] < 0.5
    grid = bench.slot.grid
    frames = GridReader(grid, deadline_ns=0).frames(0, grid.next)
    marked = frames["t_ns"][frames["flags"] & int(Flag.ARTIFACT) > 0]
    assert len(marked) > 64
    assert marked.min() >= T0_NS + 4 * 10**9 and marked.max() < T0_NS + 6 * 10**9


def test_bad_channels_are_left_out_and_the_others_referred_to_their_mean():
    config = Config(montage=MontageConfig(bad=("Fp2",), reference="average"))
    bench = Bench(config)
    bench.run(0.0, 4.0)
    features, window = bench.whole()[-1]
    assert "alpha_uv2.Fp2" not in features.features
    assert window.eeg.shape[1] == 7
    assert abs(window.eeg.mean(axis=1)).max() < 1e-9
    x = read_signal(bench.slot.signal, 0, 1 << 60)[3][:, [0, 2, 3, 4, 5, 6, 7]]
    x = x - x.mean(axis=1)[:, None]
    sos = sos_of(Filter("band", *BANDS_HZ["beta"], 250.0, 50.0))
    y, _ = sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])
    first, until = window.native
    theirs = (y[first:until] ** 2).mean(axis=0)
    assert features.features["beta_uv2"] == pytest.approx(theirs.mean(), rel=1e-9)


def test_pairs_of_channels_are_told_as_the_library_tells_them(quiet):
    pairs = Connectivity(8, 250.0, [BANDS_HZ["beta"]], nperseg=125)
    features, window = quiet.whole()[-1]
    means = pairs.means(pairs.matrices(window.eeg))
    for name in ("wpli", "coh", "imcoh"):
        expected = means[MEASURES.index(name), 0]
        assert features.features[f"beta_{name}"] == pytest.approx(expected, rel=1e-12)


def test_a_short_loss_is_bridged_and_counted():
    bench = Bench()
    bench.run(0.0, 6.0, lost=(1000, 1001))
    hit = [pair for pair in bench.windows if pair[1].lost]
    assert len(hit) == 4
    for features, window in hit:
        assert window.lost == window.record[9] == 2
        assert features.quality.dropout_rate == pytest.approx(2 / 250)
        assert features.features["beta_uv2"] is not None


def test_under_a_long_loss_powers_are_absent_and_never_zero():
    bench = Bench()
    bench.run(0.0, 8.0, lost=tuple(range(1000, 1020)))
    hit = [pair for pair in bench.windows if pair[1].lost]
    assert len(hit) == 4
    for features, window in hit:
        assert window.record[9] == 0
        assert all(features.features[f"{name}_uv2"] is None for name in ("alpha", "beta"))
    after = [f for f, w in bench.windows if w.native[0] > 1020 + 250]
    assert after[-1].features["beta_uv2"] is not None


def test_a_silent_device_goes_on_with_windows_that_hold_nothing():
    bench = Bench()
    bench.run(0.0, 3.0)
    n = len(bench.windows)
    for ms in range(3000, 6000, 4):
        bench.engine.step(T0_NS + ms * 1_000_000)
        bench.stage.on_tick(T0_NS + ms * 1_000_000)
    silent = bench.windows[n:]
    assert len(silent) in (11, 12)
    last_features, last = silent[-1]
    assert last.index == bench.windows[0][1].index + len(bench.windows) - 1
    assert last_features.quality.dropout_rate == 1.0
    assert last_features.reject
    assert set(last_features.features.values()) == {None}


def test_new_settings_leave_no_window_out():
    bench = Bench()
    bench.run(0.0, 4.1)
    bench.engine.apply(GridConfig(hold_ms=30.0))
    bench.run(4.1, 8.0)
    indices = [window.index for _, window in bench.windows]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert bench.windows[-1][0].features["alpha_uv2"] is not None


def test_messages_carry_the_window_and_its_instant(quiet):
    stream, t_ns, data, late = quiet.said[-1]
    assert stream == "features" and not late
    newest = quiet.windows[-1][1]
    assert data["window"]["end_ns"] == newest.end_ns
    _, times, _, _ = read_signal(quiet.slot.signal, *newest.native)
    assert t_ns == times[-1], "of the newest sample"
    assert newest.end_ns - PERIOD_NS - 100_000 <= t_ns < newest.end_ns
    assert data["window"]["arrival_ns"] == quiet.windows[-1][0].arrival_ns
    assert set(data) == {
        "device_id",
        "window",
        "features",
        "artifacts",
        "artifact_flags",
        "reject",
        "quality",
    }


@pytest.mark.parametrize(
    "setting", ["window.length_s=0.6", "analysis.bands={x=[20,10]}", "cca.targets_hz=[-1]"]
)
def test_what_can_not_be_analysed_is_an_error_of_the_configuration(setting):
    with pytest.raises(ConfigError) as refused:
        load(None, [setting])
    assert refused.value.hint


def test_a_band_beyond_the_device_s_rate_is_left_out_there():
    config = Config()
    spec = Board().spec
    slow = layout_of(config, spec.__class__(**{**_fields(spec), "rate_hz": 64.0}))
    assert slow.bands == ("delta", "theta", "alpha", "beta")


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def test_filters_designed_aside_have_the_same_bits(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    wanted = [Filter("band", 30.0, 45.0, 250.0, 50.0), Filter("subband", 6.0, 88.0, 250.0)]
    here = [sos_of(each).copy() for each in wanted]
    monkeypatch.setattr("phantomd.signal.filters._kept", {})
    design_aside(wanted)
    monkeypatch.setattr("phantomd.signal.filters._design", None)
    for each, expected in zip(wanted, here, strict=True):
        assert sos_of(each).tobytes() == expected.tobytes()
