"""All stream ports of a daemon: one listener a stream, opened together, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from phantomd.config import GauntletConfig, RealtimeConfig, StreamsConfig
from phantomd.contracts import PORTS, Event, StreamStatus
from phantomd.core.hist import Histogram
from phantomd.net.eeg import EegPort, Grid
from phantomd.net.messages import Messages, Receive
from phantomd.net.spikes import SpikesPort


class Stream(Protocol):
    """A port, whoever serves it."""

    port: int

    async def start(self) -> None: ...
    async def close(self, flush_s: float = 0.3) -> None: ...
    def status(self) -> StreamStatus: ...


class Ports:
    """``eeg``, ``spikes`` and ``messages`` make a stream each, before ``start``."""

    def __init__(self, config: StreamsConfig, epoch_hex: str) -> None:
        self._config = config
        self._epoch_hex = epoch_hex
        self.streams: dict[str, Stream] = {}
        self._servers: list[Messages] = []

    def eeg(
        self, config: RealtimeConfig, slot: Callable[[], Grid], lateness: Histogram, loop_fd: int
    ) -> EegPort:
        """7069. ``lateness``: of each frame; ``loop_fd`` is written when the tick's are out."""
        stream = EegPort(
            self._config.host,
            self._port("eeg"),
            slot,
            lateness=lateness,
            loop_fd=loop_fd,
            max_clients=self._config.max_clients,
            priority=config.frames_priority,
            cpu=config.frames_cpu,
        )
        self.streams["eeg"] = stream
        return stream

    def spikes(
        self, config: GauntletConfig, home: Path, emit: Callable[[Event], None]
    ) -> SpikesPort:
        """7072. ``home``: the folder of imported datasets."""
        stream = SpikesPort(
            self._epoch_hex,
            self._config.host,
            self._port("spikes"),
            home=home,
            emit=emit,
            max_clients=self._config.max_clients,
            max_sessions=config.max_sessions,
            priority=config.priority,
            cpu=config.cpu,
        )
        self.streams["spikes"] = stream
        return stream

    def messages(
        self,
        name: str,
        *,
        history: int,
        rate_hz: float | None = None,
        describe: Callable[[], Mapping[str, Any]] = dict,
        receive: Receive | None = None,
    ) -> Messages:
        """``history``: two seconds of messages, and room for handfuls that come on events."""
        stream = Messages(
            name,
            self._epoch_hex,
            self._config.host,
            self._port(name),
            history=history,
            rate_hz=rate_hz,
            describe=describe,
            receive=receive,
            max_clients=self._config.max_clients,
        )
        self.streams[name] = stream
        self._servers.append(stream)
        return stream

    async def start(self) -> None:
        """Raises PortInUse, PortNotAllowed, ConfigError; then none is open."""
        try:
            for stream in self.streams.values():
                await stream.start()
        except BaseException:
            await self.close(0.0)
            raise

    async def close(self, flush_s: float) -> None:
        """Readers get what is queued, all ports at once."""
        await asyncio.gather(*(stream.close(flush_s) for stream in self.streams.values()))

    def flush(self) -> None:
        """What was published by now goes out now, not when the loop comes round."""
        for stream in self._servers:
            stream.flush()

    def tell_clock(self, wall_offset_ns: int) -> None:
        for stream in self.streams.values():
            if isinstance(stream, Messages | SpikesPort):
                stream.tell_clock(wall_offset_ns)

    def numbers(self) -> dict[str, int]:
        return {name: stream.port for name, stream in self.streams.items()}

    def status(self) -> dict[str, StreamStatus]:
        return {name: stream.status() for name, stream in self.streams.items()}

    def _port(self, name: str) -> int:
        return self._config.base_port + PORTS[name] if self._config.base_port else 0
