"""Damaged files: a reader gives a recording or one of its named errors, in bounded memory."""

import tracemalloc

import made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phantomd.errors import RecordingError
from phantomd.formats.registry import open_recording

#: What a reader may take for files of some kilobytes, whatever they announce.
MOST_BYTES = 24 << 20
FIRST = 4096

SEEDS = {
    "x.edf": made.edf(made.signal(40), onsets=[0, 0.1, 0.5, 0.7], texts={1: [(0.1, 0, "x")]}),
    "x.bdf": made.edf(made.signal(40), bits=24, labels=("Fp1", "Fp2", "Status")),
    "x.xdf": made.xdf(np.ones((50, 2), np.float32), np.arange(50) / 100, events=[(0.1, "go")]),
    "x.csv": made.csv(made.signal(60, 2)).encode(),
    "x.txt": made.openbci(made.signal(40, 8), lost=(7, 8)).encode(),
}

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "digit"]),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes) -> bytes:
    out = bytearray(data)
    for what, where, new in changes:
        at = where % (len(out) or 1)
        if what == "flip":
            out[at : at + len(new)] = new
        elif what == "cut":
            del out[at : at + (new[0] if len(new) > 1 else len(out))]
        elif what == "insert":
            out[at:at] = new
        elif what == "repeat":
            out[at:at] = out[at : at + 64]
        else:  # a number of the header becomes another
            places = [k for k, byte in enumerate(out[:FIRST]) if 48 <= byte < 58]
            if places:
                out[places[where % len(places)]] = 48 + new[0] % 10
    return bytes(out)


def read_all(path) -> None:
    """As a device would: blocks of the timeline, gaps, markers."""
    recording = open_recording(path)
    first = max(0, recording.n_samples - FIRST)
    for begin in (0, first):
        block = recording.read(begin, min(FIRST, recording.n_samples - begin))
        assert block.shape[1] == len(recording.channels)
    assert recording.rate_hz > 0 and recording.duration_s >= 0
    assert all(gap.count > 0 for gap in recording.gaps)
    assert all(marker.label is not None for marker in recording.markers)


@pytest.mark.parametrize("name", list(SEEDS))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=edits)
def test_a_damaged_file_is_read_or_refused(tmp_path, name, changes):
    path = tmp_path / name
    path.write_bytes(mutate(SEEDS[name], changes))
    tracemalloc.start()
    try:
        read_all(path)
    except RecordingError as error:
        assert error.hint
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_BYTES


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=edits, which=st.sampled_from(["made.vhdr", "made.vmrk", "made.eeg"]))
def test_a_damaged_brainvision_file_is_read_or_refused(tmp_path, changes, which):
    path = made.brainvision(tmp_path, made.signal(50))
    damaged = tmp_path / which
    damaged.write_bytes(mutate(damaged.read_bytes(), changes))
    try:
        read_all(path)
    except RecordingError as error:
        assert error.hint
    except FileNotFoundError as error:
        assert which == "made.vhdr", error  # it names another data file


@pytest.mark.parametrize("extension", ["edf", "bdf", "xdf", "vhdr", "csv", "txt", ""])
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=600))
def test_any_bytes_are_refused_or_read(tmp_path, extension, data):
    path = tmp_path / f"x.{extension}"
    path.write_bytes(data)
    try:
        read_all(path)
    except RecordingError as error:
        assert error.hint
    except FileNotFoundError:
        assert extension == "vhdr"
