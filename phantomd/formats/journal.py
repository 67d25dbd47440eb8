"""Records of an intake journal, as csrc/pd_journal.h lays them out."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phantomd.core.intake import Intake
from phantomd.errors import JournalError

MAGIC = struct.pack("<Q", 0x314C4E524A445044)
VERSION = 1
_FILE = struct.Struct("<QII")
_RECORD = struct.Struct("<IHHq")
_SAMPLE = struct.Struct("<QqII")
_NO_TIME = -(2**63)
#: PD_JOURNAL_MAX_BODY
_MOST_BYTES = 1 << 20


class Kind(enum.IntEnum):
    """``enum pd_journal_kind``."""

    META = 1
    BYTES = 2
    SAMPLE = 3
    RESET = 4
    TICK = 5
    PLAN = 6
    CONTROL = 7
    INTAKE_STATE = 8
    DROPPED = 9
    END = 10
    DRIVER_STATE = 11
    SOURCE_STATE = 12
    ENGINE_STATE = 13
    PACKET = 14
    HISTORY = 15


#: What it is, of which slot, when, and its body.
Record = tuple[Kind, int, int, bytes]


def records(path: Path) -> Iterator[Record]:
    """All whole records of a file: one killed in the middle of a record ends before it.

    Raises JournalError for a file that is no journal, or damaged.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}", hint="name an intake journal") from error
    with file:
        head = file.read(_FILE.size)
        if len(head) < _FILE.size or not head.startswith(MAGIC):
            raise JournalError(
                f"{path} is no intake journal", hint="`phantomctl journal start` makes one"
            )
        version = _FILE.unpack(head)[1]
        if version != VERSION:
            raise JournalError(
                f"{path}: version {version}, this is {VERSION}",
                hint="replay it with its own phantomd",
            )
        while len(start := file.read(_RECORD.size)) == _RECORD.size:
            size, kind, slot, t_ns = _RECORD.unpack(start)
            if size > _MOST_BYTES or kind not in Kind.__members__.values():
                raise JournalError(f"{path}: a record of kind {kind}", hint="it is damaged")
            body = file.read(size)
            if len(body) < size:
                break
            yield Kind(kind), slot, t_ns, body


def take_sample(intake: Intake, kind: Kind, t_ns: int, body: bytes) -> None:
    """Hands a SAMPLE or PACKET to the intake as it came. Raises JournalError."""
    try:
        index, device_ns, behind, n_values = _SAMPLE.unpack_from(body)
        values = np.frombuffer(body, np.float64, n_values, _SAMPLE.size)
        take = intake.indexed if kind is Kind.SAMPLE else intake.counted
        take(index, t_ns, values, behind, None if device_ns == _NO_TIME else device_ns)
    except (struct.error, ValueError) as error:
        raise JournalError(f"a damaged sample: {error}", hint="the journal is damaged") from error
