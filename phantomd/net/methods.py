"""What the control socket can be asked: parameters, and who answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.contracts import Hello, StageStats, Status
from phantomd.errors import DeviceError, UnknownDevice
from phantomd.net.rpc import Method, NoParams

if TYPE_CHECKING:
    from phantomd.daemon import Daemon

Text = Annotated[str, Meta(max_length=4096)]


class HelloParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    client: Text = ""
    protocol: int = 1


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


class JournalParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Text | None = None


def methods(daemon: Daemon) -> dict[str, Method]:
    """Every method of this daemon, by name."""

    def hello(_: HelloParams) -> Hello:
        return daemon.hello()

    def status(_: NoParams) -> Status:
        return daemon.status()

    def ledger(_: NoParams) -> dict[str, StageStats]:
        return daemon.ledger()

    async def device_open(params: AddressParams) -> dict[str, str]:
        return {"device_id": await daemon.supervisor.open(params.address)}

    async def device_close(params: DeviceParams) -> dict[str, str]:
        await daemon.supervisor.close(params.device_id)
        return {"device_id": params.device_id}

    def device_fault(params: FaultParams) -> dict[str, str]:
        daemon.supervisor.fault(params.device_id, params.kind, params.duration_s, params.args)
        return {"device_id": params.device_id}

    def device_impedance(params: ImpedanceParams) -> dict[str, float]:
        if params.device_id not in {one.device_id for one in daemon.supervisor.infos()}:
            raise UnknownDevice(f"no device {params.device_id!r}", hint="phantomctl device list")
        raise DeviceError(
            f"{params.device_id} can't measure impedance in this version",
            hint="the Cyton's lead-off measurement comes with its Daisy support",
        )

    def panic_set(params: PanicSetParams) -> dict[str, bool]:
        daemon.set_panic(True, params.reason)
        return {"panic": True}

    def panic_clear(params: PanicClearParams) -> dict[str, bool]:
        daemon.set_panic(False, params.reason)
        return {"panic": False}

    return {
        "hello": Method(HelloParams, hello, "who answers, and where the streams are"),
        "status": Method(NoParams, status, "devices, streams, what is degraded"),
        "ledger": Method(NoParams, ledger, "deadlines, a histogram a stage"),
        "config.show": Method(NoParams, lambda _: daemon.show_config(), "effective configuration"),
        "config.reload": Method(NoParams, lambda _: daemon.reload_config(), "read the file again"),
        "device.list": Method(NoParams, lambda _: daemon.supervisor.infos(), "what is open"),
        "device.scan": Method(NoParams, lambda _: daemon.scan(), "what could be opened"),
        "device.open": Method(AddressParams, device_open, "open an address"),
        "device.close": Method(DeviceParams, device_close, "close a device"),
        "device.fault": Method(FaultParams, device_fault, "play a fault (simulator)"),
        "device.impedance": Method(ImpedanceParams, device_impedance, "kilo-ohm a channel"),
        "panic.set": Method(PanicSetParams, panic_set, "nothing acts from now on"),
        "panic.clear": Method(PanicClearParams, panic_clear, "a person takes panic back"),
        "journal.start": Method(
            JournalParams,
            lambda params: daemon.journal_start(params.path),
            "write an intake journal",
        ),
        "journal.stop": Method(NoParams, lambda _: daemon.journal_stop(), "close it"),
    }


def uptime_s(since_ns: int) -> float:
    return round((time.monotonic_ns() - since_ns) / 1e9, 3)
