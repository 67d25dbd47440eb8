"""A recording of the living daemon: MNE reads it, and the same focus and trit come out again."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from running import Events, ask

from benches.kill_recordings import campaign
from phantomd.cli.phantomctl import run as phantomctl
from phantomd.contracts import MONTAGE
from phantomd.core.cyton import uv_per_count
from phantomd.devices.emulator import CytonEmulator
from phantomd.errors import PhantomError, RecordError
from phantomd.net.envelope import finite
from phantomd.oracle import baseline as baselines
from phantomd.oracle.baseline import Baseline
from phantomd.records.clockmap import Gap, entries
from phantomd.records.recompute import Recomputed, recompute

#: Losses that are bridged, one that is not, an artifact, and a device that goes and comes back.
FAULTS = "seed=3&drop=0.01&blink_per_min=0&faults=burst@4:n=20,blink@5,unplug@6..7.5"


class Lines:
    """What a subscriber of a JSON stream got: ``data`` by ``t_ns``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.got: list[tuple[int, dict[str, Any]]] = []

    @classmethod
    async def connect(cls, port: int) -> "Lines":
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        await self._reader.readline()
        return self

    async def until(self, n: int) -> None:
        """So many more lines."""
        n += len(self.got)
        while len(self.got) < n:
            line = json.loads(await self._reader.readline())
            if line["type"] == "data":
                self.got.append((line["t_ns"], line["data"]))

    async def until_device(self) -> None:
        while not self.got or self.got[-1][1].get("reason") in ("no-signal", "timeout"):
            await self.until(1)


def again(path: Path) -> tuple[Recomputed, dict[str, list[tuple[int, dict[str, Any]]]]]:
    out: dict[str, list[tuple[int, dict[str, Any]]]] = {"focus": [], "trit": []}

    def say(stream: str, t_ns: int | None, data: Any, late: bool = False) -> None:
        if stream in out:
            assert t_ns is not None
            out[stream].append((t_ns, json.loads(json.dumps(finite(data)))))

    return recompute(path, say, lambda _: None), out


async def _live(
    daemon: Any, seconds: int, ask_it: Callable[..., Any] | None = None
) -> tuple[Path, Lines, Lines]:
    """Records so many seconds, beginning once a device is there; through the control socket?"""
    focus = await Lines.connect(daemon.ports.streams["focus"].port)
    trit = await Lines.connect(daemon.ports.streams["trit"].port)
    async with asyncio.timeout(60 + seconds):
        await focus.until_device()
        if ask_it is None:
            path = await daemon.recorder.start()
        else:
            path = Path((await ask_it("record.start"))["path"])
            assert (await ask_it("status"))["recording"] == str(path)
            await ask_it("marker.put", label="begin")
        await focus.until(10 * seconds)
        while not trit.got or trit.got[-1][0] < focus.got[-1][0] - 10**9:
            await trit.until(1)
    stopped = await daemon.recorder.stop() if ask_it is None else await ask_it("record.stop")
    assert stopped == (path if ask_it is None else {"path": str(path)})
    return path, focus, trit


def _same(
    path: Path, focus: Lines, trit: Lines, seconds: int
) -> tuple[Recomputed, dict[str, list[tuple[int, dict[str, Any]]]]]:
    ran, told = again(path)
    for name, live in (("focus", focus.got), ("trit", trit.got)):
        of_live = dict(live)
        both = [(t_ns, data) for t_ns, data in told[name] if t_ns in of_live]
        assert len(both) >= (10 if name == "focus" else 1) * (seconds - 3)
        assert [t_ns for t_ns, _ in both] == [
            t_ns for t_ns, _ in live if both[0][0] <= t_ns <= both[-1][0]
        ]
        assert both == [(t_ns, of_live[t_ns]) for t_ns, _ in both]
    assert (ran.differing, ran.inexact, ran.whole) == (0, 0, True)
    return ran, told


def test_focus_and_trit_of_a_recording_are_those_published(run, daemon_at):
    """With the session's score, which holds every focus since the recording began."""

    async def live():
        settings = 'oracle.method="session"', 'artifacts.reject=["blink"]'
        async with daemon_at(f'devices=["simulator:?{FAULTS}"]', *settings) as daemon:
            return await _live(daemon, 21)

    path, focus, trit = run(live())
    ran, told = _same(path, focus, trit, 21)
    assert ran.windows > 40
    reasons = {data.get("reason") for _, data in told["focus"]}
    assert {"artifact", "dropout"} <= reasons, "no fault was played: the test shows nothing"
    assert any(data["cell"] == "value" for _, data in told["focus"])
    said = [entry for entry in entries(path.with_suffix(".clock")) if isinstance(entry, Gap)]
    assert any(gap.values for gap in said) and any(not gap.values for gap in said)
    raw = mne.io.read_raw_brainvision(path.with_suffix(".vhdr"), preload=True, verbose="error")
    assert "New Segment/" in raw.annotations.description, "the device came back"
    lost = np.isnan(raw.get_data()).any(axis=0).sum()
    assert lost == sum(gap.count for gap in said if not gap.values)


