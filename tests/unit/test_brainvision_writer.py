"""The triplet as it is written: MNE is the reference reader."""

from pathlib import Path

import mne
import numpy as np
import pytest

from phantomd.contracts import Marker
from phantomd.core.cyton import uv_per_count
from phantomd.formats.registry import open_recording
from phantomd.records.brainvision import Channel, Triplet
from phantomd.records.clockmap import NO_POSITION, Frames, Gap, Note, Samples, encode
from phantomd.records.disk import BLOCKS, BRIDGED, LOST, RESET, Block, Disk

UNIX_NS = 1_790_000_000_123_456_789
RATE_HZ = 250.0


def triplet(path: Path, *channels: Channel) -> Triplet:
    return Triplet(path / "x.eeg", channels, RATE_HZ, UNIX_NS, b"")


def of_mne(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw_brainvision(path / "x.vhdr", preload=True, verbose="error")


def signal(n: int, seed: int = 1) -> np.ndarray:
    """float32-exact, as the intake gives it."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 30, (n, 2)).astype(np.float32).astype(np.float64)


def block(first: int, values: np.ndarray, flags: np.ndarray | None = None, **more) -> Block:
    n = len(values)
    index = np.arange(first, first + n, dtype=np.uint64)
    t_ns = (index * 4_000_000).astype(np.int64)
    kinds = np.zeros(n, np.uint32) if flags is None else flags.astype(np.uint32)
    return Block(index, t_ns, kinds, values, **more)


def test_mne_reads_names_units_rate_date_and_values(tmp_path):
    file = triplet(tmp_path, Channel("Fp1"), Channel("Oz, left"), Channel("accel_x_g", "g"))
    x = np.hstack([signal(500), np.linspace(-1, 1, 500).astype(np.float32)[:, None]])
    file.append(x, np.zeros(500, bool))
    file.close()
    raw = of_mne(tmp_path)
    assert raw.ch_names == ["Fp1", "Oz, left", "accel_x_g"]
    assert raw.get_channel_types() == ["eeg", "eeg", "misc"]
    assert raw.info["sfreq"] == RATE_HZ
    assert raw.info["meas_date"].timestamp() == pytest.approx(UNIX_NS / 1e9, abs=1e-5)
    data = raw.get_data()
    np.testing.assert_allclose(data[:2].T * 1e6, x[:, :2], rtol=1e-15)
    np.testing.assert_array_equal(data[2], x[:, 2])


def test_counts_stand_as_counts_and_give_the_very_same_doubles(tmp_path):
    """Of a 24-bit converter: float32 holds each count, its µV it doesn't."""
    scale = uv_per_count(24)
    counts = np.array([0, 1, -1, 8_388_607, -8_388_608, 5_033_165, 16_777 * 3])
    file = triplet(tmp_path, Channel("C3", resolution=scale))
    file.append(counts[:, None] * scale, np.zeros(len(counts), bool))
    file.close()
    assert file.inexact == 0
    assert (np.float32(counts * scale).astype(np.float64) != counts * scale).any()
    stored = np.fromfile(tmp_path / "x.eeg", "<f4")
    np.testing.assert_array_equal(stored.astype(np.float64) * scale, counts * scale)
    np.testing.assert_array_equal(
        open_recording(tmp_path / "x.vhdr").rows(0, 7)[:, 0], counts * scale
    )
    np.testing.assert_allclose(of_mne(tmp_path).get_data()[0], counts * scale * 1e-6, rtol=1e-15)


def test_what_the_file_holds_only_rounded_is_counted(tmp_path):
    file = triplet(tmp_path, Channel("C3"))
    file.append(np.array([[0.1], [0.5], [np.nan]]), np.array([False, False, True]))
    file.close()
    assert file.inexact == 1


def test_files_are_the_owners_alone_and_never_written_over(tmp_path):
    file = triplet(tmp_path / "sessions", Channel("C3"))
    assert not (tmp_path / "sessions" / "x.vhdr").exists(), "MNE refuses a header without rows"
    file.append(np.zeros((1, 1)), np.zeros(1, bool))
    file.close()
    assert (tmp_path / "sessions").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "sessions").iterdir())
    assert [file.name for file in files] == ["x.clock", "x.eeg", "x.vhdr", "x.vmrk"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    with pytest.raises(FileExistsError):
        triplet(tmp_path / "sessions", Channel("C3"))


def test_markers_cut_anywhere_between_two_writes_stay_readable(tmp_path):
    """A write is torn at most between two pages: no line lies across."""
    file = triplet(tmp_path, Channel("C3"))
    file.append(np.zeros((5000, 1)), np.zeros(5000, bool))
    labels = [f"{'µ' * (k % 60)} line, {k}\n" for k in range(300)]
    for k, label in enumerate(labels):
        file.mark(label, 10 * k)
    file.close()
    data = (tmp_path / "x.vmrk").read_bytes()
    assert len(data) > 3 * 4096
    for page in range(4096, len(data), 4096):
        assert data[page - 1 : page] == b"\n", "a line lies across two pages"
        (tmp_path / "x.vmrk").write_bytes(data[:page])
        seen = of_mne(tmp_path).annotations
        assert list(seen.onset * RATE_HZ) == pytest.approx([10 * k for k in range(len(seen))])
    (tmp_path / "x.vmrk").write_bytes(data)
    found = of_mne(tmp_path).annotations.description
    assert [text.removeprefix("Comment/") for text in found] == [
        label.replace("\n", " ") for label in labels
    ]


def test_losses_markers_and_segments_stand_where_they_were(tmp_path):
    x, flags = signal(100), np.zeros(100)
    flags[20:23] = LOST | BRIDGED
    flags[50:60] = LOST
    x[50:60] = np.nan
    flags[60] = RESET
    file = triplet(tmp_path, Channel("C3"), Channel("C4"))
    disk = Disk(file, 1000, 2)
    note = Marker(1030 * 4_000_000 + 1_900_000, "ui", "S  7", {"k": 1})
    early, late = Marker(0, "ui", "early", None), Marker(10**12, "ui", "late", None)
    assert disk.put(block(1000, x, flags, markers=(note, early, late)))
    assert disk.put(block(1105, signal(5), end="stopped"))
    assert disk.join(10)
    raw = of_mne(tmp_path)
    told = [
        (str(one["description"]), round(one["onset"] * RATE_HZ), round(one["duration"] * RATE_HZ))
        for one in raw.annotations
    ]
    assert sorted(told, key=lambda one: one[1]) == [
        ("Comment/early", 0, 1),
        ("Bad Interval/bridged", 20, 3),
        ("Stimulus/S  7", 30, 1),
        ("Bad Interval/lost", 50, 10),
        ("New Segment/", 60, 1),
        ("Bad Interval/lost", 100, 5),
        ("Comment/late", 109, 1),
    ]
    lost = np.isnan(raw.get_data()).all(axis=0)
    np.testing.assert_array_equal(np.flatnonzero(lost), [*range(50, 60), *range(100, 105)])
    assert (disk.rows, disk.inexact, disk.error) == (110, 0, None)


def test_wherever_a_kill_cuts_no_bridge_is_taken_for_samples(tmp_path, monkeypatch):
    """After so many bytes nothing more reaches any file, as when the process is gone."""
    import phantomd.records.brainvision as module

    x, flags = signal(60), np.zeros(60)
    flags[20:23] = flags[40:45] = LOST | BRIDGED
    write, left = module.os.write, 0

    def cut(fd: int, data: memoryview) -> int:
        nonlocal left
        some = min(left, len(data))
        if file is not None and fd == file._vmrk and some < len(data):
            some = left = 0  # a line lies within a page: the kernel writes all of it, or nothing
        left -= some
        if some:
            write(fd, data[:some])
        return len(data)

    file = None
    monkeypatch.setattr(module.os, "write", cut)
    lengths = set()
    for budget in range(0, 1400, 17):
        directory = tmp_path / str(budget)
        directory.mkdir()
        left = 10**6
        file = triplet(directory, Channel("C3"), Channel("C4"))
        disk = Disk(file, 0, 2)
        assert disk.put(block(0, x[:10]))
        while disk.rows < 10:  # with the header, which appears whole or not at all
            assert not disk.join(0.001)
        left = budget
        assert disk.put(block(10, x[10:], flags[10:], end="stopped"))
        assert disk.join(10)
        raw = of_mne(directory)
        lengths.add(raw.n_times)
        marked = np.zeros(raw.n_times, bool)
        for one in raw.annotations:
            if str(one["description"]).startswith("Bad Interval"):
                begin = round(one["onset"] * RATE_HZ)
                marked[begin : begin + round(one["duration"] * RATE_HZ)] = True
        assert (marked == (flags[: raw.n_times] > 0)).all()
    assert min(lengths) == 10 and max(lengths) == 60 and len(lengths) > 10


def test_a_disk_that_is_full_ends_it_with_whole_rows(tmp_path, monkeypatch):
    """The kernel refuses in the middle of a row."""
    import phantomd.records.brainvision as module

    file = triplet(tmp_path, Channel("C3"), Channel("C4"))
    disk = Disk(file, 0, 2)
    left = [3001]
    write = module.os.write

    def full(fd: int, data: memoryview) -> int:
        if fd != file._eeg:
            return write(fd, data)
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        n = write(fd, data[: left[0]])
        left[0] -= n
        return n

    monkeypatch.setattr(module.os, "write", full)
    while disk.put(block(0, signal(25))) and disk.error is None and not disk.join(0.001):
        pass
    assert disk.join(10)
    assert disk.error is not None and disk.error.errno == 28
    assert (tmp_path / "x.eeg").stat().st_size == disk.rows * 8
    assert of_mne(tmp_path).n_times == disk.rows >= 350


def test_a_disk_that_hangs_is_never_waited_for(tmp_path, monkeypatch):
    import threading

    import phantomd.records.brainvision as module

    file = triplet(tmp_path, Channel("C3"), Channel("C4"))
    free = threading.Event()
    write = module.os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: free.wait(30) and write(fd, data))
    disk = Disk(file, 0, 2)
    taken = 0
    while disk.put(block(25 * taken, signal(25))):
        taken += 1
    assert BLOCKS <= taken <= BLOCKS + 1
    disk.abandon()
    free.set()
    assert disk.join(10)
    assert disk.error is None and disk.rows == 25


def test_records_of_the_clock_come_back_as_they_were(tmp_path):
    from msgspec import convert
    from msgspec.msgpack import decode

    from phantomd.records.clockmap import Entry

    for entry in (
        Samples(5, b"12345678", b"\1"),
        Gap(7, 2, b"x" * 32),
        Frames(9, b"\1\0\0\0", NO_POSITION.to_bytes(8, "little", signed=True), b"x" * 8),
        Note(4, 17, "ui", "x", None),
    ):
        assert convert(decode(encode(entry)), Entry) == entry
