"""The specification's validation checklist, judged from records of what a decoder did."""

from __future__ import annotations

import msgspec
import numpy as np

from phantomd.gauntlet.play import Play
from phantomd.gauntlet.score import judged, latency, score

INFERENCE_MS = 25.0
LOOP_MS = 50.0
SYNC_S = 60.0
#: Of the packets, that have to be answered; and that may be late while it counts as synchronous.
ANSWERED = 0.99
LATE = 0.001
#: Without an answer for so long, the loop is open (csrc/pd_session.h).
SILENCE_S = 0.25


class Line(msgspec.Struct, frozen=True):
    """One line of the list."""

    asks: str
    passed: bool
    seen: str


def connects(came: bool, waited_s: float) -> Line:
    asks = "can connect to the stream"
    return Line(asks, came, "a decoder answered" if came else f"nobody within {waited_s:g} s")


def decodes(play: Play) -> Line:
    """Only who can read a packet's map answers with its ``seq``."""
    s = score(play)
    passed = s.answered > 0 and s.invalid == 0
    return Line(
        "can decode MessagePack packets",
        passed,
        f"{s.answered} answers matched to their packets, {s.invalid} refused",
    )


def extracts(normal: Play, silent: Play, n_units: int) -> Line:
    """The same bins once as they are and once with every unit silent: who reads the counts
    answers differently, and who ignores them does not."""
    asks = f"can extract {n_units}-channel spike counts"
    bins, here, there = np.intersect1d(
        normal.records["bin"][normal.answered],
        silent.records["bin"][silent.answered],
        return_indices=True,
    )
    if len(bins) < 10:
        return Line(
            asks, False, f"only {len(bins)} bins were answered both with spikes and without"
        )
    with_spikes = normal.decoded_velocity[normal.answered][here]
    without = silent.decoded_velocity[silent.answered][there]
    # Answers that merely jitter would differ too: with spikes they must follow them.
    spread = float(with_spikes.std(axis=0).max())
    idle = float(without[len(without) // 2 :].std(axis=0).max())
    differs = float(np.abs(with_spikes - without).max())
    if spread == 0.0 or differs == 0.0:
        return Line(asks, False, "its answers are the same whatever the spikes are")
    passed = idle < 0.5 * spread
    return Line(
        asks,
        passed,
        f"answers vary by {spread:.3g} with spikes and {idle:.3g} with every unit silent",
    )


def infers_in_time(play: Play) -> Line:
    """The loop's latency holds the inference and both ways: an upper bound."""
    asks = f"inference latency < {INFERENCE_MS:g} ms"
    found = latency(play.loop_ms)
    if found is None:
        return Line(asks, False, "no answers")
    return Line(
        asks,
        found.p99_ms < INFERENCE_MS,
        f"packet out to answer in: p50 {found.p50_ms:.2f}, p99 {found.p99_ms:.2f} ms",
    )


def sends_velocities(play: Play) -> Line:
    s = score(play)
    part = s.answered / s.packets if s.packets else 0.0
    moves = bool(np.abs(play.decoded_velocity[play.answered]).max(initial=0.0) > 0)
    return Line(
        "can encode and send velocity predictions",
        part >= ANSWERED and moves,
        f"{100 * part:.2f} % of {s.packets} packets answered"
        + ("" if moves else ", all with no velocity at all"),
    )


def keeps_synchrony(play: Play, seconds: float) -> Line:
    """Late answers, and the longest silence."""
    part = judged(play)
    s = score(play)
    longest_s = longest_silence(part) * part.bin_s
    late = s.desyncs / s.packets if s.packets else 1.0
    enough = len(part) * part.bin_s >= min(seconds, SYNC_S) - 1e-6
    return Line(
        f"maintains synchronization for > {SYNC_S:g} seconds",
        enough and seconds >= SYNC_S and late <= LATE and longest_s <= SILENCE_S,
        f"{len(part) * part.bin_s:.1f} s: {s.desyncs} of {s.packets} answers over {LOOP_MS:g} ms, "
        f"longest silence {1e3 * longest_s:.0f} ms"
        + ("" if seconds >= SYNC_S else f"; only {seconds:g} s were asked for"),
    )


def longest_silence(play: Play) -> int:
    """Packets in a row without an answer."""
    longest = run = 0
    for answered in play.answered:
        run = 0 if answered else run + 1
        longest = max(longest, run)
    return longest


def comes_back(cuts: int, back_after_s: float | None, waited_s: float) -> Line:
    asks = "handles network disconnections gracefully"
    if not cuts:
        return Line(asks, False, "its connection could not be cut")
    if back_after_s is None:
        return Line(asks, False, f"cut off, it had not come back within {waited_s:g} s")
    return Line(asks, True, f"cut off, it answered again after {back_after_s:.2f} s")
