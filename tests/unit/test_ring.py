"""The ring as Python sees it; what it is for is tested in C (tests/c/test_ring.c)."""

from __future__ import annotations

from multiprocessing import shared_memory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from phantomd.core.ring import Ring


def frame(index: int, words: int = 3) -> NDArray[np.uint64]:
    return np.arange(words, dtype=np.uint64) + np.uint64(1000 * index)


def test_frames_keep_their_absolute_indices() -> None:
    ring = Ring(3, 4, first=100)
    assert [ring.push(frame(i)) for i in range(100, 103)] == [100, 101, 102]
    assert (ring.next, ring.oldest) == (103, 100)
    assert (ring.read(101) == frame(101)).all()


def test_a_frame_that_is_not_there_yet_and_one_that_is_gone_differ() -> None:
    ring = Ring(3, 4)
    for i in range(6):
        ring.push(frame(i))
    with pytest.raises(IndexError, match="not written yet"):
        ring.read(6)
    with pytest.raises(LookupError, match="gone"):
        ring.read(1)
    assert ring.oldest == 2


def test_a_skip_leaves_frames_that_were_never_written() -> None:
    ring = Ring(3, 4)
    ring.push(frame(0))
    ring.skip(3)
    ring.push(frame(3))
    with pytest.raises(LookupError):
        ring.read(1)
    assert (ring.read(0) == frame(0)).all()
    assert (ring.read(3) == frame(3)).all()
    with pytest.raises(ValueError, match="go back"):
        ring.skip(2)


@pytest.mark.parametrize(("words", "slots"), [(0, 4), (3, 0), (3, 1), (3, 12)])
def test_sizes_that_cannot_be_are_refused(words: int, slots: int) -> None:
    assert Ring.bytes_needed(words, slots) == 0
    with pytest.raises(ValueError, match="power of two"):
        Ring(words, slots)


def test_a_size_beyond_64_bits_is_refused() -> None:
    assert Ring.bytes_needed(2**32 - 1, 2**31) == 0


def test_a_frame_of_another_size_is_refused() -> None:
    ring = Ring(3, 4)
    with pytest.raises(ValueError, match="3 words, not 2"):
        ring.push(frame(0, 2))


def test_memory_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        Ring(3, 4, memory=bytearray(Ring.bytes_needed(3, 4) - 8))


def test_a_ring_in_shared_memory_is_seen_through_a_second_mapping() -> None:
    need = Ring.bytes_needed(3, 4)
    mine = shared_memory.SharedMemory(create=True, size=need)
    other = shared_memory.SharedMemory(name=mine.name)
    try:
        ring = Ring(3, 4, first=7, memory=mine.buf)
        view = Ring.attach(other.buf)
        ring.push(frame(7))
        assert (view.words, view.n_slots, view.next) == (3, 4, 8)
        assert (view.read(7) == frame(7)).all()
        del ring, view
    finally:
        other.close()
        mine.close()
        mine.unlink()


@given(st.binary(min_size=0, max_size=256))
def test_bytes_that_are_no_ring_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no ring"):
        Ring.attach(np.frombuffer(bytearray(data.ljust(256, b"\0")), np.uint8))


@given(st.lists(st.one_of(st.just(0), st.integers(1, 12)), max_size=60))
def test_whatever_is_pushed_and_skipped_the_last_frames_can_be_read(jumps: list[int]) -> None:
    """Model: a dictionary of the slots."""
    ring = Ring(3, 8)
    slots: dict[int, int] = {}
    for jump in jumps:
        if jump:
            for index in range(ring.next, ring.next + jump):
                slots.pop(index % 8, None)
            ring.skip(ring.next + jump)
        else:
            index = ring.push(frame(ring.next))
            slots[index % 8] = index
    there = set(slots.values())
    for index in range(ring.next):
        if index in there:
            assert (ring.read(index) == frame(index)).all()
            assert index >= ring.oldest
        else:
            with pytest.raises(LookupError):
                ring.read(index)
