"""What we add to liblsl's loopback, and how right the times are: an outlet, and two who listen.

    python -m benches.lsl_loopback [--seconds 20] [--markdown]

One outlet pushes 250 samples a second. A bare inlet in a process of its own pulls them one by one:
liblsl's own latency, push to pull. The same samples come through our driver: push to native ring
(what the tick takes), and the stamps that our clock is taught with. And the other way: frames of a
daemon's eeg outlet, from the instant at which the frame was due until it is pulled, beside the same
frame on port 7069.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from benches.live import daemon
from phantomd.client import connect
from phantomd.contracts import MONTAGE
from phantomd.core.intake import NATIVE_HEAD_WORDS, Pump
from phantomd.devices.base import Address
from phantomd.devices.registry import opener

CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -2\n"
NAME = "phantomd-bench"
RATE_HZ = 250.0
LOOK_S = 0.0001


def _outlet(ends: Connection, seconds: float) -> None:
    """When each sample was to be pushed, and when it was: [2, n]."""
    import pylsl
    from pylsl.util import set_config_content

    set_config_content(CONFIG)
    info = pylsl.StreamInfo(NAME, "EEG", 1, RATE_HZ, "double64", NAME)
    outlet = pylsl.StreamOutlet(info, 1)
    ends.send("there")
    ends.recv()
    pushed = np.zeros(round(seconds * RATE_HZ))
    start_s = time.monotonic()
    due_s = start_s + np.arange(len(pushed)) / RATE_HZ
    for n in range(len(pushed)):
        time.sleep(max(0.0, start_s + n / RATE_HZ - time.monotonic()))
        pushed[n] = time.monotonic()
        outlet.push_sample([float(n)])
    ends.send(np.array([due_s, pushed]))
    ends.recv()


def _inlet(ends: Connection, name: str, n: int, index_of: str) -> None:
    """Times of n samples, by their value or by their stamp."""
    import pylsl
    from pylsl.util import set_config_content

    set_config_content(CONFIG)
    inlet = pylsl.StreamInlet(pylsl.resolve_byprop("name", name, 1, 20.0)[0], recover=False)
    inlet.open_stream(20.0)
    ends.send("there")
    keys, pulled = np.zeros(n), np.zeros(n)
    for at in range(n):
        sample, stamp_s = inlet.pull_sample(10.0)
        pulled[at] = time.monotonic()
        keys[at] = sample[0] if index_of == "value" else stamp_s
    ends.send((keys, pulled))


def _process(target: object, *arguments: object) -> tuple[Connection, multiprocessing.Process]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)  # type: ignore[arg-type]
    process.start()
    return mine, process  # type: ignore[return-value]


def inwards(seconds: float) -> dict[str, NDArray[np.float64]]:
    """Latencies in ms, by what they are of."""
    n = round(seconds * RATE_HZ)
    outlet, outlet_process = _process(_outlet, seconds)
    outlet.recv()
    bare, bare_process = _process(_inlet, NAME, n, "value")
    address = Address.parse(f"lsl:name={NAME}")
    device = opener(address)(address, MONTAGE)
    pump = Pump(device.driver, device.fd)
    try:
        device.start()
        bare.recv()
        outlet.send("go")
        seen, last = [], 0
        until_s = time.monotonic() + seconds + 5.0
        while last < n and time.monotonic() < until_s:
            newest = device.driver.intake.next
            if newest != last:
                seen.append((time.monotonic(), newest))
                last = newest
            time.sleep(LOOK_S)
        _, pushed = outlet.recv()
        _, pulled = bare.recv()
        outlet.send("enough")
        ring = device.driver.intake.ring
        rows = np.array([ring.read(index) for index in range(last)])
    finally:
        pump.stop()
        device.close()
        for process in (outlet_process, bare_process):
            process.terminate()
            process.join()
    number = rows[:, NATIVE_HEAD_WORDS].view(np.float64).astype(int)
    arrival_s = rows[:, 0].astype(np.int64) * 1e-9
    times, indices = np.array(seen).T
    ring_s = times[np.minimum(np.searchsorted(indices, np.arange(last) + 1), len(times) - 1)]
    return {
        "liblsl: push to pull": (pulled - pushed) * 1e3,
        "phantomd: push to native ring": (ring_s - pushed[number]) * 1e3,
        "phantomd: push to the stamp that the clock is taught with": (arrival_s - pushed[number])
        * 1e3,
    }


def outwards(seconds: float) -> dict[str, NDArray[np.float64]]:
    n = round(seconds * 128)
    with daemon("--set", 'lsl.publish=["eeg"]', "--set", f"lsl.name={NAME}") as live:
        ours: dict[int, tuple[float, float]] = {}
        port = live.call("hello")["ports"]["eeg"]
        ready = threading.Event()

        def subscribe() -> None:
            with connect("eeg", port=port) as frames:
                ready.set()
                for frame in frames:
                    now_s = time.monotonic()
                    ours[frame.t_ns // 1000] = (now_s, frame.t_ns * 1e-9)

        threading.Thread(target=subscribe, daemon=True).start()
        ready.wait()
        inlet, process = _process(_inlet, f"{NAME} eeg", n, "stamp")
        inlet.recv()
        stamps, pulled = inlet.recv()
        process.join()
        both = [
            (pull_s - ours[key][0], ours[key][0] - ours[key][1])
            for stamp_s, pull_s in zip(stamps, pulled, strict=True)
            if (key := _near(ours, round(stamp_s * 1e6))) is not None
        ]
    after, age = np.array(both).T
    return {
        "7069: the frame's instant to its arrival at a client": age * 1e3,
        "LSL out: after the same frame on 7069": after * 1e3,
    }


def _near(ours: dict[int, tuple[float, float]], key: int) -> int | None:
    """A float64 of seconds keeps microseconds, give or take one."""
    return next((k for k in (key, key - 1, key + 1) if k in ours), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if arguments.markdown:
        print("| | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|")
    for name, ms in (inwards(arguments.seconds) | outwards(arguments.seconds)).items():
        p50, p99, p999 = np.percentile(ms, (50, 99, 99.9))
        if arguments.markdown:
            print(f"| {name} | {p50:.2f} | {p99:.2f} | {p999:.2f} |")
        else:
            print(f"{name:60} {p50:7.2f} {p99:7.2f} {p999:7.2f}")


if __name__ == "__main__":
    main()
