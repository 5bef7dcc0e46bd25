"""The memory budget: large documents wait for each other, small ones do not."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from cfplatform.transfer.memory import RECENT, MemoryBudget


def job(size=None):
    return SimpleNamespace(size=size, reserved=0, is_held=False)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 150)), max_size=60))
def test_what_is_reserved_stays_below_the_limit_or_is_one_document(changes):
    budget, jobs = MemoryBudget(100, 50), [job() for _ in range(10)]
    for number, size in changes:
        before = jobs[number].reserved
        others = sum(each.reserved for each in jobs) - before
        if budget.reserve(jobs[number], size, is_all=False, is_awaited=False):
            held = sum(each.reserved for each in jobs)
            assert held <= 100 or others == 0 or size <= before
        else:
            assert others > 0
            assert others + size > 100
            assert budget.is_wanted


def test_one_that_is_larger_than_the_limit_goes_alone():
    budget, small, large, third = MemoryBudget(100, 50), job(), job(), job()
    assert budget.reserve(small, 10, is_all=True, is_awaited=False)
    assert not budget.reserve(large, 500, is_all=True, is_awaited=False)
    assert large.size == 500
    budget.release(small)
    assert budget.reserve(large, 500, is_all=True, is_awaited=False)
    assert not budget.reserve(third, 1, is_all=True, is_awaited=False)
    assert budget.reserve(third, 1, is_all=True, is_awaited=True)


def test_no_more_documents_than_allowed_are_fetched_before_they_are_taken():
    budget, first, second = MemoryBudget(100, 1), job(), job()
    assert budget.admit(first, is_awaited=False)
    assert not budget.admit(second, is_awaited=False)
    budget.release(first)
    assert budget.admit(second, is_awaited=False)


def test_the_one_that_the_others_wait_for_is_fetched_in_any_case():
    budget, later, next_one = MemoryBudget(100, 1), job(), job()
    assert budget.admit(later, is_awaited=False)
    assert budget.admit(next_one, is_awaited=True)


def test_the_next_size_is_foreseen_only_where_all_are_large():
    budget = MemoryBudget(100, 50)
    assert budget.expected == 0
    for size in [5, *[90] * (RECENT - 1)]:
        each = job()
        budget.reserve(each, size, is_all=True, is_awaited=False)
        budget.release(each)
    assert budget.expected == 5
    each = job()
    budget.reserve(each, 90, is_all=True, is_awaited=False)
    assert budget.expected == 90
