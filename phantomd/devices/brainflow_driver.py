"""The child of a BrainFlow board: see ``brainflow``. Written against BrainFlow 5.23."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import StreamKind
from phantomd.devices.brainflow import NUMBERS, OURS, PRESETS
from phantomd.devices.driver import (
    BadAddress,
    Block,
    DeviceBusy,
    DeviceError,
    DeviceMissing,
    Samples,
    Spec,
)

try:
    from brainflow.board_shim import BoardShim, BrainFlowInputParams
    from brainflow.exit_codes import BrainFlowError, BrainFlowExitCodes
    from brainflow.utils import LogLevels
except ImportError as error:
    raise DeviceError(
        f"BrainFlow is not installed: {error}", hint="pip install 'phantomd[devices]'"
    ) from error

#: Range of the packet counter, where it counts samples: one byte of the Cyton's radio packet, and
#: the synthetic board, which imitates it. Daisy counts twice a sample, Ganglion packs two.
MODULI = {-1: 256, 0: 256, 5: 256}
#: A poll is this part of a sample, but in these bounds; the longest where nothing comes.
POLL_SAMPLES = 0.5
POLL_S = (0.001, 0.004)
IDLE_POLL_S = 0.01
IDLE_AFTER_S = 0.2
#: An unplugged dongle's node is gone: looked at this often.
NODE_S = 0.05
#: BrainFlow stamps a sample before it puts it where we find it.
STAMP_SLACK_NS = 5_000_000
#: What its ring holds until it is asked: seconds.
BUFFER_S = 60.0
HANG_S = 5.0
SILENCE_S = 5.0

_SIGNALS = ("eeg", "emg", "ecg", "eog")
_STREAMS: dict[str, StreamKind] = {"eeg": "eeg", "emg": "emg", "eog": "eog"}
_AUX = {
    "accel": ("x_g", "y_g", "z_g"),
    "gyro": ("x", "y", "z"),
    "magnetometer": ("x", "y", "z"),
    "analog": (),
    "ppg": (),
    "eda": (),
    "temperature": (),
    "resistance": (),
}
_MOST_VALUES = 64


class Board:
    """A prepared session. ``options``: the address's, and ``board``."""

    def __init__(self, options: dict[str, str]) -> None:
        self._id = int(options.pop("board"))
        ours = {key: options.pop(key) for key in OURS if key in options}
        self._config = ours.get("config")
        self._silence_s = float(ours.get("silence_s", SILENCE_S))
        self._preset = PRESETS.index(ours.get("preset", "default"))
        params = BrainFlowInputParams()
        for key, value in options.items():
            setattr(params, key, int(value) if key in NUMBERS else value)
        self._node = _node(params.serial_port)
        self._master = self._id
        if self._id in (-2, -3):
            self._master = params.master_board
            if "master_board" not in options:
                raise BadAddress(
                    f"board {self._id} stands for another one",
                    hint="master_board= names the board that was recorded or is streamed",
                )
        BoardShim.set_log_level(LogLevels.LEVEL_WARN.value)
        self._board = BoardShim(self._id, params)
        self._gone = False
        self._rate_hz = 0.0
        self._modulus = 0

    def describe(self) -> Spec:
        try:
            descr = BoardShim.get_board_descr(self._master, self._preset)
            self._rate_hz = float(descr["sampling_rate"])
            self._board.prepare_session()
            if self._config:
                self._board.config_board(self._config)
        except BrainFlowError as error:
            raise _foreseen(error, self._node) from error
        except KeyError as error:
            raise BadAddress(
                f"board {self._master} has no {error}", hint="name another preset= or master_board="
            ) from error
        self._descr = descr
        signal = next((kind for kind in _SIGNALS if descr.get(f"{kind}_channels")), None)
        if signal is None:
            raise BadAddress(
                f"board {self._master} has no EEG in this preset", hint=f"preset={PRESETS[1]}?"
            )
        rows = list(descr[f"{signal}_channels"])
        aux_rows, aux = _aux(descr, _MOST_VALUES - len(rows))
        self._rows = np.array(rows + aux_rows)
        self._modulus = MODULI.get(self._master, 0) if "package_num_channel" in descr else 0
        return Spec(
            rate_hz=self._rate_hz,
            channels=_labels(descr, signal, len(rows)),
            aux=tuple(aux),
            counter_modulus=self._modulus,
            stream=_STREAMS.get(signal, "aux"),
            simulated=self._id == -1,
            hang_s=HANG_S,
            silence_s=self._silence_s,
            info={
                "board": self._id,
                "name": descr.get("name", ""),
                "brainflow": BoardShim.get_version(),
                "signal": signal,
            },
        )

    def blocks(self) -> Iterator[Samples]:
        poll_s = min(max(POLL_SAMPLES / self._rate_hz, POLL_S[0]), POLL_S[1])
        before_ns = time.monotonic_ns()
        self._board.start_stream(round(max(BUFFER_S * self._rate_hz, 1000)))
        heard_s = looked_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s - looked_s > NODE_S:
                looked_s = now_s
                self._look_for_node()
            if self._board.get_board_data_count(self._preset) == 0:
                yield None
                time.sleep(poll_s if now_s - heard_s < IDLE_AFTER_S else IDLE_POLL_S)
                continue
            data = self._board.get_board_data(preset=self._preset)
            now_ns, heard_s = time.monotonic_ns(), now_s
            yield self._block(data, before_ns, now_ns)
            before_ns = now_ns

    def close(self) -> None:
        """A port that is gone is not asked to stop: that may take forever."""
        if not self._gone:
            with contextlib.suppress(BrainFlowError):
                self._board.release_session()

    # -- inside ------------------------------------------------------------------------------------

    def _look_for_node(self) -> None:
        if self._node is not None and not self._node.exists():
            self._gone = True
            raise DeviceMissing(f"{self._node} went away", hint="plug the dongle in again")

    def _block(self, data: NDArray[np.float64], before_ns: int, now_ns: int) -> Block:
        """Its stamps are wall-clock time: believed between this poll and the last."""
        stamps = data[self._descr["timestamp_channel"]]
        wall_offset_ns = time.time_ns() - time.monotonic_ns()
        arrival = (stamps * 1e9).astype(np.int64) - wall_offset_ns
        believed = (arrival >= before_ns - STAMP_SLACK_NS) & (arrival <= now_ns)
        counters = data[self._descr["package_num_channel"]] if self._modulus else None
        return Block(
            np.ascontiguousarray(data[self._rows].T),
            device_ns=(stamps * 1e9).astype(np.int64),
            arrival_ns=arrival if believed.all() else None,
            counters=counters,
        )


