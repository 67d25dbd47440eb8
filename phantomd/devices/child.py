"""A device whose driver runs in a process of its own: it may hang, crash or leak, and nobody else
notices.

The child (``child_main``) writes stamped samples into shared memory; the device's intake thread
takes them from there (csrc/pd_shared.h), so that everything behind it is as for any other device.
A child that is gone, hangs or sends nonsense ends that thread, and the supervisor opens the device
anew: ``close`` kills whatever is left of it. It starts by ``exec``, never by a bare fork: a fork
of a process with real-time threads and locked memory is no place to run a vendor's library.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from threading import Event
from typing import Any

import msgspec

from phantomd.contracts import MONTAGE, DeviceSpec, Marker
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.core.shared import SharedDriver, bytes_needed
from phantomd.devices.base import Address, Device, no_faults
from phantomd.devices.child_log import log_lines
from phantomd.devices.driver import (
    PACKET_BYTES,
    Described,
    Failed,
    FromChild,
    Job,
    Marked,
    Spec,
    Start,
    Stop,
    ToChild,
)
from phantomd.devices.spawner import environment, python, spawn
from phantomd.errors import (
    BadAddress,
    DeviceBusy,
    DeviceError,
    DeviceMissing,
    DeviceNotAllowed,
    DeviceSilent,
)

log = logging.getLogger(__name__)

#: What a driver may take to find its device and say what it is.
OPEN_S = 20.0
#: A child that waits for its device: how soon it is given up, and how long it lives: it may hang.
GIVE_UP_S = 0.25
WAIT_S = 600.0
#: What it may take to stop; then it is killed.
STOP_S = 1.0
#: The ring in shared memory outlives a stall of the intake thread; the native one holds a minute.
SHARED_S = 4.0
NATIVE_S = 60.0
MOST_SLOTS = 1 << 17
#: So much of what a child says is heard in one go of the event loop.
MESSAGES_AT_ONCE = 64
#: A marker from further in the future than this was put by a clock that is wrong.
MARKER_AHEAD_NS = 1_000_000_000

_ERRORS: dict[str, type[DeviceError]] = {
    kind.code: kind for kind in (BadAddress, DeviceMissing, DeviceBusy, DeviceNotAllowed)
}
#: One BLAS thread: a driver is not there to compute.
_ENVIRONMENT = {
    name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
}


class ChildDevice:
    """An open device in a child. See ``base.Device``."""

    def __init__(
        self,
        address: Address,
        labels: tuple[str, ...],
        driver: str,
        *,
        options: dict[str, str] | None = None,
        open_s: float | None = None,
        give_up: Event | None = None,
    ) -> None:
        """Starts the driver and waits until it has found its device: ``open_s``, or with
        ``give_up`` until that is set. Raises DeviceError."""
        self._closed = self._hangs = self._deaf = False
        self._failed: Failed | None = None
        self._markers: list[Marker] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wake_fd, their_wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._process = _start(theirs.fileno(), their_wake_fd, str(address))
        except OSError as error:
            self._control.close()
            os.close(self._wake_fd)
            raise DeviceError(
                f"{address}: its driver's process can't be started: {error.strerror}",
                hint="the system refuses processes or memory: see `ulimit -a`",
            ) from error
        finally:
            theirs.close()
            os.close(their_wake_fd)
        try:
            self._send(Job(driver, dict(address.options) if options is None else options))
            if give_up is not None:
                self._await_word(give_up)
            said = self._described(OPEN_S if open_s is None else open_s)
            self._spec = _device_spec(address, labels, said)
            self._driver = self._share(said)
        except BaseException:
            self.close()
            raise
        self.silence_s = said.silence_s
        self._hang_s = said.hang_s

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def driver(self) -> SharedDriver:
        return self._driver

    @property
    def fd(self) -> int:
        return self._wake_fd

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        try:
            self._send(Start(0))
        except OSError as error:
            raise DeviceMissing(f"{self._spec.address}: {self.why_ended(errno.ENODEV)}") from error

    def close(self) -> None:
        """Asks the driver to stop, where it still listens, and kills it where it does not."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._send(Stop())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.0 if self._hangs else STOP_S)
        # Its group: what it started goes with it. It is a zombie at least until we wait for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._control.close()
        os.close(self._wake_fd)

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self._spec)

    def resume(self, before: Device) -> bool:
        """See ``base.Resumes``. The memory that is shared is this child's own: one that is being
        killed may still write into its."""
        if not isinstance(before.driver, SharedDriver) or _form(before.spec) != _form(self._spec):
            return False
        self._driver.go_on(before.driver.intake)
        return True

    # -- what else it says -------------------------------------------------------------------------

    @property
    def marker_fd(self) -> int:
        """See base.SaysMarkers; -1 once the child says nothing more."""
        return -1 if self._deaf else self._control.fileno()

    def take_markers(self) -> list[Marker]:
        self._listen()
        taken, self._markers = self._markers, []
        return taken

    def report(self) -> dict[str, int]:
        """See base.InChild; the samples are core/shared.pyi's counters."""
        return {"pid": self.pid, **self._driver.counters()}

    def why_ended(self, error: int) -> str:
        """For the log, when the intake thread has ended with this errno."""
        if error == errno.ETIMEDOUT:
            self._hangs = True
            return f"its driver hangs: nothing for {self._hang_s:g} s"
        if error == errno.EPROTO:
            self._hangs = True
            return "its driver sends samples from impossible places"
        self._listen()
        if self._failed is not None:
            return self._failed.message
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "its driver closed its pipe"
        if status < 0:
            return f"its driver was killed by {signal.Signals(-status).name}"
        return f"its driver ended with status {status}"

    # -- inside ------------------------------------------------------------------------------------

    def _send(self, message: ToChild, *fds: int) -> None:
        socket.send_fds(self._control, [msgspec.msgpack.encode(message)], list(fds))

    def _await_word(self, give_up: Event) -> None:
        """Until the child has something to say. Raises DeviceMissing."""
        ready = select.poll()
        ready.register(self._control.fileno(), select.POLLIN)
        until_s = time.monotonic() + WAIT_S
        while not ready.poll(GIVE_UP_S * 1000):
            if give_up.is_set() or time.monotonic() > until_s:
                self._hangs = True
                raise DeviceMissing("it did not come", hint="it is waited for again")

    def _described(self, within_s: float) -> Spec:
        self._control.settimeout(within_s)
        try:
            message = self._receive()
        except TimeoutError:
            self._hangs = True
            raise DeviceSilent(
                f"its driver found nothing within {within_s:g} s",
                hint="is the device on, and in reach?",
            ) from None
        finally:
            self._control.settimeout(0)
        if isinstance(message, Failed):
            kind = _ERRORS.get(message.code, DeviceError)
            raise kind(message.message, hint=message.hint)
        if not isinstance(message, Described):
            raise DeviceError(
                self.why_ended(errno.ENODEV), hint="the log has what it said before it ended"
            )
        return message.spec

    def _receive(self) -> FromChild | None:
        """None: the child has gone, or says what nobody understands. Raises TimeoutError,
        BlockingIOError."""
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._control.recv(PACKET_BYTES)
        if not data:
            return None
        try:
            return msgspec.msgpack.decode(data, type=FromChild)  # type: ignore[no-any-return]
        except msgspec.MsgspecError as error:
            log.warning("a driver's message can't be used: %s", error)
            return None

    def _listen(self) -> None:
        """Takes up to a handful of messages that are there."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(MESSAGES_AT_ONCE):
                message = self._receive()
                if message is None:
                    self._deaf = True
                    return
                if isinstance(message, Marked):
                    now_ns = time.monotonic_ns()
                    t_ns = message.t_ns if message.t_ns <= now_ns + MARKER_AHEAD_NS else now_ns
                    self._markers.append(Marker(t_ns, "external", message.label, message.payload))
                elif isinstance(message, Failed):
                    self._failed = message

    def _share(self, said: Spec) -> SharedDriver:
        """Without samples there is still a heart to be heard."""
        n_values = max(1, len(said.channels) + len(said.aux))
        rate_hz = said.rate_hz or 1.0
        n_slots = _slots(rate_hz, SHARED_S)
        size = -(-bytes_needed(n_values, n_slots) // mmap.PAGESIZE) * mmap.PAGESIZE
        fd = os.memfd_create("phantomd-samples", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # Cut short by the child, it would kill the daemon at the next look.
            fcntl.fcntl(
                fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            )
            intake = Intake(
                Ring(NATIVE_HEAD_WORDS + n_values, _slots(rate_hz, NATIVE_S)),
                rate_hz,
                n_values,
                said.counter_modulus,
            )
            driver = SharedDriver(
                intake,
                mmap.mmap(fd, size),
                n_slots,
                self._wake_fd,
                hang_ns=round(said.hang_s * 1e9),
            )
            self._send(Start(size), fd)
        except OSError as error:
            raise DeviceError(
                f"no memory can be shared with its driver: {error.strerror}",
                hint="the system refuses memory: see `ulimit -a`",
            ) from error
        finally:
            os.close(fd)
        return driver


def _start(control_fd: int, wake_fd: int, name: str) -> subprocess.Popen[bytes]:
    process = spawn(
        python("phantomd.devices.child_main", str(control_fd), str(wake_fd)),
        pass_fds=(control_fd, wake_fd),
        env=environment(**_ENVIRONMENT),
    )
    log_lines(process, name)
    return process


def _device_spec(address: Address, labels: tuple[str, ...], said: Spec) -> DeviceSpec:
    if said.rate_hz > 0 and not said.channels:
        raise DeviceError("it has a rate and no channels", hint="its driver must name them")
    if len(said.channels) + len(said.aux) > 64:
        raise DeviceError(
            f"{len(said.channels)} channels and {len(said.aux)} further values are too many",
            hint="a device has at most 64 values",
        )
    # The montage of the configuration, where it can be meant for this device.
    named = len(labels) == len(said.channels) and labels != MONTAGE
    return DeviceSpec(
        device_id=address.kind,
        address=str(address),
        kind=address.kind,
        rate_hz=said.rate_hz,
        labels=labels if named else said.channels,
        aux=said.aux,
        counter_modulus=said.counter_modulus,
        simulated=said.simulated,
        transport_us=said.transport_us,
        stream=said.stream,
        info=said.info,
    )


def _form(spec: DeviceSpec) -> DeviceSpec:
    """What must be the same for one device to go on as another: all but what only tells of it."""
    means = {key: spec.info[key] for key in ("range_uv",) if key in spec.info}
    return msgspec.structs.replace(spec, info=means)


def _slots(rate_hz: float, seconds: float) -> int:
    slots = 1024
    while slots < min(MOST_SLOTS, seconds * rate_hz):
        slots *= 2
    return slots


# -- python:FILE.py:CLASS --------------------------------------------------------------------------


def open_python(address: Address, labels: tuple[str, ...]) -> ChildDevice:
    """The registry's opener of anybody's driver. Raises DeviceError."""
    driver = driver_of(address, labels)
    place = driver.rpartition(":")[0]
    if place.endswith(".py"):
        _check_owner(Path(place))
    return ChildDevice(address, labels, driver)


def driver_of(address: Address, labels: tuple[str, ...]) -> str:
    """``FILE.py:CLASS`` or ``MODULE:CLASS``; the class is Driver where none is named. Raises
    BadAddress."""
    place, colon, name = address.where.rpartition(":")
    if not colon:
        place, name = address.where, "Driver"
    is_file = place.endswith(".py")
    if is_file and not place.startswith("/"):
        raise BadAddress(f"{place} is no absolute path", hint=f"python:{Path(place).absolute()}")
    parts = [name] if is_file else [*place.split("."), name]
    if not place or not all(part.isidentifier() for part in parts):
        raise BadAddress(
            f"{str(address)!r} names no driver",
            hint="python:/path/my_headset.py:Driver?key=value, or python:package.module:Driver",
        )
    return f"{place}:{name}"


def _check_owner(path: Path) -> None:
    """Whoever may open a device must not thereby run what somebody else can write."""
    try:
        status = path.stat()
    except OSError as error:
        raise BadAddress(f"{path}: {error.strerror}", hint="name the driver's file") from error
    if status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DeviceNotAllowed(
            f"{path} can be written by others than the daemon's user and root",
            hint=f"chown it and `chmod go-w {path}`",
        )
