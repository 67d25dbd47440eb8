"""Readers of recordings: exact against other readers, right on what the formats allow, and one
clear error for each kind of damage."""

import calendar
import warnings
from pathlib import Path

import made
import numpy as np
import pytest

from phantomd.errors import (
    DamagedRecording,
    RecordingError,
    TruncatedRecording,
    UnknownRecording,
    UnsupportedRecording,
)
from phantomd.formats.base import Gap, Segment, uv_per
from phantomd.formats.registry import open_recording
from phantomd.formats.xdf import streams_of

EXACT = 1e-9

# -- against MNE on real files ---------------------------------------------------------------------

MNE_FILES = (
    "eegmmidb/S001R01.edf",
    "eegmmidb/S001R06.edf",
    "formats/brainvision_edf_bdf/test.bdf",
    "formats/brainvision_edf_bdf/test.edf",
    "formats/brainvision_edf_bdf/test.vhdr",
    "formats/brainvision_edf_bdf/test_bdf_stim_channel.bdf",
    "formats/brainvision_edf_bdf/test_edf_stim_channel.edf",
    "formats/brainvision_edf_bdf/test_stim_channel.edf",
    "formats/brainvision_edf_bdf/test_uneven_samp.edf",
    "formats/eeglab/test.bdf",
)
#: MNE scales microsiemens to siemens; we leave what is no voltage in the file's unit.
MNE_SCALES = {"µV": 1e6, "µS": 1e6, "uS": 1e6}


def _mne(path):
    mne = pytest.importorskip("mne")
    read = {
        ".edf": mne.io.read_raw_edf,
        ".bdf": mne.io.read_raw_bdf,
        ".vhdr": mne.io.read_raw_brainvision,
    }[path.suffix]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path, verbose="ERROR")


@pytest.mark.realdata
@pytest.mark.parametrize("name", MNE_FILES)
def test_real_files_read_as_mne_reads_them(data_dir, name):
    path = data_dir / name
    ours, theirs = open_recording(path), _mne(path)
    assert ours.labels == tuple(theirs.ch_names)
    assert ours.rate_hz == pytest.approx(theirs.info["sfreq"], rel=1e-12)
    assert ours.n_samples == ours.n_rows == theirs.n_times
    values, wanted = ours.read(0, ours.n_samples), theirs.get_data()
    for k, channel in enumerate(ours.channels):
        if name.endswith("uneven_samp.edf") and channel.label.startswith("0.2Hz"):
            continue  # the slower channel: MNE resamples it by FFT, we draw straight lines
        reference = wanted[k] * MNE_SCALES.get(channel.unit, 1.0)
        scale = np.abs(reference).max() or 1.0
        error = np.abs(values[:, k] - reference).max() / scale
        assert error <= EXACT, (channel, error)
    date = theirs.info["meas_date"]
    assert ours.start_unix_s == pytest.approx(date.timestamp(), abs=1e-6)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in MNE_FILES if not name.endswith("bdf")])
def test_annotations_of_real_files_are_those_of_mne(data_dir, name):
    path = data_dir / name
    theirs = [
        (float(each["onset"]), each["description"])
        for each in _mne(path).annotations
        if not each["description"].startswith("New Segment")
    ]
    ours = [
        (marker.time_s, marker.label)
        for marker in open_recording(path).markers
        if not marker.label.startswith("New Segment")
    ]
    if not theirs and ours:
        assert "stim" in name  # codes of a trigger channel: MNE asks for them by find_events
        return
    assert [label for _, label in ours] == [label for _, label in theirs]
    np.testing.assert_allclose([t for t, _ in ours], [t for t, _ in theirs], atol=1e-9)


