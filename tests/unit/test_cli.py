"""phantomctl's commands against servers in this process: real sockets, methods that remember."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from fakes import EPOCH, FakeDaemon, frames, header
from served import WAIT_S, Host

from phantomd.cli.phantomctl import run
from phantomd.errors import UnknownKey

PHANTOMCTL = [sys.executable, "-m", "phantomd.cli.phantomctl"]


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    with Host() as host:
        daemon = FakeDaemon(host, tmp_path / "control.sock")
        monkeypatch.setenv("PHANTOMD_CONTROL", str(daemon.path))
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        yield daemon
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("PHANTOMD_CONTROL", str(tmp_path / "none.sock"))


@pytest.fixture
def unused_base():
    """A base port with nothing on its stream ports."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1] - 1  # bound, and not listening: refused


def answered(capsys, *arguments) -> dict | list:
    """The one JSON object of a command that worked."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def said(capsys, *arguments) -> str:
    assert run(arguments) == 0
    return capsys.readouterr().out


def words(line: str) -> str:
    """With one space between them."""
    return " ".join(line.split())


# -- asking ----------------------------------------------------------------------------------------


def test_status_json_is_the_daemons_answer_with_its_name_and_ledger(daemon, capsys):
    assert answered(capsys, "status") == {
        **msgspec.to_builtins(daemon.status),
        "daemon": "phantomd/9.9.9",
        "ledger": msgspec.to_builtins(daemon.stages),
    }


def test_status_shows_devices_streams_deadlines_and_what_is_wrong(daemon, capsys):
    text = said(capsys, "status")
    rows = [words(line) for line in text.splitlines()]
    assert f"eeg {daemon.eeg.port} 3 512 7" in rows
    assert "cyton-0 cyton:/dev/ttyUSB0 streaming 250 Hz +8.0 ±0.5 ppm 140 µs 8 12" in rows
    assert "eeg 90.0 µs 1.5 ms 9.0 ms 12.0 ms 7.8 ms 2 512" in rows
    assert "PANIC: hand on the switch" in text
    assert "degraded: tick-priority SCHED_FIFO 70 was refused: raise LimitRTPRIO" in text


def test_a_device_that_is_missing_is_listed_with_the_reason(daemon, capsys):
    daemon.status = msgspec.structs.replace(daemon.status, devices=[daemon.absent])
    text = said(capsys, "status")
    assert "absent" in text and "there is no /dev/ttyUSB1" in text


def test_hello_ledger_and_config_answer_in_json(daemon, capsys):
    assert answered(capsys, "hello")["ports"]["eeg"] == daemon.eeg.port
    assert answered(capsys, "ledger")["eeg"]["missed"] == 2
    assert answered(capsys, "config") == {"grid.hold_ms": 20.0, "devices": ["simulator:"]}
    assert answered(capsys, "config", "show") == answered(capsys, "config")


def test_config_reload_says_what_changed_and_what_needs_a_restart(daemon, capsys):
    text = said(capsys, "config", "reload")
    assert "changed: grid.hold_ms" in text
    assert "needs a restart: streams.base_port" in text


@pytest.mark.parametrize("command", ["status", "hello", "ledger", "config"])
def test_a_person_gets_text(daemon, capsys, command):
    assert not said(capsys, command).startswith("{")


def test_text_of_others_cannot_steer_the_terminal(daemon, capsys):
    daemon.status = msgspec.structs.replace(daemon.status, detail={"panic_reason": "\x1b[2Jgone"})
    assert "\x1b" not in said(capsys, "status")


# -- steering --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "method", "params"),
    [
        (["device", "open", "cyton:/dev/x"], "device.open", {"address": "cyton:/dev/x"}),
        (
            ["device", "open", "replay:x/a.edf?speed=2"],
            "device.open",
            {"address": f"replay:{Path.cwd()}/x/a.edf?speed=2"},
        ),
        (
            ["device", "open", "replay:/x/a.edf"],
            "device.open",
            {"address": "replay:/x/a.edf"},
        ),
        (
            ["device", "open", "broadband:?channels=8"],
            "device.open",
            {"address": "broadband:?channels=8"},
        ),
        (["device", "close", "cyton-0"], "device.close", {"device_id": "cyton-0"}),
        (
            ["device", "fault", "sim-0", "gap", "--duration=0.5", "--arg=n=3", "--arg=where=left"],
            "device.fault",
            {
                "device_id": "sim-0",
                "kind": "gap",
                "duration_s": 0.5,
                "args": {"n": 3, "where": "left"},
            },
        ),
        (
            ["device", "impedance", "cyton-0", "C3", "C4"],
            "device.impedance",
            {"device_id": "cyton-0", "channels": ["C3", "C4"]},
        ),
        (["marker", "put", "go"], "marker.put", {"label": "go"}),
        (
            ["marker", "put", "go", "--t-ns=7", '--payload={"block":3}'],
            "marker.put",
            {"label": "go", "t_ns": 7, "payload": {"block": 3}},
        ),
        (["panic", "on", "smoke"], "panic.set", {"reason": "smoke"}),
        (["panic", "on"], "panic.set", {}),
        (["panic", "off", "aired"], "panic.clear", {"reason": "aired"}),
        (["journal", "start", "/tmp/x.pdj"], "journal.start", {"path": "/tmp/x.pdj"}),
        (["journal", "start"], "journal.start", {}),
        (["journal", "stop"], "journal.stop", {}),
    ],
)
def test_a_command_asks_its_method(daemon, capsys, arguments, method, params):
    said(capsys, *arguments)
    assert daemon.asked == [(method, params)]


def test_a_journal_path_is_the_callers_not_the_daemons(daemon, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said(capsys, "journal", "start", "here.pdj")
    assert daemon.asked == [("journal.start", {"path": str(tmp_path / "here.pdj")})]


def test_lists_of_devices_and_impedances(daemon, capsys):
    assert "cyton:/dev/ttyUSB0" in said(capsys, "device", "list")
    assert "the chip of an OpenBCI dongle" in said(capsys, "device", "scan")
    assert "5.5 kΩ" in said(capsys, "device", "impedance", "cyton-0")
    assert answered(capsys, "device", "list")[0]["device_id"] == "cyton-0"
    assert answered(capsys, "device", "scan")[0]["kind"] == "cyton"
    assert answered(capsys, "device", "impedance", "cyton-0") == {"C3": 5.5, "C4": None}


def test_impedance_is_watched_until_the_daemon_is_gone(daemon, capsys, monkeypatch):
    """A line each time, or a table with the best so far."""
    answers = [{"C3": 5.5, "C4": None}, {"C3": 30.0, "C4": 150.0}]

    def watched(*arguments: str) -> str:
        left = iter(answers)

        def call(self, method, **params):
            assert (method, params) == ("device.impedance", {"device_id": "cyton-0"})
            answer = next(left, None)
            if answer is None:
                raise KeyboardInterrupt
            return answer

        monkeypatch.setattr("phantomd.cli.invocation.Invocation.call", call)
        assert run(["device", "impedance", "cyton-0", "--watch", *arguments]) == 0
        return capsys.readouterr().out

    lines = watched("--json").splitlines()
    assert [json.loads(line) for line in lines] == answers
    shown = watched()
    assert "usable" in shown and "poor" in shown and "5.5 kΩ" in shown


def test_panic_status(daemon, capsys):
    assert said(capsys, "panic", "status") == "panic is set: hand on the switch\n"
    assert answered(capsys, "panic", "status") == {"panic": True, "reason": "hand on the switch"}


# -- errors ----------------------------------------------------------------------------------------


def test_no_daemon_is_status_3_with_a_hint(nobody, capsys):
    assert run(["status"]) == 3
    out, err = capsys.readouterr()
    message, hint = err.splitlines()
    assert out == ""
    assert message.startswith("phantomctl: no daemon")
    assert hint.startswith("hint: start one with `phantomd`")


@pytest.mark.parametrize("arguments", [["top", "--once"], ["tap", "eeg"], ["device", "list"]])
def test_no_daemon_is_status_3_for_every_command(nobody, capsys, arguments, unused_base):
    assert run([*arguments, "--host", "127.0.0.1", "--base-port", str(unused_base)]) == 3


def test_an_error_in_json_is_one_object_on_stdout(nobody, capsys):
    assert run(["--json", "ledger"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["error"].keys() == {"code", "message", "hint"}
    assert json.loads(out)["error"]["code"] == "no-daemon"
    assert err == ""


def test_a_refusal_is_status_1_with_the_daemons_own_words(daemon, capsys):
    assert run(["device", "close", "nix-7"]) == 1
    assert capsys.readouterr().err == "phantomctl: no device 'nix-7'\nhint: open: cyton-0\n"


def test_a_bad_configuration_is_status_78(daemon, capsys):
    daemon.reload_error = UnknownKey("x.toml: unknown key 'gird'", hint="did you mean 'grid'?")
    assert run(["config", "reload"]) == 78
    assert "did you mean 'grid'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["device", "open"],
        ["panic", "off"],
        ["tap", "eeg", "-n", "0"],
        ["tap", "nix"],
        ["tap", "eeg", "--raw", "-n", "3"],
        ["device", "fault", "simulator-0", "gap", "--arg", "novalue"],
        ["marker", "put", "go", "--payload", "{"],
        ["marker", "put", "go", "--payload", "3"],
        ["emulate", "cyton"],
        ["device"],
        [],
    ],
)
def test_what_cant_be_understood_is_status_2(daemon, capsys, arguments):
    assert run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_usage_error_in_json(capsys):
    assert run(["device", "open", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_shared_options_stand_before_or_after_the_command(daemon, capsys, monkeypatch):
    monkeypatch.delenv("PHANTOMD_CONTROL")
    where = ["--control", str(daemon.path)]
    for arguments in (
        [*where, "--json", "device", "list"],
        ["device", *where, "--json", "list"],
        ["device", "list", *where, "--json"],
    ):
        assert run(arguments) == 0
        assert json.loads(capsys.readouterr().out)[0]["device_id"] == "cyton-0"


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("phantomctl ")


def test_asking_the_status_loads_neither_numpy_nor_the_devices():
    code = (
        "import sys, phantomd.cli.phantomctl\n"
        "heavy = {'numpy', 'rich.live', 'scipy', 'phantomd.client', 'phantomd.devices.emulator'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_S)


# -- tap -------------------------------------------------------------------------------------------


def test_tap_eeg_prints_a_line_a_frame(daemon, capsys):
    daemon.when_subscribed(daemon.eeg, lambda: daemon.publish_frames(frames(100, 4)))
    lines = said(capsys, "tap", "eeg", "-n", "4").splitlines()
    assert lines[0].startswith("# microvolt, 128 Hz")
    assert lines[1].split() == ["index", "time", "age", "flags", "C3", "C4"]
    assert words(lines[2]) == "100 00:00:01.781250 250 µs ....S. 100.00 -100.00"
    assert words(lines[4]) == "102 00:00:01.796875 250 µs M...S. — —"


def test_tap_eeg_json_is_an_object_a_line(daemon, capsys):
    daemon.when_subscribed(daemon.eeg, lambda: daemon.publish_frames(frames(100, 4)))
    assert run(["tap", "eeg", "-n", "3", "--json"]) == 0
    metadata, first, _, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert metadata["channels"] == ["C3", "C4"] and metadata["epoch"] == EPOCH
    assert first == {
        "type": "data",
        "stream": "eeg",
        "seq": 100,
        "t_ns": 781_250_000,
        "age_us": 250,
        "late": False,
        "data": {"flags": ["SIMULATED"], "values": [100.0, -100.0]},
    }
    assert missing["data"] == {"flags": ["MISSING", "SIMULATED"], "values": [None, None]}


def test_tap_eeg_says_how_many_frames_were_lost(daemon, capsys):
    daemon.when_subscribed(
        daemon.eeg, lambda: daemon.publish_frames(frames(100, 1) + frames(131, 1))
    )
    lines = said(capsys, "tap", "eeg", "-n", "2").splitlines()
    assert lines[3] == "# 30 frames lost here: this client was too slow"
    assert lines[4].split()[0] == "131"


def test_tap_events_prints_level_kind_and_message(daemon, capsys):
    daemon.when_subscribed(daemon.events, daemon.say_event)
    lines = said(capsys, "tap", "events", "-n", "1").splitlines()
    assert lines[0].startswith("# events of phantomd/")
    assert lines[1].split(maxsplit=4) == ["0", "00:00:03.000000", "warning", "gap", "3 lost"]


def test_tap_events_json_keeps_the_envelope(daemon, capsys):
    daemon.when_subscribed(daemon.events, daemon.say_event)
    assert run(["tap", "events", "-n", "1", "--json"]) == 0
    metadata, event = map(json.loads, capsys.readouterr().out.splitlines())
    assert metadata["type"] == "metadata"
    assert event["type"] == "data" and event["data"]["kind"] == "gap"


def test_tap_messagepack_is_shown_as_json(daemon, capsys):
    daemon.when_subscribed(daemon.markers, daemon.put_marker)
    lines = said(capsys, "tap", "markers", "-n", "1").splitlines()
    assert lines[1].endswith('{"source":"ui","label":"go","payload":null}')


def test_tap_raw_hands_the_bytes_on(daemon, capsysbinary):
    data = b"".join(frames(100, 4))

    def publish():
        daemon.publish_frames(frames(100, 4))
        daemon.end_frames()

    daemon.when_subscribed(daemon.eeg, publish)
    assert run(["tap", "eeg", "--raw"]) == 3  # the daemon closed it
    assert capsysbinary.readouterr().out == header().encode() + data


def test_tap_ends_when_its_time_is_over(daemon, capsys):
    assert run(["tap", "events", "--seconds", "0.05"]) == 0


def test_a_stream_that_the_daemon_has_not_is_named_with_those_it_has(daemon, capsys):
    assert run(["tap", "focus"]) == 1
    assert "it serves: eeg, events, markers" in capsys.readouterr().err


def test_a_stream_that_the_daemon_closes_is_status_3(daemon, capsys):
    daemon.when_subscribed(daemon.eeg, daemon.end_frames)
    assert run(["tap", "eeg"]) == 3
    assert "the daemon closed eeg" in capsys.readouterr().err


def test_tap_finds_a_stream_by_host_and_base_port(daemon, capsys, monkeypatch):
    monkeypatch.setenv("PHANTOMD_CONTROL", "/nowhere")
    daemon.when_subscribed(daemon.eeg, lambda: daemon.publish_frames(frames(100, 1)))
    base = str(daemon.eeg.port - 1)
    assert "100" in said(
        capsys, "tap", "eeg", "-n", "1", "--host", "127.0.0.1", "--base-port", base
    )


def test_a_closed_pipe_ends_tap_quietly(daemon):
    process = subprocess.Popen(
        [*PHANTOMCTL, "tap", "eeg"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    daemon.when_subscribed(daemon.eeg, lambda: None).result(WAIT_S)
    assert process.stdout.readline().startswith(b"# microvolt")
    process.stdout.close()

    async def go_on_until_it_ends():
        first = 100
        while process.poll() is None:
            daemon.publish_frames(frames(first, 4))
            first += 4
            await asyncio.sleep(0)

    daemon.host.wait(go_on_until_it_ends())
    assert (process.returncode, process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_a_pipe_that_nobody_reads_is_no_failure(daemon):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*PHANTOMCTL, "status"], stdout=write_end, stderr=subprocess.PIPE, timeout=WAIT_S
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_ends_tap_quietly(daemon):
    # As a shell starts it: whoever starts tests in the background has them ignore the interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*PHANTOMCTL, "tap", "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout.readline().startswith(b"# events")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, b"")


# -- emulate ---------------------------------------------------------------------------------------


def test_a_recording_that_isnt_there_is_an_error_with_a_hint(capsys, tmp_path):
    assert run(["emulate", "cyton", "--from", str(tmp_path / "none.txt")]) == 1
    assert "none.txt" in capsys.readouterr().err


def test_emulating_says_where_and_when_in_words(daemon, data_dir, tmp_path):
    recording = next(data_dir.glob("openbci_gui/*v6*"), None)
    if recording is None:
        pytest.skip("the openbci_gui recordings are missing")
    link = tmp_path / "cyton"
    process = subprocess.Popen(
        [*PHANTOMCTL, "emulate", "cyton", "--from", str(recording), "--link", str(link)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == f"a Cyton at {link}; open it with\n"
    assert process.stdout.readline() == f"  phantomctl device open cyton:{link}\n"
    assert link.is_symlink()
    process.terminate()
    out, _ = process.communicate(timeout=WAIT_S)
    assert out == "0 packets, 0 faults played, 0 that nobody took\n"
    assert process.returncode == 0
    assert not link.is_symlink()
