"""The daemon's life: what it starts and stops, what it keeps, what it can change while it runs."""

import time

import msgspec
import numpy as np
import pytest
from live import EegClient
from running import Events, ask, contiguous, until_frame, whole

from phantomd.config import load
from phantomd.contracts import MONTAGE, EegHeader, Flag
from phantomd.daemon import Daemon
from phantomd.errors import ConfigError, ControlError, PhantomError, StateUnusable, UnknownKey

# -- the start list --------------------------------------------------------------------------------


class Steps:
    """A start list that writes down what happens; ``fails`` names the steps that do."""

    def __init__(self, *fails: str) -> None:
        self.done: list[str] = []
        self._fails = fails

    def __call__(self):
        return [(name, self._does(f"+{name}"), self._does(f"-{name}")) for name in "abc"]

    def _does(self, what):
        async def do():
            if what in self._fails:
                raise PhantomError(f"{what} failed")
            self.done.append(what)

        return do


def _daemon(tmp_path, monkeypatch, steps) -> Daemon:
    daemon = Daemon(
        load(None, (f'daemon.state="{tmp_path}"',)), control_path=tmp_path / "control.sock"
    )
    monkeypatch.setattr(daemon, "_steps", steps)
    return daemon


def test_what_started_last_stops_first(run, tmp_path, monkeypatch):
    steps = Steps()

    async def go():
        daemon = _daemon(tmp_path, monkeypatch, steps)
        await daemon.start()
        await daemon.stop()
        await daemon.stop()

    run(go())
    assert steps.done == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_a_step_that_fails_to_start_stops_those_before(run, tmp_path, monkeypatch):
    steps = Steps("+c")

    async def go():
        with pytest.raises(PhantomError, match=r"\+c failed"):
            await _daemon(tmp_path, monkeypatch, steps).start()

    run(go())
    assert steps.done == ["+a", "+b", "-b", "-a"]


def test_a_step_that_fails_to_stop_does_not_keep_the_others(run, tmp_path, monkeypatch):
    steps = Steps("-b")

    async def go():
        daemon = _daemon(tmp_path, monkeypatch, steps)
        await daemon.start()
        await daemon.stop()

    run(go())
    assert steps.done == ["+a", "+b", "+c", "-c", "-a"]


def test_the_start_list_is_in_the_order_of_need(tmp_path):
    daemon = Daemon(load(None, (f'daemon.state="{tmp_path}"',)))
    names = [name for name, *_ in daemon._steps()]
    assert names.index("ports") < names.index("tick") < names.index("devices")
    assert names.index("journal") < names.index("devices"), "it must outlive what it writes down"
    assert names[-1] == "readiness"


# -- with and without devices ----------------------------------------------------------------------


def test_without_a_device_frames_go_on_missing_with_the_montage(run, daemon_at):
    async def go():
        async with daemon_at("devices=[]") as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await eeg.read(32)
            frames = contiguous(eeg)
            age_ns = time.monotonic_ns() - int(frames["t_ns"][-1])
            assert EegHeader.decode(eeg.header).labels == MONTAGE
            assert (frames["flags"] & ~np.uint32(Flag.LATE) == Flag.MISSING).all()
            assert np.isnan(frames["values"]).all()
            assert 0 < age_ns < 500_000_000, "they come as time goes on, not in advance"
            status = await ask(daemon.control_path, "status")
            assert status["devices"] == [] and status["ready"] is True

    run(go())


