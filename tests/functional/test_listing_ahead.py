"""Prefetching of listings: number, time and order of requests; threads and errors."""

from __future__ import annotations

import os
import signal
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from cfplatform import Client, ConfigurationError, InvalidParameterError, ServerError
from tests.faults.tools import start, wait_until
from tests.http.scripted import Answer, Request, ScriptedServer, page, said

LISTING = "*/workItems"
#: Items in a page of these tests.
SIZE = 20
#: Seconds for a page: long enough to prefetch.
LATENCY = 0.01


@pytest.fixture
def large(make_sandbox):
    return make_sandbox(items=300, batches=3, latency=LATENCY)


def threads():
    return [each for each in threading.enumerate() if each.name == "cfplatform-prefetch"]


def settled(sandbox):
    """The number of listing requests, once nothing is under way."""
    wait_until(lambda: not threads())
    return sandbox.counts["work_items"]


@pytest.mark.parametrize("size", [SIZE, 7, 100])
def test_a_whole_listing_takes_no_request_more_and_keeps_its_order(large, size):
    with large.client() as client:
        ids = [item.id for item in client.get_work_items(page_size=size)]
    assert ids == list(large.work_item_ids())
    assert large.counts["work_items"] == -(-300 // size)


@pytest.mark.parametrize(
    ("taken", "ahead", "lazy"), [(1, 1, 1), (20, 1, 1), (180, 9, 9), (181, 11, 10), (200, 11, 10), (201, 12, 11)]
)
def test_a_page_is_asked_for_early_only_after_ten(large, taken, ahead, lazy):
    for prefetch, expected in ((True, ahead), (False, lazy)):
        large.clear_requests()
        with large.client() as client:
            items = client.get_work_items(page_size=SIZE, prefetch=prefetch)
            for _ in range(taken):
                next(items)
            assert settled(large) == expected


def test_batches_are_fetched_ahead_too(make_sandbox):
    sandbox = make_sandbox(items=150, batches=150, latency=LATENCY)
    with sandbox.client() as client:
        for prefetch, expected in ((True, 11), (False, 10)):
            sandbox.clear_requests()
            batches = client.get_batches(page_size=10, prefetch=prefetch)
            found = [next(batches).id for _ in range(91)]
            wait_until(lambda: not threads())
            assert sandbox.counts["batches"] == expected
            found += [batch.id for batch in batches]
            assert len(set(found)) == 150
            assert sandbox.counts["batches"] == 15


@pytest.mark.parametrize(("most", "requests"), [(190, 10), (200, 10), (201, 11), (220, 11), (221, 12), (299, 15)])
def test_limit_never_causes_an_extra_page(large, most, requests):
    with large.client() as client:
        assert len(list(client.get_work_items(page_size=SIZE, limit=most))) == most
        assert settled(large) == requests


def test_limit_with_several_groups_asks_for_one_after_the_other(make_sandbox):
    sandbox = make_sandbox(items=600, batches=2, latency=LATENCY)
    with sandbox.client() as client:
        found = client.get_work_items(work_item_ids=list(sandbox.work_item_ids()), limit=150)
        assert [item.id for item in found] == list(sandbox.work_item_ids(0, 150))
        assert settled(sandbox) == 2


def test_groups_of_ids_are_listed_four_at_a_time_in_order(make_sandbox):
    sandbox = make_sandbox(items=1300, batches=2, latency=0.1)
    wanted = list(sandbox.work_item_ids())
    with sandbox.client() as client:
        began = time.monotonic()
        assert [item.id for item in client.get_work_items(work_item_ids=wanted)] == wanted
        took = time.monotonic() - began
        assert sandbox.counts["work_items"] == 13
        assert sandbox.max_in_flight == 4
        # One alone, then twelve in three rounds of four: 0.4 s plus overhead, instead of 1.3 s.
        assert took < 1.0
        sandbox.clear_requests()
        assert [item.id for item in client.get_work_items(work_item_ids=wanted[:300], prefetch=False)] == wanted[:300]
        assert sandbox.max_in_flight == 1


def test_a_reader_of_the_first_group_causes_one_request(make_sandbox):
    sandbox = make_sandbox(items=600, batches=2, latency=LATENCY)
    with sandbox.client() as client:
        items = client.get_work_items(work_item_ids=list(sandbox.work_item_ids()))
        for _ in range(100):
            next(items)
        assert settled(sandbox) == 1
        next(items)
        assert settled(sandbox) == 5


def test_a_group_that_fails_does_so_in_its_turn():
    def answer(request: Request) -> bytes:
        first = next(value for name, value in parse_qsl(urlsplit(request.target).query) if name == "workItemIDs")
        return said({"message": "no"}, 500) if first == "id-300" else page(first)

    server = ScriptedServer(default=Answer(answer, delay=LATENCY))
    try:
        with Client("key", base_url=server.base_url, project_id="p", retries=0) as client:
            items = client.get_work_items(work_item_ids=[f"id-{n}" for n in range(600)])
            assert [next(items).id for _ in range(3)] == ["id-0", "id-100", "id-200"]
            with pytest.raises(ServerError) as caught:
                next(items)
            assert caught.value.cursor is None
            assert next(items, None) is None
    finally:
        server.stop()


def test_the_next_page_is_on_its_way_while_this_one_is_read(large):
    with large.client() as client:
        items = client.get_work_items(page_size=SIZE)
        for _ in range(200):
            next(items)
        assert settled(large) == 11
        large.latency = 0.3
        next(items)
        assert settled(large) == 12
        for _ in range(19):
            next(items)
        began = time.monotonic()
        next(items)
        assert time.monotonic() - began < 0.25


def test_a_page_that_fails_for_good_is_told_when_it_is_its_turn(large):
    with large.client(retries=0) as client:
        items = client.get_work_items(page_size=SIZE)
        found = [next(items).id for _ in range(200)]
        assert settled(large) == 11
        large.fail_next(500, times=None, path=LISTING)
        found += [next(items).id for _ in range(20)]
        with pytest.raises(ServerError) as caught:
            next(items)
        large.clear_faults()
        found += [item.id for item in client.get_work_items(page_size=SIZE, cursor=caught.value.cursor)]
    assert found == list(large.work_item_ids())


def test_a_page_that_failed_before_it_was_needed_is_asked_for_again(large):
    with large.client(retries=0) as client:
        items = client.get_work_items(page_size=SIZE)
        found = [next(items).id for _ in range(200)]
        assert settled(large) == 11
        large.fail_next(503, path=LISTING)
        found.append(next(items).id)
        wait_until(lambda: not threads())
        assert [request.status for request in large.requests][-1] == 503
        found += [item.id for item in items]
    assert found == list(large.work_item_ids())
    assert large.counts["work_items"] == 15 + 1


def test_a_cursor_that_is_refused_ahead_starts_the_listing_anew_once(large):
    with large.client() as client:
        items = client.get_work_items(page_size=SIZE)
        found = [next(items).id for _ in range(200)]
        assert settled(large) == 11
        large.fail_next(410, times=2, path=LISTING)
        found += [item.id for item in items]
    assert found == list(large.work_item_ids())
    # Page 12 was refused when it was prefetched and when it was needed, and the others of the first try are 11.
    assert large.counts["work_items"] == 11 + 2 + 15


def test_a_client_that_was_closed_hands_out_no_further_page(large):
    with large.client() as client:
        items = client.get_work_items(page_size=SIZE)
        for _ in range(201):
            next(items)
        wait_until(lambda: not threads())
    for _ in range(19):
        next(items)
    with pytest.raises(ConfigurationError, match="closed"):
        next(items)
    assert large.counts["work_items"] == 12


@pytest.mark.parametrize("way", ["close", "forget", "close the client"])
def test_a_listing_that_is_given_up_leaves_no_thread_and_sends_nothing_more(large, way):
    with large.client() as client:
        items = client.get_work_items(page_size=SIZE)
        for _ in range(200):
            next(items)
        assert settled(large) == 11
        large.latency = 0.5
        next(items)
        wait_until(lambda: large.in_flight == 1)
        began = time.monotonic()
        if way == "close":
            items.close()
        elif way == "forget":
            del items
        else:
            client.close()
        assert time.monotonic() - began < 0.4
        # The sandbox logs a request when it has responded, or when the client has disconnected.
        wait_until(lambda: not threads() and large.in_flight == 0)
        assert large.counts["work_items"] == 12
        time.sleep(0.05)
        assert large.counts["work_items"] == 12


def test_groups_that_are_given_up_leave_no_thread(make_sandbox):
    sandbox = make_sandbox(items=900, batches=2, latency=LATENCY)
    with sandbox.client() as client:
        items = client.get_work_items(work_item_ids=list(sandbox.work_item_ids()))
        for _ in range(101):
            next(items)
        wait_until(lambda: sandbox.counts["work_items"] == 5)
        items.close()
        assert settled(sandbox) == 5


@pytest.mark.parametrize("call", ["get_work_items", "get_batches"])
def test_prefetch_is_true_or_false(client, call):
    with pytest.raises(InvalidParameterError, match="prefetch must be True or False"):
        getattr(client, call)(prefetch=2)


UNDER_WAY = """
import os, signal, sys, threading, time
from cfplatform import Client
signal.signal(signal.SIGINT, signal.default_int_handler)
client = Client()
items = client.get_work_items(page_size=20)
for _ in range(200):
    next(items)
while any(each.name == "cfplatform-prefetch" for each in threading.enumerate()):
    time.sleep(0.01)
print("here", flush=True)
sys.stdin.readline()
next(items)
assert any(each.name == "cfplatform-prefetch" for each in threading.enumerate())
"""

ENDS: dict[str, str] = {
    "fall": "",
    "exit": "sys.exit(0)",
    "global": "import builtins; builtins.kept = items",
    "late": "import atexit; atexit.register(lambda: print(len(list(client.get_batches(page_size=1)))))",
}


@pytest.mark.parametrize("how", ENDS)
def test_an_interpreter_that_ends_with_a_page_under_way_is_quiet_and_quick(large, how):
    with start(large, UNDER_WAY + ENDS[how], stdin=-1) as process:
        assert process.stdout.readline() == "here\n"
        large.latency = 0.2 if how == "late" else 30
        began = time.monotonic()
        out, err = process.communicate("\n", timeout=30)
    assert (process.returncode, out, err) == (0, "3\n" if how == "late" else "", "")
    assert time.monotonic() - began < 10


WAITS = """
print("waits", flush=True)
try:
    for _ in range(20):
        next(items)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_reaches_a_reader_that_waits_for_a_page(large):
    with start(large, UNDER_WAY + WAITS, stdin=-1) as process:
        assert process.stdout.readline() == "here\n"
        large.latency = 30
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    assert time.monotonic() - began < 5


FORKS = """
import warnings; warnings.simplefilter("ignore")
rest = 99
def child(wanted):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sum(1 for _ in items) == wanted else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(child(rest), flush=True)
while any(each.name == "cfplatform-prefetch" for each in threading.enumerate()):
    time.sleep(0.01)
print(child(rest), sum(1 for _ in items), flush=True)
"""


CLOSES = """
import warnings; warnings.simplefilter("ignore")
pid = os.fork()
if pid == 0:
    items.close()
    os._exit(0)
print(os.waitpid(pid, 0)[1], sum(1 for _ in items), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("code", "words"), [(FORKS, "0\n0 99\n"), (CLOSES, "0 99\n")])
def test_after_a_fork_both_go_on(large, code, words):
    with start(large, UNDER_WAY + code, stdin=-1) as process:
        assert process.stdout.readline() == "here\n"
        large.latency = 0.2
        out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, out, err) == (0, words, "")
