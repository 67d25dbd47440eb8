"""Tells when something happens to a device's node, so that nobody has to look again and again.

inotify(7) on the directories that lead to the node, through symbolic links: a node that comes, goes
or gets other permissions wakes whoever waits. Where it can't be had, ``armed`` is false and the
caller looks from time to time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path

_ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_MASK = _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
#: Links that lead to links that lead …: more are a loop.
_MOST_LINKS = 8

_libc = ctypes.CDLL(None, use_errno=True)


def leads(path: str) -> dict[Path, set[str]]:
    """Directory to the names in it that ``path`` hangs on: each that is there, up to the first
    name that is not."""
    found: dict[Path, set[str]] = {}
    left = [Path(path)]
    links = 0
    while left:
        at = Path("/")
        for part in left.pop().parts[1:]:
            found.setdefault(at, set()).add(part)
            at = at.parent if part == ".." else at / part
            if at.is_symlink() and links < _MOST_LINKS:
                links += 1
                left.append(at.parent / at.readlink())
            if not at.exists():
                break
    return found


class Nearby:
    """``with Nearby(path, stir)``: ``stir`` is set when something changes on the way to the node.
    Belongs to the event loop."""

    def __init__(self, path: str, stir: asyncio.Event) -> None:
        self._path = path
        self._stir = stir
        self._fd = -1
        self._names: dict[int, set[str]] = {}

    def __enter__(self) -> Nearby:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
            self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._names = {}

    @property
    def armed(self) -> bool:
        """Whether a change will be told."""
        return bool(self._names)

    def _arm(self) -> None:
        """The way to the node may lead over other directories now."""
        names: dict[int, set[str]] = {}
        for directory, wanted in leads(self._path).items():
            watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
            if watch >= 0:
                names.setdefault(watch, set()).update(wanted)
        for gone in self._names.keys() - names.keys():
            _libc.inotify_rm_watch(self._fd, gone)
        self._names = names

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        ours = False
        while data:
            watch, _, _, size = _EVENT.unpack_from(data)
            name = data[_EVENT.size : _EVENT.size + size].rstrip(b"\0")
            data = data[_EVENT.size + size :]
            ours |= not name or os.fsdecode(name) in self._names.get(watch, ())
        if ours:
            self._arm()
            self._stir.set()
