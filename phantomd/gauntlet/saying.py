"""What a session has to tell, as lines of ``events``."""

from __future__ import annotations

from typing import Any

from phantomd.contracts import Event, Level

_LEVELS: dict[str, Level] = {
    "desync": "warning",
    "drop": "warning",
    "jitter": "warning",
    "cut": "warning",
}


def session_event(code: str, what: str, seq: int, value: int) -> Event:
    """``what`` and ``value`` are the core's (csrc/pd_session.h)."""
    message, more = _said(what, seq, value)
    fields = {"session": code, "what": what, "seq": seq, **more}
    return Event("session", _LEVELS.get(what, "info"), f"{code}: {message}", fields=fields)


def _said(what: str, seq: int, value: int) -> tuple[str, dict[str, Any]]:
    match what:
        case "desync":
            ms = round(value / 1e6, 3)
            return f"desync: packet {seq} was answered after {ms} ms", {"loop_ms": ms}
        case "in-time":
            return f"answers are in time again, {value} in a row", {"in_time": value}
        case "drop":
            return f"no answer to {value} packets, from {seq} on", {"packets": value}
        case "back":
            return f"the decoder answers again: {value} packets missed", {"packets": value}
        case "jitter":
            ms = round(value / 1e6, 3)
            return f"jitter: packet {seq} came {ms:+} ms off its interval", {"error_ms": ms}
        case "steady":
            return "packets are within 3 ms of their interval again", {}
        case "ended":
            return f"ended after {seq} packets", {}
        case "decoder":
            return f"a decoder answers, from packet {seq} on", {}
        case "decoder-left":
            return f"the decoder has left, at packet {seq}", {}
        case "cut":
            return "stress ended its connections", {}
    return what, {}
