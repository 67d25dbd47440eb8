"""What a label says: where the electrode is, and which part of the head it sees.

Labels of the 10-20 and 10-10 systems (Oostenveld and Praamstra 2001), in any case, with the old
names T3, T4, T5, T6, and as recordings write them (``EEG Fp1-Ref``, ``Fc5.``). A label that is none
has no place and no region: that is not an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Region = Literal["prefrontal", "frontal", "central", "temporal", "parietal", "occipital", "mastoid"]
Place = tuple[float, float, float]

#: Rows from the front to the back, in tenths of the way from nasion to inion.
_ROWS = {
    "N": 0, "FP": 1, "AF": 2, "F": 3, "FC": 4, "FT": 4, "C": 5, "T": 5, "CP": 6, "TP": 6,
    "P": 7, "PO": 8, "O": 9, "I": 10,
}  # fmt: skip
_REGIONS: dict[str, Region] = {
    "N": "prefrontal", "FP": "prefrontal", "AF": "prefrontal", "F": "frontal", "FC": "central",
    "FT": "temporal", "C": "central", "T": "temporal", "CP": "parietal", "TP": "temporal",
    "P": "parietal", "PO": "occipital", "O": "occipital", "I": "occipital",
    "A": "mastoid", "M": "mastoid",
}  # fmt: skip
_OLD = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_SITE = re.compile(r"(FP|AF|FC|FT|CP|TP|PO|[NFCTPOIAM])(Z|10|[1-9])")
_WRITTEN = re.compile(r"(?:EEG[ _-]*)?([A-Z0-9]+?)(?:[ _-]*(?:REF|LE|AVG|AV|A1|A2|M1|M2))?\.*")

#: Degrees from the vertex of the ring through Fpz, T7, Oz and T8.
_RING = 72.0


def _parts(label: str) -> tuple[str, str] | None:
    written = _WRITTEN.fullmatch(label.strip().upper())
    if written is None:
        return None
    site = _SITE.fullmatch(_OLD.get(written[1], written[1]))
    return (site[1], site[2]) if site else None


def site(label: str) -> str | None:
    """The 10-10 name in the usual spelling ("fp1." is "Fp1", "T3" is "T7"); None for no site."""
    parts = _parts(label)
    if parts is None:
        return None
    row, column = parts
    return row.replace("FP", "Fp") + column.lower()


def region(label: str) -> Region | None:
    """The part of the head; None for no site."""
    parts = _parts(label)
    return _REGIONS[parts[0]] if parts else None


def place(label: str) -> Place | None:
    """On the unit sphere (right, front, up), the 10-10 system's own construction; None for no site.

    Rows lie on arcs from the midline to the ring through Fpz and T7; columns 1, 3, 5, 7 at
    quarters of the arc, 9 as far again below the ring.
    """
    parts = _parts(label)
    if parts is None or parts[0] not in _ROWS:
        return None
    row, column = parts
    number = 0 if column == "Z" else int(column)
    side = -1.0 if number % 2 else 1.0
    tenths = _ROWS[row]
    middle = _at(0.0, 18.0 * (5 - tenths))
    if number == 0:
        return middle
    rim = _ring(18.0 * tenths * side)
    if row in ("FP", "O", "N", "I"):
        return rim
    quarters = (number + 1) // 2  # 1 and 2: one quarter
    return _between(middle, rim, quarters / 4)


def _at(degrees_right: float, degrees_front: float) -> Place:
    a, b = math.radians(degrees_right), math.radians(degrees_front)
    return (math.sin(a), math.cos(a) * math.sin(b), math.cos(a) * math.cos(b))


def _ring(degrees_from_front: float) -> Place:
    a, down = math.radians(degrees_from_front), math.radians(_RING)
    return (math.sin(down) * math.sin(a), math.sin(down) * math.cos(a), math.cos(down))


def _between(first: Place, second: Place, share: float) -> Place:
    angle = math.acos(sum(a * b for a, b in zip(first, second, strict=True)))
    near, far = math.sin((1 - share) * angle), math.sin(share * angle)
    x, y, z = ((near * a + far * b) / math.sin(angle) for a, b in zip(first, second, strict=True))
    return (x, y, z)


def neighbours(labels: Sequence[str], most: int = 4) -> tuple[tuple[int, ...], ...]:
    """For each label the nearest others that have a place, nearest first; () where it has none."""
    places = [place(label) for label in labels]
    known = [i for i, at in enumerate(places) if at is not None]
    at = np.array([places[i] for i in known], dtype=np.float64).reshape(len(known), 3)
    found: list[tuple[int, ...]] = [()] * len(labels)
    for row, i in enumerate(known):
        closeness: npt.NDArray[np.float64] = at @ at[row]
        order = [j for j in np.argsort(-closeness, kind="stable") if j != row]
        found[i] = tuple(known[j] for j in order[:most])
    return tuple(found)


#: Which channels see a blink best: the first of these rows that a montage has.
_FRONTAL = (("FP",), ("AF",), ("F7", "F8", "F9", "F10"))


def frontal(labels: Sequence[str]) -> tuple[int, ...]:
    """Channels that see blinks best: Fp1, Fp2, Fpz; without them AF*; without those F7 to F10."""
    for row in _FRONTAL:
        found = []
        for i, label in enumerate(labels):
            parts = _parts(label)
            if parts and (parts[0] in row or "".join(parts) in row):
                found.append(i)
        if found:
            return tuple(found)
    return ()


def behind(labels: Sequence[str]) -> tuple[int, ...]:
    """Channels that see little of a blink: central, temporal, parietal and occipital sites."""
    seen = ("central", "temporal", "parietal", "occipital")
    return tuple(i for i, label in enumerate(labels) if region(label) in seen)
