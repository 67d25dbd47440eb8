class Histogram:
    """Log-linear histogram of durations in ns: exact below 32, then to 1 part in 32, up to 2^42.

    One owner thread adds; any thread reads. Durations over ``deadline_ns`` count as missed.
    """

    def __init__(self, deadline_ns: int) -> None: ...
    def add(self, ns: int) -> None:
        """Owner thread. Negative counts as 0."""
    def quantile(self, q: float) -> int:
        """Upper edge of the bucket in which the fraction ``q`` (0..1) is reached; 0 when empty."""
    @property
    def count(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def max_ns(self) -> int: ...
    @property
    def deadline_ns(self) -> int: ...

class Window:
    """What a histogram got since the last look at it, whoever owns it."""

    def __init__(self, histogram: Histogram) -> None: ...
    def take(self) -> Histogram:
        """A histogram of what was added since the last call (at first: since this was made)."""
