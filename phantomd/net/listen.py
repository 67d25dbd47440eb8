"""Sockets that arrive and sockets that leave, for the stream servers and the control."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from phantomd.errors import ConfigError, PhantomError, PortInUse, PortNotAllowed

log = logging.getLogger(__name__)

SNDBUF_BYTES = 32 * 1024
_BACKLOG = 128
#: A subscriber's host that died without a word is noticed after 15 + 3 * 5 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))

#: Out of descriptors or of socket memory: nothing to do but wait.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 0.25
_ACCEPTS_A_WAKE_UP = 16
_DRAIN_BYTES = 1 << 16
_FEWEST = 16


async def listening(name: str, host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket for a stream. Raises PortInUse, PortNotAllowed,
    ConfigError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _unusable(name, host, port, error) from error
    # "localhost" is ::1 first on many hosts, and clients are told 127.0.0.1.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Before listen(): accepted sockets inherit it, and never had a larger one.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(name, host, port, error) from error
    return sock


def prepare(sock: socket.socket) -> None:
    """A subscriber's socket, just accepted. Raises OSError where it has already gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Listener:
    """Accepts from a listening, non-blocking socket and hands non-blocking sockets on.

    When the process is out of descriptors the listener pauses: its readiness would otherwise wake
    the loop for ever. Logged when that starts and when it ends.
    """

    def __init__(self, sock: socket.socket, name: str, accepted: Callable[[socket.socket], None]):
        self._sock = sock
        self._name = name
        self._accepted = accepted
        self._exhausted = False
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_WAKE_UP):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            if self._exhausted:
                self._exhausted = False
                log.info("%s accepts connections again", self._name)
            sock.setblocking(False)
            self._accepted(sock)

    def _wait(self, error: OSError) -> None:
        if not self._exhausted:
            self._exhausted = True
            known = "" if error.errno in _EXHAUSTED else " (unexpected)"
            log.warning("%s can't accept for now: %s%s", self._name, error, known)
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)


class _Leaving:
    __slots__ = ("data", "sock", "timer")

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.sock = sock
        self.data = data
        self.timer: asyncio.TimerHandle | None = None


class Farewells:
    """Connections that end: each still gets its last bytes, then FIN, and is closed when the peer
    has closed too, or after ``wait_s``.

    Input is read and thrown away until then: a socket closed with unread input answers with a
    reset, which can destroy the very message that says why. Beyond ``limit`` the oldest is cut off.
    """

    def __init__(self, limit: int, wait_s: float = 1.0) -> None:
        self._limit = max(limit, _FEWEST)
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._leaving: dict[_Leaving, None] = {}
        self._sent: asyncio.Event = asyncio.Event()

    def add(self, sock: socket.socket, data: bytes) -> None:
        """Takes the socket, which has no reader and no writer any more."""
        while len(self._leaving) >= self._limit:
            self._close(next(iter(self._leaving)))
        one = _Leaving(sock, data)
        self._leaving[one] = None
        one.timer = self._loop.call_later(self._wait_s, self._close, one)
        self._loop.add_reader(sock.fileno(), self._drain, one)
        if self._send(one) and one.data:
            self._loop.add_writer(sock.fileno(), self._send, one)

    async def finish(self, wait_s: float) -> None:
        """Wait, at most ``wait_s``, until everybody was sent what was left; then close all."""
        if any(one.data for one in self._leaving):
            self._sent.clear()
            try:
                await asyncio.wait_for(self._sent.wait(), wait_s)
            except TimeoutError:
                log.info("%d connections did not take their last bytes", len(self._leaving))
        for one in tuple(self._leaving):
            if self._drain(one):
                self._close(one)

    def _send(self, one: _Leaving) -> bool:
        """False when the connection is gone."""
        try:
            if one.data:
                one.data = one.data[one.sock.send(one.data) :]
            if one.data:
                return True
            one.sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            self._close(one)
            return False
        self._loop.remove_writer(one.sock.fileno())
        self._tell()
        return True

    def _drain(self, one: _Leaving) -> bool:
        """False when the connection is gone."""
        try:
            if one.sock.recv(_DRAIN_BYTES):
                return True
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            self._close(one)
            return False
        if one.data:  # a half-closed peer still reads
            self._loop.remove_reader(one.sock.fileno())
            return True
        self._close(one)
        return False

    def _close(self, one: _Leaving) -> None:
        del self._leaving[one]
        if one.timer is not None:
            one.timer.cancel()
        self._loop.remove_reader(one.sock.fileno())
        self._loop.remove_writer(one.sock.fileno())
        one.sock.close()
        one.data = b""
        self._tell()

    def _tell(self) -> None:
        if not any(one.data for one in self._leaving):
            self._sent.set()


def _unusable(name: str, host: str, port: int, error: OSError) -> PhantomError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"port {port} ({name}) is in use",
            hint=f"`ss -ltnp 'sport = :{port}'` names who has it; --base-port N moves all ports",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PortNotAllowed(
            f"port {port} ({name}): {error.strerror}",
            hint="ports below 1024 are for root: take others with --base-port N",
        )
    return ConfigError(
        f"{name} can't listen on {where}: {error.strerror}",
        hint="the host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0",
    )
