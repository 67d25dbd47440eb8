"""A Cyton in virtual time, and an engine that is stepped as it arrives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import MONTAGE, DeviceSpec
from phantomd.core.cyton import N_AUX, CytonDriver, encode
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.engine.engine import Engine

T0_NS = 10**12
PERIOD_NS = 4_000_000
S = 10**9
#: At gain 24.
UV_PER_COUNT = 4.5e6 / 24 / (2**23 - 1)
AUX = ("accel_x_g", "accel_y_g", "accel_z_g")


class Board:
    """A Cyton in virtual time: packets arrive when their sample is taken."""

    def __init__(self, labels: tuple[str, ...] = MONTAGE, name: str = "cyton") -> None:
        n_values = 8 + N_AUX
        ring = Ring(NATIVE_HEAD_WORDS + n_values, 1 << 14)
        self.spec = DeviceSpec(name, "cyton:", "cyton", 250.0, labels, AUX, counter_modulus=256)
        self.driver = CytonDriver(Intake(ring, 250.0, n_values, 256))
        self.fd = -1
        self.next = 0
        #: µV of a sample, [8]; the index in ADC counts unless something else is wanted.
        self.signal: Callable[[int], NDArray[np.float64]] | None = None

    def counts(self, n: int) -> NDArray[np.int32]:
        if self.signal is None:
            return np.full((1, 8), n, np.int32)
        return np.round(self.signal(n) / UV_PER_COUNT).astype(np.int32)[None]

    def send(self, until_ns: int, lost: tuple[int, ...] = ()) -> None:
        while T0_NS + self.next * PERIOD_NS <= until_ns:
            n = self.next
            if n not in lost:
                data = encode(np.array([n % 256], np.uint8), self.counts(n))
                self.driver.feed(data, T0_NS + n * PERIOD_NS)
            self.next += 1

    def start(self) -> None: ...

    def close(self) -> None: ...

    def fault(self, kind: str, duration_s: float | None, args: dict[str, object]) -> None: ...


def run(
    engine: Engine, board: Board, begin_s: float, end_s: float, lost: tuple[int, ...] = ()
) -> None:
    for now_ns in range(T0_NS + round(begin_s * S), T0_NS + round(end_s * S), PERIOD_NS):
        board.send(now_ns, lost)
        engine.step(now_ns)
