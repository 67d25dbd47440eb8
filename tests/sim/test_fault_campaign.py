"""The short form of ``make faults``: each kind of fault, and schedules of all of them."""

from __future__ import annotations

import pytest

from benches.fault_campaign import play, schedule_of
from phantomd.devices.fault_schedule import CHAOS_KINDS, KINDS, Scheduled, chaos, parse_scheduled


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_must_hold_after_any_fault_does(seed: int) -> None:
    outcome = play(seed, 20.0, schedule_of(seed, 20.0))
    assert outcome.schedule
    assert not outcome.wrong


@pytest.mark.parametrize("kind", CHAOS_KINDS)
def test_each_kind_of_fault_is_played_and_survived(kind: str) -> None:
    args = {key: default for key, (default, _, _) in KINDS[kind].args.items()}
    if "channels" in args:
        args["channels"] = 6.0
    if "p" in args:
        args["p"] = 0.3
    lasts = KINDS[kind].lasts_s
    one = Scheduled(kind, 3.0, 3.0 + (lasts if lasts <= 1 else 1.0), args)
    outcome = play(7, 9.0, [one])
    assert not outcome.wrong
    loses = {"flatline", "saturate", "clump", "stall", "drift", "rate", "dup"}
    assert (outcome.lost > 0) == (kind not in loses)


def test_the_campaign_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to a nanosecond, no clock is right."""
    monkeypatch.setattr("benches.fault_campaign.RIGHT_NS", 1.0)
    outcome = play(1, 9.0, [parse_scheduled("drift@3..4:ppm=200")])
    assert any("ms off" in wrong for wrong in outcome.wrong)


def test_a_schedule_is_its_own_text_and_its_seeds() -> None:
    import random

    made = chaos(random.Random(5), 0, 500)
    assert made == chaos(random.Random(5), 0, 500) != chaos(random.Random(6), 0, 500)
    assert {one.kind for one in made} == set(CHAOS_KINDS)
    for one in made:
        again = parse_scheduled(str(one))
        assert (again.kind, set(again.args)) == (one.kind, set(one.args))
        assert again.start_s == pytest.approx(one.start_s, rel=1e-4)
