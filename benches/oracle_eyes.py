"""Eyes open and eyes closed through the daemon's own path, told apart by focus: docs/oracle.md.

python -m benches.oracle_eyes                a table, as Markdown
python -m benches.oracle_eyes --plot FILE    and the picture

PhysioNet eegmmidb, S001: R01 (eyes open) and R02 (eyes closed), 60 s each, are played as devices in
virtual time through intake, grid, artifact rejection and oracle, as ``phantomctl replay`` does.
What is judged is what 7070 said. Needs the recordings (PHANTOMD_DATA or ../shared/data).

β/α is the mean ratio that the published focus stands for: 1 + ln(f / (1 - f)) / 2. Windows are
those of whole seconds, which do not overlap; those of 2 s are the means of two in a row. d is
Cohen's, of the pooled deviation; AUC is the share of pairs of which open has the larger value.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benches.plotting import pyplot
from phantomd.config import Config, load
from phantomd.contracts import MONTAGE, EegHeader
from phantomd.records.rerun import rerun

Array = npt.NDArray[np.float64]
#: ``[oracle] channels`` by name; "specification" leaves it empty.
OCCIPITAL = ("PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2")
MONTAGES: Mapping[str, tuple[str, ...]] = {"specification": (), "occipital": OCCIPITAL}
#: What the device has of the recording's 64 channels, in the recording's spelling.
CHANNELS = ",".join(f"{name:.<4}".capitalize() for name in (*MONTAGE, *OCCIPITAL))
RECORDINGS = {"open": "S001R01.edf", "closed": "S001R02.edf"}


@dataclass
class Heard:
    """Ports: what 7070 said, and what the windows of whole seconds held."""

    times_s: list[float] = field(default_factory=list)
    focus: list[float] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def opened(self, header: EegHeader) -> None:
        pass

    def frames(self, data: bytes, n: int) -> None:
        pass

    def say(
        self, stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False
    ) -> None:
        if stream == "focus" and t_ns is not None:
            self.times_s.append(t_ns * 1e-9 - 1.0)
            self.focus.append(data.get("focus", math.nan))
            self.reasons[data.get("reason", "value")] += 1
        if stream == "trit" and t_ns is not None and data["cell"] == "value":
            self.seconds[round(t_ns * 1e-9)] = data["focus"]


def ratio(focus: Array) -> Array:
    return np.asarray(1.0 + np.log(focus / (1.0 - focus)) / 2.0)


def pairs(seconds: Mapping[int, float]) -> Array:
    """Means of two whole seconds in a row; each second once."""
    out, last = [], -1
    for second in sorted(seconds):
        if second + 1 in seconds and second > last:
            both = ratio(np.array([seconds[second], seconds[second + 1]]))
            out.append(float(both.mean()))
            last = second + 1
    return np.array(out)


def cohen_d(a: Array, b: Array) -> float:
    n, m = len(a), len(b)
    pooled = ((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / (n + m - 2)
    return float((a.mean() - b.mean()) / math.sqrt(pooled))


def auc(a: Array, b: Array) -> float:
    larger = (a[:, None] > b[None, :]).mean() + 0.5 * (a[:, None] == b[None, :]).mean()
    return float(larger)


def play(directory: Path, montage: str, eyes: str, state: str) -> Heard:
    channels = ",".join(f'"{name}"' for name in MONTAGES[montage])
    config: Config = load(
        None, (f"oracle.channels=[{channels}]", f'daemon.state="{state}"', "montage.mains_hz=60")
    )
    heard = Heard()
    rerun(directory / RECORDINGS[eyes], heard, config, {"channels": CHANNELS})
    return heard


def row(montage: str, heard: Mapping[str, Heard]) -> str:
    opened, closed = (np.array(list(heard[eyes].seconds.values())) for eyes in RECORDINGS)
    two_open, two_closed = (pairs(heard[eyes].seconds) for eyes in RECORDINGS)
    return (
        f"| {montage} | {len(opened)}, {len(closed)} "
        f"| {np.median(ratio(opened)):.2f}, {np.median(ratio(closed)):.2f} "
        f"| {opened.mean():.2f}, {closed.mean():.2f} "
        f"| {cohen_d(opened, closed):.2f} | {auc(opened, closed):.3f} "
        f"| {cohen_d(two_open, two_closed):.2f} | {auc(two_open, two_closed):.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    named = os.environ.get("PHANTOMD_DATA", "../shared/data")
    directory = Path(named) / "eegmmidb"
    with tempfile.TemporaryDirectory() as state:
        heard = {
            montage: {eyes: play(directory, montage, eyes, state) for eyes in RECORDINGS}
            for montage in MONTAGES
        }
    print(
        "| channels | seconds open, closed | median β/α | mean focus | d of focus | AUC, 1 s "
        "| d of β/α, 2 s | AUC, 2 s |\n|---|---|---|---|---:|---:|---:|---:|"
    )
    for montage in MONTAGES:
        print(row(montage, heard[montage]))
    for montage, by_eyes in heard.items():
        for eyes, one in by_eyes.items():
            print(f"\n{montage}, {eyes}: {dict(one.reasons)}", end="")
    print()
    if options.plot:
        plot(heard, options.plot)


def plot(heard: Mapping[str, Mapping[str, Heard]], path: Path) -> None:
    plt = pyplot()

    figure, axes = plt.subplots(2, 2, figsize=(10, 5.2), width_ratios=(3, 1), sharey=True)
    colours = {"open": "#1f77b4", "closed": "#d62728"}
    for (montage, by_eyes), (left, right) in zip(heard.items(), axes, strict=True):
        for eyes, one in by_eyes.items():
            left.plot(one.times_s, one.focus, color=colours[eyes], lw=1.2)
            values = np.sort(list(one.seconds.values()))
            share = np.arange(1, len(values) + 1) / len(values)
            right.step(share, values, where="post", color=colours[eyes], lw=1.5, label=eyes)
        for axis in (left, right):
            axis.axhline(0.33, color="0.5", lw=0.8, ls="--")
            axis.axhline(0.66, color="0.5", lw=0.8, ls="--")
            axis.set_ylim(0, 1.02)
            axis.spines[["top", "right"]].set_visible(False)
        names = MONTAGES[montage] or MONTAGE
        left.set_title(f"{montage}: {' '.join(names)}", fontsize=9, loc="left")
        left.set_ylabel("focus")
        left.set_xlim(0, 60)
        right.set_xlim(0, 1)
    axes[0][1].legend(loc="upper left", fontsize=8, title="eyes", title_fontsize=8, frameon=False)
    axes[0][1].set_title("whole seconds, sorted", fontsize=9, loc="left")
    axes[1][0].set_xlabel("s")
    axes[1][1].set_xlabel("share")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
