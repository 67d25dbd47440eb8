"""The child of an LSL stream: see ``lsl``. Written against liblsl 1.18.

liblsl's own post-processing is left alone: its dejitter goes astray after a loss. Stamps are taken
raw, brought to this host's clock by ``time_correction``, and handed to our clock as arrivals. An
outlet that goes is looked for from here, so that the same device is there again at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import StreamKind
from phantomd.devices.driver import Block, DeviceError, DeviceMissing, Marker, Samples, Spec
from phantomd.devices.lsl import OURS, SIGNALS
from phantomd.devices.stamped import Run, StampedIndex

try:
    import pylsl
    from pylsl.util import LostError, set_config_content
except (ImportError, RuntimeError) as error:
    raise DeviceError(
        f"LSL is not installed: {error}", hint="pip install 'phantomd[devices]'"
    ) from error

#: Looking for the stream, for more than one of them (liblsl asks known peers after half a second),
#: and for its description.
RESOLVE_S = 2.0
WAIT_S = 10.0
SECOND_S = 0.8
INFO_S = 3.0
#: A pull waits so long for a sample; a lost outlet is looked for so long at a time.
PULL_S = 0.1
AGAIN_S = 1.0
ANOTHER_S = 0.2
HANG_S = 5.0
CORRECTION_EVERY_S = 1.0
BUFFER_S = 10
#: Stamps further from now than this are of no clock that we know.
FAR_NS = 10_000_000_000
MOST_AT_ONCE = 4096
#: µV a unit; liblsl knows names, and powers of ten of a volt.
UNITS = {
    "microvolts": 1.0,
    "microvolt": 1.0,
    "uv": 1.0,
    "µv": 1.0,
    "-6": 1.0,
    "millivolts": 1e3,
    "millivolt": 1e3,
    "mv": 1e3,
    "-3": 1e3,
    "volts": 1e6,
    "volt": 1e6,
    "v": 1e6,
    "nanovolts": 1e-3,
    "nv": 1e-3,
    "-9": 1e-3,
}


def configure(scope: str) -> None:
    """Unless the daemon's environment names a configuration of liblsl, this is it."""
    if "LSLAPICFG" not in os.environ:
        set_config_content(
            f"[multicast]\nResolveScope = {scope}\n"
            "[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -1\n"
        )


