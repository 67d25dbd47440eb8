"""Propagators of a user's own: ``[oracle] propagators`` names functions, called with the network.

def mine(network):
    network.add("calm", ["focus"], ["calm"], lambda focus: Value(1.0 - focus))
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from phantomd.errors import ConfigError
from phantomd.oracle.cells import Content, Network, Nothing, Value
from phantomd.oracle.network import CELLS

Build = Callable[[Network], None]


def load_propagators(named: Iterable[str]) -> tuple[tuple[str, Build], ...]:
    """Each ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``. Raises ConfigError, which names it."""
    return tuple((where, _load(where)) for where in named)


def _load(where: str) -> Build:
    place, _, name = where.rpartition(":")
    hint = "FILE.py:FUNCTION or MODULE:FUNCTION; FUNCTION(network) adds cells and propagators"
    if not place or not name:
        raise ConfigError(f"oracle.propagators: {where!r} names no function", hint=hint)
    try:
        found = getattr(_module(place), name)
    except Exception as error:
        raise ConfigError(
            f"oracle.propagators: {where!r} can't be loaded: {type(error).__name__}: {error}",
            hint=hint,
        ) from error
    if not callable(found):
        raise ConfigError(f"oracle.propagators: {where!r} is no function", hint=hint)
    return found  # type: ignore[no-any-return]


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).expanduser().resolve()
    name = f"phantomd_propagators_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what it defines can be found again by name
    spec.loader.exec_module(module)
    return module


def build(network: Network, loaded: Iterable[tuple[str, Build]]) -> None:
    """Raises ConfigError for a function that can't build on it."""
    for where, function in loaded:
        try:
            function(network)
        except Exception as error:
            raise ConfigError(
                f"oracle.propagators: {where!r} failed: {type(error).__name__}: {error}",
                hint="it is called with the network when the daemon starts, and at a new montage",
            ) from error


def own_cells(network: Network) -> dict[str, dict[str, Any]]:
    """The cells that a user added, as they stand on the ports."""
    return {name: _plain(cell.content) for name, cell in network.cells.items() if name not in CELLS}


def _plain(content: Content) -> dict[str, Any]:
    if isinstance(content, Value):
        return {"cell": "value", "value": encodable(content.value)}
    if isinstance(content, Nothing):
        return {"cell": "nothing", "reason": content.reason or "no-signal"}
    return {
        "cell": "contradiction",
        "a": encodable(content.a),
        "b": encodable(content.b),
    }


def encodable(value: Any) -> Any:
    """Numbers, texts, lists and maps as they are; what JSON has no form for, as Python shows it."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError):
        return repr(value)
    return value
