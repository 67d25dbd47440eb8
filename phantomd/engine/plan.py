"""From configuration and devices to what the tick does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from phantomd.config import Config, GridConfig
from phantomd.contracts import DeviceSpec, Flag
from phantomd.core.analysis import Analysis, signal_words
from phantomd.core.engine import Source
from phantomd.core.intake import Intake
from phantomd.core.ring import Ring
from phantomd.engine.prototype import design

#: Frames in a grid ring: 16 s, so that a reader in Python may sleep through a garbage collection.
GRID_SLOTS = 2048

#: Seconds of the signal ring, for whoever reads it beside the tick.
SIGNAL_S = 16.0

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Kernels:
    """What computes behind a device, as rooms below have it. ``make``: for a device, its signal's
    ring, the windows' ring that it may go on with, and channels that were found bad. ``prepare``:
    all that is designed for it. ``renew``: in place of another one, learnt from its signal, and
    from which native index on."""

    make: Callable[[Config, DeviceSpec, Ring, Ring | None, frozenset[str]], Analysis | None]
    prepare: Callable[[Config, DeviceSpec], None]
    renew: Callable[
        [Config, DeviceSpec, Analysis, frozenset[str], int], tuple[Analysis | None, int]
    ]


def signal_ring(spec: DeviceSpec, first: int) -> Ring:
    """For the samples of a device, from this native index on."""
    n_slots = 1 << max(8, math.ceil(SIGNAL_S * spec.rate_hz).bit_length())
    return Ring(signal_words(len(spec.labels) + len(spec.aux)), n_slots, first=first)


def make_source(
    spec: DeviceSpec,
    intake: Intake,
    grid: Ring,
    events: Ring,
    slot: int,
    settings: GridConfig,
    analysis: Analysis | None = None,
) -> Source:
    """The tick's side of a device: its clock, its resampler, its frames on ``grid``, and the
    analysis behind it."""
    prototype = design(spec.rate_hz, settings.phase)
    return Source(
        intake,
        grid,
        events,
        n_channels=len(spec.labels),
        slot=slot,
        flags=int(Flag.SIMULATED) if spec.simulated else 0,
        table=prototype.table,
        ahead=prototype.ahead,
        hold_ns=round(settings.hold_ms * _MS),
        bridge_ns=round(settings.bridge_ms * _MS),
        lost_after_ns=round(settings.lost_after_ms * _MS),
        delay_ns=math.ceil(prototype.delay_s * 1e9),
        transport_ns=round(spec.transport_us * 1e3),
        analysis=analysis,
    )


def make_idle(n_channels: int, grid: Ring, events: Ring, slot: int, settings: GridConfig) -> Source:
    """MISSING frames at the grid's pace, as late as a Cyton's would be."""
    return Source(
        None,
        grid,
        events,
        n_channels=n_channels,
        slot=slot,
        hold_ns=round(settings.hold_ms * _MS),
        delay_ns=math.ceil(design(250.0, settings.phase).delay_s * 1e9),
    )
