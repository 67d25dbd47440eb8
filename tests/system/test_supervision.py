"""Headsets that go and come: how soon it is noticed, what goes on, what is named as wrong."""

import asyncio
import time
from contextlib import contextmanager

import numpy as np
import pytest
from live import FRAME, EegClient
from patience import Pace
from running import Events, ask, contiguous, until_frame, whole
from served import WAIT_S
from system.test_headset import emulator, link, linked

from phantomd.contracts import Flag
from phantomd.devices.cyton import CytonDevice
from phantomd.devices.emulator import CytonEmulator
from phantomd.engine import supervisor
from phantomd.errors import ControlError
from phantomd.records.replay import Replay, read

#: The bounds that docs/devices.md gives.
NOTICED_S = 0.25
TAKEN_UP_S = 1.0


@contextmanager
def within(bound_s: float):
    """Judged against this host at the same time."""
    with Pace() as pace:
        begun_s = time.monotonic()
        yield
        took_s = time.monotonic() - begun_s
    assert took_s < pace.stretch(bound_s)


def intake_of(daemon):
    return daemon.engine.slots[0].device.driver.intake


def test_a_headset_goes_on_in_its_own_ring_with_one_line_each_way(run, daemon_at, tmp_path, caplog):
    path = tmp_path / "tty"
    caplog.set_level("INFO", "phantomd.engine.supervisor")

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            with emulator() as board, linked(path, board.path):
                await until_frame(eeg, whole)
                await eeg.read(200)
                intake, clock = intake_of(daemon), daemon.engine.slots[0].source.report()
                plan = daemon.engine.plan_serial
                gone_s = time.monotonic()
            with within(NOTICED_S):
                await events.until("device", state="lost")
            before = intake.next
            await eeg.read(64)
            row = daemon.status().devices[0]
            assert (row.state, row.device_id) == ("lost", "cyton-0")
            assert row.detail["intake"]["accepted"] > 0
            with emulator(seed=2) as board:
                back_s = time.monotonic()
                with within(TAKEN_UP_S):
                    link(path, board.path)
                    again = await events.until("device", state="streaming")
                frame = await until_frame(eeg, whole)
                assert frame["flags"] & Flag.DISCONTINUITY
                assert intake_of(daemon) is intake and daemon.engine.plan_serial == plan
                # The index goes on as far as the time that has passed, and the loss is told once.
                away = again["first_index"] - before
                assert back_s - gone_s - 0.1 < away / 250 < time.monotonic() - gone_s + 0.1
                assert intake.counters()["lost"] == away
                assert intake.counters()["resets"] == 2
                # The rate is known at once: 20 ppm is what a clock begins with.
                report = daemon.engine.slots[0].source.report()
                assert abs(report["rate_hz"] / clock["rate_hz"] - 1) < 1e-3
                await events.until("device", "back after", level="info")
            contiguous(eeg)
            gaps = [one for one in events.seen if one["kind"] == "gap" and one["count"] == away]
            assert len(gaps) == 1

    run(go())
    lines = [record.getMessage() for record in caplog.records if "cyton-0" in record.getMessage()]
    said = [line.split("): ")[1].split(" ")[0] for line in lines]
    assert said[:4] == ["there", "open:", "lost", "back"], lines


