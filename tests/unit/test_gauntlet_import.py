"""Recordings in NWB, MATLAB and NPZ: what comes out of them, and what is refused by name."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomd.errors import (
    BadRagged,
    BadTimes,
    BadTrials,
    DatasetError,
    DatasetTooBig,
    NoUnits,
    PhantomError,
)
from phantomd.gauntlet import matlab
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.importing import import_file

h5py = pytest.importorskip("h5py")
pytest.importorskip("pynwb")

# -- NWB in the form of MC_Maze --------------------------------------------------------------------


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three units, two trials, targets that are ragged twice, as the dataset has them."""
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    nwb = NWBFile("a maze", "maze-1", datetime(2009, 1, 1, tzinfo=UTC))
    rng = np.random.default_rng(2)
    for n in (40, 0, 90):
        nwb.add_unit(spike_times=np.sort(rng.uniform(1.0, 5.0, n)))
    times = 1.0 + np.arange(4000) / 1000
    x = np.column_stack([times * 10, -times * 20])
    behavior = nwb.create_processing_module("behavior", "movement")
    for name, data in (("cursor_pos", x), ("hand_vel", np.gradient(x, times, axis=0))):
        behavior.add(TimeSeries(name=name, data=data, unit="m", conversion=1e-3, timestamps=times))
    nwb.add_trial_column("active_target", "number of the target")
    nwb.add_trial_column("target_pos", "of each target", index=2)
    nwb.add_trial(1.1, 2.5, active_target=1, target_pos=[[1.0, 2.0], [30.0, -40.0], [5.0, 6.0]])
    nwb.add_trial(2.6, 4.8, active_target=0, target_pos=[[-7.0, 8.0]])
    path = tmp_path_factory.mktemp("nwb") / "maze.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


def damaged(maze: Path, directory: Path, **changes: Any) -> Path:
    """A copy with other values in its arrays, None: without them."""
    path = directory / "damaged.nwb"
    shutil.copy(maze, path)
    with h5py.File(path, "r+") as file:
        for key, value in changes.items():
            name = key.replace("__", "/")
            attributes = dict(file[name].attrs)
            del file[name]
            if value is None:
                continue
            file[name] = value
            for attribute, was in attributes.items():
                file[name].attrs[attribute] = was
    return path


def test_a_maze_is_binned(maze):
    data = import_file(maze)
    assert data.counts.shape == (160, 3)
    assert data.counts.sum(axis=0).tolist() == [40, 0, 90]
    assert data.unit == "mm"
    assert data.duration_s == pytest.approx(4.0)
    np.testing.assert_allclose(data.kinematics[:, 2], 10, atol=1e-3)
    np.testing.assert_allclose(data.kinematics[:, 3], -20, atol=1e-3)
    np.testing.assert_allclose(data.kinematics[0, 0], 10 * (1 + 0.012), atol=1e-3)
    rows = [(int(t["start"]), int(t["stop"]), int(t["target_id"])) for t in data.trials]
    assert rows == [(4, 60, 1), (64, 152, 0)]
    assert data.trials["target_x"].tolist() == [30.0, -7.0]
    assert data.trials["target_y"].tolist() == [-40.0, 8.0]


def test_other_widths_hold_the_same_spikes(maze):
    for bin_ms in (10.0, 50.0):
        data = import_file(maze, bin_ms=bin_ms)
        assert data.counts.sum() == 130
        assert data.n_bins == 4000 / bin_ms
    with pytest.raises(DatasetError, match="bins of"):
        import_file(maze, bin_ms=float("nan"))


HOSTILE = [
    ({"units": None}, NoUnits),
    ({"units__spike_times_index": np.array([90, 40, 130], np.uint8)}, BadRagged),
    ({"units__spike_times_index": np.array([40, 40, 2**60], np.uint64)}, BadRagged),
    ({"units__spike_times": np.linspace(5, 1, 130)}, BadTimes),
    ({"units__spike_times": np.full(130, np.nan)}, BadTimes),
    ({"processing__behavior__cursor_pos__timestamps": np.linspace(5, 1, 4000)}, BadTimes),
    ({"processing__behavior__cursor_pos__timestamps": np.full(4000, np.inf)}, BadTimes),
    ({"processing__behavior__cursor_pos__timestamps": np.linspace(0, 1e12, 4000)}, DatasetTooBig),
    ({"processing__behavior__cursor_pos__timestamps": np.arange(3999.0)}, BadTimes),
    ({"processing__behavior__hand_vel__data": np.zeros(4000)}, DatasetError),
    ({"intervals__trials__start_time": np.array([3.0, 1.0])}, BadTrials),
    ({"intervals__trials__stop_time": np.array([np.nan, 1.0])}, BadTrials),
    ({"intervals__trials__active_target": np.array([7, 0])}, BadTrials),
    ({"intervals__trials__active_target": np.array([-1, 0])}, BadTrials),
    ({"intervals__trials__target_pos_index": np.array([250, 4], np.uint8)}, BadRagged),
]


@pytest.mark.parametrize(("changes", "error"), HOSTILE)
def test_a_hostile_file_is_refused_by_name(maze, tmp_path, changes, error):
    with pytest.raises(error) as caught:
        import_file(damaged(maze, tmp_path, **changes))
    assert caught.value.hint


