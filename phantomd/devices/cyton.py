"""OpenBCI Cyton: ``cyton:/dev/ttyUSB0?daisy=auto&gain=24&aux=accel``.

pyserial opens and configures; from ``start`` on a pump thread reads the file descriptor, and what
is written are ``b``, ``s`` and the lead-off commands. Commands and
answers: OpenBCI "Cyton Board SDK"; docs/cyton.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import re
import struct
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import serial
from numpy.typing import NDArray

from phantomd.contracts import MONTAGE, DeviceSpec
from phantomd.core.cyton import PACKET_BYTES, CytonDriver, uv_per_count
from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.ring import Ring
from phantomd.devices.base import Address, Device, no_faults
from phantomd.devices.cyton_options import (
    AUX_NAMES,
    CHANNEL_CODES,
    GAIN_CODES,
    MODE_CODES,
    CytonConfig,
    config_of,
    ports_there,
)
from phantomd.devices.lead_off import kohm_of, window_samples
from phantomd.devices.port_holder import holder_of
from phantomd.errors import (
    BadAddress,
    DeviceBusy,
    DeviceError,
    DeviceMissing,
    DeviceNotAllowed,
    DeviceSilent,
)

BAUD = 115_200
RATE_HZ = 250.0
DAISY_RATE_HZ = 125.0
#: A minute and more of samples.
RING_SLOTS = 16_384

#: The firmware waits 500 ms in its reset, and says all within a second.
BANNER_S = 2.0
ANSWER_S = 1.0
#: A board that was just switched on missed the question; one that is in its reset says something.
ASK_AGAIN_S = 0.9
READ_S = 0.05
WRITE_S = 1.0
END = b"$$$"
MAX_COUNT = (1 << 23) - 1

#: Flag of serial_struct (linux/serial.h), and where it stands in it.
_ASYNC_LOW_LATENCY = 0x2000
_FLAGS_AT = 16
_SERIAL_STRUCT_BYTES = 128

_SILENT_HINT = (
    "is the board switched to PC and its battery charged, is the dongle's switch at GPIO 6, and "
    "does no other program read the port?"
)


class CytonDevice:
    """An open Cyton. See ``base.Device``; ``warnings`` are things that cost quality, not data."""

    def __init__(
        self,
        address: Address,
        labels: tuple[str, ...] = MONTAGE,
        *,
        device_id: str = "cyton",
        ring_slots: int = RING_SLOTS,
    ) -> None:
        """Opens the port, resets the board and sets its channels; takes up to six seconds.

        Raises BadAddress, DeviceMissing, DeviceBusy, DeviceNotAllowed or DeviceSilent; then the
        port is closed again.
        """
        config = config_of(address, labels)
        self._port = _open(address.where)
        try:
            banner = _reset(self._port)
            daisy = _daisy(self._port, banner, config)
            gains = config.gains(daisy)
            _configure(self._port, config, gains)
            latency, self.warnings = _low_latency(self._port, address.where)
            _wait_for_a_byte(self._port)
        except BaseException:
            self._port.close()
            raise
        self._spec = DeviceSpec(
            device_id=device_id,
            address=str(address),
            kind="cyton",
            rate_hz=DAISY_RATE_HZ if daisy else RATE_HZ,
            labels=config.channel_labels(daisy),
            aux=AUX_NAMES[config.aux],
            counter_modulus=128 if daisy else 256,
            resolution=tuple(uv_per_count(gain) for gain in gains),
            transport_us=0.0 if _is_pty(self._port) else PACKET_BYTES * 10e6 / BAUD,
            info={
                "firmware": _firmware(banner),
                "gain": gains[0] if len(set(gains)) == 1 else list(gains),
                "gains": list(gains),
                "range_uv": _range_uv(gains),
                "daisy": daisy,
                "aux_mode": config.aux,
                "stamps": config.stamps,
                **latency,
                "warnings": list(self.warnings),
            },
        )
        n_values = len(self._spec.labels) + len(self._spec.aux)
        intake = Intake(
            Ring(NATIVE_HEAD_WORDS + n_values, ring_slots),
            self._spec.rate_hz,
            n_values,
            modulus=self._spec.counter_modulus,
        )
        self._driver = replay_driver(self._spec, intake)

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def fd(self) -> int:
        return int(self._port.fileno())

    def start(self) -> None:
        self._say(b"b")

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            self._port.write(b"s")
        with contextlib.suppress(OSError, termios.error):
            self._port.close()

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self._spec)

    def resume(self, before: Device) -> bool:
        """See ``base.Resumes``."""
        driver = before.driver
        if not isinstance(driver, CytonDriver) or driver.form != self._driver.form:
            return False
        self._driver = driver
        return True

    # -- impedance: see ``base.MeasuresImpedance`` ---------------------------------------------

    def lead_off(self, channels: Sequence[int], on: bool) -> None:
        """The current goes through the N inputs, where the electrodes are."""
        self._say(b"".join(b"z%c0%dZ" % (CHANNEL_CODES[channel], on) for channel in channels))

    @property
    def impedance_samples(self) -> int:
        return window_samples(self._spec.rate_hz)

    def kohm(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        return kohm_of(uv, self._spec.rate_hz, self._driver.form[0])

    def _say(self, command: bytes) -> None:
        try:
            self._port.write(command)
        except (OSError, termios.error) as error:
            raise DeviceMissing(
                f"{self._port.port} went away: {error}", hint="plug the dongle in again"
            ) from error


def _range_uv(gains: Sequence[int]) -> list[float]:
    """What every channel can give: ±4.5 V over the largest gain."""
    most_uv = MAX_COUNT * uv_per_count(max(gains))
    return [-most_uv, most_uv]


def replay_driver(spec: DeviceSpec, intake: Intake) -> CytonDriver:
    """What turns this device's bytes into samples: live, and out of a journal again."""
    return CytonDriver(intake, [float(gain) for gain in spec.info["gains"]], spec.info["aux_mode"])


