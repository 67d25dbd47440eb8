"""The analysis made anew while it streams: what changes, what does not, and the same again in a
replay."""

import asyncio
import json
from pathlib import Path

import msgpack
import numpy as np
import pytest
from live import FRAME, EegClient
from running import contiguous, until_frame, whole
from system.test_life import Configured
from system.test_recording import again as recomputed

from phantomd.contracts import Flag
from phantomd.control import Control
from phantomd.errors import ControlError
from phantomd.net.envelope import finite
from phantomd.records.clockmap import Closed, Head, entries
from phantomd.records.replay import Replay, read

S = 10**9
QUIET = "simulator:?seed=4&blink_per_min=0&emg_per_min=0&pop_per_min=0"
OF_THE_ORACLE = "focus_band_ratio", "focus_fisher_rao", "focus_session"
HEAD = 'max_clients = 8\n[montage]\nreference = "average"\n'


class Features:
    """A subscriber of 7073: ``data`` of each message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker = msgpack.Unpacker()
        self.got: list[dict] = []

    @classmethod
    async def connect(cls, port: int) -> "Features":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def until(self, accept, within_s: float = 60.0) -> dict:
        """Reads on to the first message that is like this."""
        async with asyncio.timeout(within_s):
            while True:
                seen = len(self.got)
                self._take(await self._reader.read(1 << 16))
                for data in self.got[seen:]:
                    if accept(data):
                        return data

    async def rest(self) -> None:
        self._take(await self._reader.read(-1))

    def _take(self, data: bytes) -> None:
        assert data or self.got
        self._unpacker.feed(data)
        self.got += [each["data"] for each in self._unpacker if each["type"] == "data"]


async def reload(daemon) -> dict:
    """Filters are designed in a process of their own: seconds on a slow host."""

    def call() -> dict:
        with Control(daemon.control_path, timeout_s=60.0) as control:
            return control.call("config.reload")

    return await asyncio.to_thread(call)


def replayed(path: Path) -> tuple[np.ndarray, list[dict], list[tuple[int, dict]]]:
    """Frames, ``data`` of features, and focus."""
    journal = read(path)
    frames, features, focus = [], [], []

    def publish(stream, t_ns, data, late=False):
        if stream == "features":
            features.append(finite(data))
        if stream == "focus":
            focus.append((t_ns, json.loads(json.dumps(finite(data)))))

    Replay(journal, lambda data, _: frames.append(data), lambda _: None, publish=publish).run()
    return np.frombuffer(b"".join(frames), FRAME), features, focus


def same_windows(live: list[dict], again: list[dict], begin_ns: int) -> int:
    """All that hold samples of the journal alone; how many."""
    of_end = {data["window"]["end_ns"]: data for data in live}
    compared = 0
    for data in again:
        if data["window"]["start_ns"] < begin_ns or data["window"]["end_ns"] not in of_end:
            continue
        theirs = of_end[data["window"]["end_ns"]]
        for each in (data, theirs):
            # What remembers further back, and the newest focus by then.
            for name in ("covariance_step", *OF_THE_ORACLE):
                each["features"].pop(name, None)
        assert data == theirs
        compared += 1
    return compared


def unbroken(frames: np.ndarray) -> None:
    """From the first whole frame to the last, before it was stopped."""
    there = np.flatnonzero(frames["flags"] & Flag.MISSING == 0)
    between = frames["flags"][there[0] + 1 : there[-1] + 1]
    assert not (between & (Flag.MISSING | Flag.DISCONTINUITY)).any()


@pytest.mark.timeout(240)
def test_a_channel_found_bad_goes_and_comes_live_and_in_a_journal_that_begins_between(
    run, daemon_at, tmp_path
):
    path = tmp_path / "run.pdj"

    async def go():
        settings = 'montage.reference="average"', 'devices=["' + QUIET + '"]'
        async with daemon_at(*settings) as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            features = await Features.connect(daemon.ports.streams["features"].port)
            focus, writer = await asyncio.open_connection(
                "127.0.0.1", daemon.ports.streams["focus"].port
            )
            await until_frame(eeg, whole)
            daemon.supervisor.fault("simulator-0", "saturate", 16.0, {"channel": 7})
            await features.until(lambda data: "alpha_uv2.P4" not in data["features"])
            begun = await features.until(lambda data: not data["reject"])
            await daemon.journal_start(str(path))
            await features.until(lambda data: "alpha_uv2.P4" in data["features"])
            last = await features.until(lambda data: not data["reject"])
            await daemon.journal_stop()
            await daemon.stop()
            await eeg.read_rest()
            await features.rest()
            lines = [json.loads(line) for line in (await focus.read(-1)).splitlines()]
            writer.close()
            return eeg, features.got, lines, begun, last

    eeg, live, lines, begun, last = run(go())
    frames = contiguous(eeg)
    unbroken(frames)
    indices = [data["window"]["index"] for data in live]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert "alpha_uv2.P4" not in begun["features"] and "alpha_uv2.P4" in last["features"]

    again, features, focus = replayed(path)
    begin_ns = read(path).ticks[0][0]
    assert same_windows(live, features, begin_ns) > 20
    both = frames[np.searchsorted(frames["index"], again["index"][0]) :][: len(again)]
    assert both["values"].tobytes() == again["values"].tobytes()
    at = {line["t_ns"]: line["data"] for line in lines if line["type"] == "data"}
    after = [(t_ns, data) for t_ns, data in focus if t_ns > begin_ns + 2 * S]
    assert [data for _, data in after] == [at[t_ns] for t_ns, _ in after]
    assert {data.get("channels") for _, data in after} >= {7, 8}


@pytest.mark.timeout(240)
def test_a_recording_says_which_channels_its_windows_did_without(run, daemon_at):
    async def go():
        async with daemon_at('devices=["' + QUIET + '"]') as daemon:
            features = await Features.connect(daemon.ports.streams["features"].port)
            await features.until(lambda data: data["features"]["alpha_uv2"] is not None)
            path = await daemon.recorder.start()
            daemon.stages.bad._heard("simulator-0", frozenset({"C3", "F4"}))
            gone = await features.until(lambda data: "alpha_uv2.C3" not in data["features"])
            until = gone["window"]["index"] + 12
            await features.until(lambda data: data["window"]["index"] == until)
            daemon.stages.bad._heard("simulator-0", frozenset())
            back = await features.until(lambda data: "alpha_uv2.C3" in data["features"])
            until = back["window"]["index"] + 12
            await features.until(lambda data: data["window"]["index"] == until)
            await daemon.recorder.stop()
            return path, gone["window"]["index"], back["window"]["index"]

    path, gone, back = run(go())
    windows = [one for one in entries(path.with_suffix(".clock")) if isinstance(one, Closed)]
    for window in windows:
        assert window.left_out == (("C3", "F4") if gone <= window.index < back else ())
    ran, told = recomputed(path)
    assert ran.differing == 0 and ran.windows > 20
    assert {data.get("channels") for _, data in told["focus"]} >= {6, 8}


@pytest.mark.timeout(240)
def test_reload_changes_the_analysis_without_a_break_live_and_in_a_journal(run, tmp_path):
    path = tmp_path / "run.pdj"
    config = Configured(tmp_path)
    config.write(HEAD)

    async def go():
        daemon = config.daemon()
        await daemon.start()
        try:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            features = await Features.connect(daemon.ports.streams["features"].port)
            first = await features.until(lambda data: data["features"]["alpha_uv2"] is not None)
            # Long enough for the new filters to have learnt.
            until = first["window"]["index"] + 24
            await features.until(lambda data: data["window"]["index"] == until)
            recording = await daemon.recorder.start("one")
            await daemon.journal_start(str(path))
            config.write(
                HEAD.replace("average", "none")
                + 'bad = ["Fp1"]\n[window]\nlength_s = 2.0\nstep_s = 0.5\n'
                "[analysis.bands]\nalpha = [8, 12]\nlow = [13, 18]\n[artifacts]\nreject = []\n"
            )
            answer = await reload(daemon)
            assert answer["needs_restart"] == []
            assert {"montage.bad", "window.length_s", "artifacts.reject"} <= set(answer["changed"])
            new = await features.until(lambda data: "low_uv2" in data["features"])
            assert daemon.ports.streams["features"].rate_hz == 2.0
            until = new["window"]["index"] + 12
            await features.until(lambda data: data["window"]["index"] == until)
            last = await daemon.recorder.stop()
            await daemon.journal_stop()
        finally:
            await daemon.stop()
        await eeg.read_rest()
        await features.rest()
        return eeg, features.got, recording, last

    eeg, live, recording, last = run(go())
    frames = contiguous(eeg)
    unbroken(frames)
    new = [data for data in live if "low_uv2" in data["features"]]
    assert {data["window"]["end_ns"] - data["window"]["start_ns"] for data in new} == {2 * S}
    assert (np.diff([data["window"]["end_ns"] for data in new]) == S // 2).all()
    assert new[0]["features"]["alpha_uv2"] is not None, "it had learnt"
    assert not any("alpha_uv2.Fp1" in data["features"] or data["reject"] for data in new)

    _, features, _ = replayed(path)
    begin_ns = read(path).ticks[0][0]
    assert same_windows(live, features, begin_ns) > 12
    # Another file, of the new settings, from which the same comes again.
    assert last != recording
    head = next(one for one in entries(last.with_suffix(".clock")) if isinstance(one, Head))
    assert head.config.window.length_s == 2.0
    ran, _ = recomputed(last)
    assert ran.differing == 0 and ran.windows >= 4


def test_a_configuration_that_can_not_be_analysed_changes_nothing(run, tmp_path):
    config = Configured(tmp_path)
    config.write(HEAD)

    async def go():
        daemon = config.daemon()
        await daemon.start()
        try:
            features = await Features.connect(daemon.ports.streams["features"].port)
            await features.until(lambda data: not data["reject"])
            plan = daemon.engine.plan_serial
            config.write(HEAD + "[window]\nlength_s = 0.1\nstep_s = 0.1\n[grid]\nhold_ms = 30.0\n")
            with pytest.raises(ControlError, match="artifact scores"):
                await reload(daemon)
            assert daemon.config.window.length_s == 1.0 and daemon.config.grid.hold_ms == 20.0
            assert daemon.engine.plan_serial == plan
        finally:
            await daemon.stop()

    run(go())
