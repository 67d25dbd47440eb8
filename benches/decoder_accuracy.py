"""R² of the reference decoders on real spikes, and their scores under stress on the embedded ones.

`python -m benches.decoder_accuracy` needs the recordings (PHANTOMD_DATA or ../shared/data). Each
decoder is judged on the last fifth of the trials of `spikes_centerout` (as the reference results
are), on five chronological folds, and through the port: the recording is imported, a session plays
its last fifth, and the decoder is a client on a socket that reads packets and answers them. The
port's clock is virtual there, so that minutes take seconds; the code is that of the live one.
`--live SECONDS` plays as much of it against a daemon, in real time. `--stress` plays the embedded
dataset at every level; `--trained-under-stress` says what is still in its counts there, to a
decoder that was fitted to counts of the same level.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import numpy.typing as npt

from benches.live import daemon, table
from phantomd.core.gauntlet import NEVER, Port, Session
from phantomd.decoders.base import VelocityDecoder, r2
from phantomd.decoders.registry import DECODERS, load, make
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.importing import import_file
from phantomd.gauntlet.play import Play, played
from phantomd.gauntlet.player import Player, fit, split_bin
from phantomd.gauntlet.score import LEVELS, robustness, score
from phantomd.gauntlet.stress import LEVELS as FAULTS
from phantomd.gauntlet.stress import StressConfig, compiled
from phantomd.gauntlet.synthetic import synthetic

FOLDS = 5
SEED = 40
#: Of shared/data/README.md, last fifth; and the field's on MC_Maze, another recording.
REFERENCE = {
    "ridge-1": "0.324",
    "ridge": "0.689",
    "kalman": "0.447",
    "kalman-pv": "0.569",
    "kalman-pva": "0.597",
}
#: From the hand-over of a packet to its answer, on the virtual clock.
_LOOP_NS = 1_000_000


@dataclass(frozen=True)
class Accuracy:
    name: str
    last_fifth: float
    folds: list[float]
    through_port: float
    fit_s: float
    same: bool

    def row(self) -> tuple[object, ...]:
        return (
            f"`{self.name}`",
            f"{self.last_fifth:.3f}",
            REFERENCE.get(self.name, "—"),
            f"{np.mean(self.folds):.3f} ({min(self.folds):.3f}–{max(self.folds):.3f})"
            if self.folds
            else "—",
            f"{self.through_port:.3f}",
            "yes" if self.same else "it learns",
            f"{self.fit_s:.1f}",
        )


HEAD = ("decoder", "R² last fifth", "reference", f"R² {FOLDS} folds, mean (range)",
        "R² through the port", "same answers as offline", "fit, s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoders", nargs="*", default=list(DECODERS))
    parser.add_argument("--no-folds", action="store_true")
    parser.add_argument("--live", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--stress", action="store_true")
    parser.add_argument("--trained-under-stress", action="store_true")
    options = parser.parse_args()
    if options.stress:
        under_stress(options.decoders)
        return
    if options.trained_under_stress:
        trained_under_stress(options.decoders)
        return
    data = recording()
    if options.live:
        live(data, options.decoders, options.live)
        return
    results = []
    for name in options.decoders:
        results.append(accuracy(data, name, 0 if options.no_folds else FOLDS))
        print(*results[-1].row(), file=sys.stderr, flush=True)
    print(table(HEAD, [result.row() for result in results]))


def recording() -> Dataset:
    root = Path(os.environ.get("PHANTOMD_DATA", "../shared/data"))
    path = root / "spikes_centerout" / "center_out_data.mat"
    if not path.is_file():
        sys.exit(f"no recording: set PHANTOMD_DATA ({path} is missing)")
    return import_file(path)


def accuracy(data: Dataset, name: str, folds: int) -> Accuracy:
    cut = split_bin(data)
    begun_s = time.monotonic()
    decoder = fit(make(name), data)
    fit_s = time.monotonic() - begun_s
    offline = decoder.decode_all(data.counts[cut:])
    play = through_port(decoder, data, cut)
    live = play.decoded_velocity
    return Accuracy(
        name,
        r2(offline, _velocity(data, slice(cut, None))),
        [_fold(data, name, fold, folds) for fold in range(folds)],
        r2(live, play.velocity),
        fit_s,
        bool((live.astype(np.float32) == offline.astype(np.float32)).all()),
    )


def _fold(data: Dataset, name: str, fold: int, folds: int) -> float:
    """Trials in the order of time, cut into equal parts; the others train."""
    edges = [0, *(int(data.trials["stop"][len(data.trials) * i // folds - 1])
                  for i in range(1, folds + 1))]  # fmt: skip
    test = slice(edges[fold], edges[fold + 1])
    rest = np.ones(data.n_bins, bool)
    rest[test] = False
    decoder = make(name).fit(data.counts[rest], data.kinematics[rest], data.bin_s)
    return r2(decoder.decode_all(data.counts[test]), _velocity(data, test))


def _velocity(data: Dataset, rows: slice) -> npt.NDArray[np.float64]:
    return np.asarray(data.kinematics[rows, 2:], np.float64)


def through_port(decoder: VelocityDecoder, data: Dataset, first: int, level: str = "none") -> Play:
    """What the port records of a decoder that answers the bins from ``first`` on, over a socket."""
    port, now_ns = Port(1, 2), 0
    spans = np.array([[first, data.n_bins]], np.uint32)
    core = Session(data.bins, spans, loop=False, record_slots=1 << 14)
    # The port reads it for as long as it plays.
    plan = compiled(StressConfig(seed=SEED).changed(level, {}), data.n_units, data)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    greeting = msgspec.msgpack.encode({"type": "metadata", "data": data.metadata()})
    port.order("add", session=0, pointer=core)
    if plan is not None:
        port.order("stress", session=0, pointer=plan)
    port.order("join", connection=0, session=0, value=theirs.fileno(), message=greeting)
    player, unpacker = Player(decoder), msgpack.Unpacker()
    with ours, theirs:
        due_ns = 0
        while due_ns != NEVER:
            due_ns = port.step(now_ns)
            for message in _taken(ours, unpacker):
                answer = player.answer(message)
                if answer is not None:
                    ours.sendall(msgspec.msgpack.encode(answer))
                player.learn()
            port.step(now_ns + _LOOP_NS)
            port.take_events()
            now_ns = max(due_ns, now_ns + _LOOP_NS)  # after the last one, for its answer
    return played(core.records(), data)


def _taken(sock: socket.socket, unpacker: Any) -> list[dict[str, Any]]:
    try:
        while data := sock.recv(1 << 20):
            unpacker.feed(data)
    except BlockingIOError:
        pass  # all that there was
    return list(unpacker)


def under_stress(names: list[str]) -> None:
    data = synthetic()
    cut = split_bin(data)
    rows = []
    for name in names:
        decoder = fit(make(name), data)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.npz"
            decoder.save(path)
            scores = {}
            for level in LEVELS:  # what one learns at a level is not there at the next
                scores[level] = score(through_port(load(path), data, cut, level))
        area = robustness({level: one.score for level, one in scores.items()})
        rows.append(
            (
                f"`{name}`",
                *(f"{one.score:.3f}" for one in scores.values()),
                f"{area:.3f}",
                f"{scores['none'].hits}/{scores['none'].trials}",
                f"{scores['none'].position_accuracy:.3f}",
            )
        )
        print(*rows[-1], file=sys.stderr, flush=True)
    print(table(("decoder", *LEVELS, "robustness", "hits", "position accuracy"), rows))


def trained_under_stress(names: list[str]) -> None:
    """Velocity R² (as in the score) of the last fifth, one stretch of stress over everything."""
    data = synthetic()
    cut = split_bin(data)
    truth = data.kinematics[cut:, 2:4].astype(np.float64)
    rows: dict[str, list[str]] = {name: [] for name in names}
    for level in LEVELS:
        stress = compiled(StressConfig(seed=SEED, **FAULTS[level]), data.n_units, data)
        counts = data.counts.astype(np.uint16)
        if stress is not None:
            bins = enumerate(counts)
            counts = np.stack([stress.counts(i, i * data.bin_s, row) for i, row in bins])
        for name in names:
            decoder = make(name).fit(counts[:cut], data.kinematics[:cut], data.bin_s)
            decoder.reset()
            said = np.array([decoder.decode(row)[:2] for row in counts[cut:]])
            error, spread = (said - truth) ** 2, (truth - truth.mean(axis=0)) ** 2
            rows[name].append(f"{1 - error.sum() / spread.sum():.3f}")
            print(level, name, rows[name][-1], file=sys.stderr, flush=True)
    print(table(("decoder", *LEVELS), [(f"`{name}`", *row) for name, row in rows.items()]))


def live(data: Dataset, names: list[str], seconds: float) -> None:
    """Each in its own process and session, all at once."""
    with tempfile.TemporaryDirectory(prefix="phantomd-bench-") as folder:
        where = Path(folder) / "centre-out"
        data.save(where)
        for name in names:
            fit(make(name), data).save(Path(folder) / f"{name}.npz")
        with daemon("--set", "devices=[]") as running:
            rows = _live_rows(running, names, where, Path(folder), seconds)
    print(table(("decoder", "s", "R² live", "R² offline, same bins", "loop p50 / p99 ms", "missed"),
                rows))  # fmt: skip


def _live_rows(
    running: Any, names: list[str], where: Path, folder: Path, seconds: float
) -> list[tuple[object, ...]]:
    from phantomd.cli.course import record
    from phantomd.control import Control

    data = Dataset.load(where)
    cut = split_bin(data)
    processes = []
    with Control(running.control_path) as control:
        for name in names:
            control.call("session.create", code=name, dataset=str(where), seed=SEED)
            control.call("session.seek", code=name, packet=cut)
        for name in names:
            model = folder / f"{name}.npz"
            command = [
                *(sys.executable, "-m", "phantomd.cli.phantomctl"),
                *("--control", str(running.control_path), "gauntlet", "decode", name),
                *("--model", str(model)),
            ]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        least = 0
        while least * data.bin_s < seconds:
            least = min(control.call("session.get", code=name)["packets"] for name in names)
            time.sleep(0.5)
        rows: list[tuple[object, ...]] = []
        for name in names:
            play = record(control, name, 0)
            bins = play.records["bin"].astype(int)
            offline = load(folder / f"{name}.npz").decode_all(data.counts[bins])
            s = score(play)
            assert s.latency is not None
            rows.append(
                (
                    f"`{name}`",
                    f"{s.seconds:.0f}",
                    f"{r2(play.decoded_velocity, play.velocity):.3f}",
                    f"{r2(offline, play.velocity):.3f}",
                    f"{s.latency.p50_ms:.2f} / {s.latency.p99_ms:.2f}",
                    s.missed,
                )
            )
            control.call("session.delete", code=name)
    for process in processes:
        process.wait(10)
    return rows


if __name__ == "__main__":
    main()
