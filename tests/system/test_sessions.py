"""Sessions of a daemon in a process of its own: the command, the ports, the ledger, the end."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from running import Running
from served import connect, read_all
from spiking import velocity

from phantomd.cli.phantomctl import run as phantomctl
from phantomd.errors import FilterEmpty, SessionExists, UnknownSession


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("daemon"), "--set", "devices=[]") as daemon:
        yield daemon


class Command:
    """phantomctl, in this process."""

    def __init__(self, daemon: Running, capsys: pytest.CaptureFixture[str]) -> None:
        self._control = ("--control", str(daemon.control_path))
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        status = phantomctl([*arguments, *self._control])
        told = self._capsys.readouterr()
        assert status == 0, told.err
        return told.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def fails(self, *arguments: str) -> tuple[int, str]:
        status = phantomctl([*arguments, *self._control])
        return status, self._capsys.readouterr().err


@pytest.fixture
def command(running: Running, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(running, capsys)


def test_the_command_makes_steers_and_deletes_a_session(command):
    assert command("session", "create", "mine", "--level", "light", "--seed", "7") == "mine\n"
    assert "at 12.500 s" in command("session", "seek", "mine", "12.5")
    assert command("session", "pause", "mine").startswith("mine: paused")
    assert command("session", "resume", "mine").startswith("mine: running")
    set_to = command("session", "stress", "mine", "none", "--set", "rotation_deg=45")
    assert set_to == "rotation_deg=45\n"
    assert "rotation_deg=45" in command("session", "list")
    info = command.json("session", "get", "mine")
    assert (info["packet"], info["seed"], info["stress"]) == (500, 7, {"rotation_deg": 45.0})
    assert command("session", "delete", "mine") == "mine is deleted\n"


def test_what_is_wrong_is_said_with_a_hint(command):
    status, told = command.fails("session", "get", "nobody")
    assert status == 1
    assert "no session 'nobody'" in told and "hint:" in told
    status, told = command.fails("session", "create", "--target", "9")
    assert status == 1
    assert "target_id 9" in told and "targets: 0 (77 trials)" in told
    status, told = command.fails("session", "stress", "nobody", "--set", "noise_std=lots")
    assert status == 2


def test_an_imported_recording_is_played(command, tmp_path):
    counts = np.arange(40)[:, None] % 7 + np.zeros((40, 3), int)
    movement = np.zeros((40, 4))
    np.savez(tmp_path / "small.npz", counts=counts, kinematics=movement, bin_ms=10.0)
    folder = tmp_path / "small"
    said = command("dataset", "import", str(tmp_path / "small.npz"), "--out", str(folder))
    assert "spikes_per_bin" in said
    code = command.json("session", "create", "--dataset", str(folder))["session_code"]
    assert command.json("session", "get", code)["dataset"] == "small"
    command("session", "delete", code)
    assert "synthetic" in command("dataset", "list")


def test_errors_have_their_codes_on_the_socket(running):
    running.call("session.create", code="twice")
    with pytest.raises(Exception, match="already") as caught:
        running.call("session.create", code="twice")
    assert caught.value.code == SessionExists.code
    with pytest.raises(Exception, match="no trial") as caught:
        running.call("session.create", trial_id=5000)
    assert caught.value.code == FilterEmpty.code
    with pytest.raises(Exception, match="no session") as caught:
        running.call("session.delete", code="never")
    assert caught.value.code == UnknownSession.code
    running.call("session.delete", code="twice")


def test_the_daemon_counts_sessions_keeps_time_and_ends_cleanly(tmp_path):
    with Running(tmp_path, "--set", "devices=[]") as daemon:
        sock = connect(daemon.port("spikes"))
        unpacker, seqs = msgpack.Unpacker(), []
        while len(seqs) < 20:
            unpacker.feed(sock.recv(65536))
            for message in unpacker:
                if message["type"] == "data":
                    seqs.append(message["seq"])
                    sock.sendall(velocity(message["seq"]))
        assert seqs == list(range(len(seqs)))
        status = daemon.call("status")
        assert status["sessions"] == 1
        assert status["streams"]["spikes"]["clients"] == 1
        ledger = daemon.call("ledger")
        assert ledger["spikes"]["count"] >= 20
        assert ledger["spikes.loop"]["count"] >= 18
        exit_status, _ = daemon.end()
        assert exit_status == 0
        unpacker.feed(read_all(sock))
        assert all("type" in message for message in unpacker)


def test_junk_on_the_port_disturbs_nobody(running):
    port = running.port("spikes")
    sock = connect(port)
    rng = np.random.default_rng(3)
    for size in (1, 10, 1000, 100_000):
        bad = connect(port)
        with contextlib.suppress(ConnectionError):  # it is still sending when it is cut off
            bad.sendall(b"\xc1" + rng.bytes(size))
            read_all(bad)
    unpacker, seqs = msgpack.Unpacker(), []
    while len(seqs) < 10:
        unpacker.feed(sock.recv(65536))
        seqs += [message["seq"] for message in unpacker if message["type"] == "data"]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
