"""Real spikes: the numbers of the data's README, offline and through the port."""

import pytest

from benches.decoder_accuracy import accuracy
from phantomd.gauntlet.importing import import_file

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def recording(data_dir):
    path = data_dir / "spikes_centerout" / "center_out_data.mat"
    if not path.is_file():
        pytest.skip(f"no recording: {path} is missing")
    return import_file(path)


def test_ridge_on_one_bin_is_the_reference_s_and_the_port_changes_no_answer(recording):
    found = accuracy(recording, "ridge-1", 0)
    assert found.last_fifth == pytest.approx(0.324, abs=0.001)
    assert found.through_port == pytest.approx(found.last_fifth, abs=1e-6)
    assert found.same


def test_what_learns_in_the_loop_gains_there(recording):
    found = accuracy(recording, "rls", 0)
    assert found.last_fifth > 0.65
    assert found.through_port > found.last_fifth + 0.05
    assert not found.same
