import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

class Spd:
    """pd_spd.h: n × n symmetric positive definite matrices, with memory to work in; n from 1 to 128.

    Definitions are pyRiemann's (``distance_riemann``, ``mean_riemann``, ``tangent_space``) and
    scikit-learn's (``ledoit_wolf``, ``oas``). Any unit. Matrices are array-likes [n, n], asymmetric
    by no more than 1e-8 of their largest value.

    A matrix that is none of these (NaN, asymmetric, rank-deficient: a Cholesky pivot not above n 2**-52
    times the largest diagonal value) gives NaN, never an exception: ``defined`` and ``reason`` say so
    of the latest call. Another shape raises ValueError; use from two threads at once, RuntimeError.
    The GIL is released, but for distances of up to 12 × 12.
    """

    n: int
    reason: str
    """Of the latest call: why it has no result, or "" ."""
    iterations: int
    """Of the latest mean."""
    criterion: float
    """Of the latest mean: Frobenius norm of the last gradient."""
    shrinkage: float
    """Of the latest covariance."""

    def __init__(self, n: int) -> None:
        """Raises ValueError for an n that can't be."""

    @property
    def defined(self) -> bool:
        """Whether the latest call has a result."""

    def distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> float:
        """Affine-invariant (Fisher–Rao): sqrt(sum log²) of the eigenvalues of inv(b) a."""

    def eigen(self, a: npt.ArrayLike) -> tuple[Array, Array]:
        """Eigenvalues [n], falling, and vectors in columns [n, n]."""

    def sqrt(self, a: npt.ArrayLike) -> Array: ...
    def invsqrt(self, a: npt.ArrayLike) -> Array: ...
    def log(self, a: npt.ArrayLike) -> Array: ...
    def exp(self, a: npt.ArrayLike) -> Array:
        """``a`` symmetric, positive definite or not."""

    def mean(
        self,
        x: npt.ArrayLike,
        *,
        weights: npt.ArrayLike | None = None,
        tolerance: float = 1e-8,
        most: int = 50,
    ) -> Array:
        """Riemannian mean of ``x`` [m, n, n]; ``weights`` [m] above 0. When it has not converged
        within ``most`` iterations, the last one is returned and ``defined`` is false."""

    def tangent(self, x: npt.ArrayLike, reference: npt.ArrayLike) -> Array:
        """[n (n + 1) / 2]: log(r^-1/2 x r^-1/2), upper triangle by rows, √2 off the diagonal."""

    def untangent(self, t: npt.ArrayLike, reference: npt.ArrayLike) -> Array:
        """Back from ``tangent``: [n, n]."""

    def covariance(
        self, x: npt.ArrayLike, *, kind: str = "sample", shrinkage: float | None = None
    ) -> Array:
        """Of ``x`` [rows, n], divided by the rows, mean taken off; at least 2 rows, else undefined.

        ``kind``: "sample", "ledoit-wolf", "oas" (``shrinkage`` says how much it was) or "fixed" with a
        ``shrinkage`` in [0, 1] towards trace / n on the diagonal. It may be singular; ``defined`` is
        about the numbers alone. Raises ValueError for another kind.
        """