def test_damaged_bytes_are_an_error_with_a_name(maze, tmp_path):
    whole = maze.read_bytes()
    rng = np.random.default_rng(4)
    path = tmp_path / "bytes.nwb"
    for case in range(8):
        data = bytearray(whole[: len(whole) * (case + 1) // 9])
        for place in rng.integers(0, len(data), 40):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        with pytest.raises(DatasetError):
            import_file(path)


def test_a_file_of_no_known_kind_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DatasetError, match="no kind"):
        import_file(tmp_path / "a.txt")
    with pytest.raises(DatasetError, match="can't be read"):
        import_file(tmp_path / "missing.nwb")


# -- the recordings --------------------------------------------------------------------------------


@pytest.mark.realdata
def test_maze_trials_hold_the_spikes_of_their_tables(data_dir):
    """The same two trials lie beside the NWB file as tables of 1 ms."""
    folder = data_dir / "spikes_mc_maze"
    data = import_file(folder / "mc_maze_2trials.nwb")
    assert data.n_units == 182
    assert data.unit == "mm"
    total = 0
    for table, trial in (("trial_748_data.csv", 0), ("trial_1356_data.csv", 1)):
        with (folder / table).open() as file:
            names, *rows = csv.reader(file)
        values = np.array(rows, float)
        units = values[:, [i for i, name in enumerate(names) if name.startswith("unit_")]]
        start = int(data.trials[trial]["start"])
        n = len(units) // 25
        # Trial 2 begins at 4.236 s, in the middle of a bin.
        shift = round(data.trials[trial]["start"] * 25 - (0 if trial == 0 else 4236))
        own = units[shift : shift + (n - 1) * 25].reshape(n - 1, 25, -1).sum(axis=1)
        assert (data.counts[start : start + n - 1] == own).all()
        velocity = values[:, names.index("hand_vel_x")]
        own_v = velocity[shift : shift + (n - 1) * 25].reshape(n - 1, 25).mean(axis=1)
        np.testing.assert_allclose(data.kinematics[start : start + n - 1, 2], own_v, rtol=1e-4)
        # The recording ends 2 ms into a bin, which is left out.
        total += units[: len(units) if trial == 0 else 312 * 25 - 4236].sum()
    assert data.counts.sum() == total
    between = slice(int(data.trials[0]["stop"]) + 1, int(data.trials[1]["start"]) - 1)
    assert np.isnan(data.kinematics[between]).all()


@pytest.mark.realdata
def test_centre_out_has_its_trials_directions_and_units(data_dir):
    data = import_file(data_dir / "spikes_centerout" / "center_out_data.mat")
    assert (data.n_units, len(data.trials), data.bin_ms) == (84, 286, 50.0)
    assert len(data.targets()) == 8
    angle = np.arctan2(data.trials["target_y"] + 30, data.trials["target_x"])
    for number, direction in enumerate(np.arange(-3, 5) * np.pi / 4):
        own = angle[data.trials["target_id"] == number]
        assert abs(np.angle(np.exp(1j * (own - direction)))).max() < 0.15
    with pytest.raises(DatasetError, match="bins of 50 ms"):
        import_file(data_dir / "spikes_centerout" / "center_out_data.mat", bin_ms=25.0)


# -- plain matrices --------------------------------------------------------------------------------


def fields(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    plain = {
        "counts": rng.poisson(1.0, (50, 6)),
        "pos": rng.standard_normal((50, 2)),
        "vel": rng.standard_normal((50, 2)),
        "bin_ms": 20.0,
        "trial_start": np.array([0, 20]),
        "trial_stop": np.array([15, 50]),
        "target_id": np.array([3, 4]),
        "target_pos": np.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


def check_plain(data: Dataset) -> None:
    assert (data.counts == fields()["counts"]).all()
    np.testing.assert_allclose(data.kinematics[:, 2:], fields()["vel"], rtol=1e-6)
    assert data.bin_ms == 20.0
    assert data.trials["start"].tolist() == [0, 20]
    assert data.targets() == {3: 1, 4: 1}


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **fields())
    check_plain(import_file(tmp_path / "a.npz"))


def test_matlab_of_both_kinds(tmp_path):
    import scipy.io

    scipy.io.savemat(tmp_path / "old.mat", fields())
    check_plain(import_file(tmp_path / "old.mat"))
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        for key, value in fields().items():
            file[key] = np.atleast_2d(np.asarray(value, float)).T
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with (tmp_path / "new.mat").open("r+b") as raw:
        raw.write(header)
    check_plain(import_file(tmp_path / "new.mat"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"counts": None}, NoUnits),
        ({"counts": np.zeros((50, 0))}, DatasetError),
        ({"counts": np.full((50, 6), 0.5)}, DatasetError),
        ({"counts": np.full((50, 6), -1)}, DatasetError),
        ({"counts": np.zeros((50, 1025), np.uint8)}, DatasetTooBig),
        ({"vel": np.zeros((49, 2))}, BadTimes),
        ({"pos": None}, DatasetError),
        ({"bin_ms": np.zeros(3)}, DatasetError),
        ({"bin_ms": np.nan}, DatasetError),
        ({"trial_stop": np.array([15, 51])}, BadTrials),
        ({"trial_stop": np.array([25, 50])}, BadTrials),
        ({"trial_start": np.array([-5, 20])}, BadTrials),
        ({"trial_start": np.array([0.5, 20])}, BadTrials),
        ({"target_pos": np.zeros((2, 3))}, BadTrials),
        ({"counts": np.array([{"a": 1}], object)}, DatasetError),
    ],
)
def test_matrices_that_contradict_each_other_are_refused(tmp_path, changes, error):
    np.savez(tmp_path / "a.npz", **fields(**changes))
    with pytest.raises(error) as caught:
        import_file(tmp_path / "a.npz")
    assert isinstance(caught.value, PhantomError)


def test_an_archive_that_claims_too_much_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", counts=np.zeros((1000, 1000), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    monkeypatch.setattr(matlab, "_MAX_BYTES", 100_000)
    with pytest.raises(DatasetTooBig):
        import_file(tmp_path / "a.npz")
