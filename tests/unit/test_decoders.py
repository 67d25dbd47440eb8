"""The decoders against closed forms and references."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from phantomd.decoders.adaptive import AdaptiveLinear
from phantomd.decoders.base import Teaching, lagged
from phantomd.decoders.kalman import Kalman
from phantomd.decoders.linear import ALPHAS, Ridge, regressions
from phantomd.decoders.recurrent import _Net
from phantomd.errors import DecoderError

RNG = np.random.default_rng(11)
COUNTS = RNG.poisson(2.0, (600, 5)).astype(float)
TRUE = RNG.standard_normal((5, 2))


def moved(counts: np.ndarray) -> np.ndarray:
    v = (counts - 2.0) @ TRUE
    return np.column_stack([np.cumsum(v, axis=0) * 0.1, v])


def test_ridge_finds_a_linear_code_exactly_but_for_its_penalty():
    decoder = Ridge(lags=3).fit(COUNTS, moved(COUNTS), 0.1)
    np.testing.assert_allclose(decoder.decode_all(COUNTS[:50]), moved(COUNTS)[:50, 2:], atol=0.02)


def test_ridge_is_the_normal_equations_with_a_penalty():
    design, v = RNG.standard_normal((80, 4)), RNG.standard_normal((80, 2))
    (weights, offset), _ = regressions(design, v, (7.0, 8.0))
    d, t = design - design.mean(0), v - v.mean(0)
    # ridge as least squares with rows that pull to zero
    rows = np.concatenate([d, np.sqrt(7.0) * np.eye(4)])
    wanted = np.linalg.lstsq(rows, np.concatenate([t, np.zeros((4, 2))]), rcond=None)[0]
    np.testing.assert_allclose(weights, wanted, rtol=1e-10)
    np.testing.assert_allclose(offset, v.mean(0) - design.mean(0) @ wanted, rtol=1e-9)
    assert tuple(sorted(ALPHAS)) == ALPHAS


def test_lags_stand_newest_first():
    z = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(lagged(z, 2), [[0, 1, 0, 0], [2, 3, 0, 1], [4, 5, 2, 3]])


@pytest.mark.parametrize("state", ["v", "pv", "pva"])
def test_kalman_s_gain_is_that_of_the_riccati_equation(state):
    """SciPy's solution of the discrete algebraic Riccati equation is the reference."""
    rng = np.random.default_rng(5)
    v = np.zeros((800, 2))
    for i in range(1, 800):
        v[i] = 0.8 * v[i - 1] + rng.standard_normal(2)
    kinematics = np.column_stack([np.cumsum(v, axis=0) * 0.05, v])
    counts = rng.poisson(np.clip(3 + v @ rng.standard_normal((2, 6)), 0.1, None))
    decoder = Kalman(state).fit(counts, kinematics, 0.05)
    n = len(decoder.step)
    lead = int(decoder.lead[0])
    z = (counts - decoder.mean) / decoder.scale
    x = decoder._states(kinematics)
    x = x - x.mean(0)
    x, z = x[lead:], z[: len(z) - lead]
    a, h = decoder.step, np.linalg.lstsq(x, z, rcond=None)[0].T
    all_x = decoder._states(kinematics)
    all_x = all_x - all_x.mean(0)
    left = all_x[1:] - all_x[:-1] @ a.T
    w = left.T @ left / len(left)
    # Rows before the lead have no counts: they count as the mean there.
    full = np.concatenate([np.zeros((lead, 6)), z])
    h = np.linalg.lstsq(all_x, full, rcond=None)[0].T
    noise = full - all_x @ h.T
    r = noise.T @ noise / len(noise)
    r += (1e-3 * np.trace(r) / 6 + 1e-12) * np.eye(6)
    ahead = solve_discrete_are(a.T, h.T, w, r)
    gain = ahead @ h.T @ np.linalg.inv(h @ ahead @ h.T + r)
    np.testing.assert_allclose(decoder.gain[:n], gain, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(decoder.gain[n:].T, h @ a, rtol=1e-9, atol=1e-12)


def test_kalman_without_units_only_predicts():
    decoder = Kalman("v").fit(COUNTS, moved(COUNTS), 0.1)
    decoder.decode_all(COUNTS[:20])
    x = decoder._x.copy()
    for _ in range(int(decoder.lead[0]) + 1):
        before = x
        decoder.decode(np.full(5, np.nan))
        x = decoder._x.copy()
    np.testing.assert_allclose(x, decoder.step @ before, rtol=1e-12)


def test_rls_ends_where_least_squares_does():
    """With a memory without end, from weights of a fit, it is least squares over all bins."""
    kinematics = moved(COUNTS)
    kinematics[:, 2:] += RNG.standard_normal((600, 2))
    decoder = AdaptiveLinear(memory_s=1e15).fit(COUNTS[:300], kinematics[:300], 0.1)
    prior, weights = np.linalg.inv(decoder.inverse), decoder.weights
    gram, cross = prior.copy(), prior @ weights
    for counts, row in zip(COUNTS[300:], kinematics[300:], strict=True):
        decoder.decode(counts)
        x = decoder._features
        gram += np.outer(x, x)
        cross += np.outer(x, row[2:])
        decoder.learn(Teaching(*row, 0, 0, 0, 0))
    np.testing.assert_allclose(decoder.weights, np.linalg.solve(gram, cross), rtol=1e-6, atol=1e-9)


def test_rls_follows_a_code_that_turns():
    kinematics = moved(COUNTS)
    decoder = AdaptiveLinear(memory_s=10.0).fit(COUNTS, kinematics, 0.1)
    decoder.reset()
    late = []
    for i in range(1200):
        counts, row = COUNTS[i % 600], kinematics[i % 600] * [1, 1, -1, -1]
        said = decoder.decode(counts)
        decoder.learn(Teaching(*row, 0, 0, 0, 0))
        late.append(np.abs(np.array(said) - row[2:]).max())
    assert np.mean(late[:20]) > 10 * np.mean(late[-100:])


def test_rls_survives_hours_in_which_nothing_happens():
    """Forgetting alone would let its uncertainty grow without end: the next spike would move the
    weights anywhere."""
    kinematics = moved(COUNTS)
    decoder = AdaptiveLinear(memory_s=2.0).fit(COUNTS, kinematics, 0.1)
    decoder.reset()
    for _ in range(5000):
        decoder.decode(np.zeros(5))
        decoder.learn(Teaching(0, 0, 0, 0, 0, 0, 0, 0))
    assert np.trace(decoder.inverse) <= 10.6 * np.trace(decoder.first_inverse)
    errors = []
    for i in range(1500):
        said = decoder.decode(COUNTS[i % 600])
        decoder.learn(Teaching(*kinematics[i % 600], 0, 0, 0, 0))
        errors.append(np.abs(np.array(said) - kinematics[i % 600, 2:]).max())
    assert np.mean(errors[-100:]) < 0.1 * np.abs(kinematics[:, 2:]).mean()


def test_a_target_s_teacher_turns_the_decoded_speed():
    decoder = AdaptiveLinear(teacher="target").fit(COUNTS, moved(COUNTS), 0.1)
    said = decoder.decode(COUNTS[0])
    meant = decoder._meant(Teaching(0, 0, 9, 9, 3.0, 4.0, 0.0, 0.0))
    np.testing.assert_allclose(meant, np.hypot(*said) * np.array([0.6, 0.8]))
    assert decoder._meant(Teaching(0, 0, 9, 9, 3.0, 4.0, 3.0, 4.0)) is None


@pytest.mark.parametrize(
    ("kind", "how"), [(Kalman, {"state": "x"}), (AdaptiveLinear, {"teacher": "nobody"})]
)
def test_settings_that_there_are_not_are_named(kind, how):
    with pytest.raises(DecoderError):
        kind(**how)


def test_the_network_s_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(2)
    net = _Net(rng, 3, 4)
    net.parameters = {name: value.astype(float) for name, value in net.parameters.items()}
    x, y = rng.standard_normal((6, 2, 3)), rng.standard_normal((6, 2, 2))
    judged = np.ones((6, 2))
    judged[:2] = 0
    gradients, _ = net.gradients(x, y, judged)
    for name, value in net.parameters.items():
        for place in [tuple(rng.integers(0, size) for size in value.shape) for _ in range(12)]:
            kept = value[place]
            losses = []
            for change in (1e-5, -1e-5):
                value[place] = kept + change
                losses.append(net.gradients(x, y, judged)[1])
            value[place] = kept
            slope = (losses[0] - losses[1]) / 2e-5
            assert gradients[name][place] == pytest.approx(slope, rel=1e-5, abs=1e-9), name
