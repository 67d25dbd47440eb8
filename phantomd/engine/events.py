"""What the tick tells (csrc/pd_event.h), as lines for the ``events`` port."""

from __future__ import annotations

import enum
from collections.abc import Callable

from phantomd.contracts import DeviceSpec, Event, Marker

RawEvent = tuple[int, int, int, int, int, int, float]


class TickEvent(enum.IntEnum):
    """``enum pd_event_kind``."""

    GAP = 1
    SILENT = 2
    RESUMED = 3
    RESET = 4
    CLOCK_LOCKED = 5
    CLOCK_RELOCKED = 6
    CLOCK_FOLLOWED = 7
    REFUSED = 8
    OVERRUN = 9
    LATE_TICK = 10
    MARKER = 11


def marker_of(raw: RawEvent, spec_of: Callable[[int], DeviceSpec | None]) -> Marker | None:
    """What a device marked a sample with, at that sample's own time; None for another event."""
    _, kind, slot, index, value, t_ns, _ = raw
    if kind != TickEvent.MARKER:
        return None
    spec = spec_of(slot)
    label = chr(value) if 33 <= value < 127 else str(value)
    return Marker(
        t_ns,
        "external",
        label,
        {"device_id": spec.device_id if spec else None, "value": value, "index": index},
    )


def describe(raw: RawEvent, spec_of: Callable[[int], DeviceSpec | None]) -> Event:
    """The line for one event. ``spec_of``: slot to device, None when it is gone already."""
    t_ns, kind, slot, a, b, c, x = raw
    what = TickEvent(kind)
    if what is TickEvent.LATE_TICK:
        return Event(
            "tick",
            "warning",
            f"{a} late ticks in the last second or more, the latest by {b / 1e6:.1f} ms; "
            f"{c} heartbeats skipped",
            fields={"t_ns": t_ns, "late": a, "worst_ns": b, "heartbeats_skipped": c},
        )
    spec = spec_of(slot)
    name = spec.device_id if spec else f"device in slot {slot}"
    device_id = spec.device_id if spec else None
    if what is TickEvent.GAP:
        seconds = b / spec.rate_hz if spec else None
        length = f" ({seconds:.3f} s)" if seconds is not None else ""
        return Event(
            "gap",
            "warning",
            f"{name}: {b} sample{'s' if b != 1 else ''} lost{length}",
            device_id,
            fields={"t_ns": t_ns, "first_index": a, "count": b, "reason": "lost"},
        )
    if what is TickEvent.OVERRUN:
        return Event(
            "gap",
            "alert",
            f"{name}: the tick came too late to see {b} samples",
            device_id,
            fields={"t_ns": t_ns, "first_index": a, "count": b, "reason": "overrun"},
        )
    if what is TickEvent.REFUSED:
        return Event(
            "gap",
            "warning",
            f"{name}: {b} packets refused as copies or strays, {c} bytes outside packets",
            device_id,
            fields={
                "t_ns": t_ns,
                "index": a,
                "count": 0,
                "refused": b,
                "junk_bytes": c,
                "reason": "refused",
            },
        )
    if what is TickEvent.SILENT:
        return Event(
            "device",
            "warning",
            f"{name}: silent for {x:.2f} s",
            device_id,
            "stalled",
            fields={"t_ns": t_ns, "newest_index": a},
        )
    if what is TickEvent.RESUMED:
        return Event(
            "device",
            "info",
            f"{name}: samples again after {x:.2f} s",
            device_id,
            "streaming",
            fields={"t_ns": t_ns, "first_index": a, "silent_s": x},
        )
    if what is TickEvent.RESET:
        return Event(
            "device",
            "info",
            f"{name}: streaming",
            device_id,
            "streaming",
            fields={"t_ns": t_ns, "first_index": a},
        )
    level, message = {
        TickEvent.CLOCK_LOCKED: ("info", "clock locked"),
        TickEvent.CLOCK_RELOCKED: ("warning", "clock locked anew, its time was stepped"),
        TickEvent.CLOCK_FOLLOWED: ("warning", "clock follows a change of rate or delay"),
    }[what]
    return Event(
        "clock",
        "warning" if level == "warning" else "info",
        f"{name}: {message}, {x:.4f} Hz",
        device_id,
        fields={"t_ns": t_ns, "index": a, "rate_hz": x},
    )
