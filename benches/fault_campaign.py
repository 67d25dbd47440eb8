"""Thousands of seeded fault schedules on a Cyton, in virtual time, and what must hold after each.

    python -m benches.fault_campaign [--schedules 2000] [--seconds 20] [--seed 1] [--one SEED]
                                    [--kinds clump,rate]

Bytes as the board sends them go through a radio with faults (phantomd/devices/fault_schedule.py),
the driver, the intake and the tick; what comes out is held against what was sent. Channel 1 counts
packets, so each frame of the grid says which instant of the board it shows. docs/faults.md has the
table that this prints.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomd.config import GridConfig
from phantomd.contracts import DeviceSpec, Flag
from phantomd.core.cyton import UV_PER_COUNT, CytonDriver, encode
from phantomd.core.engine import Engine, GridReader, grid_words
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.devices.fault_schedule import CHAOS_KINDS, Scheduled, chaos
from phantomd.devices.radio_faults import Faults, RadioFaults
from phantomd.engine.events import TickEvent
from phantomd.engine.plan import make_source

T0_NS = 10**12
PERIOD_NS = 4_000_000
LABELS = tuple(f"E{n}" for n in range(8))
#: Counts a packet in channel 1.
RAMP = 64
#: Each board's crystal is off by as much as this.
CRYSTAL_PPM = 100.0
N_VALUES = 11
WORDS = NATIVE_HEAD_WORDS + N_VALUES
LOST, RESET = 1, 2
#: Arrival: exponential, on top of no constant delay. As a pseudo-terminal on a busy host.
JITTER_NS = 200_000.0
FIRST_FAULT_S = 3.0
LAST_FAULT_S = 3.0
#: A second after a fault its traces are to be gone.
SETTLED_S = 1.0
#: A frame shows another instant than it says by at most this, then: the steps of the ramp are
#: exact, what is left is the clock.
RIGHT_NS = 1e6
#: Where index and time begin anew, the index is placed by the time that has passed.
PLACED_WITHIN = 3
#: Damage that may spell a packet: an invented sample, in a place where one was due.
AMBIGUOUS = ("cut", "insert", "garbage")
#: Of packets sent: so seldom is it.
AMBIGUOUS_MOST = 1e-5
MISSING, BRIDGED = int(Flag.MISSING), int(Flag.BRIDGED)


@dataclass
class Outcome:
    """What one schedule did."""

    seed: int
    schedule: list[Scheduled]
    sent: int = 0
    accepted: int = 0
    lost: int = 0
    #: Samples that a receiver could not tell from good ones (docs/cyton.md): there is no checksum.
    ambiguous: int = 0
    wrong: list[str] = field(default_factory=list)
    #: Kind to the largest error of a frame in µs: until a second after it, and from there to the
    #: next fault.
    soon_us: dict[str, float] = field(default_factory=dict)
    later_us: dict[str, float] = field(default_factory=dict)
    #: Kind to when, in seconds after its end, the error was last over RIGHT_NS.
    over_s: dict[str, float] = field(default_factory=dict)

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)


def schedule_of(seed: int, seconds: float, kinds: tuple[str, ...] = CHAOS_KINDS) -> list[Scheduled]:
    """Faults by chance; channel 1 is spared by those of the amplifier."""
    made = chaos(
        random.Random(seed), FIRST_FAULT_S, seconds - LAST_FAULT_S, apart_s=2.0, kinds=kinds
    )
    return [
        Scheduled(one.kind, one.start_s, one.end_s, {"channels": max(2.0, one.args["channels"])})
        if "channels" in one.args
        else one
        for one in made
    ]


class Sent:
    """What the board sends in a schedule: packets, when each is taken, and what becomes of it."""

    def __init__(self, seed: int, schedule: list[Scheduled], seconds: float) -> None:
        self.n = round(seconds * 1e9 / PERIOD_NS)
        draw = np.random.default_rng(seed)
        self.radio = RadioFaults(
            Faults(schedule=tuple(schedule), ppm=draw.uniform(-CRYSTAL_PPM, CRYSTAL_PPM)),
            random.Random(seed),
            float(PERIOD_NS),
        )
        self.counts = draw.integers(-(1 << 20), 1 << 20, (self.n, 8), np.int32)
        self.counts[:, 0] = RAMP * np.arange(self.n)
        self.taken_ns = np.array([self.radio.taken_ns(k) for k in range(self.n)])
        self._jitter_ns = draw.exponential(JITTER_NS, self.n)

    def reads(self) -> Iterator[tuple[int, bytes, bool]]:
        """Arrival, bytes, and whether the port was opened anew before."""
        base, back = 0, False
        waiting, waiting_ns, arrival_ns = bytearray(), -1.0, 0.0
        for number in range(self.n):
            ready_ns = self.radio.ready_ns(number)
            if ready_ns > waiting_ns and waiting:
                arrival_ns = max(arrival_ns, waiting_ns + self._jitter_ns[number])
                yield T0_NS + int(arrival_ns), bytes(waiting), back
                waiting.clear()
                back = False
            taken_s = self.taken_ns[number] * 1e-9
            self.counts[number] = self.radio.spoil_counts(self.counts[number], number)
            if self.radio.unplugged(taken_s) is not None:
                base, back = number + 1, True
                continue
            packet = encode(
                np.array([(number - base) & 255], np.uint8), self.counts[number : number + 1]
            )
            waiting += self.radio.spoil(packet, number, taken_s)
            waiting_ns = ready_ns
        if waiting:
            yield T0_NS + int(max(arrival_ns, waiting_ns)), bytes(waiting), back

    def instants(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """When the board was at this place between its packets."""
        return np.asarray(np.interp(position, np.arange(self.n), self.taken_ns)) + T0_NS


class Rig:
    """The intake of a Cyton and the tick behind it."""

    def __init__(self) -> None:
        self.intake = Intake(Ring(WORDS, 1 << 14), 250.0, N_VALUES, modulus=256)
        self.driver = CytonDriver(self.intake)
        self.engine = Engine(T0_NS)
        self.grid = Ring(grid_words(8), 1 << 13)
        spec = DeviceSpec("cyton", "cyton:", "cyton", 250.0, LABELS)
        self.engine.set_plan(
            [make_source(spec, self.intake, self.grid, self.engine.events, 0, GridConfig())]
        )
        self.reader = GridReader(self.grid, deadline_ns=7_800_000)
        self._wake_ns = T0_NS
        self.events: list[tuple[int, int, int, int, int, int, float]] = []
        self._next_event = 0

    def until(self, now_ns: int) -> None:
        """Ticks that are due before a read."""
        while self._wake_ns < now_ns:
            self._wake_ns = self.engine.step(self._wake_ns)

    def finish(self, now_ns: int) -> None:
        self.until(now_ns)
        events, self._next_event, lost = self.engine.take_events(self._next_event)
        assert lost == 0
        self.events += events

    def native(self) -> NDArray[np.uint64]:
        return np.stack([self.intake.ring.read(index) for index in range(self.intake.next)])


def play(seed: int, seconds: float, schedule: list[Scheduled]) -> Outcome:
    """One schedule, and all that must hold."""
    sent, rig = Sent(seed, schedule, seconds), Rig()
    out = Outcome(seed, schedule, sent.n)
    fed: list[tuple[int, bytes, bool]] = []
    middle: tuple[int, bytes, bytes] | None = None
    for arrival_ns, data, back in sent.reads():
        rig.until(arrival_ns)
        if back:
            rig.driver.reset()
        if middle is None and arrival_ns > T0_NS + seconds * 5e8:
            middle = (len(fed), rig.intake.state, rig.driver.state)
        rig.driver.feed(data, arrival_ns)
        fed.append((arrival_ns, data, back))
    rig.finish(T0_NS + int(seconds * 1e9) + 200_000_000)
    counters = rig.intake.counters()
    out.accepted, out.lost = counters["accepted"], counters["lost"]
    native = rig.native()
    _check_losses(out, rig, native, counters)
    _check_journal(out, fed, middle, native)
    first_of = _check_places(out, sent, native)
    _check_times(out, sent, rig, first_of)
    return out


def _check_losses(
    out: Outcome, rig: Rig, native: NDArray[np.uint64], counters: dict[str, int]
) -> None:
    """Each loss is there once: as frames of the ring, before a sample, in a gap event, and in the
    counters."""
    lost = (native[:, 2] & LOST).astype(bool)
    before = (native[:, 3] & 0xFFFFFFFF)[~lost]
    told = sum(event[4] for event in rig.events if event[1] == TickEvent.GAP)
    numbers = {
        "frames": int(lost.sum()),
        "lost_before": int(before.sum()),
        "gap events": told,
        "counters": counters["lost"],
    }
    out.check(len(set(numbers.values())) == 1, f"losses differ: {numbers}")
    out.check(
        counters["accepted"] + counters["lost"] == rig.intake.next, "accepted and lost are not all"
    )
    out.check(
        bool(np.isnan(native[lost][:, NATIVE_HEAD_WORDS:].view(np.float64)).all()),
        "a lost sample has a value",
    )


def _check_journal(
    out: Outcome,
    fed: list[tuple[int, bytes, bool]],
    middle: tuple[int, bytes, bytes] | None,
    native: NDArray[np.uint64],
) -> None:
    """A journal that begins in the middle (state, then bytes and resets) gives the same ring."""
    assert middle is not None
    begin, intake_state, driver_state = middle
    first = Intake.next_of(intake_state)
    intake = Intake(Ring(WORDS, 1 << 14, first=first), 250.0, N_VALUES, modulus=256)
    driver = CytonDriver(intake)
    intake.state, driver.state = intake_state, driver_state
    for arrival_ns, data, back in fed[begin:]:
        if back:
            driver.reset()
        driver.feed(data, arrival_ns)
    again = np.stack([intake.ring.read(index) for index in range(first, intake.next)])
    out.check(np.array_equal(again, native[first:]), "a replay from the middle differs")


def _check_places(out: Outcome, sent: Sent, native: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Each sample is one that was sent, whole, and in order: as many places on as packets. Returns
    the packet at each index, NaN where it is lost."""
    there = np.flatnonzero((native[:, 2] & LOST) == 0)
    uv = native[there][:, NATIVE_HEAD_WORDS : NATIVE_HEAD_WORDS + 8].view(np.float64)
    counts = np.rint(uv / UV_PER_COUNT).astype(np.int64)
    packet = counts[:, 0] // RAMP
    known = (counts[:, 0] % RAMP == 0) & (packet >= 0) & (packet < sent.n)
    exact = np.zeros(len(there), bool)
    exact[known] = (counts[known] == sent.counts[packet[known]]).all(axis=1)
    taken_s = (native[there, 0].view(np.int64) - T0_NS) * 1e-9
    spelt = np.zeros(len(there), bool)
    for one in out.schedule:
        if one.kind in AMBIGUOUS:
            spelt |= (taken_s >= one.start_s) & (taken_s <= one.end_s + 0.1)
    out.ambiguous = int((~exact & spelt).sum())
    out.check(bool((exact | spelt).all()), f"{np.count_nonzero(~exact & ~spelt)} samples invented")
    there, packet, reset = there[exact], packet[exact], (native[there[exact], 2] & RESET) != 0
    shift = packet - there
    moved = np.flatnonzero((np.diff(shift) != 0) & ~reset[1:])
    out.check(
        moved.size == 0, f"{moved.size} samples out of place, the first at {there[moved[:1]]}"
    )
    for at in np.flatnonzero(reset[1:]) + 1:
        off = int(shift[at] - shift[at - 1])
        out.check(abs(off) <= PLACED_WITHIN, f"placed {off} samples off after coming back")
    at_index = np.full(len(native), np.nan)
    at_index[there] = packet
    return at_index


