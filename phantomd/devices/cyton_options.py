"""What a Cyton's address may ask for: ``cyton:/dev/ttyUSB0?daisy=auto&gain=24&aux=digital``."""

from __future__ import annotations

import difflib
from typing import Literal, cast

import msgspec
from serial.tools import list_ports

from phantomd.core.cyton import MAX_CHANNELS, N_CHANNELS
from phantomd.devices.base import Address
from phantomd.devices.electrodes import sites
from phantomd.errors import BadAddress

Aux = Literal["accel", "analog", "digital", "marker"]
Daisy = Literal["false", "true", "auto"]

#: The digit of the channel command that sets each gain.
GAIN_CODES = {1: 0, 2: 1, 4: 2, 6: 3, 8: 4, 12: 5, 24: 6}
#: How the commands name the channels of the board, and those of its Daisy.
CHANNEL_CODES = b"12345678QWERTYUI"
#: Board modes.
MODE_CODES: dict[Aux, bytes] = {"accel": b"0", "analog": b"2", "digital": b"3", "marker": b"4"}
AUX_NAMES: dict[Aux, tuple[str, ...]] = {
    "accel": ("accel_x_g", "accel_y_g", "accel_z_g"),
    "analog": ("a5_v", "a6_v", "a7_v"),
    "digital": ("d11", "d12", "d13", "d17", "d18"),
    "marker": (),
}
_VALUES = {
    "daisy": ("false", "true", "auto"),
    "aux": tuple(AUX_NAMES),
    "stamps": ("false", "true"),
}
OPTIONS = ("gain", *_VALUES)


class CytonConfig(msgspec.Struct, frozen=True):
    """An address, taken apart. ``gain``: one for all channels, or one each."""

    labels: tuple[str, ...]
    daisy: Daisy = "false"
    gain: tuple[int, ...] = (24,)
    aux: Aux = "accel"
    stamps: bool = False

    def gains(self, daisy: bool) -> tuple[int, ...]:
        """Of each channel; of those of a Daisy that no gain was given for, 24."""
        n = MAX_CHANNELS if daisy else N_CHANNELS
        if len(self.gain) == 1:
            return self.gain * n
        return (*self.gain, *(24,) * n)[:n]

    def channel_labels(self, daisy: bool) -> tuple[str, ...]:
        """The montage's, and for a Daisy that it does not name, further 10-20 labels."""
        n = MAX_CHANNELS if daisy else N_CHANNELS
        return tuple(site.label for site in sites(self.labels, n))


def config_of(address: Address, labels: tuple[str, ...]) -> CytonConfig:
    """Raises BadAddress for what this driver can't do."""
    if not address.where:
        raise BadAddress(
            "a Cyton's address names its port", hint=f"cyton:/dev/ttyUSB0; {ports_there()}"
        )
    for key in address.options:
        if key not in OPTIONS:
            near = difflib.get_close_matches(key, OPTIONS, 1)
            raise BadAddress(
                f"a Cyton has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(OPTIONS)}",
            )
    for key, values in _VALUES.items():
        value = address.options.get(key, values[0])
        if value not in values:
            raise BadAddress(f"{key}={value} can't be", hint=f"{key} is {' or '.join(values)}")
    daisy = cast(Daisy, address.options.get("daisy", "false"))
    most = N_CHANNELS if daisy == "false" else MAX_CHANNELS
    if len(labels) not in (N_CHANNELS, most):
        raise BadAddress(
            f"a Cyton has {N_CHANNELS} channels, {MAX_CHANNELS} with a Daisy; "
            f"the montage has {len(labels)} labels",
            hint="give one label a channel; daisy=true or daisy=auto takes 16",
        )
    return CytonConfig(
        labels,
        daisy,
        _gain(address.options.get("gain", "24"), most),
        cast(Aux, address.options.get("aux", "accel")),
        address.options.get("stamps") == "true",
    )


def _gain(text: str, most: int) -> tuple[int, ...]:
    said = text.split(",")
    known = {str(gain) for gain in GAIN_CODES}
    for gain in said:
        if gain not in known:
            raise BadAddress(
                f"gain={text}: {gain or 'nothing'} is no gain of the ADS1299",
                hint=f"one of {', '.join(str(gain) for gain in GAIN_CODES)}, for all channels, or "
                "one each with commas between",
            )
    if len(said) not in (1, N_CHANNELS, most):
        raise BadAddress(
            f"gain={text}: {len(said)} gains",
            hint=f"give one for all channels, or {' or '.join(str(n) for n in {N_CHANNELS, most})}",
        )
    return tuple(int(gain) for gain in said)


def ports_there() -> str:
    """For a hint."""
    ports = sorted(port.device for port in list_ports.comports())
    return f"serial ports here: {', '.join(ports)}" if ports else "there is no serial port here"
