"""Names of sessions: two words and a number, easy to say across a room."""

from __future__ import annotations

import random
import re
from collections.abc import Container

from phantomd.errors import SessionError, TooManySessions

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOW = (
    *("amber", "bold", "brave", "bright", "brisk", "calm", "clear", "deft", "eager", "early"),
    *("fair", "fleet", "gentle", "keen", "lively", "lucid", "mellow", "nimble", "plain", "proud"),
    *("quick", "quiet", "ready", "sharp", "silver", "smooth", "steady", "still", "swift", "warm"),
)
_WHAT = (
    *("axon", "bouton", "cortex", "dendrite", "field", "ganglion", "gyrus", "impulse", "lobe"),
    *("medulla", "motor", "neural", "neuron", "nucleus", "phasic", "pulse", "rhythm", "soma"),
    *("spike", "spindle", "sulcus", "synapse", "tonic", "tract", "vesicle", "volley"),
)
_TRIES = 64


def new_code(taken: Container[str]) -> str:
    """Like ``swift-neural-42``."""
    for _ in range(_TRIES):
        code = f"{random.choice(_HOW)}-{random.choice(_WHAT)}-{random.randrange(1000)}"
        if code not in taken:
            return code
    raise TooManySessions("no free code was found", hint="delete sessions that nobody uses")


def checked(code: str) -> str:
    """Raises SessionError."""
    if not CODE.fullmatch(code):
        raise SessionError(
            f"{code[:80]!r} can't be a session's code",
            hint="letters, digits, '-', '_' and '.', at most 64, beginning with one of the former",
        )
    return code
