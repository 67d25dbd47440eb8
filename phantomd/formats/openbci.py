"""OpenBCI text recordings: GUI version 5/6, older GUI, and SD card conversions.

Layouts (OpenBCI GUI ``DataWriterODF``; the recordings that come with the GUI):

- v6: ``%`` lines with channels and rate, a line of column names, then index, channels in µV,
  accelerometer in g, digital and analog inputs, timestamp.
- old: ``%`` lines with the rate, no column names: index, eight channels, accelerometer.
- SD conversion: one ``%`` line, no rate (the card logs at 250 Hz): index (as a float), eight
  channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.core.cyton import N_AUX, N_CHANNELS, uv_per_count
from phantomd.errors import RecordingError

Layout = Literal["v6", "old", "sd"]

#: The Cyton's rate where a file doesn't say it.
CYTON_HZ = 250.0
MAX_COUNT = (1 << 23) - 1


class Recording(msgspec.Struct, frozen=True):
    """``uv`` float64[n, channels]; ``accel_g`` float64[n, 3] or None (zeros between readings).

    ``index`` uint8[n]: the packet counter. ``n_skipped``: lines that were cut short.
    """

    layout: Layout
    rate_hz: float
    index: NDArray[np.uint8]
    uv: NDArray[np.float64]
    accel_g: NDArray[np.float64] | None
    n_skipped: int

    def counts(self, gain: float = 24.0) -> NDArray[np.int32]:
        """int32[n, channels]: the nearest 24-bit counts at this gain, clipped as the ADC clips."""
        counts = np.rint(self.uv / uv_per_count(gain))
        return np.clip(counts, -MAX_COUNT - 1, MAX_COUNT).astype(np.int32)

    def gaps(self) -> NDArray[np.int64]:
        """int64[n]: packets missing before each row by the index column, modulo 256."""
        gaps = np.zeros(len(self.index), np.int64)
        gaps[1:] = self.index[1:] - self.index[:-1] - np.uint8(1)  # modulo 256, as the counter
        return gaps


def read_openbci(path: Path) -> Recording:
    """Raises RecordingError, naming the line, for a file of another kind, and OSError."""
    head: list[str] = []
    named = False
    rows: list[list[float]] = []
    width = n_skipped = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("%"):
                head.append(line)
                continue
            fields = line.strip().split(",")
            if not rows and fields[0] == "Sample Index":
                named = True
                width = len(fields)
                continue
            width = width or len(fields)
            if len(fields) < width:  # cut short: the disk was full, or the card pulled out
                n_skipped += 1
                continue
            try:
                most = min(width, 1 + N_CHANNELS + N_AUX)
                rows.append([float(field) for field in fields[:most]])
            except ValueError:
                raise _refused(path, f"line {number} has text where a number belongs") from None
    layout = _layout(path, head, named)
    if not rows or width < 1 + N_CHANNELS:
        raise _refused(path, f"there are no lines of an index and {N_CHANNELS} channels")
    return _recording(path, layout, head, np.array(rows), n_skipped)


def _layout(path: Path, head: list[str], named: bool) -> Layout:
    first = head[0] if head else ""
    if named and "OpenBCI Raw" in first:
        return "v6"
    if "OpenBCI Raw" in first:
        return "old"
    if "OBCI Data Log" in first:
        return "sd"
    raise _refused(path, "the first line doesn't say OpenBCI Raw … Data or OBCI Data Log")


def _recording(
    path: Path, layout: Layout, head: list[str], rows: NDArray[np.float64], n_skipped: int
) -> Recording:
    n_channels = _number(head, "Number of channels") or N_CHANNELS
    if n_channels != N_CHANNELS:
        raise _refused(path, f"it has {n_channels:g} channels, a Cyton has {N_CHANNELS}")
    if not np.isfinite(rows).all():
        raise _refused(path, "a value is not finite")
    has_accel = layout != "sd" and rows.shape[1] >= 1 + N_CHANNELS + N_AUX
    return Recording(
        layout=layout,
        rate_hz=_number(head, "Sample Rate") or CYTON_HZ,
        index=(rows[:, 0].astype(np.int64) & 255).astype(np.uint8),
        uv=np.ascontiguousarray(rows[:, 1 : 1 + N_CHANNELS]),
        accel_g=np.ascontiguousarray(rows[:, 1 + N_CHANNELS :]) if has_accel else None,
        n_skipped=n_skipped,
    )


def _number(head: list[str], name: str) -> float | None:
    for line in head:
        if found := re.match(rf"%\s*{name}\s*=\s*([0-9.]+)", line):
            return float(found[1])
    return None


def _refused(path: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{path} is no OpenBCI recording: {why}",
        hint="what is read: text files of the OpenBCI GUI and its SD card conversions",
    )
