"""``top``: what it draws of known signals, and that it lives and ends as it should."""

import json
import math
import os
import pty
import subprocess
import sys
import termios

import numpy as np
import pytest
from fakes import FIRST, FakeDaemon, frame
from served import WAIT_S, Host

from phantomd.cli.feed import Scene
from phantomd.cli.phantomctl import run
from phantomd.cli.picture import SCALES_UV, View, draw, take_traces
from phantomd.cli.top import key_map
from phantomd.cli.traces import History, columns, extremes, plot
from phantomd.client import Frame
from phantomd.contracts import Flag

NAN = math.nan
#: Dots of a braille cell: bit, row, column (Unicode 15, chapter 21.1).
DOTS = [(0, 0, 0), (1, 1, 0), (2, 2, 0), (6, 3, 0), (3, 0, 1), (4, 1, 1), (5, 2, 1), (7, 3, 1)]


def lit(text: str) -> dict[int, set[int]]:
    """Rows of the lit dots of a line of braille, by column of dots."""
    rows: dict[int, set[int]] = {}
    for cell, character in enumerate(text):
        code = 0 if character == " " else ord(character) - 0x2800
        for bit, row, column in DOTS:
            if code >> bit & 1:
                rows.setdefault(2 * cell + column, set()).add(row)
    return rows


def trace(*values: float, rows: int = 1, half_range: float = 50.0) -> list[str]:
    each = np.array(values, np.float32)
    return plot(each, each, rows, half_range)


def made(*values: float, first: int = 0, flags: int = 0) -> list[Frame]:
    return [
        Frame(index, index, Flag(flags), 0, np.array([value], np.float32))
        for index, value in enumerate(values, first)
    ]


def history(*values: float, first: int = 0, capacity: int = 1000) -> History:
    kept = History(1, capacity)
    kept.add(made(*values, first=first))
    return kept


# -- traces ----------------------------------------------------------------------------------------


def test_a_falling_ramp_is_a_diagonal():
    # Levels at thirds of the range are the four rows of a cell: dots 1, 5, 3, 8.
    assert trace(50.0, 16.7, -16.7, -50.0) == ["⠑⢄"]


def test_a_ramp_over_two_rows_uses_eight_levels():
    ramp = [50.0 - 100.0 * step / 7 for step in range(8)]
    assert trace(*ramp, rows=2) == ["⠑⢄  ", "  ⠑⢄"]


def test_a_step_is_joined():
    assert lit(trace(50.0, -50.0)[0]) == {0: {0}, 1: {1, 2, 3}}


def test_what_lies_beyond_the_lane_is_drawn_on_its_edge():
    assert lit(trace(9e9, 9e9, -9e9, -9e9)[0])[0] == {0}


def test_missing_columns_are_blank_and_nothing_joins_over_them():
    assert lit(trace(50.0, NAN, NAN, -50.0)[0]) == {0: {0}, 3: {3}}


def test_a_column_shows_least_and_greatest():
    kept = history(0.0, 40.0, -40.0, 0.0, 1.0, NAN, -1.0, 0.0)
    low, high = extremes(columns(kept, 2, 4), 4)
    assert low[:, 0].tolist() == pytest.approx([-40.0, -1.0])
    assert high[:, 0].tolist() == pytest.approx([40.0, 1.0])


def test_columns_stand_for_the_same_frames_while_they_scroll():
    kept = history(*map(float, range(10)))
    before = columns(kept, 2, 4)
    kept.add(made(10.0, first=10))
    assert columns(kept, 2, 4).first == before.first == 0
    kept.add(made(11.0, first=11))
    assert columns(kept, 2, 4).first == 4


def test_an_offset_of_60_mv_is_taken_out():
    kept = history(*(60_000.0 + 10.0 * (-1) ** n for n in range(8)))
    low, high = extremes(columns(kept, 4, 2), 2)
    assert low.ravel().tolist() == [-10.0] * 4
    assert high.ravel().tolist() == [10.0] * 4


