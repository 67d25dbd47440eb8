"""OpenBCI Cyton: ``cyton:/dev/ttyUSB0?daisy=false&gain=24``.

pyserial opens and configures; from ``start`` on a pump thread reads the file descriptor, and only
``b`` and ``s`` are written. Commands and answers: OpenBCI "Cyton Board SDK"; docs/cyton.md.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import grp
import os
import re
import struct
import termios
import time
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from phantomd.contracts import MONTAGE, DeviceSpec
from phantomd.core.cyton import N_AUX, N_CHANNELS, PACKET_BYTES, CytonDriver
from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.ring import Ring
from phantomd.devices.base import Address, no_faults
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
#: A minute and more of samples.
RING_SLOTS = 16_384
#: The digit of the channel command that sets each gain.
GAIN_CODES = {1: 0, 2: 1, 4: 2, 6: 3, 8: 4, 12: 5, 24: 6}
OPTIONS = {"daisy": "false", "gain": "24"}

#: The firmware waits 500 ms in its reset, and says all within a second.
BANNER_S = 2.0
ANSWER_S = 1.0
READ_S = 0.05
WRITE_S = 1.0
END = b"$$$"

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
        """Opens the port, resets the board and sets its gains; takes up to six seconds.

        Raises BadAddress, DeviceMissing, DeviceBusy, DeviceNotAllowed or DeviceSilent; then the
        port is closed again.
        """
        gain = gain_of(address, labels)
        self._port = _open(address.where)
        try:
            banner = _reset(self._port)
            _configure(self._port, banner, gain)
            latency, self.warnings = _low_latency(self._port, address.where)
            _wait_for_a_byte(self._port)
        except BaseException:
            self._port.close()
            raise
        intake = Intake(
            Ring(NATIVE_HEAD_WORDS + N_CHANNELS + N_AUX, ring_slots),
            RATE_HZ,
            N_CHANNELS + N_AUX,
            modulus=256,
        )
        self._driver = CytonDriver(intake, (float(gain),) * N_CHANNELS)
        self._spec = DeviceSpec(
            device_id=device_id,
            address=str(address),
            kind="cyton",
            rate_hz=RATE_HZ,
            labels=labels,
            aux=("accel_x_g", "accel_y_g", "accel_z_g"),
            counter_modulus=256,
            transport_us=0.0 if _is_pty(self._port) else PACKET_BYTES * 10e6 / BAUD,
            info={
                "firmware": _firmware(banner),
                "gain": gain,
                **latency,
                "warnings": list(self.warnings),
            },
        )

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
        try:
            self._port.write(b"b")
        except OSError as error:
            raise DeviceMissing(
                f"{self._port.port} went away: {error}", hint="plug the dongle in again"
            ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            self._port.write(b"s")
        with contextlib.suppress(OSError, termios.error):
            self._port.close()

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self._spec)


def replay_driver(spec: DeviceSpec, intake: Intake) -> CytonDriver:
    """What turns a journal's bytes of this device into samples again."""
    return CytonDriver(intake, (float(spec.info["gain"]),) * N_CHANNELS)


def gain_of(address: Address, labels: tuple[str, ...]) -> int:
    """The gain. Raises BadAddress for what this driver can't do."""
    if len(labels) != N_CHANNELS:
        raise BadAddress(
            f"a Cyton has {N_CHANNELS} channels, the montage has {len(labels)} labels",
            hint="give one label a channel",
        )
    if not address.where:
        raise BadAddress(
            "a Cyton's address names its port", hint=f"cyton:/dev/ttyUSB0; {_ports_there()}"
        )
    for key in address.options:
        if key not in OPTIONS:
            near = difflib.get_close_matches(key, OPTIONS, 1)
            raise BadAddress(
                f"a Cyton has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {' and '.join(OPTIONS)}",
            )
    options = {**OPTIONS, **address.options}
    if options["daisy"] != "false":
        raise BadAddress(
            f"daisy={options['daisy']}: 16 channels come with a later version",
            hint="daisy=false uses the eight channels of the board itself",
        )
    if options["gain"] not in {str(gain) for gain in GAIN_CODES}:
        raise BadAddress(
            f"gain={options['gain']} is no gain of the ADS1299",
            hint=f"one of {', '.join(str(gain) for gain in GAIN_CODES)}",
        )
    return int(options["gain"])


def _ports_there() -> str:
    ports = sorted(port.device for port in list_ports.comports())
    return f"serial ports here: {', '.join(ports)}" if ports else "there is no serial port here"


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
        return DeviceBusy(
            f"another program has {path}", hint=f"`fuser {path}` says which one; end it"
        )
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        return DeviceMissing(f"there is no {path}", hint=f"plug the dongle in; {_ports_there()}")
    return BadAddress(f"{path} is no serial port: {error}", hint=_ports_there())


def _permission_hint(path: str) -> str:
    with contextlib.suppress(OSError, KeyError):
        status = Path(path).stat()
        group = grp.getgrgid(status.st_gid).gr_name
        if status.st_mode & 0o060 == 0o060 and group != "root":
            return f"`sudo usermod -aG {group} $USER`, then log in again"
    return "install the udev rule of phantomd: it gives the port to the group dialout"


def _ask(port: serial.Serial, command: bytes, within_s: float) -> bytes:
    """The answer up to ``$$$``, or as much of it as came in time."""
    deadline = time.monotonic() + within_s
    answer = bytearray()
    try:
        port.reset_input_buffer()
        port.write(command)
        while END not in answer and time.monotonic() < deadline:
            answer += port.read(max(1, port.in_waiting))
    except (OSError, termios.error) as error:
        raise DeviceMissing(
            f"{port.port} went away: {error}", hint="plug the dongle in again"
        ) from error
    return bytes(answer)


def _reset(port: serial.Serial) -> bytes:
    """Stops a stream that somebody left running, resets the board, and returns its banner."""
    answer = b""
    for _ in range(2):  # a first command may drown in what the radio had queued
        answer = _ask(port, b"sv", BANNER_S)
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


def _configure(port: serial.Serial, banner: bytes, gain: int) -> None:
    """Eight channels at this gain; the reset has made everything else the default."""
    if b"Daisy" in banner:
        _expect(port, b"c", b"daisy removed")
    if gain != 24:
        for channel in range(1, N_CHANNELS + 1):
            command = b"x%d0%d0110X" % (channel, GAIN_CODES[gain])
            _expect(port, command, b"Success")


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
