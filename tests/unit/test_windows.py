"""Windows that the tick closes: which samples they hold, what stands in them, and when."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from boards import PERIOD_NS, T0_NS, Board, run
from scipy.signal import sosfilt, sosfilt_zi

from phantomd.config import CcaConfig, Config, GridConfig, load
from phantomd.contracts import FeatureWindow
from phantomd.core.analysis import read_signal
from phantomd.core.cca import FilterBankCCA
from phantomd.core.sos import FilterBank
from phantomd.engine.engine import Engine
from phantomd.errors import ConfigError
from phantomd.signal.analysis import _subband, layout_of, make_analysis
from phantomd.signal.designs import BANDS_HZ, band_pass
from phantomd.signal.windows import Window, WindowStage

STEP_NS = 250_000_000
TARGETS = CcaConfig(targets_hz=(8.0, 10.0, 12.0), windows_s=(0.5, 1.0))


class Bench:
    """An engine with one board, and the windows that came of it."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.engine = Engine(
            self.config, T0_NS, virtual=True, analyse=partial(make_analysis, self.config)
        )
        self.board = Board()
        self.slot = self.engine.attach(self.board)
        self.said: list[tuple[str, int | None, dict[str, object], bool]] = []
        self.windows: list[tuple[FeatureWindow, Window]] = []
        self.stage = WindowStage(lambda: self.engine.slots, self.config, self.publish)
        self.stage.listen(lambda features, window: self.windows.append((features, window)))

    def publish(self, stream, t_ns, data, late=False) -> None:
        self.said.append((stream, t_ns, data, late))

    def run(self, begin_s: float, end_s: float, lost: tuple[int, ...] = ()) -> None:
        for ms in range(round(1e3 * begin_s), round(1e3 * end_s), 4):
            run(self.engine, self.board, ms / 1e3, (ms + 4) / 1e3, lost)
            self.stage.on_tick(T0_NS + ms * 1_000_000)

    def whole(self) -> list[tuple[FeatureWindow, Window]]:
        return [(features, window) for features, window in self.windows if window.is_whole]


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
        first, until = window.record[5], window.record[6]
        _, t_ns, _, _ = read_signal(quiet.slot.signal, first, until)
        if len(t_ns):  # what is older than the ring has been overwritten
            # The clock moves by microseconds while the window lasts.
            assert t_ns[0] >= window.start_ns - 100_000
            assert t_ns[-1] < window.end_ns + 100_000
        assert until - first in (249, 250, 251)
    for (_, before), (_, after) in pairwise(quiet.whole()):
        assert before.record[5] < after.record[5] <= before.record[6] < after.record[6]


def test_it_is_closed_by_the_tick_that_sees_its_last_sample(quiet):
    for features, _ in quiet.whole():
        assert features.arrival_ns is not None
        assert 0 <= features.closed_ns - features.arrival_ns <= PERIOD_NS


def test_powers_are_those_of_sosfilt_over_the_same_samples(quiet):
    x = read_signal(quiet.slot.signal, 0, 1 << 60)[3][:, :8]
    layout = layout_of(quiet.config, quiet.board.spec)
    for b, name in enumerate(layout.bands):
        sos = band_pass(BANDS_HZ[name], 250.0)
        y, _ = sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])
        compared = 0
        for features, window in quiet.whole():
            first, until = window.record[5], window.record[6]
            mine = layout.powers(window.record[10])[b]
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
    filters = FilterBank([_subband(band, 250.0) for band in range(3)], 8, 250.0)
    y = np.ascontiguousarray(filters.process(x).transpose(1, 0, 2))
    for features, window in quiet.whole()[-3:]:
        bank = FilterBankCCA(
            TARGETS.targets_hz, [125, 250], bands=3, rate_hz=250.0, channels=8, harmonics=5
        )
        bank.push(np.ascontiguousarray(y[:, : window.record[6]]))
        for seconds, row in zip((0.5, 1.0), bank.scores(), strict=True):
            for hz, score in zip(TARGETS.targets_hz, row, strict=True):
                mine = features.features[f"fbcca.{hz:g}Hz.{seconds:g}s"]
                assert mine is None if np.isnan(score) else mine == pytest.approx(score, abs=1e-9)


def test_a_short_loss_is_bridged_and_counted():
    bench = Bench()
    bench.run(0.0, 6.0, lost=(1000, 1001))
    hit = [pair for pair in bench.windows if pair[1].record[8]]
    assert len(hit) == 4
    for features, window in hit:
        assert window.record[8] == window.record[9] == 2
        assert features.quality.dropout_rate == pytest.approx(2 / 250)
        assert features.features["beta_uv2"] is not None


def test_under_a_long_loss_powers_are_absent_and_never_zero():
    bench = Bench()
    bench.run(0.0, 8.0, lost=tuple(range(1000, 1020)))
    hit = [pair for pair in bench.windows if pair[1].record[8]]
    assert len(hit) == 4
    for features, window in hit:
        assert window.record[9] == 0
        assert all(features.features[f"{name}_uv2"] is None for name in ("alpha", "beta"))
    after = [f for f, w in bench.windows if w.record[5] > 1020 + 250]
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
    assert t_ns == data["window"]["end_ns"] == quiet.windows[-1][1].end_ns
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
