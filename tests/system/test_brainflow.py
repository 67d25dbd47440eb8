"""BrainFlow itself, as it is installed: its synthetic, playback, streaming and Cyton boards."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from live import EegClient
from patience import Pace
from running import ROOT, Events, until_frame, whole

from benches.brainflow_cyton import measure
from phantomd.contracts import MONTAGE, EegHeader, Flag
from phantomd.core.intake import NATIVE_HEAD_WORDS, Pump
from phantomd.devices.base import Address
from phantomd.devices.brainflow import NUMBERS, TEXTS, board_of
from phantomd.devices.emulator import CytonEmulator
from phantomd.devices.registry import check, check_configured, node_of, opener
from phantomd.errors import BadAddress, ConfigError, DeviceMissing

board_shim = pytest.importorskip("brainflow.board_shim", reason="BrainFlow is not installed")
WAIT_S = 20.0
SYNTHETIC = board_shim.BoardShim.get_board_descr(-1)


def test_the_options_are_the_parameters_of_brainflow():
    assert {*TEXTS, *NUMBERS} == set(vars(board_shim.BrainFlowInputParams()))
    for name in NUMBERS:
        assert isinstance(getattr(board_shim.BrainFlowInputParams(), name), int)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("brainflow:", "BoardIds"),
        ("brainflow:cyton", "BoardIds"),
        ("brainflow:0?serial_prt=/dev/x", "serial_port"),
        ("brainflow:0?ip_port=abc", "ip_port=1"),
        ("brainflow:0?preset=all", "default"),
        ("brainflow:0?silence_s=-1", "seconds"),
    ],
)
def test_an_address_that_no_board_can_take_is_refused_with_a_hint(text, hint):
    with pytest.raises(BadAddress) as raised:
        check(text, MONTAGE)
    assert hint in raised.value.hint


def test_two_boards_of_one_kind_are_two_devices_by_their_options():
    check_configured(["brainflow:0?serial_port=/dev/a", "brainflow:0?serial_port=/dev/b"], MONTAGE)
    with pytest.raises(ConfigError, match="same device"):
        check_configured(["brainflow:0?serial_port=/dev/a"] * 2, MONTAGE)
    address = Address.parse("brainflow:0?serial_port=/dev/a")
    assert board_of(address, MONTAGE) == 0 and str(node_of(address)) == "/dev/a"
    assert node_of(Address.parse("brainflow:-1")) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("brainflow:9999", BadAddress),
        ("brainflow:-3", BadAddress),
        ("brainflow:0?serial_port=/dev/no-such-port", DeviceMissing),
    ],
)
def test_a_board_that_can_not_be_opened_says_why(text, kind):
    address = Address.parse(text)
    with pytest.raises(kind) as raised:
        opener(address)(address, MONTAGE)
    assert type(raised.value) is kind and raised.value.hint


class Taken:
    """A board that streams until the block ends: its samples, by name."""

    def __init__(self, text):
        address = Address.parse(text)
        self.device = opener(address)(address, MONTAGE)
        self.notify_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.pump = Pump(self.device.driver, self.device.fd, notify_fd=self.notify_fd, priority=0)
        self.device.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pump.stop()
        self.device.close()
        os.close(self.notify_fd)

    def values(self, n):
        intake, until_s = self.device.driver.intake, time.monotonic() + WAIT_S
        while intake.next < n:
            assert self.pump.end_error == 0, self.device.why_ended(self.pump.end_error)
            assert time.monotonic() < until_s
            time.sleep(0.002)
        rows = np.array([intake.ring.read(index) for index in range(n)])
        values = rows[:, NATIVE_HEAD_WORDS:].view(np.float64)
        names = (*self.device.spec.labels, *self.device.spec.aux)
        return dict(zip(names, values.T, strict=True)), rows[:, 0].astype(np.int64)


def test_the_synthetic_board_streams_on_7069(run, daemon_at):
    async def go():
        async with daemon_at('devices=["brainflow:-1"]') as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            await events.until("device", state="streaming")
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            header = EegHeader.decode(eeg.header)
            assert list(header.labels) == SYNTHETIC["eeg_names"].split(",")
            info = daemon.supervisor.infos()[0]
            assert info.rate_hz == 250 and info.lost_samples == 0
            assert info.detail["board"] == -1 and "accel_x_g" in info.detail["aux"]
            frame = await until_frame(eeg, whole)
            assert frame["flags"] & Flag.SIMULATED
            assert len(frame["values"]) == 16 and np.isfinite(frame["values"]).all()
            # Its process is killed, and another goes on in the same native ring.
            intake = daemon.engine.slots[0].device.driver.intake
            os.kill(info.detail["child"]["pid"], signal.SIGKILL)
            await events.until("device", "back after")
            await until_frame(eeg, lambda f: whole(f) and f["flags"] & Flag.DISCONTINUITY)
            assert daemon.engine.slots[0].device.driver.intake is intake
            assert intake.counters()["resets"] == 2
            assert daemon.supervisor.infos()[0].lost_samples == intake.counters()["lost"] > 0

    run(go())


def recording(path, n=500):
    """A BrainFlow file of the synthetic board; its EEG says which row it is."""
    data = np.zeros((n, SYNTHETIC["num_rows"]))
    data[:, SYNTHETIC["package_num_channel"]] = np.arange(n) % 256
    eeg = np.array(SYNTHETIC["eeg_channels"])
    data[:, eeg] = np.arange(n)[:, None] + 1000.0 * np.arange(len(eeg))
    data[:, SYNTHETIC["accel_channels"]] = (0.25, 0.5, 0.75)
    data[:, SYNTHETIC["timestamp_channel"]] = 1.7e9 + np.arange(n) / 250
    np.savetxt(path, data, fmt="%.6f", delimiter="\t")


def test_a_playback_gives_the_recorded_samples(tmp_path):
    recording(tmp_path / "run.csv")
    address = f"brainflow:-3?file={tmp_path}/run.csv&master_board=-1"
    with Taken(address) as taken:
        values, arrival_ns = taken.values(200)
    np.testing.assert_array_equal(values["Fz"], values["Fz"][0] + np.arange(200))
    np.testing.assert_array_equal(values["F8"], values["Fz"] + 15_000)
    assert (values["accel_z_g"] == 0.75).all()
    # At the pace of the recording, by stamps that are the host's own.
    rate_hz = 199e9 / (arrival_ns[-1] - arrival_ns[0])
    assert rate_hz == pytest.approx(250, rel=0.05)
    assert taken.device.driver.intake.counters()["lost"] == 0


_STREAM = f"""
import json, sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import importlib.util
spec = importlib.util.spec_from_file_location("test_brainflow", {str(__file__)!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
BoardShim, Params = tests.board_shim.BoardShim, tests.board_shim.BrainFlowInputParams
BoardShim.disable_board_logger()
board = BoardShim(-1, Params())
board.prepare_session()
board.add_streamer("streaming_board://225.1.1.1:6677")
board.start_stream(4500)
with tests.Taken("brainflow:-2?ip_address=225.1.1.1&ip_port=6677&master_board=-1") as taken:
    values, _ = taken.values(100)
    counters = taken.device.driver.intake.counters()
board.release_session()
print(json.dumps([taken.device.spec.labels, counters["lost"], values["Fz"].tolist()]))
"""


def test_a_streaming_board_gives_what_another_brainflow_streams():
    """In a network of its own: BrainFlow's multicast goes out by the default route."""
    alone = ["unshare", "--user", "--map-root-user", "--net", "--", "sh", "-c"]
    network = "ip link set lo up multicast on && ip route add 225.0.0.0/8 dev lo"
    if not shutil.which("unshare") or subprocess.run([*alone, network], stderr=-3).returncode:
        pytest.skip("no network namespaces here (unshare, ip)")
    done = subprocess.run(
        [*alone, f'{network} && exec "$0" -c "$1"', sys.executable, _STREAM],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    labels, lost, fz = json.loads(done.stdout.splitlines()[-1])
    assert labels == SYNTHETIC["eeg_names"].split(",") and lost == 0
    assert np.ptp(fz) > 0


def test_an_unplugged_dongle_is_noticed_within_250_ms_and_leaves_no_process():
    with CytonEmulator(np.zeros((250, 8)), at_end="loop") as board:
        with Taken(f"brainflow:0?serial_port={board.path}") as taken:
            taken.values(20)
            child = os.pidfd_open(taken.device.pid)
            with Pace() as pace:
                begun_s = time.monotonic()
                board.stop()
                assert select.select([taken.notify_fd], [], [], WAIT_S)[0]
                noticed_s = time.monotonic() - begun_s
            assert "went away" in taken.device.why_ended(taken.pump.end_error)
        assert select.select([child], [], [], 0)[0], "BrainFlow goes on burning a core"
        os.close(child)
    assert noticed_s < pace.stretch(0.25)


def test_one_recording_comes_the_same_through_our_driver_and_through_brainflow():
    ours, theirs = (measure(driver, "drop=0.02", 2.0) for driver in ("phantomd", "BrainFlow"))
    for result in (ours, theirs):
        assert result.could < 500, "nothing was dropped: the test shows less"
        assert result.had == result.could and result.wrong == 0
    assert ours.cpu_ms_per_s < theirs.cpu_ms_per_s
