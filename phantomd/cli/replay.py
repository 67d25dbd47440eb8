"""``replay``: a recording or an intake journal through the whole engine, in virtual time."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command
from phantomd.contracts import JSON_STREAMS, PORTS, EegHeader, Flag
from phantomd.errors import PhantomError, UsageError

_FRAMES_AT_ONCE = 1024
#: Of a frame on 7069: index, t_ns, flags, age_us.
_HEAD = struct.Struct("<QqII")


def add(app: typer.Typer) -> None:
    command(app, "replay")(_replay)


def _replay(
    invocation: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, or a journal.")],
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Focus and trit of a recording, as they were live.")
    ] = False,
    speed: Annotated[
        str, typer.Option(metavar="N|max", help="How fast virtual time runs; 1: as it was.")
    ] = "max",
    stream: Annotated[
        list[str] | None,
        typer.Option("--stream", metavar="STREAM", help="Print this one, as lines of JSON."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each stream's bytes there.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="KEY=VALUE", help="start_s=10, channels=C3,C4, stream=EEG, …"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the configuration, as for phantomd."),
    ] = None,
) -> None:
    """Run a file through the engine without a daemon, and say what the ports would have said."""
    if oracle:
        if stream or out or option or setting or speed != "max":
            raise UsageError(
                "--oracle goes alone", hint="it takes samples, settings and times of the recording"
            )
        _again(invocation, file)
        return
    from phantomd.config import load
    from phantomd.records.rerun import rerun

    pace = _pace(speed)
    wanted = tuple(stream or ())
    for name in wanted:
        if name not in PORTS:
            raise UsageError(f"no stream {name!r}", hint=f"streams: {', '.join(PORTS)}")
    options = _pairs(option or ())
    config = load(None, tuple(setting or ()))
    with ExitStack() as files:
        told = _Told(wanted, out, files)
        ran = rerun(file, told, config, options, pace)
        told.flush()
    summary = {
        "file": ran.file,
        "format": ran.kind,
        "seconds": round(ran.seconds, 3),
        "spent_s": round(ran.spent_s, 3),
        "device": ran.device,
        "intake": ran.intake,
        **told.summary(),
    }
    if wanted:
        output.as_json({"type": "summary", **summary})
    elif invocation.as_json:
        output.as_json(summary)
    else:
        _print(summary, out)


def _again(invocation: Invocation, file: Path) -> None:
    """Focus and trit as lines of JSON, or as lines to read; then what was compared."""
    from phantomd.net.envelope import finite
    from phantomd.records.recompute import recompute

    def say(stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False) -> None:
        if stream not in ("focus", "trit"):
            return
        if invocation.as_json:
            output.as_json({"stream": stream, "t_ns": t_ns, "data": finite(data)})
            return
        value = data.get("trit") if stream == "trit" else data.get("focus")
        text = (
            data.get("reason", data["cell"])
            if value is None
            else f"{value:+d}"
            if (stream == "trit")
            else f"{value:.6f}"
        )
        print(f"{(t_ns or 0) * 1e-9:14.4f} s  {stream:5}  {text}")

    try:
        with output.pipe_may_close():
            ran = recompute(file, say, lambda _: None)
    except OSError as error:
        raise PhantomError(
            f"{error.filename or file}: {error.strerror}",
            hint="a recording is four files: .eeg, .vhdr, .vmrk and .clock",
        ) from error
    summary = {
        "file": ran.file,
        "seconds": round(ran.seconds, 3),
        "instants": ran.instants,
        "windows": ran.windows,
        "differing": ran.differing,
        "inexact": ran.inexact,
        "whole": ran.whole,
    }
    if invocation.as_json:
        output.as_json({"type": "summary", **summary})
    else:
        print(
            f"{output.printable(ran.file)}: {ran.seconds:.1f} s, {ran.instants} instants; of "
            f"{ran.windows} windows {ran.differing} were judged otherwise live"
        )
    if ran.differing:
        raise PhantomError(
            f"{ran.differing} windows were judged otherwise live",
            hint=f"it was recorded by {ran.head.daemon}: another build has other thresholds",
        )


class _Told:
    """Takes what the ports say: counts it, prints it, writes it."""

    def __init__(self, wanted: tuple[str, ...], out: Path | None, files: ExitStack) -> None:
        from phantomd.net.envelope import Envelope

        self._envelope = Envelope
        self._wanted = wanted
        self._out = out
        self._files = files
        self._open: dict[str, IO[bytes]] = {}
        self._seq: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._gaps = 0
        self._labels: tuple[str, ...] = ()
        self._frame_bytes = 0
        self._waiting: list[bytes] = []

    def opened(self, header: EegHeader) -> None:
        self._labels, self._frame_bytes = header.labels, header.frame_bytes
        self._write("eeg", header.encode())
        if "eeg" in self._wanted:
            data = {"channels": header.labels, "first_index": header.first_index, "unit": "uV"}
            line = self._envelope("eeg", header.epoch.hex(), json=True)
            sys.stdout.buffer.write(
                line.metadata(header.rate_hz, None, header.wall_offset_ns, data)
            )

    def frames(self, data: bytes, n: int) -> None:
        self._seq["eeg"] += n
        self._waiting.append(data)
        if len(self._waiting) >= _FRAMES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Frames come one by one; they are counted and written in bulk."""
        import numpy as np

        data = b"".join(self._waiting)
        self._waiting.clear()
        if not data:
            return
        self._write("eeg", data)
        rows = np.frombuffer(data, np.uint8).reshape(-1, self._frame_bytes)
        flags = np.ascontiguousarray(rows[:, 16:20]).view("<u4").ravel()
        for flag in Flag:
            self._flags[str(flag.name)] += int(np.count_nonzero(flags & int(flag)))
        if "eeg" in self._wanted:
            for row in rows:
                self._print_frame(row.tobytes())

    def _print_frame(self, frame: bytes) -> None:
        index, t_ns, flags, age_us = _HEAD.unpack_from(frame)
        values = [value[0] for value in struct.iter_unpack("<f", frame[_HEAD.size :])]
        envelope = self._envelope("eeg", "", json=True)
        data = {"flags": flags, "values": values}
        sys.stdout.buffer.write(envelope.data(index, t_ns, age_us, bool(flags & Flag.LATE), data))

    def say(
        self, stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False
    ) -> None:
        seq = self._seq[stream]
        self._seq[stream] += 1
        self._gaps += stream == "events" and data.get("kind") == "gap"
        if stream in self._wanted:
            self.flush()  # lines stand in the order of their making
            line = self._envelope(stream, "", json=True)
            sys.stdout.buffer.write(line.data(seq, t_ns, None, late, data))
        if self._out is not None:
            envelope = self._envelope(stream, "", json=stream in JSON_STREAMS)
            self._write(stream, envelope.data(seq, t_ns, None, late, data))

    def summary(self) -> dict[str, Any]:
        return {
            "streams": dict(sorted(self._seq.items())),
            "flags": {name: count for name, count in self._flags.items() if count},
            "gaps": self._gaps,
        }

    def _write(self, stream: str, data: bytes) -> None:
        if self._out is None:
            return
        try:
            if stream not in self._open:
                self._out.mkdir(parents=True, exist_ok=True)
                ending = "bin" if stream == "eeg" else "jsonl" if stream in JSON_STREAMS else "mp"
                file = (self._out / f"{stream}.{ending}").open("wb")
                self._open[stream] = self._files.enter_context(file)
            self._open[stream].write(data)
        except OSError as error:
            raise PhantomError(
                f"{self._out}: {error.strerror}", hint="--out names a folder to write to"
            ) from error


