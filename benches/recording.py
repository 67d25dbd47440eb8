"""A real recording, played as Cyton bytes through a pseudo terminal into the living daemon.

`python -m benches.recording [--seconds S] [--plot FILE]` compares what comes out on 7069 with
`scipy.signal.resample_poly(x - x[0], up, down, window=h)`, h being the resampler's prototype, and
the timestamps with the instants at which the emulator sent the packets.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benches.live import daemon, table
from benches.plotting import pyplot
from phantomd.client import connect
from phantomd.core.cyton import uv_per_count
from phantomd.engine.prototype import design
from phantomd.formats.openbci import read_openbci

Array = npt.NDArray[Any]

NAME = "openbci_gui/OpenBCI_GUI-v6-blinks-jawClench-alpha.txt"
RATE_HZ = 250.0
#: The reference is computed at 128 Hz × FINE and interpolated between by cubics: 1e-8 at 60 Hz.
FINE = 64
MISSING, DISCONTINUITY = 1, 8


@dataclass(frozen=True)
class Comparison:
    """Frames beside the reference; µV, and seconds from packet 0."""

    t_s: Array
    values: Array
    reference: Array
    labels: tuple[str, ...]
    offset_us: float
    drift_us: Array
    n_frames: int
    n_missing_inside: int
    at_told_instants: Array
    #: Of each frame, of what lies about it: how far its timestamp is from the usual offset.
    moved_us: Array

    @property
    def error_percent(self) -> Array:
        """RMS of the difference, in percent of the RMS of the reference's AC part: what is above
        0.5 Hz. (The electrodes drift by millivolts: the standard deviation would hide all else.)"""
        return self._percent(self.values - self.reference)

    @property
    def signal_error_percent(self) -> Array:
        """The same, each quarter second at the instants that its timestamps are really at: what is
        left is the signal path. The timestamps' own error is ``drift_us``."""
        return self._percent(self.values - self.at_told_instants)

    def calm_error_percent(self, within_us: float) -> Array:
        """The same, of the frames whose timestamps are about as usual. Where a host that stands
        still moves the clock within a quarter second, no one shift fits it."""
        calm = np.abs(self.moved_us) < within_us
        return self._percent((self.values - self.at_told_instants)[calm])

    def _percent(self, difference: Array) -> Array:
        from scipy.signal import butter, sosfiltfilt

        ac = sosfiltfilt(butter(2, 0.5, "highpass", fs=128, output="sos"), self.reference, axis=0)
        return np.asarray(100 * _rms(difference) / _rms(ac))


def _rms(x: Array) -> Array:
    return np.asarray(np.sqrt((x**2).mean(axis=0)))


def data_path() -> Path:
    named = os.environ.get("PHANTOMD_DATA")
    return (Path(named) if named else Path(__file__).parents[2] / "shared" / "data") / NAME


def play(file: Path, seconds: float) -> tuple[Array, int, tuple[str, ...]]:
    """Frames of so many seconds from the first sample on, t0 of packet 0 in ns, and the labels."""
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / "cyton"
        with emulator(file, link) as out, daemon("--device", f"cyton:{link}") as live:
            with connect("eeg", base_port=live.base_port) as eeg:
                t0_ns = int(json.loads(out.readline())["t0_ns"])
                end_ns = t0_ns + round(seconds * 1e9)
                frames = []
                for frame in eeg:
                    if frame.t_ns > end_ns:
                        break
                    frames.append((frame.index, frame.t_ns, int(frame.flags), frame.values))
                labels = eeg.header.labels
    kinds = np.dtype(
        [("index", "u8"), ("t_ns", "i8"), ("flags", "u4"), ("values", "f4", (len(labels),))]
    )
    return np.array(frames, kinds), t0_ns, labels


@contextlib.contextmanager
def emulator(file: Path, link: Path, *more: str) -> Iterator[Any]:
    """The emulator's standard output, once its port is there."""
    command = (sys.executable, "-m", "phantomd.cli.phantomctl", "emulate", "cyton",
               "--from", str(file), "--link", str(link), "--once", "--json", *more)  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the emulator ended at once: {command}")
        json.loads(line)
        yield process.stdout
    finally:
        process.terminate()
        process.wait(10)


