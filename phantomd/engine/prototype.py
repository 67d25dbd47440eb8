"""The resampler's prototype: the filter between a device's native rate and the 128 Hz grid.

The prototype h is one function of continuous time, a sum of cosines over its length,

    h(t) = (1 + sum b_n cos(pi n t / D)) / 2D    for |t| <= D, n = 1..N

whose b are chosen so that passband and stopband errors are equally far below their limits (Lawson's
algorithm on the Chebyshev problem). D is a whole number of native samples and N is smaller than 2D
in samples, so h has exact zeros at every multiple of the native rate: that is what keeps a constant
free of ripple. The ends meet zero without a kink, so images fall off with the cube of frequency.
The minimum-phase choice has the same magnitude; its phase comes from the cepstrum of it.

What leaves here is a table for ``pd_resample.h``: h at ``phases`` places a native sample. Weights
are whole multiples of 2^-28, so each row sums to 1 exactly, in whatever order, and the last bits of
a machine's cos, exp and BLAS are rounded away (but for a weight that happens to lie on a boundary).
What a Prototype says about its response was measured from that table.

Sources: C. L. Lawson, thesis, UCLA 1961 (the weights); Oppenheim and Schafer, Discrete-Time Signal
Processing, ch. 13 (minimum phase from the cepstrum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from phantomd.errors import ConfigError, DeviceError

Array = npt.NDArray[np.float64]
Phase = Literal["linear", "minimum"]

LOWEST_RATE_HZ = 64.0
HIGHEST_RATE_HZ = 16000.0
MAX_TAPS = 1024  # PD_RESAMPLE_MAX_TAPS

# The limits are 0.1 dB and 60 dB; a design is accepted with this much to spare.
RIPPLE_DB = 0.08
ATTENUATION_DB = 62.0
_STOP_WEIGHT = (10 ** (RIPPLE_DB / 20) - 1) * 10 ** (ATTENUATION_DB / 20)

LINEAR_DELAY_S = 0.050
MINIMUM_DELAY_S = 0.020

# Linear interpolation between rows is wrong by (2 pi f / fine rate)^2 / 8 of a tone at f. This many
# rows a period of the stopband edge keeps that at 1e-6 there, and under 3e-7 in the passband.
_ROWS_A_PERIOD = 2 * math.pi / math.sqrt(8e-6)

_PASSBAND_STEP_HZ = 0.5
_QUANTUM = 2.0**-28
_COEFFICIENT_QUANTUM = 2.0**-20
_LAWSON_ROUNDS = 60
_CEPSTRUM_POINTS = 1 << 15
_CEPSTRUM_FLOOR = 1e-5  # zeros on the unit circle are filled up to -100 dB
_CEPSTRUM_STRIDE = 64  # fine steps a point: 2.9 to 5.8 kHz


@dataclass(frozen=True, slots=True, eq=False)
class Prototype:
    """A designed resampler. ``table`` is float64 [phases + 1, taps], read-only, for pd_resample.h.

    ``ripple_db`` is the largest deviation from 0 dB up to ``passband_hz``, ``attenuation_db`` the
    least loss from ``stopband_hz`` on, both measured from the table. Every native component and
    image that would fall into the passband on the grid lies above ``stopband_hz``.

    ``phase_error_deg`` and ``phase_error_ms`` are the largest deviations, from 0.5 Hz to
    ``passband_hz``, from an output that is exactly in time; 0 for linear phase.
    """

    rate_hz: float
    grid_hz: float
    phase: Phase
    taps: int
    phases: int
    table: Array
    ahead: int
    """Position p needs native samples up to floor(p) + ahead."""
    delay_s: float
    """The longest wait from the instant p to that sample: ahead / rate."""
    group_delay_s: float
    """What is left to take out of timestamps: 0, y(p) is an estimate of x at p."""
    passband_hz: float
    stopband_hz: float
    ripple_db: float
    attenuation_db: float
    phase_error_deg: float
    phase_error_ms: float

    def kernel(self) -> Array:
        """h at multiples of 1/phases native sample, from ahead - taps to ahead (both are 0).

        h(k - p) is the weight of sample k in y(p); the sum over a row is 1.
        """
        return _kernel(self.table)

    def h(self, up: int) -> Array:
        """The prototype at ``up`` times the native rate, odd length, centred, sum about 1.

        ``scipy.signal.resample_poly(x, up, down, window=h)`` multiplies it by ``up`` and then gives
        y(n down / up); it would cancel a common divisor, so have none. Raises ValueError for
        ``up`` < 1.
        """
        if up < 1:
            raise ValueError(f"up must be at least 1, not {up}")
        half = up * max(self.ahead, self.taps - self.ahead)
        # A filter's output looks back: its tap m weighs the sample that lies m/up before p.
        places = -np.arange(-half, half + 1) / up
        grid = np.arange(self.taps * self.phases + 1) / self.phases + (self.ahead - self.taps)
        return np.asarray(np.interp(places, grid, self.kernel(), left=0.0, right=0.0)) / up

    def response(self, frequency_hz: npt.ArrayLike) -> npt.NDArray[np.complex128]:
        """Complex gain from a native tone (or image, beyond half the rate) to the output.

        Its angle is what is left after ``y(p)`` is taken as x at p: 0 for linear phase.
        """
        frequency = np.atleast_1d(np.asarray(frequency_hz, dtype=np.float64))
        return _response(self.table, self.ahead, self.rate_hz, frequency)


@lru_cache(maxsize=32)
def design(
    rate_hz: float,
    phase: Phase = "linear",
    grid_hz: float = 128.0,
    passband_hz: float = 45.0,
    max_delay_s: float | None = None,
) -> Prototype:
    """The shortest prototype that holds the limits, for a device of this native rate.

    ``max_delay_s`` is 50 ms for linear phase and 20 ms for minimum phase (two native samples below
    100 Hz) unless given. Where the delay, the rate or MAX_TAPS are too small for ``passband_hz``,
    the passband is reduced in steps of 0.5 Hz, and the Prototype says what it reached.

    Raises DeviceError for a rate outside 64..16000 Hz, ConfigError for an unknown phase or for a
    delay or passband that no prototype has.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise DeviceError(
            f"a native rate of {rate_hz:g} Hz can't be resampled",
            hint=f"set the device to {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz",
        )
    if phase not in ("linear", "minimum"):
        raise ConfigError(f"no phase {phase!r}", hint='phase is "linear" or "minimum"')
    if not 0 < passband_hz < grid_hz / 2:
        raise ConfigError(
            f"a passband of {passband_hz:g} Hz does not fit a grid of {grid_hz:g} Hz",
            hint=f"choose more than 0 and less than {grid_hz / 2:g} Hz",
        )
    if max_delay_s is not None and not 0 < max_delay_s <= 1:
        raise ConfigError(
            f"a delay of {max_delay_s:g} s is no resampler's", hint="give seconds, 1 at most"
        )
    linear_delay_s = LINEAR_DELAY_S if max_delay_s is None or phase == "minimum" else max_delay_s
    shape = _shortest_shape(rate_hz, grid_hz, passband_hz, linear_delay_s)
    phases = _phases(rate_hz, shape.stopband_hz)
    if phase == "linear":
        ahead, taps = shape.half, 2 * shape.half
        kernel = shape.at(np.arange(taps * phases + 1) / phases - ahead)
    else:
        if max_delay_s is None:
            max_delay_s = max(MINIMUM_DELAY_S, 2 / rate_hz)
        kernel, ahead, taps = _minimum_phase(shape, phases, rate_hz, max_delay_s)
    return _measured(rate_hz, grid_hz, phase, shape, _table(kernel, phases, taps), ahead)


