from typing import Any

import numpy as np
from numpy.typing import NDArray

class Ring:
    """One writer, many readers, overwriting; frames of ``words`` 64-bit words by absolute index.

    ``memory``: a writable buffer (shared memory, say) of ``bytes_needed``; None: private memory.
    ``first``: index of the first frame. ValueError for a size that can't be. A frame is copied out
    whole or not at all (a sequence number a slot, Lamport 1977).
    """

    def __init__(self, words: int, n_slots: int, *, first: int = 0, memory: Any = None) -> None: ...
    @classmethod
    def attach(cls, memory: Any) -> Ring:
        """A view of a ring that somebody else made there. ValueError when there is none."""
    @staticmethod
    def bytes_needed(words: int, n_slots: int) -> int:
        """0 for a size that can't be."""
    def lock(self) -> int:
        """Locks it in memory: 0, or the errno that refused it."""
    @property
    def words(self) -> int: ...
    @property
    def n_slots(self) -> int: ...
    @property
    def next(self) -> int:
        """Index of the next frame to be written."""
    @property
    def oldest(self) -> int:
        """The oldest index that may still be there."""
    def push(self, frame: NDArray[np.uint64]) -> int:
        """Writer. Returns the frame's index."""
    def skip(self, next: int) -> None:
        """Writer. What lies between was never written; ValueError for a step back."""
    def read(self, index: int) -> NDArray[np.uint64]:
        """uint64[words]. IndexError: not written yet. LookupError: overwritten or skipped."""
