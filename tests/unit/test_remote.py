"""Another daemon's eeg port as a device: what it sends, and what it must not be able to do."""

import numpy as np
import pytest
from eeg_port import EPOCH, EegPort, frame, header

from phantomd.contracts import GRID_NS, MONTAGE, EegHeader, Flag
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.remote import RemoteDriver
from phantomd.core.ring import Ring
from phantomd.devices.base import Address
from phantomd.devices.remote import RemoteDevice, place_of, replay_driver
from phantomd.errors import BadAddress, DeviceError, DeviceMissing, DeviceSilent


def driver_of(n_channels=2):
    intake = Intake(Ring(NATIVE_HEAD_WORDS + n_channels, 1024), 128.0, n_channels)
    return RemoteDriver(intake, 24 + 4 * n_channels)


def opened(port):
    device = RemoteDevice(Address.parse(f"remote:127.0.0.1:{port}"))
    device.close()
    return device


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("remote:host:7169", ("host", 7169)),
        ("remote:host", ("host", 7069)),
        ("remote:[::1]:7069", ("::1", 7069)),
        ("remote:[::1]", ("::1", 7069)),
    ],
)
def test_an_address_has_a_host_and_a_port(text, place):
    assert place_of(Address.parse(text)) == place
    with pytest.raises(BadAddress):
        place_of(Address.parse(text + ":x"))


def test_frames_become_samples_under_their_index_with_both_times():
    driver = driver_of()
    for k in (0, 1, 2, 5):
        flags = Flag.MISSING if k == 1 else Flag.SIMULATED
        driver.feed(frame(7000 + k, (k + 0.1, -1.0), int(flags)), 10**9 + k * GRID_NS)
    ring = driver.intake.ring
    assert driver.intake.counters() | {"lost": 3, "accepted": 3} == driver.intake.counters()
    last = ring.read(5)
    assert (last[0], last[1]) == (10**9 + 5 * GRID_NS, 7005 * GRID_NS)
    values = last[NATIVE_HEAD_WORDS:].view(np.float64)
    np.testing.assert_array_equal(values, np.float32([5.1, -1.0]).astype(np.float64))
    assert driver.heard_ns == 10**9 + 5 * GRID_NS and driver.fault == ""


def test_word_of_missing_frames_is_word_of_the_device():
    driver = driver_of()
    driver.feed(frame(1, (0.0, 0.0), int(Flag.MISSING)), 5000)
    assert driver.heard_ns == 5000 and driver.intake.last_arrival_ns is None


def test_frames_that_contradict_themselves_are_named():
    driver = driver_of()
    driver.feed(frame(5, (0.0, 0.0)) + frame(4, (0.0, 0.0)), 1)
    assert driver.fault == "its frame indices step back"


def test_the_age_that_frames_say_is_taken_off_their_arrival():
    with EegPort(age_us=61_500) as port:
        spec = opened(port.port).spec
    half_us = spec.info["half_round_trip_us"]
    assert spec.transport_us == pytest.approx(61_500 + half_us, abs=1) and half_us < 5000
    assert spec.labels == MONTAGE and spec.rate_hz == 128.0
    assert spec.info["epoch"] == EPOCH.hex()


def test_a_journal_s_bytes_make_the_same_samples_again():
    with EegPort() as port:
        spec = opened(port.port).spec
    intake = Intake(Ring(NATIVE_HEAD_WORDS + 8, 1024), 128.0, 8)
    again = replay_driver(spec, intake)
    again.feed(frame(1000, (3.5,) * 8), 5)
    assert intake.ring.read(0)[NATIVE_HEAD_WORDS:].view(np.float64).tolist() == [3.5] * 8


@pytest.mark.parametrize(
    ("first", "error", "match"),
    [
        (b"", DeviceMissing, "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", DeviceSilent, "no eeg port"),
        (header()[:8] + b"\xff\xff\xff\x7f" + header()[12:], DeviceSilent, "no eeg port"),
        (header()[:8] + b"\xff\xff\x0f\0" + header()[12:], DeviceSilent, "header of"),
        (header()[:16] + b"\0\0" + header()[18:], DeviceError, "0 channels"),
        (header()[:16] + b"\xff\xff" + header()[18:], DeviceSilent, "contradicts itself"),
        (header(rate_hz=250.0), DeviceError, "250 Hz"),
        (header()[:-16] + b"\xff\xfe" * 8, DeviceSilent, "no eeg port"),
        (header()[:50], DeviceError, "closed the connection"),
    ],
)
def test_what_answers_but_is_no_eeg_port_is_named(first, error, match):
    with EegPort(first, n=0) as port, pytest.raises(error, match=match) as raised:
        opened(port.port)
    assert raised.value.hint


def test_nobody_there_is_a_missing_device():
    with EegPort() as port:
        gone = port.port
    with pytest.raises(DeviceMissing, match="nobody answers"):
        opened(gone)


def test_the_header_s_size_is_the_wire_s():
    assert len(EegHeader(MONTAGE, 128.0, 0, 0, EPOCH).encode()) == 192
