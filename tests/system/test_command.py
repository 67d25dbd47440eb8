"""``phantomd`` as a process: how it refuses to start, how it ends, how fast it is there."""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from patience import Pace
from running import NOBODY, Running, Subscriber, fails_to_start
from served import WAIT_S

from phantomd.contracts import Flag
from phantomd.records.replay import read as read_journal

# -- bad configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[grid]\nhold = 20\n", ["{file}", "'grid.hold'", "did you mean 'grid.hold_ms'"]),
        ("[grid]\nhold_ms = 'long'\n", ["{file}", "grid.hold_ms", "takes a number, at least 0"]),
        ("devices = ['cytn:/dev/ttyUSB0']\n", ["'cytn'", "did you mean cyton"]),
        ("devices = [\n", ["{file}", "the file must be TOML"]),
    ],
    ids=["unknown key", "wrong type", "unknown kind", "no TOML"],
)
def test_a_bad_file_ends_the_start_with_78_and_says_where(tmp_path, text, said):
    path = tmp_path / "phantomd.toml"
    path.write_text(text)
    status, told = fails_to_start("--config", str(path))
    assert status == 78
    assert "hint: " in told and "Traceback" not in told
    for part in said:
        assert part.replace("{file}", str(path)) in told


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("cyton", "names its port"),
        ("simulator:?seeed=1", "did you mean seed?"),
        ("simulator:?seed=x", "seed is a whole number"),
        ("Cyton:/dev/ttyUSB0", "for example cyton:/dev/ttyUSB0"),
    ],
)
@pytest.mark.parametrize("check", [(), ("--check",)], ids=["start", "check"])
def test_an_address_that_no_driver_takes_ends_the_start_with_78(tmp_path, address, said, check):
    status, told = fails_to_start("--device", address, "--state", str(tmp_path), *check)
    assert status == 78
    assert said in told and "hint: " in told


def test_a_port_in_use_ends_the_start_with_1_and_how_to_find_who_has_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = fails_to_start(
            "--set",
            f"streams.base_port={port - 1}",
            "--state",
            str(tmp_path),
            "--control",
            str(tmp_path / "control.sock"),
        )
    assert status == 1
    assert f"port {port} (eeg) is in use" in told and f"ss -ltnp 'sport = :{port}'" in told
    assert not (tmp_path / "control.sock").exists()


# -- life ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_within_a_second_with_nothing_lost(tmp_path, number, record_property):
    journal = tmp_path / "run.pdj"
    with Running(tmp_path, "--device", "simulator:?seed=4") as daemon:
        subscribers = [Subscriber(daemon.port("eeg")) for _ in range(2)]
        daemon.call("journal.start", path=str(journal))
        for subscriber in subscribers:
            subscriber.read(64)
        before_ns = time.monotonic_ns()
        with Pace() as pace:
            status, took_s = daemon.end(number)
        assert status == 0, daemon.log
        for subscriber in subscribers:
            subscriber.read_rest()
            subscriber.assert_contiguous()
    record_property("seconds", took_s)
    print(f"ended in {took_s:.3f} s")
    assert took_s < pace.stretch(1.0)
    ends = [subscriber.frames[-1] for subscriber in subscribers]
    assert ends[0]["index"] == ends[1]["index"]
    # The last frame is of the instant of the signal, but for the resampler's delay and hold.
    assert ends[0]["t_ns"] > before_ns - pace.stretch(0.1) * 1e9
    assert read_journal(journal).complete


def test_it_ends_within_a_second_while_a_silent_port_is_being_opened(tmp_path):
    master, slave = os.openpty()
    try:
        with Running(tmp_path, "--device", f"cyton:{os.ttyname(slave)}") as daemon:
            subscriber = Subscriber(daemon.port("eeg"))
            assert daemon.call("status")["devices"][0]["state"] == "opening"
            with Pace() as pace:
                status, took_s = daemon.end()
            subscriber.read_rest()
            subscriber.assert_contiguous()
        assert (status, took_s < pace.stretch(1.0)) == (0, True), f"{status} after {took_s:.3f} s"
    finally:
        os.close(master)
        os.close(slave)


