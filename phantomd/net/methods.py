"""What the control socket can be asked: parameters, and who answers."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from phantomd.contracts import DeviceInfo, Hello, StageStats, Status
from phantomd.net.rpc import Method, NoParams

Text = Annotated[str, Meta(max_length=4096)]


class Devices(Protocol):
    """What answers for the devices (engine/supervisor.py)."""

    async def open(self, text: str) -> str: ...
    async def close(self, device_id: str) -> None: ...
    def fault(
        self, device_id: str, kind: str, duration_s: float | None, args: dict[str, Any]
    ) -> None: ...
    async def impedance(
        self, device_id: str, channels: list[str] | None
    ) -> dict[str, float | None]: ...
    def infos(self) -> list[DeviceInfo]: ...


class Asked(Protocol):
    """What answers for everything else (daemon.py)."""

    @property
    def supervisor(self) -> Devices: ...
    def hello(self) -> Hello: ...
    def status(self) -> Status: ...
    def ledger(self, window: str | None) -> dict[str, StageStats]: ...
    def show_config(self) -> dict[str, Any]: ...
    async def reload_config(self) -> dict[str, Any]: ...
    async def scan(self) -> list[dict[str, Any]]: ...
    def set_panic(self, is_set: bool, reason: str) -> asyncio.Future[None]: ...
    def put_marker(
        self, label: str, t_ns: int | None, payload: dict[str, Any] | None
    ) -> dict[str, int]: ...
    async def journal_start(self, path: str | None) -> dict[str, str]: ...
    async def journal_stop(self) -> dict[str, Any]: ...


class HelloParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    client: Text = ""
    protocol: int = 1


class LedgerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    window: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class AddressParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: Text


class DeviceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_id: Text


class ImpedanceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_id: Text
    channels: list[Text] | None = None


class FaultParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_id: Text
    kind: Text
    duration_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    args: dict[str, Any] = {}


class PanicSetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Text = ""


class PanicClearParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=4096)]


class MarkerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    label: Annotated[str, Meta(min_length=1, max_length=256)]
    t_ns: int | None = None
    payload: dict[str, Any] | None = None


class JournalParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Text | None = None


def methods(daemon: Asked) -> dict[str, Method]:
    """Every method of this daemon, by name."""

    def hello(_: HelloParams) -> Hello:
        return daemon.hello()

    def status(_: NoParams) -> Status:
        return daemon.status()

    def ledger(params: LedgerParams) -> dict[str, StageStats]:
        return daemon.ledger(params.window)

    async def device_open(params: AddressParams) -> dict[str, str]:
        return {"device_id": await daemon.supervisor.open(params.address)}

    async def device_close(params: DeviceParams) -> dict[str, str]:
        await daemon.supervisor.close(params.device_id)
        return {"device_id": params.device_id}

    def device_fault(params: FaultParams) -> dict[str, str]:
        daemon.supervisor.fault(params.device_id, params.kind, params.duration_s, params.args)
        return {"device_id": params.device_id}

    async def device_impedance(params: ImpedanceParams) -> dict[str, float | None]:
        return await daemon.supervisor.impedance(params.device_id, params.channels)

    async def panic_set(params: PanicSetParams) -> dict[str, bool]:
        await asyncio.shield(daemon.set_panic(True, params.reason))
        return {"panic": daemon.status().panic}

    async def panic_clear(params: PanicClearParams) -> dict[str, bool]:
        await asyncio.shield(daemon.set_panic(False, params.reason))
        return {"panic": daemon.status().panic}

    def marker_put(params: MarkerParams) -> dict[str, int]:
        return daemon.put_marker(params.label, params.t_ns, params.payload)

    async def device_scan(_: NoParams) -> list[dict[str, Any]]:
        return await daemon.scan()

    async def journal_start(params: JournalParams) -> dict[str, str]:
        return await daemon.journal_start(params.path)

    async def config_reload(_: NoParams) -> dict[str, Any]:
        return await daemon.reload_config()

    async def journal_stop(_: NoParams) -> dict[str, Any]:
        return await daemon.journal_stop()

    return {
        "hello": Method(HelloParams, hello, "who answers, and where the streams are"),
        "status": Method(NoParams, status, "devices, streams, what is degraded"),
        "ledger": Method(LedgerParams, ledger, "deadlines, a histogram a stage"),
        "config.show": Method(NoParams, lambda _: daemon.show_config(), "effective configuration"),
        "config.reload": Method(NoParams, config_reload, "read the file again"),
        "device.list": Method(NoParams, lambda _: daemon.supervisor.infos(), "what is open"),
        "device.scan": Method(NoParams, device_scan, "what could be opened"),
        "device.open": Method(AddressParams, device_open, "open an address"),
        "device.close": Method(DeviceParams, device_close, "close a device"),
        "device.fault": Method(FaultParams, device_fault, "play a fault (simulator)"),
        "device.impedance": Method(ImpedanceParams, device_impedance, "kilo-ohm a channel"),
        "panic.set": Method(PanicSetParams, panic_set, "nothing acts from now on"),
        "panic.clear": Method(PanicClearParams, panic_clear, "a person takes panic back"),
        "marker.put": Method(MarkerParams, marker_put, "say what happened"),
        "journal.start": Method(JournalParams, journal_start, "write an intake journal"),
        "journal.stop": Method(NoParams, journal_stop, "close it"),
    }


def uptime_s(since_ns: int) -> float:
    return round((time.monotonic_ns() - since_ns) / 1e9, 3)
