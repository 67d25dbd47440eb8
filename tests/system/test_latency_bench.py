"""The latency bench in short: each of its rows has its messages. No time is judged here."""

from __future__ import annotations

import numpy as np

from benches import latency


def test_each_latency_is_measured_over_the_whole_run():
    run = latency.measure(1.0)
    counts = {name: len(ms) for name, ms in run.latencies.items()}
    assert counts["liblsl: push to pull"] == 250
    # Where the machine stands still, the outlet catches up and the second is shorter.
    assert counts["wire to native ring"] >= 100
    assert 50 <= counts["due time to a client"] <= 140
    assert 1 <= counts["newest sample to features at a client"] <= 5
    for name, ms in run.latencies.items():
        assert np.isfinite(ms).all(), name
    # What can't be earlier than what it comes from.
    of = run.latencies
    assert of["liblsl: push to pull"].min() > 0
    assert of["wire to native ring"].min() > 0
    assert (
        of["newest sample to features at a client"] >= of["newest sample to features published"]
    ).all()
    assert run.ledger["window"]["count"] >= 1
    assert len(latency.rows(run)) == len(counts) + 3
