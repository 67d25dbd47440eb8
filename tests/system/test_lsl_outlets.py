"""The daemon's streams as outlets, read by liblsl itself and by MNE-LSL."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from live import FRAME, EegClient
from running import Events, Running
from served import WAIT_S

from phantomd.contracts import MONTAGE, Flag
from phantomd.errors import ConfigError

pylsl = pytest.importorskip("pylsl", reason="LSL is not installed")
outlets = pytest.importorskip("phantomd.lsl_outlets")
CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -2\n"


@pytest.fixture
def name(request):
    pylsl.util.set_config_content(CONFIG)
    return f"test-{os.getpid()}-{request.node.name[:30]}"


def inlet(name, within_s=WAIT_S):
    found = pylsl.resolve_byprop("name", name, 1, within_s)
    assert found, f"no stream {name}"
    inlet = pylsl.StreamInlet(found[0], recover=False)
    inlet.open_stream(WAIT_S)
    return inlet, inlet.info(WAIT_S)


def test_the_frames_of_7069_come_as_a_described_stream(run, daemon_at, name):
    def pull():
        stream, info = inlet(f"{name} eeg")
        rows, stamps = stream.pull_chunk(WAIT_S, 100, as_numpy=True)
        correction_s = stream.time_correction(WAIT_S)
        return info, rows, stamps + correction_s

    async def go():
        async with daemon_at(f'lsl.name="{name}"', 'lsl.publish=["eeg"]') as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            info, rows, stamps = await asyncio.to_thread(pull)
            await daemon.stop()
            await eeg.read_rest()
            return info, rows, stamps, np.frombuffer(eeg.frames, FRAME)

    info, rows, stamps, frames = run(go())
    assert info.type() == "EEG" and info.nominal_srate() == 128
    assert tuple(info.get_channel_labels()) == MONTAGE
    assert set(info.get_channel_units()) == {"microvolts"}
    assert info.desc().child_value("manufacturer") == "phantomd"
    assert info.source_id().endswith(f":{name}:eeg")
    at = np.searchsorted(frames["t_ns"], (stamps * 1e9).astype(np.int64) - 1_000_000)
    assert len(rows) == 100 and np.abs(frames["t_ns"][at] * 1e-9 - stamps).max() < 0.001
    missing = (frames["flags"][at] & Flag.MISSING) != 0
    np.testing.assert_array_equal(rows[~missing], frames["values"][at][~missing])
    assert np.isnan(rows[missing]).all()


def test_markers_and_features_come_as_strings_and_channels(run, daemon_at, name):
    def find():
        return inlet(f"{name} markers")[0], inlet(f"{name} features simulator-0")

    async def go():
        settings = (f'lsl.name="{name}"', 'lsl.publish=["markers", "features"]')
        async with daemon_at('devices=["simulator:"]', *settings) as daemon:
            markers, (features, info) = await asyncio.to_thread(find)
            put = daemon.put_marker("flash", None, {"target": 3})
            rows, stamps = await asyncio.to_thread(markers.pull_sample, WAIT_S)
            # The first windows have nothing to tell: the filters have not settled.
            async with asyncio.timeout(WAIT_S):
                values, _ = await asyncio.to_thread(features.pull_sample, WAIT_S)
                while not np.isfinite(values).any():
                    values, _ = await asyncio.to_thread(features.pull_sample, WAIT_S)
            return put, rows, stamps, info, values

    put, rows, stamp_s, info, values = run(go())
    assert rows == ['flash {"target":3}'] and abs(stamp_s - put["t_ns"] * 1e-9) < 0.001
    labels = info.get_channel_labels()
    assert len(values) == len(labels) and any("alpha" in label for label in labels)
    assert np.isfinite(values).any()


def test_what_is_no_number_is_json_and_what_is_none_is_nan():
    intent = {"kind": "SELECT", "value": 3, "confidence": 0.5, "reason": None}
    assert json.loads(outlets.text_of("intents", intent)) == intent
    assert outlets.text_of("markers", {"label": "go", "payload": None}) == "go"
    device, numbers = outlets.numbers_of(
        "features",
        {"device_id": "d", "features": {"alpha": 0.5, "gamma": None}, "artifacts": {"emg": 0.1}},
    )
    assert device == "d" and list(numbers) == ["alpha", "gamma", "artifact emg"]
    assert numbers["alpha"] == 0.5 and np.isnan(numbers["gamma"])
    assert np.isnan(outlets.numbers_of("focus", {"cell": "nothing"})[1]["focus"])


_MNE = """
import json, sys
from mne_lsl.stream import StreamLSL
stream = StreamLSL(bufsize=1.0, name=sys.argv[1])
stream.connect(acquisition_delay=0.05, timeout=20)
import time
until = time.monotonic() + 20
while stream.n_new_samples < 64 and time.monotonic() < until:
    time.sleep(0.01)
data, times = stream.get_data(winsize=0.5)
info = stream.info
print(json.dumps([
    info["sfreq"], info["ch_names"], stream.get_channel_types(), stream.get_channel_units(),
    list(data.shape), float(abs(data).max()), times.tolist(),
]))
stream.disconnect()
"""


def test_mne_lsl_reads_it(tmp_path, name):
    pytest.importorskip("mne_lsl", reason="MNE-LSL is not installed")
    config = tmp_path / "lsl_api.cfg"
    config.write_text(CONFIG)
    with Running(tmp_path, "--set", f"lsl.name={name}", "--set", 'lsl.publish=["eeg"]'):
        done = subprocess.run(
            [sys.executable, "-c", _MNE, f"{name} eeg"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LSLAPICFG": str(config)},
        )
    assert done.returncode == 0, done.stderr
    rate_hz, names, types, units, shape, largest, times = json.loads(done.stdout.splitlines()[-1])
    assert rate_hz == 128 and tuple(names) == MONTAGE and set(types) == {"eeg"}
    assert {tuple(unit) for unit in units} == {(107, -6)}, "volts (FIFF 107) times 1e-6"
    assert shape == [8, 64] and 0 < largest < 1e5
    np.testing.assert_allclose(np.diff(times), 1 / 128, atol=1e-6)


def test_a_process_that_dies_is_started_again_and_the_stream_is_the_same(run, daemon_at, name):
    def look():
        return inlet(f"{name} eeg")[1].source_id()

    async def go():
        async with daemon_at(f'lsl.name="{name}"', 'lsl.publish=["eeg"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            first = await asyncio.to_thread(look)
            pid = daemon.lsl.pid
            os.kill(pid, signal.SIGKILL)
            await events.until("alert", "LSL outlets ended (SIGKILL)")
            until_s = time.monotonic() + WAIT_S
            while daemon.lsl.pid in (None, pid):
                assert time.monotonic() < until_s
                await eeg.read(1)
            again = await asyncio.to_thread(look)
            child = os.pidfd_open(daemon.lsl.pid)
        os.close(child)
        return first, again

    first, again = run(go())
    assert first == again


def test_a_stream_that_is_not_served_is_a_configuration_error(run, daemon_at):
    async def go():
        with pytest.raises(ConfigError, match="serves no state") as raised:
            async with daemon_at('lsl.publish=["state"]'):
                pass
        assert "eeg" in raised.value.hint

    run(go())
