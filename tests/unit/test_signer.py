"""Signing: results are matched by path, and an invalid path fails alone."""

from __future__ import annotations

import json
import random

import pytest

from cfplatform import (
    AuthenticationError,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    ServerError,
)
from cfplatform.transfer import steps
from tests.http.scripted import Answer, raw, said


def url(path):
    return f"https://storage.example/{path}?sig=1"


def signed(*paths):
    return {"items": [{"path": path, "signedUrl": url(path)} for path in paths]}


def asked(server):
    return [json.loads(request.body)["paths"] for request in server.requests]


@pytest.fixture
def sign(connect):
    return lambda server, *paths: steps.sign(connect(server, retries=0)._calls, "s 1", list(paths))


def test_nothing_to_sign_sends_nothing(serve, sign):
    server = serve()
    assert sign(server) == {}
    assert server.requests == []


def test_the_space_is_quoted_and_each_path_asked_for_once(serve, sign):
    server = serve(said(signed("a", "b")))
    assert sign(server, "a", "b", "a") == {"a": url("a"), "b": url("b")}
    assert server.requests[0].method == "POST"
    assert server.requests[0].target == "/api/v1/spaces/s%201/signedurls"
    assert asked(server) == [["a", "b"]]


@pytest.mark.parametrize("space", ["", ".", ".."])
def test_a_space_that_would_change_the_route_is_refused(serve, connect, space):
    server = serve()
    with pytest.raises(InvalidParameterError):
        steps.sign(connect(server)._calls, space, ["a"])
    assert server.requests == []


def test_many_paths_are_signed_a_thousand_at_a_time(serve, sign):
    paths = [f"f{number}.json" for number in range(2500)]
    server = serve(default=Answer(lambda request: said(signed(*json.loads(request.body)["paths"]))))
    assert sign(server, *paths) == {path: url(path) for path in paths}
    assert [len(group) for group in asked(server)] == [1000, 1000, 500]


def test_answers_are_matched_by_path_whatever_their_order(serve, sign):
    paths = [f"f{number}" for number in range(50)]
    shuffled = random.Random(1).sample(paths, 50)
    server = serve(said(signed(*shuffled, "foreign", *shuffled[:3])))
    assert sign(server, *paths) == {path: url(path) for path in paths}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        [],
        "x",
        {},
        {"path": "b"},
        {"path": "b", "signedUrl": None},
        {"path": "b", "signedUrl": ""},
        {"path": "b", "signedUrl": 5},
        {"path": "b", "signedUrl": "relative/path"},
        {"path": "b", "signedUrl": "https://[::1"},
        {"path": ["b"], "signedUrl": "https://h/x"},
        {"path": {"b": 1}, "signedUrl": "https://h/x"},
        {"path": None, "signedUrl": "https://h/x"},
    ],
)
def test_a_path_that_was_not_signed_is_asked_for_once_more_and_then_fails_alone(serve, sign, odd):
    server = serve(said({"items": [*signed("a")["items"], odd]}), said({"items": [odd]}))
    found = sign(server, "a", "b")
    assert found["a"] == url("a")
    assert isinstance(found["b"], DownloadError)
    assert "no signed URL for 'b'" in str(found["b"])
    assert asked(server) == [["a", "b"], ["b"]]


def test_a_path_that_is_signed_at_the_second_time_is_fine(serve, sign):
    server = serve(said(signed("a")), said(signed("b")))
    assert sign(server, "a", "b") == {"a": url("a"), "b": url("b")}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_refused_path_is_found_by_halving_and_costs_only_itself(serve, sign, status):
    paths = [f"f{number}" for number in range(64)]

    def answer(request):
        group = json.loads(request.body)["paths"]
        return said({"message": "bad path"}, status) if "f13" in group else said(signed(*group))

    server = serve(default=Answer(answer))
    found = sign(server, *paths)
    assert {path for path in paths if not isinstance(found[path], str)} == {"f13"}
    assert "refused to sign 'f13'" in str(found["f13"])
    assert "bad path" in str(found["f13"])
    # Once with everybody, then two halves on each of six levels. What failed is not asked for again.
    assert len(server.requests) == 1 + 2 * 6


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (500, ServerError)])
def test_a_fault_of_the_whole_call_is_raised(serve, sign, status, error):
    server = serve(default=said({"message": "no"}, status))
    with pytest.raises(error):
        sign(server, "a", "b")
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [None, [], {}, {"items": None}, {"items": {}}, "x"])
def test_an_answer_without_a_list_is_an_error(serve, sign, body):
    with pytest.raises(InvalidResponseError, match="response to a signing request has no list"):
        sign(serve(default=said(body)), "a")


@pytest.mark.parametrize(
    "fault",
    [
        said({"message": "busy"}, 503),
        Answer(end="close"),
        Answer(end="reset"),
        raw(200, b'{"items": ['),
        raw(200),
    ],
)
def test_signing_changes_nothing_and_is_repeated(serve, connect, fault):
    server = serve(fault, said(signed("f.json")))
    assert steps.sign(connect(server)._calls, "s", ["f.json"]) == {"f.json": url("f.json")}
    assert asked(server) == [["f.json"]] * 2
