"""Addresses, the registry, and what every kind of device must do (the shared battery)."""

import os
import subprocess
import sys
import time

import made
import numpy as np
import pytest
from eeg_port import EegPort

from phantomd.contracts import MONTAGE, DeviceInfo
from phantomd.core.intake import Pump
from phantomd.devices.base import Address
from phantomd.devices.emulator import CytonEmulator
from phantomd.devices.port_holder import holder_of
from phantomd.devices.registry import KINDS, check, check_configured, opener
from phantomd.devices.scan import scan
from phantomd.errors import BadAddress, ConfigError, UnsupportedFault

# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "where", "options"),
    [
        ("simulator:", "simulator", "", {}),
        ("simulator", "simulator", "", {}),
        ("simulator:?seed=1&channels=8", "simulator", "", {"seed": "1", "channels": "8"}),
        (
            "cyton:/dev/ttyUSB0?daisy=false",
            "cyton",
            "/dev/ttyUSB0",
            {"daisy": "false"},
        ),
        ("remote:host:7069", "remote", "host:7069", {}),
        ("lsl:name=Foo", "lsl", "name=Foo", {}),
        ("brainflow:-1", "brainflow", "-1", {}),
    ],
)
def test_an_address_is_taken_apart_and_put_together(text, kind, where, options):
    address = Address.parse(text)
    assert address == Address(kind, where, options)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", ":", "/dev/ttyUSB0", "Cyton:x", "?seed=1", "a b:c"])
def test_what_is_no_address_is_refused_with_the_form(text):
    with pytest.raises(BadAddress, match="is no device address") as raised:
        Address.parse(text)
    assert "kind[:where]" in raised.value.hint


def test_an_option_named_twice_is_refused():
    with pytest.raises(BadAddress, match="names an option twice"):
        Address.parse("simulator:?seed=1&seed=2")


# -- the registry ----------------------------------------------------------------------------------


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(BadAddress, match="'cytn'") as raised:
        check("cytn:/dev/x", MONTAGE)
    assert raised.value.hint == "did you mean cyton?"
    with pytest.raises(BadAddress) as raised:
        opener(Address("zzz"))
    assert "simulator" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cyton", MONTAGE),
        ("cyton:/dev/x?daisy=maybe", MONTAGE),
        ("cyton:/dev/x?gain=5", MONTAGE),
        ("cyton:/dev/x", MONTAGE[:4]),
        ("simulator:here", MONTAGE),
        ("simulator:?nope=1", MONTAGE),
        ("simulator:?faults=gap", MONTAGE),
        ("replay", MONTAGE),
        ("remote", MONTAGE),
        ("remote:host:port", MONTAGE),
        ("remote:host:0", MONTAGE),
        ("remote:host:7069?speed=1", MONTAGE),
        ("replay:x.edf?speed=max", MONTAGE),
        ("replay:x.edf?speed=-1", MONTAGE),
        ("replay:x.edf?sped=1", MONTAGE),
        ("replay:x.edf?loop=1", MONTAGE),
    ],
)
def test_checking_refuses_what_a_driver_could_never_open_and_opens_nothing(text, labels):
    with pytest.raises(BadAddress) as raised:
        check(text, labels)
    assert raised.value.hint


def test_checking_does_not_ask_whether_the_device_is_there():
    assert check("cyton:/dev/no-such-port", MONTAGE).where == "/dev/no-such-port"


def test_a_configured_address_that_can_not_be_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"devices: 'simulator:\?nope=1'") as raised:
        check_configured(["simulator:", "simulator:?nope=1"], MONTAGE)
    assert raised.value.exit_status == 78 and raised.value.hint


def test_one_port_is_configured_once():
    check_configured(["simulator:", "simulator:"], MONTAGE)
    with pytest.raises(ConfigError, match="the same device"):
        check_configured(["cyton:/dev/x", "cyton:/dev/x?gain=12"], MONTAGE)


# -- the battery: each kind of device --------------------------------------------------------------


DRIVER = """
import time
from phantomd.devices.driver import Spec
class Driver:
    def __init__(self, options): pass
    def describe(self):
        return Spec(rate_hz=250, channels=("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4"))
    def blocks(self):
        while True:
            yield [[0.0] * 8]
            time.sleep(0.004)
"""


@pytest.fixture
def address(request, tmp_path):
    """An address of this kind at which a device is."""
    if request.param == "simulator":
        yield "simulator:?seed=7"
        return
    if request.param == "python":
        path = tmp_path / "driver.py"
        path.write_text(DRIVER)
        path.chmod(0o600)
        yield f"python:{path}"
        return
    if request.param == "remote":
        with EegPort() as port:
            yield f"remote:127.0.0.1:{port.port}"
        return
    if request.param == "replay":
        path = tmp_path / "recording.txt"
        path.write_text(made.openbci(made.signal(500, 8)))
        yield f"replay:{path}"
        return
    with CytonEmulator(np.zeros((250, 8)), at_end="loop") as board:
        yield f"cyton:{board.path}"


#: BrainFlow's and LSL's are drivers in a child, as python's is, and have tests of their own; a
#: broadband array has spikes and no samples (tests/system/test_broadband.py).
every_kind = pytest.mark.parametrize(
    "address",
    [kind for kind in KINDS if kind not in ("brainflow", "lsl", "broadband")],
    indirect=True,
)


@pytest.fixture
def device(address):
    parsed = Address.parse(address)
    device = opener(parsed)(parsed, MONTAGE)
    yield device
    device.close()


@every_kind
def test_a_device_says_what_it_is(device, address):
    spec = device.spec
    assert spec.address == address and spec.kind == Address.parse(address).kind
    assert spec.labels == MONTAGE and spec.rate_hz > 0
    assert spec.simulated is (spec.kind == "simulator")


