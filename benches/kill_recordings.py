"""Kills a recording daemon at random instants, and reads what is left with MNE.

`python -m benches.kill_recordings [--kills N] [--seed S]`. Each daemon is a process of its own that
records the simulator, with losses and markers, until SIGKILL. Then: MNE opens the file, no more
than the last second is missing, and each sample is the simulator's own, or NaN where it was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import select
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.config import load
from phantomd.contracts import MONTAGE, Marker
from phantomd.core.engine import now_ns
from phantomd.daemon import Daemon
from phantomd.devices.base import Address
from phantomd.devices.simulator import open_simulator
from phantomd.records import clockmap
from phantomd.records.clockmap import Head, Note, Samples

RATE_HZ = 250.0
LONGEST_S = 4.0
_START_S = 60.0
_MARK_S = 0.05


@dataclass(frozen=True)
class Killed:
    """What is left of one: ``missing_s`` from its last row to the kill."""

    after_s: float
    rows: int
    missing_s: float
    markers: int
    wrong: str


def kill_one(directory: Path, seed: int, after_s: float) -> Killed:
    """Records until ``after_s`` after the recording began, then looks. The daemon is a fork."""
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told)
            asyncio.run(_record(directory, seed, tells))
            status = 0
        finally:
            os._exit(status)
    os.close(tells)
    try:
        ready, _, _ = select.select([told], [], [], _START_S)
        if not ready or os.read(told, 1) != b"r":
            return Killed(after_s, 0, 0.0, 0, "it did not come up")
        time.sleep(after_s)
    finally:
        os.kill(child, signal.SIGKILL)
        killed_ns = now_ns()
        os.waitpid(child, 0)
        os.close(told)
    return _look(directory / "sessions" / "killed.eeg", seed, after_s, killed_ns)


async def _record(directory: Path, seed: int, tells: int) -> None:
    settings = (
        "streams.base_port=0",
        f'daemon.state="{directory}"',
        f'devices=["{_address(seed)}"]',
    )
    daemon = Daemon(
        load(None, settings), settings=settings, control_path=directory / "control.sock"
    )
    await daemon.start()
    while daemon.engine.slots[0].spec is None:
        await asyncio.sleep(0.01)
    await daemon.recorder.start("killed")
    os.write(tells, b"r")
    number = 0
    while True:
        daemon.markers.put(Marker(now_ns(), "ui", f"mark {number}", {"number": number}))
        number += 1
        await asyncio.sleep(_MARK_S)


def _address(seed: int) -> str:
    return f"simulator:?seed={seed}&drop=0.01"


def _look(path: Path, seed: int, after_s: float, killed_ns: int) -> Killed:
    import mne

    if not path.with_suffix(".vhdr").exists():  # it appears with the first rows
        rows = path.stat().st_size // (4 * len(MONTAGE))
        return Killed(after_s, rows, after_s, 0, "rows without a header" if rows > 25 else "")
    try:
        raw = mne.io.read_raw_brainvision(path.with_suffix(".vhdr"), preload=True, verbose="error")
    except Exception as error:  # whatever MNE says of it is what is asked here
        return Killed(after_s, 0, 0.0, 0, f"MNE: {error!r}")
    said = list(clockmap.entries(path.with_suffix(".clock")))
    head = said[0]
    assert isinstance(head, Head)
    samples = [entry for entry in said if isinstance(entry, Samples)]
    notes = [entry for entry in said if isinstance(entry, Note)]
    index = np.concatenate([e.first + np.arange(len(e.flags)) for e in samples])
    t_ns = np.concatenate([np.frombuffer(e.t_ns, "<i8") for e in samples])
    known = t_ns > clockmap.NO_POSITION
    wrong = _compare(raw, head.first, seed)
    rows = raw.n_times
    last = head.first + rows - 1
    if not known.any():  # the clock was not locked yet: by the kill alone
        return Killed(after_s, rows, after_s - rows / RATE_HZ, len(notes), wrong)
    at = np.flatnonzero(known)[-1]
    last_ns = t_ns[at] + (last - index[at]) * 1e9 / RATE_HZ
    comments = [text for text in raw.annotations.description if text.startswith("Comment/mark")]
    if not len(notes) - 1 <= len(comments) <= len(notes) + 1:
        wrong = wrong or f"{len(comments)} markers for MNE, {len(notes)} in the clock"
    return Killed(after_s, rows, (killed_ns - last_ns) * 1e-9, len(comments), wrong)


def _compare(raw: Any, first: int, seed: int) -> str:
    """With the simulator's own samples; "" where nothing differs."""
    device = open_simulator(Address.parse(_address(seed)), MONTAGE)
    truth = device.truth(first + _lost_before_the_first(seed), raw.n_times)["signal"]
    data: npt.NDArray[np.float64] = raw.get_data().T * 1e6
    lost = np.isnan(data).any(axis=1)
    bad = np.zeros(len(data), bool)
    for one in raw.annotations:
        if str(one["description"]).startswith("Bad Interval"):
            begin = round(one["onset"] * RATE_HZ)
            bad[begin : begin + round(one["duration"] * RATE_HZ)] = True
    off = ~np.isclose(data, truth, rtol=1e-12, atol=1e-12).all(axis=1) & ~lost & ~bad
    return f"{int(off.sum())} samples differ" if off.any() else ""


def _lost_before_the_first(seed: int) -> int:
    """Nobody can know of these: index 0 is the first sample that came."""
    device = open_simulator(Address.parse(_address(seed)), MONTAGE)
    sent_ns = 0
    while device.driver.intake.next == 0:  # it comes before the next one is taken
        sent_ns += 1_000_000
        device.driver.advance(sent_ns)
    return device.dropped


def campaign(kills: int, seed: int, longest_s: float = LONGEST_S) -> list[Killed]:
    """Kill ``n`` has the simulator's seed ``seed + n``."""
    randomly = random.Random(seed)
    found = []
    for number in range(kills):
        with tempfile.TemporaryDirectory(prefix="phantomd-kill-") as directory:
            after_s = randomly.uniform(0.0, longest_s)
            found.append(kill_one(Path(directory), seed + number, after_s))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    found = campaign(asked.kills, asked.seed)
    missing = np.array([one.missing_s for one in found if not one.wrong])
    for one in found:
        if one.wrong:
            print(f"killed after {one.after_s:.3f} s: {one.wrong}")
    print(
        f"{len(found)} kills, {sum(bool(one.wrong) for one in found)} wrong, "
        f"{sum(one.rows for one in found)} rows, {sum(one.markers for one in found)} markers; "
        f"missing at the end: median {np.median(missing):.3f} s, most {missing.max():.3f} s"
    )
    return int(any(one.wrong for one in found) or missing.max() > 1.0)


if __name__ == "__main__":
    sys.exit(main())
