"""Objects are created at most once: concurrent requests with lost responses."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from cfplatform import APIConnectionError, ConflictError, OutageError, ServerError, WorkItem
from cfplatform.transfer.creating import Items
from cfplatform.transfer.once import Once
from tests.tools import outcome


class Platform:
    """Items that were created, with responses that are lost on the way."""

    def __init__(self):
        self.items = []
        self.listings = []
        self.lose = lambda number: False
        self.acts = True
        self.before_listing = lambda: None
        self._lock = threading.Lock()

    def post(self, body):
        with self._lock:
            number = len(self.items)
            if self.acts:
                self.items.append(WorkItem({"id": f"item-{number}", **body}))
        if self.lose(number) or not self.acts:
            raise APIConnectionError("lost")
        return self.items[number]

    def listed(self, since):
        self.before_listing()
        self.listings.append(since)
        return [*self.items]

    def maker(self):
        return Items(self.post, self.listed, 7, 1)


def test_one_listing_serves_all_that_wait_for_it():
    platform = Platform()
    platform.lose = lambda number: number < 8
    arrived = threading.Barrier(8, timeout=10)
    # A listing takes its time, and others are lost meanwhile.
    platform.before_listing = lambda: time.sleep(0.1)
    post = platform.post

    def together(body):
        try:
            return post(body)
        finally:
            arrived.wait()

    platform.post = together
    items = platform.maker()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: items.create({"assetUrl": f"assets/{n}"})[0], range(8)))
    assert [item.asset_url for item in found] == [f"assets/{n}" for n in range(8)]
    assert {item.batch_id for item in found} == {7}
    assert len(platform.items) == 8
    assert len(platform.listings) <= 3


def test_an_item_belongs_to_one_request_of_a_url():
    platform = Platform()
    items = platform.maker()
    first, _ = items.create({"assetUrl": "https://example.com/a"})
    platform.lose = lambda number: number == 1
    second, _ = items.create({"assetUrl": "https://example.com/a"})
    assert (first.id, second.id) == ("item-0", "item-1")
    items.take(["item-2"])
    platform.lose = lambda number: number == 2
    third, _ = items.create({"assetUrl": "https://example.com/a"})
    assert third.id == "item-3"


def test_an_item_that_was_found_before_its_response_came_is_created_again():
    platform = Platform()
    items = platform.maker()

    def found_meanwhile(number):
        if number == 0:
            # Another request for the URL was lost, and finds this item.
            platform.lose = lambda number: False
            platform.acts = False
            wanted, existed = items.create({"assetUrl": "https://example.com/a"}, datetime.now(timezone.utc))
            assert (wanted.id, existed) == ("item-0", True)
            platform.acts = True
        return False

    platform.lose = found_meanwhile
    item, existed = items.create({"assetUrl": "https://example.com/a"})
    assert (item.id, existed, len(platform.items)) == ("item-1", False, 2)


def test_a_listing_that_fails_leaves_the_others_theirs():
    platform = Platform()
    platform.lose = lambda number: True
    failures = iter([ServerError("no"), None])

    def fail():
        if (error := next(failures)) is not None:
            raise error

    platform.before_listing = fail
    items = platform.maker()
    with pytest.raises(APIConnectionError, match="lost It may have been created"):
        items.create({"assetUrl": "assets/a"})
    assert items.create({"assetUrl": "assets/b"})[0].asset_url == "assets/b"


def test_the_clocks_may_differ():
    platform = Platform()
    platform.lose = lambda number: True
    platform.maker().create({"assetUrl": "assets/a"})
    (since,) = platform.listings
    assert timedelta(minutes=9) < datetime.now(timezone.utc) - since < timedelta(minutes=11)


@pytest.mark.parametrize(
    ("responses", "found", "expected", "looks"),
    [
        (["a"], [], "a", 0),
        ([APIConnectionError(), "a"], [None], "a", 1),
        ([APIConnectionError()], ["b"], "b", 1),
        ([ServerError(), ServerError()], [None, "b"], "b", 2),
        ([ServerError(), ServerError()], [None, None], ServerError, 2),
        ([ConflictError()], [], ConflictError, 0),
        # After a loss it may be with what was created.
        ([ServerError(), ConflictError()], [None, "b"], "b", 2),
        ([ServerError(), ConflictError()], [None, None], ConflictError, 2),
        # It was not even sent.
        ([OutageError()], [], OutageError, 0),
        ([ServerError()], [OutageError()], OutageError, 1),
        ([ServerError()], [KeyError()], KeyError, 1),
    ],
)
def test_a_lost_response_is_searched_and_the_request_repeated_once(responses, found, expected, looks):
    left, results = iter(responses), iter(found)
    looked = []

    def take(source):
        value = next(source)
        if isinstance(value, Exception):
            raise value
        return value

    def find():
        looked.append(1)
        return take(results)

    result, error = outcome(Exception, Once(lambda: take(left), find).send)
    assert (result or type(error)) == expected
    assert len(looked) == looks
    assert next(left, None) is None