def _check_times(out: Outcome, sent: Sent, rig: Rig, packet_at: NDArray[np.float64]) -> None:
    """A frame's time is that of the instant which it shows."""
    frames = rig.reader.frames(0, rig.grid.next)
    whole = frames[(frames["flags"] & (MISSING | BRIDGED)) == 0]
    position = whole["values"][:, 0] / UV_PER_COUNT / RAMP
    error_ns = np.abs(whole["t_ns"] - sent.instants(position))
    t_s = (whole["t_ns"] - T0_NS) * 1e-9
    seconds = sent.taken_ns[-1] * 1e-9
    for k, one in enumerate(out.schedule):
        end_s = _end_s(one)
        next_s = out.schedule[k + 1].start_s if k + 1 < len(out.schedule) else seconds
        soon = (t_s >= one.start_s) & (t_s < end_s + SETTLED_S)
        later = (t_s >= end_s + SETTLED_S) & (t_s < next_s)
        _most(out.soon_us, one.kind, error_ns[soon])
        _most(out.later_us, one.kind, error_ns[later])
        after = (t_s >= end_s) & (t_s < next_s)
        late = np.flatnonzero(after & (error_ns > RIGHT_NS))
        over_s = float(t_s[late[-1]] - end_s) if late.size else 0.0
        out.over_s[one.kind] = max(over_s, out.over_s.get(one.kind, 0.0))
        worst = float(error_ns[later].max(initial=0.0))
        out.check(
            worst <= RIGHT_NS, f"{one}: {worst / 1e6:.2f} ms off {SETTLED_S:g} s after its end"
        )
    most = float(error_ns[t_s > 1.0].max(initial=0.0))
    out.check(most < 200e6, f"a frame is {most / 1e6:.0f} ms off")


