"""A client of the control socket (``phantomd.client`` has it too)."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import msgspec

from phantomd.contracts import control_paths
from phantomd.errors import ControlError, NoDaemon, PhantomError

_RECV_BYTES = 64 * 1024
_ANSWER_BYTES = 1 << 20


class Control:
    """The control socket: ``Control().call("status")``. Raises NoDaemon when nobody answers there.

    Without a path: $PHANTOMD_CONTROL, else the user's own daemon's, else the service's socket.
    """

    def __init__(self, path: Path | str | None = None, *, timeout_s: float = 10.0) -> None:
        paths = control_paths() if path is None else (Path(path),)
        self.path = next((candidate for candidate in paths if _there(candidate)), paths[0])
        self._unpacker = msgpack.Unpacker(max_buffer_size=_ANSWER_BYTES)
        self._id = 0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_s)
        try:
            self._sock.connect(str(self.path))
        except OSError as error:
            self._sock.close()
            raise _no_control(self.path, paths, error) from error

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of a method. Raises a ControlError with the answer's code, message and hint,
        NoDaemon when the connection breaks or no answer comes."""
        self._id += 1
        self._send([0, self._id, method, [params] if params else []])
        while True:
            answer = self._answer()
            match answer:
                case [1, None, error, _] if isinstance(error, dict):
                    raise refused(error)
                case [1, request, error, result] if request == self._id:
                    if error is not None:
                        raise refused(error)
                    return result

    def notify(self, method: str, /, **params: Any) -> None:
        """Ask without wanting an answer."""
        self._send([2, method, [params] if params else []])

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, message: list[Any]) -> None:
        try:
            self._sock.sendall(msgspec.msgpack.encode(message))
        except BrokenPipeError:
            return  # it was refused: the answer that says why can still be read
        except OSError as error:
            raise self._broken(error) from error

    def _answer(self) -> Any:
        while True:
            for message in self._unpacker:
                return message
            try:
                data = self._sock.recv(_RECV_BYTES)
            except OSError as error:
                raise self._broken(error) from error
            if not data:
                raise self._broken(None)
            self._unpacker.feed(data)

    def _broken(self, error: OSError | None) -> NoDaemon:
        if isinstance(error, TimeoutError):
            return NoDaemon(
                f"the daemon at {self.path} does not answer",
                hint="it hangs or is overloaded: `phantomctl top`, or its log, may say why",
            )
        return NoDaemon(
            f"the daemon at {self.path} closed the connection",
            hint="it stopped, or started again: connect anew",
        )


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a directory that hides it: connecting says so better
        return True


def _no_control(path: Path, tried: tuple[Path, ...], error: OSError) -> NoDaemon:
    match error:
        case FileNotFoundError():
            places = " or ".join(str(candidate) for candidate in tried)
            return NoDaemon(f"no daemon: there is no control socket {places}")
        case ConnectionRefusedError():
            return NoDaemon(
                f"no daemon: {path} was left behind by one that has ended",
                hint="start it again with `phantomd`",
            )
        case PermissionError():
            return NoDaemon(
                f"{path}: permission denied",
                hint="run as the daemon's user or as root, or join the group that may control it",
            )
        case TimeoutError() | BlockingIOError():
            return NoDaemon(
                f"the daemon at {path} does not take the connection",
                hint="it hangs or is overloaded: its log may say why",
            )
    return NoDaemon(f"{path}: {error.strerror or error}")


def _tree(root: type[PhantomError]) -> Iterator[type[PhantomError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_CODE = {kind.code: kind for kind in _tree(ControlError)}


def refused(body: Mapping[str, Any]) -> ControlError:
    """A refusal as an exception: a ControlError, whatever its code."""
    code = str(body.get("code", "failed"))
    kind = _BY_CODE.get(code, ControlError)
    error = kind(str(body.get("message", "")), hint=str(body.get("hint", "")))
    assert isinstance(error, ControlError)
    error.code = code
    return error
