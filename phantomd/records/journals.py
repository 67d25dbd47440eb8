"""The one journal that a daemon may be writing, started and stopped by command."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phantomd.config import Config
from phantomd.contracts import Event, Marker
from phantomd.core.engine import now_ns
from phantomd.engine.engine import Engine
from phantomd.errors import JournalError
from phantomd.oracle.baseline import Baseline
from phantomd.records.journal import JournalSession


class Journals:
    """Belongs to the event loop."""

    def __init__(
        self,
        engine: Engine,
        config: Callable[[], Config],
        baseline: Callable[[], Baseline | None],
    ) -> None:
        self._engine = engine
        self._config = config
        self._baseline = baseline
        self._session: JournalSession | None = None

    async def start(self, path: str | None) -> dict[str, str]:
        """Raises JournalError."""
        if self._session is not None:
            raise JournalError(
                f"a journal is being written: {self._session.path}",
                hint="stop it first: phantomctl journal stop",
            )
        config = self._config()
        default = time.strftime("journals/%Y%m%d_%H%M%S.pdj")
        target = Path(path).expanduser() if path else config.state_dir / default
        self._session = JournalSession.open(target, self._engine, config, self._baseline())
        try:
            await self._session.begin()
        except BaseException:
            self._session = None
            raise
        return {"path": str(target)}

    async def stop(self) -> dict[str, Any]:
        """Raises JournalError."""
        if self._session is None:
            raise JournalError("no journal is being written", hint="phantomctl journal start")
        session, self._session = self._session, None
        return await session.end()

    async def close(self) -> None:
        if self._session is not None:
            await self.stop()

    def note(self, event: Event) -> None:
        """A line on ``events`` that was not the tick's."""
        if self._session is not None:
            self._session.note(now_ns(), event)

    def keep_marker(self, marker: Marker) -> None:
        if self._session is not None:
            self._session.keep_marker(now_ns(), marker)

    def status(self) -> dict[str, Any] | None:
        return self._session.status() if self._session else None
