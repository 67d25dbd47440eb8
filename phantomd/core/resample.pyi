import numpy as np
import numpy.typing as npt

class Resampler:
    """pd_resample.h: native samples to the value at any fractional position.

    y(p) = sum over k of h(k - p) x[k], h being the table's prototype, with weights interpolated
    linearly between rows. Stateless and safe from any thread; the GIL is released.
    """

    def __init__(self, table: npt.ArrayLike, ahead: int) -> None:
        """``table``: float64 [phases + 1, taps], copied (see phantomd.engine.prototype).

        ``ahead``: position p needs samples up to floor(p) + ahead. Raises ValueError for a table
        of another shape, or with more than 1024 taps.
        """

    @property
    def ahead(self) -> int: ...
    @property
    def taps(self) -> int: ...
    def at(self, x: npt.ArrayLike, position: float) -> npt.NDArray[np.float64]:
        """float64 [channels] at ``position`` (native samples, from row 0 of x).

        ``x``: float64 [n, channels], copied unless C-contiguous. Raises ValueError when x is not
        two-dimensional, or has not all of rows floor(position) + ahead - taps + 1 ..
        floor(position) + ahead.
        """

    def at_many(self, x: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """float64 [m, channels] at each of ``positions`` [m]; otherwise as ``at``."""

    def between(self, x: npt.ArrayLike, fraction: float) -> npt.NDArray[np.float64]:
        """float64 [channels] of exactly the ``taps`` samples [taps, channels] that a position with
        this fraction needs, to the bit as the tick made it. ValueError for other shapes."""
