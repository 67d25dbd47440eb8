"""Who holds a serial port: by its locks and by open descriptors, as far as we may see."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def holder_of(port: str, proc: Path = _PROC) -> str | None:
    """``name (pid)`` of another process that has a lock on the port or, if none has, has it open;
    ``another program`` where a lock is seen but not whose it is; None: nobody that we can see."""
    try:
        status = Path(port).stat()
    except OSError:
        return None
    lockers = _lockers(status, proc) - {str(os.getpid())}
    for pid in sorted(lockers):
        if (proc / pid).is_dir():
            return f"{_name(proc / pid)} ({pid})"
    if lockers:
        return "another program"
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(process.name) != os.getpid() and _has_open(process, status):
            return f"{_name(process)} ({process.name})"
    return None


def _has_open(process: Path, status: os.stat_result) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # gone, or somebody else's
        return False
    for descriptor in descriptors:
        try:
            found = descriptor.stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            return True
    return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() or "?"
    except OSError:
        return "?"


def _lockers(status: os.stat_result, proc: Path) -> set[str]:
    """Whose locks on it are in /proc/locks: ``1: FLOCK ADVISORY WRITE pid major:minor:inode …``."""
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return set()
    return {words[4] for line in lines if len(words := line.split()) > 5 and words[5] == where}
