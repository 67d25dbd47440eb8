"""The Cyton's Python side: encoding, parsing, the device on a pty, recordings."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import serial

from phantomd.core.cyton import UV_PER_COUNT, CytonDriver, Parser, encode, uv_per_count
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.devices import cyton
from phantomd.devices.base import Address
from phantomd.devices.cyton import CytonDevice, replay_driver
from phantomd.errors import (
    BadAddress,
    DeviceBusy,
    DeviceMissing,
    DeviceNotAllowed,
    DeviceSilent,
    RecordingError,
    UnsupportedFault,
)
from phantomd.formats.openbci import read_openbci

BANNER = b"OpenBCI V3 8-16 channel\r\nFirmware: v3.1.1\r\n$$$"


def packets(n: int, first: int = 0) -> tuple[bytes, np.ndarray]:
    counts = np.random.default_rng(7).integers(-(1 << 23), 1 << 23, (n, 8), np.int32)
    return encode(np.arange(first, first + n).astype(np.uint8), counts), counts


# -- encoder, parser, driver -----------------------------------------------------------------------


def test_scale_is_that_of_the_data_sheet() -> None:
    # OpenBCI "Cyton Data Format": 4.5 V / gain / (2^23 - 1), 0.02235 µV at gain 24.
    assert pytest.approx(0.022351744455307063, rel=1e-15) == UV_PER_COUNT
    assert uv_per_count(1) == pytest.approx(24 * UV_PER_COUNT, rel=1e-15)


def test_a_packet_is_laid_out_as_documented() -> None:
    counts = np.array([[1, -1, 0x123456, -0x800000, 0x7FFFFF, 0, 0, 0]], np.int32)
    data = encode(np.array([9], np.uint8), counts, np.arange(6, dtype=np.uint8)[None], 0xC3)
    assert data.hex() == ("a009000001ffffff1234568000007fffff" + 3 * "000000" + "000102030405c3")


def test_what_is_encoded_is_parsed() -> None:
    data, counts = packets(1000)
    found = Parser().feed(data)
    assert (found["count"] == counts).all()
    assert (found["counter"] == np.arange(1000) % 256).all()
    assert (found["junk_before"] == 0).all()


@pytest.mark.parametrize("shape", [(2, 7), (3, 8)])
def test_counts_of_another_shape_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="counts must be"):
        encode(np.zeros(2, np.uint8), np.zeros(shape, np.int32))


def test_junk_shows_before_the_packet_and_while_there_is_none() -> None:
    data, _ = packets(2)
    parser = Parser()
    parser.feed(BANNER)
    assert parser.junk == len(BANNER)
    assert not parser.synced
    assert parser.feed(data)["junk_before"].tolist() == [len(BANNER), 0]
    assert parser.synced


def intake(n_values: int = 11, modulus: int = 256) -> Intake:
    return Intake(Ring(NATIVE_HEAD_WORDS + n_values, 1024), 250.0, n_values, modulus=modulus)


def test_driver_state_moves_to_another_driver_in_the_middle_of_a_packet() -> None:
    data, counts = packets(3)
    one, other = CytonDriver(intake()), CytonDriver(intake())
    one.feed(data[:50], 10**9)
    other.state = one.state
    other.intake.state = one.intake.state
    other.feed(data[50:], 10**9 + 8_000_000)
    assert other.intake.ring.next == 2
    first = other.intake.ring.read(0)[NATIVE_HEAD_WORDS:].view(np.float64)
    assert (first[:8] == counts[1] * UV_PER_COUNT).all()


@pytest.mark.parametrize(("n_values", "modulus"), [(8, 256), (11, 0)])
def test_driver_refuses_an_intake_of_another_form(n_values: int, modulus: int) -> None:
    with pytest.raises(ValueError, match="modulus 256 and 11 values"):
        CytonDriver(intake(n_values, modulus))


def test_driver_refuses_gains_that_cant_be() -> None:
    with pytest.raises(ValueError, match="8 gains, 16 with its Daisy"):
        CytonDriver(intake(), (24.0,) * 7)
    with pytest.raises(ValueError, match="aux is one of"):
        CytonDriver(intake(), aux="none")
    with pytest.raises(ValueError, match="positive"):
        CytonDriver(intake(), (0.0,) * 8)


# -- device ----------------------------------------------------------------------------------------


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)  # ends who answers: its descriptor must not be another test's
    while _answering:
        _answering.pop().join(5)
    os.close(master)


_answering: list[threading.Thread] = []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cyton, "BANNER_S", 0.1)
    monkeypatch.setattr(cyton, "ANSWER_S", 0.1)


def answering(master: int, answer: Callable[[bytes], bytes]) -> threading.Thread:
    """Answers what is said to it until it reads ``b`` or its end hangs up."""

    def serve() -> None:
        said = b""
        while said != b"b":
            try:
                said = os.read(master, 100)
                os.write(master, answer(said))
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    _answering.append(thread)
    return thread


def test_open_reads_the_firmware_and_leaves_a_blocking_read_to_poll(pty: tuple[int, str]) -> None:
    master, path = pty
    thread = answering(master, lambda said: BANNER if b"v" in said else b"")
    device = CytonDevice(Address.parse(f"cyton:{path}"), tuple("abcdefgh"))
    assert device.spec.info["firmware"] == "v3.1.1"
    assert device.spec.labels == tuple("abcdefgh")
    assert device.spec.counter_modulus == 256
    # Nothing there is EAGAIN, not an end of file: the pump tells a hang-up by that.
    with pytest.raises(BlockingIOError):
        os.read(device.fd, 1)
    device.start()
    thread.join(5)
    assert not thread.is_alive()
    device.close()


def test_gain_is_set_on_each_channel_and_scales(pty: tuple[int, str]) -> None:
    master, path = pty
    said: list[bytes] = []

    def answer(command: bytes) -> bytes:
        said.append(command)
        return BANNER if b"v" in command else b"Success: Channel set$$$"

    answering(master, answer)
    device = CytonDevice(Address.parse(f"cyton:{path}?gain=6"))
    assert said[1:] == [b"x%d030110X" % channel for channel in range(1, 9)]
    assert device.spec.info["range_uv"] == pytest.approx([-4.5e6 / 6, 4.5e6 / 6])
    data, counts = packets(1)
    device.driver.feed(data, 10**9)
    uv = device.driver.intake.ring.read(0)[NATIVE_HEAD_WORDS:].view(np.float64)[:8]
    assert (uv == counts[0] * uv_per_count(6)).all()
    replayed = replay_driver(device.spec, intake())
    replayed.feed(data, 10**9)
    assert (replayed.intake.ring.read(0) == device.driver.intake.ring.read(0)).all()
    device.close()


def test_the_range_is_what_every_channel_can_give(pty: tuple[int, str]) -> None:
    master, path = pty
    answering(master, lambda said: BANNER if b"v" in said else b"Success: Channel set$$$")
    device = CytonDevice(Address.parse(f"cyton:{path}?gain=24,24,1,1,2,4,6,8"))
    assert device.spec.info["range_uv"] == pytest.approx([-187_500.0, 187_500.0])
    device.close()


def test_a_daisy_is_taken_off(pty: tuple[int, str]) -> None:
    master, path = pty
    said: list[bytes] = []

    def answer(command: bytes) -> bytes:
        said.append(command)
        return (
            BANNER.replace(b"\r\n", b"\r\nOn Daisy ADS1299 Device ID: 0x3E\r\n", 1)
            if (b"v" in command)
            else b"daisy removed$$$"
        )

    answering(master, answer)
    CytonDevice(Address.parse(f"cyton:{path}")).close()
    assert b"c" in b"".join(said)  # a slow reader gets two commands at once


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "nothing answers"),
        (
            b"Failure: Communications timeout - Device failed to poll host$$$",
            "can't reach its board",
        ),
        (b"OpenBCI Ganglion v2.0.1$$$", "no Cyton"),
        (b"\xa0\x01\x02", "no Cyton"),
    ],
)
def test_silence_and_strangers_are_named_and_the_port_closed(
    pty: tuple[int, str], answer: bytes, message: str
) -> None:
    master, path = pty
    answering(master, lambda _: answer)
    with pytest.raises(DeviceSilent, match=message) as caught:
        CytonDevice(Address.parse(f"cyton:{path}"))
    assert "GPIO 6" in caught.value.hint
    serial.Serial(path, exclusive=True).close()


@pytest.mark.usefixtures("quick")
def test_a_board_that_ignores_its_gain_is_refused(pty: tuple[int, str]) -> None:
    master, path = pty
    answering(master, lambda said: BANNER if b"v" in said else b"Failure: too few chars$$$")
    with pytest.raises(DeviceSilent, match="too few chars"):
        CytonDevice(Address.parse(f"cyton:{path}?gain=12"))


def test_a_port_that_is_not_there_is_missing() -> None:
    with pytest.raises(DeviceMissing, match="no /dev/ttyUSB77") as caught:
        CytonDevice(Address.parse("cyton:/dev/ttyUSB77"))
    assert "serial port" in caught.value.hint


def test_a_port_that_is_locked_is_busy(pty: tuple[int, str]) -> None:
    _, path = pty
    # O_NOCTTY: the terminal of a test must not become that of its session.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOCTTY), "rb+", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeviceBusy) as caught:
            CytonDevice(Address.parse(f"cyton:{path}"))
    assert f"fuser {path}" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EACCES, DeviceNotAllowed),
        (errno.EBUSY, DeviceBusy),
        (errno.EAGAIN, DeviceBusy),
        (errno.ENODEV, DeviceMissing),
        (errno.EIO, DeviceMissing),
    ],
)
def test_each_refusal_of_the_system_has_its_error(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(code, os.strerror(code))

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(error):
        CytonDevice(Address.parse("cyton:/dev/ttyUSB0"))


def test_no_permission_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tmp_path / "ttyUSB0"
    port.touch()
    port.chmod(0o660)
    monkeypatch.setattr("grp.getgrgid", lambda _: type("Group", (), {"gr_name": "dialout"}))
    hint = cyton._permission_hint(str(port))
    assert "usermod -aG dialout" in hint


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadAddress, match="no serial port"):
        CytonDevice(Address.parse(f"cyton:{tmp_path / 'notes.txt'}"))


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("cyton:", "cyton:/dev/ttyUSB0"),
        ("cyton:/dev/x?gian=24", "did you mean gain?"),
        ("cyton:/dev/x?colour=red", "gain, daisy, aux, stamps"),
        ("cyton:/dev/x?daisy=maybe", "false or true or auto"),
        ("cyton:/dev/x?gain=23", "24"),
        ("cyton:/dev/x?gain=24,12", "8"),
        ("cyton:/dev/x?gain=24,12,", "commas"),
        ("cyton:/dev/x?aux=temperature", "accel or analog or digital or marker"),
        ("cyton:/dev/x?stamps=1", "true"),
    ],
)
def test_an_address_that_cant_be_served_says_what_can(address: str, hint: str) -> None:
    with pytest.raises(BadAddress) as caught:
        CytonDevice(Address.parse(address))
    assert hint in caught.value.hint


def test_a_device_plays_no_faults(pty: tuple[int, str]) -> None:
    master, path = pty
    answering(master, lambda said: BANNER if b"v" in said else b"")
    device = CytonDevice(Address.parse(f"cyton:{path}"))
    with pytest.raises(UnsupportedFault, match="emulate"):
        device.fault("gap", 1.0, {})
    device.close()


# -- recordings ------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "layout", "n", "n_gaps", "first_uv"),
    [
        # Rows, gaps and first values: as grep and awk count them in the files.
        ("OpenBCI_GUI-v6-blinks-jawClench-alpha.txt", "v6", 22490, 0, (61379.36, 49492.89)),
        ("OpenBCI_2016-02-13_Jordan_focus.txt", "old", 30646, 6, (4215.74, 6637.71)),
        ("SDconverted-2014-10-22_17-39-29.txt", "sd", 3471, 0, (-5758.949, 5407.6245)),
    ],
)
def test_each_layout_of_recording_is_read(
    data_dir: Path, name: str, layout: str, n: int, n_gaps: int, first_uv: tuple[float, float]
) -> None:
    recording = read_openbci(data_dir / "openbci_gui" / name)
    assert (recording.layout, recording.rate_hz) == (layout, 250.0)
    assert recording.uv.shape == (n, 8)
    assert tuple(recording.uv[0, :2]) == first_uv
    assert np.count_nonzero(recording.gaps()) == n_gaps
    unclipped = np.abs(recording.uv) < 187_500
    back = recording.counts() * UV_PER_COUNT
    assert np.abs(back - recording.uv)[unclipped].max() <= UV_PER_COUNT / 2 * 1.0001


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "first line"),
        ("a,b,c\n1,2,3\n", "number"),
        ("%OpenBCI Raw EEG Data\n", "no lines"),
        ("%OpenBCI Raw EEG Data\n0, 1, 2, 3\n", "no lines"),
        ("%OpenBCI Raw EXG Data\n%Number of channels = 16\n" + "0," * 20 + "0\n", "16 channels"),
        ("%OBCI Data Log - x\n0,1,2,3,4,5,6,7,nan\n", "finite"),
        ("%OBCI Data Log - x\n0,1,2,3,4,5,6,7,x\n", "line 2"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_reason(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "recording.txt"
    file.write_text(text)
    with pytest.raises(RecordingError, match=why):
        read_openbci(file)


def test_a_line_cut_short_is_skipped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "card.txt"
    file.write_text("%OBCI Data Log - x\n0,1,2,3,4,5,6,7,8\n1.0,-5,0.0\n")
    recording = read_openbci(file)
    assert recording.uv.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert recording.n_skipped == 1
