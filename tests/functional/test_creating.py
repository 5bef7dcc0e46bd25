"""Creating work items, one or many: objects created, found again and resumed, and the requests sent."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from cfplatform import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    CreateResult,
    InvalidParameterError,
    NotFoundError,
    OutageError,
    ServerError,
    UploadedFile,
    UploadError,
)
from tests.functional.shell import environment, json_lines, on_terminal, run, shown, started

SIGNED = "https://store.example.com/a.jpg?X-Amz-Signature=abcdef0123"


@pytest.fixture
def files(tmp_path):
    """Paths of twelve files, each with other content."""
    folder = tmp_path / "images"
    folder.mkdir()
    return [make(folder / f"{number:02}.png") for number in range(12)]


def make(path):
    path.write_bytes(f"content of {path.name}".encode())
    return path


def sent(sandbox, method, route="work_items"):
    return [request for request in sandbox.requests if (request.method, request.route) == (method, route)]


def bodies(sandbox):
    return [json.loads(request.body) for request in sent(sandbox, "POST")]


def items_of(client, name):
    return list(client.get_batch(name=name).get_work_items())


# --- Many in one run -------------------------------------------------------------------------------------------------


def test_files_uploads_and_urls_become_items(client, sandbox, files):
    uploaded = client.upload_file(io.BytesIO(b"earlier"))
    opened = io.BytesIO(b"in memory")
    assets = [files[0], str(files[1]), uploaded, " https://example.com/a.jpg", "s3://bucket/b.jpg", opened]
    results = list(client.create_work_items(assets, batch="Spring", asset_type="image", metadata={"source": "camera"}))
    assert {id(result.asset) for result in results} == set(map(id, assets))
    assert all(result.ok and not result.existed and result.error is None for result in results)
    found = {result.item.id: result for result in results}
    listed = items_of(client, "Spring")
    assert {item.id for item in listed} == set(found)
    for item in listed:
        asset, known = found[item.id].asset, found[item.id].uploaded
        assert (item.asset_type, item.metadata) == ("image", {"source": "camera"})
        if isinstance(asset, str) and "://" in asset:
            assert (item.asset_url, known) == (asset.strip(), None)
        else:
            content = {files[0]: files[0].read_bytes(), str(files[1]): files[1].read_bytes(), opened: b"in memory"}
            assert item.asset_url == known.path
            assert sandbox.asset(item.id) == content.get(asset, b"earlier")
    # The batch, the URLs of three uploads in one or two requests, the uploads and the items, and nothing else.
    assert len(sent(sandbox, "POST", "batches")) == 1
    assert (len(sent(sandbox, "PUT", "uploads")), len(sent(sandbox, "POST"))) == (4, 6)


def test_metadata_and_batch_in_every_form(client, sandbox):
    urls = [f"https://example.com/{number}" for number in range(3)]

    def metadata(asset):
        return None if asset.endswith("0") else {"externalId": asset[-1]}

    list(client.create_work_items(urls, batch=client.get_batch(1002), metadata=metadata))
    known = {body["assetUrl"][-1]: body for body in bodies(sandbox)}
    assert [known[number].get("metadata") for number in "012"] == [None, {"externalId": "1"}, {"externalId": "2"}]
    assert {body["batchId"] for body in bodies(sandbox)} == {1002}
    (result,) = client.create_work_items(urls[:1], batch=1001)
    assert result.item.batch_id == 1001
    (result,) = client.create_work_items(urls[:1])
    assert result.item.batch_id is None
    name = client.get_batch(1001).name
    (result,) = client.create_work_items(urls[:1], batch=f" {name} ")
    assert result.item.batch_id == 1001


def test_assets_are_read_lazily_and_the_rest_is_not_created_if_the_loop_is_left(client, sandbox):
    taken = []

    def assets():
        for number in range(10_000):
            taken.append(number)
            yield f"https://example.com/{number}"

    results = client.create_work_items(assets(), max_workers=2)
    assert [next(results).ok for _ in range(20)] == [True] * 20
    results.close()
    assert len(taken) <= 20 + 2 * 2 + 10
    assert len(sent(sandbox, "POST")) <= len(taken)


def test_one_that_fails_does_not_stop_the_others(client, sandbox, files):
    sandbox.fail_next(422, path="*/workItems", method="POST", body={"message": "not this one"})
    (files[1].parent / "empty.png").touch()
    assets = [*files, "missing.png", files[1].parent / "empty.png", 5]
    results = list(client.create_work_items(assets, metadata=lambda asset: {"bad": {1}} if asset == files[3] else {}))
    failed = {result.asset: type(result.error) for result in results if not result.ok}
    refused = next(asset for asset, kind in failed.items() if kind is BadRequestError)
    assert failed == {
        refused: BadRequestError,
        "missing.png": UploadError,
        files[1].parent / "empty.png": UploadError,
        5: InvalidParameterError,
        files[3]: InvalidParameterError,
    }
    assert sum(result.item is not None for result in results) == 10
    assert len(sent(sandbox, "POST")) == 11


def test_progress_counts_assets(client, files, tmp_path):
    class Reporter:
        def __init__(self):
            self.calls = []

        def start(self, total):
            self.calls.append(total)

        def advance(self, outcome, size):
            self.calls.append((outcome, size))

        def finish(self):
            self.calls.append("finish")

    size = files[0].stat().st_size
    for outcome, moved in (("created", size), ("skipped", 0)):
        reporter = Reporter()
        list(client.create_work_items([files[0], "missing"], progress=reporter, journal=tmp_path / "journal"))
        assert (reporter.calls[0], reporter.calls[-1]) == (2, "finish")
        assert sorted(reporter.calls[1:-1]) == sorted([("failed", 0), (outcome, moved)])


@pytest.mark.parametrize("path", ["*/workItems", "*/signedurls"])
def test_a_key_that_is_refused_ends_the_run_after_the_results(client, sandbox, files, path):
    results = client.create_work_items(["https://example.com/first", *files], max_workers=1)
    first = next(results)
    assert first.ok
    sandbox.fail_next(401, path=path, times=None)
    with pytest.raises(AuthenticationError):
        list(results)
    assert len([request for request in sandbox.requests if request.status == 401]) <= 2


def test_an_unknown_batch_project_or_call_ends_the_run(client, sandbox):
    urls = [f"https://example.com/{number}" for number in range(100)]
    with pytest.raises(NotFoundError, match="batch 7 not found.*provisional"):
        list(client.create_work_items(urls, batch=7, max_workers=2))
    for batch in (None, "Spring"):
        with pytest.raises(NotFoundError):
            list(client.create_work_items(urls, "d3b07384-d9a0-4c9b-8f5e-0a1b2c3d4e5f", batch=batch, max_workers=2))
    sandbox.fail_next(405, path="*/workItems", method="POST", times=None)
    with pytest.raises(Exception, match="provisional"):
        list(client.create_work_items(urls, max_workers=2))
    assert len(sent(sandbox, "POST")) <= 3 * 3


def test_an_outage_ends_the_run_when_patience_is_used_up_and_else_fails_nothing(client, sandbox, files):
    sandbox.outage(60, 503)
    with pytest.raises(OutageError):
        list(client.create_work_items(files, patience=0.5))
    sandbox.clear_faults()
    sandbox.outage(0.7, 503, at=["work_items"])
    results = list(client.create_work_items(files, batch=1001))
    assert all(result.ok for result in results)
    assert len({result.item.asset_url for result in results}) == 12
    assert client.get_batch(1001).total_count == 10 + 12


def test_an_outage_of_creating_alone_fails_nothing(client, sandbox, files):
    sandbox.fail_next(503, path="*/workItems", method="POST", times=None)
    end = threading.Timer(0.7, sandbox.clear_faults)
    end.start()
    results = list(client.create_work_items([*files, *files], batch=1001, max_workers=4))
    assert all(result.ok for result in results)
    assert client.get_batch(1001).total_count == 10 + 24
    # The platform was not flooded meanwhile.
    assert len([request for request in sent(sandbox, "POST") if request.status == 503]) < 20
    sandbox.fail_next(503, path="*/workItems", method="POST", times=None)
    with pytest.raises(OutageError, match="503"):
        list(client.create_work_items(files, patience=0.5, max_workers=2))


def test_too_many_requests_are_waited_for(client, sandbox):
    sandbox.fail_next(429, path="*/workItems", method="POST", times=5, headers={"Retry-After": "0"})
    urls = [f"https://example.com/{number}" for number in range(8)]
    assert all(result.ok for result in client.create_work_items(urls))
    assert Counter(request.status for request in sent(sandbox, "POST")) == {201: 8, 429: 5}
    assert sent(sandbox, "GET") == []
    assert client.get_work_items_count() == 20 + 8


def test_a_space_is_needed_for_files_only(sandbox, files):
    with sandbox.client(space_id=None) as client:
        assert next(client.create_work_items(["https://example.com/a"])).ok
        with pytest.raises(ConfigurationError, match="CF_SPACE_ID"):
            list(client.create_work_items(files))
        assert next(client.create_work_items(files, space_id=sandbox.space_id)).ok


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"assets": "a.png"}, "assets must be an iterable.*create_work_item"),
        ({"assets": UploadedFile("assets/a", 1, "image/png", None)}, "assets must be an iterable"),
        ({"assets": [], "batch": -1}, "not a valid batch ID"),
        ({"assets": [], "batch": " "}, "batch must be a non-empty string"),
        ({"assets": [], "metadata": {"a": {1}}}, "metadata cannot be sent"),
        ({"assets": [], "metadata": 5}, "metadata must be a mapping"),
        ({"assets": [], "asset_type": ""}, "asset_type must be"),
        ({"assets": [], "content_type": "png"}, "content_type must be"),
        ({"assets": [], "journal": 5}, "journal must be a path"),
        ({"assets": [], "max_workers": 0}, "max_workers must be"),
    ],
)
def test_wrong_arguments_are_refused_by_the_call(client, sandbox, arguments, words):
    with pytest.raises(ValueError, match=words):
        client.create_work_items(**arguments)
    assert sandbox.requests == []


def test_results_are_plain_data_and_show_no_signature(client, files):
    assets = [files[0], SIGNED, io.BytesIO(b"x"), "missing.png"]
    results = list(client.create_work_items(assets))
    for result in results:
        data = json.loads(json.dumps(result.as_dict()))
        asset = result.asset
        assert data["asset"] == (None if isinstance(asset, io.BytesIO) else str(asset))
        assert data["item"] == (result.item.as_dict() if result.ok else None)
        assert data["uploaded"] == (result.uploaded.as_dict() if result.uploaded else None)
        assert (data["error_type"], data["existed"]) == (None if result.ok else "UploadError", False)
        assert "abcdef0123" not in repr(result)
    assert CreateResult("a").ok


# --- Lost responses --------------------------------------------------------------------------------------------------

#: Faults that lose the response to a POST, and whether the platform has acted.
LOST = {
    "cut off": (lambda sandbox, path, times: sandbox.truncate_next(times, path=path, method="POST", keep=0.5), True),
    "reset": (lambda sandbox, path, times: sandbox.reset_next(times, path=path, method="POST"), False),
    "503": (lambda sandbox, path, times: sandbox.fail_next(503, times=times, path=path, method="POST"), False),
    "web page": (lambda sandbox, path, times: sandbox.html_next(times, path=path, method="POST"), False),
}


@pytest.mark.parametrize("how", LOST)
def test_an_item_is_created_once_though_the_response_is_lost(client, sandbox, how):
    lose, has_acted = LOST[how]
    lose(sandbox, "*/workItems", 1)
    item = client.create_work_item("assets/abc", batch_id=1002, metadata={"externalId": "e1"})
    assert [request.method for request in sandbox.requests] == ["POST", "GET"] + ["POST"] * (not has_acted)
    query = dict(sandbox.requests[1].query)
    age = datetime.now(timezone.utc) - datetime.fromisoformat(query["createdAtFrom"])
    assert timedelta(minutes=9) < age < timedelta(minutes=12)
    assert query["batchIds"] == "1002"
    assert client.get_work_item(item.id).metadata == {"externalId": "e1"}
    assert client.get_work_items_count() == 21


@pytest.mark.parametrize("how", LOST)
def test_a_batch_is_created_once_though_the_response_is_lost(client, sandbox, how):
    lose, has_acted = LOST[how]
    lose(sandbox, "*/batches", 1)
    batch = client.create_batch("Spring")
    assert [request.method for request in sandbox.requests] == ["POST", "GET"] + ["POST"] * (not has_acted)
    assert [each.id for each in client.get_batches()] == [1001, 1002, batch.id]


def test_an_old_batch_is_not_taken_for_a_new_one(client, sandbox):
    taken = client.get_batch(1001).name
    sandbox.reset_next(path="*/batches", method="POST")
    with pytest.raises(ConflictError, match="is taken"):
        client.create_batch(taken)
    for _ in range(2):
        assert client.create_batch(taken, exist_ok=True).id == 1001
        # Its response may be lost as well.
        sandbox.reset_next(path="*/batches", method="POST")


def test_what_cannot_be_looked_up_is_reported_with_the_first_error(sandbox):
    with sandbox.client(retries=1) as client:
        sandbox.outage(60, 503)
        with pytest.raises(ServerError, match=r"^POST .*It may have been created") as caught:
            client.create_work_item("assets/abc")
        assert caught.value.method == "POST"
    assert [request.method for request in sandbox.requests] == ["POST", "GET", "GET"]


@pytest.mark.parametrize("how", LOST)
def test_a_run_creates_each_item_once_though_responses_are_lost(client, sandbox, files, how):
    lose, has_acted = LOST[how]
    lose(sandbox, "*/workItems", 2)
    results = list(client.create_work_items(files, batch="Spring", max_workers=6))
    assert all(result.ok and not result.existed for result in results)
    assert {item.id for item in items_of(client, "Spring")} == {result.item.id for result in results}
    assert len(items_of(client, "Spring")) == 12
    assert len(sent(sandbox, "PUT", "uploads")) == 12
    assert len(sent(sandbox, "POST")) == (12 if has_acted else 14)


def test_a_url_that_is_given_several_times_becomes_several_items(client, sandbox):
    sandbox.truncate_next(1, path="*/workItems", method="POST", keep=0.0)
    sandbox.fail_next(503, path="*/workItems", method="POST")
    results = list(client.create_work_items(["https://example.com/a"] * 8, batch="Spring", max_workers=8))
    assert len({result.item.id for result in results}) == 8
    assert len(items_of(client, "Spring")) == 8


def test_the_external_id_distinguishes_items_of_one_url(client, sandbox):
    first = client.create_work_item("https://example.com/a", metadata={"externalId": "e1"})
    sandbox.reset_next(path="*/workItems", method="POST")
    second = client.create_work_item("https://example.com/a", metadata={"externalId": "e2"})
    assert second.id != first.id
    assert second.metadata == {"externalId": "e2"}
    sandbox.truncate_next(path="*/workItems", method="POST")
    third = client.create_work_item("https://example.com/a", metadata={"externalId": "e3"})
    assert third.metadata == {"externalId": "e3"}
    assert client.get_work_items_count() == 23


# --- Local files -----------------------------------------------------------------------------------------------------


def test_a_local_file_is_refused_or_uploaded(client, sandbox, files, monkeypatch):
    monkeypatch.chdir(files[0].parent)
    for given in ("00.png", files[0], str(files[0])):
        with pytest.raises(InvalidParameterError, match=r"00.png' is a local file\..*upload=True.*upload_file"):
            client.create_work_item(given)
    with pytest.raises(InvalidParameterError, match="upload: 'https://example.com/a' is not a local file"):
        client.create_work_item("https://example.com/a", upload=True)
    with pytest.raises(InvalidParameterError, match="not a local file"):
        client.create_work_item(UploadedFile("assets/a", 1, "image/png", None), upload=True)
    with pytest.raises(InvalidParameterError, match="asset_url must be a non-empty string"):
        client.create_work_item(files[0].parent)
    with pytest.raises(InvalidParameterError, match="not a valid batch ID"):
        client.create_work_item("00.png", batch_id="x", upload=True)
    assert sandbox.requests == []
    with pytest.raises(UploadError, match="No such file"):
        client.create_work_item("missing.png", upload=True)
    for given in ("00.png", files[0], io.BytesIO(files[0].read_bytes())):
        item = client.create_work_item(given, batch_id=1002, upload=True)
        assert (sandbox.asset(item.id), item.batch_id) == (files[0].read_bytes(), 1002)


# --- The journal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.jsonl"


def test_finished_items_are_yielded_without_any_request(client, sandbox, files, journal):
    assets = [*files, files[0], SIGNED, SIGNED, UploadedFile("assets/given", 1, "image/png", None)]
    options = {"batch": "Spring", "journal": journal, "metadata": {"callbackUrl": "https://example.com/?token=t0k3n"}}
    first = {result.item.id: result for result in client.create_work_items(assets, **options)}
    assert len(first) == len(assets)
    written = journal.read_text()
    assert not [secret for secret in ("abcdef0123", "t0k3n", "store.example.com", sandbox.api_key) if secret in written]
    before = len(sandbox.requests)
    second = {result.item.id: result for result in client.create_work_items(assets, **options)}
    assert len(sandbox.requests) == before
    assert set(second) == set(first)
    for key, result in second.items():
        assert result.existed
        assert (result.asset, result.uploaded) == (first[key].asset, first[key].uploaded)
        assert result.item.asset_url == first[key].item.asset_url
        assert result.item.batch_id == first[key].item.batch_id
    assert result.item.refresh().metadata == options["metadata"]
    assert journal.read_text() == written


def test_another_file_batch_or_project_is_created(client, sandbox, files, journal):
    def created(**options):
        return sum(not result.existed for result in client.create_work_items(files, journal=journal, **options))

    assert created() == 12
    assert created() == 0
    files[0].write_bytes(b"changed")
    later = files[1].stat().st_mtime_ns + 1_000_000_000
    os.utime(files[1], ns=(later, later))
    assert created() == 2
    assert created(batch="Spring") == 12
    assert created(batch=1001) == 12
    assert created(batch=1001) == 0
    assert client.get_work_items_count() == 20 + 12 + 2 + 24


def test_an_asset_that_failed_is_created_by_the_next_run(client, sandbox, files, journal):
    sandbox.fail_next(422, path="*/workItems", method="POST")
    results = list(client.create_work_items(files[:3], journal=journal))
    assert [type(result.error) for result in results if not result.ok] == [BadRequestError]
    results = list(client.create_work_items(files[:3], journal=journal))
    assert Counter(result.existed for result in results) == {True: 2, False: 1}
    assert (len(sent(sandbox, "PUT", "uploads")), len(sent(sandbox, "POST"))) == (3, 4)
    # It was refused, so there was nothing to search for.
    assert sent(sandbox, "GET") == []


def cut(journal, word):
    """Truncate a journal before the first line with a word."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: next(i for i, line in enumerate(lines) if word in line)]))


