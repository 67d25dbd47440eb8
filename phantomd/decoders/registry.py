"""The reference decoders of spikes by their names. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from phantomd.decoders.adaptive import AdaptiveLinear
from phantomd.decoders.base import VelocityDecoder, read_model
from phantomd.decoders.kalman import Kalman
from phantomd.decoders.linear import Ridge
from phantomd.decoders.recurrent import Recurrent
from phantomd.errors import DecoderError

DECODERS: dict[str, Callable[[], VelocityDecoder]] = {
    "ridge-1": partial(Ridge, lags=1),
    "ridge": Ridge,
    "kalman": Kalman,
    "kalman-pv": partial(Kalman, state="pv"),
    "kalman-pva": partial(Kalman, state="pva"),
    "gru": Recurrent,
    "rls": AdaptiveLinear,
    "rls-target": partial(AdaptiveLinear, teacher="target"),
}
_KINDS: dict[str, Callable[..., VelocityDecoder]] = {
    kind.name: kind for kind in (Ridge, Kalman, Recurrent, AdaptiveLinear)
}


def make(name: str) -> VelocityDecoder:
    """Not fitted yet. Raises DecoderError."""
    try:
        return DECODERS[name]()
    except KeyError:
        raise DecoderError(
            f"no decoder {name[:80]!r}", hint=f"there are: {', '.join(DECODERS)}"
        ) from None


def load(path: Path) -> VelocityDecoder:
    """What ``save`` wrote. Raises DecoderError."""
    kind, settings, arrays = read_model(path)
    try:
        return _KINDS[kind](**settings).restore(arrays)
    except (KeyError, TypeError, IndexError) as error:
        raise DecoderError(
            f"{path} is no saved decoder: {error!r}", hint="`save` of a fitted one writes them"
        ) from error
