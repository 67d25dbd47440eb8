"""A recording as a device: what is in the file comes out of the intake, by the clock."""

import json
import select

import made
import numpy as np
import pytest

from phantomd.config import Config
from phantomd.contracts import GRID_NS, MONTAGE, Flag
from phantomd.core.intake import NATIVE_HEAD_WORDS, NEVER
from phantomd.devices.base import Address, SaysMarkers
from phantomd.devices.replay import ReplayDevice
from phantomd.engine.engine import Engine
from phantomd.errors import BadAddress, DeviceError, DeviceMissing
from phantomd.formats.registry import open_recording

LOST = 1


def opened(path, query="", montage=MONTAGE):
    return ReplayDevice(Address.parse(f"replay:{path}{query}"), montage, virtual=True)


def played(device, until_s=1e9, step_ns=GRID_NS):
    """Runs it to its end: every native frame as (flags, arrival_ns, values)."""
    ring = device.driver.intake.ring
    frames, seen, now_ns = [], 0, 0
    while now_ns <= until_s * 1e9:
        done = device.driver.advance(now_ns) == NEVER
        frames += [ring.read(index) for index in range(seen, ring.next)]
        seen = ring.next
        if done:
            break
        now_ns += step_ns
    words = np.array(frames)
    values = np.ascontiguousarray(words[:, NATIVE_HEAD_WORDS:]).view(np.float64)
    return words[:, 2] & 0xFFFFFFFF, words[:, 0].astype(np.int64), values


def as_taken_in(values):
    """A recording of it has no more than float32: nor has what is analysed."""
    return values.astype(np.float32).astype(np.float64)


@pytest.fixture
def gappy(tmp_path):
    """40 rows with a gap of 15 samples after 20, and annotations."""
    texts = {0: [(0.05, 0, "go")], 2: [(0.37, 0.5, "blink")]}
    path = tmp_path / "x.edf"
    path.write_bytes(made.edf(made.signal(40), onsets=[0, 0.1, 0.35, 0.45], texts=texts))
    return path


def test_samples_are_the_file_s_and_arrive_at_their_instants(gappy):
    flags, arrival_ns, values = played(opened(gappy))
    recording = open_recording(gappy)
    wanted = recording.read(0, recording.n_samples)
    np.testing.assert_array_equal(values, as_taken_in(wanted))
    there = flags & LOST == 0
    np.testing.assert_array_equal(arrival_ns[there], np.flatnonzero(there) * 10_000_000)


def test_a_gap_of_the_file_is_a_loss_of_its_length(gappy):
    device = opened(gappy)
    flags, _, _ = played(device)
    assert np.flatnonzero(flags & LOST).tolist() == list(range(20, 35))
    assert device.driver.intake.counters()["lost"] == 15
    assert device.driver.ended and device.driver.fault == "end of recording"


def test_a_value_that_is_missing_in_one_channel_makes_the_sample_a_lost_one(tmp_path):
    path = tmp_path / "x.csv"
    lines = made.csv(made.signal(300, 2)).splitlines()
    lines[101] = lines[101].split(",")[0] + ",,5,0"
    path.write_text("\n".join(lines))
    flags, _, values = played(opened(path))
    assert np.flatnonzero(flags & LOST).tolist() == [100]
    assert np.isnan(values[100]).all() and np.isfinite(values[[99, 101]]).all()


@pytest.mark.parametrize(("speed", "rate_hz"), [("2", 200.0), ("0.5", 50.0), ("max", 100.0)])
def test_speed_makes_the_device_faster_or_slower(gappy, speed, rate_hz):
    device = opened(gappy, f"?speed={speed}")
    assert device.spec.rate_hz == rate_hz
    _, arrival_ns, _ = played(device)
    assert arrival_ns[-1] == round(54 * 1e9 / rate_hz)


