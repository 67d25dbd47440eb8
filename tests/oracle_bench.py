"""The oracle behind a board in virtual time, and what it said on 7070 and 7071."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from boards import T0_NS
from windows_bench import Bench, noise

from phantomd.config import Config, MontageConfig, OracleConfig
from phantomd.contracts import Event
from phantomd.oracle.stage import OracleStage


class Oracle:
    """A bench with the oracle behind its windows."""

    def __init__(
        self, tmp_path, signal: Callable[[int], np.ndarray] = noise, bad=(), **config
    ) -> None:
        self.events: list[Event] = []
        self.lines: dict[str, list[tuple[int, dict]]] = {"focus": [], "trit": []}
        montage = MontageConfig(bad=tuple(bad))
        self.bench = Bench(Config(montage=montage, oracle=OracleConfig(**config)), signal)
        self.stage = OracleStage(
            lambda: self.bench.engine.slots[0],
            self.bench.config.oracle,
            self.publish,
            self.events.append,
            tmp_path,
            bad=bad,
        )
        self.bench.stage.listen(lambda features, window: self.stage.judge(features, window.layout))
        self.now_ns = T0_NS

    def publish(self, stream, t_ns, data, late=False) -> None:
        self.lines[stream].append((t_ns, data))

    def run(self, begin_s: float, end_s: float, **how) -> None:
        for ms in range(round(1e3 * begin_s), round(1e3 * end_s), 4):
            self.bench.run(ms / 1e3, (ms + 4) / 1e3, **how)
            self.stage.on_tick(T0_NS + ms * 1_000_000)

    def silence(self, begin_s: float, end_s: float) -> None:
        for ms in range(round(1e3 * begin_s), round(1e3 * end_s), 4):
            now_ns = T0_NS + ms * 1_000_000
            self.bench.engine.step(now_ns)
            self.bench.stage.on_tick(now_ns)
            self.stage.on_tick(now_ns)

    def reasons(self, stream: str = "focus") -> list[str]:
        return [data.get("reason", data["cell"]) for _, data in self.lines[stream]]
