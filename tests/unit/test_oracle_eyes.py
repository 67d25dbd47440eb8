"""Real eyes, open and closed, through intake, grid, artifact rejection and oracle."""

import numpy as np
import pytest

from benches.oracle_eyes import RECORDINGS, auc, cohen_d, play


@pytest.mark.realdata
def test_focus_over_the_occiput_tells_open_eyes_from_closed_ones(data_dir, tmp_path):
    directory = data_dir / "eegmmidb"
    if not (directory / RECORDINGS["open"]).exists():
        pytest.skip(f"no recording in {directory}")
    opened, closed = (
        np.array(list(play(directory, "occipital", eyes, str(tmp_path)).seconds.values()))
        for eyes in ("open", "closed")
    )
    assert min(len(opened), len(closed)) > 40, "the rest are artifacts"
    assert auc(opened, closed) > 0.95
    assert cohen_d(opened, closed) > 2.0
