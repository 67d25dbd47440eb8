"""Drivers in processes of their own, under a daemon that streams throughout."""

import asyncio
import contextlib
import os
import re
import select
import threading
import time
import tty
from pathlib import Path

import numpy as np
import pytest
from live import FRAME, EegClient
from running import WAIT_S, Events, Running, contiguous, until_frame, whole

from phantomd.contracts import EegHeader, Flag
from phantomd.devices.emulator import CytonEmulator
from phantomd.engine import supervisor
from phantomd.records.replay import Replay, read

DOCS = Path(__file__).resolve().parents[2] / "docs" / "devices.md"
STEADY = """
import time
import numpy as np
from phantomd.devices.driver import Block, Spec

class Driver:
    def __init__(self, options):
        pass
    def describe(self):
        return Spec(rate_hz=250, channels=("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4"))
    def blocks(self):
        noise, n, start_s = np.random.default_rng(4), 0, time.monotonic()
        while True:
            lost = int(noise.random() < 0.02)
            n += 1 + lost
            time.sleep(max(0.0, start_s + n / 250 - time.monotonic()))
            yield Block(noise.normal(0, 20, (1, 8)), lost=lost)
"""


@pytest.fixture
def steady(tmp_path) -> str:
    path = tmp_path / "steady.py"
    path.write_text(STEADY)
    path.chmod(0o600)
    return f"python:{path}"


class Pico:
    """The made-up headset of docs/devices.md on a pseudo-terminal, at a path that stays."""

    def __init__(self, path: Path) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.lost = 0
        self._lose = 0
        self._end = threading.Event()
        scratch = path.with_suffix(".new")
        scratch.symlink_to(os.ttyname(slave))
        scratch.replace(path)
        self._slave = slave
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def lose(self, n: int) -> None:
        self._lose = n

    def unplug(self) -> None:
        self._end.set()
        self._thread.join()
        os.close(self._slave)
        os.close(self._master)

    def _talk(self) -> None:
        n, start_s = 0, time.monotonic()
        while not self._end.wait(max(0.0, start_s + n / 200 - time.monotonic())):
            if self._lose:
                n += self._lose
                self.lost, self._lose = self._lose, 0
                continue
            line = f"{n % 1000},{n % 7}.5,2,-3,4e1\n"
            # With nobody there it talks to the wall, as a serial line does.
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, line.encode())
            n += 1


def snippet() -> str:
    return re.search(r"<!-- driver: .*?```python\n(.*?)```", DOCS.read_text(), re.S)[1]