@pytest.mark.parametrize("asset", ["file", SIGNED])
@pytest.mark.parametrize("tail", [b"", b'{"key": "torn'])
def test_what_was_about_to_be_created_is_searched(client, sandbox, files, journal, asset, tail):
    asset = files[0] if asset == "file" else asset
    (result,) = client.create_work_items([asset], batch=1001, journal=journal)
    cut(journal, b'"item"')
    journal.write_bytes(journal.read_bytes() + tail)
    before = len(sandbox.requests)
    (again,) = client.create_work_items([asset], batch=1001, journal=journal)
    assert (again.item, again.existed) == (result.item, True)
    (request,) = sandbox.requests[before:]
    assert (request.method, dict(request.query)["batchIds"]) == ("GET", "1001")
    # Created if it was not.
    sandbox.delete_work_item(result.item.id)
    cut(journal, b'"item"')
    before = len(sandbox.requests)
    (third,) = client.create_work_items([asset], batch=1001, journal=journal)
    assert (third.item.asset_url, third.existed) == (result.item.asset_url, False)
    assert [request.method for request in sandbox.requests[before:]] == ["GET", "POST"]


def test_an_upload_that_had_arrived_is_not_sent_again(client, sandbox, files, journal):
    (result,) = client.create_work_items(files[:1], journal=journal)
    cut(journal, b'"is_uploaded"')
    sandbox.delete_work_item(result.item.id)
    (again,) = client.create_work_items(files[:1], journal=journal)
    assert again.uploaded == result.uploaded
    assert len(sent(sandbox, "PUT", "uploads")) == 1
    # An item that had not arrived is created.
    cut(journal, b'"is_uploaded"')
    journal.write_text(journal.read_text().replace(result.uploaded.path, "assets/never-sent"))
    (third,) = client.create_work_items(files[:1], journal=journal)
    assert sandbox.asset(third.item.id) == files[0].read_bytes()
    assert len(sent(sandbox, "PUT", "uploads")) == 2


