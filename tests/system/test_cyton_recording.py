"""A real recording as Cyton bytes through a pseudo terminal: the same signal comes out on 7069."""

import numpy as np
import pytest
from patience import Pace

from benches.recording import NAME, compare, play

#: The short form: `python -m benches.recording` plays all of it.
SECONDS = 20.0
#: The emulator is a process like any other: a host that keeps it waiting for a second makes real
#: losses, of more packets than their counter can tell. Such a take shows nothing.
TAKES = 3
#: A timestamp that is off by no more is as the clock makes it on a host with nothing else to do.
CALM_US = 100.0


@pytest.mark.realdata
def test_a_recording_played_as_a_cyton_comes_out_as_the_same_signal(data_dir):
    for _ in range(TAKES):
        with Pace() as pace:
            played = play(data_dir / NAME, SECONDS)
        result = compare(data_dir / NAME, *played)
        if result.n_missing_inside < 0.02 * result.n_frames:
            break
    calm = result.calm_error_percent(CALM_US).max()
    print(
        f"\nsignal {result.signal_error_percent.max():.3f} % RMS ({calm:.3f} % where the host was "
        f"calm), with one offset of time for all "
        f"{result.error_percent.max():.3f} %; timestamps {result.drift_us.min():.0f} to "
        f"{result.drift_us.max():.0f} µs after the true instant; {result.n_missing_inside} of "
        f"{result.n_frames + result.n_missing_inside} frames missing"
    )
    assert result.n_frames + result.n_missing_inside > 128 * (SECONDS - 1)
    assert result.n_missing_inside < 0.02 * result.n_frames
    assert abs(result.drift_us).max() < 1000 + pace.late_s * 1e6
    assert calm <= 0.1
    assert (np.abs(result.moved_us) < CALM_US).sum() > 256, "too little to judge by"
    # With one offset of time for all, each microsecond by which a busy host moves a timestamp
    # shows in the 60 Hz: 2.7 µs are 0.1 %. No more than their movement may be left.
    moved_us = np.ptp(result.moved_us)
    assert result.error_percent.max() <= 0.1 + moved_us * 0.1 / 2.7
