"""What a Cyton with firmware v3 says to each command (OpenBCI "Cyton Board SDK").

A command that the firmware doesn't know gets no answer, nor does any setting while it streams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phantomd.core.cyton import N_CHANNELS, uv_per_count

FIRMWARE = "v3.1.1"
BANNER = (
    "OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\nLIS3DH Device ID: 0x33\r\n"
    f"Firmware: {FIRMWARE}\r\n$$$"
)
GAINS = (1, 2, 4, 6, 8, 12, 24)
DEFAULTS = "060110"
RATES = (16000, 8000, 4000, 2000, 1000, 500, 250)
MODES = ("default", "debug", "analog", "digital", "marker")
TIMEOUT_NS = 1_000_000_000
MAX_COUNT = (1 << 23) - 1

#: Commands of more than one character: how many there are with the first.
LENGTHS = {"x": 9, "z": 5, "~": 2, "/": 2, "`": 2}
ANSWERS = {
    "v": BANNER,
    "V": f"{FIRMWARE}$$$",
    "d": "updating channel settings to default$$$",
    "D": f"{DEFAULTS}$$$",
    "C": "no daisy to attach!8$$$",
    "<": "Time stamp ON$$$",
    ">": "Time stamp OFF$$$",
    **dict.fromkeys("0-=p[]", "Success: Configured internal test signal.$$$"),
}
OFF = "12345678"
ON = "!@#$%^&*"

_REGISTERS = ("ADS_ID", "CONFIG1", "CONFIG2", "CONFIG3", "LOFF")
_REGISTER_VALUES = (0x3E, 0x96, 0xC0, 0xEC, 0x02)
_CHANNEL_REGISTER_AT = 5


class Board:
    """State of the board: settings of the channels, and whether it streams.

    ``uv`` float64[n, 8] is what its inputs see; ``counts`` int32[n, 8] what its ADC makes of it.
    """

    def __init__(self, uv: NDArray[np.float64]) -> None:
        self.uv = uv
        self.streaming = False
        self._said = ""
        self._deadline_ns = 0
        self._marker: str | None = None
        self._reset()

    def _reset(self) -> None:
        self.streaming = False
        self._rate = len(RATES) - 1
        self._mode = 0
        self._default_channels()

    def _default_channels(self) -> None:
        self._settings = [DEFAULTS] * N_CHANNELS
        self._convert()

    def _convert(self) -> None:
        scale = [uv_per_count(GAINS[int(setting[1])]) for setting in self._settings]
        off = [setting[0] == "1" for setting in self._settings]
        counts = np.clip(np.rint(self.uv / np.array(scale)), -MAX_COUNT - 1, MAX_COUNT)
        self.counts: NDArray[np.int32] = np.where(off, 0, counts).astype(np.int32)

    @property
    def stop_byte(self) -> int:
        return 0xC0 if MODES[self._mode] == "default" else 0xC1

    def aux(self, accelerometer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The auxiliary bytes of the packet that is sent now."""
        if MODES[self._mode] == "default":
            return accelerometer
        aux = np.zeros(6, np.uint8)
        if MODES[self._mode] == "marker" and self._marker is not None:
            aux[0] = ord(self._marker)
            self._marker = None
        return aux

    def hear(self, byte: int, now_ns: int) -> bytes:
        """One character; returns what it answers."""
        char = chr(byte)
        if self._said:
            self._said += char
            if len(self._said) < LENGTHS[self._said[0]]:
                return b""
            command, self._said = self._said, ""
            return self._answer(getattr(self, f"_{_NAMES[command[0]]}")(command))
        if char in LENGTHS:
            self._said = char
            self._deadline_ns = now_ns + TIMEOUT_NS
            return b""
        return self._simple(char)

    def expire(self, now_ns: int) -> bytes:
        """What it says about a command that was begun and not finished."""
        if not self._said or now_ns < self._deadline_ns:
            return b""
        self._said = ""
        return (
            b"Timeout processing multi byte message - please send all commands at once as of v2$$$"
        )

    def _answer(self, text: str) -> bytes:
        return b"" if self.streaming else text.encode()

    def _simple(self, char: str) -> bytes:
        if char == "v":
            self._reset()
            return ANSWERS["v"].encode()
        if char in "bs":
            self.streaming = char == "b"
            return b""
        if char in OFF + ON:
            channel = (OFF + ON).index(char) % N_CHANNELS
            power = "1" if char in OFF else "0"
            self._settings[channel] = power + self._settings[channel][1:]
            self._convert()
            return b""
        if char == "?":
            return self._answer(self._registers())
        if char == "d":
            self._default_channels()
        return self._answer(ANSWERS.get(char, ""))

    def _channel(self, command: str) -> str:
        channel, setting, end = command[1], command[2:8], command[8]
        if "X" in command[1:8]:
            return "Failure: too few chars$$$"
        if end != "X":
            return "Failure: 9th char not X$$$"
        if channel not in OFF or not setting.isdigit() or int(setting[1]) >= len(GAINS):
            return "Failure: Err: too many chars$$$"
        self._settings[int(channel) - 1] = setting
        self._convert()
        return f"Success: Channel set for {channel}$$$"

    def _lead_off(self, command: str) -> str:
        if command[4] != "Z":
            return "Failure: 5th char not Z$$$"
        return f"Success: Lead off set for {command[1]}$$$"

    def _sample_rate(self, command: str) -> str:
        if command[1] != "~":
            if not command[1].isdigit():
                return "Failure: invalid sample value.$$$"
            if int(command[1]) >= len(RATES):
                return "Failure: sample value out of bounds$$$"
            self._rate = int(command[1])
        return f"Success: Sample rate is {RATES[self._rate]}Hz$$$"

    def _board_mode(self, command: str) -> str:
        if command[1] != "/":
            if not command[1].isdigit():
                return "Failure: invalid board mode value.$$$"
            if int(command[1]) >= len(MODES):
                return "Failure: board mode value out of bounds.$$$"
            self._mode = int(command[1])
        return f"Success: {MODES[self._mode]}$$$"

    def _insert_marker(self, command: str) -> str:
        self._marker = command[1]
        return ""

    def _registers(self) -> str:
        values = list(zip(_REGISTERS, _REGISTER_VALUES, strict=True))
        for channel, setting in enumerate(self._settings, 1):
            power, gain, inputs, _, srb2, _ = (int(digit) for digit in setting)
            values.append((f"CH{channel}SET", power << 7 | gain << 4 | srb2 << 3 | inputs))
        lines = ["", "Board ADS Registers"]
        for at, (name, value) in enumerate(values):
            bits = ", ".join(format(value, "08b"))
            lines.append(f"{name}, {at:02X}, {value:02X}, {bits}")
        return "\r\n".join([*lines, "", "LIS3DH Registers", "0x0F, 33", "$$$"])


_NAMES = {
    "x": "channel",
    "z": "lead_off",
    "~": "sample_rate",
    "/": "board_mode",
    "`": "insert_marker",
}
