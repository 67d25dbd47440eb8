"""``phantomctl replay``: a file through the engine, in virtual time."""

import json

import made
import numpy as np
import pytest

from phantomd.cli.phantomctl import run
from phantomd.contracts import GRID_NS, EegHeader, Flag


@pytest.fixture
def file(tmp_path):
    """6 s of eight channels, 40 samples lost after 4 s."""
    path = tmp_path / "x.txt"
    t_s = np.arange(1500) / 250
    values = 50 * np.sin(2 * np.pi * 10 * t_s)[:, None] * np.ones(8)
    path.write_text(made.openbci(values, lost=tuple(range(1000, 1040))))
    return path


def lines_of(capfdbinary, *arguments):
    assert run(["replay", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


def test_a_file_s_frames_are_those_of_a_port(file, tmp_path, capfdbinary):
    out = tmp_path / "out"
    (summary,) = lines_of(capfdbinary, file, "--json", "--out", out)
    assert summary["streams"]["eeg"] >= 760
    assert summary["flags"]["LATE"] < 20  # those that waited for what was lost
    assert summary["intake"]["lost"] == 40 and summary["gaps"] == 1
    data = (out / "eeg.bin").read_bytes()
    size = EegHeader.size(data[:12])
    header = EegHeader.decode(data[:size])
    dtype = [("i", "<u8"), ("t", "<i8"), ("f", "<u4"), ("a", "<u4"), ("v", "<f4", (8,))]
    frames = np.frombuffer(data[size:], dtype)
    assert header.labels[0] == "Fp1" and len(frames) == summary["streams"]["eeg"]
    assert (np.diff(frames["t"]) == GRID_NS).all() and (np.diff(frames["i"]) == 1).all()
    whole = frames[frames["f"] & Flag.MISSING == 0]
    wanted = 50 * np.sin(2 * np.pi * 10 * (whole["t"] - 10**9) / 1e9)
    assert np.abs(whole["v"][:, 3] - wanted)[whole["t"] > 2 * 10**9].max() < 0.5
    last_s = (whole["t"][-1] - 10**9) / 1e9
    assert 5.9 < last_s < 6.0  # to the end, but for the resampler's delay
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [e["data"]["count"] for e in events if e["data"]["kind"] == "gap"] == [40]
    assert events[-1]["data"]["message"] == "replay-0: end of recording"


def test_two_runs_say_the_same_to_the_bit(file, tmp_path, capfdbinary):
    said = []
    for name in ("one", "two"):
        lines_of(capfdbinary, file, "--json", "--out", tmp_path / name)
        said.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert said[0] == said[1] and {"eeg.bin", "events.jsonl"} <= said[0].keys()


def test_streams_are_printed_as_lines_and_the_summary_last(tmp_path, capfdbinary):
    path = tmp_path / "x.edf"
    path.write_bytes(made.edf(made.signal(300), texts={1: [(0.15, 0, "go")]}))
    *lines, summary = lines_of(capfdbinary, path, "--stream", "markers", "--stream", "events")
    assert {line["stream"] for line in lines} == {"markers", "events"}
    (marker,) = [line for line in lines if line["stream"] == "markers"]
    assert marker["data"]["label"] == "go" and marker["t_ns"] == 10**9 + 150_000_000
    assert summary["type"] == "summary" and summary["streams"]["markers"] == 1
    assert summary["device"]["channels"] == list(made.EEGLIKE)


def test_options_reach_the_file_and_the_configuration(file, capfdbinary):
    (summary,) = lines_of(
        capfdbinary,
        file,
        "--json",
        "-o",
        "start_s=3",
        "-o",
        "channels=EXG 0",
        "--set",
        "grid.hold_ms=5",
    )
    assert summary["device"]["channels"] == ["EXG 0"] and 2.9 < summary["seconds"] < 3.2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nothing.edf"], 1),
        (["FILE", "--speed", "fast"], 2),
        (["FILE", "--stream", "nope"], 2),
        (["FILE", "-o", "speed=3"], 2),
        (["FILE", "-o", "nope=3"], 1),
        (["FILE", "--set", "nope=3"], 78),
    ],
)
def test_what_can_not_be_is_said_with_the_right_status(file, capfdbinary, arguments, status):
    words = [str(file) if word == "FILE" else word for word in arguments]
    assert run(["replay", *words, "--json"]) == status
    assert json.loads(capfdbinary.readouterr().out)["error"]["hint"]


def test_frames_are_printed_as_tap_prints_them(file, capfdbinary):
    first, *lines, _ = lines_of(capfdbinary, file, "--stream", "eeg", "-o", "start_s=5")
    assert first["type"] == "metadata" and first["data"]["channels"][0] == "Fp1"
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert {len(line["data"]["values"]) for line in lines} == {8}
    assert lines[0]["data"]["values"][0] is None and lines[-1]["data"]["values"][0] is not None
