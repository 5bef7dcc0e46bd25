from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import APIConnectionError, CFPlatformError, InvalidResponseError
from cfplatform.transfer import pagination


def listing(pages):
    """Return a function that serves pages as a platform does, and the log of what it was asked."""
    asked = []

    def fetch(query):
        asked.append(list(query))
        return pages[dict(query).get("cursor")]

    return fetch, asked


def page(ids, following=None, spelling="cursorNext", **meta):
    return {"items": [{"id": each} for each in ids], "meta": {spelling: following, **meta}}


def ids(pages):
    return [item["id"] for item in pagination.items(pages)]


@st.composite
def listings(draw):
    """Pages that overlap, are empty now and then, and spell the cursor in any of the known ways."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    every = [f"item-{number}" for number in range(sum(sizes))]
    pages: dict[str | None, dict] = {}
    cursor, end = None, 0
    for number, size in enumerate(sizes, start=1):
        entries = every[max(0, end - draw(st.integers(0, 2))) : end + size]
        entries += entries[: draw(st.integers(0, 2))]
        end += size
        following = f"c{number}=/+ä" if number < len(sizes) else draw(st.sampled_from([None, ""]))
        meta = draw(
            st.sampled_from(
                [
                    {"cursorNext": following},
                    {"cursor_next": following},
                    {"cursorNext": None, "cursor_next": following},
                    {"cursorNext": following, "cursor_next": None, "limit": "?", "object": 5},
                ]
            )
        )
        pages[cursor] = {"items": [{"id": each, "odd": [None]} for each in entries], "meta": meta, "total": "many"}
        cursor = following
    return every, pages


@given(listings())
def test_every_item_comes_once_and_in_order(case):
    every, pages = case
    fetch, asked = listing(pages)
    assert ids(pagination.iterate_pages(fetch, [("limit", "10")])) == every
    assert len(asked) == len(pages)
    assert all(query[0] == ("limit", "10") for query in asked)
    assert asked[0] == [("limit", "10")]
    assert all(query[2] == ("page", "NEXT") for query in asked[1:])


@given(listings(), st.integers(0, 70))
def test_a_limit_stops_after_so_many_without_a_further_request(case, limit):
    every, pages = case
    fetch, asked = listing(pages)
    found = [item["id"] for item in pagination.items(pagination.iterate_pages(fetch, []), limit=limit)]
    assert found == every[:limit]
    if limit == 0:
        assert asked == []


def test_pages_are_asked_for_only_when_they_are_needed():
    fetch, asked = listing({None: page("ab", "1"), "1": page("cd")})
    items = pagination.items(pagination.iterate_pages(fetch, []))
    assert asked == []
    assert [next(items)["id"], next(items)["id"]] == ["a", "b"]
    assert len(asked) == 1
    assert next(items)["id"] == "c"
    assert len(asked) == 2


@pytest.mark.parametrize("ending", [None, "", "missing"])
@pytest.mark.parametrize("spelling", ["cursorNext", "cursor_next"])
def test_a_listing_ends_without_a_next_cursor(spelling, ending):
    last = page("b")
    last["meta"] = {} if ending == "missing" else {spelling: ending}
    fetch, asked = listing({None: page("a", "1", spelling), "1": last})
    assert ids(pagination.iterate_pages(fetch, [])) == ["a", "b"]
    assert len(asked) == 2


@pytest.mark.parametrize("meta", ["missing", None, [], "x"])
def test_a_page_without_meta_is_the_last_if_it_is_not_full(meta):
    only = {"items": [{"id": "a"}]} | ({} if meta == "missing" else {"meta": meta})
    fetch, _ = listing({None: only})
    assert ids(pagination.iterate_pages(fetch, [("limit", "2")])) == ["a"]


@pytest.mark.parametrize("meta", ["missing", None, [], "x"])
def test_a_full_page_without_meta_is_an_error_and_not_the_end(meta):
    only = {"items": [{"id": "a"}, {"id": "b"}]} | ({} if meta == "missing" else {"meta": meta})
    fetch, _ = listing({None: only})
    with pytest.raises(InvalidResponseError, match="Page 1 of the listing is full but has no next cursor"):
        list(pagination.iterate_pages(fetch, [("limit", "2")]))


def test_a_bare_array_is_a_whole_listing():
    assert ids(pagination.iterate_pages(lambda query: [{"id": "a"}, {"id": "b"}], [("limit", "2")])) == ["a", "b"]


def test_a_cursor_that_is_a_number_is_followed():
    fetch, asked = listing({None: page("a", 7), "7": page("b", 0), "0": page("c")})
    assert ids(pagination.iterate_pages(fetch, [])) == ["a", "b", "c"]
    assert ("cursor", "0") in asked[2]


@pytest.mark.parametrize("cursor", [True, False, [], {}, ["x"]])
def test_a_cursor_that_cannot_be_one_is_an_error(cursor):
    fetch, _ = listing({None: page("a", cursor)})
    with pytest.raises(InvalidResponseError, match="not a string"):
        list(pagination.iterate_pages(fetch, []))


@pytest.mark.parametrize("length", [1, 2, 3, 50])
@pytest.mark.parametrize("lead", [0, 2])
def test_a_cursor_that_goes_round_is_noticed_within_a_lap_and_nothing_is_lost(length, lead):
    names = [None, *(f"c{number}" for number in range(1, lead + length + 1))]
    pages = {
        name: page([f"i{number}"], names[number + 1] if number + 1 < len(names) else names[lead + 1])
        for number, name in enumerate(names)
    }
    fetch, asked = listing(pages)
    found, error = until_error(fetch)
    assert found == [f"i{number}" for number in range(len(names))]
    assert len(asked) == len(names)
    assert isinstance(error, InvalidResponseError)
    assert "repeats an earlier cursor" in str(error)
    assert error.cursor == names[-1]


def until_error(fetch):
    """Return the ids that were yielded, and the error that ended the listing."""
    found = []
    try:
        for item in pagination.items(pagination.iterate_pages(fetch, [])):
            found.append(item["id"])
    except CFPlatformError as error:
        return found, error
    return found, None


def test_the_cursor_that_a_listing_starts_with_counts_as_used():
    fetch, asked = listing({"x": page("a", "x")})
    pages = pagination.iterate_pages(fetch, [], cursor="x")
    assert next(pages)["items"] == [{"id": "a"}]
    with pytest.raises(InvalidResponseError, match="repeats an earlier cursor"):
        next(pages)
    assert len(asked) == 1


def test_a_listing_goes_on_from_a_cursor():
    fetch, asked = listing({"x": page("b", "y"), "y": page("c")})
    assert ids(pagination.iterate_pages(fetch, [("limit", "1")], cursor="x")) == ["b", "c"]
    assert asked[0] == [("limit", "1"), ("cursor", "x"), ("page", "NEXT")]


def test_empty_pages_are_followed_up_to_a_bound():
    numbers = itertools.count(1)
    with pytest.raises(InvalidResponseError, match="1000 consecutive empty pages"):
        list(pagination.iterate_pages(lambda query: page([], next(numbers)), []))
    assert next(numbers) == pagination.MAX_EMPTY_PAGES + 2


def test_an_error_says_where_to_take_the_listing_up_again():
    pages = {None: page("a", "1"), "1": page("b", "2")}

    def fetch(query):
        if ("cursor", "2") in query:
            raise APIConnectionError("gone")
        return pages[dict(query).get("cursor")]

    found, error = until_error(fetch)
    assert found == ["a", "b"]
    assert isinstance(error, APIConnectionError)
    assert error.cursor == "2"


@pytest.mark.parametrize("body", [None, 5, "x", {}, {"items": None}, {"items": {}}, {"items": "abc"}, {"message": "x"}])
def test_what_is_no_page_is_an_error_that_names_it(body):
    fetch, _ = listing({None: page("a", "1"), "1": body})
    pages = pagination.iterate_pages(fetch, [])
    next(pages)
    with pytest.raises(InvalidResponseError, match="Page 2 of the listing has no list of items") as caught:
        next(pages)
    assert caught.value.cursor == "1"


@pytest.mark.parametrize("item", [None, 5, "x", [], {}, {"id": None}, {"id": ""}, {"name": "x"}])
def test_an_item_without_id_is_an_error_that_names_its_place(item):
    pages = [page("ab"), {"items": [{"id": "c"}, item, {"id": "d"}]}]
    items = pagination.items(pages)
    assert [next(items)["id"] for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(InvalidResponseError, match="Item 1 on page 2 of the listing has no valid ID"):
        next(items)


@pytest.mark.parametrize("name", ["exportId", "export_id"])
def test_exports_are_recognised_by_their_own_id(name):
    pages = [{"items": [{name: "a"}, {name: "b"}, {name: "a"}]}]
    assert [item[name] for item in pagination.items(pages)] == ["a", "b"]


def test_a_limit_counts_only_what_is_kept_and_an_odd_item_is_still_an_error():
    def kept(pages, limit):
        return [item["id"] for item in pagination.items(iter(pages), limit=limit, keep=lambda item: item["id"] > 2)]

    pages = [page([1, 2]), page([3, 1, 4]), page([4, 5]), {"items": [{"id": None}]}]
    assert kept(pages, 3) == [3, 4, 5]
    with pytest.raises(InvalidResponseError, match="Item 0 on page 4"):
        kept(pages, 4)


def test_large_numbers_stay_apart_as_ids():
    pages = [page([9007199254740993, 9007199254740992, 9007199254740993])]
    assert ids(pages) == [9007199254740993, 9007199254740992]


def test_the_memory_of_ids_is_bounded(monkeypatch):
    monkeypatch.setattr(pagination, "REMEMBERED_IDS", 10)
    far_apart = [page([number]) for number in [*range(30), 0, 29]]
    assert ids(far_apart) == [*range(30), 0]
    texts = [page([str(number)]) for number in [*range(30), 0, 21, 29]]
    assert ids(texts) == [*map(str, range(30)), "0"]


@pytest.mark.parametrize(
    ("value", "total"), [(2, 2), (50, 50), (1, None), (0, None), (True, None), ("9", None), (None, None), (2.0, None)]
)
def test_a_total_is_believed_only_where_it_can_be_true(value, total):
    assert pagination.total({"items": [{"id": 1}, {"id": 2}], "total": value}) == total


@pytest.fixture(autouse=True)
def _every_page_is_worth_a_thread(monkeypatch):
    monkeypatch.setattr(pagination, "WORTH_A_THREAD", 0)


class Begun:
    """A page that is prefetched, as far as pagination knows of it."""

    def __init__(self, log, number, outcome):
        self.log, self.number, self.outcome = log, number, outcome

    def result(self):
        self.log.append(("taken", self.number))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self):
        self.log.append(("given up", self.number))


def chain(count):
    """Pages that name one another, and a log of what is done with them."""
    pages = {
        (str(n) if n > 1 else None): page([f"i{n}"], str(n + 1) if n < count else None) for n in range(1, count + 1)
    }
    log: list[tuple[str, int]] = []

    def number(query):
        return int(dict(query).get("cursor", 1))

    def fetch(query):
        log.append(("fetched", number(query)))
        return pages[dict(query).get("cursor")]

    def begin(query):
        log.append(("begun", number(query)))
        return Begun(log, number(query), pages[dict(query).get("cursor")])

    return fetch, begin, log, pages


def test_from_the_tenth_page_on_the_next_one_is_begun_before_a_page_is_handed_out():
    fetch, begin, log, _ = chain(13)
    pages = pagination.iterate_pages(fetch, [("limit", "9")], begin=begin)
    for _ in range(9):
        next(pages)
    assert log == [("fetched", n) for n in range(1, 10)]
    del log[:]
    next(pages)
    assert log == [("fetched", 10), ("begun", 11)]
    assert [each["items"][0]["id"] for each in pages] == ["i11", "i12", "i13"]
    assert log[2:] == [("taken", 11), ("begun", 12), ("taken", 12), ("begun", 13), ("taken", 13)]


@pytest.mark.parametrize(("limit", "begun"), [(9, []), (10, []), (11, [11]), (12, [11, 12]), (None, [11, 12, 13])])
def test_no_page_is_begun_that_a_limit_may_make_needless(limit, begun):
    fetch, begin, log, _ = chain(13)
    list(pagination.items(pagination.iterate_pages(fetch, [], begin=begin, limit=limit), limit=limit))
    assert [number for what, number in log if what == "begun"] == begun
    assert ("given up", 11) not in log


def test_a_page_that_is_begun_is_given_up_with_the_listing():
    fetch, begin, log, _ = chain(13)
    pages = pagination.iterate_pages(fetch, [], begin=begin)
    for _ in range(10):
        next(pages)
    pages.close()
    assert log[-2:] == [("begun", 11), ("given up", 11)]


def test_a_cursor_that_goes_round_is_not_begun():
    fetch, begin, log, pages = chain(11)
    pages["11"]["meta"]["cursorNext"] = "5"
    with pytest.raises(InvalidResponseError, match="repeats an earlier cursor"):
        list(pagination.iterate_pages(fetch, [], begin=begin))
    assert [number for what, number in log if what == "begun"] == [11]


def test_a_page_whose_prefetch_failed_is_fetched_when_it_is_needed():
    fetch, _, log, _ = chain(11)
    pages = pagination.iterate_pages(fetch, [], begin=lambda query: Begun(log, 11, APIConnectionError("gone")))
    assert len(list(pages)) == 11
    assert log[-2:] == [("taken", 11), ("fetched", 11)]


def test_no_page_is_prefetched_where_they_come_faster_than_a_thread_starts(monkeypatch):
    monkeypatch.setattr(pagination, "WORTH_A_THREAD", 3600)
    fetch, begin, log, _ = chain(13)
    assert len(list(pagination.iterate_pages(fetch, [], begin=begin))) == 13
    assert [number for what, number in log if what == "begun"] == []


def groups(counts):
    """Listings of one page each, and a log of what is done with them."""
    log: list[tuple[str, int]] = []

    def number(query):
        return int(dict(query)["group"])

    def fetch(query):
        log.append(("fetched", number(query)))
        return page([f"i{number(query)}"])

    def begin(query):
        log.append(("begun", number(query)))
        return Begun(log, number(query), page([f"i{number(query)}"]))

    return fetch, begin, log, [[("group", str(n))] for n in range(1, counts + 1)]


def test_four_listings_are_begun_when_the_second_one_is_needed():
    fetch, begin, log, queries = groups(7)
    pages = pagination.iterate_pages(fetch, *queries, restart=True, begin=begin)
    next(pages)
    assert log == [("fetched", 1)]
    next(pages)
    assert log[1:] == [("begun", 2), ("begun", 3), ("begun", 4), ("begun", 5), ("taken", 2)]
    next(pages)
    assert log[6:] == [("begun", 6), ("taken", 3)]
    pages.close()
    assert log[8:] == [("given up", 4), ("given up", 5), ("given up", 6)]


@pytest.mark.parametrize("limit", [None, 3, 50])
def test_listings_come_in_order_and_with_a_limit_one_after_the_other(limit):
    fetch, begin, log, queries = groups(7)
    pages = pagination.iterate_pages(fetch, *queries, restart=True, begin=begin, limit=limit)
    found = ids(itertools.islice(pages, limit))
    assert found == [f"i{n}" for n in range(1, 8)][:limit]
    assert (log[1][0] == "begun") == (limit is None)


def test_a_page_whose_ids_are_partly_known_or_odd_gives_the_others():
    pages = [page(["a", "b", "c"]), page(["c", "d", 7, "d"]), page(["7", "e"]), page([]), page(["f"])]
    assert [[item["id"] for item in found] for found in pagination.fresh(pages)] == [
        ["a", "b", "c"],
        ["d", 7],
        ["e"],
        [],
        ["f"],
    ]


def test_what_is_remembered_of_ids_is_bounded():
    def pages():
        for number in range(1_000):
            yield {"items": [{"id": f"item-{number * 100 + index}"} for index in range(100)], "meta": {}}

    items = pagination.items(pages())
    for _ in range(20_000):
        next(items)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        count = sum(1 for _ in items)
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 80_000
    assert most - before < 6 * 1024 * 1024
