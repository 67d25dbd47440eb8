"""Talking to a live daemon's ports, byte for byte."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from phantomd.contracts import GRID_NS

FRAME = np.dtype(
    [
        ("index", "<u8"),
        ("t_ns", "<i8"),
        ("flags", "<u4"),
        ("age_us", "<u4"),
        ("values", "<f4", (8,)),
    ]
)


def frame_of(n_channels: int) -> np.dtype:
    fields = {name: FRAME[name] for name in FRAME.names[:-1]}
    return np.dtype([*fields.items(), ("values", "<f4", (n_channels,))])


class EegClient:
    """A subscriber of 7069 that keeps what it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.header = b""
        self.frames = b""

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> EegClient:
        self = cls(*await asyncio.open_connection(host, port))
        start = await self._reader.readexactly(12)
        size = int.from_bytes(start[8:12], "little")
        self.header = start + await self._reader.readexactly(size - 12)
        return self

    async def read(self, n_frames: int) -> np.ndarray:
        """The next so many frames."""
        frame_bytes = int.from_bytes(self.header[12:16], "little")
        data = await self._reader.readexactly(n_frames * frame_bytes)
        self.frames += data
        return np.frombuffer(data, frame_of((frame_bytes - 24) // 4))

    async def read_on(self, n_frames: int) -> None:
        """Up to so many frames from now on, whatever still lies in the socket."""
        until_ns = time.monotonic_ns() + n_frames * GRID_NS
        while (await self.read(1))["t_ns"][0] < until_ns:
            pass

    async def read_rest(self) -> bytes:
        """Until the daemon closes the stream."""
        data = await self._reader.read(-1)
        self.frames += data
        return data

    def close(self) -> None:
        self._writer.close()


async def read_line(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\n")
