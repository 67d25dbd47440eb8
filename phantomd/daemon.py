"""The composition root: what starts, in which order; stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import grp
import inspect
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from phantomd import __version__
from phantomd.config import Config, changes, flat, load, reloadable, reloaded
from phantomd.contracts import (
    PROTOCOL,
    Event,
    Hello,
    Marker,
    StageStats,
    Status,
    control_paths,
)
from phantomd.core.engine import MAX_SOURCES, now_ns, wall_offset_ns
from phantomd.devices.base import MakesSpikes
from phantomd.devices.registry import check_configured
from phantomd.devices.scan import scan
from phantomd.engine.beside import beside
from phantomd.engine.engine import Engine, Slot
from phantomd.engine.ledger import (
    CONTROL_DEADLINE_NS,
    LOOP_DEADLINE_NS,
    LoopLag,
)
from phantomd.engine.part import Part
from phantomd.engine.publish import Publisher, Waker
from phantomd.engine.renewal import Renewals
from phantomd.engine.supervisor import Supervisor
from phantomd.engine.wallclock import WallClock
from phantomd.errors import PhantomError
from phantomd.gauntlet.datasets import LIVE, LiveSource
from phantomd.intents.panic import PanicLatch
from phantomd.intents.panic_switch import PanicSwitch
from phantomd.net.control import ControlServer
from phantomd.net.history import Subscriber
from phantomd.net.lsl import LslOutlets
from phantomd.net.markers import Markers, marker_stream
from phantomd.net.messages import Messages
from phantomd.net.methods import methods, uptime_s
from phantomd.net.oracle_methods import oracle_methods
from phantomd.net.ports import Ports
from phantomd.net.record_methods import record_methods
from phantomd.net.rpc import Method
from phantomd.net.session_methods import session_methods
from phantomd.oracle.stage import FOCUS_HZ
from phantomd.records.journals import Journals
from phantomd.records.recording import Recorder
from phantomd.records.stages import make_stages
from phantomd.signal.analysis import KERNELS
from phantomd.signal.aux import MESSAGES_HZ

log = logging.getLogger(__name__)

#: Of streams whose messages come in handfuls, on events.
EVENTS_HISTORY = 1024
#: What goes by samples (auxiliary readings, recordings) is looked after so many frames apart.
FRAMES_A_TURN = 4
#: What each port may take to give its readers what is left; SIGTERM has a second for everything.
FLUSH_S = 0.15

Step = tuple[str, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]


class Daemon:
    """``await start()``, then it streams until ``await stop()``. One event loop, one thread of
    Python; the tick and the devices have their own. Raises ConfigError."""

    def __init__(
        self,
        config: Config,
        *,
        config_path: Path | None = None,
        settings: tuple[str, ...] = (),
        control_path: Path | None = None,
    ) -> None:
        check_configured(config.devices, config.montage.labels)
        self.config = config
        self._config_path = config_path
        self._settings = settings
        self.control_path = control_path or _control_path(config)
        self._started_ns = time.monotonic_ns()
        self._epoch = uuid.uuid4()
        self._reloading = asyncio.Lock()
        self._ready = False
        self._running: list[Step] = []
        self._degraded: list[str] = []

        self.panic = PanicLatch(config.state_dir)
        self._panic_switch = PanicSwitch(self.panic, self.emit)
        self.engine = Engine(config, now_ns(), kernels=KERNELS)
        self._renewals = Renewals(
            self.engine, lambda slot: self.stages.windows.layout_changed(slot)
        )
        self._journals = Journals(
            self.engine, lambda: self.config, lambda: self.stages.oracle.baseline
        )
        self._loop_lag = self.engine.ledger.stage("loop", LOOP_DEADLINE_NS)
        self._control_time = self.engine.ledger.stage("control", CONTROL_DEADLINE_NS)
        self._waker = Waker(self.engine.ledger.timed("publish", self._on_tick))
        self._lag: LoopLag | None = None
        self._wall_clock = WallClock(self._wall_clock_stepped)
        self.publisher = Publisher(
            self.engine, self._emit, lambda marker: self.markers.pass_on(marker)
        )
        self.ports = Ports(config.streams, self._epoch.hex)
        self._eeg = self.ports.eeg(
            config.realtime,
            lambda: self.engine.slots[0],
            self.engine.eeg_lateness,
            self._waker.fd,
        )
        self.engine.changing = self._eeg.changing
        self._events = self.ports.messages(
            "events", history=EVENTS_HISTORY, describe=lambda: {"kinds": list(_KINDS)}
        )
        self.markers = self._make_markers()
        self.spikes = self.ports.spikes(config.gauntlet, config.state_dir / "datasets", self.emit)
        self.engine.ledger.add("spikes", self.spikes.lateness)
        self.engine.ledger.add("spikes.loop", self.spikes.loops)
        self.supervisor = Supervisor(
            self.engine, config.montage.labels, self.emit, self._layout_changed, self.markers.put
        )
        self._make_ports()
        self.stages = make_stages(
            lambda: self.engine.slots,
            lambda: self.engine.slots[0],
            config,
            self.say,
            self.emit,
            state_dir=config.state_dir,
            ledger=self.engine.ledger,
            leave_out=self._renewals.leave_out,
        )
        self.recorder = Recorder(
            lambda: self.engine.slots[0],
            self.stages.oracle,
            lambda: self.config,
            lambda: self.engine.core.grid_t0_ns,
            self.emit,
        )
        self.stages.windows.listen(self.recorder.hear)
        self.markers.listen(self.recorder.mark)
        self.parts: list[Part] = [*self.stages.parts, self.recorder]
        self.supervisor.spikes = self._spikes_changed
        self.supervisor.more = lambda device_id: {"bad_channels": self.stages.bad.found(device_id)}
        self.lsl = LslOutlets(config.lsl, config.streams.host, self.ports.numbers, self.emit)
        self.control = ControlServer(
            self.control_path,
            {name: self._timed(name, method) for name, method in self._methods().items()},
            allow=_group(config.daemon.control_group),
        )

    def _make_markers(self) -> Markers:
        def receive(client: Subscriber, message: dict[str, Any]) -> None:
            markers.receive(client, message)

        stream = self.ports.messages("markers", history=EVENTS_HISTORY, receive=receive)
        markers = Markers(
            marker_stream(stream),
            lambda reason: self.set_panic(True, reason),
            self._journals.keep_marker,
        )
        return markers

    def _make_ports(self) -> None:
        """Of the stages behind the tick."""
        step_s = self.config.window.step_s
        self.ports.messages("aux", history=round(2 * MESSAGES_HZ) * MAX_SOURCES)
        self._features = self.ports.messages(
            "features",
            history=max(64, round(2 * MAX_SOURCES / step_s)),
            rate_hz=1 / step_s,
            describe=lambda: {
                "window_s": self.config.window.length_s,
                "step_s": self.config.window.step_s,
            },
        )
        self.ports.messages("focus", history=64, rate_hz=float(FOCUS_HZ))
        self.ports.messages("trit", history=64, rate_hz=1.0)

    def _methods(self) -> dict[str, Method]:
        return {
            **methods(self),
            **session_methods(self.spikes.sessions),
            **oracle_methods(self.stages.oracle),
            **record_methods(self.recorder),
        }

    def _timed(self, name: str, method: Method) -> Method:
        """What answers at once has a deadline; what waits for a device or a disk has none."""
        histogram = None if inspect.iscoroutinefunction(method.call) else self._control_time
        return Method(
            method.params, self.engine.ledger.timed(name, method.call, histogram), method.doc
        )

    # -- life --------------------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        """In the order of starting: ports before the tick, so that no frame is made unseen; devices
        when there is somewhere for their samples to go; control when there is something to say."""
        return [
            ("state", self._start_state, self._panic_switch.finish),
            ("waker", self._waker.start, self._waker.stop),
            ("ports", self.ports.start, lambda: self.ports.close(FLUSH_S)),
            ("tick", self._start_tick, self._stop_tick),
            ("journal", _nothing, self._journals.close),
            ("analyses", _nothing, self._renewals.close),
            ("devices", self._start_devices, self.supervisor.stop),
            ("recordings", _nothing, self.recorder.close),
            ("LSL outlets", self.lsl.start, self.lsl.stop),
            ("control", self.control.start, lambda: self.control.close(FLUSH_S)),
            ("readiness", self._start_ready, self._stop_ready),
        ]

    async def start(self) -> None:
        """Raises a PhantomError, after stopping what had started."""
        try:
            for step in self._steps():
                await step[1]()
                self._running.append(step)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """What started last stops first; each step is tried, whatever the ones before did."""
        while self._running:
            name, _, stop = self._running.pop()
            try:
                await stop()
            except Exception:
                log.exception("stopping %s failed", name)

    async def _start_state(self) -> None:
        directory = self.config.state_dir
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            writable = os.access(directory, os.W_OK | os.X_OK)
            reason = "" if writable else os.strerror(errno.EACCES)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            self._degraded.append(
                f"state: {directory} can't be written ({reason}): a restart forgets a panic, and "
                "no journal can be kept; name another with --state"
            )

    async def _start_tick(self) -> None:
        try:
            self.engine.core.begin(now_ns())  # frames from before would be born late
            self.engine.start(self._eeg.tick_fd)
            self._lag = LoopLag(asyncio.get_running_loop(), self._loop_lag)
            self._lag.start()
        except OSError as error:
            self.engine.stop()
            raise PhantomError(
                f"the tick can't be started: {error.strerror or error}",
                hint="the system refuses threads, timers or descriptors: see `ulimit -a`",
            ) from error

    async def _stop_tick(self) -> None:
        if self._lag is not None:
            self._lag.stop()
        self.engine.stop()
        self._on_tick()

    async def _start_devices(self) -> None:
        self.supervisor.start()
        for address in self.config.devices:
            self.supervisor.watch(address)

    async def _start_ready(self) -> None:
        if self.panic.is_set:
            self._panic_switch.say("panic is set")
        # What is loaded now stays: a full collection would keep the loop for tens of milliseconds.
        gc.collect()
        gc.freeze()
        self._wall_clock.start()
        self._ready = True
        _notify("READY=1\nSTATUS=streaming")
        log.info(
            "phantomd %s: eeg on %s:%d, control at %s",
            __version__,
            self.config.streams.host,
            self._eeg.port,
            self.control_path,
        )

    async def _stop_ready(self) -> None:
        self._wall_clock.stop()
        self._ready = False
        _notify("STOPPING=1")
        gc.unfreeze()

    # -- streaming ---------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        time_ns = now_ns()
        self.publisher.publish(time_ns)
        for part in self.parts:
            part.on_tick(time_ns)
            self.ports.flush()
        # Windows and events wake the loop by themselves.
        enough = self.engine.slots[0].grid.next + FRAMES_A_TURN
        self._eeg.loop_from(min(enough, self.stages.oracle.next_frame))

    def say(
        self, stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False
    ) -> None:
        """A message of a stage behind the tick."""
        target = self.ports.streams[stream]
        assert isinstance(target, Messages)
        target.publish_data(t_ns, data, late)

    def emit(self, event: Event) -> None:
        """A line on ``events``, from anybody but the tick."""
        self._journals.note(event)
        self._emit(event)

    def _emit(self, event: Event) -> None:
        if event.kind == "device" and event.state in ("stalled", "streaming"):
            self.supervisor.mark(event.device_id, event.state)
        self._events.publish_data(event.fields.get("t_ns", now_ns()), event.data())

    def _layout_changed(self, slot: Slot) -> None:
        for part in self.parts:
            part.layout_changed(slot)

    def _spikes_changed(self, device_id: str, device: MakesSpikes | None) -> None:
        if device is None:
            self.spikes.datasets.drop_live(device_id)
            return
        n_units = len(device.spec.labels)
        source = LiveSource(f"{LIVE}{device_id}", device.ring, n_units, device.bin_ms)
        self.spikes.datasets.add_live(device_id, source)

    def _wall_clock_stepped(self, old_ns: int, new_ns: int) -> None:
        self.ports.tell_clock(new_ns)
        step_s = (new_ns - old_ns) * 1e-9
        self.emit(
            Event(
                "clock",
                "warning",
                f"the host's clock was stepped by {step_s:+.3f} s, or the host slept; t_ns goes on",
                fields={"wall_offset_ns": new_ns, "step_s": step_s},
            )
        )

    # -- what control asks -------------------------------------------------------------------------

    def hello(self) -> Hello:
        return Hello(
            f"phantomd/{__version__}",
            PROTOCOL,
            self.engine.slots[0].epoch.hex,
            self._eeg.newest_ns,
            wall_offset_ns(),
            self.ports.numbers(),
        )

    def status(self) -> Status:
        return Status(
            ready=self._ready,
            degraded=[
                *self._degraded,
                *self.engine.degraded(),
                *self._eeg.degraded(),
                *self.spikes.degraded(),
                *self.stages.oracle.degraded(),
            ],
            devices=self.supervisor.infos(),
            streams=self.ports.status(),
            sessions=len(self.spikes.sessions),
            recording=str(self.recorder.path) if self.recorder.path else None,
            panic=self.panic.is_set,
            uptime_s=uptime_s(self._started_ns),
            detail={
                "panic_reason": self.panic.reason,
                "journal": self._journals.status(),
                "oracle": self.stages.oracle.status(),
                "recording": self.recorder.status(),
                "heartbeats": self.engine.core.beats,
                "heartbeats_skipped": self.engine.core.beats_skipped,
                "slow_callbacks": dict(self.engine.ledger.slow_callbacks),
            },
        )

    def ledger(self, window: str | None) -> dict[str, StageStats]:
        ledger = self.engine.ledger
        return ledger.snapshot() if window is None else ledger.window(window)

    def show_config(self) -> dict[str, Any]:
        return flat(self.config)

    async def reload_config(self) -> dict[str, Any]:
        """Reads the file again; what can change in a running daemon does, the rest is named."""
        new = load(self._config_path, self._settings)
        check_configured(new.devices, new.montage.labels)
        async with self._reloading:
            changed = changes(self.config, new)
            live = [key for key in changed if reloadable(key)]
            if live:
                async with self.recorder.changing:
                    await self._renewals.take(reloaded(self.config, new), self._settings_change)
                said = f"new settings: {', '.join(live)}"
                self.emit(Event("session", "info", said, fields={"changed": live}))
        restart = [key for key in changed if key not in live]
        return {"changed": live, "needs_restart": restart}

    def _settings_change(self, config: Config) -> None:
        self.recorder.settings_change()
        self.config = config
        self._features.rate_hz = 1 / config.window.step_s

    async def scan(self) -> list[dict[str, Any]]:
        return await beside(scan, self.supervisor.infos())

    def put_marker(
        self, label: str, t_ns: int | None, payload: dict[str, Any] | None
    ) -> dict[str, int]:
        marker = Marker(now_ns() if t_ns is None else t_ns, "ui", label, payload)
        self.markers.put(marker)
        return {"t_ns": marker.t_ns}

    def set_panic(self, is_set: bool, reason: str) -> asyncio.Future[None]:
        """Setting takes effect now, clearing when it is on the disk and nobody has set it since.
        The future fails with StateUnusable."""
        return self._panic_switch.change(is_set, reason)

    async def journal_start(self, path: str | None) -> dict[str, str]:
        return await self._journals.start(path)

    async def journal_stop(self) -> dict[str, Any]:
        return await self._journals.stop()


_KINDS = ("device", "gap", "tick", "panic", "alert", "session", "clock")


async def _nothing() -> None:
    pass


def _control_path(config: Config) -> Path:
    return Path(config.daemon.control) if config.daemon.control else control_paths()[0]


def _group(name: str) -> str | None:
    """The group, where the system has it: a user's own daemon needs none."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return None
    return name


def _notify(message: str) -> None:
    """sd_notify(3): tells the service manager, where there is one."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message.encode(), "\0" + where[1:] if where.startswith("@") else where)


__all__ = ["Daemon", "PhantomError"]
