"""An hour of virtual time, simulator to the bytes of 7069. `make sim-hour` prints its duration."""

from __future__ import annotations

import time

import numpy as np

from phantomd.config import Config
from phantomd.contracts import GRID_HZ, GRID_NS, MONTAGE, Event, Flag
from phantomd.devices.base import Address
from phantomd.devices.simulator import Simulator
from phantomd.devices.simulator_options import config_of
from phantomd.engine.engine import Engine
from phantomd.engine.publish import Publisher

T0_NS = 10**12
SECONDS = 3600
WIRE = np.dtype(
    [("index", "u8"), ("t_ns", "i8"), ("flags", "u4"), ("age_us", "u4"), ("values", "f4", (8,))]
)


def test_virtual_time_gives_each_frame_once_and_on_time() -> None:
    engine = Engine(Config(), T0_NS, virtual=True)
    config = config_of(Address.parse("simulator:?seed=1"), MONTAGE)
    engine.attach(Simulator(config, start_ns=T0_NS))
    pieces: list[bytes] = []
    events: list[Event] = []
    publisher = Publisher(engine, events.append, frames=lambda data, _n: pieces.append(data))
    start = time.perf_counter()
    now_ns, end_ns = T0_NS, T0_NS + SECONDS * 10**9 + 10**9
    while now_ns < end_ns and (publisher.newest_ns or 0) < end_ns - 10**9 - GRID_NS:
        wake_ns = engine.step(now_ns)
        publisher.publish(now_ns)
        now_ns = wake_ns
    wall_s = time.perf_counter() - start
    print(
        f"\n{SECONDS} s of virtual time in {wall_s:.2f} s: {SECONDS / wall_s:.0f} times real time"
    )

    frames = np.frombuffer(b"".join(pieces), WIRE)
    assert len(frames) == SECONDS * GRID_HZ  # 460,800 in an hour
    assert (frames["index"] == np.arange(len(frames))).all()
    assert (frames["t_ns"] == T0_NS + np.arange(len(frames)) * GRID_NS).all()
    missing = (frames["flags"] & int(Flag.MISSING)) > 0
    assert not missing[2 * GRID_HZ :].any()
    assert not (frames["flags"] & int(Flag.LATE)).any()
    assert (frames["flags"] & int(Flag.SIMULATED)).all()
    assert np.isfinite(frames["values"][~missing]).all()
    assert not [event for event in events if event.kind in ("gap", "tick", "alert")]
    assert engine.core.beats_skipped == 0
