"""A network namespace behind a bad line: each packet comes late, some never. Needs root, iproute2.

The line is a relay between two veth pairs (in a namespace of its own, without addresses), so that
it needs no traffic control of the kernel and does the same each time.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

NEAR, FAR = "10.213.7.1", "10.213.7.2"
_SIOCETHTOOL = 0x8946
#: TX checksums, segmentation offloads: the relay must see packets as they would be on a wire.
_OFF = (0x17, 0x1F, 0x24)


def why_not() -> str:
    """Why there can't be one here; "" when there can."""
    if os.getuid() != 0:
        return "not root"
    if not shutil.which("ip"):
        return "no iproute2"
    done = subprocess.run(["ip", "netns", "add", "pdtry"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "pdtry"], capture_output=True)
    return f"no network namespaces: {done.stderr.strip()}" if done.returncode else ""


@contextlib.contextmanager
def bad_network(delay_s: float, jitter_s: float, loss: float, seed: int = 1) -> Iterator[str]:
    """Gives the name of the far namespace: what runs in it is at FAR, we are at NEAR. Delay each
    way; every packet keeps its place."""
    tag = f"pd{os.getpid() % 100_000}"
    far, middle = f"{tag}f", f"{tag}m"
    names = {end: f"{tag}{end}" for end in ("a0", "a1", "b0", "b1")}

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    relay = None
    try:
        for space in (far, middle):
            ip("netns", "add", space)
        for one, other in (("a0", "a1"), ("b0", "b1")):
            ip("link", "add", names[one], "type", "veth", "peer", "name", names[other])
        for name in names.values():
            _plain(name)
        ip("link", "set", names["a0"], "netns", far)
        for end in ("a1", "b1"):
            ip("link", "set", names[end], "netns", middle)
            ip("-n", middle, "link", "set", names[end], "up")
        ip("-n", far, "addr", "add", f"{FAR}/24", "dev", names["a0"])
        ip("-n", far, "link", "set", names["a0"], "up")
        ip("-n", far, "link", "set", "lo", "up")
        ip("addr", "add", f"{NEAR}/24", "dev", names["b0"])
        ip("link", "set", names["b0"], "up")
        relay = subprocess.Popen(
            [
                *("ip", "netns", "exec", middle, sys.executable, __file__),
                *(names["a1"], names["b1"], str(delay_s), str(jitter_s), str(loss), str(seed)),
            ],
            stdout=subprocess.PIPE,
        )
        assert relay.stdout is not None and relay.stdout.readline() == b"relaying\n"
        yield far
    finally:
        if relay is not None:
            relay.kill()
            relay.communicate()
        for name in (names["a0"], names["b0"]):
            subprocess.run(["ip", "link", "del", name], capture_output=True)
        for space in (far, middle):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


def _plain(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _OFF:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, _SIOCETHTOOL, request)


def _relay(one: str, other: str, delay_s: float, jitter_s: float, loss: float, seed: int) -> None:
    draw = random.Random(seed)
    ends = []
    for name in (one, other):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((name, 0))
        ends.append(sock)
    waiting: list[tuple[float, int, int, bytes]] = []
    newest_s = [0.0, 0.0]
    print("relaying", flush=True)
    for number in range(sys.maxsize):
        left_s = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
        for sock in select.select(ends, [], [], left_s)[0]:
            data, address = sock.recvfrom(65536)
            side = ends.index(sock)
            if address[2] == socket.PACKET_OUTGOING or draw.random() < loss:
                continue
            due_s = time.monotonic() + delay_s + jitter_s * draw.random()
            newest_s[side] = due_s = max(due_s, newest_s[side])
            heapq.heappush(waiting, (due_s, number, 1 - side, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, side, data = heapq.heappop(waiting)
            ends[side].send(data)


if __name__ == "__main__":
    _relay(sys.argv[1], sys.argv[2], *(float(each) for each in sys.argv[3:6]), int(sys.argv[6]))
