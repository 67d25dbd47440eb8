"""A reference decoder as a process of its own: it attaches to a session and answers its packets.

Cut off, it comes back and attaches again, until the session is gone or it is told to stop.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from phantomd.cli.invocation import Invocation
from phantomd.client import MessageConnection
from phantomd.config import Config
from phantomd.decoders.base import VelocityDecoder
from phantomd.decoders.registry import load, make
from phantomd.errors import DatasetError, NoDaemon, PhantomError, UnknownSession
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.datasets import Datasets
from phantomd.gauntlet.player import Player, fit

_AGAIN_S = 0.05
_GIVE_UP_S = 10.0


def dataset_named(name: str) -> Dataset:
    """As the daemon of this user would find it. Raises UnknownDataset, DatasetError."""

    async def get() -> Dataset:
        found = await Datasets(Config().state_dir / "datasets").get(name)
        if not isinstance(found, Dataset):
            raise DatasetError(f"{name} is live", hint="a decoder is fitted to a recording")
        return found

    return asyncio.run(get())


def prepared(name: str, dataset: str, model: Path | None) -> VelocityDecoder:
    """From the file, where there is one; else fitted, and kept there. Raises DecoderError."""
    if model is not None and model.exists():
        return load(model)
    decoder = fit(make(name), dataset_named(dataset))
    if model is not None:
        decoder.save(model)
    return decoder


def answer_session(invocation: Invocation, decoder: VelocityDecoder, code: str) -> int:
    """Until the session ends; how many packets were answered. Raises NoDaemon, UnknownSession."""
    player = Player(decoder)
    answered, last_s = 0, time.monotonic()
    while True:
        try:
            connection = invocation.subscribe("spikes", everything=True)
        except NoDaemon:
            if time.monotonic() - last_s > _GIVE_UP_S:
                raise
            time.sleep(_AGAIN_S)
            continue
        with connection:
            assert isinstance(connection, MessageConnection)
            try:
                done, ended = _serve(connection, player, code)
            except OSError:
                done, ended = 0, False  # it was cut off while it spoke
        answered += done
        if ended:
            return answered
        if done:
            last_s = time.monotonic()
        elif time.monotonic() - last_s > _GIVE_UP_S:
            raise NoDaemon(f"{code} ends every connection", hint="is the daemon stopping?")
        time.sleep(_AGAIN_S)


def _serve(connection: MessageConnection, player: Player, code: str) -> tuple[int, bool]:
    """One connection: packets answered, and whether the session is over."""
    connection.send({"attach": code})
    attached, answered = False, 0
    for message in connection:
        match message.get("type"):
            case "metadata":
                attached = message["data"]["session"] == code
                player.answer(message)
            case "error":
                if message["code"] == UnknownSession.code:
                    if attached or answered:
                        return answered, True
                    raise UnknownSession(message["message"], hint=message["hint"])
                if message["code"] == "decoder-taken":
                    raise PhantomError(message["message"], hint=message["hint"])
            case "session" if attached and message["state"] == "ended":
                return answered, True
            case "data" if attached:
                answer = player.answer(message)
                if answer is not None:
                    connection.send(answer)
                    answered += 1
                player.learn()
    return answered, False