class Stream:
    """An inlet. ``options``: property, value, and the address's."""

    def __init__(self, options: dict[str, str]) -> None:
        configure(options.get("scope", "machine"))
        self._property, self._value = options["property"], options["value"]
        self._signal = options.get("as")
        self._waits = "wait" in options
        self._offset_ns = _clock_offset_ns()
        self._inlet: Any = None
        self._correction_s = 0.0
        self._corrected_s = 0.0
        self._strange = False

    def describe(self) -> Spec:
        found = self._find(RESOLVE_S)
        while self._waits and not found:
            time.sleep(ANOTHER_S)  # one of our own is always found at once
            found = self._find(WAIT_S)
        if not found:
            raise DeviceMissing(
                f"no LSL stream has {self._property}={self._value}",
                hint="`phantomctl device scan` lists this machine's; scope=link looks further",
            )
        if self._property != "source_id":
            found += [one for one in self._find(SECOND_S, 2) if one.uid() != found[0].uid()]
        if len(found) > 1:
            names = ", ".join(f"{one.name()} (source_id={one.source_id()})" for one in found)
            raise DeviceError(
                f"{len(found)} LSL streams have {self._property}={self._value}: {names}",
                hint="name one by its name or its source_id",
            )
        info = self._connect(found[0])
        self._identity = _identity(info)
        source_id = info.source_id()
        self._sign = ("source_id", source_id) if source_id else ("name", info.name())
        self._rate_hz = info.nominal_srate()
        self._is_text = info.channel_format() == pylsl.cf_string
        kind = info.type().lower()
        signal = self._signal or (kind if kind in SIGNALS else "eeg")
        about = {
            "name": info.name(),
            "type": info.type(),
            "source_id": info.source_id(),
            "hostname": info.hostname(),
            "liblsl": pylsl.library_version(),
            "warnings": [],
        }
        if self._rate_hz == 0 or self._is_text:
            return Spec(rate_hz=0, channels=(), info=about, hang_s=HANG_S, silence_s=None)
        labels, self._scale, about["warnings"] = _channels(info, signal)
        return Spec(
            rate_hz=self._rate_hz,
            channels=labels,
            stream=cast(StreamKind, signal),
            info=about,
            hang_s=HANG_S,
            silence_s=None,
        )

    def blocks(self) -> Iterator[Samples]:
        numbers = StampedIndex(self._rate_hz or 1.0)
        again = False
        while True:
            try:
                rows, stamps = self._inlet.pull_chunk(
                    timeout=PULL_S, max_samples=MOST_AT_ONCE, min_samples=1, as_numpy=True
                )
                self._correct()
            except LostError:
                yield from self._come_back()
                numbers.forget()
                again = True
                continue
            now_ns = time.monotonic_ns()
            arrival_ns = self._to_host(stamps, now_ns)
            if self._rate_hz == 0 or self._is_text:
                yield from self._markers(rows, arrival_ns)
                yield None
                continue
            yield None
            raw_ns = (stamps * 1e9).astype(np.int64)
            for run in numbers.take(
                rows * self._scale if len(rows) else _NOTHING, arrival_ns, now_ns
            ):
                yield self._block(run, raw_ns, arrival_ns, now_ns, again)
                again = False

    def close(self) -> None:
        if self._inlet is not None:
            self._inlet.close_stream()

    # -- inside ------------------------------------------------------------------------------------

    def _find(self, within_s: float, at_least: int = 1) -> list[Any]:
        """Our own outlets are found only by name: a daemon must not listen to itself."""
        found = pylsl.resolve_byprop(self._property, self._value, at_least, within_s)
        if self._property == "type":
            found = [one for one in found if not one.source_id().startswith(OURS)]
        return list(found)

    def _connect(self, found: Any) -> Any:
        """The stream's whole description; samples are kept for us from here on."""
        self._inlet = pylsl.StreamInlet(
            found, BUFFER_S, recover=False, processing_flags=pylsl.proc_none
        )
        try:
            info = self._inlet.info(INFO_S)
            self._inlet.open_stream(INFO_S)
            self._correction_s = self._inlet.time_correction(INFO_S)
        except (LostError, pylsl.util.TimeoutError) as error:
            raise DeviceMissing(
                f"the LSL stream {found.name()} does not answer: {error!r}",
                hint="does a firewall keep its ports?",
            ) from error
        self._corrected_s = time.monotonic()
        return info

    def _correct(self) -> None:
        now_s = time.monotonic()
        if now_s - self._corrected_s > CORRECTION_EVERY_S:
            self._corrected_s = now_s
            # At once, but for the very first: liblsl measures it in the background.
            self._correction_s = self._inlet.time_correction(PULL_S)

    def _come_back(self) -> Iterator[None]:
        """Until the same stream is there again."""
        print("the outlet is gone; looking for it")
        self._inlet = None
        while True:
            yield None
            found = pylsl.resolve_byprop(*self._sign, 1, AGAIN_S)
            for one in found:
                # It may be gone again before it has answered.
                with contextlib.suppress(DeviceMissing):
                    if _identity(one) == self._identity:
                        self._connect(one)
                        print("the outlet is back")
                        return
            if found:
                time.sleep(ANOTHER_S)  # another one of that name is always found at once

    def _to_host(self, stamps: NDArray[np.float64], now_ns: int) -> NDArray[np.int64]:
        """CLOCK_MONOTONIC; now, for stamps that can't be of a clock that liblsl knows."""
        host_ns = ((stamps + self._correction_s) * 1e9).astype(np.int64) - self._offset_ns
        if len(host_ns) and abs(int(host_ns[-1]) - now_ns) > FAR_NS:
            if not self._strange:
                print("its stamps are of no known clock: arrival times are used")
                self._strange = True
            return np.full(len(stamps), now_ns)
        return np.minimum(host_ns, now_ns)

    def _block(
        self,
        run: Run,
        raw_ns: NDArray[np.int64],
        arrival_ns: NDArray[np.int64],
        now_ns: int,
        again: bool,
    ) -> Block:
        shift_ns = int(raw_ns[-1] - arrival_ns[-1]) if len(raw_ns) else 0
        return Block(
            run.rows,
            device_ns=run.stamps_ns + shift_ns,
            arrival_ns=run.stamps_ns,
            lost=run.lost,
            restart=run.restart or again,
        )

    def _markers(self, rows: Any, arrival_ns: NDArray[np.int64]) -> Iterator[Marker]:
        for row, t_ns in zip(rows, arrival_ns.tolist(), strict=True):
            if self._is_text:
                texts = [value.decode(errors="replace") for value in row]
                yield Marker(texts[0], t_ns, {"values": texts[1:]} if len(texts) > 1 else None)
            else:
                values = [float(value) for value in row]
                yield Marker(" ".join(f"{value:g}" for value in values), t_ns, {"values": values})


_NOTHING = np.empty((0, 1))


def _clock_offset_ns() -> int:
    """liblsl's clock minus ours, the least disturbed of some looks; on Linux they are one clock."""
    looks = []
    for _ in range(16):
        before_ns = time.monotonic_ns()
        theirs_ns = round(pylsl.local_clock() * 1e9)
        after_ns = time.monotonic_ns()
        looks.append((after_ns - before_ns, theirs_ns - (before_ns + after_ns) // 2))
    return int(min(looks)[1])


def _identity(info: Any) -> tuple[Any, ...]:
    """What an outlet that restarts has again."""
    return (
        info.source_id(),
        info.name(),
        info.type(),
        info.channel_count(),
        info.nominal_srate(),
        info.channel_format(),
        None if info.source_id() else info.hostname(),
    )


def _channels(info: Any, signal: str) -> tuple[tuple[str, ...], NDArray[np.float64], list[str]]:
    """Labels, factors to µV, and what is not known."""
    n = info.channel_count()
    warnings = []
    labels = [label or "" for label in info.get_channel_labels() or [""] * n]
    labels = [label.strip() or f"{signal.upper()}{k}" for k, label in enumerate(labels, 1)]
    units = [str(unit or "").strip().lower() for unit in info.get_channel_units() or [""] * n]
    strange = sorted({unit or "none" for unit in units if unit not in UNITS})
    if strange and signal not in ("eye", "aux"):
        warnings.append(f"units that are not known are taken for µV: {', '.join(strange)}")
    return tuple(labels), np.array([UNITS.get(unit, 1.0) for unit in units]), warnings


def main() -> None:
    """What can be seen on this machine, as JSON."""
    configure("machine")
    rows = [
        {
            "name": one.name(),
            "type": one.type(),
            "source_id": one.source_id(),
            "hostname": one.hostname(),
            "channels": one.channel_count(),
            "rate_hz": one.nominal_srate(),
        }
        for one in pylsl.resolve_streams(float(sys.argv[1]))
    ]
    print(json.dumps(rows), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