@pytest.mark.parametrize("content", [b"hello", b"{}\n", b'{"a": 1}\n{"b": 2}\n', b"\x00\xff" * 100, b"\n"])
def test_a_file_that_is_no_journal_stays_as_it_is(client, sandbox, files, journal, content):
    journal.write_bytes(content)
    with pytest.raises(InvalidParameterError, match=r"journal: .*journal\.jsonl' is not a cfplatform journal"):
        list(client.create_work_items(files, journal=journal))
    assert journal.read_bytes() == content
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"5",
        b'{"item": "x"}',
        b'{"key": []}',
        b'{"key": "a", "item": "x"}',
        b'{"key": "a", "item": 5, "batch_id": 1}',
        b'{"key": "a", "is_uploaded": true}',
        b'{"key": "a", "file": 5}',
        b'{"key": "a", "file": {"path": "assets/x"}}',
    ],
)
def test_a_damaged_line_is_named(client, sandbox, files, journal, line):
    list(client.create_work_items(files[:1], journal=journal))
    content = journal.read_bytes() + line + b"\n"
    journal.write_bytes(content)
    number = content.count(b"\n")
    with pytest.raises(InvalidParameterError, match=f"is damaged in line {number}"):
        list(client.create_work_items(files[:1], journal=journal))
    assert journal.read_bytes() == content


