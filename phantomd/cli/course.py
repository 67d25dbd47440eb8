"""A course of the gauntlet, played against a daemon: the same stretch of a recording at each level
of stress, one after the other in one session, so that a decoder attaches once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phantomd.cli.invocation import Invocation
from phantomd.control import Control
from phantomd.errors import NoAnswers
from phantomd.gauntlet.play import Play, joined

_LOOK_S = 0.2
#: A packet can be answered for two seconds; after that all are settled.
_SETTLE_S = 2.5
#: So long may a decoder be away before the run is given up.
_AWAY_S = 15.0


@dataclass(frozen=True)
class Course:
    """``n_bins`` from ``first_bin`` on, at each of ``levels``."""

    dataset: str
    seed: int
    first_bin: int
    n_bins: int
    bin_s: float
    levels: tuple[str, ...]


@contextmanager
def session_of(control: Control, course: Course) -> Iterator[str]:
    """Its code. It is deleted in the end."""
    code = control.call("session.create", dataset=course.dataset, seed=course.seed)["session_code"]
    try:
        control.call("session.seek", code=code, packet=course.first_bin)
        yield code
    finally:
        control.call("session.delete", code=code)


@contextmanager
def own_decoder(
    invocation: Invocation, name: str, course: Course, code: str, model: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A reference decoder in its own process, which ends with the block."""
    where = [] if invocation.control_path is None else ["--control", str(invocation.control_path)]
    if invocation.host is not None:
        where += ["--host", invocation.host]
    if invocation.base_port is not None:
        where += ["--base-port", str(invocation.base_port)]
    command = [
        *(sys.executable, "-m", "phantomd.cli.phantomctl", *where, "gauntlet", "decode"),
        *("--decoder", name, "--dataset", course.dataset, code),
        *([] if model is None else ["--model", str(model)]),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for_decoder(
    control: Control, code: str, within_s: float, process: subprocess.Popen[bytes] | None
) -> None:
    """Until one has answered. Raises NoAnswers."""
    give_up_s = time.monotonic() + within_s
    while not control.call("session.get", code=code)["decoder"]:
        if process is not None and process.poll() is not None:
            raise NoAnswers(f"the decoder ended: {_last_words(process)}", hint="see what it says")
        if time.monotonic() > give_up_s:
            raise NoAnswers(
                f"no decoder has answered {code} within {within_s:g} s",
                hint='send {"attach": code} on port 7072, then answer each packet',
            )
        time.sleep(_LOOK_S)


def play(
    control: Control, code: str, course: Course, told: Callable[[str, int, dict[str, Any]], None]
) -> dict[str, Play]:
    """``told``: level, packets played of it, and what ``session.get`` says. Raises NoAnswers."""
    plays = {}
    for level in course.levels:
        control.call("session.stress", code=code, level=level)
        before = control.call("session.get", code=code)["packets"]
        control.call("session.seek", code=code, packet=course.first_bin)
        plays[level] = _stretch(control, code, course, before, level, told)
    return plays


def _stretch(
    control: Control,
    code: str,
    course: Course,
    before: int,
    level: str,
    told: Callable[[str, int, dict[str, Any]], None],
) -> Play:
    """The record of one level: from the first packet of the course after the seek."""
    here_s = time.monotonic()
    while True:
        info = control.call("session.get", code=code)
        done = min(max(info["packets"] - before, 0), course.n_bins)
        told(level, done, info)
        if info["decoder"]:
            here_s = time.monotonic()
        elif time.monotonic() - here_s > _AWAY_S:
            raise NoAnswers(
                f"{code} has had no decoder for {_AWAY_S:g} s, at level {level}",
                hint="it must come back by itself when it is cut off",
            )
        if done >= course.n_bins:
            break
        time.sleep(_LOOK_S)
    settled_s = time.monotonic() + _SETTLE_S
    while True:
        found = first_of(record(control, code, before), course.first_bin)
        if len(found) >= course.n_bins or time.monotonic() > settled_s:
            return found.part(slice(0, course.n_bins))
        time.sleep(_LOOK_S)


def first_of(whole: Play, first_bin: int) -> Play:
    """From the packet of that bin on; a packet or two may have come before the seek."""
    at = np.flatnonzero(whole.records["bin"] == first_bin)
    return whole.part(slice(int(at[0]) if len(at) else len(whole), None))


def record(control: Control, code: str, first: int) -> Play:
    """All settled packets from ``seq`` first on."""
    pages = []
    while True:
        page = control.call("session.record", code=code, first=first)
        pages.append(Play.of_map(page))
        if page["next"] == first or not page["packets"]:
            return joined(pages)
        first = page["next"]


def _last_words(process: subprocess.Popen[bytes]) -> str:
    said = b"" if process.stderr is None else process.stderr.read()
    lines: Sequence[str] = said.decode(errors="replace").strip().splitlines()
    return lines[0].removeprefix("phantomctl: ") if lines else f"status {process.returncode}"
