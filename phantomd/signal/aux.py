"""What a device says beside its signal (accelerometer, inputs), as messages on ``aux``.

Ten messages a second and device, each of the samples whose index lies in one tenth of a second: so
a replay cuts them at the same places. Lost samples, and readings that are too old, are nil.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from phantomd.core.analysis import read_signal
from phantomd.core.ring import Ring
from phantomd.engine.engine import Slot
from phantomd.engine.part import Publish

MESSAGES_HZ = 10.0
_NO_TIME = -(2**63)


@dataclass(slots=True)
class _Reader:
    """How far a slot's signal has been read; ``batch``: samples a message."""

    ring: Ring
    device_id: str
    names: tuple[str, ...]
    n_channels: int
    batch: int
    next: int


class AuxStage:
    """Part of the daemon. Samples that were overwritten before they were read are counted in
    ``lost``."""

    def __init__(self, slots: Callable[[], Iterable[Slot]], publish: Publish) -> None:
        self._slots = slots
        self._publish = publish
        self._readers: dict[int, _Reader] = {}
        self.lost = 0

    def layout_changed(self, slot: Slot) -> None:
        """The next ``on_tick`` looks at the slot anew."""

    def on_tick(self, now_ns: int) -> None:
        for slot in self._slots():
            reader = self._readers.get(slot.number)
            if reader is None or reader.ring is not slot.signal:
                reader = self._new_reader(slot)
            if reader is not None:
                self._drain(reader)

    def _new_reader(self, slot: Slot) -> _Reader | None:
        self._readers.pop(slot.number, None)
        spec = slot.spec
        if slot.signal is None or spec is None or not spec.aux:
            return None
        batch = max(1, round(spec.rate_hz / MESSAGES_HZ))
        first = -(-slot.signal.next // batch) * batch
        reader = _Reader(slot.signal, spec.device_id, spec.aux, len(spec.labels), batch, first)
        self._readers[slot.number] = reader
        return reader

    def _drain(self, reader: _Reader) -> None:
        oldest = -(-reader.ring.oldest // reader.batch) * reader.batch
        if reader.next < oldest:
            self.lost += oldest - reader.next
            reader.next = oldest
        while reader.next + reader.batch <= reader.ring.next:
            first, reader.next = reader.next, reader.next + reader.batch
            _, times, _, values = read_signal(reader.ring, first, reader.next)
            t_ns = [None if t == _NO_TIME else t for t in times.tolist()]
            aux = values[:, reader.n_channels : reader.n_channels + len(reader.names)]
            data = {
                "device_id": reader.device_id,
                "first_index": first,
                "t_ns": t_ns,
                "values": {
                    name: [None if math.isnan(value) else value for value in aux[:, k].tolist()]
                    for k, name in enumerate(reader.names)
                },
            }
            self._publish("aux", next((t for t in reversed(t_ns) if t is not None), None), data)
