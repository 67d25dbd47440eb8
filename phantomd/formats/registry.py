"""Which reader reads a file: by its first bytes, then by its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from phantomd.errors import RecordingError, UnknownRecording
from phantomd.formats.base import Recording


class Format(NamedTuple):
    """``reader`` in ``module``, which is imported when it is first needed."""

    name: str
    module: str
    reader: str
    magic: tuple[bytes, ...]
    extensions: tuple[str, ...]


FORMATS = (
    Format("XDF", "phantomd.formats.xdf", "read_xdf", (b"XDF:",), (".xdf",)),
    Format("BDF", "phantomd.formats.edf", "read_edf", (b"\xffBIOSEMI",), (".bdf",)),
    Format("EDF", "phantomd.formats.edf", "read_edf", (b"0       ",), (".edf", ".rec")),
    Format(
        "BrainVision",
        "phantomd.formats.brainvision",
        "read_brainvision",
        (b"Brain Vision Data Exch", b"BrainVision Data Exch", b"\xef\xbb\xbfBrain"),
        (".vhdr", ".vmrk", ".eeg"),
    ),
    Format(
        "OpenBCI",
        "phantomd.formats.table",
        "read_openbci_text",
        (b"%OpenBCI", b"%OBCI", b"% OpenBCI"),
        (),
    ),
    Format("CSV", "phantomd.formats.table", "read_csv", (), (".csv", ".tsv", ".txt")),
)
_MAGIC_BYTES = 64


def format_of(path: Path) -> Format:
    """Raises UnknownRecording and OSError."""
    with path.open("rb") as file:
        first = file.read(_MAGIC_BYTES)
    for each in FORMATS:
        if any(first.startswith(magic) for magic in each.magic):
            return each
    for each in FORMATS:
        if path.suffix.lower() in each.extensions:
            return each
    packed = path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz")
    names = ", ".join(each.name for each in FORMATS)
    raise UnknownRecording(
        f"{path} is no recording of a known kind",
        hint="unpack it first" if packed else f"what is read: {names}, and intake journals (.pdj)",
    )


def open_recording(path: Path, *, stream: str = "", truncated: bool = False) -> Recording:
    """Opens a file. ``stream``: which one of an XDF, by name, type or id. ``truncated``: take what
    is whole of a file that is cut short.

    Raises RecordingError (errors.py has its kinds) and OSError.
    """
    found = format_of(path)
    reader = cast(Callable[..., Recording], getattr(import_module(found.module), found.reader))
    if found.name == "XDF":
        return reader(path, stream=stream, truncated=truncated)
    if stream:
        raise RecordingError(
            f"{path} is {found.name}: it has one stream", hint="stream= is for XDF"
        )
    return reader(path, truncated=truncated)
