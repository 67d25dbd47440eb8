"""The panic latch: set, nothing acts; it outlives a restart, and one that can't be read is set."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from phantomd.errors import StateUnusable


class Latch(msgspec.Struct, frozen=True):
    """``panic.json`` in the state directory."""

    set: bool
    reason: str
    unix_ns: int


class PanicLatch:
    """Holds the latch and its file. ``write`` waits for the disk; one thread at a time calls it.

    Setting takes effect in memory first: a disk that fails can't keep the latch open. Clearing
    takes effect when it is on the disk.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "panic.json"
        self._latch = self._read()

    @property
    def latch(self) -> Latch:
        return self._latch

    @property
    def is_set(self) -> bool:
        return self._latch.set

    @property
    def reason(self) -> str:
        return self._latch.reason

    def take(self, latch: Latch) -> None:
        """From now on, in memory."""
        self._latch = latch

    def write(self, latch: Latch) -> None:
        """To the disk. Raises StateUnusable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = self._path.with_suffix(".tmp")
            with scratch.open("wb") as file:
                file.write(msgspec.json.encode(latch))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)  # without it a power cut may bring the old file back
            finally:
                os.close(directory)
        except OSError as error:
            after = "a restart forgets that panic is set" if latch.set else "panic stays as it was"
            raise StateUnusable(
                f"{self._path}: {error.strerror or error}",
                hint=f"{after}, until the state directory can be written",
            ) from error

    def _read(self) -> Latch:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Latch)
        except FileNotFoundError:
            return Latch(False, "", 0)
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            return Latch(True, f"{self._path} can't be read: {error}", 0)
