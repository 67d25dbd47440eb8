from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.core.analysis import Analysis
from phantomd.core.hist import Histogram
from phantomd.core.intake import Intake
from phantomd.core.ring import Ring

EVENT_WORDS: int
MAX_SOURCES: int
MAX_VALUES: int

def grid_words(n_channels: int) -> int:
    """Words of a grid frame of so many channels (csrc/pd_source.h)."""

def now_ns() -> int:
    """CLOCK_MONOTONIC."""

def wall_offset_ns() -> int:
    """unix_ns = t_ns + this, read now."""

def lock_text() -> int:
    """Locks the code of the tick in memory: bytes, or -errno."""

class Source:
    """A device as the tick sees it, or, with ``intake`` None, the grid going on without one.

    ``grid``: a ring of ``grid_words(n_channels)``; it may have belonged to another source before:
    its index goes on. ``table`` float64[phases + 1, taps] and ``ahead`` are the resampler's
    (csrc/pd_resample.h), ``delay_ns`` how long the newest sample needed comes after the instant.
    ``flags`` are set in every frame. ValueError when the rings don't fit.
    """

    def __init__(
        self,
        intake: Intake | None,
        grid: Ring,
        events: Ring,
        *,
        n_channels: int,
        slot: int = 0,
        flags: int = 0,
        table: NDArray[np.float64] | None = None,
        ahead: int = 0,
        hold_ns: int = 0,
        bridge_ns: int = 0,
        lost_after_ns: int = 0,
        delay_ns: int = 0,
        transport_ns: int = 0,
        prior_ppm: float = 0.0,
        analysis: Analysis | None = None,
    ) -> None: ...
    @property
    def analysis(self) -> Analysis | None: ...
    @property
    def intake(self) -> Intake | None: ...
    @property
    def grid(self) -> Ring: ...
    @property
    def slot(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def lock_error(self) -> int:
        """The errno that refused to lock the arena in memory, or 0."""
    @property
    def taken(self) -> int:
        """The next native index that the tick will take."""
    @property
    def grid_next(self) -> int:
        """The grid index that comes next, by its own state: after ``restore``, where the ring must
        begin."""
    def warm(self, first: int, until: int, grid_t0_ns: int) -> None:
        """Before it is in a plan: learns in silence from the native frames [first, until), so that
        it takes over without a break from a source that has ``taken`` up to ``until``."""
    def follow(self, before: Source) -> None:
        """Its first step goes on where ``before`` left off, and tells nothing twice."""
    def replace(self, analysis: Analysis) -> None:
        """Behind it from the next plan on, in place of the one that is: it has learnt from the
        same signal ring. ValueError for one of another device or signal."""
    @property
    def state_bytes(self) -> int:
        """What a journal keeps of it at its start."""
    def report(self) -> dict[str, Any] | None:
        """The clock's: rate_hz, rate_sd_ppm, offset_sd_ns, uncertainty_ns, jitter_ns, clump, …"""
    def restore(self, arena: bytes) -> None:
        """State from a journal of the same build; ValueError otherwise."""
    @staticmethod
    def grid_next_of(arena: bytes) -> int:
        """``grid_next`` of a saved state."""

class Engine:
    """Everything with a deadline: steps on a virtual clock, or the tick thread on the real one.

    Grid index g is the instant ``grid_t0_ns`` + g / 128 s.
    """

    def __init__(self, grid_t0_ns: int, *, n_events: int = 4096) -> None: ...
    @property
    def events(self) -> Ring: ...
    @property
    def lock_error(self) -> int: ...
    def set_plan(self, sources: Sequence[Source]) -> int:
        """The next step works on these (ValueError: more than MAX_SOURCES). Returns the serial."""
    @property
    def retired_plans(self) -> int:
        """Old plans that a step may still be using."""
    @property
    def sources(self) -> tuple[Source, ...]: ...
    def step(self, now_ns: int, limits: NDArray[np.uint64] | None = None) -> int:
        """All that is due by ``now_ns``; returns when the next step is. Not while the thread runs.

        ``limits``: for each source the native index to stop before (replay); None: all there is.
        """
    def begin(self, grid_t0_ns: int) -> None:
        """The grid begins then, and not when this was made. RuntimeError after the first step."""
    def start(self, notify_fd: int, *, priority: int = 70, cpu: int = -1) -> None:
        """Starts the tick thread; ``notify_fd`` is an eventfd that it tells of news. OSError."""
    def stop(self) -> None:
        """Ends the tick thread; returns when it has ended."""
    @property
    def running(self) -> bool: ...
    @property
    def promote_error(self) -> int:
        """The errno that refused the real-time priority, or 0."""
    @property
    def steps(self) -> int: ...
    @property
    def beats(self) -> int: ...
    @property
    def beats_skipped(self) -> int: ...
    @property
    def events_next(self) -> int:
        """After ``restore``: the index that the next event had when the state was saved."""
    @property
    def grid_t0_ns(self) -> int: ...
    @property
    def tick_lateness(self) -> Histogram: ...
    @property
    def beat_lateness(self) -> Histogram: ...
    @property
    def work(self) -> Histogram:
        """What the steps of the thread took."""
    def restore(self, state: bytes) -> None: ...
    def take_events(
        self, next: int
    ) -> tuple[list[tuple[int, int, int, int, int, int, float]], int, int]:
        """From ring index ``next``: (t_ns, kind, slot, a, b, c, x) each, the index after, and how
        many were overwritten before they were taken (csrc/pd_event.h)."""

class GridReader:
    """Reads a grid ring in order, for one subscriber: the ``eeg`` port, say. One thread."""

    def __init__(
        self, grid: Ring, *, deadline_ns: int, lateness: Histogram | None = None
    ) -> None: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def overrun(self) -> int:
        """Frames that were overwritten before they were read."""
    def seek(self, index: int) -> None: ...
    def drain(self, now_ns: int, most: int = 4096) -> tuple[bytes, int, int, int | None]:
        """What is new, as bytes of 7069: (bytes, first index, frames, t_ns of the last or None).

        A frame published over ``deadline_ns`` after it was due is LATE; ``lateness`` gets each.
        """
    def frames(self, first: int, until: int) -> NDArray[Any]:
        """Structured array (index, t_ns, due_ns, flags, native, fraction, values float64[n_channels])
        of what is still there of [first, until). MISSING and BRIDGED together: the values are
        bridged. They are the resampler's at ``native + fraction``; -2^63: there are none."""
