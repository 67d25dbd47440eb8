"""A whole Cyton, from what its inputs see to the native ring: Daisy, gains, inputs, impedance."""

from __future__ import annotations

import select
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from phantomd.core.cyton import UV_PER_COUNT, CytonDriver, encode, n_aux
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake, Pump
from phantomd.core.ring import Ring
from phantomd.devices.base import Address
from phantomd.devices.cyton import CytonDevice, replay_driver
from phantomd.devices.cyton_board import DAISY_BANNER, Board
from phantomd.devices.cyton_options import AUX_NAMES, config_of
from phantomd.devices.emulator import CytonEmulator
from phantomd.devices.lead_off import kohm_of, window_samples
from phantomd.errors import BadAddress, DeviceMissing

WITHIN_S = 30.0
EIGHT = tuple("abcdefgh")


def signal(n: int, n_channels: int = 8) -> NDArray[np.float64]:
    return (np.arange(n)[:, None] * 16 + np.arange(n_channels)) * UV_PER_COUNT


def say(board: Board, text: str) -> str:
    return b"".join(board.hear(byte, 0) for byte in text.encode()).decode()


def through(
    board: Board, n_packets: int, gains: tuple[float, ...], aux: str = "accel"
) -> tuple[Intake, NDArray[np.uint64]]:
    """What the board sends, on a virtual clock, in a driver: its intake and its native frames."""
    n_values = len(gains) + n_aux(aux)
    rate_hz, modulus = (125.0, 128) if len(gains) == 16 else (250.0, 256)
    intake = Intake(Ring(NATIVE_HEAD_WORDS + n_values, 1024), rate_hz, n_values, modulus)
    driver = CytonDriver(intake, gains, aux)
    accelerometer = np.array([0x1F, 0x40, 0xE0, 0xC0, 0x00, 0x08], np.uint8)
    for number in range(n_packets):
        words, stop = board.aux(accelerometer * (number % 10 == 0), number, 4 * number)
        counts = np.ascontiguousarray(board.packet_counts(number))[np.newaxis]
        packet = encode(np.array([number & 255], np.uint8), counts, words[np.newaxis], stop)
        driver.feed(packet, 10**9 + 4_000_000 * number)
    return intake, np.stack([intake.ring.read(index) for index in range(intake.next)])


