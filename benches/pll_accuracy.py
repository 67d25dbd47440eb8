"""How right the phase is at the newest sample: the table and the picture of docs/pll.md.

python -m benches.pll_accuracy                            the tables as Markdown
python -m benches.pll_accuracy --plot docs/img/pll.png    and the picture
python -m benches.pll_accuracy --trials 20000            longer

Truth is A cos(phase) in white noise, SNR = A² / 2 sigma² a sample, phase uniform, frequency
uniform within ±1 Hz of the reference, both unknown. Every method gets the same newest second. The
bound is Cramér and Rao's for the phase at a window's end with amplitude, phase and frequency
unknown, sqrt(4 / (N SNR)) (Rife and Boorstyn 1974, at n = N).
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, hilbert, sosfiltfilt, sosfreqz

from benches.plotting import pyplot
from phantomd.core.pll import FIELDS, PhaseTracker
from phantomd.formats.edf import read_edf

Array = npt.NDArray[np.float64]

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
REFS_HZ = (6.0, 10.0, 12.3, 20.0, 40.0)
RATES_HZ = (125.0, 250.0, 500.0, 1000.0)
PHASE, PLV, SNR = (FIELDS.index(name) for name in ("phase_rad", "plv", "snr_db"))


class Score(NamedTuple):
    bias_deg: float
    sd_deg: float
    defined: float


def wrapped(rad: Array) -> Array:
    return np.asarray((rad + np.pi) % (2 * np.pi) - np.pi)


def bound_deg(snr_db: float, n: int) -> float:
    return math.degrees(math.sqrt(4 / (n * 10 ** (snr_db / 10))))


def score(estimate: Array, truth: Array) -> Score:
    """Linear sd and mean about the circular mean: comparable to the bound, and honest on noise."""
    there = np.isfinite(estimate)
    if there.sum() < 2:
        return Score(math.nan, math.nan, float(there.mean()))
    error = wrapped(estimate - truth)[there]
    mean = float(np.angle(np.exp(1j * error).mean()))
    spread = wrapped(error - mean)
    bias = mean + float(spread.mean())
    return Score(math.degrees(bias), math.degrees(float(spread.std())), float(there.mean()))


# -- the peers: [samples, trials] to the phase at the last sample ----------------------------------


def by_hilbert(x: Array, ref_hz: float, rate_hz: float) -> Array:
    """The end of scipy.signal.hilbert over the window, its mean taken out."""
    return np.asarray(np.angle(hilbert(x - x.mean(axis=0), axis=0)[-1]))


def by_filtered_hilbert(x: Array, ref_hz: float, rate_hz: float) -> Array:
    """Band-passed both ways before (Butterworth, second order, ref ± 2 Hz), as is usual offline."""
    sos = butter(2, (ref_hz - 2, ref_hz + 2), "bandpass", output="sos", fs=rate_hz)
    return by_hilbert(sosfiltfilt(sos, x - x.mean(axis=0), axis=0), ref_hz, rate_hz)


def by_echt(x: Array, ref_hz: float, rate_hz: float) -> Array:
    """Endpoint-corrected Hilbert transform (Schreglmann et al. 2021): the analytic signal's
    spectrum times a causal band-pass (Butterworth, second order, ref/2 wide, without delay at the
    reference), at the last sample.
    """
    n = len(x)
    spectrum = np.fft.fft(x - x.mean(axis=0), axis=0)
    weight = np.zeros(n)
    weight[0] = 1
    weight[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        weight[n // 2] = 1
    middle = math.sqrt(1 + 1 / 16)
    edges = ref_hz * np.array([middle - 0.25, middle + 0.25])
    sos = butter(2, edges, "bandpass", output="sos", fs=rate_hz)
    _, response = sosfreqz(sos, worN=np.fft.fftfreq(n, 1 / rate_hz), fs=rate_hz)
    spectrum *= (weight * response)[:, None]
    return np.asarray(np.angle(np.fft.ifft(spectrum, axis=0)[-1]))


PEERS: dict[str, Callable[[Array, float, float], Array]] = {
    "hilbert": by_hilbert,
    "band-passed hilbert": by_filtered_hilbert,
    "ecHT": by_echt,
}


def by_tracker(x: Array, ref_hz: float, rate_hz: float, lead: int = 0) -> Array:
    """[channels, fields]; `lead` samples of silence before shift the window against the hops."""
    tracker = PhaseTracker(ref_hz, rate_hz=rate_hz, channels=x.shape[1])
    if lead:
        tracker.push(np.zeros((lead, x.shape[1])))
    tracker.push(x)
    return np.asarray(tracker.read())


# -- truth -----------------------------------------------------------------------------------------


def coloured(rng: np.random.Generator, n: int, trials: int, exponent: float) -> Array:
    """[n, trials]: power 1/f^exponent, cut from eight times as much; variance 1 if white."""
    if exponent == 0:
        return rng.standard_normal((n, trials))
    spectrum = np.fft.rfft(rng.standard_normal((8 * n, trials)), axis=0)
    turns = np.fft.rfftfreq(8 * n)
    turns[0] = turns[1]
    whole = np.fft.irfft(spectrum / turns[:, None] ** (exponent / 2), axis=0)
    return np.asarray(whole[3 * n : 4 * n])


def draw(
    rng: np.random.Generator, snr_db: float, ref_hz: float, rate_hz: float, trials: int
) -> tuple[Array, Array]:
    """Samples [one second, trials] with sigma 1, and the phases at the last."""
    n = round(rate_hz)
    phase = rng.uniform(-np.pi, np.pi, trials)
    hertz = ref_hz + rng.uniform(-1, 1, trials)
    seconds = (np.arange(n) - (n - 1))[:, None] / rate_hz
    wave = np.cos(2 * np.pi * hertz * seconds + phase)
    return math.sqrt(2 * 10 ** (snr_db / 10)) * wave + rng.standard_normal((n, trials)), phase


def compare(
    snr_db: float, ref_hz: float, rate_hz: float, trials: int, seed: int = 0
) -> dict[str, Score]:
    """Ours, and each peer on the same windows."""
    key = [seed, round(100 * ref_hz), round(rate_hz), round(10 * snr_db + 999)]
    rng = np.random.default_rng(key)
    ours: list[Array] = []
    truth: list[Array] = []
    peers: dict[str, list[Array]] = {name: [] for name in PEERS}
    left = trials
    while left > 0:
        count = min(left, 512)
        x, phase = draw(rng, snr_db, ref_hz, rate_hz, count)
        ours.append(by_tracker(x, ref_hz, rate_hz, int(rng.integers(32)))[:, PHASE])
        for name, peer in PEERS.items():
            peers[name].append(peer(x, ref_hz, rate_hz))
        truth.append(phase)
        left -= count
    phases = np.concatenate(truth)
    scores = {"phantomd": score(np.concatenate(ours), phases)}
    return scores | {name: score(np.concatenate(part), phases) for name, part in peers.items()}


def false_alarms(
    ref_hz: float, rate_hz: float, trials: int, exponent: float = 0.0, seed: int = 1
) -> float:
    rng = np.random.default_rng([seed, round(100 * ref_hz), round(rate_hz), round(10 * exponent)])
    n, hits, left = round(rate_hz), 0, trials
    while left > 0:
        count = min(left, 512)
        x = coloured(rng, n, count, exponent)
        lead = int(rng.integers(32))
        hits += int(np.isfinite(by_tracker(x, ref_hz, rate_hz, lead)[:, PHASE]).sum())
        left -= count
    return hits / trials


def mistreated(
    snr_db: float, ref_hz: float, rate_hz: float, trials: int, trouble: str, seed: int = 2
) -> Score:
    """Ours, with what real EEG adds to the same windows. "1/f noise" comes on top of the white, as
    dense at the reference: the local SNR is 3 dB less.
    """
    rng = np.random.default_rng([seed, round(100 * ref_hz), round(rate_hz)])
    x, phase = draw(rng, snr_db, ref_hz, rate_hz, trials)
    n = len(x)
    t = np.arange(n)[:, None] / rate_hz
    amplitude = math.sqrt(2 * 10 ** (snr_db / 10))
    if trouble in ("offset and drift", "all"):
        x += rng.uniform(-62e3, 62e3, trials)
        x += 30 * amplitude * np.cos(2 * np.pi * 0.3 * t + rng.uniform(0, 2 * np.pi, trials))
    if trouble in ("mains +20 dB", "all"):
        mains_hz = rng.choice([50.0, 60.0], trials) + rng.uniform(-0.1, 0.1, trials)
        x += 10 * amplitude * np.cos(2 * np.pi * mains_hz * t + rng.uniform(0, 2 * np.pi, trials))
    if trouble in ("1/f noise", "all"):
        slow = coloured(rng, n, trials, 1.0)
        spectrum = np.fft.rfft(slow, axis=0)
        here = np.abs(np.fft.rfftfreq(n, 1 / rate_hz) - ref_hz) < 3
        slow *= math.sqrt(n / float((np.abs(spectrum[here]) ** 2).mean()))
        x += slow
    if trouble in ("gap of 40 ms", "all"):
        start = int(rng.integers(0, n - round(0.04 * rate_hz)))
        x[start : start + round(0.04 * rate_hz)] = np.nan
    return score(by_tracker(x, ref_hz, rate_hz)[:, PHASE], phase)


TROUBLES = ("none", "offset and drift", "mains +20 dB", "1/f noise", "gap of 40 ms", "all")


# -- real EEG --------------------------------------------------------------------------------------


def on_eeg(path: Path, ref_hz: float, step_s: float = 0.25) -> tuple[float, float]:
    """Share of (channel, quarter of a second) that is defined, and that is locked."""
    recording = read_edf(path)
    x, rate_hz = recording.read(0, recording.n_samples), recording.rate_hz
    tracker = PhaseTracker(ref_hz, rate_hz=rate_hz, channels=x.shape[1])
    step, window = round(step_s * rate_hz), tracker.window
    tracker.push(x[:window])
    reports = [tracker.read()]
    for start in range(window, len(x) - step + 1, step):
        tracker.push(x[start : start + step])
        reports.append(tracker.read())
    table = np.array(reports)
    locked = table[:, :, FIELDS.index("locked")]
    return float(np.isfinite(table[:, :, PHASE]).mean()), float(locked.mean())


# -- tables ----------------------------------------------------------------------------------------


def row(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |")


def header(cells: list[str]) -> None:
    row(cells)
    row(["---"] + ["---:"] * (len(cells) - 1))


def told(part: Score, limit: float) -> str:
    if math.isnan(part.sd_deg):
        return "-"
    return f"{part.sd_deg:.2f} ({part.sd_deg / limit:.2f}), {part.bias_deg:+.2f}"


def sweep(ref_hz: float, rate_hz: float, trials: int) -> dict[float, dict[str, Score]]:
    return {snr: compare(snr, ref_hz, rate_hz, trials) for snr in SNRS_DB}


def print_sweep(table: dict[float, dict[str, Score]], ref_hz: float, rate_hz: float) -> None:
    print(f"\n{ref_hz:g} ± 1 Hz, {rate_hz:g} Hz, 1 s: sd in degrees (over the bound), bias\n")
    header(["SNR, dB", "bound", "phantomd", "defined", *PEERS])
    for snr, scores in table.items():
        limit, ours = bound_deg(snr, round(rate_hz)), scores["phantomd"]
        peers = [told(scores[name], limit) for name in PEERS]
        row([f"{snr:g}", f"{limit:.2f}", told(ours, limit), f"{ours.defined:.1%}", *peers])


def print_all_refs(trials: int) -> None:
    print("\nsd over the bound, bias in degrees, share defined\n")
    snrs = (-5.0, 10.0, 30.0)
    header(["ref, rate", *(f"{snr:g} dB" for snr in snrs), "white noise", "1/f", "1/f²"])
    for rate_hz in RATES_HZ:
        for ref_hz in REFS_HZ:
            cells = [f"{ref_hz:g} Hz at {rate_hz:g}"]
            for snr in snrs:
                ours = compare(snr, ref_hz, rate_hz, trials)["phantomd"]
                ratio = ours.sd_deg / bound_deg(snr, round(rate_hz))
                cells.append(f"{ratio:.2f}, {ours.bias_deg:+.2f}, {ours.defined:.1%}")
            alarms = (false_alarms(ref_hz, rate_hz, 4 * trials, k) for k in (0.0, 1.0, 2.0))
            row(cells + [f"{share:.2%}" for share in alarms])


def print_few_turns(trials: int) -> None:
    print("\nFew turns in a window, 250 Hz, 10 dB: sd over the bound, bias; false alarms\n")
    header(["ref", "10 dB", "white noise", "1/f", "1/f²"])
    for ref_hz in (2.0, 3.0, 4.0):
        ours = mistreated(10.0, ref_hz, 250.0, trials, "none")
        alarms = (false_alarms(ref_hz, 250.0, 4 * trials, k) for k in (0.0, 1.0, 2.0))
        ratio = ours.sd_deg / bound_deg(10.0, 250)
        cells = [f"{ref_hz:g} Hz", f"{ratio:.2f}, {ours.bias_deg:+.2f}"]
        row(cells + [f"{share:.2%}" for share in alarms])


def print_troubles(trials: int) -> None:
    print("\n10 dB, 250 Hz: sd over the bound (of the local SNR), bias in degrees, defined\n")
    header(["", *(f"{ref:g} Hz" for ref in REFS_HZ)])
    for trouble in TROUBLES:
        snr = 10.0 - (3.01 if trouble in ("1/f noise", "all") else 0)
        cells = [trouble]
        for ref_hz in REFS_HZ:
            ours = mistreated(10.0, ref_hz, 250.0, trials, trouble)
            ratio = ours.sd_deg / bound_deg(snr, 250)
            cells.append(f"{ratio:.2f}, {ours.bias_deg:+.2f}, {ours.defined:.1%}")
        row(cells)


def print_eeg(folder: Path) -> None:
    names = {"S001R01.edf": "eyes open", "S001R02.edf": "eyes closed"}
    paths = [folder / "eegmmidb" / name for name in names]
    if not all(path.exists() for path in paths):
        print(f"\nno recordings in {folder}: set PHANTOMD_DATA")
        return
    print("\nReal EEG, 64 channels, 60 s: share defined, locked\n")
    header(["", *(f"{ref:g} Hz" for ref in REFS_HZ)])
    for path in paths:
        shares = (on_eeg(path, ref_hz) for ref_hz in REFS_HZ)
        row([names[path.name], *(f"{a:.1%}, {b:.1%}" for a, b in shares)])


def plot(table: dict[float, dict[str, Score]], path: Path) -> None:
    plt = pyplot()

    snrs = np.array(SNRS_DB)
    limit = np.array([bound_deg(snr, 250) for snr in SNRS_DB])
    colours = ("#1f5fa8", "0.55", "#c8561b", "#3a8f4d")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    left.plot(snrs, limit, "k--", lw=1, label="Cramér–Rao bound")
    left.plot(snrs, 1.3 * limit, "k:", lw=1, label="1.3 × the bound (asked)")
    for name, colour in zip(["phantomd", *PEERS], colours, strict=True):
        scores = [table[snr][name] for snr in SNRS_DB]
        left.plot(snrs, [s.sd_deg for s in scores], "o-", ms=3.5, color=colour, label=name)
        right.plot(snrs, [s.bias_deg for s in scores], "o-", ms=3.5, color=colour, label=name)
    left.set(yscale="log", xlabel="SNR a sample, dB", ylabel="sd of the phase, degrees")
    right.axhspan(-1, 1, color="0.9", zorder=0, label="±1° (asked)")
    right.set(xlabel="SNR a sample, dB", ylabel="bias, degrees")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.suptitle("Phase at the newest sample: 10 ± 1 Hz in white noise, 1 s of 250 Hz")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1024)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    table = sweep(10.0, 250.0, chosen.trials)
    print_sweep(table, 10.0, 250.0)
    if chosen.plot:
        plot(table, chosen.plot)
    print_all_refs(chosen.trials)
    print_few_turns(chosen.trials)
    print_troubles(chosen.trials)
    print_eeg(Path(os.environ.get("PHANTOMD_DATA", "../shared/data")))


if __name__ == "__main__":
    main()
