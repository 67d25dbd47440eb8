"""A driver in a process of its own: what it may send, how it may fail, how it ends."""

import errno
import logging
import os
import select
import signal
import textwrap
import time

import numpy as np
import pytest
from patience import Pace

from phantomd.contracts import MONTAGE
from phantomd.core.intake import NATIVE_HEAD_WORDS, Pump
from phantomd.devices import child_log
from phantomd.devices.base import Address, InChild, Resumes, SaysMarkers
from phantomd.devices.child import open_python
from phantomd.devices.registry import check
from phantomd.errors import BadAddress, DeviceError, DeviceMissing, DeviceNotAllowed, DeviceSilent

WAIT_S = 20.0
HEAD = """
import os, signal, sys, time
import numpy as np
from phantomd.devices.driver import *

class Driver:
    def __init__(self, options):
        self.options = options
    def describe(self):
        return Spec(rate_hz=250, channels=("A", "B"), aux=("x",), hang_s=0.3)
"""


def driver(tmp_path, body, head=HEAD):
    path = tmp_path / "driver.py"
    path.write_text(head + textwrap.indent(textwrap.dedent(body), "    "))
    path.chmod(0o600)
    return Address.parse(f"python:{path}?speed=7")


@pytest.fixture
def opened():
    devices = []

    def open_(address, labels=MONTAGE, **how):
        device = open_python(address, labels)
        devices.append(device)
        return device

    yield open_
    for device in devices:
        device.close()
        assert not alive(device.pid)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Streaming:
    """A pump over the device, and what came of it."""

    def __init__(self, device):
        self.device = device
        self.notify_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.pump = Pump(device.driver, device.fd, notify_fd=self.notify_fd, priority=0)
        device.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pump.stop()
        os.close(self.notify_fd)

    def until_end(self):
        assert select.select([self.notify_fd], [], [], WAIT_S)[0], "it goes on"
        return self.pump.end_error

    def until_samples(self, n):
        until_s = time.monotonic() + WAIT_S
        while self.device.driver.intake.next < n:
            assert self.pump.end_error == 0, self.device.why_ended(self.pump.end_error)
            assert time.monotonic() < until_s
            time.sleep(0.001)

    def frames(self):
        ring = self.device.driver.intake.ring
        rows = np.array([ring.read(index) for index in range(ring.oldest, ring.next)])
        return rows[:, :NATIVE_HEAD_WORDS].view(np.int64), rows[:, NATIVE_HEAD_WORDS:].view(float)


STREAM = """
def blocks(self):
    for n in range(1000):
        yield np.arange(6.0).reshape(2, 3) + n
        time.sleep(0.008)
"""


def test_samples_arrive_whole_in_order_and_stamped(tmp_path, opened):
    device = opened(driver(tmp_path, STREAM))
    assert isinstance(device, InChild) and isinstance(device, SaysMarkers)
    assert device.spec.labels == ("A", "B") and device.spec.aux == ("x",)
    before_ns = time.monotonic_ns()
    with Streaming(device) as streaming:
        streaming.until_samples(20)
        head, values = streaming.frames()
    np.testing.assert_array_equal(values[:20:2, 0], np.arange(10))
    np.testing.assert_array_equal(values[1:20:2, 2], np.arange(10) + 5)
    assert (np.diff(head[:, 0]) >= 0).all()
    assert before_ns < head[0, 0] and head[-1, 0] < time.monotonic_ns()
    assert device.driver.intake.counters()["lost"] == 0


def test_stamps_counters_losses_and_restarts_reach_the_intake(tmp_path, opened):
    body = """
    def blocks(self):
        t = time.monotonic_ns()
        rows = np.zeros((2, 3))
        yield Block(rows, device_ns=[5, 6], arrival_ns=[t, t + 1])
        yield Block(rows, lost=3, arrival_ns=[t + 20_000_000, t + 24_000_000])
        yield rows, np.array([7, 8])
        yield Block(rows, restart=True)
        while True:
            time.sleep(0.05)
            yield None
    """
    device = opened(driver(tmp_path, body))
    with Streaming(device) as streaming:
        streaming.until_samples(11)
        head, _ = streaming.frames()
    counters = device.driver.intake.counters()
    assert (counters["accepted"], counters["lost"], counters["resets"]) == (8, 3, 2)
    assert list(head[:2, 1]) == [5, 6] and head[1, 0] - head[0, 0] == 1
    assert list(head[7:9, 1]) == [7, 8]


