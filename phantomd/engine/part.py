"""A stage behind the tick: what it reads are rings and records, what it makes are messages.

Live, the daemon calls ``on_tick`` after each wake-up of the loop; in a replay the same object is
called on a virtual clock, so that the same journal gives the same messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from phantomd.engine.engine import Slot


class Publish(Protocol):
    """Where a stage's messages go: the stream's name, the time of the newest sample used (None:
    there is none), the message's ``data``, and whether its deadline was missed."""

    def __call__(
        self, stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False
    ) -> None: ...


class Part(Protocol):
    """Belongs to the event loop. Nothing here blocks."""

    def on_tick(self, now_ns: int) -> None:
        """Hands on all that can be made by now."""

    def layout_changed(self, slot: Slot) -> None:
        """A device came into this slot, with other channels or at another rate perhaps."""
