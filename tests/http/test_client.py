"""The life cycle of a client: threads, forks, closing, and invalid arguments."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import requests

from cfplatform import Client, ConfigurationError, DestinationError, InvalidParameterError
from tests.http.scripted import Answer, page, raw, said
from tests.tools import KEY, load


def echo(request):
    return said({"target": request.target})


# --- Bad arguments, before any request


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": None}, "No API key"),
        ({"api_key": ""}, "blank"),
        ({"api_key": " "}, "blank"),
        ({"api_key": f"{KEY}\nX: 1"}, "not a valid API key"),
        ({"api_key": f"{KEY}ü"}, "not a valid API key"),
        ({"base_url": "127.0.0.1/api"}, "must start with https"),
        ({"base_url": "https://user:pw@h.example"}, "user name or password"),
        ({"base_url": "http://h.example"}, "unencrypted"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": None}, "timeout must be"),
        ({"timeout": math.nan}, "timeout must be"),
        ({"max_workers": 0}, "max_workers must be"),
        ({"max_workers": 10**6}, "max_workers must be"),
        ({"retries": -1}, "retries must be"),
        ({"user_agent": "a\nb"}, "user_agent must be"),
        ({"user_agent": " "}, "user_agent must be"),
        ({"user_agent": "ü"}, "user_agent must be"),
        ({"user_agent": 5}, "user_agent must be"),
        ({"verify": ""}, "verify must be"),
        ({"verify": 0}, "verify must be"),
    ],
)
def test_a_client_with_a_wrong_setting_is_not_built(options, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        Client(**{"api_key": KEY, **options})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["project_id", "space_id"])
@pytest.mark.parametrize("value", ["", " ", ".", "..", "a\nb", 5])
def test_a_client_with_a_wrong_default_id_is_not_built(name, value):
    with pytest.raises(InvalidParameterError, match=name):
        Client(KEY, **{name: value})


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c: c.get_work_items(page_size=0), InvalidParameterError, "page_size"),
        (lambda c: c.get_work_items(page_size=101), InvalidParameterError, "page_size"),
        (lambda c: c.get_work_items(page_size=True), InvalidParameterError, "page_size"),
        (lambda c: c.get_work_items(page_size="20"), InvalidParameterError, "page_size"),
        (lambda c: c.get_work_items(limit=-1), InvalidParameterError, "limit"),
        (lambda c: c.get_work_items(cursor=""), InvalidParameterError, "cursor"),
        (lambda c: c.get_work_items(batch_ids=range(101), cursor="x"), InvalidParameterError, "cursor"),
        (lambda c: c.get_work_items(batch_ids="1001"), InvalidParameterError, "batch_ids"),
        (lambda c: c.get_work_items(work_item_ids="x"), InvalidParameterError, "work_item_ids"),
        (lambda c: c.get_work_items(status=""), InvalidParameterError, "status"),
        (lambda c: c.get_work_items(created_at_from=datetime(2026, 1, 1)), InvalidParameterError, "time zone"),
        (lambda c: c.get_work_items(updated_at_to="soon"), InvalidParameterError, "updated_at_to"),
        (
            lambda c: c.get_work_items(updated_at_from="2026-01-02T00:00Z", updated_at_to="2026-01-01T00:00Z"),
            InvalidParameterError,
            "is after the end",
        ),
        (lambda c: c.get_work_items(".."), InvalidParameterError, "project_id"),
        (lambda c: c.get_work_items(batch_id=5), TypeError, "batch_id"),
        (lambda c: c.get_work_items_count(batch_id=5), TypeError, "Did you mean 'batch_ids'"),
        (lambda c: c.get_work_items_count(batch_ids="5"), InvalidParameterError, "batch_ids"),
        (lambda c: c.get_batches(page_size=0), InvalidParameterError, "page_size"),
        (lambda c: c.get_batches(""), InvalidParameterError, "project_id"),
        (lambda c: c.get_batch(), InvalidParameterError, "exactly one of batch_id and name"),
        (lambda c: c.get_batch(1, name="x"), InvalidParameterError, "exactly one of batch_id and name"),
        (lambda c: c.get_batch("x"), InvalidParameterError, "batch_id"),
        (lambda c: c.get_work_item(""), InvalidParameterError, "work_item_id"),
        (lambda c: c.get_annotation("."), InvalidParameterError, "work_item_id"),
        (lambda c: c.get_annotation(".."), InvalidParameterError, "work_item_id"),
        (lambda c: c.get_annotation(5), InvalidParameterError, "work_item_id"),
        (lambda c: c.iter_annotations(max_workers=0), ConfigurationError, "max_workers"),
        (lambda c: c.iter_annotations(max_workers=10**6), ConfigurationError, "max_workers"),
        (lambda c: c.iter_annotations(ordered=1), InvalidParameterError, "ordered"),
        (lambda c: c.iter_annotations(statuses="x"), TypeError, "Did you mean 'status'"),
        (lambda c: c.iter_annotations(items="x"), InvalidParameterError, "items"),
        (lambda c: c.iter_annotations(items=[], status="x"), InvalidParameterError, "not both"),
        (lambda c: c.iter_annotations(space_id=".."), InvalidParameterError, "space_id"),
        (lambda c: c.download_project(), InvalidParameterError, "destination"),
        (lambda c: c.download_project(destination=__file__), InvalidParameterError, "is a file"),
        (lambda c: c.download_project(destination=f"{__file__}/x"), DestinationError, "cannot be written"),
        (lambda c: c.download_project(destination="d", overwrite="no"), InvalidParameterError, "overwrite"),
        (
            lambda c: c.download_project(destination="d", inject_asset_url=None),
            InvalidParameterError,
            "inject_asset_url",
        ),
        (lambda c: c.download_project(destination="d", progress="yes"), InvalidParameterError, "progress"),
        (lambda c: c.download_project(destination="d", max_worker=5), TypeError, "max_worker"),
        (lambda c: c.download_project(destination="d", batch_ids="5"), InvalidParameterError, "batch_ids"),
        (lambda c: c.download_work_items("abc", "d"), InvalidParameterError, "items must be"),
        (lambda c: c.download_work_items([], "d", status="x"), TypeError, "status"),
        (lambda c: c.iter_downloads({}, "d"), InvalidParameterError, "items must be"),
        (lambda c: c.iter_downloads([], ""), InvalidParameterError, "destination"),
        (lambda c: c.request("GET", "/x", timeout=0), ConfigurationError, "timeout"),
        (lambda c: c.request("GET", "https://h/x"), InvalidParameterError, "path"),
    ],
)
def test_a_wrong_argument_is_refused_by_the_call_itself(serve, connect, tmp_path, monkeypatch, call, error, says):
    monkeypatch.chdir(tmp_path)
    server = serve()
    client = connect(server)
    with pytest.raises(error, match=says):
        call(client)
    assert server.connections == 0


def test_a_missing_project_names_argument_and_variable(serve, connect):
    with pytest.raises(ConfigurationError, match=r"Pass project_id=\.\.\. .* or set CF_PROJECT_ID"):
        connect(serve(), project_id=None).get_work_items()


@pytest.mark.parametrize(("count", "sizes"), [(100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_many_ids_are_listed_in_several_requests_and_each_item_once(serve, connect, count, sizes):
    server = serve(default=Answer(lambda request: page(f"of-{request.target.count('batchIds=')}", "shared")))
    items = list(connect(server).get_work_items(batch_ids=[*range(count), *range(count)]))
    assert [request.target.count("batchIds=") for request in server.requests] == sizes
    assert len(items) == len({item.id for item in items})


@pytest.mark.parametrize("filters", [{"batch_ids": []}, {"work_item_ids": ()}, {"batch_ids": [1], "work_item_ids": []}])
def test_an_empty_list_sends_nothing_and_gives_nothing(serve, connect, filters):
    server = serve()
    client = connect(server)
    assert list(client.get_work_items(**filters)) == []
    assert client.get_work_items_count(**filters) == 0
    assert list(client.iter_annotations(**filters)) == []
    assert server.connections == 0


def test_nothing_is_sent_before_the_first_item_is_asked_for(serve, connect):
    server = serve(page("a", following="1"), page("b"))
    items = connect(server).get_work_items(page_size=1)
    assert server.connections == 0
    assert next(items).id == "a"
    assert len(server.requests) == 1


# --- Threads


def test_threads_get_their_own_answers_and_no_warning_of_the_pool(serve, connect, caplog):
    caplog.set_level(logging.WARNING)
    server = serve(default=Answer(echo, delay=0.002))
    client = connect(server, max_workers=32)

    def ask(number):
        return client.request("GET", f"/{number}").json()["target"] == f"/api/v1/{number}"

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(600)))
    assert server.connections <= 32
    assert caplog.text == ""


def test_one_client_serves_api_and_storage_at_once(serve, connect):
    server = serve(default=Answer(echo, delay=0.001))
    client = connect(server, max_workers=16)

    def ask(number):
        if number % 2:
            return client.request("GET", f"/{number}").json()["target"]
        body = load(client, f"{server.base_url}/{number}")
        return json.loads(body)["target"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(200))) == [f"/api/v1/{number}" for number in range(200)]
    assert all(("x-api-key" in request.names) == (int(request.target[8:]) % 2 == 1) for request in server.requests)


# --- Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("own_session", [False, True])
def test_parent_and_child_both_get_their_own_answers(serve, connect, own_session):
    server = serve(default=Answer(echo, delay=0.001))
    session = requests.Session() if own_session else None
    client = connect(server, session=session)

    def ask_often(who):
        return all(client.request("GET", f"/{who}/{n}").json()["target"] == f"/api/v1/{who}/{n}" for n in range(50))

    assert ask_often("before")
    with warnings.catch_warnings():
        # Newer Pythons warn where there are threads; those of the server are not used by the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 42 if ask_often("child") else 2
        finally:
            os._exit(code)
    mine = ask_often("parent")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert mine
    connections = {
        who: {r.connection for r in server.requests if f"/{who}/" in r.target} for who in ("child", "parent")
    }
    assert not connections["child"] & connections["parent"]
    if session is not None:
        session.close()


# --- The end


def test_a_closed_client_says_so_and_may_be_closed_again(serve, connect):
    server = serve(default=said({}))
    with connect(server) as client:
        client.request("GET", "/x")
        items = client.get_work_items()
    client.close()
    for call in (lambda: client.request("GET", "/x"), lambda: next(items), lambda: client.get_annotation("a")):
        with pytest.raises(ConfigurationError, match="The client is closed"):
            call()
    with pytest.raises(ConfigurationError, match="The client is closed"):
        load(client, f"{server.origin}/o")
    assert len(server.requests) == 1


def test_closing_closes_the_connections(serve, connect):
    server = serve(default=raw(200, b"x"))
    client = connect(server)
    client.request("GET", "/x")
    load(client, f"{server.origin}/o")
    assert len(server.open) == 2
    client.close()
    for thread in list(server.open.values()):
        thread.join(2)
    assert server.open == {}


@pytest.mark.parametrize("move", [pickle.dumps, copy.deepcopy])
def test_a_client_does_not_travel_with_its_key(connect, move):
    client = connect("https://api.invalid/v1")
    with pytest.raises(TypeError, match="cannot be pickled: it holds the API key"):
        move(client)


def test_the_repr_shows_where_but_not_the_key(connect):
    client = connect("https://api.invalid/v1")
    assert repr(client) == "<Client base_url='https://api.invalid/v1' project_id='p'>"
    assert KEY not in repr(vars(client)) + str(client)


def test_no_thread_is_left_behind(serve, connect):
    before = threading.active_count()
    client = connect(serve(default=said({})).base_url)
    client.request("GET", "/x")
    client.close()
    # The server's own two threads are there.
    assert threading.active_count() <= before + 2