def test_the_packet_counter_of_the_device_is_unwrapped(tmp_path, opened):
    head = HEAD.replace("hang_s=0.3", "hang_s=0.3, counter_modulus=256")
    body = """
    def blocks(self):
        t = time.monotonic_ns()
        yield Block(np.zeros((2, 3)), counters=[254, 255], arrival_ns=[t, t + 4_000_000])
        yield Block(np.zeros((1, 3)), counters=[3], arrival_ns=[t + 20_000_000])
        while True:
            time.sleep(0.05)
            yield
    """
    device = opened(driver(tmp_path, body, head))
    with Streaming(device) as streaming:
        streaming.until_samples(6)
    assert device.driver.intake.counters()["lost"] == 3


def test_a_device_that_is_back_goes_on_in_the_native_ring_that_it_had(tmp_path, opened):
    first = opened(driver(tmp_path, STREAM))
    with Streaming(first) as streaming:
        streaming.until_samples(20)
    first.close()
    intake = first.driver.intake
    before = intake.next
    again = opened(driver(tmp_path, STREAM))
    assert isinstance(again, Resumes) and again.resume(first)
    assert again.driver.intake is intake
    again.driver.reset()
    with Streaming(again) as streaming:
        streaming.until_samples(before + 20)
        head, values = streaming.frames()
    counters = intake.counters()
    whole = np.flatnonzero(~np.isnan(values[:, 0]))
    back = int(whole[whole >= before][0])
    away_ns = head[back, 0] - head[before - 1, 0]
    assert counters["resets"] == 2 and counters["lost"] == back - before
    assert back - before == pytest.approx(away_ns * 250e-9, abs=3)
    assert values[back, 0] == 0, "the first that the new one sent"


@pytest.mark.parametrize(
    "other",
    ["rate_hz=500", 'channels=("A", "C")', 'aux=("y",)', "counter_modulus=256", 'stream="emg"'],
)
def test_one_that_is_back_in_another_form_begins_a_ring_of_its_own(tmp_path, opened, other):
    first = opened(driver(tmp_path, STREAM))
    first.close()
    key = other.partition("=")[0]
    said = ", ".join(
        part
        for part in ("rate_hz=250", 'channels=("A", "B")', 'aux=("x",)', "hang_s=0.3")
        if not part.startswith(key)
    )
    head = HEAD.partition("return Spec")[0] + f"return Spec({said}, {other})\n"
    again = opened(driver(tmp_path, STREAM, head))
    assert not again.resume(first)
    assert again.driver.intake is not first.driver.intake


def test_markers_come_beside_the_samples_and_never_from_the_future(tmp_path, opened):
    body = """
    def blocks(self):
        yield Marker("now")
        yield Marker("then", t_ns=5, payload={"n": 1})
        yield Marker("late", t_ns=time.monotonic_ns() + 10**15)
        while True:
            time.sleep(0.05)
            yield None
    """
    device = opened(driver(tmp_path, body))
    markers = []
    with Streaming(device):
        while len(markers) < 3:
            assert select.select([device.marker_fd], [], [], WAIT_S)[0]
            markers += device.take_markers()
    assert [m.label for m in markers] == ["now", "then", "late"]
    assert {m.source for m in markers} == {"external"}
    assert (markers[1].t_ns, markers[1].payload) == (5, {"n": 1})
    assert abs(markers[2].t_ns - markers[0].t_ns) < WAIT_S * 1e9


def test_the_options_and_the_montage_of_the_address_reach_the_driver(tmp_path, opened):
    head = HEAD.replace('("A", "B")', "tuple(self.options) + tuple(self.options.values())")
    device = opened(driver(tmp_path, STREAM, head))
    assert device.spec.labels == ("speed", "7")
    named = opened(driver(tmp_path, STREAM, head), ("O1", "O2"))
    assert named.spec.labels == ("O1", "O2")


# -- failing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "error", "says"),
    [
        ("os.abort()", errno.ENODEV, "killed by SIGABRT"),
        ("os._exit(3)", errno.ENODEV, "ended with status 3"),
        ("raise DeviceMissing('unplugged', hint='plug it in')", errno.ENODEV, "unplugged"),
        ("raise RuntimeError('bug')", errno.ENODEV, "RuntimeError('bug')"),
        ("return", errno.ENODEV, "status 0"),
        ("time.sleep(1000)", errno.ETIMEDOUT, "hangs: nothing for 0.3 s"),
        ("signal.pause()", errno.ETIMEDOUT, "hangs"),
        ("yield np.zeros((2, 7))", errno.ENODEV, "the driver failed"),
    ],
)
def test_a_driver_that_fails_ends_its_pump_and_says_why(tmp_path, opened, does, error, says):
    device = opened(driver(tmp_path, f"def blocks(self):\n    yield np.zeros((2, 3))\n    {does}"))
    with Streaming(device) as streaming:
        assert streaming.until_end() == error
        assert says in device.why_ended(error)
        assert device.driver.intake.next == 2, "what came before it is kept"
    with Pace() as pace:
        begun_s = time.monotonic()
        device.close()
        took_s = time.monotonic() - begun_s
    assert took_s < pace.stretch(0.9), "one that hangs is not asked to stop"


