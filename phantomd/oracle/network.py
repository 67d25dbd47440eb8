"""The oracle's network: eeg → focus → trit → brightness, and whatever a user adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.oracle.cells import Content, Contradiction, Network, Nothing, Value
from phantomd.oracle.trit import BASELINE, NO_TRIT, ROLES, brightness, check, trit

Focus = Callable[[npt.NDArray[Any]], Content]
CELLS = ("eeg", "focus", "trit", "brightness")


def oracle_network(focus: Focus) -> Network:
    """``focus``: window [samples, channels] of µV to the content of the focus cell. What lies
    outside of a cell's range, from here or told by anybody, contradicts, and halts what hangs on
    it."""
    network = Network()
    network.constrain("focus", check)
    network.constrain("trit", _check_trit)
    network.constrain("brightness", check)
    network.add("focus", ["eeg"], ["focus"], focus)
    network.add("trit", ["focus"], ["trit"], lambda value: trit(Value(value)))
    network.add("brightness", ["trit"], ["brightness"], lambda value: brightness(Value(value)))
    return network


def tell_window(network: Network, content: Content, epoch: int) -> None:
    """A window [samples, channels], or why there is none. After the timeout what hangs on the trit
    is at its baseline."""
    if isinstance(content, Nothing) and content.reason == "timeout":
        network.tell("brightness", Value(BASELINE["brightness"]), epoch)
    network.tell("eeg", content, epoch)
    network.run()


def inject_focus(network: Network, focus: Content, epoch: int) -> None:
    """A focus from elsewhere, in place of the window's own in this epoch."""
    network.tell("focus", focus, epoch)
    network.run()


def _check_trit(value: object) -> Content:
    is_trit = isinstance(value, int | np.integer) and value in ROLES
    return Value(value) if is_trit else Contradiction(value, NO_TRIT)