def compare(file: Path, frames: Array, t0_ns: int, labels: tuple[str, ...]) -> Comparison:
    """Frames against the reference. One constant offset of time (the transport's delay) is fitted
    and reported; it counts as an error of the timestamps, and not of the signal."""
    from scipy.signal import resample_poly

    counts = read_openbci(file).counts(24.0)
    x = counts * uv_per_count(24.0)
    # h is scaled for `up`, so that the fine reference is one call of resample_poly, too.
    up, down = 64 * FINE, 125
    fine = resample_poly(x - x[0], up, down, axis=0, window=design(RATE_HZ).h(up)) + x[0]
    inside = (frames["flags"] & MISSING) == 0
    first, last = np.flatnonzero(inside)[[0, -1]]
    n_missing = int((~inside[first:last]).sum())
    frames = frames[inside]
    place = (frames["t_ns"] - t0_ns) * 1e-9 * 128 * FINE
    offset, drift = 0.0, np.zeros(0)
    for _ in range(4):
        reference, slope = at(fine, place + offset)
        apart = frames["values"] - reference
        step = (apart * slope).sum() / (slope**2).sum()
        offset += step
    reference, slope = at(fine, place + offset)
    apart = frames["values"] - reference
    to_us = 1e6 / (128 * FINE)
    since_s = (frames["t_ns"] - frames["t_ns"][0]) * 1e-9
    _, drift = _shifts(apart, slope, since_s, 1.0)
    middles, quarters = _shifts(apart, slope, since_s, 0.25)
    shifts = np.interp(since_s, middles, quarters)
    told, _ = at(fine, place + offset + shifts)
    return Comparison(
        (frames["t_ns"] - t0_ns) * 1e-9,
        frames["values"].astype(float),
        reference,
        labels,
        -offset * to_us,
        -(offset + drift) * to_us,
        len(frames),
        n_missing,
        told,
        (np.median(shifts) - shifts) * to_us,
    )


def _shifts(apart: Array, slope: Array, since_s: Array, every_s: float) -> tuple[Array, Array]:
    """By how much the reference would have to be shifted in each piece of time that has a frame,
    and the middles of those pieces."""
    piece = (since_s // every_s).astype(int)
    pieces = [n for n in range(piece[-1]) if (piece == n).any()]
    inside = [piece == n for n in pieces]
    shifts = [(apart[n] * slope[n]).sum() / (slope[n] ** 2).sum() for n in inside]
    return every_s * (np.array(pieces) + 0.5), np.array(shifts)


def at(fine: Array, place: Array) -> tuple[Array, Array]:
    """Value and slope by a cubic through the four neighbours of each place."""
    whole = np.floor(place).astype(int)
    u = (place - whole)[:, None]
    y0, y1, y2, y3 = (fine[whole + k] for k in (-1, 0, 1, 2))
    c1 = -y0 / 3 - y1 / 2 + y2 - y3 / 6
    c2 = (y0 + y2) / 2 - y1
    c3 = (y3 - y0) / 6 + (y1 - y2) / 2
    return y1 + u * (c1 + u * (c2 + u * c3)), c1 + u * (2 * c2 + 3 * u * c3)


def plot(result: Comparison, file: Path) -> None:
    plt = pyplot()
    from scipy.signal import butter, sosfiltfilt

    shown = butter(3, (1, 40), "bandpass", fs=128, output="sos")
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(10, 9), layout="constrained")
    n = result.values.shape[1]
    for channel in range(n):
        trace = sosfiltfilt(shown, result.values[:, channel])
        top.plot(result.t_s, trace / 200 + n - channel, linewidth=0.4, color="tab:blue")
    top.set_yticks(range(n, 0, -1), result.labels)
    top.set_ylim(0, n + 1)
    top.set_title("What came out on 7069 (200 µV a division; shown from 1 to 40 Hz)")
    part = (result.t_s > 20) & (result.t_s < 20.5)
    middle.plot(result.t_s[part], result.reference[part, 1], color="black", label="resample_poly")
    middle.plot(
        result.t_s[part], result.values[part, 1], ".", color="tab:orange", label="port 7069"
    )
    middle.set_ylabel(f"{result.labels[1]}, µV")
    middle.set_title("Half a second of the channel with the most 60 Hz")
    middle.legend(loc="upper right")
    bottom.plot(np.arange(len(result.drift_us)) + result.t_s[0], result.drift_us)
    bottom.set_xlabel("seconds from the first packet")
    bottom.set_ylabel("timestamp − true instant, µs")
    bottom.set_title("Error of the timestamps, by the signal itself, each second")
    bottom.set_ylim(0, None)
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=89.0)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    result = compare(data_path(), *play(data_path(), options.seconds))
    print(f"{result.n_frames} frames, {result.n_missing_inside} missing between them")
    print(
        f"timestamps: {result.offset_us:.0f} µs after the true instant, each second "
        f"{result.drift_us.min():.0f} to {result.drift_us.max():.0f} µs"
    )
    rows = [
        ("one offset of time for all", *(f"{error:.3f} %" for error in result.error_percent)),
        ("each 0.25 s at its instants", *(f"{e:.3f} %" for e in result.signal_error_percent)),
    ]
    print(table(("RMS error of the AC signal", *result.labels), rows))
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
