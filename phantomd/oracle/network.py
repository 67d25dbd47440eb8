"""The oracle's network: eeg → focus → trit → brightness, and whatever a user adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from phantomd.oracle.cells import Content, Network, Value
from phantomd.oracle.trit import brightness, check, trit

Focus = Callable[[npt.NDArray[Any]], Content]


def oracle_network(focus: Focus) -> Network:
    """``focus``: window [channels, samples] of µV to the content of the focus cell. A focus outside
    [0, 1], from here or told by anybody, contradicts, and halts what hangs on it."""
    network = Network()
    network.add("focus", ["eeg"], ["focus"], lambda window: _checked(focus(window)))
    network.add("trit", ["focus"], ["trit"], lambda value: trit(Value(value)))
    network.add("brightness", ["trit"], ["brightness"], lambda value: brightness(Value(value)))
    return network


def inject_focus(network: Network, focus: Content, epoch: int) -> None:
    """A focus from elsewhere, in place of the window's own in this epoch."""
    network.tell("focus", _checked(focus), epoch)
    network.run()


def _checked(focus: Content) -> Content:
    return check(focus.value) if isinstance(focus, Value) else focus
