"""The daemon's own command: ``phantomd [--config FILE] [--set key=value …] [--device ADDRESS]``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

# Before NumPy is loaded: the daemon is to have no threads that it did not make itself.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from phantomd import __version__  # noqa: E402
from phantomd.config import describe_error, flat, load  # noqa: E402
from phantomd.daemon import Daemon  # noqa: E402
from phantomd.devices.registry import check_configured  # noqa: E402
from phantomd.errors import PhantomError  # noqa: E402
from phantomd.oracle.propagators import load_propagators  # noqa: E402

log = logging.getLogger("phantomd")


def main(arguments: list[str] | None = None) -> None:
    """Runs the daemon; leaves with the exit status of docs/wire.md."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s"
        if _under_systemd()
        else "%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    try:
        settings = _settings(options)
        config = load(options.config, settings)
        if options.check:
            check_configured(config.devices, config.montage.labels)
            load_propagators(config.oracle.propagators)
            for key, value in flat(config).items():
                print(f"{key} = {value!r}")
            return
        control = Path(options.control) if options.control else None
        daemon = Daemon(config, config_path=options.config, settings=settings, control_path=control)
        _run(daemon)
    except PhantomError as error:
        print(f"phantomd: {describe_error(error)}", file=sys.stderr)
        sys.exit(error.exit_status)


def _run(daemon: Daemon) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(daemon))


async def _serve(daemon: Daemon) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(daemon))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await daemon.start()
    await stop.wait()
    log.info("stopping")
    await daemon.stop()


async def _reload(daemon: Daemon) -> None:
    try:
        log.info("configuration read again: %s", await daemon.reload_config())
    except PhantomError as error:
        log.error("the old configuration stays: %s", error)


def _settings(options: argparse.Namespace) -> tuple[str, ...]:
    settings = list(options.set)
    if options.device:
        quoted = ", ".join(_toml_string(address) for address in options.device)
        settings.append(f"devices=[{quoted}]")
    if options.base_port is not None:
        settings.append(f"streams.base_port={options.base_port}")
    if options.state:
        settings.append(f"daemon.state={_toml_string(options.state)}")
    return tuple(settings)


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _under_systemd() -> bool:
    return "JOURNAL_STREAM" in os.environ


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phantomd",
        description="Acquisition daemon for brain signals. With no options: the simulator, streams "
        "on 127.0.0.1 from port 7069 on. Research tooling, no medical device.",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="one setting (repeatable)"
    )
    parser.add_argument(
        "--device",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="for example cyton:/dev/ttyUSB0 (repeatable; the first is the one on 7069)",
    )
    parser.add_argument(
        "--base-port", metavar="N", type=int, help="shifts every port: 7068 becomes N"
    )
    parser.add_argument("--state", metavar="DIR", help="what is kept (default ~/.bci)")
    parser.add_argument("--control", metavar="PATH", help="control socket")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--version", action="version", version=f"phantomd {__version__}")
    return parser


if __name__ == "__main__":
    main()
