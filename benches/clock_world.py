"""A virtual device and its transport: when samples are taken, and when they are read.

Everything is drawn from one seeded generator and nothing waits, so that an hour costs a second.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phantomd.core.clock import Clock

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Jitter = Callable[[np.random.Generator, int], Floats]

EPOCH_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Delivery:
    """What the host sees: index, arrival and ``behind`` of each sample that came, and the truth."""

    rate_hz: float
    index: Ints
    arrival_ns: Ints
    behind: Ints
    true_s: Floats

    def keep(self, kept: NDArray[np.bool_]) -> "Delivery":
        """The same, without the samples that are not ``kept``. The crystal goes on."""
        return replace(
            self,
            index=self.index[kept],
            arrival_ns=self.arrival_ns[kept],
            behind=self.behind[kept],
            true_s=self.true_s[kept],
        )

    def lose(self, start_s: float, samples: int) -> "Delivery":
        """The same, without ``samples`` of them from ``start_s`` on."""
        first = int(np.searchsorted(self.true_s, start_s))
        kept = np.ones(len(self.index), np.bool_)
        kept[first : first + samples] = False
        return self.keep(kept)


def exponential(mean_s: float) -> Jitter:
    return lambda rng, n: rng.exponential(mean_s, n)


def gamma(shape: float, scale_s: float) -> Jitter:
    return lambda rng, n: rng.gamma(shape, scale_s, n)


def uniform(low_s: float, high_s: float) -> Jitter:
    return lambda rng, n: rng.uniform(low_s, high_s, n)


def spiked(jitter: Jitter, chance: float = 0.01, spike_s: float = 0.02) -> Jitter:
    return lambda rng, n: jitter(rng, n) + spike_s * (rng.random(n) < chance)


def crystal(
    rng: np.random.Generator,
    rate_hz: float,
    seconds: float,
    *,
    ppm: float = 0.0,
    wander_ppm: float = 0.0,
    steps: tuple[tuple[float, float], ...] = (),
) -> Floats:
    """True instants of the samples, in s.

    ``ppm``: how much slower than nominal; ``wander_ppm``: its random walk in ppm/sqrt(s);
    ``steps``: (instant in s, further ppm).
    """
    n = round(seconds * rate_hz)
    slower = np.full(n, ppm * 1e-6)
    slower += np.cumsum(rng.standard_normal(n)) * wander_ppm * 1e-6 / np.sqrt(rate_hz)
    for at_s, step_ppm in steps:
        slower[round(at_s * rate_hz) :] += step_ppm * 1e-6
    return np.concatenate(([0.0], np.cumsum(1.0 + slower[:-1]))) / rate_hz


def deliver(
    rng: np.random.Generator,
    rate_hz: float,
    true_s: Floats,
    jitter: Jitter,
    *,
    fifo: bool = False,
    stalls: tuple[tuple[float, float], ...] = (),
    shifts: tuple[tuple[float, float], ...] = (),
    extra_s: Floats | None = None,
) -> Delivery:
    """Each sample by itself, late by ``jitter``. ``fifo``: none overtakes another.

    ``stalls``: (start, length), the host reads nothing and then all at once; ``shifts``: (instant,
    further constant delay); ``extra_s``: any further delay of each sample.
    """
    arrival_s = true_s + jitter(rng, len(true_s))
    if extra_s is not None:
        arrival_s += extra_s
    for at_s, delay_s in shifts:
        arrival_s[true_s >= at_s] += delay_s
    for start_s, length_s in stalls:
        inside = (arrival_s >= start_s) & (arrival_s < start_s + length_s)
        arrival_s[inside] = start_s + length_s
    if fifo or stalls or shifts or extra_s is not None:
        arrival_s = np.maximum.accumulate(arrival_s)
    return _delivery(rate_hz, true_s, arrival_s, np.zeros(len(true_s), np.int64))


def drained(arrival_s: Floats, from_s: float, backlog_s: float, spacing_s: float) -> Floats:
    """Delays that a queue adds: full from ``from_s`` on, it gives a sample each ``spacing_s``."""
    begins = int(np.searchsorted(arrival_s, from_s))
    place = np.arange(len(arrival_s) - begins)
    leaves_s = from_s + backlog_s + place * spacing_s
    added_s = np.zeros(len(arrival_s))
    added_s[begins:] = np.maximum(0.0, leaves_s - arrival_s[begins:])
    return added_s


def deliver_clumps(
    rng: np.random.Generator,
    rate_hz: float,
    true_s: Floats,
    clump_s: tuple[float, float],
    *,
    split: bool = False,
) -> Delivery:
    """All since the last read at once; reads are uniformly ``clump_s`` apart.

    ``split``: the transport hands them out one by one, microseconds apart, and knows of no others.
    """
    count = int(true_s[-1] / clump_s[0]) + 2
    read_s = np.cumsum(rng.uniform(*clump_s, count))
    which = np.searchsorted(read_s, true_s)
    arrival_s = read_s[which] + 50e-6
    last = np.searchsorted(which, which, side="right") - 1
    behind = last - np.arange(len(true_s))
    if split:
        first = np.searchsorted(which, which)
        arrival_s += 5e-6 * (np.arange(len(true_s)) - first)
        behind[:] = 0
    return _delivery(rate_hz, true_s, arrival_s, behind)


def _delivery(rate_hz: float, true_s: Floats, arrival_s: Floats, behind: Ints) -> Delivery:
    return Delivery(
        rate_hz=rate_hz,
        index=np.arange(len(true_s), dtype=np.int64),
        arrival_ns=EPOCH_NS + np.rint(arrival_s * 1e9).astype(np.int64),
        behind=behind.astype(np.int64),
        true_s=true_s,
    )


def error_ms(delivery: Delivery, clock: Clock | None = None) -> Floats:
    """Read-out minus truth at each sample, told once it was observed. NaN before the lock."""
    clock = clock or Clock(delivery.rate_hz)
    told_ns = clock.observe_trace(delivery.index, delivery.arrival_ns, delivery.behind)
    nominal_ns = (delivery.index - delivery.index[0]) * (1e9 / delivery.rate_hz)
    first_ns = float(delivery.arrival_ns[0] - EPOCH_NS)
    return np.asarray((told_ns + nominal_ns + first_ns - delivery.true_s * 1e9) * 1e-6)


def settled_s(delivery: Delivery, error: Floats, after_s: float, within_ms: float = 1.0) -> float:
    """How long after ``after_s`` the error has come within ``within_ms`` for good."""
    late = (delivery.true_s >= after_s) & ~(np.abs(error) <= within_ms)
    return float(delivery.true_s[late].max(initial=after_s) - after_s)
