"""Broadband arrays: a raw recording, or a made-up one, played live through the spike kernel.

    broadband:FILE?channels=1024&rate_hz=30000&format=int16&scale_uv=0.195
    broadband:?seed=1&channels=96&seconds=4

A file is samples and nothing else, [sample][channel], little-endian. It is mapped, not read: what
is not in memory when it is its turn makes a bin late. A C thread of its own (``start``) filters,
finds spikes and writes one record for each bin into a ring; ``bins`` reads it. On a virtual clock
``advance`` does the same. It has no samples for the grid: in the daemon (``PlayedBroadband``) it
is what a gauntlet session plays as ``live:ID``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.contracts import DeviceSpec
from phantomd.core.broadband import HEAD_WORDS, LATE, BroadbandDriver, words
from phantomd.core.intake import Pump
from phantomd.core.ring import Ring
from phantomd.core.spike import SpikeDetector
from phantomd.devices.base import Address, no_faults
from phantomd.devices.broadband_filter import BandPass
from phantomd.devices.broadband_synthetic import EVENT, synthetic
from phantomd.errors import BadAddress

#: Below the intake's threads: a block of 1,024 channels takes a millisecond, a byte must not wait.
PRIORITY = 50
SLOTS = 64  # records: 1.6 s of 25 ms bins


class BroadbandOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of an address; ``seed``, ``seconds`` and ``spikes_hz`` make one up."""

    channels: int = 96
    rate_hz: float = 30_000.0
    format: Literal["int16", "float32"] = "int16"
    scale_uv: float = 0.195
    loop: bool = True
    bin_ms: float = 25.0
    low_hz: float = 300.0
    high_hz: float = 6000.0
    order: int = 2
    reference: Literal["none", "average", "median"] = "median"
    threshold: float = 4.5
    polarity: Literal["negative", "positive", "both"] = "negative"
    refractory_ms: float = 1.0
    seed: int = 1
    seconds: float = 4.0
    spikes_hz: float = 10.0


class Bin(NamedTuple):
    """What one bin gave. ``t_ns``: when its last sample was there (CLOCK_MONOTONIC).
    ``counts`` uint16 and ``flags`` uint8 (phantomd.core.spike) [channels]; LATE in ``late``."""

    bin_index: int
    t_ns: int
    counts: npt.NDArray[np.uint16]
    flags: npt.NDArray[np.uint8]
    late: bool


