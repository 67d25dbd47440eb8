"""That the thresholds, frozen before, tell artifacts from EEG: docs/artifacts.md has the campaign,
`python -m benches.artifact_eval`, of which this is a part."""

import numpy as np
import pytest

from benches import artifact_data as data
from benches.artifact_eval import compare
from benches.artifact_truth import QUIET, Truth, every
from benches.artifact_windows import auc, blink_windows, of
from phantomd.contracts import MONTAGE


@pytest.mark.parametrize(("kind", "options", "truth", "least"), [
    ("blink", "blink_per_min=20&alpha_uv=30", "blink", 50.0),
    ("emg", "emg_per_min=20", "emg", 10.0),
    ("emg", "emg_per_min=20&rate_hz=160", "emg", 10.0),
    ("pop", "pop_per_min=15", "pop", 100.0),
    ("line", f"{QUIET}&line_uv=100", "line", 40.0),
    ("drift", f"{QUIET}&drift_uv=6000", "drift", 300.0),
    ("clipping", f"{QUIET}&{every(8, 'saturate', 0.6, 60.0)}", "stuck", 0.05),
    ("dropout", f"{QUIET}&{every(8, 'gap', 0.3, 60.0)}", "lost", 0.05),
])  # fmt: skip
def test_the_simulators_artifacts_are_told_from_none(kind, options, truth, least) -> None:
    run, plain = Truth(options, 1, 60.0), Truth(f"{QUIET}&rate_hz=250", 1, 60.0)
    if "rate_hz" in options:
        plain = Truth(f"{QUIET}&rate_hz=160", 1, 60.0)
    there = run.amount[truth] >= least
    none = np.concatenate((run.windows.of(kind)[run.clean()], plain.windows.of(kind)))
    values = np.concatenate((run.windows.of(kind)[there], none))
    assert auc(values, np.arange(len(values)) < there.sum()) >= 0.95
    assert plain.windows.rejected.mean() <= 0.01


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["R01", "v6"])
def test_blinks_by_eye_are_told_from_none(data_dir, monkeypatch, name: str) -> None:
    monkeypatch.setenv("PHANTOMD_DATA", str(data_dir))
    recording = data.openbci_v6() if name == "v6" else data.eegmmidb(name)
    assert auc(*compare(recording, "blink").all()) >= 0.95


@pytest.mark.realdata
def test_the_jaw_is_told_from_none(data_dir, monkeypatch) -> None:
    monkeypatch.setenv("PHANTOMD_DATA", str(data_dir))
    assert auc(*compare(data.openbci_v6(), "emg").all()) >= 0.95


@pytest.mark.realdata
@pytest.mark.parametrize("few", [False, True], ids=["64 channels", "8 channels"])
@pytest.mark.parametrize("run", ["R01", "R02"])
def test_eeg_at_rest_is_rarely_rejected(data_dir, monkeypatch, run: str, few: bool) -> None:
    """Eyes open: the windows without a blink by eye. Eyes closed: all."""
    monkeypatch.setenv("PHANTOMD_DATA", str(data_dir))
    recording = data.eegmmidb(run)
    if few:
        recording = recording.of_channels(MONTAGE)
    windows = of(recording)
    free = blink_windows(recording, windows)[1]
    assert free.sum() > 150
    assert windows.rejected[free].mean() <= 0.05