def test_lost_frames_are_missing():
    kept = history(1.0, 2.0)
    kept.add(made(5.0, first=4))
    window = kept.window(0, 5)
    np.testing.assert_array_equal(window.values[:, 0], [1.0, 2.0, NAN, NAN, 5.0])
    assert window.flags.tolist() == [0, 0, 1, 1, 0]


def test_what_is_older_than_the_history_is_unknown_and_not_missing():
    kept = history(*map(float, range(8)), capacity=4)
    window = kept.window(2, 8)
    np.testing.assert_array_equal(window.values[:, 0], [NAN, NAN, 4.0, 5.0, 6.0, 7.0])
    assert window.flags.tolist() == [0] * 6


# -- the picture -----------------------------------------------------------------------------------


def drawn(scene: Scene, view: View, width: int, height: int) -> list[str]:
    lines = draw(scene, view, take_traces(scene, view, width), width, height)
    return ["".join(text for text, _ in line) for line in lines]


def scene_of(n_channels: int) -> Scene:
    kept = History(n_channels, 1000)
    values = np.zeros(n_channels, np.float32)
    kept.add(Frame(index, index, Flag(0), 0, values) for index in range(600))
    return Scene(labels=tuple(f"E{n}" for n in range(n_channels)), history=kept)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (40, 10), (20, 4), (10, 1)])
@pytest.mark.parametrize("n_channels", [1, 8, 64])
def test_a_picture_fills_the_terminal_exactly(size, n_channels):
    width, height = size
    lines = drawn(scene_of(n_channels), View(), width, height)
    assert [len(line) for line in lines] == [width] * height


def test_channels_that_have_no_room_are_scrolled_to():
    scene, view = scene_of(64), View()
    assert any(line.startswith("E0 ") for line in drawn(scene, view, 80, 24))
    key_map(view)["j"]()
    lines = drawn(scene, view, 80, 24)
    assert not any(line.startswith("E0 ") for line in lines)
    assert any(line.startswith("E1 ") for line in lines)
    view.first_channel = 1000
    assert any(line.startswith("E63 ") for line in drawn(scene, view, 80, 24))


def test_nobody_there_is_said():
    scene = Scene(trouble={"control": "no daemon: x", "eeg": "closed"})
    assert any("GONE: no daemon: x" in line for line in drawn(scene, View(), 80, 24))


def test_keys_change_scale_and_time_within_their_ranges():
    view = View()
    keys = key_map(view)
    keys["+"]()
    assert (view.scale_uv, view.auto) == (30, False)
    for _ in range(99):
        keys["-"]()
        keys["]"]()
    assert (view.scale_uv, view.span_s) == (SCALES_UV[-1], 60)
    keys["a"]()
    keys[" "]()
    keys["p"]()
    assert view.auto and view.frozen and view.paused


def test_the_automatic_scale_fits_the_signal_and_does_not_go_to_and_fro():
    view = View()
    scales = []
    for reach_uv in (27.0, 31.0, 29.0, 25.0, 23.0, 600.0):
        view.fit(reach_uv)
        scales.append(view.scale_uv)
    assert scales == [30, 50, 50, 50, 30, 700]


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    with Host() as host:
        daemon = FakeDaemon(host, tmp_path / "control.sock", ("Sine", "Ramp"))
        monkeypatch.setenv("PHANTOMD_CONTROL", str(daemon.path))
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "24")
        yield daemon


def signals(first: int, count: int) -> list[bytes]:
    """A sine of 1 Hz and 40 µV and a ramp, on an offset; the second half second is missing."""
    data = []
    for index in range(first, first + count):
        if 64 <= index - first < 128:
            data.append(frame(index, (NAN, NAN), Flag.MISSING))
        else:
            sine = 40.0 * math.sin(2 * math.pi * index / 128)
            data.append(frame(index, (30_000.0 + sine, (index - first) / 16)))
    return data


