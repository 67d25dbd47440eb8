"""How a benchmark says what it measures: kernel / case / ours or a peer, and how it was called.

    TICK = Case("filter bank", "a tick: 8 channels × 5 bands × 4 sections × 6 samples")

    def test_tick_bound(benchmark: Any) -> None:
        TICK.ours(benchmark, "`bind(x, y)`, `run(6)`")
        benchmark(run, 6)

    def test_tick_of_scipy(benchmark: Any) -> None:
        TICK.peer(benchmark, "SciPy", "`sosfilt` a band, state carried")
        benchmark(loop)

All that run together under one case do the same work on the same data. The first of ours is the one
that ratios are to. ``benches.table`` writes docs/benchmarks.md from it, and refuses a benchmark
that says nothing. A peer that isn't installed is skipped (``pytest.importorskip``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OURS = "phantomd"


@dataclass(frozen=True, slots=True)
class Case:
    """``readme``: what the README's table calls the case, if it has it."""

    kernel: str
    name: str
    readme: str = ""

    def ours(self, benchmark: Any, how: str) -> None:
        self.peer(benchmark, OURS, how)

    def peer(self, benchmark: Any, who: str, how: str) -> None:
        benchmark.group = f"{self.kernel}: {self.name}"
        benchmark.extra_info.update(
            kernel=self.kernel, case=self.name, who=who, how=how, readme=self.readme
        )
