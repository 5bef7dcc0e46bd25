"""Uploads, new work items and batches against the sandbox."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cfplatform import (
    APIError,
    AuthenticationError,
    Client,
    ConfigurationError,
    ConflictError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
    UploadedFile,
    UploadError,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street 1.png"
    path.write_bytes(b"\x89PNG" + os.urandom(50_000))
    return path


def stored(client, sandbox, uploaded):
    """The object that the storage holds for an upload."""
    return sandbox.asset(client.create_work_item(uploaded).id)


def sent(sandbox, route="uploads"):
    return [request for request in sandbox.requests if request.route == route]


def test_a_file_becomes_an_asset(client, sandbox, picture):
    uploaded = client.upload_file(picture)
    assert uploaded == UploadedFile(uploaded.path, 50_004, "image/png", "street 1.png")
    (put,) = sent(sandbox)
    assert put.path.endswith(f"/spaces/{sandbox.space_id}/{uploaded.path}")
    assert (put.headers["content-type"], put.body_size) == ("image/png", 50_004)
    item = client.create_work_item(uploaded, batch_id=1002, metadata={"callbackUrl": "http://127.0.0.1:1/"})
    assert (item.asset_url, item.batch_id, item.metadata) == (
        uploaded.path,
        1002,
        {"callbackUrl": "http://127.0.0.1:1/"},
    )
    assert item.project_id == sandbox.project_id
    assert client.get_work_item(item.id) == item
    assert sandbox.asset(item.id) == picture.read_bytes()
    assert sandbox.leaks == 0


@pytest.mark.parametrize("form", [str, Path, lambda path: path.open("rb"), lambda path: io.BytesIO(path.read_bytes())])
def test_every_form_of_a_file(client, sandbox, picture, form):
    file = form(picture)
    uploaded = client.upload_file(file, content_type="image/x-own")
    assert stored(client, sandbox, uploaded) == picture.read_bytes()
    assert uploaded.name == (None if isinstance(file, io.BytesIO) else picture.name)
    if hasattr(file, "close"):
        assert not file.closed
        file.close()


def test_temporary_files_can_be_sent(client, sandbox):
    for make in (tempfile.TemporaryFile, tempfile.SpooledTemporaryFile, tempfile.NamedTemporaryFile):
        with make() as file:
            file.write(b"content")
            file.seek(3)
            assert stored(client, sandbox, client.upload_file(file)) == b"tent"


def test_a_named_pipe_or_device_is_refused(client, sandbox, tmp_path):
    refused = [tmp_path, os.devnull]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refused.append(tmp_path / "pipe")
    for path in refused:
        with pytest.raises(UploadError, match="only files can be uploaded"):
            client.upload_file(path)
    assert sandbox.requests == []


def test_what_cannot_be_sent_again_is_refused(client, sandbox, tmp_path):
    reading, writing = os.pipe()
    (tmp_path / "closed").write_bytes(b"x")
    closed = (tmp_path / "closed").open("rb")
    closed.close()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"), open(__file__) as text:
        for file, error, words in (
            (pipe, InvalidParameterError, "not seekable"),
            (text, InvalidParameterError, "text mode"),
            (io.StringIO("x"), InvalidParameterError, "text mode"),
            (closed, UploadError, "closed"),
            (io.BytesIO(), UploadError, "no bytes"),
            (b"bytes", InvalidParameterError, "io.BytesIO"),
            (5, InvalidParameterError, "not int"),
            (None, InvalidParameterError, "not NoneType"),
            ("missing.png", UploadError, "No such file"),
            ("a\0b", UploadError, "null"),
            ("", UploadError, "No such file"),
        ):
            with pytest.raises(error, match=words):
                client.upload_file(file)
            (result,) = client.upload_files([file])
            assert type(result.error) is error
            assert (result.file, result.uploaded, result.ok) == (file, None, False)
    assert sandbox.requests == []


def test_an_empty_file_is_refused(client, sandbox, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UploadError, match=r"empty\.png' is empty"):
        client.upload_file(tmp_path / "empty.png")
    assert sandbox.requests == []


@pytest.mark.parametrize("call", ["upload_file", "upload_files"])
def test_the_space_is_the_argument_or_the_clients(sandbox, call):
    def run(client, *space):
        file = io.BytesIO(b"x")
        return client.upload_file(file, *space) if call == "upload_file" else next(client.upload_files([file], *space))

    with sandbox.client(space_id=None) as client:
        with pytest.raises(ConfigurationError, match="space_id=.*CF_SPACE_ID"):
            run(client)
        assert sandbox.requests == []
        assert run(client, sandbox.space_id)
        with pytest.raises(NotFoundError):
            run(client, "d3b07384-d9a0-4c9b-8f5e-0a1b2c3d4e5f")
    with pytest.raises(ConfigurationError, match="closed"):
        run(client, sandbox.space_id)


def test_many_files_use_few_requests(make_sandbox):
    sandbox = make_sandbox(items=1)
    with sandbox.client(max_workers=8) as client:
        files = {f"content {n}".encode() for n in range(203)}
        results = list(client.upload_files(io.BytesIO(content) for content in files))
        assert {result.file.getvalue() for result in results} == files
        assert len({result.uploaded.path for result in results}) == 203
        asked = [int(dict(request.query)["count"]) for request in sent(sandbox, "signing")]
        assert sum(asked) == 203
        assert len(asked) <= 25
        assert sandbox.max_in_flight <= 2 * 8
        for result in results[:20]:
            assert stored(client, sandbox, result.uploaded) == result.file.getvalue()


def test_uploads_are_plain_data(client, picture):
    with picture.open("rb") as file:
        results = list(client.upload_files([picture, str(picture), file, io.BytesIO(b"nameless"), "missing.png"]))
    data = [json.loads(json.dumps(result.as_dict())) for result in results]
    assert {each["file"] for each in data} == {str(picture), None, "missing.png"}
    for result, found in zip(results, data, strict=True):
        assert found["uploaded"] == (result.uploaded.as_dict() if result.ok else None)
        assert found["error"] == (None if result.ok else str(result.error))
        assert found["error_type"] == (None if result.ok else "UploadError")
    assert {each["uploaded"]["name"] for each in data if each["uploaded"]} == {picture.name, None}


def test_the_iterable_is_read_a_bounded_number_ahead(client):
    taken = []

    def files():
        for number in range(10_000):
            taken.append(number)
            yield io.BytesIO(b"x")

    results = client.upload_files(files(), max_workers=2)
    for count in range(1, 30):
        assert next(results).ok
        assert len(taken) <= count + 2 * 2 + 10
    results.close()


def test_progress_counts_files(client):
    class Reporter:
        def __init__(self):
            self.calls = []

        def start(self, total):
            self.calls.append(total)

        def advance(self, outcome, size):
            self.calls.append((outcome, size))

        def finish(self):
            self.calls.append("finish")

    reporter = Reporter()
    list(client.upload_files([io.BytesIO(b"four"), "missing"], progress=reporter))
    assert (reporter.calls[0], reporter.calls[-1]) == (2, "finish")
    assert sorted(reporter.calls[1:-1]) == [("failed", 0), ("uploaded", 4)]
    counted = []
    client.upload_file(io.BytesIO(b"four"), progress=lambda done, total: counted.append((done, total)))
    list(client.upload_files(iter([io.BytesIO(b"four")]), progress=lambda done, total: counted.append((done, total))))
    assert counted == [(1, 1), (1, None)]


def test_the_bar_names_only_what_failed(client, capfd):
    list(client.upload_files([io.BytesIO(b"four"), "missing"], progress=True))
    shown = capfd.readouterr().err
    assert "failed=1" in shown
    assert "uploaded" not in shown


def test_a_fault_of_the_reporter_ends_nothing(client):
    results = client.upload_files([io.BytesIO(b"x")] * 20, progress=lambda done, total: 1 / 0)
    assert all(result.ok for result in results)


def test_ctrl_c_in_the_reporter_ends_the_run(client):
    def report(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(client.upload_files([io.BytesIO(b"x")] * 100, progress=report))
    end = time.monotonic() + 10
    while any(thread.name.startswith("cfplatform-upload") for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_no_error_of_a_file_reaches_the_caller(client):
    class Stopping(io.BytesIO):
        def read(self, amount=-1):
            if amount:
                raise SystemExit(3)
            return b""

    with pytest.raises(SystemExit):
        list(client.upload_files([Stopping(b"x"), *(io.BytesIO(b"x") for _ in range(100))]))


def test_a_file_that_may_not_be_read_costs_no_address(client, sandbox, picture, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UploadError, match="permission denied"):
        client.upload_file(picture)
    assert sandbox.requests == []


def test_a_pause_ends_with_the_run(client, sandbox):
    sandbox.fail_next(503, times=None)
    results = client.upload_files([io.BytesIO(b"x"), "missing"])
    assert isinstance(next(results).error, UploadError)
    end = time.monotonic() + 10
    while len(sandbox.requests) < 6:
        assert time.monotonic() < end
        time.sleep(0.01)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 2


def test_faults_of_the_storage_are_mended(client, sandbox):
    sandbox.fail_next(503, path="/storage/*", times=3)
    sandbox.reset_next(path="/storage/*", times=2)
    contents = [os.urandom(100_000) for _ in range(10)]
    for result in client.upload_files(map(io.BytesIO, contents)):
        assert stored(client, sandbox, result.uploaded) == result.file.getvalue()


def test_addresses_that_expire_are_replaced(make_sandbox):
    sandbox = make_sandbox(items=1, url_lifetime=0.3)
    with sandbox.client(max_workers=2) as client:
        results = []
        for result in client.upload_files([io.BytesIO(b"x")] * 30):
            results.append(result)
            # Slower than the lifetime of the URLs.
            sandbox.latency = 0.1
        assert [result.error for result in results] == [None] * 30
    assert sandbox.counts["uploads"] > 30


def test_a_refused_key_stops_everything(sandbox):
    with Client("wrong-key-0123456789", base_url=sandbox.base_url, space_id=sandbox.space_id) as client:
        with pytest.raises(AuthenticationError):
            client.upload_file(io.BytesIO(b"x"))
        with pytest.raises(AuthenticationError):
            list(client.upload_files([io.BytesIO(b"x")] * 500))
    assert sent(sandbox) == []


def test_a_client_that_is_closed_ends_the_run(sandbox):
    client = sandbox.client(max_workers=1)
    results = client.upload_files([io.BytesIO(b"x")] * 100)
    assert next(results).ok
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        list(results)


SCRIPT = """
import io, sys, threading, time
from cfplatform import Client