class BinReader:
    """Reads the device's ring from where it stands: as many readers as you like, on any thread.

    ``lost``: bins that were gone before they were read.
    """

    def __init__(self, ring: Ring, channels: int) -> None:
        self._ring = ring
        self._channels = channels
        self.next = ring.next
        self.lost = 0

    def read(self) -> list[Bin]:
        """All bins that are new, oldest first; never waits."""
        found = []
        while self.next < self._ring.next:
            oldest = self._ring.oldest
            if oldest > self.next:
                self.lost += oldest - self.next
                self.next = oldest
            try:
                record = self._ring.read(self.next)
            except LookupError:
                self.lost += 1
            else:
                found.append(self._bin(record))
            self.next += 1
        return found

    def _bin(self, record: npt.NDArray[np.uint64]) -> Bin:
        counts_end = HEAD_WORDS + -(-self._channels // 4)
        return Bin(
            bin_index=int(record[0]),
            t_ns=int(record[1].astype(np.int64)),
            counts=record[HEAD_WORDS:counts_end].view(np.uint16)[: self._channels],
            flags=record[counts_end:].view(np.uint8)[: self._channels],
            late=bool(int(record[2]) & LATE),
        )


class Broadband:
    """An open broadband device.

    ``truth``: the spikes that were put into a made-up recording (EVENT: index and channel), None
    for a file.
    """

    def __init__(
        self,
        samples: npt.NDArray[Any],
        options: BroadbandOptions,
        *,
        address: str = "broadband:",
        truth: npt.NDArray[np.void] | None = None,
        sos: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """``sos``: the band-pass where it has been designed already. Raises BadAddress for options
        that don't fit one another."""
        try:
            if sos is None:
                sos = band_pass(options).sos()
            detector = SpikeDetector(
                sos,
                options.channels,
                options.rate_hz,
                bin_ms=options.bin_ms,
                reference=options.reference,
                threshold=options.threshold,
                polarity=options.polarity,
                refractory_ms=options.refractory_ms,
                scale=options.scale_uv,
            )
            ring = Ring(words(options.channels), SLOTS)
            late_ns = round(options.bin_ms * 1e6)
            self.driver = BroadbandDriver(
                detector, samples, ring, loop=options.loop, late_ns=late_ns
            )
        except ValueError as error:
            raise BadAddress(
                f"{address} can't be played: {error}",
                hint="channels, rate_hz and format must be those of the file; "
                "0 < low_hz < high_hz < rate_hz / 2",
            ) from error
        self.truth = truth
        self.bins = BinReader(ring, options.channels)
        self.spec = DeviceSpec(
            device_id="broadband-0",
            address=address,
            kind="broadband",
            rate_hz=options.rate_hz,
            labels=tuple(f"ch{i}" for i in range(options.channels)),
            simulated=truth is not None,
            info={"bin_ms": options.bin_ms, "samples": len(samples), "loop": options.loop},
        )
        self._pump: Pump | None = None

    @classmethod
    def open(cls, address: str, *, aside: bool = False) -> Broadband:
        """``broadband:FILE?options`` or ``broadband:?options``. Blocks while it makes a recording.
        ``aside``: SciPy is not imported here. Raises BadAddress, DeviceError."""
        parsed = Address.parse(address)
        options = check(parsed)
        sos = band_pass(options).sos_aside() if aside else None
        if not parsed.where:
            try:
                samples, truth = synthetic(
                    options.channels,
                    options.rate_hz,
                    options.seconds,
                    seed=options.seed,
                    spikes_hz=options.spikes_hz,
                    scale_uv=options.scale_uv,
                )
            except ValueError as error:
                hint = "channels, rate_hz and seconds must be above 0"
                raise BadAddress(f"{address!r}: {error}", hint=hint) from error
            return cls(samples, options, address=address, truth=truth, sos=sos)
        return cls(_mapped(Path(parsed.where), options), options, address=address, sos=sos)

    @property
    def ring(self) -> Ring:
        return self.driver.ring

    def start(self, *, priority: int = PRIORITY, cpu: int = -1) -> None:
        """Plays from now on, in a C thread; priority 0: an ordinary one. Raises OSError."""
        if self._pump is None:
            self._pump = Pump(self.driver, priority=priority, cpu=cpu)

    def advance(self, now_ns: int) -> int:
        """On a virtual clock: takes all bins that are there by now_ns; the first call is the start.
        Returns when the next one will be."""
        while (next_ns := self.driver.advance(now_ns)) <= now_ns:
            pass
        return next_ns

    def close(self) -> None:
        """Stops the thread; bins that are in the ring may still be read."""
        if self._pump is not None:
            self._pump.stop()
            self._pump = None

    def counters(self) -> dict[str, int]:
        """``bins`` written, ``late`` ones among them, ``spikes`` in them."""
        driver = self.driver
        return {"bins": driver.bins, "late": driver.late, "spikes": driver.spikes}


class PlayedBroadband:
    """As a device of the daemon, whose supervisor's pump plays it. See ``base.MakesSpikes``."""

    fd = -1

    def __init__(self, broadband: Broadband) -> None:
        self._broadband = broadband
        self.spec = broadband.spec
        self.driver = broadband.driver
        self.ring = broadband.ring
        self.bin_ms = float(broadband.spec.info["bin_ms"])

    def start(self) -> None:
        """Nothing to do: bin 0 begins when the pump does."""

    def close(self) -> None:
        """Nothing to give back: who still plays it keeps its ring."""

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self.spec)

    def counters(self) -> dict[str, int]:
        return self._broadband.counters()


def band_pass(options: BroadbandOptions) -> BandPass:
    return BandPass(options.order, options.low_hz, options.high_hz, options.rate_hz)


def check(address: Address, labels: tuple[str, ...] = ()) -> BroadbandOptions:
    """Raises BadAddress."""
    if address.kind != "broadband":
        raise BadAddress(
            f"{str(address)!r} is no broadband device", hint="broadband:FILE?channels=…"
        )
    try:
        return msgspec.convert(address.options, BroadbandOptions, strict=False)
    except msgspec.ValidationError as error:
        raise BadAddress(
            f"{str(address)!r}: {error}",
            hint=f"the options are {', '.join(BroadbandOptions.__struct_fields__)}",
        ) from error


def open_live(address: Address, labels: tuple[str, ...]) -> PlayedBroadband:
    """Raises BadAddress, DeviceError."""
    return PlayedBroadband(Broadband.open(str(address), aside=True))


def _mapped(path: Path, options: BroadbandOptions) -> npt.NDArray[Any]:
    dtype = np.dtype("<i2" if options.format == "int16" else "<f4")
    try:
        size = path.stat().st_size
        row = dtype.itemsize * options.channels
        if size == 0 or options.channels < 1 or size % row:
            raise BadAddress(
                f"{path} has {size} bytes: no whole number of samples of {options.channels} "
                f"{options.format} channels",
                hint="give the file's channels and format",
            )
        return np.memmap(path, dtype, "r", shape=(size // row, options.channels))
    except OSError as error:
        raise BadAddress(
            f"{path} can't be read: {error.strerror}", hint="name a raw file"
        ) from error


__all__ = ["EVENT", "Bin", "BinReader", "Broadband", "BroadbandOptions", "PlayedBroadband"]
