"""SPD matrices against pyRiemann, scikit-learn, and fifty digits of mpmath."""

import warnings

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from pyriemann.geometry.base import expm, invsqrtm, logm, sqrtm
from pyriemann.geometry.distance import distance_riemann
from pyriemann.geometry.mean import mean_riemann
from pyriemann.geometry.tangentspace import tangent_space, untangent_space
from sklearn.covariance import empirical_covariance, ledoit_wolf, oas, shrunk_covariance

from phantomd.core.spd import Spd

Array = npt.NDArray[np.float64]

SIZES = (1, 2, 3, 5, 8, 13, 32, 64)
EXACT = 1e-10


def spd(n: int, condition: float, seed: int) -> Array:
    """Eigenvalues log-uniform between 1 and the condition number, both of them among them."""
    rng = np.random.default_rng([n, seed])
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = np.exp(rng.uniform(0, np.log(condition), n))
    values[0], values[-1] = 1, condition
    a = (q * values) @ q.T
    return np.asarray((a + a.T) / 2)


def apart(a: Array, b: Array) -> float:
    """Relative to the largest value of b."""
    return float(abs(a - b).max() / abs(b).max())


# -- against pyRiemann -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_distance_and_tangent_vector_are_those_of_pyriemann(n: int, condition: float) -> None:
    """Where pyRiemann has ten digits itself: see the next test for what it does beyond."""
    geometry = Spd(n)
    for seed in range(4):
        a, b = spd(n, condition, seed), spd(n, 4.0, seed + 100)
        expected = distance_riemann(a, b)
        assert abs(geometry.distance(a, b) - expected) <= EXACT * expected
        assert abs(geometry.distance(b, a) - expected) <= EXACT * expected
        t = tangent_space(a, b)
        assert apart(geometry.tangent(a, b), t) <= EXACT
        assert apart(geometry.untangent(t, b), untangent_space(t, b)) <= EXACT
        assert geometry.defined


@pytest.mark.parametrize("n", SIZES)
def test_functions_are_those_of_pyriemann(n: int) -> None:
    geometry = Spd(n)
    for seed in range(4):
        a = spd(n, 1e5, seed)
        assert apart(geometry.sqrt(a), sqrtm(a)) <= EXACT
        assert apart(geometry.invsqrt(a), invsqrtm(a)) <= EXACT
        log = logm(spd(n, 1e6, seed + 50)) - 3.0 * np.eye(n)
        assert apart(geometry.log(a), logm(a)) <= EXACT
        assert apart(geometry.exp(log), expm(log)) <= EXACT


@pytest.mark.parametrize("n", [1, 2, 8, 16])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_is_that_of_pyriemann(n: int, weighted: bool) -> None:
    x = np.array([spd(n, 10.0 ** (seed % 4), seed) for seed in range(12)])
    weights = np.random.default_rng(0).uniform(0.1, 2, 12) if weighted else None
    geometry = Spd(n)
    found = geometry.mean(x, weights=weights)
    assert geometry.defined
    assert apart(found, mean_riemann(x, sample_weight=weights)) <= EXACT
    assert 1 < geometry.iterations < 50


