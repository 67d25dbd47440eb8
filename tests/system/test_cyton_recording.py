"""A real recording as Cyton bytes through a pseudo terminal: the same signal comes out on 7069."""

import pytest

from benches.recording import NAME, compare, play

SECONDS = 89.0


@pytest.mark.realdata
@pytest.mark.timeout(180)
def test_a_recording_played_as_a_cyton_comes_out_as_the_same_signal(data_dir):
    file = data_dir / NAME
    result = compare(file, *play(file, SECONDS))
    print(
        f"\n{result.error_percent.max():.3f} % RMS, timestamps {result.drift_us.max():.0f} µs late"
    )
    assert result.n_frames > 128 * (SECONDS - 1)
    assert result.n_missing_inside == 0
    assert abs(result.drift_us).max() < 1000
    assert result.error_percent.max() <= 0.1