def test_what_a_driver_started_ends_with_it(tmp_path, opened):
    body = """
    def blocks(self):
        import subprocess
        yield Marker(str(subprocess.Popen(["sleep", "1000"]).pid))
        while True:
            time.sleep(0.05)
            yield None
    """
    device = opened(driver(tmp_path, body))
    with Streaming(device):
        assert select.select([device.marker_fd], [], [], WAIT_S)[0]
        pid = int(device.take_markers()[0].label)
        handle = os.pidfd_open(pid)
    device.close()
    assert select.select([handle], [], [], WAIT_S)[0], "it outlived its driver"
    os.close(handle)


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        ("raise DeviceMissing('not there', hint='look')", DeviceMissing),
        ("raise DeviceNotAllowed('no', hint='group')", DeviceNotAllowed),
        ("raise ValueError('bug')", DeviceError),
        ("os._exit(1)", DeviceError),
        ("return 7", DeviceError),
        ("return Spec(rate_hz=-1, channels=('A',))", DeviceError),
        ("return Spec(rate_hz=250, channels=())", DeviceError),
        ("return Spec(rate_hz=250, channels=('A',) * 40, aux=('x',) * 40)", DeviceError),
    ],
)
def test_a_driver_that_finds_no_device_says_so_when_it_is_opened(tmp_path, does, kind):
    head = HEAD.partition("    def describe")[0]
    with pytest.raises(kind) as raised:
        open_python(driver(tmp_path, f"def describe(self):\n    {does}", head), MONTAGE)
    assert type(raised.value) is kind and raised.value.hint


def test_a_driver_that_never_answers_is_killed(tmp_path, monkeypatch):
    head = HEAD.partition("    def describe")[0]
    monkeypatch.setattr("phantomd.devices.child.OPEN_S", 0.5)
    with pytest.raises(DeviceSilent, match=r"0\.5 s"):
        open_python(driver(tmp_path, "def describe(self):\n    time.sleep(1000)", head), MONTAGE)


def test_its_output_is_logged_bounded(tmp_path, opened, caplog):
    body = """
    def blocks(self):
        print("hello \\x1b[31m" + "x" * 2000)
        for n in range(200):
            print("line", n, file=sys.stderr)
        yield np.zeros((2, 3))
    """
    caplog.set_level(logging.INFO, "phantomd.devices.child_log")
    device = opened(driver(tmp_path, body))
    with Streaming(device) as streaming:
        streaming.until_end()
    until_s = time.monotonic() + WAIT_S
    while not any("more lines" in line for line in caplog.messages):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert "hello ·[31mxxx" in caplog.messages[0]
    assert max(map(len, caplog.messages)) < child_log.LINE_BYTES + 200
    assert len(caplog.messages) == child_log.LINES + 1
    assert "141 more lines" in caplog.messages[-1]


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["python:", "python:a/b.py", "python:/x.py:1no", "python:a b:Driver", "python:a..b:Driver"],
)
def test_an_address_that_names_no_driver_is_refused(text):
    with pytest.raises(BadAddress) as raised:
        check(text, MONTAGE)
    assert raised.value.hint


def test_a_driver_that_is_not_there_or_has_no_class_is_told(tmp_path):
    with pytest.raises(BadAddress, match="No such file"):
        open_python(Address("python", f"{tmp_path}/none.py"), MONTAGE)
    with pytest.raises(BadAddress, match="no_such_module"):
        open_python(Address("python", "no_such_module:Driver"), MONTAGE)
    path = tmp_path / "empty.py"
    path.touch(0o600)
    with pytest.raises(BadAddress, match="Driver"):
        open_python(Address("python", str(path)), MONTAGE)


def test_a_file_that_others_can_write_is_not_run(tmp_path):
    address = driver(tmp_path, STREAM)
    (tmp_path / "driver.py").chmod(0o666)
    with pytest.raises(DeviceNotAllowed) as raised:
        open_python(address, MONTAGE)
    assert "chmod" in raised.value.hint


def test_a_stopped_child_ends_when_it_is_closed(tmp_path, opened):
    device = opened(driver(tmp_path, STREAM))
    os.kill(device.pid, signal.SIGSTOP)
    device.close()
    assert not alive(device.pid)
