"""Small recordings, written byte by byte as the formats' specifications have it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

EEGLIKE = ("Fp1", "Fp2", "Cz")


def signal(n: int, n_channels: int = 3, seed: int = 1) -> np.ndarray:
    """int16[n, n_channels]."""
    return np.random.default_rng(seed).integers(-2000, 2000, (n, n_channels)).astype(np.int16)


# -- EDF -------------------------------------------------------------------------------------------


def _column(values: list[object], width: int) -> bytes:
    return b"".join(str(value).encode("latin-1").ljust(width)[:width] for value in values)


def edf(
    digits: np.ndarray,
    *,
    spr: int = 10,
    record_s: float = 0.1,
    onsets: list[float] | None = None,
    texts: dict[int, list[tuple[float, float, str]]] | None = None,
    bits: int = 16,
    announced: int | None = None,
    labels: tuple[str, ...] = EEGLIKE,
    unit: str = "uV",
) -> bytes:
    """``digits`` int[n·spr, channels]. ``onsets``: EDF+D, when each record begins; ``texts``:
    annotations by record, (onset, duration, text)."""
    n_records, n = len(digits) // spr, digits.shape[1]
    plus = onsets is not None or texts is not None
    names = [*labels[:n], "EDF Annotations"] if plus else list(labels[:n])
    top = (1 << bits - 1) - 1
    note_samples = 40
    many = len(names)
    kind = "EDF+D" if onsets is not None else "EDF+C" if plus else ""
    version = b"\xffBIOSEMI" if bits == 24 else b"0       "
    head = version + b"X X X X".ljust(80) + b"Startdate X X X X".ljust(80)
    head += b"02.03.2412.13.14" + str(256 * (1 + many)).encode().ljust(8) + kind.encode().ljust(44)
    head += str(n_records if announced is None else announced).encode().ljust(8)
    head += f"{record_s:g}".encode().ljust(8) + str(many).encode().ljust(4)
    is_note = [name == "EDF Annotations" for name in names]
    head += _column(list(names), 16) + _column([""] * many, 80)
    head += _column(["" if note else unit for note in is_note], 8)
    head += _column([-1 if note else -1000 for note in is_note], 8)
    head += _column([1 if note else 1000 for note in is_note], 8)
    head += _column([-top - 1] * many, 8) + _column([top] * many, 8) + _column([""] * many, 80)
    head += _column([note_samples if note else spr for note in is_note], 8) + _column(
        [""] * many, 32
    )
    body = b""
    for k in range(n_records):
        block = digits[k * spr : (k + 1) * spr]
        for channel in range(n):
            if bits == 16:
                body += block[:, channel].astype("<i2").tobytes()
            else:
                body += b"".join(
                    int(value).to_bytes(3, "little", signed=True) for value in block[:, channel]
                )
        if plus:
            onset = onsets[k] if onsets is not None else k * record_s
            tals = f"+{onset:g}\x14\x14\0".encode()
            for begin, length, text in (texts or {}).get(k, []):
                tals += f"+{begin:g}\x15{length:g}\x14{text}\x14\0".encode()
            body += tals.ljust(note_samples * bits // 8, b"\0")
    return head + body


# -- BrainVision -----------------------------------------------------------------------------------


def brainvision(
    folder: Path,
    values: np.ndarray,
    *,
    binary: str = "INT_16",
    vectorized: bool = False,
    channels: tuple[str, ...] = ("Fp1,,0.5,µV", "Fp2,,0.1,mV", "Cz,,1e-6,V"),
    encoding: str = "utf-8",
    marks: tuple[str, ...] = ("New Segment,,1,1,0,20240302121314000000", "Stimulus,S  1,11,1,0"),
    rate_hz: float = 250.0,
    more: str = "",
) -> Path:
    """Writes the three files; ``values``: as they stand in the data file, [n, channels]."""
    dtype = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}[binary]
    data = values.astype(dtype)
    (folder / "made.eeg").write_bytes((data.T if vectorized else data).tobytes())
    infos = "\n".join(f"Ch{k + 1}={each}" for k, each in enumerate(channels))
    (folder / "made.vhdr").write_bytes(
        (
            "Brain Vision Data Exchange Header File Version 1.0\n; a comment\n[Common Infos]\n"
            "Codepage=UTF-8\nDataFile=made.eeg\nMarkerFile=made.vmrk\nDataFormat=BINARY\n"
            f"DataOrientation={'VECTORIZED' if vectorized else 'MULTIPLEXED'}\n"
            f"NumberOfChannels={values.shape[1]}\nSamplingInterval={1e6 / rate_hz:g}\n{more}\n"
            f"[Binary Infos]\nBinaryFormat={binary}\n[Channel Infos]\n{infos}\n[Comment]\nx=y\n"
        ).encode(encoding)
    )
    lines = "\n".join(f"Mk{k + 1}={each}" for k, each in enumerate(marks))
    (folder / "made.vmrk").write_bytes(
        (
            "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\n"
            f"DataFile=made.eeg\n[Marker Infos]\n{lines}\n"
        ).encode(encoding)
    )
    return folder / "made.vhdr"


# -- XDF -------------------------------------------------------------------------------------------


def _chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", 2 + len(content), tag) + content


def _info(name: str, kind: str, n: int, rate_hz: float, form: str, unit: str = "") -> bytes:
    one = f"<channel><label>E{{}}</label><unit>{unit}</unit><type>EEG</type></channel>"
    desc = "".join(one.format(k) for k in range(n)) if unit else ""
    return (
        f'<?xml version="1.0"?><info><name>{name}</name><type>{kind}</type>'
        f"<channel_count>{n}</channel_count><nominal_srate>{rate_hz:g}</nominal_srate>"
        f"<channel_format>{form}</channel_format><source_id>id-{name}</source_id>"
        f"<desc><channels>{desc}</channels></desc></info>"
    ).encode()


def xdf(
    values: np.ndarray,
    stamps: np.ndarray,
    *,
    rate_hz: float = 100.0,
    events: list[tuple[float, str]] = (),
    offset_s: float = 0.0,
    unit: str = "microvolts",
    per_chunk: int = 32,
) -> bytes:
    """A float32 stream "Amp" of type EEG (id 1), a second regular one "Other" (id 2), and a string
    stream "Cues" (id 3). ``offset_s``: the clock offset of the first."""
    out = b"XDF:" + _chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>')
    n = values.shape[1]
    streams = (
        (1, _info("Amp", "EEG", n, rate_hz, "float32", unit)),
        (2, _info("Other", "Gaze", 2, 64, "int16")),
        (3, _info("Cues", "Markers", 1, 0, "string")),
    )
    for number, info in streams:
        out += _chunk(2, struct.pack("<I", number) + info)
    for at in (0.0, 5.0, 10.0):
        time_s = float(stamps[0]) + at if len(stamps) else at
        out += _chunk(4, struct.pack("<Idd", 1, time_s, offset_s))
    for begin in range(0, len(stamps), per_chunk):
        rows = list(zip(stamps[begin:][:per_chunk], values[begin:][:per_chunk], strict=True))
        body = struct.pack("<IBI", 1, 4, len(rows))
        for stamp, row in rows:
            body += struct.pack("<Bd", 8, stamp) + np.asarray(row, "<f4").tobytes()
        out += _chunk(3, body)
    gaze = b"".join(struct.pack("<Bd2h", 8, 1000 + k / 64, k, -k) for k in range(10))
    out += _chunk(3, struct.pack("<IBB", 2, 1, 10) + gaze)
    for stamp, text in events:
        words = text.encode()
        out += _chunk(3, struct.pack("<IBBBdBB", 3, 1, 1, 8, stamp, 1, len(words)) + words)
    return out


# -- text ------------------------------------------------------------------------------------------


def csv(values: np.ndarray, *, rate_hz: float = 256.0, skip: int = 0, first_s: float = 10.0) -> str:
    """Two channels and a Marker column; ``skip`` rows are left out in the middle."""
    lines = ["timestamps,TP9,AF7,Marker"]
    for k, row in enumerate(values):
        if skip and len(values) // 2 <= k < len(values) // 2 + skip:
            continue
        mark = 7 if k in (20, 21) else 0
        lines.append(f"{first_s + k / rate_hz:.6f},{row[0]},{row[1]},{mark}")
    return "\n".join(lines) + "\n"


def openbci(values: np.ndarray, lost: tuple[int, ...] = ()) -> str:
    """The old layout, eight channels; rows of ``lost`` are left out."""
    lines = ["%OpenBCI Raw EEG Data", "%Sample Rate = 250.0 Hz"]
    for k, row in enumerate(values):
        if k not in lost:
            numbers = ", ".join(f"{value:.2f}" for value in row)
            lines.append(f"{k % 256}, {numbers}, 0.00, 0.50, 1.00")
    return "\n".join(lines) + "\n"