def _end_s(one: Scheduled) -> float:
    """When its last packet is past."""
    if one.kind == "burst":
        return one.start_s + one.args["n"] * PERIOD_NS * 1e-9
    if one.kind == "wrap":
        return one.start_s + one.args["turns"] * 256 * PERIOD_NS * 1e-9
    return one.start_s if math.isinf(one.end_s) else one.end_s


def _most(into: dict[str, float], kind: str, error_ns: NDArray[np.float64]) -> None:
    if error_ns.size:
        into[kind] = max(into.get(kind, 0.0), float(error_ns.max()) / 1e3)


@dataclass
class Tally:
    """All schedules together: nothing here grows with their number but what broke."""

    schedules: int = 0
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: int = 0
    lost: int = 0
    ambiguous: int = 0
    soon_us: dict[str, float] = field(default_factory=dict)
    later_us: dict[str, float] = field(default_factory=dict)
    over_s: dict[str, float] = field(default_factory=dict)
    wrong: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.sent += outcome.sent
        self.lost += outcome.lost
        self.ambiguous += outcome.ambiguous
        for one in outcome.schedule:
            self.faults[one.kind] += 1
        for name in ("soon_us", "later_us", "over_s"):
            mine = getattr(self, name)
            for kind, value in getattr(outcome, name).items():
                mine[kind] = max(value, mine.get(kind, 0.0))
        if outcome.wrong:
            self.wrong.append(outcome)


