"""A step of the wall clock is told; slewing is not."""

from phantomd.engine.wallclock import WallClock


def test_steps_are_told_and_slewing_is_not():
    offsets = iter([0, 500_000, 1_000_000, 3_600_000_000_000, 3_600_000_500_000])
    told: list[tuple[int, int]] = []
    clock = WallClock(lambda old, new: told.append((old, new)), lambda: next(offsets))
    for _ in range(4):
        clock.look()
    assert told == [(1_000_000, 3_600_000_000_000)]
    assert clock.offset_ns == 3_600_000_500_000