@pytest.mark.realdata
def test_status_codes_of_a_bdf_are_the_events_that_mne_finds(data_dir):
    mne = pytest.importorskip("mne")
    path = data_dir / "formats/brainvision_edf_bdf/test_bdf_stim_channel.bdf"
    raw = _mne(path)
    events = mne.find_events(
        raw, stim_channel="Status", mask=0xFFFF, mask_type="and", consecutive=True, verbose="ERROR"
    )
    ours = [(marker.index, int(marker.label)) for marker in open_recording(path).markers]
    assert ours == [(int(at), int(code)) for at, _, code in events]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "stream"),
    [("clock_resets.xdf", 2), ("minimal.xdf", 0), ("empty_streams.xdf", 4)],
)
def test_an_xdf_has_the_values_and_times_of_pyxdf(data_dir, name, stream):
    pyxdf = pytest.importorskip("pyxdf")
    path = data_dir / "formats" / "xdf" / name
    loaded, _ = pyxdf.load_xdf(str(path), select_streams=[stream])
    (theirs,) = loaded
    ours = open_recording(path, stream=str(stream))
    rows = np.concatenate([ours.read(part.index, part.n) for part in ours.segments])
    np.testing.assert_array_equal(rows, theirs["time_series"])
    places = np.concatenate([part.index + np.arange(part.n) for part in ours.segments])
    times = theirs["time_stamps"] - theirs["time_stamps"][0]
    # One rate for the whole timeline: within a part it leaves pyxdf's line by what it drifts.
    assert np.abs(places / ours.rate_hz - times).max() < 0.006 * times[-1] + 1 / ours.rate_hz


@pytest.mark.realdata
def test_a_clock_reset_is_one_gap_of_its_length(data_dir):
    ours = open_recording(data_dir / "formats/xdf/clock_resets.xdf", stream="EEG")
    (gap,) = ours.gaps
    assert gap.first == 12876 and gap.count / ours.rate_hz == pytest.approx(273.0, abs=0.5)
    assert len(ours.markers) == 175 and {m.payload["stream"] for m in ours.markers} == {
        "MyMarkerStream"
    }


@pytest.mark.realdata
def test_an_xdf_names_all_its_streams_empty_ones_too(data_dir):
    found = streams_of(data_dir / "formats/xdf/empty_streams.xdf")
    assert {each.stream_id: each.n_samples for each in found} == {1: 1, 2: 0, 3: 0, 4: 10}


@pytest.mark.realdata
def test_the_cyton_recordings_have_their_gaps_on_the_timeline(data_dir):
    ours = open_recording(data_dir / "openbci_gui" / "OpenBCI_2016-02-13_Jordan_focus.txt")
    assert len(ours.gaps) == 6 and ours.n_samples == ours.n_rows + sum(g.count for g in ours.gaps)
    gap = ours.gaps[1]
    around = ours.read(gap.first - 1, gap.count + 2)
    assert np.isnan(around[1:-1]).all() and np.isfinite(around[[0, -1]]).all()


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["muse_p300", "muse_ssvep"])
def test_a_muse_csv_has_its_rate_channels_and_markers(data_dir, folder):
    for path in sorted((data_dir / folder).glob("*.csv")):
        ours = open_recording(path)
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        assert ours.rate_hz == 256.0 and ours.labels[:4] == ("TP9", "AF7", "AF8", "TP10")
        assert [channel.kind for channel in ours.channels] == ["eeg"] * 4 + ["aux"] * 2
        np.testing.assert_array_equal(ours.read(0, ours.n_samples), table[:, 1:])
        assert not ours.gaps
        column = table[:, -1]
        begins = np.flatnonzero((np.diff(column, prepend=0) != 0) & (column != 0))
        assert [marker.index for marker in ours.markers] == begins.tolist()


# -- EDF and BDF -----------------------------------------------------------------------------------


