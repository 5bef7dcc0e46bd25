from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cfplatform.pipeline.room import RECENT, Room


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 150)), max_size=60))
def test_what_is_taken_stays_below_the_limit_or_is_one_document(changes):
    room, held = Room(100), {}
    for number, size in changes:
        before = held.get(number, 0)
        others = sum(held.values()) - before
        if room.take(before, size):
            held[number] = size
            assert sum(held.values()) <= 100 or others == 0 or size <= before
        else:
            assert others > 0
            assert others + size > 100
            assert room.is_wanted


def test_one_that_is_larger_than_the_limit_goes_alone():
    room = Room(100)
    assert room.take(0, 10)
    assert not room.take(0, 500)
    room.take(10, 0)
    assert room.take(0, 500)
    assert not room.take(0, 1)
    assert room.take(0, 1, anyway=True)


def test_the_next_size_is_foreseen_only_where_all_are_large():
    room = Room(100)
    assert room.expected == 0
    for size in [5, *[90] * (RECENT - 1)]:
        room.remember(size)
    assert room.expected == 5
    room.remember(90)
    assert room.expected == 90
