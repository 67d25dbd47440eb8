"""Where electrodes are, and how much of each of the simulator's sources they see."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from phantomd.core.sim import MAX_CHANNELS

#: Extended 10-20 sites on the unit sphere (right, front, up): x as on the right, names of the left.
_LEFT = {
    "Fp1": (0.309, 0.951, 0.0),
    "F3": (0.545, 0.673, 0.5),
    "C3": (0.719, 0.0, 0.695),
    "P3": (0.545, -0.673, 0.5),
    "F7": (0.809, 0.588, 0.0),
    "T7": (1.0, 0.0, 0.0),
    "P7": (0.809, -0.588, 0.0),
    "O1": (0.309, -0.951, 0.0),
    "FC1": (0.375, 0.375, 0.848),
    "FC5": (0.887, 0.340, 0.314),
    "CP1": (0.375, -0.375, 0.848),
    "CP5": (0.887, -0.340, 0.314),
    "AF3": (0.360, 0.880, 0.310),
    "PO3": (0.360, -0.880, 0.310),
}
_MIDDLE = {
    "Fz": (0.0, 0.719, 0.695),
    "Cz": (0.0, 0.0, 1.0),
    "Pz": (0.0, -0.719, 0.695),
    "Oz": (0.0, -1.0, 0.0),
}


def _mirrored(label: str) -> str:
    return label[:-1] + str(int(label[-1]) + 1)


_POSITIONS = (
    {label: (-x, y, z) for label, (x, y, z) in _LEFT.items()}
    | {_mirrored(label): at for label, at in _LEFT.items()}
    | _MIDDLE
)

#: What channels beyond the montage are called, in this order.
LABELS = (
    *(side for label in tuple(_LEFT)[:8] for side in (label, _mirrored(label))),
    *_MIDDLE,
    *(side for label in tuple(_LEFT)[8:] for side in (label, _mirrored(label))),
)


class Site(msgspec.Struct, frozen=True):
    """An electrode: where it is (right, front, up), and how much of each source it sees."""

    label: str
    position: tuple[float, float, float]
    alpha: float
    ssvep: float
    blink: float
    emg: float

    @classmethod
    def of(cls, label: str) -> Site:
        """A label that is no 10-20 site is taken for the vertex."""
        x, y, z = position = _POSITIONS.get(label, _MIDDLE["Cz"])
        front = min(1.0, max(0.0, (y + 0.95) / 1.9))
        back = min(1.0, max(0.0, (0.95 - y) / 1.9))
        rim = (1.0 - z) * min(1.0, 0.5 + 0.5 * max(abs(x), y))
        return cls(
            label,
            position,
            alpha=0.2 + 0.8 * (back * back),
            ssvep=0.05 + 0.95 * (back * back * back * back),
            blink=0.03 + 0.97 * (front * front * front * front * front),
            emg=0.1 + 0.9 * rim,
        )


def sites(labels: Iterable[str], n_channels: int) -> tuple[Site, ...]:
    """The montage's labels first, then those of LABELS that it has not."""
    named = tuple(labels)
    more = tuple(label for label in LABELS if label not in named)
    numbered = tuple(f"S{i + 1}" for i in range(MAX_CHANNELS))
    return tuple(Site.of(label) for label in (*named, *more, *numbered)[:n_channels])
