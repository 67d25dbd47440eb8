"""A broadband array in a daemon: its bins are what a gauntlet session plays."""

from __future__ import annotations

import contextlib

from running import Running

from phantomd.client import connect
from phantomd.control import Control


def test_a_session_plays_the_spikes_of_an_open_array(tmp_path):
    with Running(tmp_path, "--device", "simulator:") as daemon:
        # SciPy is imported for it, in a process of its own: that takes long on a busy machine.
        with contextlib.closing(Control(daemon.control_path, timeout_s=60.0)) as control:
            control.call("device.open", address="broadband:?channels=8&seconds=1&spikes_hz=40")
        assert "live:broadband-0" in daemon.call("dataset.list")
        code = daemon.call("session.create", dataset="live:broadband-0")["session_code"]
        packets = []
        with connect("spikes", port=daemon.port("spikes")) as spikes:
            spikes.send({"attach": code})
            for message in spikes:
                if spikes.metadata["data"]["dataset"] == "live:broadband-0":
                    packets.append(message)
                if len(packets) == 20:
                    break
            metadata = spikes.metadata["data"]
        data = [packet["data"] for packet in packets if packet["type"] == "data"]
        assert metadata["num_channels"] == 8 and metadata["bin_size_ms"] == 25.0
        assert metadata["total_packets"] is None
        numbers = [one["sequence_number"] for one in data]
        assert numbers == list(range(numbers[0], numbers[0] + len(data)))
        counts = [sum(one["spikes"]["spike_counts"]) for one in data]
        # 40 a second and channel, of which the threshold finds most: 8 a bin.
        assert 20 < sum(counts) < 20 * 20
        (row,) = [d for d in daemon.call("status")["devices"] if d["kind"] == "broadband"]
        assert row["state"] == "streaming" and row["detail"]["spikes"]["bins"] >= 20
        daemon.call("device.close", device_id="broadband-0")
        assert "live:broadband-0" not in daemon.call("dataset.list")