def test_once_draws_the_known_signals_the_gap_and_everything_else(daemon, capsys):
    n_columns, a_column = 2 * (80 - 15), 4
    n_frames = (n_columns + 1) * a_column
    daemon.when_subscribed(daemon.eeg, lambda: daemon.publish_frames(signals(FIRST, n_frames)))
    assert run(["top", "--once", "--scale", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    title = next(at for at, line in enumerate(lines) if line.startswith("eeg "))
    marks = next(at for at, line in enumerate(lines) if line.startswith("flags"))
    rows = (marks - title - 1) // 2
    lane = [line[7:-8] for line in lines[title + 1 : title + 1 + rows]]
    dots: dict[int, set[int]] = {}
    for row, text in enumerate(lane):
        for column, seen in lit(text).items():
            dots.setdefault(column, set()).update(4 * row + each for each in seen)
    first_column = FIRST // a_column + 1  # the oldest has scrolled out
    levels = 4 * rows - 1
    for second in (2, 3, 4):
        # The offset is taken out but for what the gap takes from the mean: under 2 µV of 50.
        for phase, uv in ((0.25, 40.0), (0.75, -40.0)):
            column = int((second + phase) * 128) // a_column - first_column
            expected = (1 - uv / 50.0) * levels / 2
            assert min(abs(row - expected) for row in dots[column]) <= 1.0
    gap = range(64 // a_column - 1, 128 // a_column - 1)
    assert not any(column in dots for column in gap)
    cells = {column // 2 for column in gap}
    flags = lines[marks][7:-8]
    assert {cell for cell, letter in enumerate(flags) if letter == "M"} == cells
    text = "\n".join(" ".join(line.split()) for line in lines)
    for part in ("PANIC: hand on the switch", "tick-priority", "cyton-0", "+8.0 ±0.5 ppm"):
        assert part in text
    assert f"eeg {daemon.eeg.port} 3 512 7 eeg 90.0µs 1.5ms 9.0ms 12.0ms 2" in text


def test_json_is_one_snapshot(daemon, capsys):
    daemon.when_subscribed(daemon.eeg, lambda: daemon.publish_frames(signals(FIRST, 128)))
    assert run(["top", "--json", "--seconds", "1"]) == 0
    snapshot = json.loads(capsys.readouterr().out)
    assert snapshot["daemon"] == "phantomd/9.9.9"
    assert snapshot["status"]["devices"][0]["device_id"] == "cyton-0"
    assert snapshot["ledger"]["eeg"]["missed"] == 2
    eeg = snapshot["eeg"]
    assert (eeg["first_index"], eeg["frames"]) == (FIRST, 128)
    ramp = eeg["channels"][1]["values"]
    assert ramp[:3] == [0.0, 1 / 16, 2 / 16] and ramp[64] is None
    assert eeg["flags"][64] == Flag.MISSING


def test_once_without_frames_still_shows_the_rest(daemon, capsys, monkeypatch):
    monkeypatch.setattr("phantomd.cli.top._FIRST_FRAMES_S", 0.2)
    assert run(["top", "--once", "--seconds", "1"]) == 0
    assert "cyton-0" in capsys.readouterr().out


def test_live_it_hears_keys_survives_the_daemon_and_gives_the_terminal_back(tmp_path):
    path = tmp_path / "control.sock"
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    before = termios.tcgetattr(slave)
    environment = {**os.environ, "PHANTOMD_CONTROL": str(path), "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    seen = b""

    def until(*wanted: bytes) -> None:
        nonlocal seen
        while not all(each in seen for each in wanted):
            seen += os.read(master, 65536)
        seen = b""

    with Host() as host:
        daemon = FakeDaemon(host, path)
        process = subprocess.Popen(
            [sys.executable, "-m", "phantomd.cli.phantomctl", "top"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        daemon.when_subscribed(daemon.eeg, lambda: None)
        until(b"\x1b[?1049h", b"cyton-0", b"2 channels")
    until(b"GONE")
    with Host() as host:
        daemon = FakeDaemon(host, path)
        until(b"2 channels", b"up 3:07")
        os.write(master, b"p")
        until(b"PAUSED")
        os.write(master, b"p ")
        until(b"FROZEN")
        os.write(master, b"q")
        until(b"\x1b[?1049l")
        assert process.wait(WAIT_S) == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
