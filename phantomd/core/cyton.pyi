from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.core.intake import Driver, Intake

PACKET_BYTES: int
N_CHANNELS: int
"""In a packet."""
MAX_CHANNELS: int
AUX: dict[str, int]
"""What the auxiliary bytes may hold: accel, analog, digital, marker."""
N_AUX: int
"""Auxiliary values a sample with the accelerometer: x, y, z in g."""
PACKET: np.dtype[np.void]
"""A parsed packet: ``counter, stop`` uint8, ``count`` int32[8], ``aux`` uint8[6], ``junk_before``
uint32 (bytes dropped between the packet before and this one)."""
UV_PER_COUNT: float
"""µV a count at gain 24."""

def n_aux(aux: str) -> int:
    """Auxiliary values a sample. KeyError."""

def uv_per_count(gain: float) -> float:
    """4.5 V / gain / (2^23 − 1), in µV (ADS1299 data sheet, OpenBCI Cyton data format)."""

def encode(
    counters: NDArray[np.uint8],
    counts: NDArray[np.int32],
    aux: NDArray[np.uint8] | None = None,
    stop: int = 0xC0,
) -> bytes:
    """Packets as the board sends them.

    ``counters`` uint8[n], ``counts`` int32[n, 8] (clipped to 24 bits), ``aux`` uint8[n, 6] or None for
    zeros. ValueError for other shapes.
    """

class Parser:
    """Bytes to packets; loses only the damaged packet (csrc/pd_cyton.h says what that can't mean)."""

    def feed(self, data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> NDArray[Any]:
        """PACKET[n]: what is decided by now. The rest is kept for the next call."""
    @property
    def synced(self) -> bool:
        """The last packet ended where the bytes that are still kept begin."""
    @property
    def junk(self) -> int:
        """Bytes dropped since the last packet."""
    @property
    def n_pending(self) -> int: ...

class CytonDriver(Driver):
    """Cyton bytes to samples: 8 or 16 channels in µV, then what the auxiliary bytes hold.

    ``gains``: of the 8 channels, or of 16 with a Daisy. ``aux``: ``accel`` (x, y, z in g), ``analog``
    (A5, A6, A7 in V), ``digital`` (D11, D12, D13, D17, D18) or ``marker`` (none; markers). A reading
    is held for 0.1 s, then it is NaN. ``intake``: modulus 256 (Daisy: 128), as many values as that
    gives. ValueError on a mismatch.
    """

    def __init__(self, intake: Intake, gains: Sequence[float] = ..., aux: str = "accel") -> None: ...
    @property
    def form(self) -> tuple[tuple[float, ...], str]:
        """Gains and aux: what another board must have to go on with this driver."""
    @property
    def synced(self) -> bool: ...
