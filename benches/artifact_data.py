"""Recordings for the evaluation of artifact scores, with what is in them by our own look.

Labels are seconds from the start. They were made by eye from plots of the signals (0.5 to 15 Hz
for blinks, 25 to 110 Hz without mains for the jaw), before the detector was there, and not changed
since.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from phantomd.formats.openbci import read_openbci
from phantomd.signal import montage

Array = npt.NDArray[np.float64]
Spans = Sequence[tuple[float, float]]

CYTON_UV = 187_500.02  # as the GUI writes it


class Labelled:
    """``uv`` float64[n, channels]. ``blinks``: peaks; ``jaw``: bursts of EMG; ``unclear``: neither
    artifact nor clean, left out of every comparison. ``rest``: nothing but EEG is expected."""

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        rate_hz: float,
        uv: Array,
        *,
        blinks: Sequence[float] = (),
        jaw: Spans = (),
        unclear: Spans = (),
        rest: bool = False,
        range_uv: tuple[float, float] | None = None,
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.rate_hz = rate_hz
        self.uv = uv
        self.blinks = blinks
        self.jaw = jaw
        self.unclear = unclear
        self.rest = rest
        self.range_uv = range_uv

    def part(self, name: str, from_s: float, to_s: float) -> Labelled:
        """Without labels."""
        first, last = int(from_s * self.rate_hz), int(to_s * self.rate_hz)
        return Labelled(
            name, self.labels, self.rate_hz, self.uv[first:last], range_uv=self.range_uv
        )

    def of_channels(self, labels: Sequence[str]) -> Labelled:
        """Only these sites."""
        sites = [montage.site(label) for label in self.labels]
        columns = [sites.index(label) for label in labels]
        return Labelled(
            f"{self.name}, {len(labels)} channels",
            labels,
            self.rate_hz,
            np.ascontiguousarray(self.uv[:, columns]),
            blinks=self.blinks,
            jaw=self.jaw,
            unclear=self.unclear,
            rest=self.rest,
            range_uv=self.range_uv,
        )


def folder() -> Path:
    """Raises SystemExit where there are no recordings."""
    named = os.environ.get("PHANTOMD_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        raise SystemExit(f"no recordings: set PHANTOMD_DATA ({path} is missing)")
    return path


def read_edf(path: Path) -> tuple[list[str], float, Array]:
    """Labels, rate, µV of the signals that have the first one's rate; for EDF+C files in µV."""
    raw = path.read_bytes()
    header, n_records, n_signals = int(raw[184:192]), int(raw[236:244]), int(raw[252:256])
    seconds = float(raw[244:252])

    def fields(offset: int, width: int) -> list[str]:
        at = 256 + offset * n_signals
        return [
            raw[at + i * width : at + (i + 1) * width].decode("latin-1").strip()
            for i in range(n_signals)
        ]

    names = fields(0, 16)
    low, high = (np.array(fields(at, 8), float) for at in (104, 112))
    digital_low, digital_high = (np.array(fields(at, 8), float) for at in (120, 128))
    counts = np.array(fields(216, 8), int)
    records = np.frombuffer(raw[header:], "<i2")[: n_records * counts.sum()]
    records = records.reshape(n_records, counts.sum())
    starts = np.concatenate(([0], np.cumsum(counts)))
    used = [i for i in range(n_signals) if counts[i] == counts[0] and "Annot" not in names[i]]
    columns = []
    for i in used:
        counted = records[:, starts[i] : starts[i + 1]].ravel()
        scale = (high[i] - low[i]) / (digital_high[i] - digital_low[i])
        columns.append((counted - digital_low[i]) * scale + low[i])
    return [names[i] for i in used], counts[0] / seconds, np.stack(columns, axis=1)


