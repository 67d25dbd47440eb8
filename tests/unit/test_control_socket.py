"""The control socket's file: who may connect, whose it is, what becomes of it."""

import grp
import os
import socket
import stat
from pathlib import Path

import msgpack
import pytest
from control_peer import Peer
from served import WAIT_S, read_all

from phantomd.errors import (
    ConfigError,
    PortInUse,
    StateUnusable,
)
from phantomd.net.control import ControlServer

# -- who may ---------------------------------------------------------------------------------------


def as_nobody(path: Path, groups: list[int]) -> tuple[int, list]:
    """Exit status and answer of a child that asks as uid nobody."""
    theirs, ours = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(65534)
            ours.sendall(msgpack.packb(Peer(path).ask("echo", {"value": 1})))
            status = 0
        finally:
            os._exit(status)
    ours.close()
    with theirs:
        theirs.settimeout(WAIT_S)
        data = read_all(theirs)
    _, status = os.waitpid(child, 0)
    return status, msgpack.unpackb(data) if data else []


def reachable(path: Path) -> None:
    """Let everybody get as far as the socket, so that the daemon itself must refuse."""
    path.chmod(0o666)
    for directory in (path.parent, *path.parent.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="must be root to become another user")


@pytest.mark.root
@needs_root
def test_a_peer_of_another_user_is_not_allowed(others):
    reachable(others.path)
    status, answer = as_nobody(others.path, [])
    assert status == 0 and answer[2]["code"] == "not-allowed"
    assert "root" in answer[2]["hint"]


@pytest.mark.root
@needs_root
def test_a_member_of_the_group_is_allowed(serve):
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, 65534))
    server = serve(allow=group.gr_name)
    reachable(server.path)
    assert server.path.stat().st_gid == group.gr_gid
    assert as_nobody(server.path, [group.gr_gid])[1][3] == {"value": 1}
    assert as_nobody(server.path, [])[1][2]["code"] == "not-allowed"


def test_a_rule_decides_by_user_group_and_process(serve):
    asked = []

    def rule(uid: int, gid: int, pid: int) -> bool:
        asked.append((uid, gid, pid))
        return False

    error = Peer(serve(allow=rule).path).answer()[2]
    assert error["code"] == "not-allowed"
    assert asked == [(os.getuid(), os.getgid(), os.getpid())]


def test_a_group_that_does_not_exist_is_named(serve):
    with pytest.raises(ConfigError, match="no-such-group"):
        serve(allow="no-such-group")


# -- the socket file -------------------------------------------------------------------------------


def test_the_socket_is_for_the_user_and_the_group_alone(serve):
    path = serve().path
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_socket_of_a_dead_daemon_is_replaced(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = host.start(ControlServer(path, calls.table()))
    assert Peer(server.path).ask("echo", {"value": 1})[2] is None


def test_the_socket_of_a_living_daemon_is_left_to_it(serve, host, calls):
    server = serve()
    with pytest.raises(PortInUse, match="another daemon") as raised:
        host.wait(ControlServer(server.path, calls.table()).start())
    assert "ss -lxp" in raised.value.hint
    assert Peer(server.path).ask("echo", {"value": 1})[2] is None


def test_two_daemons_that_start_together_are_told_apart_by_the_lock(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    holding, go = socket.socketpair()
    child = os.fork()
    if child == 0:
        import fcntl

        with open(f"{path}.lock", "w") as lock:  # noqa: PTH123
            fcntl.lockf(lock, fcntl.LOCK_EX)
            holding.sendall(b"!")
            holding.recv(1)
        os._exit(0)
    with holding, go:
        go.recv(1)
        with pytest.raises(PortInUse):
            host.wait(ControlServer(path, calls.table()).start())
        go.sendall(b"!")
        os.waitpid(child, 0)


def test_a_file_that_is_no_socket_is_not_touched(host, calls, tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(StateUnusable, match="no socket"):
        host.wait(ControlServer(path, calls.table()).start())
    assert path.read_text() == "precious"


def test_a_path_that_can_not_be_made_is_named(host, calls, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match=r"control\.sock") as raised:
        host.wait(ControlServer(tmp_path / "file" / "control.sock", calls.table()).start())
    assert "--control" in raised.value.hint


def test_a_path_too_long_for_a_socket_is_named(host, calls, tmp_path):
    with pytest.raises(StateUnusable):
        host.wait(ControlServer(tmp_path / ("x" * 120), calls.table()).start())


def test_closing_removes_the_socket_and_gives_readers_their_answers(host, calls, tmp_path):
    server = ControlServer(tmp_path / "control.sock", calls.table())
    host.wait(server.start())
    peer = Peer(server.path)
    assert peer.ask("echo", {"value": 1})[2] is None
    host.wait(server.close())
    assert peer.ended() and not server.path.exists()


def test_closing_cancels_what_is_under_way(host, calls, tmp_path):
    server = ControlServer(tmp_path / "control.sock", calls.table())
    host.wait(server.start())
    peer = Peer(server.path)
    peer.send([0, 1, "hold", []])
    host.until(lambda: calls.begun == 1)
    host.wait(server.close())
    assert peer.ended()
