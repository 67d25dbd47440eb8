"""An engine with one board in virtual time, and the windows that come of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from boards import T0_NS, Board, run

from phantomd.config import Config
from phantomd.contracts import FeatureWindow
from phantomd.devices.simulator import Simulator
from phantomd.engine.engine import Engine
from phantomd.signal.analysis import KERNELS
from phantomd.signal.window import Window
from phantomd.signal.windows import WindowStage

Signal = Callable[[int], np.ndarray]
NOISE_UV = np.random.default_rng(5).normal(0, 8, (2500, 8)) + np.linspace(-20e3, 20e3, 8)


def noise(n: int) -> np.ndarray:
    """On electrode offsets of up to 20 mV."""
    return NOISE_UV[n % len(NOISE_UV)]


class Bench:
    """An engine with one board, and the windows that came of it."""

    def __init__(
        self,
        config: Config | None = None,
        signal: Signal | None = None,
        board: Simulator | None = None,
    ) -> None:
        self.config = config or Config()
        self.engine = Engine(self.config, T0_NS, virtual=True, kernels=KERNELS)
        self.board = Board()
        self.board.signal = signal or noise
        self.slot = self.engine.attach(board or self.board)
        self.said: list[tuple[str, int | None, dict[str, object], bool]] = []
        self.windows: list[tuple[FeatureWindow, Window]] = []
        self.stage = WindowStage(lambda: self.engine.slots, self.publish)
        self.stage.listen(lambda features, window: self.windows.append((features, window)))

    def publish(self, stream, t_ns, data, late=False) -> None:
        self.said.append((stream, t_ns, data, late))

    def run(self, begin_s: float, end_s: float, lost: tuple[int, ...] = ()) -> None:
        for ms in range(round(1e3 * begin_s), round(1e3 * end_s), 4):
            run(self.engine, self.board, ms / 1e3, (ms + 4) / 1e3, lost)
            self.stage.on_tick(T0_NS + ms * 1_000_000)

    def whole(self) -> list[tuple[FeatureWindow, Window]]:
        return [(features, window) for features, window in self.windows if window.is_whole]