def campaign(
    first_seed: int, n: int, seconds: float, kinds: tuple[str, ...] = CHAOS_KINDS
) -> tuple[Tally, int, int]:
    """What came of it, and resident memory in KiB after a tenth of them and at the end."""
    tally = Tally()
    early_kib = 0
    for seed in range(first_seed, first_seed + n):
        tally.add(play(seed, seconds, schedule_of(seed, seconds, kinds)))
        if tally.schedules == max(1, n // 10):
            early_kib = _resident_kib()
    return tally, early_kib, _resident_kib()


def _resident_kib() -> int:
    """Now, not at the most."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def table(tally: Tally) -> str:
    """A row a kind of fault."""
    lines = [
        "| fault | times | largest error until 1 s after µs | from 1 s after on µs "
        "| last over 1 ms, s after its end |",
        "|---|---|---|---|---|",
    ]
    for kind, times in sorted(tally.faults.items()):
        soon, later, over = (
            getattr(tally, name).get(kind, 0.0) for name in ("soon_us", "later_us", "over_s")
        )
        lines.append(f"| `{kind}` | {times} | {soon:.0f} | {later:.0f} | {over:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of virtual time each")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--kinds", type=lambda text: tuple(text.split(",")), default=CHAOS_KINDS)
    parser.add_argument("--one", type=int, help="this seed alone, and its schedule")
    asked = parser.parse_args()
    if asked.one is not None:
        outcome = play(asked.one, asked.seconds, schedule_of(asked.one, asked.seconds, asked.kinds))
        print(",".join(str(one) for one in outcome.schedule))
        print("\n".join(outcome.wrong) or "all holds")
        return bool(outcome.wrong)
    tally, early_kib, late_kib = campaign(asked.seed, asked.schedules, asked.seconds, asked.kinds)
    print(
        f"{tally.schedules} schedules, {sum(tally.faults.values())} faults, "
        f"{tally.sent} packets, {tally.lost} lost, "
        f"{tally.ambiguous} that nobody could tell from good ones; "
        f"resident memory {early_kib} KiB after a tenth, {late_kib} KiB at the end"
    )
    print(table(tally))
    for outcome in tally.wrong[:20]:
        print(f"seed {outcome.seed}: {'; '.join(outcome.wrong)}")
    print(f"{len(tally.wrong)} schedules of {tally.schedules} broke something")
    return bool(tally.wrong) or tally.ambiguous > AMBIGUOUS_MOST * tally.sent + 3


if __name__ == "__main__":
    sys.exit(main())