def _write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("bits", [16, 24])
def test_digits_become_microvolts_by_the_header_s_ranges(tmp_path, bits):
    digits = made.signal(40).astype(np.int32) * (1 if bits == 16 else 300)
    ours = open_recording(_write(tmp_path, "x", made.edf(digits, bits=bits, unit="mV")))
    span = 2.0**bits - 1
    wanted = (digits + 2.0 ** (bits - 1)) * (2000 / span) - 1000
    np.testing.assert_allclose(ours.read(0, 40), 1e3 * wanted, rtol=1e-12, atol=1e-9)
    assert ours.format == ("EDF" if bits == 16 else "BDF") and ours.rate_hz == 100.0
    assert ours.start_unix_s == calendar.timegm((2024, 3, 2, 12, 13, 14))


def test_a_discontinuous_edf_has_its_pauses_as_gaps_and_its_annotations_in_place(tmp_path):
    digits = made.signal(40)
    onsets = [3.0, 3.1, 3.35, 9.0]
    texts = {2: [(3.37, 0.5, "blink")], 3: [(9.01, 0, "go"), (3.0, 0, "begin")]}
    path = _write(tmp_path, "x.edf", made.edf(digits, onsets=onsets, texts=texts))
    ours = open_recording(path)
    assert ours.segments == (Segment(0, 20, 0), Segment(20, 10, 35), Segment(30, 10, 600))
    assert ours.gaps == (Gap(20, 15), Gap(45, 555)) and ours.n_samples == 610
    assert np.isnan(ours.read(20, 15)).all()
    np.testing.assert_array_equal(ours.read(35, 10), ours.rows(20, 10))
    assert [(m.label, m.index, m.duration_s) for m in ours.markers] == [
        ("begin", 0, 0.0),
        ("blink", 37, 0.5),
        ("go", 601, 0.0),
    ]


def test_a_block_is_the_same_wherever_it_is_cut(tmp_path):
    path = _write(tmp_path, "x.edf", made.edf(made.signal(200)))
    ours = open_recording(path)
    whole = ours.read(0, 200)
    for first, n in ((0, 1), (9, 2), (10, 10), (37, 101), (199, 1), (200, 0)):
        np.testing.assert_array_equal(ours.read(first, n), whole[first : first + n])
    with pytest.raises(IndexError):
        ours.read(190, 11)


@pytest.mark.realdata
def test_a_slower_channel_is_drawn_between_its_own_samples(data_dir):
    ours = open_recording(data_dir / "formats/brainvision_edf_bdf/test_uneven_samp.edf")
    assert any("0.2Hz" in note for note in ours.notes)
    data = np.fromfile(ours.path, "<i2", offset=768).reshape(11, 1128)  # 11 records of 10 s
    digits = data[:, 1000:].ravel().astype(float)
    lines = np.interp(np.arange(11_000) / 100, np.arange(len(digits)) / 12.8, digits)
    values = ours.read(0, 11_000)[:, 1]
    to_uv = np.polyfit(lines, values, 1)  # the header's ranges, from the values themselves
    np.testing.assert_allclose(np.polyval(to_uv, lines), values, atol=1e-9)


def test_a_file_that_was_not_closed_is_as_long_as_it_is(tmp_path):
    path = _write(tmp_path, "x.edf", made.edf(made.signal(40), announced=-1))
    ours = open_recording(path)
    assert ours.n_samples == 40 and "not closed" in ours.notes[0]


# -- BrainVision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", ["INT_16", "INT_32", "IEEE_FLOAT_32"])
@pytest.mark.parametrize("vectorized", [False, True])
def test_each_binary_format_and_orientation_reads_as_mne_reads_it(tmp_path, binary, vectorized):
    values = made.signal(50) * (1.25 if binary == "IEEE_FLOAT_32" else 1)
    path = made.brainvision(
        tmp_path, values, binary=binary, vectorized=vectorized, more="DataPoints=50"
    )
    ours = open_recording(path)
    np.testing.assert_allclose(ours.read(0, 50), values * [0.5, 100.0, 1.0], rtol=1e-12)
    wanted = _mne(path).get_data().T * 1e6
    np.testing.assert_allclose(ours.read(0, 50), wanted, rtol=EXACT)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("unit", ["µV", "ÂµV", "uV", "", "μV"])