# -- the shape: a linear-phase prototype -----------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    half: int  # native samples on either side
    passband_hz: float
    stopband_hz: float
    b: Array  # b[0] = 1
    fits: bool

    def at(self, u: Array) -> Array:
        """Weights at u native samples from the middle."""
        angles = np.multiply.outer(np.pi / self.half * u, np.arange(self.b.size))
        inside = np.abs(u) < self.half
        return np.where(inside, np.cos(angles) @ self.b, 0.0) / (2 * self.half)


def _shortest_shape(
    rate_hz: float, grid_hz: float, passband_hz: float, max_delay_s: float
) -> _Shape:
    """The shortest shape with the whole passband, or the longest with what passband it has."""
    longest = min(math.floor(max_delay_s * rate_hz + 1e-9), (MAX_TAPS - 2) // 2)
    # Below this the passband and its own first image would touch.
    widest = min(passband_hz, min(rate_hz, grid_hz) / 2 - 1)
    if longest >= 1:
        shape = _fit(longest, rate_hz, grid_hz, widest)
        if shape.fits:
            return _bisect_length(shape, rate_hz, grid_hz)
        if (narrower := _bisect_passband(longest, rate_hz, grid_hz, widest)) is not None:
            return narrower
    raise ConfigError(
        f"a resampler from {rate_hz:g} Hz can't be as short as {1e3 * max_delay_s:g} ms",
        hint="allow more delay",
    )


def _bisect_length(shape: _Shape, rate_hz: float, grid_hz: float) -> _Shape:
    """Half-lengths are tried to half a millisecond: a sample more or less matters only when few."""
    step = max(1, round(0.0005 * rate_hz))
    too_short = shape.half // 2
    while shape.half - too_short > step:
        middle = _fit((shape.half + too_short + 1) // 2, rate_hz, grid_hz, shape.passband_hz)
        if middle.fits:
            shape = middle
        else:
            too_short = middle.half
    return shape


def _bisect_passband(half: int, rate_hz: float, grid_hz: float, widest: float) -> _Shape | None:
    best = None
    reached, failed = 0, math.ceil(widest / _PASSBAND_STEP_HZ)
    while failed - reached > 1:
        middle = (reached + failed) // 2
        shape = _fit(half, rate_hz, grid_hz, middle * _PASSBAND_STEP_HZ)
        if shape.fits:
            best, reached = shape, middle
        else:
            failed = middle
    return best


def _fit(half: int, rate_hz: float, grid_hz: float, passband_hz: float) -> _Shape:
    stopband_hz = min(rate_hz, grid_hz) - passband_hz
    lobe_hz = rate_hz / (2 * half)
    # Cosines past the stopband edge buy little; those at or above 2 half would spoil the zeros.
    terms = min(math.ceil(stopband_hz / lobe_hz) + 3, 2 * half - 1)
    n = np.arange(terms + 1)
    passed = np.linspace(0.0, passband_hz, 60) / lobe_hz
    near = stopband_hz / lobe_hz + np.linspace(0.0, 8.0, 120)
    stopped = np.concatenate((near, near[-1] + np.linspace(0.1, 22.0, 80)))

    def responses(lobes: Array) -> Array:
        """Column n: the response of cos(pi n t / D) / 2D at f = lobes / 2D."""
        return 0.5 * (np.sinc(np.subtract.outer(lobes, n)) + np.sinc(np.add.outer(lobes, n)))

    # b_0 = 1, and the last b makes h zero at its ends: b = fixed + free @ the rest.
    signs = (-1.0) ** n
    fixed = np.zeros(terms + 1)
    fixed[0], fixed[-1] = 1.0, -signs[-1]
    free = np.zeros((terms + 1, terms - 1))
    free[1:-1] = np.eye(terms - 1)
    free[-1] = -signs[-1] * signs[1:-1]

    errors = np.concatenate((responses(passed), _STOP_WEIGHT * responses(stopped)))
    limit = 10 ** (RIPPLE_DB / 20) - 1
    target = np.concatenate((np.ones(passed.size), np.zeros(stopped.size)))
    rest = _chebyshev(errors @ free, target - errors @ fixed, limit)
    b = fixed + free @ (np.round(rest / _COEFFICIENT_QUANTUM) * _COEFFICIENT_QUANTUM)
    worst = float(np.abs(errors @ b - target).max())
    return _Shape(half, passband_hz, stopband_hz, b, worst <= limit)


def _chebyshev(a: Array, target: Array, limit: float) -> Array:
    """x with the least max |a x - target|, nearly: Lawson's reweighted least squares.

    The weighted mean error is a lower bound of that maximum: it says when to stop, because the
    best is close or because no x keeps ``limit``.
    """
    weight = np.full(target.size, 1.0 / target.size)
    best, least = np.zeros(a.shape[1]), math.inf
    for _ in range(_LAWSON_ROUNDS):
        root = np.sqrt(weight)
        x = np.linalg.lstsq(a * root[:, None], target * root, rcond=None)[0]
        error = np.abs(a @ x - target)
        if error.max() < least:
            best, least = x, float(error.max())
        bound = math.sqrt(weight @ error**2)
        if bound > limit or least <= 1.02 * bound:
            break
        weight *= error
        weight /= weight.sum()
    return best


# -- minimum phase ---------------------------------------------------------------------------------


def _minimum_phase(
    shape: _Shape, phases: int, rate_hz: float, max_delay_s: float
) -> tuple[Array, int, int]:
    """Kernel, ahead and taps. The same magnitude, and a constant delay taken out of the position:
    the one that leaves the least phase error in the passband, as far as the allowed delay goes.
    """
    fine = 2 * shape.half * phases
    stride = _CEPSTRUM_STRIDE / phases  # native samples
    reach = math.floor(shape.half / stride)
    h = shape.at(stride * np.arange(-reach, reach + 1, dtype=np.float64)) * stride
    log_magnitude = np.log(np.maximum(np.abs(np.fft.rfft(h, _CEPSTRUM_POINTS)), _CEPSTRUM_FLOOR))
    cepstrum = np.fft.irfft(log_magnitude)
    cepstrum[1 : _CEPSTRUM_POINTS // 2] *= 2
    cepstrum[_CEPSTRUM_POINTS // 2 + 1 :] = 0
    spectrum = np.exp(np.fft.rfft(cepstrum))

    points = np.arange(_CEPSTRUM_POINTS // 2 + 1, dtype=np.float64)
    frequency = points * (rate_hz / stride / _CEPSTRUM_POINTS)
    band = (frequency >= 0.5) & (frequency <= shape.passband_hz)
    lag_s = _constant_delay(frequency[band], np.unwrap(np.angle(spectrum))[band])
    longest = math.floor(max_delay_s * rate_hz + 1e-9)
    if longest < 1:
        raise ConfigError(
            f"minimum phase from {rate_hz:g} Hz can't be as short as {1e3 * max_delay_s:g} ms",
            hint=f"allow at least one native sample, {1e3 / rate_hz:.3g} ms",
        )
    lag = min(round(lag_s * rate_hz * phases), longest * phases)
    ahead = -(-lag // phases)
    taps = ahead - (lag - fine) // phases

    # Reflecting zeros leaves the length as it was, so what is cut off here is rounding.
    length = math.ceil(fine / _CEPSTRUM_STRIDE) + 1
    coarse = np.fft.rfft(np.fft.irfft(spectrum)[:length], 4 * length)
    response = np.fft.irfft(coarse, 4 * length * _CEPSTRUM_STRIDE)[: fine + 1]
    kernel = np.zeros(taps * phases + 1)
    newest = lag + (taps - ahead) * phases  # place of the response's first point: u = lag
    kernel[newest - fine : newest + 1] = response[::-1]
    return kernel, ahead, taps


def _constant_delay(frequency_hz: Array, phase_rad: Array) -> float:
    """The tau with the least max |phase + 2 pi f tau|: convex, so a ternary search finds it."""
    low, high = 0.0, 0.2
    while high - low > 1e-9:
        third = (high - low) / 3
        left, right = (
            float(np.abs(phase_rad + 2 * np.pi * frequency_hz * tau).max())
            for tau in (low + third, high - third)
        )
        low, high = (low, high - third) if left < right else (low + third, high)
    return (low + high) / 2


# -- the table -------------------------------------------------------------------------------------


def _phases(rate_hz: float, stopband_hz: float) -> int:
    """A power of two, so that j / phases is exact and so is the fraction times phases."""
    return max(16, 1 << math.ceil(math.log2(_ROWS_A_PERIOD * stopband_hz / rate_hz)))


def _table(kernel: Array, phases: int, taps: int) -> Array:
    """Rows from the kernel, quantised so that each sums to 1 exactly."""
    kernel[0] = kernel[-1] = 0.0
    places = phases * np.arange(1, taps + 1) - np.arange(phases + 1)[:, None]
    rows = kernel[places]
    rows /= rows.sum(axis=1, keepdims=True)
    units = np.rint(rows / _QUANTUM).astype(np.int64)
    every = np.arange(phases + 1)
    units[every, units.argmax(axis=1)] += round(1 / _QUANTUM) - units.sum(axis=1)
    table = np.ascontiguousarray(units * _QUANTUM)
    table.setflags(write=False)
    return table


def _kernel(table: Array) -> Array:
    return np.concatenate(([0.0], table[:-1][::-1].T.ravel()))


def _response(
    table: Array, ahead: int, rate_hz: float, frequency_hz: Array
) -> npt.NDArray[np.complex128]:
    """The sum over the kernel, a row at a time, then over the rows."""
    phases, taps = table.shape[0] - 1, table.shape[1]
    turn = 2j * np.pi / rate_hz * frequency_hz[:, None]
    samples = np.exp(turn * (np.arange(taps) + ahead - taps + 1)) @ table[:-1].T
    return np.asarray((samples * np.exp(-turn * np.arange(phases) / phases)).mean(axis=1))


def _measured(
    rate_hz: float, grid_hz: float, phase: Phase, shape: _Shape, table: Array, ahead: int
) -> Prototype:
    """The record, its response measured from the table and not from what it was meant to be."""
    phases, taps = table.shape[0] - 1, table.shape[1]
    passed_hz = np.linspace(min(0.5, shape.passband_hz), shape.passband_hz, 91)
    passed = _response(table, ahead, rate_hz, passed_hz)
    edge = _response(table, ahead, rate_hz, np.array([shape.stopband_hz]))
    # Twenty points a lobe and up to half the fine rate: every image there is.
    points = 1 << math.ceil(math.log2(10 * phases * taps))
    stopped = np.abs(np.fft.rfft(_kernel(table), points)) / phases
    first = math.ceil(shape.stopband_hz / (rate_hz * phases) * points)
    angle = np.zeros(1) if phase == "linear" else np.unwrap(np.angle(passed))
    return Prototype(
        rate_hz=rate_hz,
        grid_hz=grid_hz,
        phase=phase,
        taps=taps,
        phases=phases,
        table=table,
        ahead=ahead,
        delay_s=ahead / rate_hz,
        group_delay_s=0.0,
        passband_hz=shape.passband_hz,
        stopband_hz=shape.stopband_hz,
        ripple_db=float(np.abs(20 * np.log10(np.abs(passed))).max()),
        attenuation_db=float(-20 * np.log10(max(stopped[first:].max(), np.abs(edge[0])))),
        phase_error_deg=float(np.degrees(np.abs(angle).max())),
        phase_error_ms=float(1e3 * np.abs(angle / (2 * np.pi * passed_hz)).max()),
    )
