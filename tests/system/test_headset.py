"""Headsets that are missing, busy, silent, lost and back again: the daemon streams throughout."""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from live import EegClient
from patience import Pace
from running import Events, ask, contiguous, until_frame, whole
from served import WAIT_S

from phantomd.contracts import EegHeader, Flag
from phantomd.devices.emulator import CytonEmulator
from phantomd.engine import supervisor
from phantomd.errors import ControlError

SIGNAL_UV = np.random.default_rng(1).normal(0, 20, (2500, 8))


def emulator(**how) -> CytonEmulator:
    return CytonEmulator(SIGNAL_UV, at_end="loop", **how)


def link(path, to: str) -> None:
    """Puts the port where the daemon looks for it, in one step."""
    scratch = path.with_suffix(".new")
    scratch.symlink_to(to)
    scratch.replace(path)


@contextmanager
def linked(path, to: str):
    """The same, and takes it away before the port goes: its number may be another test's next."""
    link(path, to)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def silent_port():
    """A terminal on which nobody answers."""
    master, slave = os.openpty()
    try:
        yield os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def held_by_another_process(path: str):
    """Somebody has an exclusive lock on the port, as every well-behaved serial program does."""
    code = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.communicate()


async def error_of(request) -> ControlError:
    with pytest.raises(ControlError) as raised:
        await request
    assert raised.value.hint
    return raised.value


def test_a_missing_headset_is_looked_for_and_taken_up_when_it_is_there(run, daemon_at, tmp_path):
    path = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            told = await events.until("device", "looking for it")
            assert told["device_id"] == "cyton-0" and f"there is no {path}" in told["message"]
            assert "plug the dongle in" in told["hint"]
            missing = await eeg.read(16)
            assert (missing["flags"] & Flag.MISSING).all()
            with emulator() as board, linked(path, board.path):
                await events.until("device", state="streaming")
                frame = await until_frame(eeg, whole)
                assert frame["flags"] & Flag.DISCONTINUITY
                await eeg.read(32)
            contiguous(eeg)
            assert sum("looking for it" in seen["message"] for seen in events.seen) == 1

    run(go())


def test_a_headset_that_comes_back_keeps_epoch_and_index(run, daemon_at, tmp_path):
    path = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            with emulator() as board, linked(path, board.path):
                await until_frame(eeg, whole)
                await eeg.read(64)
            lost = await events.until("device", "lost (", state="lost")
            assert lost["level"] == "alert"
            await until_frame(eeg, lambda frame: not whole(frame))
            assert daemon.status().devices[0].state == "lost"
            with emulator(seed=2) as board, linked(path, board.path):
                back = await until_frame(eeg, whole)
                rest = await eeg.read(64)
            again = await EegClient.connect(daemon.ports.streams["eeg"].port)
            assert back["flags"] & Flag.DISCONTINUITY
            assert not (rest["flags"] & Flag.DISCONTINUITY).any()
            contiguous(eeg)
            first, second = EegHeader.decode(eeg.header), EegHeader.decode(again.header)
            assert second.epoch == first.epoch and second.labels == first.labels
            names = [info.device_id for info in daemon.status().devices]
            assert names == ["cyton-0"]

    run(go())


def test_a_headset_that_another_program_has_is_named_and_taken_up_later(run, daemon_at):
    async def go():
        with emulator() as board, ExitStack() as holder:
            holder.enter_context(held_by_another_process(board.path))
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                events = await Events.connect(daemon.ports.streams["events"].port)
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                told = await events.until("device", "looking for it")
                assert f") has {board.path}" in told["message"]  # name and process
                assert f"fuser {board.path}" in told["hint"]
                frames = await eeg.read(16)
                assert (frames["flags"] & Flag.MISSING).all()
                holder.close()
                await events.until("device", state="streaming")
                await until_frame(eeg, whole)
                contiguous(eeg)

    run(go())


def test_a_busy_headset_can_be_opened_once_it_is_free(run, daemon_at):
    async def go():
        with emulator() as board:
            async with daemon_at("devices=[]") as daemon:
                address = f"cyton:{board.path}"
                with held_by_another_process(board.path):
                    error = await error_of(ask(daemon.control_path, "device.open", address=address))
                    assert error.code == "device-busy" and "fuser" in error.hint
                    assert daemon.status().devices == []
                answer = await ask(daemon.control_path, "device.open", address=address)
                assert answer == {"device_id": "cyton-0"}

    run(go())


