from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.core.intake import Driver, Intake

def bytes_needed(n_values: int, n_slots: int) -> int:
    """Of the memory that daemon and child share; 0 for what can't be (csrc/pd_shared.h)."""

def guard(fd: int) -> None:
    """Child: this process group is killed as soon as the other end of ``fd`` closes, or the thread
    that started the process ends, even while the process hangs. OSError when that can't be."""

class SharedDriver(Driver):
    """Daemon: takes what a child writes into ``memory`` when a byte comes out of ``wake_fd``.

    ``memory``: a zeroed, writable, 64-byte aligned buffer of ``bytes_needed``. ``wake_fd``: the
    non-blocking read end of a pipe; its end ends the pump with ENODEV, a heart that has not beaten
    for ``hang_ns`` with ETIMEDOUT, nonsense with EPROTO. ValueError for memory that doesn't fit.
    """

    def __init__(
        self, intake: Intake, memory: Any, n_slots: int, wake_fd: int, *, hang_ns: int
    ) -> None: ...
    def go_on(self, intake: Intake) -> None:
        """What comes goes into this intake, another driver's before it, from here on. Before its
        pump runs, and once the other's has ended. ValueError for one of another form."""
    def counters(self) -> dict[str, int]:
        """``overrun, refused, restamped``: samples since it was made (csrc/pd_shared.h)."""

class SharedWriter:
    """Child: writes into ``memory``. ValueError when no ring for ``n_values`` is there."""

    def __init__(self, memory: Any, n_values: int) -> None: ...
    def put(
        self,
        values: NDArray[np.float64],
        index: NDArray[np.uint64],
        arrival_ns: NDArray[np.int64],
        device_ns: NDArray[np.int64] | None = None,
        *,
        together: bool = False,
        restart: bool = False,
    ) -> None:
        """``values`` float64[n, n_values], the others [n]. ``together``: they came in one read, so
        that only the last one's arrival says when it was taken. ``restart``: the device began anew
        before the first. ValueError for other shapes."""
    def beat(self) -> None:
        """The driver gets on."""