def _pace(speed: str) -> float:
    if speed == "max":
        return 0.0
    try:
        pace = float(speed)
    except ValueError:
        pace = -1.0
    if not 0 <= pace <= 1e6:
        raise UsageError(f"--speed {speed}", hint="a number (2: twice as fast), or max")
    return pace


def _pairs(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key in ("speed", "loop"):
            raise UsageError(f"-o {text}", hint="key=value; speed has an option of its own")
        pairs[key] = value
    return pairs


def _print(summary: dict[str, Any], out: Path | None) -> None:
    name = output.printable(summary["file"])
    device = summary["device"]
    channels = len(device.get("channels", ()))
    about = f", {channels} channels at {device['rate_hz']:g} Hz" if channels else ""
    print(f"{name}: {summary['format']}{about}")
    spent_s = max(summary["spent_s"], 1e-3)
    print(
        f"{summary['seconds']:.1f} s of virtual time in {spent_s:.2f} s "
        f"({summary['seconds'] / spent_s:.0f} times as fast)"
    )
    for note in device.get("warnings", ()):
        print(f"note: {output.printable(note)}")
    if summary["intake"]:
        print(f"samples: {summary['intake']['accepted']}, lost {summary['intake']['lost']}")
    flags = ", ".join(f"{count} {flag}" for flag, count in summary["flags"].items())
    for stream, count in summary["streams"].items():
        more = f" ({flags})" if stream == "eeg" and flags else ""
        print(f"{stream:>9}: {count}{more}")
    if out is not None:
        print(f"written to {output.printable(str(out))}")