def test_a_missing_headset_costs_no_attempts_until_something_happens(
    run, daemon_at, tmp_path, monkeypatch
):
    attempts = []

    def counted(address, labels):
        attempts.append(time.monotonic())
        return CytonDevice(address, labels)

    monkeypatch.setattr(supervisor, "opener", lambda _: counted)

    async def go():
        async with daemon_at(f'devices=["cyton:{tmp_path / "tty"}"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await eeg.read(3 * 128)
            (tmp_path / "beside").touch()
            await eeg.read(16)
            assert len(attempts) <= 5  # after 0, 0.25, 0.75, 1.75 s, and perhaps one more
            before = len(attempts)
            with within(TAKEN_UP_S):
                (tmp_path / "tty").symlink_to(tmp_path / "nothing")
                async with asyncio.timeout(WAIT_S):
                    while len(attempts) == before:
                        await asyncio.sleep(0.005)

    run(go())


def test_a_node_that_is_gone_is_a_loss_though_its_descriptor_still_reads(run, daemon_at, tmp_path):
    path, node = tmp_path / "tty", tmp_path / "node"

    async def go():
        with emulator() as board, linked(path, board.path):
            node.touch()
            async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
                events = await Events.connect(daemon.ports.streams["events"].port)
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                daemon.supervisor._devices["cyton-0"].node = node
                node.unlink()
                path.unlink()
                with within(NOTICED_S):
                    told = await events.until("device", state="lost")
                assert f"{node} is gone" in told["message"]

    run(go())


@pytest.mark.parametrize(
    ("how", "trouble", "text"),
    [
        ({"faults": "garbage@0.3..60"}, "garbage", "sends garbage"),
        ({"rate_hz": 500.0}, "too-fast", "sends too fast: "),
        ({"rate_hz": 262.5}, "rate", "changed its rate: 262"),
        ({"faults": "clump=16"}, "clumps", "samples arrive in clumps of"),
    ],
)
def test_what_is_wrong_with_a_headset_is_named_with_what_to_do(run, daemon_at, how, trouble, text):
    async def go():
        with emulator(**how) as board:
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                events = await Events.connect(daemon.ports.streams["events"].port)
                told = await events.until("device", trouble=trouble)
                assert text in told["message"] and told["hint"]
                assert told["state"] in ("streaming", "stalled", "opening")
                # One that sends garbage is opened again and again: now and then it has no row of
                # troubles.
                async with asyncio.timeout(WAIT_S):
                    while trouble not in daemon.status().devices[0].detail.get("troubles", ()):
                        await asyncio.sleep(0.005)

    run(go())


def test_a_headset_that_never_says_anything_is_named(run, daemon_at, monkeypatch):
    monkeypatch.setattr(supervisor, "SILENCE_S", 0.5)

    async def go():
        with emulator(faults="silence@0..60") as board:
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                events = await Events.connect(daemon.ports.streams["events"].port)
                await events.until("device", "lost (silent for 0.5 s)", state="lost")
                # Opened again and again, told once.
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await eeg.read(256)
                lost = [one for one in events.seen if one.get("state") == "lost"]
                assert len(lost) == 1

    run(go())


def test_a_reopened_headset_replays_the_same(run, daemon_at, tmp_path):
    path, journal = tmp_path / "tty", tmp_path / "run.pdj"
    live: list[bytes] = []
    lines: list[dict] = []

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            with emulator(faults="drop=0.05") as board, linked(path, board.path):
                await until_frame(eeg, whole)
                await daemon.journal_start(str(journal))
                await eeg.read_on(100)
            await events.until("device", state="lost")
            await eeg.read_on(60)
            with emulator(seed=2, faults="drop=0.05") as board, linked(path, board.path):
                await until_frame(eeg, whole)
                await events.until("device", "back after")
                await eeg.read_on(100)
                await daemon.journal_stop()
            await daemon.stop()
            await eeg.read_rest()
            live.append(eeg.frames)
            lines.extend(events.seen)

    run(go())
    out: list[bytes] = []
    told: list[dict] = []
    Replay(
        read(journal), lambda data, _: out.append(data), lambda event: told.append(event.data())
    ).run()
    again = np.frombuffer(b"".join(out), FRAME)
    frames = np.frombuffer(live[0], FRAME)
    frames = frames[np.searchsorted(frames["index"], again["index"][0]) :][: len(again)]
    assert len(frames) > 200
    late = np.uint32(~Flag.LATE & 0xFFFFFFFF)
    np.testing.assert_array_equal(frames["flags"] & late, again["flags"][: len(frames)] & late)
    assert frames["values"].tobytes() == again["values"][: len(frames)].tobytes()
    assert (frames["flags"] & Flag.DISCONTINUITY).any()
    first = next(line for line in told if "t_ns" in line)  # of the tick: told once
    begin = lines.index(first) - told.index(first)
    assert lines[begin:] == told[: len(lines) - begin]
    assert any("back after" in line["message"] for line in lines[begin:])


def test_a_journal_that_begins_while_the_headset_is_away_replays_the_same(run, daemon_at, tmp_path):
    path, journal = tmp_path / "tty", tmp_path / "run.pdj"
    live: list[bytes] = []

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            with emulator() as board, linked(path, board.path):
                await until_frame(eeg, whole)
            await events.until("device", state="lost")
            await daemon.journal_start(str(journal))
            await eeg.read_on(40)
            with emulator(seed=2) as board, linked(path, board.path):
                await until_frame(eeg, whole)
                await eeg.read_on(60)
                await daemon.journal_stop()
            await daemon.stop()
            await eeg.read_rest()
            live.append(eeg.frames)

    run(go())
    out: list[bytes] = []
    Replay(read(journal), lambda data, _: out.append(data), lambda _: None).run()
    again = np.frombuffer(b"".join(out), FRAME)
    frames = np.frombuffer(live[0], FRAME)
    frames = frames[np.searchsorted(frames["index"], again["index"][0]) :][: len(again)]
    assert frames["values"].tobytes() == again["values"][: len(frames)].tobytes()
    assert (frames["flags"] & Flag.DISCONTINUITY).any()


def test_impedance_is_asked_of_a_streaming_headset(run, daemon_at):
    uv = np.random.default_rng(1).normal(0, 5, (2500, 8))

    async def go():
        with CytonEmulator(uv, at_end="loop", kohm=(1.0, 5.0, 20.0)) as board:
            async with daemon_at(f'devices=["cyton:{board.path}", "simulator:"]') as daemon:
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                path = daemon.control_path
                kohm = await ask(
                    path, "device.impedance", device_id="cyton-0", channels=["F3", "Fp1"]
                )
                assert list(kohm) == ["F3", "Fp1"]
                assert kohm["F3"] == pytest.approx(20.0, abs=1.0)
                assert kohm["Fp1"] == pytest.approx(1.0, abs=1.0)
                assert not any(board.board._lead_off), "the current is off again"
                for device_id, channels, code in (
                    ("cyton-0", ["Oz"], "bad-params"),
                    ("cyton-9", None, "unknown-device"),
                    ("simulator-0", None, "device"),
                ):
                    with pytest.raises(ControlError) as raised:
                        await ask(path, "device.impedance", device_id=device_id, channels=channels)
                    assert raised.value.code.startswith(code) and raised.value.hint

    run(go())


def test_a_mark_that_the_board_makes_is_on_the_markers_port(run, daemon_at):
    async def go():
        with emulator(faults="marker@1") as board:
            async with daemon_at(f'devices=["cyton:{board.path}?aux=marker"]') as daemon:
                put = []
                daemon.markers.listen(put.append)
                async with asyncio.timeout(WAIT_S):
                    while not put:
                        await asyncio.sleep(0.01)
                (marker,) = put
                assert (marker.label, marker.payload["value"]) == ("M", ord("M"))
                # Packet 251 was due a second and a sample after the first: on a pty, 2 ms.
                assert abs(marker.t_ns - board.t0_ns - 1_004_000_000) < 20_000_000

    run(go())