def test_microvolts_are_known_however_they_are_spelt(tmp_path, unit, encoding):
    if unit == "μV" and encoding == "cp1252":
        pytest.skip("no Greek letter in this codepage")
    path = made.brainvision(
        tmp_path, made.signal(5, 1), channels=(f"Fp1,,0.5,{unit}",), encoding=encoding
    )
    (channel,) = open_recording(path).channels
    assert (channel.unit, channel.kind) == ("µV", "eeg")
    assert uv_per("mV") == 1e3 and uv_per("V") == 1e6 and uv_per("nV") == 1e-3
    assert uv_per("µS") is None and uv_per("MV") is None


def test_what_is_no_voltage_keeps_its_unit_and_is_aux(tmp_path):
    path = made.brainvision(
        tmp_path, made.signal(5, 2), channels=("Fp1,,0.5,µV", "GSR\\1 left,,0.1,µS")
    )
    assert [(c.label, c.unit, c.kind) for c in open_recording(path).channels] == [
        ("Fp1", "µV", "eeg"),
        ("GSR, left", "µS", "aux"),
    ]


def test_a_new_segment_after_a_pause_makes_a_gap_and_moves_the_markers(tmp_path):
    marks = (
        "New Segment,,1,1,0,20240302121314000000",
        "New Segment,,26,1,0,20240302121314500000",  # 0.1 s of rows later: a pause of 0.4 s
        "Stimulus,S\\1 1,31,1,0",
    )
    ours = open_recording(made.brainvision(tmp_path, made.signal(50), marks=marks))
    assert ours.gaps == (Gap(25, 100),)
    stimulus = ours.markers[-1]
    assert (stimulus.label, stimulus.index) == ("Stimulus/S, 1", 130)


def test_any_of_the_three_files_opens_the_recording(tmp_path):
    made.brainvision(tmp_path, made.signal(50))
    for name in ("made.vhdr", "made.eeg", "made.vmrk"):
        assert open_recording(tmp_path / name).n_samples == 50