def endless():
    while True:
        yield io.BytesIO(bytes(1000))

client = Client(max_workers=4)
results = client.upload_files(endless())
next(results)
print("begun", flush=True)
"""


@pytest.mark.parametrize("end", ["", "for result in results: pass", "import os; os.fork() or sys.exit(0); os.wait()"])
@pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")
def test_the_process_ends_soon(make_sandbox, end):
    sandbox = make_sandbox(items=1, latency=0.01)
    environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}
    # Newer versions of Python warn about a fork with threads, which is tested here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + end]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "begun\n"
        sandbox.latency = 30
        time.sleep(0.1)
        began = time.monotonic()
        if "for" in end.split():
            process.send_signal(2)
        _, error = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - began < 3
    assert ("KeyboardInterrupt" in error) if "for" in end.split() else (error == "")


# --- Work items ----------------------------------------------------------------------------------------------


def test_a_work_item_needs_an_address_only(client, sandbox):
    item = client.create_work_item(" https://example.com/a.jpg ")
    assert item.asset_url == "https://example.com/a.jpg"
    (request,) = sandbox.requests
    assert request.body == b'{"assetUrl": "https://example.com/a.jpg"}'
    assert client.create_work_item("x", asset_type="video").asset_type == "video"


def test_a_call_that_is_missing_is_said_to_be_provisional(client, sandbox):
    for status in (404, 405):
        sandbox.fail_next(status, method="POST", path="*/workItems")
        with pytest.raises(APIError, match="provisional") as caught:
            client.create_work_item("x")
        assert caught.value.status_code == status
        assert caught.value.message == caught.value.args[0]
        assert str(caught.value).endswith("it is provisional and not documented by CloudFactory.")
    with pytest.raises(NotFoundError, match="batch 7 not found.*provisional"):
        client.create_work_item("x", batch_id=7)
    sandbox.fail_next(403, method="POST")
    with pytest.raises(APIError) as caught:
        client.create_work_item("x")
    assert "provisional" not in str(caught.value)


@pytest.mark.parametrize("call", [lambda c: c.create_work_item("x"), lambda c: c.create_batch("x")])
def test_creating_is_repeated_once_after_a_look(client, sandbox, call):
    sandbox.fail_next(503, method="POST", times=2)
    with pytest.raises(ServerError):
        call(client)
    sandbox.html_next(method="POST", times=2)
    with pytest.raises(InvalidResponseError):
        call(client)
    assert [request.method for request in sandbox.requests] == ["POST", "GET"] * 4


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"id": null}', b'{"id": ""}', b"5", b"null"])
@pytest.mark.parametrize("call", [lambda c: c.create_work_item("x"), lambda c: c.create_batch("x")])
def test_an_answer_without_an_id_is_refused(client, sandbox, call, answer):
    sandbox.replace_next(answer, method="POST", status=201, times=2)
    with pytest.raises(InvalidResponseError, match="Check whether it was created"):
        call(client)


# --- Batches -------------------------------------------------------------------------------------------------


def test_a_batch_is_created_and_renamed(client, sandbox):
    batch = client.create_batch("  Spring ")
    assert (batch.name, batch.project_id) == ("Spring", sandbox.project_id)
    assert client.get_batch(name="Spring") == batch
    item = client.create_work_item("x", batch_id=batch.id)
    renamed = client.update_batch(batch.id, name="Summer")
    assert (renamed, renamed.name) == (batch, "Summer")
    assert [found.id for found in renamed.get_work_items()] == [item.id]
    assert batch.refresh().total_count == 1
    assert batch.update(name="Autumn") is batch
    assert (batch.name, batch.total_count) == ("Autumn", 1)
    assert client.get_batch(batch.id).name == "Autumn"
    # Its own name is not a conflict.
    assert batch.update(name="Autumn").name == "Autumn"


@pytest.mark.parametrize("words", [None, b"", b"no", b'{"message": "conflict"}'])
def test_a_name_that_is_taken_is_named(client, sandbox, words):
    taken = client.get_batch(1001).name
    for call in (
        lambda: client.create_batch(taken),
        lambda: client.update_batch(1002, name=taken),
        lambda: client.get_batch(1002).update(name=taken),
    ):
        if words is not None:
            sandbox.fail_next(409, path="*/batches*", method="POST", body=words)
            sandbox.fail_next(409, path="*/batches*", method="PATCH", body=words)
        with pytest.raises(ConflictError) as caught:
            call()
        assert repr(taken) in str(caught.value)
        assert "get_batch(name=...)" in str(caught.value)
        sandbox.clear_faults()


def test_a_change_of_name_is_seen_by_downloads(client, sandbox, tmp_path):
    items = list(client.get_work_items(batch_ids=[1001]))
    client.download_work_items(items[:1], tmp_path).raise_for_failures()
    client.update_batch(1001, name="renamed")
    batch = client.create_batch("own")
    created = client.create_work_item("x", batch_id=batch.id)
    sandbox.set_status(created.id, "COMPLETED")
    other = tmp_path / "other"
    assert client.download_work_items([*items, created], other).failed == 0
    assert {path.name for path in other.iterdir() if path.name != ".cfplatform"} == {"renamed", "own"}


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b"<html>", b'{"id": 7}'])
def test_an_answer_to_a_change_that_holds_no_batch_is_read_again(client, sandbox, answer):
    sandbox.rename_batch(1001, "Summer")
    sandbox.replace_next(answer, method="PATCH")
    batch = client.update_batch(1001, name="Summer")
    assert (batch.id, batch.name, batch.total_count) == (1001, "Summer", 10)
    sandbox.replace_next(answer, method="PATCH")
    with pytest.raises(InvalidResponseError, match="did not keep it"):
        client.update_batch(1001, name="Autumn")


def test_an_unknown_batch_cannot_be_renamed(client):
    with pytest.raises(NotFoundError):
        client.update_batch(7, name="x")


def test_without_a_project_nothing_is_sent(sandbox):
    with sandbox.client(project_id=None) as client:
        for call in (
            lambda: client.create_batch("x"),
            lambda: client.update_batch(1001, name="x"),
            lambda: client.create_work_item("x"),
        ):
            with pytest.raises(ConfigurationError, match="CF_PROJECT_ID"):
                call()
        assert client.create_batch("x", sandbox.project_id).name == "x"
    assert len(sandbox.requests) == 1
