"""The simulator: ``simulator:?seed=1&channels=8&rate_hz=250``, a device like any other.

Its samples come by the clock, from C (csrc/pd_sim.h). What it sent is known: ``truth`` and
``events`` make the same signal again, from the seed and from the faults that were asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import DeviceSpec
from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.ring import Ring
from phantomd.core.sim import COUNT_UV, FOREVER, PARTS, RAIL_UV, SimDriver, SimTruth
from phantomd.devices.base import Address
from phantomd.devices.simulator_options import SimConfig, config_of, fault_of
from phantomd.errors import UnsupportedFault

if TYPE_CHECKING:
    from phantomd.core.sim import Record

#: The native ring holds at least this much, or what it can within RING_MOST frames.
RING_S = 60.0
RING_MOST = 1 << 17
SKIP_SAMPLES = 65_536
#: Faults that are remembered, other than those asked for: days of chaos are not kept.
MOST_RECORDS = 4096


class SimEvent(msgspec.Struct, frozen=True):
    """Something that the simulator did, by its own sample index.

    ``cause``: "nature" (a blink, burst or pop of the signal's own), "scheduled" (in the address),
    "asked" (Device.fault) or "chaos". ``n`` is None for what lasts. ``value`` is in the unit of the
    fault's argument, µV for what is in the signal. ``did`` (lost, copied, delayed or affected
    samples) is None until it is over; ``refused``: too many were pending.
    """

    kind: str
    cause: str
    start: int
    n: int | None
    channels: tuple[str, ...]
    value: float
    did: int | None = None
    refused: bool = False


class Simulator:
    """An open simulator. See ``base.Device``."""

    def __init__(
        self,
        config: SimConfig,
        *,
        address: str = "simulator:",
        device_id: str = "simulator",
        start_ns: int | None = None,
    ) -> None:
        """``start_ns``: when sample 0 is taken; None: when the driver first advances."""
        n_channels = len(config.sites)
        ring = Ring(NATIVE_HEAD_WORDS + n_channels, _ring_slots(config.rate_hz))
        intake = Intake(ring, config.rate_hz, n_channels, config.modulus)
        self.config = config
        self._driver = SimDriver(intake, config, start_ns=start_ns)
        self._records: dict[int, Record] = {}
        self._again = _Again(config)
        self._spec = DeviceSpec(
            device_id=device_id,
            address=address,
            kind="simulator",
            rate_hz=config.rate_hz,
            labels=config.labels,
            counter_modulus=config.modulus,
            resolution=(COUNT_UV,) * n_channels if config.quantise else (),
            simulated=True,
            transport_us=config.delay_ms * 1000.0,
            info={
                "seed": config.seed,
                "ssvep_hz": [target.hz for target in config.targets],
                "range_uv": [-RAIL_UV, RAIL_UV],
            },
        )

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def fd(self) -> int:
        return -1

    def start(self) -> None:
        """Nothing to do: sample 0 is taken when the driver first advances."""

    def close(self) -> None:
        """Nothing to give back."""

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        """From the first sample taken after the driver last advanced. Raises UnsupportedFault."""
        self._drain()
        fault = fault_of(kind, duration_s, args, self.config)
        if not self._driver.ask(fault.kind, fault.n, fault.channels, fault.value):
            raise UnsupportedFault(
                "the simulator has not taken up the faults before this one",
                hint="is it streaming? ask again in a second",
            )

    @property
    def dropped(self) -> int:
        """Samples lost by the address's ``drop``; what faults lost is in ``faults()``."""
        return self._driver.dropped

    @property
    def duplicated(self) -> int:
        """Copies sent by the address's ``duplicate``."""
        return self._driver.duplicated

    # -- truth -------------------------------------------------------------------------------------

    def truth(self, first: int, n: int) -> dict[str, NDArray[np.float64]]:
        """Samples first … first + n − 1, each float64[n, channels] in µV.

        ``signal`` is what was sent. The other keys are its parts (``core.sim.PARTS``): their sum is
        the signal before the converter's rails and quantisation, flatline and saturation.
        LookupError when faults were asked for that the log could not hold.
        """
        signal, parts, _ = self._samples(first, n)
        return {"signal": signal, **dict(zip(PARTS, parts, strict=True))}

    def alpha(self, first: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Phase in radians [0, 2π) and peak in µV of the alpha source: float64[n] each.

        A channel's alpha is ``site.alpha · peak · cos(phase)``.
        """
        _, _, alpha = self._samples(first, n)
        return 2.0 * math.pi * alpha[0], alpha[1]

    def events(self, first: int, n: int) -> list[SimEvent]:
        """All that began within the samples first … first + n − 1, by their start."""
        self._ready(first + n)
        self._again.advance_to(first + n)
        mine = [r for r in self._again.records if r["cause"] == "nature"]
        found = [self._event(r) for r in mine + self._faults()]
        return sorted(
            (event for event in found if first <= event.start < first + n),
            key=lambda event: (event.start, event.kind),
        )

    def faults(self) -> list[SimEvent]:
        """Faults so far and to come, by their start, and what those that are over did."""
        self._drain()
        return [self._event(record) for record in self._faults()]

    def _samples(
        self, first: int, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        self._ready(first)
        self._again.advance_to(first)
        return self._again.samples(n)

    def _ready(self, first: int) -> None:
        """Makes the second generator fit to go on to ``first``."""
        self._drain()
        if self._driver.log_dropped:
            raise LookupError("the simulator's log overflowed: its truth is not known any more")
        asked = [
            record
            for record in self._records.values()
            if record["cause"] == "asked" and record["what"] != "refused"
        ]
        if self._again.next > first or self._again.behind(asked):
            self._again = _Again(self.config)
        self._again.asked = asked

    def _drain(self) -> None:
        """Keeps the newest record a fault; of chaos, which needs no memory, the last ones."""
        for record in self._driver.take_log():
            self._records[record["id"]] = record
        if len(self._records) > MOST_RECORDS:
            over = [key for key, record in self._records.items() if record["cause"] == "chaos"]
            for key in over[: len(self._records) - MOST_RECORDS]:
                del self._records[key]

    def _faults(self) -> list[Record]:
        return sorted(self._records.values(), key=lambda record: (record["start"], record["id"]))

    def _event(self, record: Record) -> SimEvent:
        labels = self.config.labels
        value = record["value"]
        return SimEvent(
            record["kind"],
            record["cause"],
            record["start"],
            None if record["n"] == FOREVER else record["n"],
            tuple(label for c, label in enumerate(labels) if record["channels"] >> c & 1),
            value / 1e6 if record["kind"] == "clump" else value,
            record["did"] if record["what"] == "done" else None,
            record["what"] == "refused",
        )


class _Again:
    """The signal, made a second time from its first sample on."""

    def __init__(self, config: SimConfig) -> None:
        self._truth = SimTruth(config)
        self._repeated = 0
        self.asked: list[Record] = []
        self.records: list[Record] = []

    @property
    def next(self) -> int:
        return self._truth.next

    def behind(self, asked: list[Record]) -> bool:
        """Whether one of these began before where we are, without us."""
        return any(record["start"] < self.next for record in asked[self._repeated :])

    def advance_to(self, index: int) -> None:
        while self.next < index:
            self._truth.skip(min(self._run(index), SKIP_SAMPLES))
            self.records += self._truth.take_log()

    def samples(
        self, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        end = self.next + n
        runs = [self._truth.samples(0)]
        while self.next < end:
            runs.append(self._truth.samples(min(self._run(end), SKIP_SAMPLES)))
            self.records += self._truth.take_log()
        signal, parts, alpha = zip(*runs, strict=True)
        return np.concatenate(signal), np.concatenate(parts, 1), np.concatenate(alpha, 1)

    def _run(self, end: int) -> int:
        """Samples until the next fault that was asked for; those that begin here are put in."""
        while self._repeated < len(self.asked):
            record = self.asked[self._repeated]
            if record["start"] > self.next:
                return min(end, record["start"]) - self.next
            self._truth.repeat(record)
            self._repeated += 1
        return end - self.next


def _ring_slots(rate_hz: float) -> int:
    slots = 1024
    while slots < min(RING_MOST, RING_S * rate_hz):
        slots *= 2
    return slots


def open_simulator(address: Address, labels: tuple[str, ...]) -> Simulator:
    """The registry's opener. Raises BadAddress."""
    return Simulator(config_of(address, labels), address=str(address))
