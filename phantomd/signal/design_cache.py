"""Filters that were designed once, for the next start: SciPy's import is a second of each.

One file in the user's cache directory (the service's: ``$CACHE_DIRECTORY``). What stands in it is
taken only if it was made by the same NumPy, SciPy and lines of code; whatever can't be read or
written is no loss but of time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from phantomd.signal import designs
from phantomd.signal.designs import Sos

log = logging.getLogger(__name__)

#: Of a request as JSON: a handful for each device that was ever opened.
_MOST = 1024


class _File(msgspec.Struct, frozen=True):
    made_by: str
    sections: dict[str, list[list[float]]]


def path() -> Path:
    """Where the file is, if there is one."""
    service = os.environ.get("CACHE_DIRECTORY")
    if service:
        return Path(service.partition(":")[0]) / "filters.json"
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "phantomd" / "filters.json"


def load(file: Path) -> dict[str, Sos]:
    """By request; empty where there is nothing to be used."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_File)
        if kept.made_by != _made_by():
            return {}
        found = {request: np.array(rows, np.float64) for request, rows in kept.sections.items()}
    except FileNotFoundError:
        return {}
    except (OSError, RuntimeError, ValueError, msgspec.MsgspecError) as error:
        log.info("filters are designed anew: %s can't be used (%s)", file, error)
        return {}
    return {request: sos for request, sos in found.items() if _is_filter(sos)}


def add(file: Path, more: Mapping[str, Sos]) -> None:
    """Beside those that are there, the oldest leave. Whole or not at all."""
    kept = {**load(file), **more}
    newest = dict(list(kept.items())[-_MOST:])
    content = _File(_made_by(), {request: sos.tolist() for request, sos in newest.items()})
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
        new.write_bytes(msgspec.json.encode(content))
        new.replace(file)
    except (OSError, RuntimeError) as error:
        log.info("filters are designed again at the next start: %s (%s)", file, error)


def _is_filter(sos: Sos) -> bool:
    """Sections that are normalised, finite, and stable."""
    if sos.ndim != 2 or sos.shape[1] != 6 or not np.isfinite(sos).all():
        return False
    a1, a2 = sos[:, 4], sos[:, 5]
    return bool((sos[:, 3] == 1).all() and (abs(a2) < 1).all() and (abs(a1) < 1 + a2).all())


def _made_by() -> str:
    """Whatever could change a coefficient. RuntimeError: it can't be told."""
    try:
        libraries = f"numpy {np.__version__}, scipy {version('scipy')}"
    except PackageNotFoundError as error:
        raise RuntimeError("there is no scipy") from error
    code = Path(designs.__file__).read_bytes() + Path(__file__).with_name("filters.py").read_bytes()
    return f"{libraries}, {hashlib.sha256(code).hexdigest()}"