def test_journals_that_cannot_be_used(client, sandbox, files, tmp_path):
    for path, words in (
        (tmp_path, "cannot be opened: Is a directory"),
        (tmp_path / "no" / "journal", "cannot be opened: No such file"),
        (os.devnull, "is not a regular file"),
        ("a\0b", "cannot be opened"),
    ):
        with pytest.raises(InvalidParameterError, match=words):
            list(client.create_work_items(files, journal=path))
    assert sandbox.requests == []


def test_a_file_object_cannot_be_recognised(client, sandbox, files, journal):
    opened = io.BytesIO(b"x")
    results = {result.asset: result for result in client.create_work_items([opened, files[0]], journal=journal)}
    assert isinstance(results[opened].error, InvalidParameterError)
    assert "Pass paths" in str(results[opened].error)
    assert results[files[0]].ok


def test_a_header_that_was_torn_is_written_again(client, files, journal):
    list(client.create_work_items(files[:1], journal=journal))
    header = journal.read_bytes().splitlines(keepends=True)[0]
    journal.write_bytes(header[:20])
    assert [result.existed for result in client.create_work_items(files[:1], journal=journal)] == [False]
    assert [result.existed for result in client.create_work_items(files[:1], journal=journal)] == [True]
    assert journal.read_bytes().startswith(header)