def test_a_headset_is_opened_once_under_any_name(run, daemon_at, tmp_path):
    async def go():
        with emulator() as board:
            link(tmp_path / "tty", board.path)
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                for address in (f"cyton:{board.path}", f"cyton:{tmp_path / 'tty'}"):
                    error = await error_of(ask(daemon.control_path, "device.open", address=address))
                    assert error.code == "device-busy"
                frames = await eeg.read(64)
                assert not (frames["flags"] & Flag.MISSING).any()
                contiguous(eeg)

    run(go())


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("cyton:/dev/no-such-port", "device-missing"),
        ("cyton:/dev/null", "bad-address"),
        ("cyton:/dev/ttyUSB0?dasy=true", "bad-address"),
        ("brian:1", "bad-address"),
        ("simulator:?channels=0", "bad-address"),
    ],
)
def test_what_can_not_be_opened_is_an_error_with_a_hint_and_leaves_nothing(
    run, daemon_at, address, code
):
    async def go():
        async with daemon_at() as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await eeg.read(8)
            error = await error_of(ask(daemon.control_path, "device.open", address=address))
            assert error.code == code
            assert [info.device_id for info in daemon.status().devices] == ["simulator-0"]
            await eeg.read(32)
            contiguous(eeg)

    run(go())


def test_closing_a_headset_that_is_being_opened_answers_both(run, daemon_at):
    async def go():
        with silent_port() as path:
            async with daemon_at("devices=[]") as daemon:
                opening = asyncio.ensure_future(
                    ask(daemon.control_path, "device.open", address=f"cyton:{path}")
                )
                async with asyncio.timeout(WAIT_S):
                    while not daemon.status().devices:
                        await asyncio.sleep(0)
                await ask(daemon.control_path, "device.close", device_id="cyton-0")
                error = await error_of(opening)
                assert error.code == "device-missing" and "closed while it was opening" in str(
                    error
                )
                assert daemon.status().devices == []

    run(go())


def test_closing_a_device_twice_at_once_is_answered_twice(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            both = await asyncio.gather(
                *(
                    ask(daemon.control_path, "device.close", device_id="simulator-0")
                    for _ in range(2)
                ),
                return_exceptions=True,
            )
            codes = sorted(getattr(one, "code", "done") for one in both)
            assert codes == ["done", "unknown-device"]
            await until_frame(eeg, lambda frame: not whole(frame))
            contiguous(eeg)

    run(go())


def test_a_port_is_free_again_after_closing(run, daemon_at):
    async def go():
        with emulator() as board:
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                await ask(daemon.control_path, "device.close", device_id="cyton-0")
                fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finally:
                    os.close(fd)

    run(go())


def test_a_board_that_falls_silent_is_told_to_stream_again(run, daemon_at, monkeypatch):
    """Switched off and on, a board waits for its start command."""
    monkeypatch.setattr(supervisor, "SILENCE_S", 0.5)

    async def go():
        with emulator() as board:
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                events = await Events.connect(daemon.ports.streams["events"].port)
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                board._board.streaming = False
                await events.until("device", state="stalled")
                await events.until("device", "lost (silent for 0.5 s)", state="lost")
                await events.until("device", state="streaming")
                await until_frame(eeg, whole)
                contiguous(eeg)

    run(go())


@pytest.mark.parametrize("listener", ["silent", "absent"])
def test_a_daemon_stops_while_it_looks_for_a_headset(run, daemon_at, tmp_path, listener):
    async def go():
        with silent_port() as port:
            path = port if listener == "silent" else tmp_path / "tty"
            async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await eeg.read(16)
                with Pace() as pace:
                    begun_s = time.monotonic()
                    await daemon.stop()
                    took_s = time.monotonic() - begun_s
                assert took_s < pace.stretch(1.0)
                await eeg.read_rest()
                contiguous(eeg)

    run(go())


def test_the_first_configured_device_is_on_7069_whether_it_is_there_or_not(
    run, daemon_at, tmp_path
):
    path = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{path}", "simulator:?channels=4"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await events.until("device", device_id="simulator-0", state="streaming")
            frames = await eeg.read(16)
            assert (frames["flags"] & ~np.uint32(Flag.LATE) == Flag.MISSING).all()
            with emulator() as board, linked(path, board.path):
                frame = await until_frame(eeg, whole)
                assert not frame["flags"] & Flag.SIMULATED
                contiguous(eeg)

    run(go())


def test_a_lost_headset_keeps_its_place(run, daemon_at, tmp_path):
    path = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            with emulator() as board, linked(path, board.path):
                await until_frame(eeg, whole)
            await until_frame(eeg, lambda frame: not whole(frame))
            await ask(daemon.control_path, "device.open", address="simulator:?channels=4")
            with emulator() as board, linked(path, board.path):
                frame = await until_frame(eeg, whole)
                assert not frame["flags"] & Flag.SIMULATED
                contiguous(eeg)

    run(go())
