"""A Unix socket that belongs to one living daemon, and who is at its other end."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phantomd.errors import ConfigError, NotAllowed, PhantomError, PortInUse, StateUnusable

#: (uid, gid, pid) of a peer: may it steer the daemon?
Allow = Callable[[int, int, int], bool]

_UCRED = struct.Struct("=iII")
#: asm-generic/socket.h; Python has no name for it. Its answer is at most what getsockopt takes.
_SO_PEERGROUPS = 59
_GROUPS_BYTES = 1024
_BACKLOG = 64


@dataclass(frozen=True)
class Peer:
    """Who connected, as the kernel noted it then."""

    uid: int
    gid: int
    pid: int
    groups: frozenset[int]


def peer_of(sock: socket.socket) -> Peer:
    """Raises OSError where the peer has gone. Supplementary groups come from the kernel: a look-up
    by name could ask a directory server, and block. A peer in more than 256 counts with its
    primary group alone."""
    pid, uid, gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    try:
        listed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError as error:
        if error.errno not in (errno.ERANGE, errno.ENOPROTOOPT):
            raise
        listed = b""
    groups = struct.unpack(f"={len(listed) // 4}I", listed[: len(listed) // 4 * 4])
    return Peer(uid, gid, pid, frozenset((gid, *groups)))


@dataclass(frozen=True)
class Permission:
    """Who may steer the daemon. ``gid``: the group that may, besides root and the own user."""

    gid: int | None = None
    group: str = ""
    rule: Allow | None = None

    def allows(self, peer: Peer) -> bool:
        if self.rule is not None:
            return self.rule(peer.uid, peer.gid, peer.pid)
        return peer.uid in (0, os.geteuid()) or self.gid in peer.groups

    def refusal(self, peer: Peer) -> NotAllowed:
        join = f", or join its group: `sudo usermod -aG {self.group} USER`" if self.group else ""
        return NotAllowed(
            f"user {peer.uid} may not control this daemon",
            hint=f"run as the user of the daemon or as root{join}",
        )


def permission(allow: Allow | str | None) -> Permission:
    """Raises ConfigError on a group that does not exist."""
    if not isinstance(allow, str):
        return Permission(rule=allow)
    try:
        return Permission(gid=grp.getgrnam(allow).gr_gid, group=allow)
    except KeyError as error:
        raise ConfigError(
            f"there is no group {allow!r}", hint=f"make it with `sudo groupadd -r {allow}`"
        ) from error


class UnixSocket:
    """A listening socket file, replaced where its daemon is dead, and removed by ``remove``.

    A lock beside it decides between two daemons that start at the same moment. It is a POSIX lock:
    it ends with the daemon, and a forked child does not inherit it.
    """

    def __init__(self, sock: socket.socket, path: Path, lock_fd: int) -> None:
        self.sock = sock
        self._path = path
        self._lock_fd = lock_fd
        self._identity = _identity(path)

    @classmethod
    def bind(cls, path: Path, gid: int | None) -> UnixSocket:
        """Mode 0660, for ``gid`` where there is one; a directory that is made is 0750 for the
        group, else 0700. Raises PortInUse and StateUnusable."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        lock_fd = -1
        try:
            _make_directory(path.parent, gid)
            lock_fd = _lock(path)
            _remove_dead(path)
            sock.bind(str(path))
            # Nobody can connect before listen(), so that nobody sees it with a wider mode.
            path.chmod(0o660)
            if gid is not None:
                os.chown(path, -1, gid)
            sock.listen(_BACKLOG)
            return cls(sock, path, lock_fd)
        except BaseException as error:
            sock.close()
            if lock_fd >= 0:
                os.close(lock_fd)
            if isinstance(error, OSError):
                raise _unusable(path, error) from error
            raise

    def remove(self) -> None:
        """Close, and remove the file unless another daemon's is there by now."""
        self.sock.close()
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        os.close(self._lock_fd)


def _make_directory(directory: Path, gid: int | None) -> None:
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if gid is not None:
        os.chown(directory, -1, gid)
        directory.chmod(0o750)


def _lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _living(path) from error
        raise
    return fd


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StateUnusable(
            f"{path} is no socket", hint="move it away, or name another path with --control"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(str(path))
    if answer != errno.ECONNREFUSED:
        raise _living(path)
    path.unlink(missing_ok=True)


def _living(path: Path) -> PortInUse:
    return PortInUse(
        f"another daemon has the control socket {path}",
        hint=f"`ss -lxp src {path}` names it; stop it, or give this one its own --control PATH "
        "(and --base-port N)",
    )


def _unusable(path: Path, error: OSError) -> PhantomError:
    return StateUnusable(
        f"the control socket {path} can't be made: {error.strerror or error}",
        hint="name a path in a directory of yours with --control or $PHANTOMD_CONTROL",
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
