"""What the daemon took in, replayed, gives the same bytes on every port."""

import asyncio
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from live import FRAME, EegClient

from phantomd.contracts import Event, Flag
from phantomd.errors import JournalError
from phantomd.records.journal import Kind
from phantomd.records.replay import Replay, read

FAULTS = "simulator:?seed=3&drop=0.02"


async def _record(daemon_at, path: Path, warm_frames: int, frames: int) -> tuple[bytes, list[dict]]:
    """Starts a journal in the middle of a run: what subscribers got from then on."""
    async with daemon_at(f'devices=["{FAULTS}"]') as daemon:
        eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", daemon.ports.streams["events"].port
        )
        await eeg.read(warm_frames)
        await daemon.journal_start(str(path))
        await eeg.read(frames)
        daemon.set_panic(True, "a test")
        await eeg.read(64)
        await daemon.journal_stop()
        await daemon.stop()
        await eeg.read_rest()
        lines = (await reader.read(-1)).splitlines()
        writer.close()
        return eeg.frames, [json.loads(line)["data"] for line in lines[1:]]


def _replayed(path: Path) -> tuple[bytes, list[Event]]:
    journal = read(path)
    assert journal.complete
    out: list[bytes] = []
    events: list[Event] = []
    Replay(journal, lambda data, n: out.append(data), events.append).run()
    return b"".join(out), events


def test_a_replay_of_the_journal_gives_the_same_frames_and_events(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    live_bytes, live_events = run(_record(daemon_at, path, 300, 700))
    replayed_bytes, events = _replayed(path)
    live, again = (np.frombuffer(data, FRAME) for data in (live_bytes, replayed_bytes))
    assert len(again) >= 700
    live = live[np.searchsorted(live["index"], again["index"][0]) :][: len(again)]
    again = again[: len(live)]
    for name in ("index", "t_ns"):
        np.testing.assert_array_equal(live[name], again[name])
    late = np.uint32(~Flag.LATE & 0xFFFFFFFF)
    np.testing.assert_array_equal(live["flags"] & late, again["flags"] & late)
    assert live["values"].tobytes() == again["values"].tobytes()
    assert (live["flags"] & Flag.BRIDGED).any(), "no fault was played: the test shows nothing"

    again_lines = [event.data() for event in events]
    first = next(line for line in again_lines if "t_ns" in line)  # of the tick: told once
    begin = live_events.index(first) - again_lines.index(first)
    end = begin + len(again_lines)
    assert again_lines == live_events[begin:end]
    assert {"gap", "panic"} <= {line["kind"] for line in again_lines}


def test_a_journal_cut_short_replays_what_is_whole(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    run(_record(daemon_at, path, 50, 200))
    data = path.read_bytes()
    whole, _ = _replayed(path)
    cut = tmp_path / "cut.pdj"
    cut.write_bytes(data[: len(data) * 3 // 4])
    journal = read(cut)
    assert not journal.complete
    out: list[bytes] = []
    with_hole = Replay(journal, lambda frames, n: out.append(frames), lambda event: None)
    # The last ticks may be there without their samples: the frames before them are right.
    with contextlib.suppress(JournalError):
        with_hole.run()
    part = np.frombuffer(b"".join(out), FRAME)
    assert 50 < len(part) < len(np.frombuffer(whole, FRAME))
    np.testing.assert_array_equal(
        part["values"], np.frombuffer(whole, FRAME)["values"][: len(part)]
    )


def test_a_journal_that_lost_records_is_refused(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    run(_record(daemon_at, path, 10, 20))
    dropped = (8).to_bytes(4, "little") + int(Kind.DROPPED).to_bytes(2, "little")
    path.write_bytes(path.read_bytes() + dropped + bytes(10) + (5).to_bytes(8, "little"))
    with pytest.raises(JournalError, match="5 records were lost"):
        read(path)


def test_what_is_no_journal_is_named_as_such(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"GIF89a" * 10)
    with pytest.raises(JournalError, match="no intake journal"):
        read(path)


def test_the_journal_is_for_its_owner_alone_and_never_overwrites(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    run(_record(daemon_at, path, 5, 5))
    assert path.stat().st_mode & 0o777 == 0o600

    async def again():
        async with daemon_at() as daemon:
            with pytest.raises(JournalError, match="File exists"):
                await daemon.journal_start(str(path))

    run(again())
