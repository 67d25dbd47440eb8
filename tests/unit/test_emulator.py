"""The Cyton emulator: its commands, its clock, its faults and what it says about them."""

from __future__ import annotations

import io
import json
import os
import random
import select
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from phantomd.core.cyton import UV_PER_COUNT, Parser, uv_per_count
from phantomd.core.intake import Pump
from phantomd.devices.base import Address
from phantomd.devices.cyton import CytonDevice
from phantomd.devices.cyton_board import BANNER, TIMEOUT_NS, Board
from phantomd.devices.emulator import CytonEmulator, run
from phantomd.devices.radio_faults import FAULTS, RadioFaults, parse_faults
from phantomd.errors import UsageError

PACKET = bytes([0xA0, 7, *[0] * 30, 0xC0])
WITHIN_S = 30.0


def signal(n: int) -> np.ndarray:
    """µV that say in each channel which row they are of."""
    return (np.arange(n)[:, None] * 8 + np.arange(8)) * UV_PER_COUNT


def say(board: Board, text: str, now_ns: int = 0) -> str:
    return b"".join(board.hear(byte, now_ns) for byte in text.encode()).decode()


# -- board -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        # OpenBCI "Cyton Board SDK" and the firmware's own strings.
        ("v", BANNER),
        ("V", "v3.1.1$$$"),
        ("D", "060110$$$"),
        ("d", "updating channel settings to default$$$"),
        ("c", ""),
        ("C", "no daisy to attach!8$$$"),
        ("x3020000X", "Success: Channel set for 3$$$"),
        ("x1020000V", "Failure: 9th char not X$$$"),
        ("x102000XX", "Failure: too few chars$$$"),
        ("z410Z", "Success: Lead off set for 4$$$"),
        ("z410Q", "Failure: 5th char not Z$$$"),
        ("~~", "Success: Sample rate is 250Hz$$$"),
        ("~9", "Failure: sample value out of bounds$$$"),
        ("//", "Success: default$$$"),
        ("/4", "Success: marker$$$"),
        ("-", "Success: Configured internal test signal.$$$"),
        ("9", ""),
        ("o", ""),
    ],
)
def test_each_command_is_answered_as_the_firmware_does(command: str, answer: str) -> None:
    assert say(Board(signal(1)), command) == answer


def test_nothing_is_answered_while_it_streams() -> None:
    board = Board(signal(1))
    assert say(board, "bx1020000X~~?VD") == ""
    assert say(board, "sV") == "v3.1.1$$$"


def test_a_command_left_unfinished_times_out() -> None:
    board = Board(signal(1))
    say(board, "x10")
    assert board.expire(TIMEOUT_NS - 1) == b""
    assert board.expire(TIMEOUT_NS).startswith(b"Timeout processing multi byte message")
    assert say(board, "V") == "v3.1.1$$$"


def test_a_gain_changes_the_counts_and_the_register() -> None:
    board = Board(np.full((1, 8), 1000.0))
    say(board, "x2040110X")
    assert board.counts[0, 0] == round(1000 / UV_PER_COUNT)
    assert board.counts[0, 1] == round(1000 / uv_per_count(8))
    assert "CH2SET, 06, 48" in say(board, "?")
    say(board, "v")
    assert board.counts[0, 1] == board.counts[0, 0]


def test_a_channel_that_is_off_reads_zero() -> None:
    board = Board(np.full((1, 8), 1000.0))
    say(board, "3")
    assert board.counts[0, 2] == 0
    say(board, "#")
    assert board.counts[0, 2] != 0


def test_a_marker_comes_once_in_marker_mode() -> None:
    board = Board(signal(1))
    accelerometer = np.full(6, 9, np.uint8)
    say(board, "/4b`M")
    for expected in ([0, ord("M"), 0, 0, 0, 0], [0] * 6):  # the firmware's word, big-endian
        aux, stop = board.aux(accelerometer)
        assert (aux.tolist(), stop) == (expected, 0xC1)


# -- faults ----------------------------------------------------------------------------------------


