"""A daemon in this process, on free ports, with a state directory of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from phantomd.config import load
from phantomd.daemon import Daemon

RunDaemon = Callable[..., Any]


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine on the loop that the daemon uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run


@pytest.fixture
def daemon_at(tmp_path: Path) -> RunDaemon:
    """``async with daemon_at("devices=[…]") as daemon``: free ports, its own state and socket."""

    @asynccontextmanager
    async def running(*settings: str) -> AsyncIterator[Daemon]:
        base = ("streams.base_port=0", f'daemon.state="{tmp_path / "state"}"')
        config = load(None, (*base, *settings))
        daemon = Daemon(config, settings=(*base, *settings), control_path=tmp_path / "control.sock")
        await daemon.start()
        try:
            yield daemon
        finally:
            await daemon.stop()

    return running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These run on the real clock. A host that stands still for milliseconds fails one where all
    is well: it is tried twice more, and the summary shows it as rerun."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=2))