def _open(path: str) -> serial.Serial:
    try:
        return serial.Serial(path, BAUD, timeout=READ_S, write_timeout=WRITE_S, exclusive=True)
    except (OSError, termios.error) as error:  # SerialException is an OSError
        raise _open_error(path, error) from error


def _open_error(path: str, error: Exception) -> DeviceError:
    code = getattr(error, "errno", None)
    if code in (errno.EACCES, errno.EPERM):
        return DeviceNotAllowed(f"no permission to open {path}", hint=_permission_hint(path))
    if code in (errno.EBUSY, errno.EAGAIN):
        holder = holder_of(path) or "another program"
        return DeviceBusy(f"{holder} has {path}", hint=f"end it; `fuser {path}` names who has it")
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        return DeviceMissing(f"there is no {path}", hint=f"plug the dongle in; {ports_there()}")
    return BadAddress(f"{path} is no serial port: {error}", hint=ports_there())


def _permission_hint(path: str) -> str:
    with contextlib.suppress(OSError, KeyError):
        status = Path(path).stat()
        group = grp.getgrgid(status.st_gid).gr_name
        if status.st_mode & 0o060 == 0o060 and group != "root":
            return f"`sudo usermod -aG {group} $USER`, then log in again"
    return "install the udev rule of phantomd: it gives the port to the group dialout"


def _ask(
    port: serial.Serial, command: bytes, within_s: float, again_s: float | None = None
) -> bytes:
    """The answer up to ``$$$``, or as much of it as came in time. ``again_s``: asks once more each
    time that so long nothing has come at all."""
    begun = time.monotonic()
    deadline = begun + within_s
    answer = bytearray()
    try:
        port.reset_input_buffer()
        port.write(command)
        while END not in answer and time.monotonic() < deadline:
            answer += port.read(max(1, port.in_waiting))
            if again_s is not None and not answer and time.monotonic() > begun + again_s:
                begun = time.monotonic()
                port.write(command)
    except (OSError, termios.error) as error:
        raise DeviceMissing(
            f"{port.port} went away: {error}", hint="plug the dongle in again"
        ) from error
    return bytes(answer)


