"""A recording in a live daemon: its labels, samples, markers, and its end; a journal played."""

import asyncio
import json

import made
import msgpack
import numpy as np
from live import FRAME as LIVE_FRAME
from live import EegClient
from running import Events, ask, until_frame, whole
from served import WAIT_S

from phantomd.cli.phantomctl import run as phantomctl
from phantomd.contracts import MONTAGE, EegHeader, Flag
from phantomd.core.intake import NEVER
from phantomd.devices.base import Address
from phantomd.devices.replay import ReplayDevice

FRAME = np.dtype([("i", "<u8"), ("t", "<i8"), ("f", "<u4"), ("a", "<u4"), ("v", "<f4", (3,))])


def write_edf(path) -> None:
    """1.2 s of three channels at 100 Hz with two annotations."""
    texts = {1: [(0.15, 0, "go")], 9: [(0.95, 0.5, "rest")]}
    path.write_bytes(made.edf(made.signal(120), texts=texts))


async def markers_of(daemon, n: int) -> list[dict]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", daemon.ports.streams["markers"].port
    )
    unpacker = msgpack.Unpacker()
    found: list[dict] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < n:
            unpacker.feed(await reader.read(4096))
            found += [message for message in unpacker if message["type"] == "data"]
    writer.close()
    return found


def test_a_recording_streams_says_its_markers_and_ends_once(run, daemon_at, tmp_path):
    path = tmp_path / "x.edf"
    write_edf(path)

    async def go():
        async with daemon_at("devices=[]") as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            marked = asyncio.create_task(markers_of(daemon, 2))
            opened = await ask(daemon.control_path, "device.open", address=f"replay:{path}")
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            ended = await events.until("device", "end of recording")
            (info,) = (await ask(daemon.control_path, "status"))["devices"]
            markers = await marked
            closed = await ask(daemon.control_path, "device.close", device_id=opened["device_id"])
            await daemon.stop()
            await eeg.read_rest()
            return eeg, ended, info, markers, closed, events.seen

    eeg, ended, info, markers, _, seen = run(go())
    assert EegHeader.decode(eeg.header).labels == made.EEGLIKE
    assert (ended["state"], ended["level"]) == ("absent", "info")
    assert info["state"] == "absent" and info["detail"]["ended"] == "end of recording"
    assert [line["message"] for line in seen if "lost" in line["message"]] == []
    assert [m["data"]["label"] for m in markers] == ["go", "rest"]
    assert markers[1]["data"]["payload"] == {"duration_s": 0.5}
    assert markers[1]["t_ns"] - markers[0]["t_ns"] == 800_000_000
    frames = np.frombuffer(eeg.frames, FRAME)
    whole = frames[frames["f"] & Flag.MISSING == 0]
    assert len(whole) > 0.8 * 1.2 * 128  # all but the resampler's delay and the clock's lock
    assert np.abs(whole["v"]).max() < 2000


def test_a_journal_of_a_run_plays_the_samples_that_were_taken_in(run, daemon_at, tmp_path):
    path = tmp_path / "run.pdj"

    async def record():
        async with daemon_at('devices=["simulator:?seed=3&drop=0.03&jitter_ms=2"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            await eeg.read(40)
            await daemon.journal_start(str(path))
            await eeg.read_on(160)
            await daemon.journal_stop()
            return daemon.supervisor._devices["simulator-0"].device

    simulator = run(record())
    device = ReplayDevice(Address.parse(f"replay:{path}"), MONTAGE, virtual=True)
    ring, seen, values, arrivals = device.driver.intake.ring, 0, [], []
    now_ns = 0
    while device.driver.advance(now_ns) != NEVER:
        now_ns += 8_000_000
    for index in range(seen, ring.next):
        frame = ring.read(index)
        if frame[2] & 1 == 0:
            arrivals.append(int(frame[0]))
            values.append(frame[5:].view(np.float64))
    assert device.spec.labels == MONTAGE and len(values) > 200
    truth = simulator.truth(0, 1000)["signal"]
    first = int(np.flatnonzero((truth == values[0]).all(axis=1))[0])
    places = [int(np.flatnonzero((truth == row).all(axis=1))[0]) - first for row in values]
    assert len(set(np.diff(places)) - {1}) >= 1, "nothing was dropped: the test shows nothing"
    # The index moves on over what was lost, and arrivals keep their spacing.
    there = [index for index in range(ring.next) if ring.read(index)[2] & 1 == 0]
    assert there == places
    assert np.abs(np.diff(arrivals) / 4e6 - np.diff(places)).max() < 10


def test_the_command_replays_a_journal_as_the_daemon_streamed_it(
    run, daemon_at, tmp_path, capfdbinary
):
    path = tmp_path / "run.pdj"

    async def record():
        async with daemon_at('devices=["simulator:?seed=3&drop=0.03"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await eeg.read(40)
            await daemon.journal_start(str(path))
            await eeg.read_on(160)
            await daemon.journal_stop()
            return eeg.frames

    live = run(record())
    assert phantomctl(["replay", str(path), "--json", "--out", str(tmp_path)]) == 0
    summary = json.loads(capfdbinary.readouterr().out)
    assert summary["format"] == "journal" and summary["device"]["complete"]
    data = (tmp_path / "eeg.bin").read_bytes()
    again = np.frombuffer(data[EegHeader.size(data[:12]) :], LIVE_FRAME)
    sent = {int(row["index"]): row for row in np.frombuffer(live, LIVE_FRAME)}
    same = [row for row in again if int(row["index"]) in sent]
    assert len(same) > 100
    for row in same:
        live_row = sent[int(row["index"])]
        assert row["t_ns"] == live_row["t_ns"]
        assert row["values"].tobytes() == live_row["values"].tobytes()