def test_a_header_can_not_name_a_file_elsewhere(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    path = made.brainvision(inside, made.signal(50))
    (tmp_path / "secret").write_bytes(bytes(300))
    path.write_bytes(path.read_bytes().replace(b"made.eeg", b"../secret"))
    with pytest.raises(FileNotFoundError):
        open_recording(path)


# -- XDF -------------------------------------------------------------------------------------------


def test_a_break_in_an_xdf_is_a_gap_and_events_keep_their_time(tmp_path):
    stamps = 1000 + np.concatenate([np.arange(300), np.arange(350, 500)]) / 100
    values = np.random.default_rng(3).normal(0, 20, (450, 2)).astype(np.float32)
    events = [(1001.0, "left"), (1004.5, "right")]
    path = _write(tmp_path, "x.xdf", made.xdf(values, stamps, events=events, unit="millivolts"))
    ours = open_recording(path)
    assert ours.gaps == (Gap(300, 50),) and ours.rate_hz == 100.0
    np.testing.assert_array_equal(ours.read(0, 300), values[:300].astype(np.float64) * 1e3)
    assert [(m.label, m.index) for m in ours.markers] == [("left", 100), ("right", 450)]
    assert ours.labels == ("E0", "E1")


@pytest.mark.parametrize("wanted", ["Other", "gaze", "2", "id-Other"])
def test_a_stream_is_chosen_by_name_type_or_id(tmp_path, wanted):
    path = _write(tmp_path, "x", made.xdf(np.zeros((5, 2)), np.arange(5) / 100))
    ours = open_recording(path, stream=wanted)
    assert ours.meta["stream"] == "Other" and ours.n_samples == 10


def test_a_stream_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = _write(tmp_path, "x", made.xdf(np.zeros((5, 2)), np.arange(5) / 100))
    with pytest.raises(RecordingError, match="no stream 'EMG'") as raised:
        open_recording(path, stream="EMG")
    assert "'Amp' (EEG, 5)" in raised.value.hint
    with pytest.raises(UnsupportedRecording, match="events"):
        open_recording(path, stream="Cues")


# -- text ------------------------------------------------------------------------------------------


def test_missing_rows_and_values_of_a_csv_are_not_there(tmp_path):
    values = made.signal(200, 2)
    text = made.csv(values, skip=30).replace(f",{values[5][0]},", ",,", 1)
    ours = open_recording(_write(tmp_path, "x.csv", text))
    assert ours.gaps == (Gap(100, 30),) and ours.rate_hz == 256.0
    assert [m.index for m in ours.markers] == [20] and ours.markers[0].label == "7"
    np.testing.assert_array_equal(ours.read(130, 70)[:, :2], values[130:])


# -- damage ----------------------------------------------------------------------------------------

EDF = made.edf(made.signal(40), texts={1: [(0.15, 0, "x")]})
XDF = made.xdf(np.ones((50, 2), np.float32), np.arange(50) / 100, events=[(0.1, "go")])


@pytest.mark.parametrize(
    ("name", "data", "error", "match"),
    [
        ("x.edf", EDF[:100], TruncatedRecording, "inside its header"),
        ("x.edf", EDF[:700], TruncatedRecording, "inside its header"),
        ("x.edf", EDF[:-50], TruncatedRecording, "after 3 of 4 records"),
        ("x.edf", b"9" + EDF[1:], DamagedRecording, "version"),
        ("x.edf", EDF.replace(b"0.1     ", b"zero    ", 1), DamagedRecording, "record duration"),
        ("x.xdf", XDF[:-5], TruncatedRecording, "cut short"),
        ("x.xdf", b"XDE:" + XDF[4:], DamagedRecording, "no XDF"),
        ("x.xdf", XDF.replace(b"float32", b"complex", 1), UnsupportedRecording, "complex"),
        ("x.xdf", b"XDF:", UnsupportedRecording, "no stream of samples"),
        ("x.csv", "a,b\n1,2\n", UnknownRecording, "is no time"),
        ("x.csv", "time,b\n1,2\n2,x\n", DamagedRecording, "line 3"),
        ("x.csv", "time,b\n1,2\n2\n3,4\n", DamagedRecording, "line 3"),
        ("x.csv", "time,b\n", DamagedRecording, "no samples"),
        ("x.csv", "1,2\n3,4\n", UnknownRecording, "line of names"),
        ("x.vhdr", "hello", DamagedRecording, "no BrainVision header"),
        ("x.bin", b"GIF89a", UnknownRecording, "known kind"),
        ("x.edf.gz", b"\x1f\x8b", UnknownRecording, "known kind"),
        ("x", b"", UnknownRecording, "known kind"),
    ],
)
def test_each_kind_of_damage_has_its_error_and_a_hint(tmp_path, name, data, error, match):
    with pytest.raises(error, match=match) as raised:
        open_recording(_write(tmp_path, name, data))
    assert raised.value.hint and name in raised.value.message


@pytest.mark.parametrize(("name", "data", "n"), [("x.edf", EDF[:-50], 30), ("x.xdf", XDF[:-5], 50)])
def test_what_is_whole_of_a_cut_file_is_read_when_asked_for(tmp_path, name, data, n):
    ours = open_recording(_write(tmp_path, name, data), truncated=True)
    assert ours.n_samples == n


def test_a_cut_brainvision_file_is_named_or_read_as_asked(tmp_path):
    path = made.brainvision(tmp_path, made.signal(50))
    data = (tmp_path / "made.eeg").read_bytes()
    (tmp_path / "made.eeg").write_bytes(data[:-3])
    with pytest.raises(TruncatedRecording, match="after 49 samples"):
        open_recording(path)
    assert open_recording(path, truncated=True).n_samples == 49
    path.write_bytes(path.read_bytes().replace(b"INT_16", b"UINT_16"))
    with pytest.raises(UnsupportedRecording, match="UINT_16"):
        open_recording(path)