def _reset(port: serial.Serial) -> bytes:
    """Stops a stream that somebody left running, resets the board, and returns its banner."""
    answer = b""
    for _ in range(2):  # a first command may drown in what the radio had queued
        answer = _ask(port, b"sv", BANNER_S, ASK_AGAIN_S)
        if b"OpenBCI V3" in answer and END in answer:
            return answer[answer.index(b"OpenBCI V3") :]
    if b"Failure" in answer:
        said = answer[answer.index(b"Failure") :].split(END)[0].decode(errors="replace").strip()
        raise DeviceSilent(
            f"the dongle at {port.port} can't reach its board: {said}", hint=_SILENT_HINT
        )
    if answer:
        raise DeviceSilent(
            f"what answers at {port.port} is no Cyton: {answer[:60]!r}", hint=_SILENT_HINT
        )
    raise DeviceSilent(f"nothing answers at {port.port}", hint=_SILENT_HINT)


def _daisy(port: serial.Serial, banner: bytes, config: CytonConfig) -> bool:
    """Whether 16 channels will come. Raises DeviceMissing for a Daisy that isn't there."""
    there = b"Daisy" in banner
    if config.daisy == "false":
        if there:
            _expect(port, b"c", b"daisy removed")
        return False
    if there or config.daisy == "auto":
        return there
    answer = _ask(port, b"C", ANSWER_S)  # it may have been taken off by a command
    if b"16" not in answer:
        raise DeviceMissing(
            f"the board at {port.port} has no Daisy",
            hint="seat the Daisy on its pins and switch the board off and on, or say daisy=auto",
        )
    return True


def _configure(port: serial.Serial, config: CytonConfig, gains: Sequence[int]) -> None:
    """Gains, board mode and stamps; the reset has made everything else the default."""
    for channel, gain in enumerate(gains):
        if gain != 24:
            command = b"x%c0%d0110X" % (CHANNEL_CODES[channel], GAIN_CODES[gain])
            _expect(port, command, b"Success")
    if config.aux != "accel":
        _expect(port, b"/%c" % MODE_CODES[config.aux], b"Success")
    if config.stamps:
        _expect(port, b"<", b"Time stamp ON")


def _expect(port: serial.Serial, command: bytes, said: bytes) -> None:
    answer = _ask(port, command, ANSWER_S)
    if said not in answer:
        raise DeviceSilent(
            f"the board at {port.port} answers {answer[:60]!r} to {command.decode()}",
            hint="press its reset button; gains and Daisy need firmware v2 or later",
        )


def _firmware(banner: bytes) -> str:
    found = re.search(rb"Firmware: (v[\w.]+)", banner)
    return found[1].decode() if found else "v1"


def _low_latency(
    port: serial.Serial, path: str
) -> tuple[dict[str, bool | float | None], tuple[str, ...]]:
    """Asks for packets at once instead of every 16 ms, and reads back what came of it."""
    if _is_pty(port):
        return {"low_latency": None, "latency_timer_ms": None}, ()
    with contextlib.suppress(ValueError, NotImplementedError):
        port.set_low_latency_mode(True)
    timer_ms = _latency_timer_ms(path)
    low = timer_ms <= 1 if timer_ms is not None else _low_latency_flag(port)
    warnings: tuple[str, ...] = ()
    if not low:
        warnings = (
            f"{path} hands packets over in clumps ({timer_ms or 'unknown'} ms latency timer): "
            "install the udev rule of phantomd",
        )
    return {"low_latency": low, "latency_timer_ms": timer_ms}, warnings


def _latency_timer_ms(path: str) -> float | None:
    """What the FTDI driver says; it counts the low-latency flag in."""
    name = Path(path).resolve().name
    try:
        return float(Path(f"/sys/class/tty/{name}/device/latency_timer").read_text())
    except (OSError, ValueError):
        return None


def _low_latency_flag(port: serial.Serial) -> bool:
    try:
        state = fcntl.ioctl(port.fileno(), termios.TIOCGSERIAL, bytes(_SERIAL_STRUCT_BYTES))
    except OSError:
        return False
    return bool(struct.unpack_from("i", state, _FLAGS_AT)[0] & _ASYNC_LOW_LATENCY)


def _wait_for_a_byte(port: serial.Serial) -> None:
    """pyserial sets VMIN 0, where reading nothing looks like the end of the file; the pump needs to
    tell them apart."""
    settings = termios.tcgetattr(port.fileno())
    settings[6][termios.VMIN] = 1
    settings[6][termios.VTIME] = 0
    termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)


def _is_pty(port: serial.Serial) -> bool:
    return os.ttyname(port.fileno()).startswith("/dev/pts/")
