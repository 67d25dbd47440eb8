"""The stages behind the tick, in the order of the river: the same live, and in every replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from phantomd.config import Config
from phantomd.contracts import Event
from phantomd.engine.engine import Slot
from phantomd.engine.ledger import Ledger
from phantomd.engine.part import Part, Publish
from phantomd.oracle.stage import DEADLINE_NS as FOCUS_DEADLINE_NS
from phantomd.oracle.stage import OracleStage
from phantomd.signal.aux import AuxStage
from phantomd.signal.bad_watch import BadWatch
from phantomd.signal.windows import WINDOW_DEADLINE_NS, WindowStage


@dataclass(frozen=True, slots=True)
class Stages:
    windows: WindowStage
    oracle: OracleStage
    aux: AuxStage
    bad: BadWatch

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.windows, self.oracle, self.aux


def make_stages(
    slots: Callable[[], Iterable[Slot]],
    first: Callable[[], Slot],
    config: Config,
    publish: Publish,
    emit: Callable[[Event], None],
    *,
    state_dir: Path | None = None,
    ledger: Ledger | None = None,
    leave_out: Callable[[str, frozenset[str]], None] = lambda _id, _labels: None,
) -> Stages:
    """``first``: slot 0, which has to be there. ``state_dir``: where the baseline lies.
    ``leave_out`` is told a device's channels that were found bad, when they change."""
    lateness = (
        {}
        if ledger is None
        else {
            "window": ledger.stage("window", WINDOW_DEADLINE_NS),
            "focus": ledger.stage("focus", FOCUS_DEADLINE_NS),
        }
    )
    windows = WindowStage(slots, publish, lateness.get("window"))
    oracle = OracleStage(
        first,
        config.oracle,
        publish,
        emit,
        state_dir,
        lateness.get("focus"),
        bad=config.montage.bad,
    )

    bad = BadWatch(emit, leave_out)
    windows.listen(bad.hear)
    oracle.follow(windows)
    return Stages(windows, oracle, AuxStage(slots, publish), bad)