def test_faults_are_read_with_their_units() -> None:
    faults = parse_faults("drop=0.25, burst=0.5:50,gap=10s:500ms,clump=16,ppm=-100,unplug=20s")
    assert (faults.drop, faults.burst, faults.burst_packets) == (0.25, 0.5, 50)
    assert (faults.gap_s, faults.gap_for_s, faults.clump_ms) == (10.0, 0.5, 16.0)
    assert (faults.ppm, faults.unplug_s) == (-100.0, 20.0)
    assert parse_faults("clump=64ms").clump_ms == 64.0


@pytest.mark.parametrize(
    "spec", ["drip=0.1", "drop", "drop=x", "drop=2", "burst=0.1", "drop=0.1:3", "gap=-1:2"]
)
def test_a_fault_that_cant_be_is_named_with_what_can(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults(spec)
    assert "write " in caught.value.hint or all(name in caught.value.hint for name in FAULTS)


@pytest.mark.parametrize(
    ("what", "n_bytes"),
    [("drop", {0}), ("dup", {66}), ("footer", {33}), ("insert", {34}), ("cut", set(range(1, 33)))],
)
def test_a_fault_does_what_it_says_and_is_in_the_log(what: str, n_bytes: set[int]) -> None:
    radio = RadioFaults(parse_faults(f"{what}=1"), random.Random(1))
    for number in range(50):
        assert len(radio.spoil(PACKET, number, 0.0)) in n_bytes
    assert [(played.what, played.packet) for played in radio.log] == [
        (what, number) for number in range(50)
    ]


@pytest.mark.parametrize("what", ["footer", "header", "insert", "cut"])
def test_what_is_damaged_is_no_packet(what: str) -> None:
    radio = RadioFaults(parse_faults(f"{what}=1"), random.Random(1))
    for number in range(100):
        assert len(Parser().feed(radio.spoil(PACKET, number, 0.0))) == 0


def test_a_burst_and_a_gap_take_all_packets_of_theirs() -> None:
    radio = RadioFaults(parse_faults("gap=1s:0.5s"), random.Random(1))
    lost = [n for n in range(1000) if not radio.spoil(PACKET, n, n * 0.004)]
    assert lost == list(range(250, 375))
    radio = RadioFaults(parse_faults("burst=0.01:20"), random.Random(1))
    lost = [n for n in range(1000) if not radio.spoil(PACKET, n, n * 0.004)]
    assert [played.packet for played in radio.log] == lost
    assert len(lost) >= 20


def test_one_seed_plays_the_same_faults() -> None:
    spec = parse_faults("drop=0.05,dup=0.05,insert=0.05,cut=0.05,garbage=0.02:30,counter=0.05")
    streams = [
        b"".join(radio.spoil(PACKET, n, n * 0.004) for n in range(2000))
        for radio in (RadioFaults(spec, random.Random(seed)) for seed in (5, 5, 6))
    ]
    assert streams[0] == streams[1] != streams[2]


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("drip@1", "drop"),
        ("gap@x", "gap@START..END"),
        ("gap@2..1", "gap@START..END"),
        ("gap@1..2:n=3", "its arguments: none"),
        ("burst@1:n=0", "from 1 to"),
        ("clump@1..2:ms=16:phase=x", "phase"),
    ],
)
def test_a_scheduled_fault_that_cant_be_is_named_with_what_can(spec: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults(spec)
    assert hint in caught.value.hint


def played(spec: str, n: int = 2000, seed: int = 1) -> tuple[RadioFaults, list[bytes]]:
    radio = RadioFaults(parse_faults(spec), random.Random(seed))
    return radio, [radio.spoil(PACKET, k, radio.taken_ns(k) * 1e-9) for k in range(n)]


@pytest.mark.parametrize(
    ("spec", "lost"),
    [
        ("gap@1..1.5", range(250, 375)),
        ("silence@1..1.5", range(250, 375)),
        ("burst@1:n=20", range(250, 270)),
        ("wrap@1:turns=2", range(250, 762)),
        ("marker@1:n=3", range(250, 253)),
        ("wrap@1,burst@2:n=10", [*range(250, 510)]),
    ],
)
def test_a_scheduled_loss_takes_its_packets_and_no_others(spec: str, lost: list[int]) -> None:
    radio, packets = played(spec)
    assert [k for k, data in enumerate(packets) if not data] == list(lost)
    assert radio.markers == ([253] if spec.startswith("marker") else [])


def test_scheduled_damage_is_there_while_it_lasts() -> None:
    for what in ("footer", "header", "cut", "garbage", "dup"):
        _, packets = played(f"{what}@1..2" + ("" if what == "garbage" else ":p=1"))
        assert [k for k, data in enumerate(packets) if data != PACKET] == list(range(250, 500))


def test_scheduled_rates_and_clumps_move_the_packets() -> None:
    radio, _ = played("rate@1..2:percent=25,drift@4..5:ppm=1000", 1)
    taken_s = np.array([radio.taken_ns(k) for k in range(1500)]) * 1e-9
    assert taken_s[250] == pytest.approx(1.0)
    assert np.diff(taken_s)[[100, 300, 700]] == pytest.approx([0.004, 0.0032, 0.004])
    drifting = np.diff(taken_s)[np.searchsorted(taken_s, 4.5)]
    assert drifting == pytest.approx(0.004 / 1.001)
    radio, _ = played("clump@1..2:ms=32:phase=3,stall@3..3.5", 1)
    ready_ms = np.array([radio.ready_ns(k) for k in range(1500)]) * 1e-6
    assert ready_ms[100] == 400.0
    clumped = ready_ms[260:490]
    assert np.allclose((clumped - 3) % 32, 0) and (clumped >= 4.0 * np.arange(260, 490)).all()
    assert (ready_ms[750:875] == 3500.0).all() and ready_ms[876] == 3504.0


def test_scheduled_faults_of_the_amplifier_hold_or_saturate_their_channels() -> None:
    radio, _ = played("flatline@1..2:channels=3,saturate@3..4:channels=128", 1)
    counts = [radio.spoil_counts(np.full(8, k, np.int32), k).tolist() for k in range(0, 1250, 10)]
    assert counts[30] == [250, 250, 300, 300, 300, 300, 300, 300]
    assert counts[80] == [800] * 7 + [(1 << 23) - 1]
    assert counts[110] == [1100] * 8


# -- on a pty --------------------------------------------------------------------------------------


def read_for(fd: int, n_packets: int) -> bytes:
    data = b""
    deadline = time.monotonic() + WITHIN_S
    while len(data) < 33 * n_packets and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            data += os.read(fd, 65536)
    return data


def test_every_packet_that_came_through_is_in_its_place_in_the_ring() -> None:
    n = 300
    spoilt = "drop=0.02,burst=0.005:10,dup=0.02,footer=0.02,header=0.02,insert=0.02,cut=0.02"
    emulator = CytonEmulator(signal(n), faults=spoilt, at_end="hangup", seed=3)
    with emulator:
        device = CytonDevice(Address.parse(f"cyton:{emulator.path}"))
        pump = Pump(device.driver, device.fd, priority=0)
        device.start()
        assert emulator.wait(WITHIN_S)
        deadline = time.monotonic() + WITHIN_S
        while not pump.end_error and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        pump.stop()
        device.close()
    assert pump.end_error
    bad = {played.packet for played in emulator.log if played.what != "dup"}
    ring = device.driver.intake.ring
    first = min(set(range(n)) - bad)
    for index in range(ring.next):
        frame = ring.read(index)
        lost = bool(frame[2] & np.uint64(1))
        assert lost == (index + first in bad), index
        if not lost:
            uv = frame[5:13].view(np.float64)
            assert np.allclose(uv, signal(n)[index + first], rtol=1e-12, atol=0)
    counters = device.driver.intake.counters()
    assert counters["accepted"] == n - len(bad)
    played = Counter(one.what for one in emulator.log)
    assert counters["duplicates"] + counters["strays"] <= played["dup"]


def test_packets_keep_to_an_absolute_clock() -> None:
    with CytonEmulator(signal(100), rate_hz=500.0, faults="ppm=100000") as emulator:
        fd = os.open(emulator.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        found = Parser().feed(read_for(fd, 100))
        end_ns = time.monotonic_ns()
        os.close(fd)
    assert len(found) == 100
    assert emulator.period_ns == pytest.approx(2_000_000 / 1.1)
    # None is early: the last is due 99 periods after the first.
    assert end_ns - emulator.t0_ns >= 99 * emulator.period_ns


def test_no_packet_leaves_before_its_clump() -> None:
    n, clump_ns = 50, 64_000_000
    arrived_ns: list[int] = []
    with CytonEmulator(signal(n), faults="clump=64") as emulator:
        fd = os.open(emulator.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        parser = Parser()
        while len(arrived_ns) < n and select.select([fd], [], [], WITHIN_S)[0]:
            found = parser.feed(os.read(fd, 65536))
            arrived_ns += [time.monotonic_ns()] * len(found)
        os.close(fd)
    assert len(arrived_ns) == n
    for number, at_ns in enumerate(arrived_ns):
        assert at_ns >= emulator.t0_ns + -(-number * 4_000_000 // clump_ns) * clump_ns


def test_nobody_reading_loses_packets_and_blocks_nothing() -> None:
    with CytonEmulator(signal(4000), rate_hz=50_000.0) as emulator:
        fd = os.open(emulator.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        deadline = time.monotonic() + WITHIN_S
        while emulator.sent < 4000 and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        assert emulator.sent == 4000
        lost = emulator.overruns
        assert lost > 0
        found = Parser().feed(read_for(fd, 4000 - lost))
        os.close(fd)
    # What did come through is whole: no packet was torn by the full buffer.
    assert len(found) == 4000 - lost
    assert {one.packet for one in emulator.log if one.what == "overrun"} == set(range(4000)) - {
        int(one["count"][0]) // 8 for one in found
    }


def test_an_unplugged_device_ends_the_pump() -> None:
    with CytonEmulator(signal(250), faults="unplug=0.1s") as emulator:
        device = CytonDevice(Address.parse(f"cyton:{emulator.path}"))
        notify_fd = os.eventfd(0)
        pump = Pump(device.driver, device.fd, notify_fd=notify_fd, priority=0)
        device.start()
        assert select.select([notify_fd], [], [], WITHIN_S)[0]
        assert pump.end_error
        pump.stop()
        device.close()
        os.close(notify_fd)
    assert [(one.what, one.packet) for one in emulator.log] == [("unplug", 25)]


def test_an_unplugged_board_is_back_at_another_terminal_and_once_only() -> None:
    paths: list[str] = []
    spec = "unplug@0.1..0.2"
    with CytonEmulator(signal(250), faults=spec, at_end="loop", replugged=paths.append) as board:
        fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        deadline = time.monotonic() + WITHIN_S
        while not paths and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        os.close(fd)
        assert paths and board.alive
        fd = os.open(paths[0], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        found = Parser().feed(read_for(fd, 60))[:60]
        os.close(fd)
        assert (found["counter"] == np.arange(60)).all()
        first_ns = board.t0_ns + 0.2e9
        assert time.monotonic_ns() >= first_ns + 59 * board.period_ns
        assert [one.what for one in board.log] == ["unplug"]


def test_a_loop_goes_on_with_the_counter() -> None:
    with CytonEmulator(signal(10), rate_hz=2000.0, at_end="loop") as emulator:
        fd = os.open(emulator.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"b")
        found = Parser().feed(read_for(fd, 300))[:300]
        os.close(fd)
    assert (found["counter"] == np.arange(300) % 256).all()
    assert (found["count"][:, 0] == np.arange(300) % 10 * 8).all()


def test_the_command_says_where_when_and_what(tmp_path: Path) -> None:
    file, link = tmp_path / "card.txt", tmp_path / "cyton"
    rows = "".join(f"{n}.0,1,2,3,4,5,6,7,8\n" for n in range(50))
    file.write_text(f"%OBCI Data Log - x\n{rows}")
    out = io.StringIO()
    thread = threading.Thread(
        target=run,
        args=(file,),
        kwargs={"link": link, "at_end": "hangup", "faults": "drop=0.2", "out": out},
    )
    thread.start()
    deadline = time.monotonic() + WITHIN_S
    while not out.getvalue() and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    os.write(fd, b"b")
    thread.join(WITHIN_S)
    os.close(fd)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0]["link"] == str(link)
    assert lines[1]["t0_ns"] > 0
    assert lines[2]["sent"] == 50
    assert {fault["what"] for fault in lines[2]["faults"]} == {"drop"}
    assert not link.exists()
    assert not link.is_symlink()
