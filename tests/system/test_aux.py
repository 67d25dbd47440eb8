"""What the board says beside its signal is on the ``aux`` port, and a replay says it again."""

import asyncio
import time

import msgpack
import numpy as np
from live import EegClient
from running import until_frame, whole
from served import WAIT_S

from phantomd.devices.emulator import CytonEmulator
from phantomd.records.replay import Replay, read

N = 250


def test_accelerometer_readings_are_published_with_their_samples_times(run, daemon_at, tmp_path):
    uv = np.random.default_rng(1).normal(0, 20, (N, 8))
    accel = np.zeros((N, 3))
    accel[::10] = (1.0, -0.5, 0.25)
    journal = tmp_path / "run.pdj"
    live = []

    async def go():
        with CytonEmulator(uv, accel, at_end="loop") as board:
            async with daemon_at(f'devices=["cyton:{board.path}", "simulator:"]') as daemon:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", daemon.ports.streams["aux"].port
                )
                unpacker = msgpack.Unpacker()
                eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
                await until_frame(eeg, whole)
                opened_s = (time.monotonic_ns() - board.t0_ns) * 1e-9
                await daemon.journal_start(str(journal))
                async with asyncio.timeout(WAIT_S):
                    while len(live) < 12:
                        unpacker.feed(await reader.read(65536))
                        live.extend(each for each in unpacker if each["type"] == "data")
                await daemon.journal_stop()
                writer.close()
                first_s = (live[-1]["data"]["t_ns"][0] - board.t0_ns) * 1e-9
                # The clock counts on from the first packet; those before the opening are lost.
                lost_s = first_s - live[-1]["data"]["first_index"] / 250
                assert -0.05 < lost_s < 0.05 + opened_s

    run(go())
    for message in live:
        data = message["data"]
        assert data["device_id"] == "cyton-0", "the simulator has nothing to say"
        assert data["first_index"] % 25 == 0
        assert list(data["values"]) == ["accel_x_g", "accel_y_g", "accel_z_g"]
        assert message["t_ns"] == data["t_ns"][-1]
    times = np.array(live[-1]["data"]["t_ns"])
    assert np.abs(np.diff(times) - 4_000_000).max() < 100_000
    assert live[-1]["data"]["values"]["accel_y_g"] == [-0.5] * 25
    again = []

    def publish(stream, t_ns, data, late=False):
        if stream == "aux":
            again.append(data)

    Replay(read(journal), lambda data, n: None, lambda event: None, publish=publish).run()
    by_index = {message["data"]["first_index"]: message["data"] for message in live}
    both = [data for data in again if data["first_index"] in by_index]
    assert len(both) >= 5
    assert all(data == by_index[data["first_index"]] for data in both)
