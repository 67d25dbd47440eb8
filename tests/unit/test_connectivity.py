"""Connectivity of all pairs against MNE-Connectivity's own results, and what is undefined."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomd.core.connectivity import MEASURES, Connectivity

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
BANDS = [(8.0, 13.0), (13.0, 30.0), (30.0, 90.0)]


def signals(n: int, channels: int, seed: int = 0) -> Array:
    """µV: noise, and something in common that arrives later in some channels."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(n + channels)
    late = np.stack([common[i : i + n] for i in range(channels)], axis=1)
    return rng.standard_normal((n, channels)) + rng.uniform(0, 2, channels) * late


def epochs_of(x: Array, nperseg: int, noverlap: int) -> Array:
    starts = range(0, len(x) - nperseg + 1, nperseg - noverlap)
    return np.array([x[start : start + nperseg].T for start in starts])


def reference(epochs: Array) -> Array:
    """[measures, bands, channels, channels], below the diagonal."""
    module = pytest.importorskip("mne_connectivity", reason="MNE-Connectivity is not installed")
    told = module.spectral_connectivity_epochs(
        epochs,
        method=list(MEASURES),
        mode="fourier",
        sfreq=RATE_HZ,
        fmin=[low for low, _ in BANDS],
        fmax=[high for _, high in BANDS],
        faverage=True,
        verbose="ERROR",
    )
    return np.array([np.moveaxis(m.get_data(output="dense"), -1, 0) for m in told])


@settings(max_examples=6, deadline=None)
@given(
    nperseg=st.sampled_from([100, 125, 97, 128, 250]),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
    channels=st.integers(2, 12),
    seed=st.integers(0, 99),
)
def test_all_measures_are_those_of_mne(
    nperseg: int, overlap: float, channels: int, seed: int
) -> None:
    noverlap = int(overlap * nperseg)
    x = signals(900, channels, seed)
    plan = Connectivity(channels, RATE_HZ, BANDS, nperseg=nperseg, noverlap=noverlap)
    told = plan.matrices(x)
    below = np.tril_indices(channels, -1)
    r = reference(epochs_of(x, nperseg, noverlap))
    assert abs(told[..., *below] - r[..., *below]).max() <= 1e-12


def test_matrices_are_symmetric_but_for_the_imaginary_coherence() -> None:
    plan = Connectivity(5, RATE_HZ, BANDS, nperseg=100)
    told = plan.matrices(signals(600, 5))
    for name, matrix in zip(MEASURES, told, strict=True):
        mirrored = np.swapaxes(matrix, -1, -2)
        sign = -1 if name == "imcoh" else 1
        assert np.array_equal(matrix, sign * mirrored, equal_nan=True)
        assert np.isnan(np.diagonal(matrix, axis1=-2, axis2=-1)).all()


def test_means_are_over_pairs_in_use() -> None:
    plan = Connectivity(5, RATE_HZ, BANDS, nperseg=100)
    told = plan.matrices(signals(600, 5))
    use = np.array([True, True, False, True, True])
    kept = told[..., use, :][..., use]
    below = np.tril_indices(4, -1)
    pairs = kept[..., *below]
    pairs[MEASURES.index("imcoh")] = abs(pairs[MEASURES.index("imcoh")])
    assert np.allclose(plan.means(told, use), pairs.mean(axis=-1), rtol=1e-12)
    assert plan.means(told).shape == (6, 3)
    assert np.isnan(plan.means(told, [True, False, False, False, False])).all()


def test_a_copy_has_no_imaginary_part_and_full_coherence() -> None:
    x = signals(600, 2)
    x[:, 1] = 2 * x[:, 0]
    told = Connectivity(2, RATE_HZ, BANDS, nperseg=100).matrices(x)
    values = dict(zip(MEASURES, told, strict=True))
    assert np.allclose(values["coh"][:, 0, 1], 1, rtol=1e-14)
    assert np.allclose(values["plv"][:, 0, 1], 1, rtol=1e-14)
    for name in ("pli", "wpli", "wpli2_debiased", "imcoh"):
        assert (values[name][:, 0, 1] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e140])
def test_a_missing_value_undefines_the_pairs_of_its_channel(bad: float) -> None:
    x = signals(600, 9)
    plan = Connectivity(9, RATE_HZ, BANDS, nperseg=100)
    whole = plan.matrices(x)
    x[100, 4] = bad
    torn = plan.matrices(x)
    others = np.arange(9) != 4
    assert np.isnan(torn[..., 4, :]).all()
    kept = torn[..., others, :][..., others]
    assert np.array_equal(kept, whole[..., others, :][..., others], equal_nan=True)
    assert np.isnan(plan.means(torn)).all()
    assert np.isfinite(plan.means(torn, others)).all()


def test_flat_channels_are_undefined_not_zero() -> None:
    x = signals(600, 3)
    x[:, 1] = 62e3 + 0.1
    told = Connectivity(3, RATE_HZ, BANDS, nperseg=100).matrices(x)
    assert np.isnan(told[..., 1, :]).all()
    assert np.isfinite(told[..., 0, 2]).all()


@pytest.mark.parametrize("n", [0, 99, 100, 149])
def test_fewer_than_two_segments_are_undefined(n: int) -> None:
    assert np.isnan(Connectivity(3, RATE_HZ, BANDS, nperseg=100).matrices(signals(n, 3))).all()


def test_a_band_without_bins_and_one_channel_are_undefined() -> None:
    plan = Connectivity(2, RATE_HZ, [(8, 13), (8.1, 8.2)], nperseg=100)
    told = plan.matrices(signals(600, 2))
    assert np.isfinite(told[:, 0, 0, 1]).all()
    assert np.isnan(told[:, 1]).all()
    alone = Connectivity(1, RATE_HZ, BANDS, nperseg=100)
    assert np.isnan(alone.means(alone.matrices(signals(600, 1)))).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nperseg": 0}, "segments of 0"),
        ({"nperseg": 100, "noverlap": 100}, "overlap by 100"),
        ({"nperseg": 4, "window": [1, 2]}, "window of 2"),
        ({"nperseg": 4, "window": np.zeros(4)}, "no power"),
        ({"nperseg": 100, "max_segments": 0}, "max_segments 0"),
    ],
)
def test_a_plan_that_is_none_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Connectivity(2, RATE_HZ, BANDS, **options)


def test_what_does_not_fit_is_refused() -> None:
    for channels in (0, 1025):
        with pytest.raises(ValueError, match="channels"):
            Connectivity(channels, RATE_HZ, BANDS, nperseg=100)
    with pytest.raises(ValueError, match="0 bands"):
        Connectivity(2, RATE_HZ, [], nperseg=100)
    with pytest.raises(ValueError, match="rate"):
        Connectivity(2, math.nan, BANDS, nperseg=100)
    plan = Connectivity(2, RATE_HZ, BANDS, nperseg=100, max_segments=3)
    with pytest.raises(ValueError, match="x has shape"):
        plan.matrices(np.zeros((300, 3)))
    with pytest.raises(ValueError, match="out has shape"):
        plan.matrices(np.zeros((200, 2)), np.empty((6, 3, 2, 3)))
    with pytest.raises(ValueError, match="3 segments"):
        plan.matrices(np.zeros((300, 2)))
    with pytest.raises(ValueError, match="matrices have shape"):
        plan.means(np.zeros((6, 3, 3, 3)))
    with pytest.raises(ValueError, match="use has shape"):
        plan.means(np.zeros((6, 3, 2, 2)), [True])
