"""What the pictures of docs/ share: drawing without a screen, and how long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def pyplot() -> Any:
    """Matplotlib's, for files; loaded when somebody draws."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def fastest_ns(call: Callable[[], object], rounds: int = 25) -> tuple[float, float]:
    """Fastest and median of ``rounds`` means, each over at least 0.5 ms of this thread's time."""
    start = time.thread_time_ns()
    call()
    repeats = max(1, 500_000 // max(1, time.thread_time_ns() - start))
    means = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        for _ in range(repeats):
            call()
        means.append((time.thread_time_ns() - start) / repeats)
    return min(means), float(np.median(means))
