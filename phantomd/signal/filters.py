"""The filters of a device's kernels, designed by SciPy in a process of its own.

``scipy.signal`` takes a second of the interpreter and 77 MB, which the daemon would keep for as
long as it lives. A replay or a test designs in its own process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable

import msgspec
import numpy as np

from phantomd.devices.spawner import environment, python
from phantomd.signal import design_cache
from phantomd.signal.designs import Sos, band_pass, chebyshev_pass, notch, series

log = logging.getLogger(__name__)

_ASIDE_S = 60.0


class Filter(msgspec.Struct, frozen=True):
    """A band-pass: ``band`` is Butterworth's, behind a notch where the mains or a harmonic lies
    within an octave of it; ``subband`` is Chebyshev's, as filter-bank CCA has them."""

    kind: str
    low_hz: float
    high_hz: float
    rate_hz: float
    #: 0: no notch.
    mains_hz: float = 0.0


_kept: dict[Filter, Sos] = {}


def sos(wanted: Filter) -> Sos:
    """Designed here where nobody has yet."""
    if wanted not in _kept:
        _kept[wanted] = _design(wanted)
    return _kept[wanted]


def design_aside(wanted: Iterable[Filter]) -> None:
    """So that ``sos`` finds them: from the cache of earlier runs, else it blocks for as long as
    SciPy takes to be imported. Where the process fails, they are designed when they are asked
    for."""
    missing = [each for each in wanted if each not in _kept]
    if not missing:
        return
    file = design_cache.path()
    cached = design_cache.load(file)
    _kept.update((each, cached[_key(each)]) for each in missing if _key(each) in cached)
    missing = [each for each in missing if each not in _kept]
    if not missing:
        return
    command = python("phantomd.signal.filters", msgspec.json.encode(missing).decode())
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment(), timeout=_ASIDE_S, check=True
        )
        designs = msgspec.json.decode(done.stdout, type=list[list[list[float]]])
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        log.warning("filters could not be designed aside (%s): it is done here", error)
        return
    _kept.update(zip(missing, map(np.array, designs), strict=True))
    design_cache.add(file, {_key(each): _kept[each] for each in missing})


def _key(wanted: Filter) -> str:
    return msgspec.json.encode(wanted).decode()


def _design(wanted: Filter) -> Sos:
    edges_hz = wanted.low_hz, wanted.high_hz
    if wanted.kind == "subband":
        return chebyshev_pass(edges_hz, wanted.rate_hz)
    passing = band_pass(edges_hz, wanted.rate_hz)
    mains_hz = wanted.mains_hz
    if not mains_hz or 2 * wanted.high_hz < mains_hz or 2 * mains_hz >= wanted.rate_hz - 2:
        return passing
    return series(notch(mains_hz, wanted.rate_hz, highest_hz=2 * wanted.high_hz), passing)


def main(arguments: list[str]) -> None:
    """JSON in, JSON out: the numbers as they are, bit for bit."""
    wanted = msgspec.json.decode(arguments[0], type=list[Filter])
    sys.stdout.buffer.write(msgspec.json.encode([sos(each).tolist() for each in wanted]))


if __name__ == "__main__":
    main(sys.argv[1:])