def test_a_cyton_recorded_and_replayed_by_command(run, daemon_at, tmp_path, capsys):
    """Counts, auxiliary channels, a baseline, a marker; and what control says of it."""
    uv = np.random.default_rng(1).normal(0, 20, (2500, 8))

    async def live(path: str):
        setting = 'oracle.method="fisher_rao"'
        rejects = "artifacts.reject=[]"
        async with daemon_at(f'devices=["cyton:{path}"]', setting, rejects) as daemon:
            ask_it = partial(ask, daemon.control_path)
            with pytest.raises(PhantomError, match="nothing is being recorded"):
                await ask_it("record.stop")
            at, focus, trit = await _live(daemon, 7, ask_it)
            assert daemon.status().recording is None
            assert await ask_it("record.list") == [
                {
                    "path": str(at),
                    "bytes": at.stat().st_size,
                    "unix_s": at.stat().st_mtime,
                    "recording": False,
                }
            ]
            return at, focus, trit

    with CytonEmulator(uv, at_end="loop") as board:
        state = tmp_path / "state"
        baselines.write(state / baselines.NAME, Baseline(np.cov(uv.T), MONTAGE, 30.0, 0))
        path, focus, trit = run(live(board.path))
    ran, told = _same(path, focus, trit, 7)
    assert ran.head.device.resolution == (uv_per_count(24),) * 8
    assert {data.get("method") for _, data in told["focus"]} >= {"fisher_rao"}
    raw = mne.io.read_raw_brainvision(path.with_suffix(".vhdr"), preload=True, verbose="error")
    assert raw.ch_names == [*MONTAGE, "accel_x_g", "accel_y_g", "accel_z_g"]
    assert "Comment/begin" in raw.annotations.description
    counts = raw.get_data(picks="eeg") * 1e6 / uv_per_count(24)
    assert np.nanmax(np.abs(counts - np.rint(counts))) < 1e-6
    capsys.readouterr()
    assert phantomctl(["replay", str(path), "--oracle", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == "summary" and lines[-1]["differing"] == 0
    assert [(one["t_ns"], one["data"]) for one in lines if one.get("stream") == "trit"] == told[
        "trit"
    ]


#: Twelve seconds after its start it falls over, once.
FALLS_OVER = """
import pathlib, sys, time
import numpy as np
from phantomd.devices.driver import Spec

class Driver:
    def __init__(self, options):
        self.fell = pathlib.Path(options["fell"])
    def describe(self):
        labels = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4")
        return Spec(rate_hz=250, channels=labels)
    def blocks(self):
        noise, n, start_s = np.random.default_rng(4), 0, time.monotonic()
        while n < 3000 or self.fell.exists():
            n += 1
            time.sleep(max(0.0, start_s + n / 250 - time.monotonic()))
            yield noise.normal(0, 20, (1, 8))
        self.fell.touch()
        raise RuntimeError("fell over")
"""


def test_a_driver_that_falls_over_is_recorded_in_one_file(run, daemon_at, tmp_path):
    driver, fell = tmp_path / "driver.py", tmp_path / "fell"
    driver.write_text(FALLS_OVER)
    driver.chmod(0o600)

    async def live():
        devices = f'devices=["python:{driver}?fell={fell}"]'
        async with daemon_at(devices, "artifacts.reject=[]") as daemon:
            return await _live(daemon, 21)

    path, focus, trit = run(live())
    ran, told = _same(path, focus, trit, 21)
    assert fell.exists() and ran.windows > 40
    assert any(data["cell"] == "value" for _, data in told["focus"])
    raw = mne.io.read_raw_brainvision(path.with_suffix(".vhdr"), preload=True, verbose="error")
    assert "New Segment/" in raw.annotations.description, "the device came back"
    gaps = [one for one in entries(path.with_suffix(".clock")) if isinstance(one, Gap)]
    lost = np.isnan(raw.get_data()).any(axis=0).sum()
    assert 20 < lost == sum(gap.count for gap in gaps if not gap.values)


def test_another_layout_goes_on_in_a_new_file_and_a_closed_device_ends_it(run, daemon_at):
    async def live():
        async with daemon_at('devices=["simulator:?seed=1"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            await events.until("device", "open:")
            with pytest.raises(RecordError, match="no name"):
                await daemon.recorder.start("../../etc/passwd")
            first = await daemon.recorder.start("one")
            with pytest.raises(RecordError, match="is being recorded"):
                await daemon.recorder.start()
            assert (await events.until("session", "recording to"))["path"] == str(first)
            daemon.recorder.settings_change()
            second = (await events.until("session", "goes on in"))["path"]
            assert second == str(first.with_name("one_2.eeg")) == daemon.status().recording
            await daemon.supervisor.close("simulator-0")
            ended = await events.until("session", "recorded", path=second)
            assert ended["reason"] == "the device was closed"
            assert daemon.status().recording is None
            with pytest.raises(RecordError, match="no device"):
                await daemon.recorder.start()

    run(live())


def test_a_daemon_that_is_killed_leaves_a_file_that_misses_a_second_at_most():
    found = campaign(kills=3, seed=7, longest_s=1.5)
    assert [one.wrong for one in found] == [""] * 3
    assert max(one.missing_s for one in found) < 1.0
    assert sum(one.rows for one in found) > 0