def test_one_run_at_a_time_uses_a_journal(client, sandbox, files, journal):
    results = client.create_work_items(files, journal=journal)
    next(results)
    with pytest.raises(InvalidParameterError, match="is in use by another run"):
        list(client.create_work_items(files, journal=journal))
    done = run("work-items", "create", *files, "--journal", journal, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in use by another run" in done.stderr
    results.close()
    assert len(list(client.create_work_items(files, journal=journal))) == 12
    assert client.get_work_items_count() == 20 + 12


FULL = """
import resource
from cfplatform import Client, DestinationError
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
with Client() as client:
    try:
        list(client.create_work_items((f"https://example.com/{n}" for n in range(60)), journal="journal"))
    except DestinationError as error:
        print(error.errno, error)
"""


def test_a_full_disk_ends_the_run_and_nothing_is_created_twice(sandbox, client, tmp_path):
    pytest.importorskip("resource")
    script = [sys.executable, "-c", FULL]
    done = subprocess.run(script, cwd=tmp_path, env=environment(sandbox), capture_output=True, text=True, check=True)
    assert re.match(rf"{errno.EFBIG} journal: 'journal' cannot be written: File too large\. ", done.stdout)
    before = len(sent(sandbox, "POST"))
    assert 0 < before < 60
    urls = [f"https://example.com/{number}" for number in range(60)]
    assert all(result.ok for result in client.create_work_items(urls, journal=tmp_path / "journal"))
    assert sorted(body["assetUrl"] for body in bodies(sandbox)) == sorted(urls)


SCRIPT = """
import sys
from pathlib import Path
from cfplatform import Client
with Client() as client:
    files = sorted(Path("images").iterdir())
    for result in client.create_work_items(files, batch="Spring", journal="journal", max_workers=8):
        print(result.item.id, flush=True)
"""


@pytest.mark.parametrize("lines", [0, 25])
def test_killed_and_resumed(make_sandbox, tmp_path, lines):
    sandbox = make_sandbox(items=1, latency=0.02)
    (tmp_path / "images").mkdir()
    names = [make(tmp_path / "images" / f"{number:02}.png").name for number in range(60)]
    script = [sys.executable, "-c", SCRIPT]
    options = {"cwd": tmp_path, "env": environment(sandbox), "stdout": subprocess.PIPE}
    with subprocess.Popen(script, **options) as process:
        while not sent(sandbox, "POST"):
            time.sleep(0.01)
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
    # Sent requests may still be on their way.
    time.sleep(0.2)
    assert len(sent(sandbox, "POST")) < 60
    done = subprocess.run(script, **options, timeout=60, check=True)
    assert len(set(done.stdout.split())) == 60
    with sandbox.client() as client:
        items = items_of(client, "Spring")
        assert len(items) == 60
        assert {sandbox.asset(item.id) for item in items} == {f"content of {name}".encode() for name in names}
    assert len([request for request in sent(sandbox, "PUT", "uploads") if request.status == 200]) == 60


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_creates_and_continues(sandbox, tmp_path, files):
    (files[0].parent / ".hidden.png").write_bytes(b"x")
    (files[0].parent / "sub").mkdir()
    (files[0].parent / "sub" / "deep.png").write_bytes(b"x")
    arguments = ["work-items", "create", "images", "--batch-name", "Spring", "--metadata", '{"camera": 7}']
    done = run(*arguments, sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {(batch, asset) for _, batch, asset in rows} == {("1003", f"images/{path.name}") for path in files}
    assert all(sandbox.work_item(item)["metadata"] == {"camera": 7} for item, *_ in rows)
    last = "created, {} existed already. 'cfplatform work-items --status any' lists them.\n"
    assert done.stderr.endswith("12 " + last.format(0))
    make(files[0].parent / "new.png")
    before = len(sandbox.requests)
    again = run(*arguments, sandbox=sandbox, cwd=tmp_path)
    assert {tuple(row) for row in rows} < {tuple(line.split("\t")) for line in again.stdout.splitlines()}
    assert again.stderr.endswith("1 " + last.format(12))
    assert len(sandbox.requests) - before == 5
    assert (tmp_path / ".cfplatform-created.jsonl").exists()


def test_the_command_reports_what_failed(sandbox, tmp_path, files):
    assets = ["images/00.png", "missing.png", SIGNED, "assets/stored"]
    sandbox.fail_next(422, path="*/workItems", method="POST", times=1, body={"message": "not this one"})
    done = run("work-items", "create", *assets, "--json", "--max-workers", "1", sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 1
    lines = {line["asset"]: line for line in json_lines(done.stdout)}
    assert set(lines) == set(assets)
    assert "No such file" in lines["missing.png"]["error"]
    assert sorted(line["error_type"] or "" for line in lines.values()) == ["", "", "BadRequestError", "UploadError"]
    assert "Error: 2 of 4 work items could not be created. Run the same command again" in done.stderr
    done = run("work-items", "create", *assets, "--batch-id", "1001", "-q", sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 1
    found = sorted(line.split("\t")[1:] for line in done.stdout.splitlines())
    assert found == [["1001", "assets/stored"], ["1001", "https://store.example.com/a.jpg"], ["1001", "images/00.png"]]
    assert done.stderr.splitlines()[-1] == "  Could not read 'missing.png': No such file or directory."


def test_a_single_url_is_created_as_before(sandbox, tmp_path):
    done = run("work-items", "create", SIGNED, "--batch-name", "Spring", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    item, batch, status, *_ = done.stdout.split("\t")
    assert (sandbox.work_item(item)["assetUrl"], batch, status) == (SIGNED, "1003", "NEW")
    run("work-items", "create", "assets/abc", "--batch-name", "7", sandbox=sandbox, cwd=tmp_path)
    assert json.loads(sent(sandbox, "POST", "batches")[-1].body) == {"name": "7"}
    assert list(tmp_path.iterdir()) == []
    done = run("work-items", "create", "a", "--batch-id", "1001", "--batch-name", "7", sandbox=sandbox)
    assert (done.returncode, "--batch-id and --batch-name exclude each other" in done.stderr) == (2, True)


def test_the_command_says_why_it_ended(sandbox, tmp_path, files):
    done = run("work-items", "create", "images", "--batch-id", "999", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "batch 999 not found" in done.stderr
    done = run("work-items", "create", "images", "--journal", "images", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "Error: --journal: 'images' cannot be opened: Is a directory.\n")
    (tmp_path / "empty").mkdir()
    done = run("work-items", "create", "empty", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, "No files in 'empty'." in done.stderr) == (2, True)
    done = run("work-items", "create", "images", sandbox=sandbox, cwd=tmp_path, CF_SPACE_ID=None)
    assert done.returncode == 2
    assert done.stderr.endswith("Error: No space. Pass --space-id or set CF_SPACE_ID.\n")


def test_on_a_terminal_items_are_a_table_in_the_order_of_the_assets(sandbox, files, tmp_path):
    arguments = ["work-items", "create", files[3], files[1], SIGNED, "--journal", tmp_path / "j"]
    code, screen = on_terminal(*arguments, sandbox=sandbox, columns=120, NO_COLOR="1")
    assert code == 0
    header, *rows, last = shown(screen).splitlines()[-5:]
    assert header.split() == ["ID", "Batch", "Asset"]
    assert [row.split()[-1] for row in rows] == ["03.png", "01.png", "https://store.example.com/a.jpg"]
    assert last.startswith("3 created, 0 existed already.")


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="needs signals")
def test_stopped_by_ctrl_c_and_resumed(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=1, latency=0.05)
    paths = [make(tmp_path / f"{number:02}.png") for number in range(40)]
    arguments = [
        "work-items",
        "create",
        *paths,
        "--batch-name",
        "Spring",
        "--max-workers",
        "4",
        "--journal",
        tmp_path / "j",
    ]
    with started(*arguments, sandbox=sandbox) as process:
        first = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped. Finished work is kept; run the same command again to resume. Finished so far: " in error
    time.sleep(0.2)
    done = run(*arguments, sandbox=sandbox)
    assert done.returncode == 0
    assert set(first) <= {line + "\n" for line in done.stdout.splitlines()}
    with sandbox.client() as client:
        assert len(items_of(client, "Spring")) == 40
    assert len([request for request in sent(sandbox, "PUT", "uploads") if request.status == 200]) == 40


def test_a_command_with_a_misspelt_file_creates_nothing(sandbox, tmp_path):
    for name in ("misspelt.png", "images/misspelt.JPG", "misspelt/"):
        done = run("work-items", "create", name, sandbox=sandbox, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"Could not read '{name}': No such file or directory." in done.stderr
    assert sent(sandbox, "POST", "work_items") == []
    # A path of the storage need not be a file here.
    for path in ("assets/abc.png", "abc"):
        assert run("work-items", "create", path, sandbox=sandbox, cwd=tmp_path).returncode == 0
