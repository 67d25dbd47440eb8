import numpy as np
from numpy.typing import NDArray

from phantomd.core.intake import Driver, Intake

LOST: int
RESET: int
MARKED: int
"""Flags of a row: lost when it was recorded; the first after the device came back; to be told of."""
NO_TIME: int

class PlayDriver(Driver):
    """Rows from memory become samples of the intake by the clock (csrc/pd_play.h).

    ``n_rows``: of its ring, a power of two. ``marker_fd``: an eventfd that is told when a MARKED
    row is played. ``put`` and ``finish`` belong to one filler, which may be another thread.
    """

    def __init__(self, intake: Intake, n_rows: int, marker_fd: int = -1) -> None: ...
    def put(
        self,
        values: NDArray[np.float64],
        at_ns: NDArray[np.int64],
        flags: NDArray[np.uint32],
        behind: NDArray[np.uint32],
        device_ns: NDArray[np.int64],
    ) -> None:
        """``values`` float64[n, n_values], in µV and aux units; ``at_ns`` after the start, never
        less than before. ValueError: other shapes, or more than ``room``."""
    def finish(self) -> None:
        """There will be no more rows."""
    @property
    def room(self) -> int: ...
    @property
    def filled(self) -> int: ...
    @property
    def played(self) -> int:
        """Rows so far, lost ones too."""
    @property
    def starved(self) -> int:
        """Rows that the filler had not brought when they were due."""
    @property
    def start_ns(self) -> int | None:
        """When row time 0 was; None before the first advance."""
