"""What a Cyton with firmware v3 says to each command (OpenBCI "Cyton Board SDK").

A command that the firmware doesn't know gets no answer, nor does any setting while it streams.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from phantomd.core.cyton import MAX_CHANNELS, N_CHANNELS, uv_per_count
from phantomd.devices.cyton_options import CHANNEL_CODES
from phantomd.devices.lead_off import CURRENT_A, SERIES_OHM, TONE_HZ

FIRMWARE = "v3.1.1"
_BANNER = (
    "OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\n{}LIS3DH Device ID: 0x33\r\n"
)
BANNER = _BANNER.format("") + f"Firmware: {FIRMWARE}\r\n$$$"
DAISY_BANNER = (
    _BANNER.format("On Daisy ADS1299 Device ID: 0x3E\r\n") + f"Firmware: {FIRMWARE}\r\n$$$"
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
    "V": f"{FIRMWARE}$$$",
    "d": "updating channel settings to default$$$",
    "D": f"{DEFAULTS}$$$",
    **dict.fromkeys("0-=p[]", "Success: Configured internal test signal.$$$"),
}
OFF = "12345678qwertyui"
ON = "!@#$%^&*QWERTYUI"
CODES = CHANNEL_CODES.decode()
#: What an electrode of the emulator has where nothing else is said.
ELECTRODE_KOHM = 5.0
ACCELEROMETER, RAW = 0xC0, 0xC1
ACCELEROMETER_SET, ACCELEROMETER_SYNCED, RAW_SET, RAW_SYNCED = 0xC3, 0xC4, 0xC5, 0xC6
#: Stamped packets have one axis each, by counter % 10.
FIRST_AXIS = 7
RADIO_HZ = 250.0

_REGISTERS = ("ADS_ID", "CONFIG1", "CONFIG2", "CONFIG3", "LOFF")
_REGISTER_VALUES = (0x3E, 0x96, 0xC0, 0xEC, 0x02)
_CHANNEL_REGISTER_AT = 5


class Board:
    """State of the board: settings of the channels, and whether it streams.

    ``uv`` float64[n, 8] or, with a Daisy, [n, 16] is what its inputs see; with a Daisy each row
    takes two packets. ``kohm``: of its electrodes. ``digital``, ``analog``: what its pins see.
    """

    def __init__(self, uv: NDArray[np.float64], kohm: tuple[float, ...] = ()) -> None:
        self.uv = uv
        self.has_daisy = uv.shape[1] > N_CHANNELS
        self.kohm = (*kohm, *(ELECTRODE_KOHM,) * MAX_CHANNELS)[:MAX_CHANNELS]
        self.digital = (0, 0, 0, 0, 0)
        self.analog = (0, 0, 0)
        self.streaming = False
        self._said = ""
        self._deadline_ns = 0
        self._marker: str | None = None
        self._reset()

    def _reset(self) -> None:
        self.streaming = False
        self.daisy = self.has_daisy
        self._rate = len(RATES) - 1
        self._mode = 0
        self._stamps = self._stamp_set = False
        self._accelerometer = bytes(6)
        self._default_channels()

    def _default_channels(self) -> None:
        self._settings = [DEFAULTS] * MAX_CHANNELS
        self._lead_off = [False] * MAX_CHANNELS
        self._convert()

    def _convert(self) -> None:
        n = self.uv.shape[1]
        scale = [uv_per_count(GAINS[int(setting[1])]) for setting in self._settings[:n]]
        self._scale = np.array(scale)
        self._off = np.array([setting[0] == "1" for setting in self._settings[:n]])
        counts = np.clip(np.rint(self.uv / self._scale), -MAX_COUNT - 1, MAX_COUNT)
        self.counts: NDArray[np.int32] = np.where(self._off, 0, counts).astype(np.int32)

    # -- streaming ---------------------------------------------------------------------------------

    @property
    def packets(self) -> int:
        """How many the recording lasts for."""
        return len(self.uv) * (2 if self.daisy else 1)

    def row(self, number: int) -> int:
        """The recording's row that packet ``number`` is of. With a Daisy packets 1 and 2 are row 0:
        the stream begins with the second half of a row before it."""
        row = (number - 1) // 2 if self.daisy else number
        return row % len(self.uv)

    def packet_counts(self, number: int) -> NDArray[np.int32]:
        """int32[8]: the board's channels, or in even packets those of the Daisy."""
        first = N_CHANNELS if self.daisy and number % 2 == 0 else 0
        part = slice(first, first + N_CHANNELS)
        counts = self.counts[self.row(number), part]
        on = [self._lead_off[channel] for channel in range(first, first + N_CHANNELS)]
        if not any(on):
            return counts
        amp_uv = CURRENT_A * (np.array(self.kohm[part]) * 1e3 + SERIES_OHM) * 1e6 * np.array(on)
        # With a Daisy a sample is the mean of two conversions.
        conversions = (number, number - 1) if self.daisy else (number,)
        tone = [math.sin(2 * math.pi * TONE_HZ * at / RADIO_HZ) for at in conversions]
        uv = self.uv[self.row(number), part] + amp_uv * sum(tone) / len(tone)
        made = np.clip(np.rint(uv / self._scale[part]), -MAX_COUNT - 1, MAX_COUNT)
        return np.where(self._off[part], 0, made).astype(np.int32)

    def aux(
        self, accelerometer: NDArray[np.uint8], number: int = 0, ms: int = 0
    ) -> tuple[NDArray[np.uint8], int]:
        """The auxiliary bytes of packet ``number``, sent now, and its stop byte. ``ms``: since the
        board was started."""
        raw = MODES[self._mode] != "default"
        words = self._aux_words() if raw else bytes(accelerometer)
        if not self._stamps:
            return np.frombuffer(words, np.uint8), RAW if raw else ACCELEROMETER
        if not raw:
            if any(words):
                self._accelerometer = words
            axis = 2 * ((number & 255) % 10 - FIRST_AXIS)
            words = self._accelerometer[axis : axis + 2] if axis >= 0 else bytes(2)
        stop = (
            (RAW_SYNCED if raw else ACCELEROMETER_SYNCED)
            if self._stamp_set
            else (RAW_SET if raw else ACCELEROMETER_SET)
        )
        self._stamp_set = True
        return np.frombuffer(words[:2] + (ms & 0xFFFFFFFF).to_bytes(4, "big"), np.uint8), stop

    def _aux_words(self) -> bytes:
        """Three words, big-endian, as the firmware fills them in this mode."""
        mode = MODES[self._mode]
        if mode == "analog":
            return b"".join(value.to_bytes(2, "big") for value in self.analog)
        if mode == "digital":
            d11, d12, d13, d17, d18 = self.digital
            return bytes((d11, d12, d13, d17, 0, d18))
        if mode == "marker" and self._marker is not None:
            marker, self._marker = ord(self._marker) & 0xFF, None
            return bytes((0, marker, 0, 0, 0, 0))
        return bytes(6)

    # -- commands ----------------------------------------------------------------------------------

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

    def hear_marker(self, char: str) -> None:
        """`` `n `` from anybody else who talks to the board."""
        self._marker = char

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
            return (DAISY_BANNER if self.has_daisy else BANNER).encode()
        if char in "bs":
            self.streaming = char == "b"
            self._stamp_set = False
            return b""
        if char in "cC":
            return self._answer(self._attach_daisy(char == "C"))
        if char in "<>":
            self._stamps = char == "<"
            return self._answer(f"Time stamp {'ON' if self._stamps else 'OFF'}$$$")
        if char in OFF + ON:
            channel = (OFF + ON).index(char) % MAX_CHANNELS
            power = "1" if char in OFF else "0"
            self._settings[channel] = power + self._settings[channel][1:]
            self._convert()
            return b""
        if char == "?":
            return self._answer(self._registers())
        if char == "d":
            self._default_channels()
        return self._answer(ANSWERS.get(char, ""))

    def _attach_daisy(self, wanted: bool) -> str:
        """What the firmware says to ``C`` and ``c``."""
        had, self.daisy = self.daisy, wanted and self.has_daisy
        if wanted:
            return "daisy attached16$$$" if self.daisy else "no daisy to attach!8$$$"
        return "daisy removed$$$" if had else ""

    def _channel(self, command: str) -> str:
        channel, setting, end = command[1], command[2:8], command[8]
        if "X" in command[1:8]:
            return "Failure: too few chars$$$"
        if end != "X":
            return "Failure: 9th char not X$$$"
        if channel not in CODES or not setting.isdigit() or int(setting[1]) >= len(GAINS):
            return "Failure: Err: too many chars$$$"
        self._settings[CODES.index(channel)] = setting
        self._convert()
        return f"Success: Channel set for {channel}$$$"

    def _set_lead_off(self, command: str) -> str:
        """``zCPNZ``: the current on the P and the N input. The electrodes are on N."""
        if command[4] != "Z":
            return "Failure: 5th char not Z$$$"
        if command[1] not in CODES or not set(command[2:4]) <= set("01"):
            return "Failure: Err: too many chars$$$"
        self._lead_off[CODES.index(command[1])] = command[3] == "1"
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
        for channel, setting in enumerate(self._settings[:N_CHANNELS], 1):
            power, gain, inputs, _, srb2, _ = (int(digit) for digit in setting)
            values.append((f"CH{channel}SET", power << 7 | gain << 4 | srb2 << 3 | inputs))
        lines = ["", "Board ADS Registers"]
        for at, (name, value) in enumerate(values):
            bits = ", ".join(format(value, "08b"))
            lines.append(f"{name}, {at:02X}, {value:02X}, {bits}")
        return "\r\n".join([*lines, "", "LIS3DH Registers", "0x0F, 33", "$$$"])


_NAMES = {
    "x": "channel",
    "z": "set_lead_off",
    "~": "sample_rate",
    "/": "board_mode",
    "`": "insert_marker",
}