def values(frames: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.ascontiguousarray(frames[:, NATIVE_HEAD_WORDS:]).view(np.float64)


# -- on a virtual clock ----------------------------------------------------------------------------


def test_a_daisys_sixteen_channels_come_at_their_own_gains() -> None:
    board = Board(signal(300, 16))
    gains = tuple(float(gain) for gain in (24, 12, 8, 6, 4, 2, 1, 24, 1, 2, 4, 6, 8, 12, 24, 24))
    codes = {24: 6, 12: 5, 8: 4, 6: 3, 4: 2, 2: 1, 1: 0}
    for name, gain in zip("12345678QWERTYUI", gains, strict=True):
        assert say(board, f"x{name}0{codes[int(gain)]}0110X").startswith("Success")
    _, frames = through(board, 601, gains)
    uv = values(frames)[:, :16]
    step = 4.5e6 / np.array(gains) / (2**23 - 1)
    assert len(uv) == 300
    assert (np.abs(uv - signal(300, 16)) <= step / 2 * 1.0001).all()


def test_what_the_pins_see_is_in_the_aux_values() -> None:
    board = Board(signal(10))
    board.digital, board.analog = (1, 0, 1, 0, 1), (1023, 0, 341)
    assert say(board, "/3") == "Success: digital$$$"
    _, frames = through(board, 3, (24.0,) * 8, "digital")
    assert values(frames)[:, 8:].tolist() == [[1, 0, 1, 0, 1]] * 3
    assert say(board, "/2") == "Success: analog$$$"
    _, frames = through(board, 3, (24.0,) * 8, "analog")
    assert values(frames)[0, 8:] == pytest.approx([3.3, 0.0, 1.1])


def test_stamped_packets_bring_the_boards_time_and_axis_by_axis() -> None:
    board = Board(signal(30))
    assert say(board, "<") == "Time stamp ON$$$"
    _, frames = through(board, 30, (24.0,) * 8)
    assert frames[:, 1].view(np.int64).tolist() == [4_000_000 * n for n in range(30)]
    axes = values(frames)[:, 8:]
    assert axes[9].tolist() == [1.0, -1.0, 0.001]
    assert np.isnan(axes[6]).all()
    assert say(board, "/3>") == "Success: digital$$$Time stamp OFF$$$"
    _, frames = through(board, 3, (24.0,) * 8, "digital")
    assert (frames[:, 1].view(np.int64) < 0).all()


def test_a_marker_stands_at_its_own_sample() -> None:
    board = Board(signal(20))
    say(board, "/4")
    board.hear_marker("M")
    _, frames = through(board, 5, (24.0,) * 8, "marker")
    marks = frames[:, 4] >> np.uint64(32)
    assert marks.tolist() == [ord("M"), 0, 0, 0, 0]


@pytest.mark.parametrize("n_channels", [8, 16])
def test_impedance_is_that_of_the_electrodes(n_channels: int) -> None:
    kohm = tuple(0.5 * 1.6**n for n in range(16))  # 0.5 to 577 kΩ
    rng = np.random.default_rng(2)
    board = Board(rng.normal(0, 10, (600, n_channels)) + 20_000, kohm)
    for name in "12345678QWERTYUI"[:n_channels]:
        assert say(board, f"z{name}01Z") == f"Success: Lead off set for {name}$$$"
    rate_hz = 250.0 if n_channels == 8 else 125.0
    n = window_samples(rate_hz)
    _, frames = through(board, 600 if n_channels == 8 else 601, (24.0,) * n_channels)
    uv = values(frames)[-n:, :n_channels]
    # 10 µV of noise in one bin of n: 10 · √(4 / n) µV at the most usual, a sixth of that in kΩ.
    noise_kohm = 3 * 10 * np.sqrt(4 / n) / 6
    measured = kohm_of(uv, rate_hz, (24.0,) * n_channels)
    assert np.abs(measured - kohm[:n_channels]).max() <= noise_kohm
    say(board, "".join(f"z{name}00Z" for name in "12345678QWERTYUI"[:n_channels]))
    _, frames = through(board, 600, (24.0,) * n_channels)
    assert (kohm_of(values(frames)[-n:, :n_channels], rate_hz, (24.0,) * n_channels) < 1).all()


def test_an_electrode_without_contact_has_no_impedance() -> None:
    uv = np.zeros((window_samples(250.0), 2))
    uv[:, 1] = 187_500.0
    assert np.isnan(kohm_of(uv, 250.0, (24.0, 24.0))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("address", "n_labels", "gains"),
    [
        ("cyton:/dev/x", 8, (24,) * 8),
        ("cyton:/dev/x?gain=12", 8, (12,) * 8),
        ("cyton:/dev/x?gain=24,24,24,24,12,12,1,1", 8, (24, 24, 24, 24, 12, 12, 1, 1)),
        ("cyton:/dev/x?daisy=true&gain=8", 16, (8,) * 16),
        ("cyton:/dev/x?daisy=auto&gain=1,1,1,1,1,1,1,1", 16, (1,) * 8 + (24,) * 8),
    ],
)
def test_gains_and_labels_are_those_of_each_channel(
    address: str, n_labels: int, gains: tuple[int, ...]
) -> None:
    config = config_of(Address.parse(address), EIGHT)
    daisy = n_labels == 16
    assert config.gains(daisy) == gains
    labels = config.channel_labels(daisy)
    assert labels[:8] == EIGHT
    assert len(set(labels)) == n_labels


def test_a_montage_of_sixteen_needs_a_daisy() -> None:
    labels = tuple(f"E{n}" for n in range(16))
    with pytest.raises(BadAddress, match="16 with a Daisy"):
        config_of(Address.parse("cyton:/dev/x"), labels)
    config = config_of(Address.parse("cyton:/dev/x?daisy=true"), labels)
    assert config.channel_labels(True) == labels


# -- on a pty --------------------------------------------------------------------------------------


def stream(device: CytonDevice, n_samples: int) -> NDArray[np.uint64]:
    """Native frames of the first samples, through a pump."""
    pump = Pump(device.driver, device.fd, priority=0)
    device.start()
    intake = device.driver.intake
    deadline = time.monotonic() + WITHIN_S
    while intake.next < n_samples and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    pump.stop()
    return np.stack([intake.ring.read(index) for index in range(n_samples)])


@pytest.mark.parametrize("wanted", ["true", "auto"])
def test_a_daisy_is_opened_with_all_its_channels(wanted: str) -> None:
    with CytonEmulator(signal(100, 16)) as board:
        device = CytonDevice(Address.parse(f"cyton:{board.path}?daisy={wanted}&gain=12"), EIGHT)
        spec = device.spec
        assert (spec.rate_hz, spec.counter_modulus, len(spec.labels)) == (125.0, 128, 16)
        assert spec.info["daisy"] and spec.info["gain"] == 12
        frames = stream(device, 20)
        device.close()
    assert not (frames[:, 2] & np.uint64(1)).any()
    assert values(frames)[:, :16] == pytest.approx(signal(20, 16), abs=UV_PER_COUNT * 1.01)


def test_without_a_daisy_auto_has_eight_channels_and_true_says_so() -> None:
    with CytonEmulator(signal(100)) as board:
        device = CytonDevice(Address.parse(f"cyton:{board.path}?daisy=auto"), EIGHT)
        assert (device.spec.rate_hz, len(device.spec.labels)) == (250.0, 8)
        device.close()
        with pytest.raises(DeviceMissing, match="no Daisy") as caught:
            CytonDevice(Address.parse(f"cyton:{board.path}?daisy=true"), EIGHT)
        assert "daisy=auto" in caught.value.hint


@pytest.mark.parametrize("aux", AUX_NAMES)
def test_each_board_mode_is_set_and_replayed_alike(aux: str) -> None:
    with CytonEmulator(signal(100, 16)) as board:
        board.board.digital, board.board.analog = (1, 1, 0, 0, 1), (512, 100, 0)
        address = f"cyton:{board.path}?aux={aux}&stamps=true&daisy=false"
        device = CytonDevice(Address.parse(address), EIGHT)
        assert device.spec.aux == AUX_NAMES[aux]  # type: ignore[index]
        frames = stream(device, 10)
        device.close()
    assert (np.diff(frames[:, 1].view(np.int64)) == 4_000_000).all()
    again = Intake(
        Ring(NATIVE_HEAD_WORDS + 8 + len(device.spec.aux), 64), 250.0, 8 + len(device.spec.aux), 256
    )
    assert replay_driver(device.spec, again).form == ((24.0,) * 8, aux)


def test_a_board_that_came_back_goes_on_with_the_driver_only_in_the_same_form() -> None:
    with CytonEmulator(signal(100, 16)) as board:
        first = CytonDevice(Address.parse(f"cyton:{board.path}"), EIGHT)
        driver = first.driver
        first.close()
        again = CytonDevice(Address.parse(f"cyton:{board.path}"), EIGHT)
        assert again.resume(first) and again.driver is driver
        again.close()
        for options in ("gain=12", "daisy=true", "aux=digital"):
            other = CytonDevice(Address.parse(f"cyton:{board.path}?{options}"), EIGHT)
            assert not other.resume(first) and other.driver is not driver
            other.close()


def test_the_banner_of_a_daisy_tells_of_it() -> None:
    assert say(Board(signal(1, 16)), "v") == DAISY_BANNER
    board = Board(signal(1, 16))
    assert say(board, "c") == "daisy removed$$$" and not board.daisy
    assert say(board, "C") == "daisy attached16$$$" and board.daisy
