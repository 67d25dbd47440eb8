"""What the daemon took in, replayed, gives the same bytes on every port."""

import asyncio
import contextlib
import json
from pathlib import Path

import msgpack
import numpy as np
import pytest
from live import FRAME, EegClient

from phantomd.contracts import Event, Flag
from phantomd.errors import JournalError
from phantomd.formats.journal import Kind
from phantomd.net.envelope import finite
from phantomd.records.replay import Journal, Replay, read

FAULTS = "simulator:?seed=3&drop=0.02"


async def _record(
    daemon_at, path: Path, warm_frames: int, frames: int
) -> tuple[bytes, list[dict], list[dict]]:
    """Starts a journal in the middle of a run: frames, events, and messages of the streams behind
    the tick, as subscribers got them."""
    async with daemon_at(f'devices=["{FAULTS}"]') as daemon:
        while [info.state for info in daemon.status().devices] != ["streaming"]:
            await asyncio.sleep(0)
        eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", daemon.ports.streams["events"].port
        )
        behind = [
            await asyncio.open_connection("127.0.0.1", daemon.ports.streams[name].port)
            for name in ("features", "focus")
        ]
        await eeg.read(warm_frames)
        await daemon.journal_start(str(path))
        await eeg.read_on(frames)
        daemon.set_panic(True, "a test")
        await eeg.read_on(64)
        await daemon.journal_stop()
        await daemon.stop()
        await eeg.read_rest()
        lines = (await reader.read(-1)).splitlines()
        writer.close()
        unpacker = msgpack.Unpacker()
        features, focus = [await each.read(-1) for each, _ in behind]
        unpacker.feed(features)
        messages = [*unpacker, *map(json.loads, focus.splitlines())]
        data = [message for message in messages if message["type"] == "data"]
        return eeg.frames, [json.loads(line)["data"] for line in lines[1:]], data


def _replayed(journal: Journal) -> tuple[bytes, list[Event], list[dict]]:
    assert journal.complete
    out: list[bytes] = []
    events: list[Event] = []
    messages: list[dict] = []

    def publish(stream: str, t_ns: int | None, data: dict, late: bool = False) -> None:
        messages.append({"stream": stream, "t_ns": t_ns, "data": finite(data)})

    Replay(journal, lambda data, n: out.append(data), events.append, publish=publish).run()
    return b"".join(out), events, messages


def test_a_replay_of_the_journal_gives_the_same_frames_and_events(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    live_bytes, live_events, _ = run(_record(daemon_at, path, 300, 700))
    replayed_bytes, events, _ = _replayed(read(path))
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


def test_a_replay_of_the_journal_gives_the_same_windows(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    _, _, live_messages = run(_record(daemon_at, path, 300, 700))
    journal = read(path)
    _, _, messages = _replayed(journal)
    live = [message["data"] for message in live_messages if message["stream"] == "features"]
    again = [message["data"] for message in messages if message["stream"] == "features"]
    # The journal has none of the samples before its first tick: windows that hold some are out.
    begin_ns = journal.ticks[0][0]
    whole = [data for data in again if data["window"]["start_ns"] >= begin_ns]
    assert len(whole) >= 15
    of_index = {data["window"]["index"]: data for data in live}
    # What remembers further back than the journal does, and the newest focus when it was said.
    for data in (*whole, *live):
        for name in ("covariance_step", "focus_band_ratio", "focus_fisher_rao", "focus_session"):
            del data["features"][name]
    assert whole == [of_index[data["window"]["index"]] for data in whole]
    assert all(data["features"]["alpha_uv2"] is not None for data in whole[-4:])


def test_a_replay_of_the_journal_gives_the_same_focus(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    _, _, live = run(_record(daemon_at, path, 300, 700))
    journal = read(path)
    _, _, messages = _replayed(journal)
    at = {message["t_ns"]: message["data"] for message in live if message["stream"] == "focus"}
    begin_ns = journal.ticks[0][0] + 2_000_000_000
    again = [m for m in messages if m["stream"] == "focus" and m["t_ns"] > begin_ns]
    assert len(again) >= 30
    for message in again:
        assert message["data"] == at[message["t_ns"]]
    assert any(message["data"]["cell"] == "value" for message in again)


def test_a_journal_cut_short_replays_what_is_whole(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"
    run(_record(daemon_at, path, 50, 200))
    data = path.read_bytes()
    whole, _, _ = _replayed(read(path))
    cut = tmp_path / "cut.pdj"
    # The states of the kernels come first, and are the larger part.
    states = sum(len(state) for state in read(path).source_states.values())
    cut.write_bytes(data[: states + (len(data) - states) * 3 // 4])
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
