"""The living daemon over a long time: CPU, memory, lateness, losses; at last a verdict.

`python -m benches.soak --hours 24` (or `--seconds 60`). It fails when memory grows by over 5 MB
after the first tenth, a frame is missing at a subscriber, or the grid falls behind the clock.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time

from benches.live import LiveDaemon, daemon
from phantomd.client import connect

GROWTH_MB = 5.0


class Watcher(threading.Thread):
    """A subscriber that looks at every index and instant."""

    def __init__(self, base_port: int) -> None:
        super().__init__(daemon=True)
        self.base_port = base_port
        self.frames = self.lost = self.crooked = self.late = self.missing = 0

    def run(self) -> None:
        before = None
        with connect("eeg", base_port=self.base_port) as eeg:
            for frame in eeg:
                self.frames += 1
                self.lost += frame.lost
                self.late += bool(frame.flags & 2)
                self.missing += bool(frame.flags & 1)
                if before is not None:
                    steps = frame.index - before.index
                    self.crooked += frame.t_ns - before.t_ns != steps * 7_812_500
                before = frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--device", default="simulator:?drop=0.001")
    options = parser.parse_args()
    seconds = options.hours * 3600 + options.seconds or 60.0
    started_s = time.monotonic()
    with daemon("--device", options.device) as live:
        with connect("eeg", base_port=live.base_port) as eeg:
            next(iter(eeg))
        print(f"first frame {time.monotonic() - started_s:.2f} s after the start")
        sys.exit(soak(live, seconds))


def soak(live: LiveDaemon, seconds: float) -> int:
    watcher = Watcher(live.base_port)
    watcher.start()
    every_s = min(60.0, seconds / 10)
    start_s, cpu_s = time.monotonic(), live.cpu_s()
    rss: list[float] = []
    for number in itertools.count(1):
        time.sleep(max(0.0, start_s + number * every_s - time.monotonic()))
        passed_s = time.monotonic() - start_s
        rss.append(live.rss_mb())
        ledger = live.call("ledger")
        print(
            f"{passed_s:8.0f} s  CPU {100 * (live.cpu_s() - cpu_s) / passed_s:4.1f} %  "
            f"RSS {rss[-1]:5.1f} MB  frames {watcher.frames} lost {watcher.lost} "
            f"late {watcher.late} missing {watcher.missing}  "
            f"tick p99.9 {ledger['tick']['p999_us']:.0f} µs max {ledger['tick']['max_us']:.0f} µs",
            flush=True,
        )
        if passed_s >= seconds:
            break
    growth_mb = rss[-1] - rss[len(rss) // 10]
    behind = 128 * passed_s - watcher.frames
    bad = growth_mb > GROWTH_MB or watcher.lost or watcher.crooked or behind > 128
    print(
        f"{'FAILED' if bad else 'passed'}: memory grew by {growth_mb:.1f} MB, "
        f"{watcher.lost} frames lost at the subscriber, {watcher.crooked} instants off the grid, "
        f"{behind:.0f} behind"
    )
    return int(bad)


if __name__ == "__main__":
    main()
