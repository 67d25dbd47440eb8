"""Electrode impedance: a known current through them, and the voltage that it makes.

What the amplifier's current is, and how volts become ohms, is the device's (devices/base.py).
"""

from __future__ import annotations

import asyncio
import math

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import DeviceSpec
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.devices.base import Device, MeasuresImpedance
from phantomd.engine.beside import beside
from phantomd.errors import BadParams, DeviceError, DeviceSilent

#: After the current was switched: electrode and amplifier come to rest, and the samples that the
#: board loses while it writes its registers are past.
SETTLE_S = 0.4
#: Further tries when samples were lost in the middle.
TRIES = 3
_POLL_S = 0.02
_LOST = 1
_FLAGS_WORD = 2


async def measure(
    device: Device, spec: DeviceSpec, channels: list[str] | None
) -> dict[str, float | None]:
    """kΩ by channel, of all channels where none is named; None: the amplifier is at its limit, the
    electrode has no contact. Raises BadParams, DeviceError."""
    if not isinstance(device, MeasuresImpedance):
        raise DeviceError(
            f"{spec.device_id} is a {spec.kind}: it can't measure impedance",
            hint="a Cyton can",
        )
    wanted = list(spec.labels) if channels is None else channels
    unknown = [name for name in wanted if name not in spec.labels]
    if unknown or not wanted:
        raise BadParams(
            f"{spec.device_id} has no channel {', '.join(unknown) or 'to measure'}",
            hint=f"it has {', '.join(spec.labels)}",
        )
    numbers = [spec.labels.index(name) for name in wanted]
    try:
        await beside(device.lead_off, numbers, True)
        uv = await _samples(device.driver.intake, spec, device.impedance_samples)
    finally:
        await asyncio.shield(beside(device.lead_off, numbers, False))
    kohm = device.kohm(uv)
    return {
        name: round(float(kohm[number]), 2) if math.isfinite(kohm[number]) else None
        for name, number in zip(wanted, numbers, strict=True)
    }


async def _samples(intake: Intake, spec: DeviceSpec, n: int) -> NDArray[np.float64]:
    """The next ``n`` samples in a row, once things have settled. Raises DeviceSilent."""
    skip = round(SETTLE_S * spec.rate_hz)
    for _ in range(TRIES):
        first = intake.next + skip
        deadline_s = asyncio.get_running_loop().time() + 2 * (skip + n) / spec.rate_hz + 1
        while intake.next < first + n:
            if asyncio.get_running_loop().time() > deadline_s:
                raise DeviceSilent(
                    f"{spec.device_id} fell silent while its impedance was measured",
                    hint="try again when it streams",
                )
            await asyncio.sleep(_POLL_S)
        frames = np.stack([intake.ring.read(index) for index in range(first, first + n)])
        if not (frames[:, _FLAGS_WORD] & _LOST).any():
            values = frames[:, NATIVE_HEAD_WORDS : NATIVE_HEAD_WORDS + len(spec.labels)]
            return np.ascontiguousarray(values).view(np.float64)
        skip = 0
    raise DeviceSilent(
        f"{spec.device_id} loses too many samples for its impedance to be measured",
        hint="bring the board nearer to its dongle, then try again",
    )