def test_a_loop_begins_anew_without_a_break(gappy):
    flags, arrival_ns, values = played(opened(gappy, "?loop=true&start_s=0.4"), until_s=0.4)
    wanted = open_recording(gappy).read(40, 15)
    np.testing.assert_array_equal(values, as_taken_in(np.concatenate([wanted] * 3)[:40]))
    np.testing.assert_array_equal(arrival_ns, np.arange(40) * 10_000_000)
    assert not (flags & LOST).any()


def test_playing_begins_with_the_first_sample_that_is_there(gappy):
    _, _, values = played(opened(gappy, "?start_s=0.25"))
    np.testing.assert_array_equal(values, as_taken_in(open_recording(gappy).read(35, 20)))


def test_markers_come_once_when_they_are_played_and_at_their_time(gappy):
    device = opened(gappy)
    assert isinstance(device, SaysMarkers)
    device.driver.advance(1000)
    assert device.take_markers() == []
    device.driver.advance(1000 + 50_000_000)
    (go,) = device.take_markers()
    assert (go.label, go.t_ns, go.source, go.payload) == ("go", 1000 + 50_000_000, "external", None)
    device.driver.advance(10**9)
    (blink,) = device.take_markers()
    assert (blink.label, blink.t_ns) == ("blink", 1000 + 370_000_000)
    assert blink.payload == {"duration_s": 0.5} and device.take_markers() == []


def test_markers_of_a_loop_come_each_time(gappy):
    device = opened(gappy, "?loop=true")
    device.driver.advance(0)
    for now_ns in range(0, 1_200_000_000, 8_000_000):
        device.driver.advance(now_ns)
    assert [m.label for m in device.take_markers()] == ["go", "blink", "go", "blink", "go"]


def test_a_marked_row_is_told_on_a_descriptor(gappy):
    device = ReplayDevice(Address.parse(f"replay:{gappy}"), MONTAGE)
    device.driver.advance(0)
    assert device.take_markers() == [] and device.marker_fd >= 0
    device.driver.advance(60_000_000)
    assert select.select([device.marker_fd], [], [], 0)[0]
    assert [marker.label for marker in device.take_markers()] == ["go"]
    assert not select.select([device.marker_fd], [], [], 0)[0]
    device.close()
    assert device.marker_fd == -1


# -- channels and labels ---------------------------------------------------------------------------


def test_labels_are_the_file_s_and_a_conflict_with_the_montage_is_said(gappy):
    spec = opened(gappy).spec
    assert spec.labels == made.EEGLIKE and "not those of the montage" in spec.info["warnings"][0]
    assert opened(gappy, montage=made.EEGLIKE).spec.info["warnings"] == []


def test_channels_are_chosen_and_named_by_label(gappy):
    device = opened(gappy, "?channels=cz,Fp1&labels=Top,Front")
    assert device.spec.labels == ("Top", "Front")
    _, _, values = played(device)
    recording = open_recording(gappy)
    wanted = recording.read(0, recording.n_samples)[:, [2, 0]]
    np.testing.assert_array_equal(values, as_taken_in(wanted))


