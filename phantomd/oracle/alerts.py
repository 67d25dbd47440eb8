"""What the operator hears of the oracle: once when it starts and once when it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from phantomd.contracts import Event
from phantomd.oracle.cells import Content, Contradiction, Network, Nothing
from phantomd.oracle.trit import BASELINE

log = logging.getLogger(__name__)
Emit = Callable[[Event], None]


class Alerts:
    """Timeouts, contradictions and propagators that fail on ``events``; absence in the log."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._absent = ""
        self._contradicts = False
        self._failing: dict[str, str] = {}

    def timeout(self, timed_out: bool, t_ns: int) -> None:
        if not timed_out:
            self._tell("info", "data again", t_ns)
            return
        text = "no data for 5 s; the trit is nothing, what hangs on it is at its baseline"
        self._tell("alert", text, t_ns, baseline=dict(BASELINE))

    def note(self, focus: Content, network: Network, t_ns: int) -> None:
        """Of each instant, what its network came to."""
        absent = focus.reason if isinstance(focus, Nothing) else ""
        if absent != self._absent:
            self._absent = absent
            # People blink: a line for each would bury the rest.
            level = logging.DEBUG if absent in ("artifact", "") else logging.INFO
            text = f"no signal ({absent})" if absent else "focus again"
            log.log(level, "neurofeedback oracle: %s", text)
        contradicts = isinstance(focus, Contradiction)
        if contradicts != self._contradicts:
            self._contradicts = contradicts
            if isinstance(focus, Contradiction):
                halted = ", ".join(sorted(network.halted))
                said = f"focus out of range [{focus.a}]: {focus.b}; halted: {halted}"
                self._tell("warning", said, t_ns)
            else:
                self._tell("info", "focus in range again", t_ns)
        for name in network.failed.keys() | self._failing.keys():
            if name not in self._failing:
                self._tell("warning", f"{name} fails: {network.failed[name]}", t_ns)
            elif name not in network.failed:
                self._tell("info", f"{name} works again", t_ns)
        self._failing = dict(network.failed)

    def _tell(
        self, level: Literal["info", "warning", "alert"], text: str, t_ns: int, **more: object
    ) -> None:
        said = f"neurofeedback oracle: {text}"
        log.log(logging.INFO if level == "info" else logging.WARNING, "%s", said)
        self._emit(Event("alert", level, said, fields={"t_ns": t_ns, **more}))
