"""Group P: listings that change, loop, break off or are malformed."""

from __future__ import annotations

import json

import pytest

from cfplatform import APIConnectionError, APIError, BadRequestError, CFPlatformError, InvalidResponseError, ServerError
from tests.faults.tools import page, tree

LISTING = "*/workItems"


def script(sandbox, *bodies):
    """Answer the next requests for work items with these bodies."""
    for body in bodies:
        sandbox.replace_next(body, path=LISTING)


def cursors(sandbox):
    """The cursors that were asked for, in order; ``None`` for a first page."""
    return [dict(each.query).get("cursor") for each in sandbox.requests if each.route == "work_items"]


def until_error(items):
    """Return the ids that were yielded, and the error that ended the listing."""
    found = []
    try:
        for item in items:
            found.append(item.id)
    except CFPlatformError as error:
        return found, error
    return found, None


@pytest.fixture
def large(make_sandbox):
    return make_sandbox(items=300, batches=3, in_review=0.3)


def test_p01_items_that_join_while_paging_come_at_most_once(large):
    ids = list(large.work_item_ids())
    with large.client() as client:
        old = [item.id for item in client.get_work_items(status="COMPLETED", page_size=20)]
        waiting = [each for each in ids if each not in set(old)]
        found = []
        for item in client.get_work_items(status="COMPLETED", page_size=20):
            found.append(item.id)
            if len(found) == 100:
                # One of the first and one of the last in the order of the listing.
                large.update_work_item(waiting[0], status="COMPLETED")
                large.update_work_item(waiting[-1], status="COMPLETED")
    assert len(found) == len(set(found))
    assert set(old) <= set(found) <= {*old, waiting[0], waiting[-1]}


def test_p02_items_that_go_while_paging_do_no_harm(large):
    ids = list(large.work_item_ids())
    with large.client() as client:
        found = []
        for item in client.get_work_items(page_size=20):
            found.append(item.id)
            if len(found) == 100:
                for gone in (ids[3], ids[99], ids[100], ids[250]):
                    large.delete_work_item(gone)
    assert len(found) == len(set(found))
    assert set(ids) - {ids[100], ids[250]} <= set(found)


def test_p02_an_item_that_moved_comes_once_and_one_that_was_missed_comes_with_the_next_run(sandbox, client, tmp_path):
    a, b, c, d = list(sandbox.work_item_ids())[:4]
    # "a" moves to the end while the pages are read, and pushes "c" over the border between them.
    script(sandbox, page([a, b], "2"), page([d, a]))
    assert client.download_project(destination=tmp_path).total_items == 3
    script(sandbox, page([b, c], "2"), page([d, a]))
    second = client.download_project(destination=tmp_path)
    assert second.total_items == 4
    assert {path.stem for path in tmp_path.glob("*/*.json")} == {a, b, c, d}


def test_p03_an_id_on_two_pages_is_one_download_and_one_result(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=250, batches=2, overlap=30)
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.total_items, summary.successful) == (250, 250)
    assert sandbox.counts["storage"] == 250
    assert len({result.item_id for result in summary.results}) == 250


def test_p04_a_cursor_that_stands_still_is_found_within_one_page(sandbox, client):
    script(sandbox, page(["a"], "same"), page(["b"], "same"))
    found, error = until_error(client.get_work_items())
    assert found == ["a", "b"]
    assert isinstance(error, InvalidResponseError)
    assert "repeats an earlier cursor" in str(error)
    assert cursors(sandbox) == [None, "same"]


@pytest.mark.parametrize("length", [2, 50])
def test_p05_cursors_that_go_round_are_found_within_one_lap(sandbox, client, length):
    script(sandbox, *(page([f"i{n}"], f"c{(n + 1) % length}") for n in range(length + 1)))
    found, error = until_error(client.get_work_items())
    assert found == [f"i{n}" for n in range(length + 1)]
    assert isinstance(error, InvalidResponseError)
    assert len(cursors(sandbox)) <= length + 1


def test_p05_what_was_listed_before_a_loop_is_downloaded(sandbox, client, tmp_path):
    first, second = list(sandbox.work_item_ids())[:2]
    script(sandbox, page([first], "a"), page([second], "b"), page([], "a"))
    with pytest.raises(InvalidResponseError, match="repeats an earlier cursor"):
        client.download_project(destination=tmp_path)
    assert {path.stem for path in tmp_path.glob("*/*.json")} == {first, second}


def test_p06_an_empty_page_is_not_the_end(sandbox, client):
    script(sandbox, page(["a"], "1"), page([], "2"), page([], "3"), page(["b"]))
    assert until_error(client.get_work_items()) == (["a", "b"], None)


def test_p06_a_thousand_empty_pages_are_an_error(sandbox, client):
    script(sandbox, page(["a"], "start"), *(page([], f"c{n}") for n in range(1001)))
    found, error = until_error(client.get_work_items())
    assert found == ["a"]
    assert isinstance(error, InvalidResponseError)
    assert "1000 consecutive empty pages" in str(error)
    assert len(cursors(sandbox)) == 1002


@pytest.mark.parametrize("meta", [{"cursorNext": None}, {"cursorNext": ""}, {}])
def test_p07_null_empty_and_missing_cursors_end_the_listing(sandbox, client, meta):
    script(sandbox, page(["a"], "1"), json.dumps({"items": [{"id": "b"}], "meta": meta}).encode())
    assert until_error(client.get_work_items()) == (["a", "b"], None)


def test_p07_a_number_is_a_cursor_and_a_list_is_none(sandbox, client):
    script(sandbox, page(["a"], 17), page(["b"], ["x"]))
    found, error = until_error(client.get_work_items())
    assert found == ["a"]
    assert isinstance(error, InvalidResponseError)
    assert cursors(sandbox) == [None, "17"]