def _node(port: str) -> Path | None:
    """The node itself: a link to it may stay when it goes."""
    path = Path(port)
    return path.resolve() if port.startswith("/") else None


def _labels(descr: dict[str, Any], signal: str, n: int) -> tuple[str, ...]:
    names = [name.strip() for name in descr.get("eeg_names", "").split(",") if name.strip()]
    if signal == "eeg" and len(names) == n:
        return tuple(names)
    return tuple(f"{signal.upper()}{number}" for number in range(1, n + 1))


def _aux(descr: dict[str, Any], most: int) -> tuple[list[int], list[str]]:
    rows: list[int] = []
    names: list[str] = []
    for kind, axes in _AUX.items():
        channels = descr.get(f"{kind}_channels", [])
        for number, row in enumerate(channels):
            part = axes[number] if number < len(axes) else str(number)
            rows.append(row)
            names.append(f"{kind}_{part}" if len(channels) > 1 else kind)
    if "battery_channel" in descr:
        rows.append(descr["battery_channel"])
        names.append("battery")
    return rows[:most], names[:most]


def _foreseen(error: BrainFlowError, node: Path | None) -> DeviceError:
    """BrainFlow's exit codes, in our tree."""
    codes = BrainFlowExitCodes
    text = f"BrainFlow: {error}"
    match error.exit_code:
        case codes.PORT_ALREADY_OPEN_ERROR.value:
            return DeviceBusy(text, hint=f"`fuser {node}` says who has it")
        case codes.UNABLE_TO_OPEN_PORT_ERROR.value:
            return DeviceMissing(text, hint="is it plugged in, and may this user open it?")
        case codes.UNSUPPORTED_BOARD_ERROR.value | codes.INVALID_ARGUMENTS_ERROR.value:
            return BadAddress(text, hint="see BrainFlow's list of boards for what this one needs")
        case _:
            return DeviceMissing(text, hint="is the board on, charged and in reach?")
