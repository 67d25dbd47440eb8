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
    """Holds the latch and its file.

    Setting it takes effect in memory first: a disk that fails can't keep the latch open.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "panic.json"
        self._latch = self._read()

    @property
    def is_set(self) -> bool:
        return self._latch.set

    @property
    def reason(self) -> str:
        return self._latch.reason

    def put(self, is_set: bool, reason: str, unix_ns: int) -> None:
        """Sets or clears. Raises StateUnusable when it can't be written; then it is set."""
        latch = Latch(is_set, reason, unix_ns)
        self._latch = latch if is_set else self._latch
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = self._path.with_suffix(".tmp")
            with scratch.open("wb") as file:
                file.write(msgspec.json.encode(latch))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
        except OSError as error:
            self._latch = Latch(True, f"the latch can't be written: {error}", unix_ns)
            raise StateUnusable(
                f"{self._path}: {error}", hint="panic stays set until the state directory is writable"
            ) from error
        self._latch = latch

    def _read(self) -> Latch:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Latch)
        except FileNotFoundError:
            return Latch(False, "", 0)
        except (OSError, msgspec.MsgspecError) as error:
            return Latch(True, f"{self._path} can't be read: {error}", 0)