def test_a_file_without_names_has_those_of_the_montage(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text(made.openbci(made.signal(50, 8)))
    spec = opened(path).spec
    assert spec.labels == MONTAGE and "taken to be the montage's" in spec.info["warnings"][0]
    assert spec.aux == ("accel_x_g", "accel_y_g", "accel_z_g")
    assert opened(path, "?aux=false").spec.aux == ()
    assert opened(path, montage=("A", "B")).spec.labels[0] == "EXG 0"


@pytest.mark.realdata
def test_sixty_four_channels_play_under_their_clean_names(data_dir):
    device = opened(data_dir / "eegmmidb" / "S001R06.edf")
    spec = device.spec
    assert len(spec.labels) == 64 and spec.labels[:2] == ("Fc5", "Fc3") and spec.rate_hz == 160.0
    flags, _, values = played(device)
    recording = open_recording(data_dir / "eegmmidb" / "S001R06.edf")
    wanted = recording.read(0, recording.n_samples)
    np.testing.assert_array_equal(values, as_taken_in(wanted))
    assert len(device.take_markers()) == 30 and not flags[1:].any()


@pytest.mark.realdata
def test_more_channels_than_fit_the_montage_play_as_well(data_dir):
    spec = opened(data_dir / "formats/brainvision_edf_bdf/test.edf").spec
    assert len(spec.labels) + len(spec.aux) == 139


@pytest.mark.realdata
def test_an_xdf_plays_the_stream_asked_for_with_its_reset_as_a_gap(data_dir):
    device = opened(data_dir / "formats/xdf/clock_resets.xdf", "?stream=BioSemi")
    now_ns = 0
    while device.driver.advance(now_ns) != NEVER:
        now_ns += 10**9
    counters = device.driver.intake.counters()
    assert counters["accepted"] == 27815 and counters["lost"] == 25302
    assert len(device.take_markers()) == 175


# -- what can go wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ("?channels=C9", "no channel 'C9'"),
        ("?channels=Cz,Cz", "twice"),
        ("?labels=A", "labels= names 1 channels"),
        ("?start_s=5", "past its end"),
        ("?stream=EEG", "one stream"),
    ],
)
def test_what_the_file_does_not_have_is_said(gappy, query, match):
    with pytest.raises(DeviceError, match=match) as raised:
        opened(gappy, query)
    assert raised.value.hint


def test_a_file_that_is_missing_or_damaged_is_a_device_error(tmp_path, gappy):
    with pytest.raises(DeviceMissing, match="there is no"):
        opened(tmp_path / "nothing.edf")
    gappy.write_bytes(gappy.read_bytes()[:-20])
    with pytest.raises(DeviceError, match="after 3 of 4 records"):
        opened(gappy)
    assert opened(gappy, "?truncated=play").spec.info["warnings"][0].startswith("cut short")


def test_as_fast_as_possible_is_for_virtual_time(gappy):
    from phantomd.devices.registry import check

    with pytest.raises(BadAddress, match="clock of its own") as raised:
        check(f"replay:{gappy}?speed=max", MONTAGE)
    assert "phantomctl replay" in raised.value.hint


# -- through the engine ----------------------------------------------------------------------------


def test_the_grid_has_the_recording_s_signal_and_its_gap(tmp_path):
    t_s = np.arange(1500) / 250
    values = 100 * np.sin(2 * np.pi * 10 * t_s)[:, None] * np.ones(8)
    path = tmp_path / "x.txt"
    path.write_text(made.openbci(values, lost=tuple(range(700, 750))))
    engine = Engine(Config(), 0, virtual=True)
    device = opened(path)
    slot = engine.attach(device)
    reader = engine.reader(slot)
    now_ns = GRID_NS
    while not device.driver.ended:
        now_ns = max(engine.step(now_ns), now_ns + 1)
    data, _, n, _ = reader.drain(now_ns)
    dtype = [("i", "<u8"), ("t", "<i8"), ("f", "<u4"), ("a", "<u4"), ("v", "<f4", (8,))]
    frames = np.frombuffer(data, dtype)
    whole = frames["f"] & Flag.MISSING == 0
    missing_s = frames["t"][~whole & (frames["t"] > 10**9)] / 1e9 - GRID_NS / 1e9
    assert missing_s.min() == pytest.approx(2.8, abs=0.06)
    assert missing_s.max() == pytest.approx(3.0, abs=0.06)
    settled = frames[whole & (frames["t"] > 2 * 10**9) & (frames["t"] < 27 * 10**8)]
    start_ns = device.driver.start_ns
    wanted = 100 * np.sin(2 * np.pi * 10 * (settled["t"] - start_ns) / 1e9)
    assert np.abs(settled["v"][:, 0] - wanted).max() < 0.5
    assert n > 700


def test_two_runs_of_a_file_are_the_same_to_the_bit(gappy):
    runs = []
    for step_ns in (GRID_NS, 1_000_000):
        flags, arrival_ns, values = played(opened(gappy), step_ns=step_ns)
        runs.append((flags.tobytes(), arrival_ns.tobytes(), values.tobytes()))
    assert runs[0] == runs[1]
    assert json.dumps(opened(gappy).spec.info)
