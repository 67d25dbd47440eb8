"""Artifact scores against labels: the tables and the picture of docs/artifacts.md.

python -m benches.artifact_eval --fit         thresholds out of the training part
python -m benches.artifact_eval               the evaluation part, as Markdown
python -m benches.artifact_eval --plot FILE   and as a picture

Training: simulator seeds 101 to 104; eegmmidb R06 and R10; the first half of p300_gtec; the first
file of muse_ssvep. Evaluation: simulator seeds 1 to 8; all else. Needs the recordings
(PHANTOMD_DATA or ../shared/data).

A window of one second, every quarter of a second, has a blink when it holds the peak and
0.1 s on either side, and none when it keeps 0.4 s away; what lies between is left out. Intervals
are of 95 %, from drawing stretches of 4 s (the simulator: runs) again.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benches import artifact_data as data
from benches.artifact_data import Array, Labelled
from benches.artifact_truth import Truth, simulated
from benches.artifact_windows import (
    Bools,
    Sorted,
    Windows,
    auc,
    blink_windows,
    jaw_windows,
    of,
    stretches,
)
from benches.plotting import pyplot
from phantomd.contracts import MONTAGE
from phantomd.core.artifact import KINDS
from phantomd.signal import artifacts

TRAINING_SEEDS = range(101, 105)
SEEDS = range(1, 9)
FITTED = ("line", "blink", "emg", "pop", "drift")
CLEAN_QUANTILE, ARTIFACT_QUANTILE = 0.99, 0.10

# -- fitting ---------------------------------------------------------------------------------------


def fit() -> dict[str, float]:
    """Thresholds: halfway, in logarithms, between what 99 % of a recording's clean windows stay
    under (the highest recording counts) and what 90 % of a condition's artifacts reach (the lowest
    counts); the former where they overlap. EMG of slow devices: 1 at least, since no EEG is as
    dense from 30 to 47 Hz as from 4 to 30 Hz. Two digits."""
    clean: dict[str, list[float]] = {kind: [] for kind in (*FITTED, "emg slow")}
    present: dict[str, list[float]] = {kind: [] for kind in clean}

    def add(kind: str, values: Array, into: dict[str, list[float]], quantile: float) -> None:
        values = values[~np.isnan(values)]
        if len(values):
            into[kind].append(float(np.quantile(values, quantile)))

    for kind, name, sorted_ in simulated(TRAINING_SEEDS):
        if kind not in FITTED:
            continue
        values, positive = sorted_.all()
        named = "emg slow" if name in ("160 Hz", "128 Hz") else kind
        add(named, values[positive], present, ARTIFACT_QUANTILE)
        add(named, values[~positive], clean, CLEAN_QUANTILE)
    r06, r10 = data.eegmmidb("R06"), data.eegmmidb("R10", 124.0)
    for few in (False, True):
        recording = r06.of_channels(MONTAGE) if few else r06
        windows = of(recording)
        blinks, others = blink_windows(recording, windows)
        add("blink", windows.of("blink")[blinks], present, ARTIFACT_QUANTILE)
        for kind in FITTED:
            named = "emg slow" if kind == "emg" else kind
            add(named, windows.of(kind)[others], clean, CLEAN_QUANTILE)
        windows = of(r10.of_channels(MONTAGE) if few else r10)
        for kind in ("line", "emg", "pop"):  # its blinks are not labelled
            named = "emg slow" if kind == "emg" else kind
            add(named, windows.of(kind), clean, CLEAN_QUANTILE)
    p300 = data.p300()
    seconds = len(p300.uv) / p300.rate_hz
    for part in (
        p300.part("p300_gtec, first half", 0.0, seconds / 2),
        data.muse("muse_ssvep/data_2017-09-14-21.20.04.csv"),
    ):
        for kind in ("line", "emg", "pop", "drift"):
            add(kind, of(part).of(kind), clean, CLEAN_QUANTILE)
    found = {}
    for kind, low in clean.items():
        most, least = max(low), min(present[kind])
        middle = math.sqrt(most * least) if most < least else most
        if kind == "emg slow":
            middle = max(middle, 1.0)
        found[kind] = float(f"{middle:.2g}")
        print(f"{kind:9s} clean {most:6.3g}  artifact {least:6.3g}  threshold {found[kind]:.2g}")
    return found


# -- the evaluation part ---------------------------------------------------------------------------


def row(kind: str, name: str, sorted_: Sorted, curve: artifacts.Curve) -> str:
    values, positive = sorted_.all()
    low, high = sorted_.interval()
    caught = (values[positive] >= curve.threshold).mean()
    mistaken = (values[~positive] >= curve.threshold).mean()
    return (
        f"| {kind} | {name} | {positive.sum()} | {(~positive).sum()} "
        f"| {auc(values, positive):.3f} ({low:.3f}–{high:.3f}) "
        f"| {100 * caught:.1f} % | {100 * mistaken:.1f} % |"
    )


def curve_of(kind: str, rate_hz: float) -> artifacts.Curve:
    slow = kind == "emg" and rate_hz < artifacts.EMG_LEAST_RATE_HZ
    return artifacts.EMG_SLOW if slow else artifacts.CURVES[kind]


def decimated(recording: Labelled, factor_name: str, up: int, down: int) -> Labelled:
    from scipy.signal import resample_poly

    uv = np.asarray(resample_poly(recording.uv - recording.uv[0], up, down, axis=0))
    return Labelled(
        f"{recording.name}, {factor_name}",
        recording.labels,
        recording.rate_hz * up / down,
        uv,
        blinks=recording.blinks,
        jaw=recording.jaw,
        unclear=recording.unclear,
    )


def compare(recording: Labelled, kind: str, window_s: float = artifacts.WINDOW_S) -> Sorted:
    windows = of(recording, window_s)
    which = blink_windows if kind == "blink" else jaw_windows
    positive, negative = which(recording, windows)
    sorted_ = Sorted()
    sorted_.add(windows.of(kind), positive, negative, stretches(windows))
    return sorted_


def real() -> list[tuple[str, str, Sorted, artifacts.Curve]]:
    found = []
    r01, v6, many = data.eegmmidb("R01"), data.openbci_v6(), data.blinks()
    for recording, window_s in ((r01, 1.0), (v6, 1.0), (many, 0.5)):
        name = f"{recording.name}, {window_s:g} s windows"
        sorted_ = compare(recording, "blink", window_s)
        found.append(("blink", name, sorted_, artifacts.CURVES["blink"]))
    pooled = Sorted()
    for recording in (r01, v6, many):
        sorted_ = compare(recording, "blink")
        pooled.values += sorted_.values
        pooled.positive += sorted_.positive
    found.append(("blink", "all three, 1 s windows", pooled, artifacts.CURVES["blink"]))
    for recording in (v6, decimated(v6, "at 160 Hz", 16, 25), decimated(v6, "at 128 Hz", 64, 125)):
        curve = curve_of("emg", recording.rate_hz)
        found.append(("emg", f"{recording.name}, jaw", compare(recording, "emg"), curve))
    coarse = Sorted()
    windows = of(v6)
    inside = windows.share(data.V6_COARSE_BLINKS) >= 0.99
    outside = ~windows.touches(data.V6_COARSE_BLINKS)
    coarse.add(windows.of("blink"), inside, outside, stretches(windows))
    name = "OpenBCI v6, by the folder's coarse spans"
    found.append(("blink", name, coarse, artifacts.CURVES["blink"]))
    coarse = Sorted()
    inside = windows.share(data.V6_COARSE_JAW) >= 0.99
    outside = ~windows.touches(data.V6_COARSE_JAW)
    coarse.add(windows.of("emg"), inside, outside, stretches(windows))
    found.append(("emg", name, coarse, artifacts.CURVES["emg"]))
    return found


def rejections() -> list[tuple[str, Windows, Bools]]:
    """Recordings, and which of their windows count."""
    found = []
    r01, r02 = data.eegmmidb("R01"), data.eegmmidb("R02")
    for recording in (r01, r02, r01.of_channels(MONTAGE), r02.of_channels(MONTAGE)):
        windows = of(recording)
        every = np.ones(len(windows.ends), bool)
        if recording.blinks:
            free = blink_windows(recording, windows)[1]
            found.append((f"{recording.name}, without the labelled blinks", windows, free))
        found.append((f"{recording.name}, all windows", windows, every))
    p300 = data.p300()
    seconds = len(p300.uv) / p300.rate_hz
    for recording in (
        p300.part("p300_gtec, second half", seconds / 2, seconds),
        data.openbci_v6().part("OpenBCI v6, 30 to 60 s", 30.0, 60.0),
        data.muse("muse_ssvep/data_2017-09-14-21.22.51.csv"),
        data.muse("muse_p300/data_2017-02-04-15_47_49.csv"),
    ):
        windows = of(recording)
        found.append((recording.name, windows, np.ones(len(windows.ends), bool)))
    quiet = "blink_per_min=0&emg_per_min=0&pop_per_min=0"
    for name, options in (
        ("simulator, no artifacts", quiet),
        ("simulator, alpha 60 µV RMS", f"{quiet}&alpha_uv=60"),
        ("simulator, eyes closed, alpha 100 µV RMS", f"{quiet}&eyes=closed&alpha_uv=33.3"),
        ("simulator, 60 Hz of 16 µV", f"{quiet}&line_hz=60&line_uv=16"),
    ):
        windows = Truth(options, 1).windows
        found.append((name, windows, np.ones(len(windows.ends), bool)))
    return found


def tell() -> None:
    print("| kind | what | with | without | AUC (95 %) | caught | mistaken |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind, name, sorted_, curve in real():
        print(row(kind, name, sorted_, curve))
    for kind, name, sorted_ in simulated(SEEDS):
        slow = name in ("160 Hz", "128 Hz")
        curve = artifacts.EMG_SLOW if slow else artifacts.CURVES[kind]
        print(row(kind, f"simulator, {name}", sorted_, curve))
    print()
    print("| recording | windows | rejected | for |")
    print("|---|---:|---:|---|")
    for name, windows, which in rejections():
        reasons = Counter(r for i in np.flatnonzero(which) for r in windows.reasons[i])
        told = ", ".join(f"{kind} {n}" for kind, n in reasons.most_common())
        share = 100 * windows.rejected[which].mean()
        print(f"| {name} | {which.sum()} | {share:.1f} % | {told} |")
    closed = data.blinks()
    windows = of(closed)
    positive, _ = blink_windows(closed, windows)
    caught = windows.scores[positive, KINDS.index("blink")] >= 0.5
    print()
    print(f"blinks, 1 s windows: {caught.sum()} of {positive.sum()} with a blink are found")


# -- the picture -----------------------------------------------------------------------------------


def draw(path: Path) -> None:
    plt = pyplot()

    figure, axes = plt.subplots(3, 1, figsize=(11, 9), constrained_layout=True)
    r01, v6 = data.eegmmidb("R01"), data.openbci_v6()
    kinds: Sequence[str] = ("blink", "emg", "pop", "drift")
    for axis, recording, shown, marked in (
        (axes[0], r01, kinds, "blink"),
        (axes[1], v6, (*kinds, "line"), "blink"),
    ):
        draw_scores(axis, recording, shown)
        axis.set_title(
            f"{recording.name}: scores of the window that ends there; "
            f"dashes: {marked}s by eye" + ("; grey: jaw" if recording.jaw else ""),
            fontsize=9,
        )
    axis = axes[2]
    clean = Truth("blink_per_min=0&emg_per_min=0&pop_per_min=0", 1)
    sets: list[tuple[str, Array]] = [("simulator, clean", clean.windows.of("blink"))]
    found = Truth("blink_per_min=15", 1)
    held = found.amount["blink"] >= 50.0
    sets.append(("simulator, blinks", found.windows.of("blink")[held]))
    for recording in (r01, v6):
        windows = of(recording)
        positive, negative = blink_windows(recording, windows)
        sets.append((f"{recording.name}, none", windows.of("blink")[negative]))
        sets.append((f"{recording.name}, blinks", windows.of("blink")[positive]))
    sets.append(("eegmmidb R02, eyes closed", of(data.eegmmidb("R02")).of("blink")))
    for i, (name, values) in enumerate(sets):
        height = np.arange(1, len(values) + 1) / len(values)
        axis.step(np.sort(values), height, color=f"C{i}", label=name, lw=1.2)
    axis.axvline(artifacts.CURVES["blink"].threshold, color="k", ls=":", lw=1)
    axis.set(xscale="log", xlim=(0.1, 10.0), ylabel="share of windows")
    axis.set_xlabel("blink value (dotted: the threshold)")
    ticks = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_scores(axis: Any, recording: Labelled, kinds: Sequence[str]) -> None:
    windows = of(recording)
    for first, last in recording.jaw:
        axis.axvspan(first, last, color="0.88", lw=0)
    for peak in recording.blinks:
        axis.axvline(peak, color="k", ls="--", lw=0.5)
    for kind in kinds:
        scores = windows.scores[:, KINDS.index(kind)]
        axis.plot(windows.end_s, scores, label=kind, color=f"C{KINDS.index(kind)}", lw=1)
    axis.axhline(0.5, color="0.5", lw=0.7)
    axis.set(xlim=(0, windows.end_s[-1]), ylim=(-0.02, 1.02), xlabel="s")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.fit:
        fit()
        return
    tell()
    if options.plot:
        draw(options.plot)


if __name__ == "__main__":
    main()