def test_two_iterations_are_two_of_pyriemann() -> None:
    x = np.array([spd(6, 1e3, seed) for seed in range(5)])
    geometry = Spd(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mean_riemann(x, maxiter=2)
    assert apart(geometry.mean(x, most=2), expected) <= EXACT
    assert not geometry.defined
    assert geometry.reason == "no convergence or too large"
    assert (geometry.iterations, geometry.criterion > 1e-8) == (2, True)


# -- against fifty digits --------------------------------------------------------------------------


def matrix_function(a: mpmath.matrix, f: object) -> mpmath.matrix:
    values, vectors = mpmath.eigsy(a)
    return vectors * mpmath.diag([f(value) for value in values]) * vectors.T


def fifty_digits(a: Array, b: Array) -> tuple[float, Array]:
    """Distance and tangent vector."""
    n = len(a)
    with mpmath.workdps(50):
        root = matrix_function(mpmath.matrix(b.tolist()), lambda v: 1 / mpmath.sqrt(v))
        whitened = root * mpmath.matrix(a.tolist()) * root
        log = matrix_function((whitened + whitened.T) / 2, mpmath.log)
        t = [log[i, j] * (1 if i == j else mpmath.sqrt(2)) for i in range(n) for j in range(i, n)]
        return float(mpmath.norm(t)), np.array([float(value) for value in t])


@pytest.mark.parametrize("n", [2, 5, 8])
def test_two_matrices_of_condition_a_million_are_exact(n: int) -> None:
    """The joint condition number is 1e12, where pyRiemann has some six digits: it whitens first."""
    geometry = Spd(n)
    for seed in range(2):
        a, b = spd(n, 1e6, seed), spd(n, 1e6, seed + 10)
        distance, t = fifty_digits(a, b)
        assert abs(geometry.distance(a, b) - distance) <= EXACT * distance
        assert apart(geometry.tangent(a, b), t) <= EXACT


def test_small_eigenvalues_are_as_exact_as_large_ones() -> None:
    """A graded matrix, D H D with D over eight decades: relative to each eigenvalue."""
    scale = 10.0 ** np.arange(0, -8, -1)
    a = scale[:, None] * spd(8, 5.0, 1) * scale
    values, _ = Spd(8).eigen(a)
    with mpmath.workdps(50):
        exact = sorted((float(v) for v in mpmath.eigsy(mpmath.matrix(a.tolist()))[0]), reverse=True)
    assert abs(values / exact - 1).max() <= 1e-13


# -- what it must obey -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_eigenvectors_are_orthonormal_and_make_the_matrix(n: int) -> None:
    a = spd(n, 1e6, 3)
    values, vectors = Spd(n).eigen(a)
    assert (np.diff(values) <= 0).all()
    assert abs(vectors.T @ vectors - np.eye(n)).max() <= 1e-13 * n
    assert apart((vectors * values) @ vectors.T, a) <= 1e-13 * n


def test_the_distance_is_invariant_and_zero_from_itself() -> None:
    a, b, w = spd(8, 100.0, 1), spd(8, 100.0, 2), spd(8, 10.0, 3) @ spd(8, 3.0, 4)
    geometry = Spd(8)
    assert geometry.distance(a, a) <= 1e-14
    moved = geometry.distance(w @ a @ w.T, w @ b @ w.T)
    assert abs(moved / geometry.distance(a, b) - 1) <= 1e-9
    assert abs(geometry.distance(np.diag([np.e] * 8), np.eye(8)) - np.sqrt(8)) <= 1e-14


def test_the_norm_of_the_tangent_vector_is_the_distance_and_back_is_back() -> None:
    a, b = spd(16, 1e3, 1), spd(16, 1e3, 2)
    geometry = Spd(16)
    t = geometry.tangent(a, b)
    assert abs(np.linalg.norm(t) / geometry.distance(a, b) - 1) <= 1e-11
    assert apart(geometry.untangent(t, b), a) <= 1e-11


def test_units_do_not_matter() -> None:
    """Volts squared, or anything between the ends of a double."""
    a, b = spd(8, 1e3, 1), spd(8, 1e3, 2)
    geometry = Spd(8)
    expected = geometry.distance(a, b)
    for scale in (1e-13, 1e-200, 1e200):
        assert abs(geometry.distance(scale * a, scale * b) / expected - 1) <= 1e-12
        root = geometry.sqrt(scale * a)
        assert apart(root, np.sqrt(scale) * geometry.sqrt(a)) <= 1e-12


# -- covariance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 8, 31])
@pytest.mark.parametrize("rows", [2, 5, 400])
def test_covariances_are_those_of_scikit_learn(n: int, rows: int) -> None:
    rng = np.random.default_rng([n, rows])
    x = rng.standard_normal((rows, n)) @ rng.standard_normal((n, n)) + 1000 * rng.random(n)
    geometry = Spd(n)
    assert apart(geometry.covariance(x), empirical_covariance(x)) <= EXACT
    for kind, reference in (("ledoit-wolf", ledoit_wolf), ("oas", oas)):
        expected, shrinkage = reference(x)
        assert apart(geometry.covariance(x, kind=kind), expected) <= EXACT
        assert abs(geometry.shrinkage - shrinkage) <= EXACT
    fixed = geometry.covariance(x, kind="fixed", shrinkage=0.2)
    assert apart(fixed, shrunk_covariance(empirical_covariance(x), 0.2)) <= EXACT


def test_shrinkage_makes_a_distance_of_too_few_samples() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.standard_normal((6, 8)), rng.standard_normal((500, 8))
    geometry = Spd(8)
    baseline = geometry.covariance(many, kind="oas")
    singular = geometry.covariance(few)
    assert np.isnan(geometry.distance(singular, baseline))
    assert geometry.reason == "not positive definite"
    shrunk = geometry.covariance(few, kind="oas")
    assert 0 < geometry.distance(shrunk, baseline) < 10


# -- what is none ----------------------------------------------------------------------------------


def nothing(n: int) -> dict[str, tuple[Array, str]]:
    hole, crooked, infinite = (spd(n, 10.0, 5) for _ in range(3))
    hole[1, 1] = np.nan
    crooked[0, 1] += 1e-6
    infinite[0, 0] = np.inf
    v = np.random.default_rng(0).standard_normal((n, n - 1))
    not_symmetric = "no symmetric matrix of finite numbers"
    return {
        "NaN": (hole, not_symmetric),
        "infinity": (infinite, not_symmetric),
        "asymmetric": (crooked, not_symmetric),
        "rank-deficient": (v @ v.T, "not positive definite"),
        "indefinite": (np.diag([1.0] * (n - 1) + [-1.0]), "not positive definite"),
        "zero": (np.zeros((n, n)), "not positive definite"),
    }


@pytest.mark.parametrize("n", [2, 8, 33])
@pytest.mark.parametrize("kind", nothing(2))
def test_what_is_no_spd_matrix_has_no_result(n: int, kind: str) -> None:
    a, reason = nothing(n)[kind]
    b = spd(n, 10.0, 6)
    geometry = Spd(n)
    for call in (
        lambda: geometry.distance(a, b),
        lambda: geometry.distance(b, a),
        lambda: geometry.sqrt(a),
        lambda: geometry.log(a),
        lambda: geometry.invsqrt(a),
        lambda: geometry.eigen(a)[0],
        lambda: geometry.tangent(a, b),
        lambda: geometry.tangent(b, a),
        lambda: geometry.untangent(np.zeros(n * (n + 1) // 2), a),
        lambda: geometry.mean([b, a, b]),
    ):
        assert np.isnan(call()).all()
        assert not geometry.defined
        assert geometry.reason == reason
        assert geometry.distance(b, b) <= 1e-13
        assert geometry.defined


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_rank_rule_is_a_pivot_of_n_epsilons(n: int) -> None:
    limit = n * np.finfo(float).eps
    geometry = Spd(n)
    for factor, there in ((1.01, True), (0.99, False)):
        values = np.ones(n)
        values[-1] = factor * limit
        distance = geometry.distance(np.diag(values), np.eye(n))
        assert geometry.defined is there
        assert bool(np.isnan(distance)) is not there
        if there:
            assert abs(distance / -np.log(values[-1]) - 1) <= 1e-14


def test_rounding_asymmetry_is_averaged() -> None:
    a, b = spd(8, 10.0, 7), spd(8, 10.0, 8)
    crooked = a.copy()
    crooked[2, 5] += 2e-10
    even = a.copy()
    even[2, 5] += 1e-10
    even[5, 2] += 1e-10
    geometry = Spd(8)
    assert abs(geometry.distance(crooked, b) / geometry.distance(even, b) - 1) <= 1e-13


def test_numbers_that_can_not_be_averaged_have_no_mean() -> None:
    x = [spd(3, 10.0, 1), spd(3, 10.0, 2)]
    geometry = Spd(3)
    for weights in ([1.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0]):
        assert np.isnan(geometry.mean(x, weights=weights)).all()
        assert not geometry.defined


def test_one_sample_or_a_missing_one_has_no_covariance() -> None:
    geometry = Spd(3)
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert np.isnan(geometry.covariance(x[:1])).all()
    assert not geometry.defined
    assert np.isnan(geometry.covariance(x[:0])).all()
    x[20, 1] = np.nan
    for kind in ("sample", "ledoit-wolf", "oas"):
        assert np.isnan(geometry.covariance(x, kind=kind)).all()
        assert not geometry.defined


def test_a_tangent_vector_too_long_has_no_matrix() -> None:
    geometry = Spd(2)
    assert np.isnan(geometry.untangent([800.0, 0.0, 0.0], np.eye(2))).all()
    assert np.isnan(geometry.untangent([np.nan, 0.0, 0.0], np.eye(2))).all()
    assert not geometry.defined


def test_wrong_arguments_are_refused() -> None:
    geometry = Spd(3)
    for n in (0, 129):
        with pytest.raises(ValueError, match="rows"):
            Spd(n)
    with pytest.raises(ValueError, match="shape"):
        geometry.distance(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="shape"):
        geometry.mean(np.empty((0, 3, 3)))
    with pytest.raises(ValueError, match="weights"):
        geometry.mean([np.eye(3)], weights=[1.0, 1.0])
    with pytest.raises(ValueError, match="values"):
        geometry.untangent(np.zeros(5), np.eye(3))
    with pytest.raises(ValueError, match="kind"):
        geometry.covariance(np.zeros((5, 3)), kind="wolf")
    with pytest.raises(ValueError, match="shrinkage"):
        geometry.covariance(np.zeros((5, 3)), kind="fixed")
    with pytest.raises(ValueError, match="shrinkage"):
        geometry.covariance(np.zeros((5, 3)), kind="fixed", shrinkage=1.5)
