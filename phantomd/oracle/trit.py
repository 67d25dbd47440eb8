"""Focus to trit, role, skill and brightness; trits added in GF(3).

Thresholds are fixed by the specification (specs: neurofeedback oracle): they are no parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from phantomd.oracle.cells import Content, Contradiction, Nothing, Value

Trit = Literal[-1, 0, 1]
Role = Literal["validator", "coordinator", "generator"]

LOW = np.float32(0.33)
HIGH = np.float32(0.66)
ROLES: Mapping[int, Role] = {-1: "validator", 0: "coordinator", 1: "generator"}
BRIGHTNESS: Mapping[int, float] = {-1: 0.2, 0: 0.5, 1: 1.0}
#: What a value out of its range contradicts.
OUTSIDE = "outside [0, 1]"
NO_TRIT = "not -1, 0 or 1"
#: After five seconds without data, what hangs on the trit is set to this.
BASELINE = {"trit": 0, "brightness": 0.5}


def trit_of(focus: float) -> Trit:
    """-1 below 0.33, +1 above 0.66, else 0. Both exclusive and compared in float32, so that 0.33
    and 0.66 themselves are 0. ``focus`` lies in [0, 1]."""
    f = np.float32(focus)
    return 1 if f > HIGH else -1 if f < LOW else 0


def check(focus: float) -> Content:
    """A focus as a cell's content: outside [0, 1], NaN included, it is a contradiction."""
    is_number = isinstance(focus, int | float | np.floating)
    if is_number and 0.0 <= focus <= 1.0:
        return Value(float(focus))
    return Contradiction(focus, OUTSIDE)


def trit(focus: Content) -> Content:
    """``nothing`` stays nothing, a contradiction stays one."""
    if not isinstance(focus, Value):
        return focus
    checked = check(focus.value)
    return Value(trit_of(checked.value)) if isinstance(checked, Value) else checked


def brightness(of: Content) -> Content:
    """-1 is dim (0.2), 0 medium (0.5), +1 bright (1.0)."""
    return Value(BRIGHTNESS[of.value]) if isinstance(of, Value) else of


def skill(
    of: Trit, skills: Mapping[Role, Sequence[str]], available: Collection[str] | None = None
) -> str | None:
    """The first of the skills of this trit's role that is available (None: all are), or None."""
    return next((s for s in skills[ROLES[of]] if available is None or s in available), None)


def add(a: Content, b: Content) -> Content:
    """Addition in GF(3): (a + b) mod 3, 2 standing for -1. What is unknown stays nothing."""
    for one in (a, b):
        if isinstance(one, Contradiction):
            return one
    for one in (a, b):
        if isinstance(one, Nothing):
            return one
    assert isinstance(a, Value) and isinstance(b, Value)
    return Value((0, 1, -1)[(a.value + b.value) % 3])


def compose(trits: Iterable[Content]) -> Content:
    """The sum of several oracles' trits; of none it is 0."""
    total: Content = Value(0)
    for one in trits:
        total = add(total, one)
    return total


def is_consistent(triad: Sequence[Content]) -> bool | None:
    """Whether three trits sum to 0; None where that is not known."""
    if len(triad) != 3:
        raise ValueError(f"a triad has three trits, not {len(triad)}")
    total = compose(triad)
    if isinstance(total, Nothing):
        return None
    return isinstance(total, Value) and total.value == 0