#: S001R01, eyes open.
R01_BLINKS = (9.65, 14.2, 17.3, 24.3, 24.65, 37.7, 38.15, 39.3, 40.75, 44.0, 49.1, 55.75)
#: S001R06, imagined movement, its first minute.
R06_BLINKS = (4.05, 11.5, 15.1, 24.65, 27.75, 34.95, 41.2, 44.7, 50.3)
R06_UNCLEAR = ((5.0, 6.0), (14.0, 15.0), (19.7, 20.3), (22.7, 23.9), (38.7, 40.5), (51.5, 52.5))


def eegmmidb(run: str, seconds: float = 60.0) -> Labelled:
    """The recordings at rest have nothing but zeros after one minute."""
    names, rate_hz, uv = read_edf(folder() / "eegmmidb" / f"S001{run}.edf")
    return Labelled(
        f"eegmmidb {run}",
        names,
        rate_hz,
        uv[: int(seconds * rate_hz)],
        blinks={"R01": R01_BLINKS, "R06": R06_BLINKS}.get(run, ()),
        unclear={"R06": R06_UNCLEAR}.get(run, ()),
        rest=run in ("R01", "R02"),
    )


def openbci_v6() -> Labelled:
    """Blinks point down here. Unclear: the start, one electrode alone, small or slow ones, and what
    moves all channels at the end (86 s on)."""
    recording = read_openbci(folder() / "openbci_gui" / "OpenBCI_GUI-v6-blinks-jawClench-alpha.txt")
    return Labelled(
        "OpenBCI v6",
        ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2"),
        recording.rate_hz,
        recording.uv,
        blinks=(
            *(4.3, 4.95, 5.17, 5.38, 5.6, 5.8, 6.02, 6.22),
            *(15.43, 15.65, 15.84, 16.05, 16.25, 16.47),
            *(79.68, 79.85, 80.1, 80.3, 80.52, 80.82),
        ),
        jaw=(
            *((8.3, 9.4), (9.9, 11.1), (11.4, 12.7), (13.0, 14.2)),
            *((82.0, 82.8), (83.1, 84.0), (84.2, 85.2)),
        ),
        unclear=(
            *((0.0, 3.0), (13.7, 14.2), (17.0, 18.5), (23.7, 26.0)),
            *((75.5, 77.0), (78.3, 78.7), (86.0, 90.0)),
        ),
        range_uv=(-CYTON_UV, CYTON_UV),
    )


#: What the recording's folder says of the v6 file, by a coarser look.
V6_COARSE_BLINKS = ((0.0, 9.0), (12.0, 18.0), (75.0, 90.0))
V6_COARSE_JAW = ((3.0, 15.0), (81.0, 90.0))


def blinks() -> Labelled:
    """Its folder says six blinks; we see these."""
    with gzip.open(folder() / "blinks" / "sample-blinks.txt.gz", "rt") as file:
        text = file.read().splitlines()
    *names, rate = text[0].split()
    uv = np.array([line.split() for line in text[1:] if line.strip()], float)
    return Labelled(
        "blinks",
        names,
        float(rate),
        uv,
        blinks=(
            *(0.13, 0.82, 1.2, 1.78, 2.4, 3.65, 4.28, 4.92, 5.35, 5.8, 6.18, 6.58),
            *(6.92, 7.55, 7.92, 8.25, 8.85, 9.25, 9.6, 9.88),
        ),
    )


def p300() -> Labelled:
    stored = loadmat(folder() / "p300_gtec" / "S1.mat")
    labels = ("Fz", "C3", "Cz", "C4", "Pz", "PO7", "Oz", "PO8")
    uv = np.ascontiguousarray(stored["y"], np.float64)
    return Labelled("p300_gtec", labels, float(stored["fs"].item()), uv)


def muse(path: str) -> Labelled:
    table = np.genfromtxt(folder() / path, delimiter=",", skip_header=1, usecols=range(1, 5))
    return Labelled(path.split("/")[0], ("TP9", "AF7", "AF8", "TP10"), 256.0, table)
