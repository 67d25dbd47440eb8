"""The histogram against NumPy's quantiles of the same durations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantomd.core.hist import Histogram

QUANTILES = (0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0)


@given(st.lists(st.integers(0, 2**42 - 1), min_size=1, max_size=200))
def test_quantiles_are_those_of_numpy_to_one_part_in_32(durations: list[int]) -> None:
    histogram = Histogram(10**6)
    for ns in durations:
        histogram.add(ns)
    for q in QUANTILES:
        exact = int(np.quantile(np.array(durations), q, method="inverted_cdf"))
        assert exact <= histogram.quantile(q) <= exact * 33 // 32
    assert histogram.max_ns == max(durations)
    assert histogram.count == len(durations)
    assert histogram.missed == sum(ns > 10**6 for ns in durations)


def test_an_empty_one_is_zero() -> None:
    histogram = Histogram(5)
    assert (histogram.count, histogram.max_ns, histogram.quantile(0.5)) == (0, 0, 0)


def test_woken_early_counts_as_no_delay() -> None:
    histogram = Histogram(5)
    histogram.add(-1_000)
    assert (histogram.count, histogram.missed, histogram.max_ns) == (1, 0, 0)


def test_longer_than_an_hour_is_kept_as_the_maximum() -> None:
    histogram = Histogram(5)
    histogram.add(2**50)
    assert histogram.max_ns == 2**50
    assert histogram.quantile(1.0) >= 2**42 - 1


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_no_quantile_beyond_0_and_1(q: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Histogram(5).quantile(q)