def test_the_made_up_headset_of_the_docs_streams_is_unplugged_and_comes_back(
    run, daemon_at, tmp_path
):
    driver, port = tmp_path / "pico.py", tmp_path / "tty"
    driver.write_text(snippet())
    driver.chmod(0o600)
    assert len(snippet().splitlines()) < 60

    async def go():
        pico = Pico(port)
        async with daemon_at(f'devices=["python:{driver}?port={port}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = daemon.ports.streams["eeg"].port
            await events.until("device", state="streaming")
            reader, writer = await asyncio.open_connection("127.0.0.1", eeg)
            header = EegHeader.decode(await reader.readexactly(64 + 4 * 16))
            assert header.labels == ("Fz", "C3", "C4", "Pz")
            pico.lose(9)
            gap = await events.until("gap", device_id="python-0")
            assert gap["count"] == 9 == pico.lost
            pico.unplug()
            lost = await events.until("device", "lost", state="lost")
            assert any(why in lost["message"] for why in ("Pico", "SerialException", "is gone"))
            pico = Pico(port)
            await events.until("device", "back after", device_id="python-0")
            while True:
                frame = await reader.readexactly(header.frame_bytes)
                if int.from_bytes(frame[16:20], "little") & Flag.DISCONTINUITY:
                    break
            values = np.frombuffer(frame, "<f4", 4, 24)
            assert values[1:] == pytest.approx([2, -3, 40])
            assert daemon.engine.slots[0].epoch.bytes == header.epoch
            writer.close()
        pico.unplug()

    run(go())


def test_a_device_is_taken_up_when_its_node_appears_however_long_the_pause(
    run, daemon_at, tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1000.0)
    port = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{port}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            await events.until("device", "looking for it")
            with CytonEmulator(np.zeros((250, 8)), at_end="loop") as board:
                port.symlink_to(board.path)
                await events.until("device", state="streaming")

    run(go())


def test_the_port_of_a_driver_is_a_node_that_is_watched(run, daemon_at, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1000.0)
    driver, port = tmp_path / "pico.py", tmp_path / "tty"
    driver.write_text(snippet())
    driver.chmod(0o600)

    async def go():
        async with daemon_at(f'devices=["python:{driver}?port={port}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            await events.until("device", "looking for it")
            pico = Pico(port)
            await events.until("device", state="streaming")
        pico.unplug()

    run(go())


def test_a_driver_that_crashes_is_started_again_and_nobody_else_notices(run, daemon_at, steady):
    async def go():
        devices = f'devices=["{steady}", "simulator:?seed=1"]'
        async with daemon_at(devices) as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            intake, plan = daemon.engine.slots[0].device.driver.intake, daemon.engine.plan_serial
            pid = daemon.supervisor.infos()[0].detail["child"]["pid"]
            os.kill(pid, 11)
            lost = await events.until("device", "lost", device_id="python-0")
            assert "killed by SIGSEGV" in lost["message"] and lost["state"] == "lost"
            await until_frame(
                eeg, lambda frame: frame["flags"] & Flag.DISCONTINUITY and whole(frame)
            )
            first, second = daemon.supervisor.infos()
            assert first.device_id == "python-0" and first.detail["child"]["pid"] != pid
            assert second.state == "streaming" and second.lost_samples == 0
            told = [e for e in events.seen if e["kind"] == "device" and e["state"] == "lost"]
            assert len(told) == 1
            # The same native ring: the time away is one loss in it, told once.
            assert daemon.engine.slots[0].device.driver.intake is intake
            assert daemon.engine.plan_serial == plan and intake.counters()["resets"] == 2
            gap = await events.until("gap", device_id="python-0")
            while gap["count"] < 20:  # its own losses have one sample
                gap = await events.until("gap", device_id="python-0")
            assert first.lost_samples == intake.counters()["lost"] >= gap["count"]
            discontinuities = np.frombuffer(eeg.frames, FRAME)["flags"] & Flag.DISCONTINUITY
            assert np.count_nonzero(discontinuities) <= 2
            contiguous(eeg)

    run(go())


def test_a_driver_ends_with_a_daemon_that_is_killed(tmp_path, steady):
    with Running(tmp_path, "--device", steady) as daemon:
        until_s = time.monotonic() + WAIT_S
        while not (child := daemon.call("status")["devices"][0]["detail"].get("child")):
            assert time.monotonic() < until_s
        child = os.pidfd_open(child["pid"])
        daemon.process.kill()
    assert select.select([child], [], [], WAIT_S)[0], "it outlived its daemon"
    os.close(child)


def test_a_journal_of_a_driver_that_crashed_and_came_back_replays_to_the_same_frames(
    run, daemon_at, tmp_path, steady
):
    path = tmp_path / "run.pdj"

    async def go():
        async with daemon_at(f'devices=["{steady}"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            await daemon.journal_start(str(path))
            await eeg.read_on(150)
            os.kill(daemon.supervisor.infos()[0].detail["child"]["pid"], 9)
            await until_frame(
                eeg, lambda frame: frame["flags"] & Flag.DISCONTINUITY and whole(frame)
            )
            await eeg.read_on(150)
            await daemon.journal_stop()
            await daemon.stop()
            await eeg.read_rest()
            return np.frombuffer(eeg.frames, FRAME)

    live = run(go())
    out, told = [], []
    Replay(read(path), lambda data, n: out.append(data), told.append).run()
    again = np.frombuffer(b"".join(out), FRAME)
    live = live[np.searchsorted(live["index"], again["index"][0]) :][: len(again)]
    assert len(again) >= 250 and len(live) == len(again)
    np.testing.assert_array_equal(live["t_ns"], again["t_ns"])
    assert live["values"].tobytes() == again["values"].tobytes()
    assert (live["flags"] & Flag.BRIDGED).any(), "nothing was lost: the test shows less"
    assert (live["flags"] & Flag.DISCONTINUITY).any() and any(
        event.kind == "gap" and event.fields["count"] > 20 for event in told
    )