def test_it_ends_within_a_second_beside_clients_that_do_not_read(tmp_path):
    with Running(tmp_path) as daemon:
        subscribers = [Subscriber(daemon.port("eeg")) for _ in range(20)]
        reader = Subscriber(daemon.port("eeg"))
        reader.read(64)
        with Pace() as pace:
            status, took_s = daemon.end()
        reader.read_rest()
        reader.assert_contiguous()
        assert (status, took_s < pace.stretch(1.0)) == (0, True), f"{status} after {took_s:.3f} s"
        del subscribers


def test_the_first_frame_comes_soon_after_the_start(tmp_path, record_property):
    with Pace() as pace, Running(tmp_path, "--device", "simulator:?seed=1") as daemon:
        subscriber = Subscriber(daemon.port("eeg"))
        subscriber.read(1)
        frame_s = time.monotonic() - daemon.started_s
        while subscriber.read(1)["flags"][0] & Flag.MISSING:
            pass
        data_s = time.monotonic() - daemon.started_s
    record_property("first_frame_s", frame_s)
    record_property("first_data_s", data_s)
    print(f"first frame {frame_s:.2f} s after the start, the first with data {data_s:.2f} s")
    # The issue asks for 2 s, measured idle by the benches; a slower machine has twice that.
    assert frame_s < pace.stretch(4.0)


def test_a_hangup_reads_the_file_again_and_a_bad_file_changes_nothing(tmp_path):
    path = tmp_path / "phantomd.toml"
    path.write_text("")
    with Running(tmp_path, "--config", str(path)) as daemon:
        subscriber = Subscriber(daemon.port("eeg"))
        for text, hold_ms, said in (
            ("[grid]\nhold_ms = 60.0\n", 60.0, "configuration read again"),
            ("[grid]\nhold = 1\n", 60.0, "the old configuration stays"),
        ):
            path.write_text(text)
            daemon.process.send_signal(signal.SIGHUP)
            until_s = time.monotonic() + WAIT_S
            while said not in daemon.log:
                assert time.monotonic() < until_s, daemon.log
                subscriber.read(1)
            assert daemon.call("config.show")["grid.hold_ms"] == hold_ms
        subscriber.read(32)
        subscriber.assert_contiguous()


# -- privileges ------------------------------------------------------------------------------------


def test_refused_priority_is_degraded_and_it_streams(tmp_path):
    with Running(tmp_path, unprivileged=True) as daemon:
        subscriber = Subscriber(daemon.port("eeg"))
        while subscriber.read(1)["flags"][0] & Flag.MISSING:
            pass
        subscriber.read(64)
        subscriber.assert_contiguous()
        degraded = daemon.call("status")["degraded"]
        assert daemon.end()[0] == 0
    ticks = [line for line in degraded if line.startswith("tick-priority: ")]
    assert len(ticks) == 1
    assert "SCHED_FIFO 70" in ticks[0] and "LimitRTPRIO" in ticks[0]
    assert any(line.startswith("intake-priority: ") for line in degraded)
    for name in ("frames-priority: ", "spikes-priority: "):
        assert any(line.startswith(name) and "LimitRTPRIO" in line for line in degraded)


def test_a_state_directory_that_can_not_be_written_is_degraded_and_it_streams(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with Running(tmp_path, "--state", str(tmp_path / "file")) as daemon:
        Subscriber(daemon.port("eeg")).read(8)
        status = daemon.call("status")
    assert status["panic"] is True, "a latch that can't be read is set"
    assert any(line.startswith("state: ") and "--state" in line for line in status["degraded"])


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="must be root to become another user")
def test_a_port_without_permission_is_named_with_the_remedy_and_it_streams(tmp_path):
    master, slave = os.openpty()
    try:
        path = Path(os.ttyname(slave))
        path.chmod(0o600)
        assert path.stat().st_uid != NOBODY
        with Running(tmp_path, "--device", f"cyton:{path}", unprivileged=True) as daemon:
            subscriber = Subscriber(daemon.port("eeg"))
            device = daemon.call("status")["devices"][0]
            while "error" not in device["detail"]:  # it opens beside the loop
                subscriber.read(1)
                device = daemon.call("status")["devices"][0]
            frames = subscriber.read(64)
            subscriber.assert_contiguous()
    finally:
        os.close(master)
        os.close(slave)
    assert device["state"] in ("absent", "opening")
    assert f"no permission to open {path}" in device["detail"]["error"]
    assert "udev rule" in device["detail"]["error"]
    assert (frames["flags"] & Flag.MISSING).all() and np.isnan(frames["values"]).all()
