"""Focus against the specification's own Python, mended as reference/oracle.md says."""

from pathlib import Path

import numpy as np
import pytest
from focus_reference import compute_focus
from pyriemann.utils.distance import distance_riemann

from phantomd.formats.edf import read_edf
from phantomd.oracle.cells import NOTHING, Nothing, Value
from phantomd.oracle.focus import BandRatio, FisherRao, Session
from phantomd.oracle.trit import trit_of

T_S = np.arange(128) / 128.0


def sine(hz):
    return np.tile(50 * np.sin(2 * np.pi * hz * T_S), (8, 1)).T.copy()


@pytest.mark.parametrize("seed", range(5))
def test_the_band_ratio_is_the_specification_s(seed):
    window = np.random.default_rng(seed).normal(0, 30, (128, 8)) + np.linspace(-6e4, 6e4, 8)
    content = BandRatio(8)(window)
    assert isinstance(content, Value)
    assert content.value == pytest.approx(compute_focus(window.T), abs=1e-9)


def test_reference_values():
    """shared reference: 10 Hz 0.1192, 20 Hz 1.0, white noise about 0.9987, zeros nothing."""
    ratio = BandRatio(8)
    assert ratio(sine(10)).value == pytest.approx(0.1192, abs=1e-3)
    assert ratio(sine(20)).value == pytest.approx(1.0, abs=1e-6)
    noise = [ratio(np.random.default_rng(seed).normal(0, 20, (128, 8))).value for seed in range(40)]
    assert np.mean(noise) == pytest.approx(0.9987, abs=5e-3)
    assert [trit_of(ratio(sine(hz)).value) for hz in (10, 20)] == [-1, 1]
    assert ratio(np.zeros((128, 8))) == Nothing()


def test_channels_without_alpha_are_left_out():
    window = np.random.default_rng(0).normal(0, 30, (128, 8))
    window[:, 3] = 7.0
    assert BandRatio(8)(window).value == pytest.approx(compute_focus(window.T), abs=1e-9)


def spd(seed):
    a = np.random.default_rng(seed).normal(0, 10, (200, 8))
    return np.cov(a.T)


def test_fisher_rao_is_pyriemann_s_distance_behind_the_sigmoid():
    window = np.random.default_rng(3).normal(0, 30, (128, 8))
    baseline = spd(4)
    d = distance_riemann(np.cov(window.T, bias=True), baseline)
    expected = 1.0 / (1.0 + np.exp(-0.5 * (d - 2.0)))
    assert FisherRao(baseline)(window).value == pytest.approx(expected, abs=1e-9)
    same = FisherRao(np.cov(window.T, bias=True))(window).value
    assert same == pytest.approx(0.2689, abs=1e-4)


def test_without_a_baseline_or_with_a_singular_window_there_is_nothing():
    window = np.random.default_rng(3).normal(0, 30, (128, 8))
    assert FisherRao(None)(window) == Nothing()
    window[:, 1] = window[:, 0]
    assert FisherRao(spd(1))(window) == Nothing()


def test_the_session_s_score_is_a_running_mean_and_nothing_before_ten_seconds():
    session = Session(10)
    values = np.random.default_rng(0).random(150)
    for i, value in enumerate(values):
        score = session.add(Value(float(value)))
        if i < 99:
            assert score == NOTHING
        else:
            assert score.value == pytest.approx(values[: i + 1].mean(), abs=1e-12)
    assert session.add(Nothing("artifact")).value == pytest.approx(values.mean())
    session.reset()
    assert session.score() == NOTHING


@pytest.mark.realdata
def test_on_real_eeg_too(data_dir: Path):
    path = data_dir / "eegmmidb"
    file = next(path.glob("**/*R01.edf"), None)
    if file is None:
        pytest.skip(f"no recording in {path}")
    recording = read_edf(file)
    x = recording.read(0, 160 * 30)[:, :8]
    for second in range(25):
        window = np.ascontiguousarray(x[second * 160 : second * 160 + 128])
        expected = compute_focus(window.T)
        assert BandRatio(8)(window).value == pytest.approx(expected, abs=1e-9)