def test_p07_a_full_page_without_meta_is_an_error_and_not_the_end(sandbox, client):
    body = json.dumps({"items": [{"id": f"i{n}"} for n in range(5)]}).encode()
    script(sandbox, body)
    found, error = until_error(client.get_work_items(page_size=5))
    assert found == []
    assert isinstance(error, InvalidResponseError)
    assert "has no next cursor" in str(error)
    script(sandbox, body)
    assert len(list(client.get_work_items(page_size=6))) == 5


@pytest.mark.parametrize("status", [400, 410])
def test_p08_a_refused_cursor_starts_the_listing_anew_once(make_sandbox, tmp_path, status):
    sandbox = make_sandbox(items=500, batches=2)
    with sandbox.client() as client:
        items, found = client.get_work_items(), []
        for item in items:
            found.append(item.id)
            if len(found) == 250:
                sandbox.fail_next(status, path=LISTING)
    assert found == list(sandbox.work_item_ids())
    asked = cursors(sandbox)
    assert asked.count(None) == 2
    assert len(asked) == 3 + 1 + 5


def test_p08_a_second_refusal_is_raised_and_progress_is_kept(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=500, batches=2)
    with sandbox.client(max_workers=4) as client:

        def items():
            for number, item in enumerate(client.get_work_items()):
                if number in (150, 250):
                    sandbox.fail_next(410, path=LISTING)
                yield item

        with pytest.raises(APIError) as caught:
            client.download_work_items(items(), tmp_path)
        assert caught.value.status_code == 410
        assert caught.value.cursor
        assert len(tree(tmp_path)) == 300
        sandbox.clear_requests()
        summary = client.download_project(destination=tmp_path)
    assert (summary.skipped, summary.successful) == (300, 200)
    assert sandbox.counts["storage"] == 200


def test_p08_a_listing_too_long_to_be_remembered_is_not_begun_anew(make_sandbox):
    sandbox = make_sandbox(items=12_000, batches=2)
    with sandbox.client() as client:
        # A prefetched page that fails is requested again, which a slow machine would do here.
        items = client.get_work_items(prefetch=False)
        for _ in range(10_100):
            next(items)
        sandbox.fail_next(400, path=LISTING)
        with pytest.raises(BadRequestError):
            list(items)
    assert cursors(sandbox).count(None) == 1


def test_p08_a_first_page_that_is_refused_is_not_asked_for_twice(sandbox, client):
    sandbox.fail_next(400, times=None, path=LISTING)
    for cursor in (None, "one of yesterday"):
        sandbox.clear_requests()
        with pytest.raises(BadRequestError):
            next(client.get_work_items(cursor=cursor))
        assert sandbox.counts["work_items"] == 1


def test_p09_a_page_that_fails_for_good_is_taken_up_again(make_sandbox):
    sandbox = make_sandbox(items=200, batches=2)
    with sandbox.client(retries=1) as client:
        items = client.get_work_items(page_size=20)
        found = [next(items).id for _ in range(120)]
        sandbox.fail_next(500, times=2, path=LISTING)
        with pytest.raises(ServerError) as caught:
            next(items)
        found += [item.id for item in client.get_work_items(page_size=20, cursor=caught.value.cursor)]
    assert found == list(sandbox.work_item_ids())
    answered = [dict(r.query).get("cursor") for r in sandbox.requests if r.route == "work_items" and r.status == 200]
    assert len(answered) == len(set(answered)) == 10


@pytest.mark.parametrize("item", [{}, {"id": None}, {"id": ""}, 5, None, "text", ["x"]])
def test_p10_an_item_without_id_is_named_and_what_came_before_is_kept(sandbox, client, tmp_path, item):
    first, second = list(sandbox.work_item_ids())[:2]
    odd = json.dumps({"items": [{"id": second}, item], "meta": {}}).encode()
    script(sandbox, page([first], "1"), odd)
    with pytest.raises(InvalidResponseError, match="Item 1 on page 2"):
        client.download_project(destination=tmp_path)
    assert {path.stem for path in tmp_path.glob("*/*.json")} == {first, second}


@pytest.mark.parametrize("items", [None, {}, "text", 5])
def test_p10_items_that_are_no_list_are_named(sandbox, client, items):
    script(sandbox, page(["a"], "1"), json.dumps({"items": items, "meta": {}}).encode())
    found, error = until_error(client.get_work_items())
    assert found == ["a"]
    assert "Page 2 of the listing has no list of items" in str(error)
    assert error.cursor == "1"


def test_p11_a_reader_that_pauses_finds_its_connection_closed_and_goes_on(make_sandbox):
    sandbox = make_sandbox(items=200, batches=2)
    with sandbox.client() as client:
        items = client.get_work_items()
        found = [next(items).id for _ in range(100)]
        # What a pause of minutes comes to: the server has dropped the connection.
        sandbox.stop()
        sandbox.start()
        found += [item.id for item in items]
    assert found == list(sandbox.work_item_ids())


def test_p11_a_platform_that_is_away_for_too_long_is_a_typed_error(make_sandbox):
    sandbox = make_sandbox(items=200, batches=2)
    with sandbox.client(retries=1) as client:
        items = client.get_work_items()
        found = [next(items).id for _ in range(100)]
        sandbox.stop()
        with pytest.raises(APIConnectionError) as caught:
            next(items)
        sandbox.start()
        found += [item.id for item in client.get_work_items(cursor=caught.value.cursor)]
    assert found == list(sandbox.work_item_ids())
