"""Which gap rule? The rules tried on real EEG: a table of docs/sos.md.

python -m benches.sos_gaps          needs the recordings (PHANTOMD_DATA or ../shared/data)

Samples are taken out of a recording at random places, and the second after the gap is compared with
the output that the whole recording gives: RMS of the difference over the band's median magnitude,
median over places and channels, geometric mean over five bands.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt, sosfilt_zi

from phantomd.core.sos import FilterBank
from phantomd.signal.designs import Sos, bank

Array = npt.NDArray[np.float64]

GAPS_MS = (12, 24, 50, 100, 250, 1000, 4000)
PLACES = 20
LEVEL_S = 0.5  # PD_SOS_LEVEL_S


def openbci(folder: Path) -> tuple[Array, float]:
    path = folder / "openbci_gui" / "OpenBCI_GUI-v6-blinks-jawClench-alpha.txt"
    return np.loadtxt(path, delimiter=",", skiprows=5, usecols=range(1, 9)), 250.0


def eegmmidb(folder: Path) -> tuple[Array, float]:
    """Ten of 64 channels of a minute at rest; the EDF has one second a record."""
    raw = (folder / "eegmmidb" / "S001R01.edf").read_bytes()
    n_signals, n_records, header = int(raw[252:256]), int(raw[236:244]), int(raw[184:192])
    at = 256 + 216 * n_signals
    counts = [int(raw[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
    records = np.frombuffer(raw[header:], "<i2")[: n_records * sum(counts)]
    records = records.reshape(n_records, sum(counts))
    starts = np.r_[0, np.cumsum(counts)]
    channels = [records[:, starts[i] : starts[i + 1]].ravel() for i in range(0, 64, 7)]
    return np.stack(channels, axis=1).astype(np.float64), float(counts[0])


def running_level(x: Array, rate: float) -> Array:
    level, levels = x[0].copy(), np.empty_like(x)
    for row, value in enumerate(x):
        level += (value - level) / (LEVEL_S * rate)
        levels[row] = level
    return levels


def coasting(sos: Sos, z: Array, value: Array, n: int) -> Array:
    """The state after ``n`` samples of ``value``."""
    _, later = sosfilt(sos, np.repeat(value[None], n, axis=0), axis=0, zi=z)
    return np.asarray(later)


def after_gap(
    sos: Sos, z: Array, last: Array, level: Array, first: Array, gap: int
) -> dict[str, Array]:
    """The state with which each rule goes on after a gap that began in state ``z``."""
    return {
        "state held": z,
        "zeros fed": coasting(sos, z, 0 * last, gap),
        "last value fed": coasting(sos, z, last, gap),
        "level fed": coasting(sos, z, level, gap),
        "started anew": sosfilt_zi(sos)[:, :, None] * first,
    }


def errors(x: Array, rate: float, gap: int) -> dict[str, list[float]]:
    """Of each rule, band by band."""
    second = round(rate)
    places = np.random.default_rng(gap).integers(8 * second, len(x) - gap - second, PLACES)
    levels = running_level(x, rate)
    found: dict[str, list[float]] = {}
    for sos in bank(rate).values():
        unit = sosfilt_zi(sos)[:, :, None]
        whole, _ = sosfilt(sos, x, axis=0, zi=unit * x[0])
        magnitude = np.median(abs(whole), axis=0)
        of_rule: dict[str, list[Array]] = {}
        for place in places:
            _, z = sosfilt(sos, x[:place], axis=0, zi=unit * x[0])
            after = x[place + gap : place + gap + second]
            truth = whole[place + gap : place + gap + second]
            states = after_gap(sos, z, x[place - 1], levels[place - 1], after[0], gap)
            outputs = {rule: sosfilt(sos, after, axis=0, zi=zi)[0] for rule, zi in states.items()}
            torn = x[: place + gap + second].copy()
            torn[place : place + gap] = np.nan
            y = FilterBank([sos], x.shape[1], rate).process(torn)
            outputs["FilterBank"] = y[place + gap :, 0]
            for name, y in outputs.items():
                error = np.sqrt(np.mean((y - truth) ** 2, axis=0)) / magnitude
                of_rule.setdefault(name, []).append(error)
        for name, values in of_rule.items():
            found.setdefault(name, []).append(float(np.median(values)))
    return found


def table(title: str, x: Array, rate: float) -> str:
    by_gap = {gap_ms: errors(x, rate, round(gap_ms * rate / 1000)) for gap_ms in GAPS_MS}
    names = list(by_gap[GAPS_MS[0]])
    lines = [f"| {title}: gap | {' | '.join(names)} |", "|---:|" + "---:|" * len(names)]
    for gap_ms, found in by_gap.items():
        means = [math.exp(float(np.mean(np.log(found[name])))) for name in names]
        lines.append(f"| {gap_ms} ms | " + " | ".join(f"{mean:.2g}" for mean in means) + " |")
    return "\n".join(lines)


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("PHANTOMD_DATA", root.parent / "shared" / "data"))
    for title, read in (("clean EEG", eegmmidb), ("millivolts of hum", openbci)):
        x, rate = read(folder)
        print(table(title, x, rate), end="\n\n")


if __name__ == "__main__":
    main()