@pytest.mark.parametrize("rate_hz", [250, 333], ids=["a known rate", "a rate never seen"])
def test_another_layout_closes_connections_and_the_index_goes_on(run, daemon_at, rate_hz):
    async def go():
        async with daemon_at() as daemon:
            control, port = daemon.control_path, daemon.ports.streams["eeg"].port
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(port)
            await until_frame(eeg, whole)
            await ask(control, "device.close", device_id="simulator-0")
            await ask(control, "device.open", address=f"simulator:?channels=4&rate_hz={rate_hz}")
            await eeg.read_rest()
            old = contiguous(eeg)
            again = await EegClient.connect(port)
            header = EegHeader.decode(again.header)
            assert header.labels == MONTAGE[:4] and header.frame_bytes == 40
            assert header.epoch != EegHeader.decode(eeg.header).epoch
            assert header.first_index > old["index"][-1]
            assert (await ask(control, "hello"))["epoch"] == header.epoch.hex()
            await events.until("device", f"open: {rate_hz} Hz, 4 channels")
            await daemon.stop()
            n_frames = len(await again.read_rest()) // header.frame_bytes
            published = daemon.ports.streams["eeg"].status().published
            assert header.first_index + n_frames == published, "each instant exactly once"

    run(go())


def test_a_device_that_is_opened_again_keeps_the_epoch(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            await ask(daemon.control_path, "device.close", device_id="simulator-0")
            await until_frame(eeg, lambda frame: not whole(frame))
            await ask(daemon.control_path, "device.open", address="simulator:?seed=9")
            back = await until_frame(eeg, whole)
            assert back["flags"] & Flag.DISCONTINUITY
            contiguous(eeg)
            again = await EegClient.connect(daemon.ports.streams["eeg"].port)
            assert EegHeader.decode(again.header).epoch == EegHeader.decode(eeg.header).epoch

    run(go())


@pytest.mark.parametrize(
    ("fault", "count", "flag"),
    [
        ({"kind": "gap", "duration_s": 0.3}, 75, Flag.MISSING),
        ({"kind": "burst", "args": {"n": 3}}, 3, Flag.BRIDGED),
    ],
    ids=["a long gap is missing", "a short gap is bridged"],
)
def test_a_fault_of_the_simulator_gives_a_gap_event_and_flags(run, daemon_at, fault, count, flag):
    async def go():
        async with daemon_at() as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            clean = await eeg.read(32)
            assert not (clean["flags"] & (Flag.MISSING | Flag.BRIDGED)).any()
            await ask(daemon.control_path, "device.fault", device_id="simulator-0", **fault)
            gap = await events.until("gap", reason="lost")
            assert (gap["device_id"], gap["count"]) == ("simulator-0", count)
            await until_frame(eeg, lambda frame: bool(frame["flags"] & flag))
            await until_frame(eeg, lambda frame: not frame["flags"] & (flag | Flag.MISSING))
            missing = contiguous(eeg)
            missing = missing[missing["flags"] & Flag.MISSING != 0]
            assert np.isnan(missing["values"]).all()
            status = await ask(daemon.control_path, "status")
            assert status["devices"][0]["lost_samples"] == count

    run(go())


def test_faults_are_for_devices_that_stream(run, daemon_at, tmp_path):
    async def go():
        async with daemon_at(f'devices=["cyton:{tmp_path / "none"}"]') as daemon:
            for device_id, code in (("cyton-0", "device-missing"), ("x", "unknown-device")):
                with pytest.raises(ControlError) as raised:
                    await ask(daemon.control_path, "device.fault", device_id=device_id, kind="gap")
                assert raised.value.code == code and raised.value.hint

    run(go())


# -- panic -----------------------------------------------------------------------------------------


def test_panic_survives_a_restart_until_somebody_clears_it(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)
            assert await ask(daemon.control_path, "panic.set", reason="smoke") == {"panic": True}
            told = await events.until("panic", panic=True)
            assert told["level"] == "alert" and "smoke" in told["message"]
        async with daemon_at() as daemon:
            status = await ask(daemon.control_path, "status")
            assert status["panic"] is True and status["detail"]["panic_reason"] == "smoke"
            events = await Events.connect(daemon.ports.streams["events"].port)
            answer = await ask(daemon.control_path, "panic.clear", reason="it was a drill")
            assert answer == {"panic": False}
            await events.until("panic", panic=False)
        async with daemon_at() as daemon:
            assert (await ask(daemon.control_path, "status"))["panic"] is False

    run(go())


def test_a_latch_that_can_not_be_read_is_set(run, daemon_at, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "panic.json").write_bytes(b'{"set": fal')

    async def go():
        async with daemon_at() as daemon:
            status = await ask(daemon.control_path, "status")
            assert status["panic"] is True and "can't be read" in status["detail"]["panic_reason"]

    run(go())


def test_panic_is_set_in_memory_when_the_disk_fails_and_everybody_is_told(
    run, daemon_at, monkeypatch
):
    async def go():
        async with daemon_at() as daemon:
            events = await Events.connect(daemon.ports.streams["events"].port)

            def broken(latch):
                raise StateUnusable("the disk is full", hint="free some")

            monkeypatch.setattr(daemon.panic, "write", broken)
            with pytest.raises(ControlError) as raised:
                await ask(daemon.control_path, "panic.set", reason="smoke")
            assert raised.value.code == "state-unusable"
            assert daemon.status().panic
            await events.until("panic", "smoke", panic=True)
            with pytest.raises(ControlError):
                await ask(daemon.control_path, "panic.clear", reason="over")
            assert daemon.status().panic, "what can't be written down is not cleared"

    run(go())


def test_a_panic_that_is_set_while_another_is_cleared_wins(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            await daemon.set_panic(True, "one")
            clearing = daemon.set_panic(False, "over")
            setting = daemon.set_panic(True, "two")
            await clearing
            assert daemon.status().panic
            await setting
            assert daemon.panic.reason == "two"
        async with daemon_at() as daemon:
            assert daemon.status().panic

    run(go())


def test_a_panic_that_is_just_being_written_survives_the_stop(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            daemon.set_panic(True, "last moment")
        async with daemon_at() as daemon:
            assert daemon.panic.reason == "last moment"

    run(go())


# -- configuration ---------------------------------------------------------------------------------


class Configured:
    """A daemon with a file."""

    def __init__(self, tmp_path) -> None:
        self.path = tmp_path / "phantomd.toml"
        self.tmp_path = tmp_path

    def write(self, text: str) -> None:
        self.path.write_text(
            f'[daemon]\nstate = "{self.tmp_path / "state"}"\n[streams]\nbase_port = 0\n{text}'
        )

    def daemon(self) -> Daemon:
        return Daemon(
            load(self.path), config_path=self.path, control_path=self.tmp_path / "control.sock"
        )


def test_reload_changes_hold_ms_without_a_break_and_names_what_needs_a_restart(run, tmp_path):
    config = Configured(tmp_path)
    config.write("max_clients = 8\n")

    async def go():
        daemon = config.daemon()
        await daemon.start()
        try:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            await until_frame(eeg, whole)
            before = await eeg.read(64)
            config.write("max_clients = 9\n[grid]\nhold_ms = 60.0\n")
            answer = await ask(daemon.control_path, "config.reload")
            assert answer == {
                "changed": ["grid.hold_ms"],
                "needs_restart": ["streams.max_clients"],
            }
            shown = await ask(daemon.control_path, "config.show")
            assert (shown["grid.hold_ms"], shown["streams.max_clients"]) == (60.0, 8)
            await eeg.read(64)
            after = await eeg.read(64)
            frames = contiguous(eeg)
            began = np.flatnonzero(frames["flags"] & Flag.MISSING == 0)[0]
            assert not (frames["flags"][began:] & Flag.MISSING).any()
            assert not (frames["flags"][began + 1 :] & Flag.DISCONTINUITY).any()
            older_ms = (np.median(after["age_us"]) - np.median(before["age_us"])) / 1e3
            assert older_ms == pytest.approx(40.0, abs=15.0)
        finally:
            await daemon.stop()

    run(go())


def test_a_bad_file_changes_nothing_in_a_running_daemon(run, tmp_path):
    config = Configured(tmp_path)
    config.write("")

    async def go():
        daemon = config.daemon()
        await daemon.start()
        try:
            for text, code in (
                ("[grid]\nhold = 60\n", UnknownKey.code),
                ("[montage]\nlabels = []\n", "wrong-type"),
            ):
                config.write(text)
                with pytest.raises(ControlError) as raised:
                    await ask(daemon.control_path, "config.reload")
                assert raised.value.code == code and str(config.path) in raised.value.message
            assert daemon.config.grid.hold_ms == 20.0
        finally:
            await daemon.stop()

    run(go())


def test_a_daemon_refuses_addresses_that_no_driver_takes(tmp_path):
    with pytest.raises(ConfigError, match="no option 'nope'") as raised:
        Daemon(load(None, (f'daemon.state="{tmp_path}"', 'devices=["simulator:?nope=1"]')))
    assert raised.value.exit_status == 78 and raised.value.hint


# -- shapes of the answers: WIRE.md, and what docs/wire.md adds ------------------------------------

Strict = {"forbid_unknown_fields": True}


class Hello(msgspec.Struct, **Strict):
    daemon: str
    protocol: int
    epoch: str
    t_ns: int | None
    wall_offset_ns: int
    ports: dict[str, int]


class Device(msgspec.Struct, **Strict):
    device_id: str
    address: str
    kind: str
    state: str
    rate_hz: float
    channels: list[str]
    lost_samples: int
    detail: dict[str, object]


class Stream(msgspec.Struct, **Strict):
    clients: int
    published: int
    dropped: int


class Status(msgspec.Struct, **Strict):
    ready: bool
    degraded: list[str]
    devices: list[Device]
    streams: dict[str, Stream]
    sessions: int
    recording: str | None
    panic: bool
    uptime_s: float
    detail: dict[str, object]


class Stage(msgspec.Struct, **Strict):
    count: int
    missed: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    deadline_us: float


class Metadata(msgspec.Struct, **Strict):
    type: str
    stream: str
    protocol: int
    daemon: str
    epoch: str
    rate_hz: float | None
    t_ns: int | None
    wall_offset_ns: int
    data: dict[str, object]


class Line(msgspec.Struct, **Strict):
    type: str
    stream: str
    seq: int
    t_ns: int | None
    age_us: int | None
    late: bool
    data: dict[str, object]


def test_answers_have_the_shapes_of_the_wire(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            events = await Events.connect(daemon.ports.streams["events"].port)
            await until_frame(eeg, whole)
            path = daemon.control_path
            hello = msgspec.convert(await ask(path, "hello", client="a test", protocol=1), Hello)
            status = msgspec.convert(await ask(path, "status"), Status)
            ledger = msgspec.convert(await ask(path, "ledger"), dict[str, Stage])
            metadata = msgspec.convert(events.metadata, Metadata)
            daemon.set_panic(True, "shape")
            line = msgspec.convert(await events.line(), Line)
        return hello, status, ledger, metadata, line, eeg

    hello, status, ledger, metadata, line, eeg = run(go())
    assert hello.protocol == 1 and hello.daemon.startswith("phantomd/")
    assert hello.epoch == EegHeader.decode(eeg.header).epoch.hex()
    assert hello.ports.keys() == status.streams.keys()
    assert hello.ports.keys() >= {"eeg", "events", "markers", "features", "aux"}
    assert hello.t_ns is not None
    (device,) = status.devices
    assert (device.device_id, device.kind, device.state) == (
        "simulator-0",
        "simulator",
        "streaming",
    )
    assert device.channels == list(MONTAGE) and device.rate_hz == 250.0
    assert status.streams["eeg"].clients == 1
    assert {"tick", "heartbeat", "eeg", "loop", "control"} <= ledger.keys()
    assert metadata.stream == line.stream == "events" and metadata.rate_hz is None


def test_the_ledger_counts_every_stage_that_runs(run, daemon_at):
    async def go():
        async with daemon_at() as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            for _ in range(3):
                await ask(daemon.control_path, "status")
            await eeg.read(64)
            return await ask(daemon.control_path, "ledger")

    ledger = run(go())
    assert ledger["control"]["count"] == 3, "this one is not over yet"
    for stage in ("tick", "heartbeat", "eeg", "loop"):
        assert ledger[stage]["count"] > 0, stage
    for stage in ledger.values():
        assert stage["p50_us"] <= stage["p99_us"] <= stage["p999_us"]
