"""An LSL outlet in a process of its own: ``python outlet.py '{"name": …}'``; it says JSON lines.

With ``seconds`` all samples are pushed at once when a line comes in, stamped as if they had been
taken so long ago and since; else they are pushed as time passes. Markers: as lines come in.
"""

import json
import sys
import time

import numpy as np
import pylsl
from pylsl.util import set_config_content

CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -2\n"


def say(**fields):
    print(json.dumps(fields), flush=True)


def make(how):
    set_config_content(CONFIG)
    labels = how.get("labels", [])
    info = pylsl.StreamInfo(
        how["name"],
        how.get("type", "EEG"),
        len(labels) or 1,
        how.get("rate_hz", 250.0) if labels else 0.0,
        "float32" if labels else "string",
        how.get("source_id", ""),
    )
    if labels:
        info.set_channel_labels(labels)
        info.set_channel_units(how.get("unit", "microvolts"))
    return pylsl.StreamOutlet(info, 1, 360)


def steady(outlet, how):
    """Sample n is n on each channel, pushed when it is taken."""
    n, start_s = 0, time.monotonic()
    while True:
        time.sleep(max(0.0, start_s + n / 250 - time.monotonic()))
        outlet.push_sample([float(n)] * len(how["labels"]))
        n += 1


def fast(outlet, how):
    """Stamps of push time: taken + uniform jitter; the device is fast by ``ppm``; and some of its
    samples are lost."""
    sys.stdin.readline()
    rate_hz = how["rate_hz"] * (1 + how["ppm"] * 1e-6)
    start_s = pylsl.local_clock() - how["seconds"] - 1.0
    jitter_s = np.random.default_rng(5).uniform(0, how["jitter_ms"] * 1e-3, 10**6)
    first, lost = how["lose"]
    end = round(how["seconds"] * rate_hz)
    for n in range(end):
        if not first <= n < first + lost:
            flush = n % 50 == 0 or n == end - 1
            outlet.push_sample([float(n)], start_s + n / rate_hz + jitter_s[n], flush)
    say(start_s=start_s, rate_hz=rate_hz)
    sys.stdin.readline()


def marked(outlet, how):
    for line in sys.stdin:
        t_s = pylsl.local_clock()
        outlet.push_sample([line.strip()], t_s)
        say(t_s=t_s)


def main():
    how = json.loads(sys.argv[1])
    outlet = make(how)
    say(clock_s=pylsl.local_clock(), monotonic_ns=time.monotonic_ns())
    run = fast if "seconds" in how else steady if "labels" in how else marked
    run(outlet, how)


if __name__ == "__main__":
    main()