@every_kind
def test_its_intake_has_room_for_its_channels_and_aux(device):
    intake = device.driver.intake
    assert intake.n_values == len(device.spec.labels) + len(device.spec.aux)
    assert intake.rate_hz == device.spec.rate_hz
    assert intake.modulus == device.spec.counter_modulus


@every_kind
def test_it_goes_by_its_clock_or_by_a_descriptor(device):
    assert device.driver.by_clock is (device.fd < 0)


@every_kind
def test_a_pump_brings_its_samples_until_it_is_stopped(device):
    pump = Pump(device.driver, device.fd, priority=0)
    try:
        device.start()
        until_s = time.monotonic() + 10.0
        while device.driver.intake.next < 50:
            assert pump.end_error == 0 and time.monotonic() < until_s
    finally:
        pump.stop()
    assert device.driver.intake.counters()["lost"] == 0
    assert device.driver.intake.last_arrival_ns is not None


@every_kind
def test_it_can_be_opened_again_after_closing(address):
    parsed = Address.parse(address)
    for _ in range(2):
        opener(parsed)(parsed, MONTAGE).close()


@every_kind
def test_closing_twice_is_harmless(device):
    device.close()
    device.close()


@every_kind
def test_an_unknown_fault_is_refused_with_a_hint(device):
    with pytest.raises(UnsupportedFault) as raised:
        device.fault("no-such-fault", None, {})
    assert raised.value.hint


# -- scan ------------------------------------------------------------------------------------------


class Port:
    def __init__(self, device, vid=None, pid=None, product=None, serial_number=None):
        self.device, self.vid, self.pid, self.product = device, vid, pid, product
        self.serial_number = serial_number


def test_a_scan_says_what_each_port_looks_like_and_why(monkeypatch):
    ports = [
        Port("/dev/ttyUSB0", 0x0403, 0x6015, "FT231X USB UART"),
        Port("/dev/ttyACM0", 0x2341, 0x0043, "Arduino"),
        Port("/dev/ttyS0"),
    ]
    stream = {"address": "lsl:source_id=a", "kind": "lsl", "open": False, "why": "Foo"}
    monkeypatch.setattr("phantomd.devices.scan.scan_streams", lambda: [stream])
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    info = DeviceInfo("cyton-0", "cyton:/dev/ttyUSB0?gain=12", "cyton", "streaming", 250.0, [], 0)
    rows = {row["address"]: row for row in scan([info])}
    assert rows["simulator:"]["kind"] == "simulator" and not rows["simulator:"]["open"]
    dongle = rows["cyton:/dev/ttyUSB0"]
    busy = DeviceInfo("simulator-0", "simulator:?seed=1", "simulator", "streaming", 250.0, [], 0)
    assert scan([busy])[0]["open"]
    assert (dongle["kind"], dongle["open"]) == ("cyton", True)
    assert "0403:6015" in dongle["why"] and "OpenBCI" in dongle["why"]
    assert "taken as cyton-0, streaming" in dongle["why"]
    other = rows["cyton:/dev/ttyACM0"]
    assert other["kind"] is None and "2341:0043" in other["why"]
    assert "no USB device" in rows["cyton:/dev/ttyS0"]["why"]
    assert rows["brainflow:0?serial_port=/dev/ttyUSB0"]["kind"] == "brainflow"
    assert not rows["lsl:source_id=a"]["open"]
    heard = DeviceInfo(
        "lsl-0", "lsl:name=Foo", "lsl", "streaming", 250.0, [], 0, {"source_id": "a"}
    )
    assert {row["address"]: row["open"] for row in scan([heard])}["lsl:source_id=a"]
    for address in rows:  # device.open takes what is printed
        check(address, MONTAGE)


def test_a_scan_says_who_holds_a_port_and_knows_it_under_any_name(tmp_path, monkeypatch):
    port, alias = tmp_path / "ttyUSB0", tmp_path / "by-id"
    port.touch()
    alias.symlink_to(port)
    dongle = Port(str(port), 0x0403, 0x6015, "FT231X USB UART", "DM03GRXL")
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [dongle])
    monkeypatch.setattr("phantomd.devices.scan.scan_streams", list)
    row = scan([])[1]
    assert not row["open"] and row["held_by"] is None
    assert "DM03GRXL" in row["why"] and "nobody asked for it" in row["why"]
    info = DeviceInfo("cyton-0", f"cyton:{alias}", "cyton", "lost", 250.0, [], 0)
    assert scan([info])[1]["open"]
    code = "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        row = scan([])[1]
        other.communicate()
    assert f"({other.pid})" in row["held_by"] and f"{row['held_by']} has it" in row["why"]


def test_who_holds_a_port_is_in_the_locks_first(tmp_path):
    port = tmp_path / "tty"
    port.touch()
    status = port.stat()
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    (tmp_path / "proc" / "77").mkdir(parents=True)
    (tmp_path / "proc" / "77" / "comm").write_text("OpenBCI_GUI\n")
    locks = tmp_path / "proc" / "locks"
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE 77 {where} 0 EOF\n")
    assert holder_of(str(port), tmp_path / "proc") == "OpenBCI_GUI (77)"
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE 78 {where} 0 EOF\n")
    assert holder_of(str(port), tmp_path / "proc") == "another program"
    locks.write_text("1: FLOCK  ADVISORY  WRITE 77 00:00:1 0 EOF\n")
    assert holder_of(str(port), tmp_path / "proc") is None
    assert holder_of(str(tmp_path / "none"), tmp_path / "proc") is None
