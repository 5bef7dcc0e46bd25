"""Downloads to remote stores: the same tree and summary, complete objects, helpful errors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from cfplatform import (
    Client,
    ConfigurationError,
    DestinationError,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    iter_downloaded,
)
from tests.faults.tools import parts, start, tree, wait_until
from tests.functional import shell
from tests.functional.test_executors import Inline
from tests.stores import SECRET, S3Server
from tests.tools import case_id

ITEMS = 8


class Shelf(LocalFileSystem):
    """A store that writes in place, unlike object stores."""

    protocol = ("shelf",)
    #: Whether it loses the last byte of each file, or fails after half of it.
    loses = breaks = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("shelf://"))

    def put_file(self, path1, path2, *_, **__):
        assert Path(path2).name.startswith("."), f"{path2} would be seen while it is written"
        content = Path(path1).read_bytes()
        if self.breaks:
            content = content[: len(content) // 2]
        Path(self._strip_protocol(path2)).write_bytes(content[:-1] if self.loses else content)
        if self.breaks:
            raise OSError(errno.EIO, "the shelf broke")


fsspec.register_implementation("shelf", Shelf, clobber=True)


class Store:
    """A URL in a store, and its objects."""

    def __init__(self, url, server=None):
        self.url = url
        self.server = server
        self.fs, self.base = fsspec.url_to_fs(url)

    def tree(self):
        self.fs.invalidate_cache()
        found = self.fs.find(self.base)
        return {self.fs._strip_protocol(path)[len(self.base) + 1 :]: self.fs.cat_file(path) for path in found}

    def put(self, path, content):
        with self.fs.open(self.place(path), "wb") as file:
            file.write(content)

    def place(self, path):
        return f"{self.base}/{path}"


@pytest.fixture
def sandbox(make_sandbox):
    """A small one, because the S3 server is slow."""
    return make_sandbox(items=ITEMS, batches=2)


@pytest.fixture(scope="session")
def s3_server():
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A new bucket of an S3 server."""
    monkeypatch.setitem(fsspec.config.conf, "s3", s3_server.settings())
    for name, value in (("ENDPOINT_URL", s3_server.url), ("KEY", "testing"), ("SECRET", SECRET)):
        monkeypatch.setenv(f"FSSPEC_S3_{name}", value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    store = Store(f"s3://{bucket}/labels", s3_server)
    store.fs.mkdir(bucket)
    s3_server.requests.clear()
    yield store
    s3_server.door = lambda request: None


@pytest.fixture(params=["s3", "memory", "shelf"])
def store(request, tmp_path):
    if request.param == "s3":
        yield request.getfixturevalue("s3")
    elif request.param == "memory":
        yield Store(f"memory://{uuid.uuid4().hex}/labels")
        MemoryFileSystem.store.clear()
    else:
        yield Store(f"shelf://{tmp_path / 'shelf'}")


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def account(summary):
    """The results of a run by item, without fields that differ between folder and store."""
    return {
        each.item_id: (each.batch_id, each.outcome, each.size, each.asset_size, each.written, str(each.error))
        for each in summary.results
    }


def document(size):
    return b'{"annotations": [{"id": 1, "note": "' + size * b"x" + b'"}], "info": {"year": 2026}, "images": []}'


SMALL = document(2000)
#: Too large to be parsed, or to be sent with one request.
LARGE = document(17 * 1024 * 1024)


def unfinished(store):
    """Multipart uploads that were neither completed nor aborted."""
    return store.fs.call_s3("list_multipart_uploads", Bucket=store.base.partition("/")[0]).get("Uploads", [])


# --- The same as a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"assets": True}, {"inject_asset_url": False}], ids=str)
def test_a_store_gets_the_tree_and_the_account_of_a_folder(sandbox, client, tmp_path, state, store, options):
    sandbox.rename_batch(1001, "../Ev/il: ?")
    in_folder = client.download_project(destination=tmp_path / "folder", **options)
    summary = client.download_project(destination=store.url + "/", state=state, **options)
    assert store.tree() == tree(tmp_path / "folder")
    assert account(summary) == account(in_folder)
    assert (summary.destination, summary.successful, summary.bytes) == (store.url, ITEMS, in_folder.bytes)
    urls = {each.object_url for each in summary.results} | {each.asset_object_url for each in summary.results}
    assert urls - {None} == {f"{store.url}/{path}" for path in store.tree()}
    assert {(each.path, each.asset_path) for each in summary.results} == {(None, None)}
    known = list(iter_downloaded(store.url, state))
    assert {each.object_url for each in known} | {each.asset_object_url for each in known} == urls
    # Nothing is left on this machine but the state.
    assert [path.name for path in state.rglob("*") if path.suffix in (".json", ".png")] == []


def test_an_unchanged_project_costs_a_listing_of_each_folder(sandbox, client, state, s3):
    client.download_project(destination=s3.url, state=state, assets=True)
    # Each object is uploaded and then checked in the store.
    assert s3.server.counts() == {"PUT": 2 * ITEMS, "HEAD": 2 * ITEMS}
    s3.server.requests.clear()
    sandbox.clear_requests()
    summary = client.download_project(destination=s3.url, state=state, assets=True)
    assert summary.skipped == ITEMS
    assert s3.server.counts() == {"GET": 4}
    assert all("list-type=2" in request.query for request in s3.server.requests)
    assert {kind: count for kind, count in sandbox.counts.items() if count} == {"work_items": 1, "batches": 1}


def test_objects_that_were_touched_are_put_back(client, state, store):
    client.download_project(destination=store.url, state=state)
    before = store.tree()
    gone, cut, edited, *_ = before
    store.fs.rm_file(store.place(gone))
    store.put(cut, before[cut][:100])
    if store.server:
        # Of the same size: only a store with ETags shows the difference.
        store.put(edited, before[edited].replace(b"0", b"1"))
    summary = client.download_project(destination=store.url, state=state)
    assert summary.successful == (3 if store.server else 2)
    assert store.tree() == before
    assert client.download_project(destination=store.url, state=state, overwrite=True).successful == ITEMS


def test_an_item_that_comes_twice_is_fetched_once(client, state, s3):
    client.download_project(destination=s3.url, state=state)
    item = next(client.get_work_items())
    (place,) = (path for path in s3.tree() if item.id in path)
    s3.fs.rm_file(s3.place(place))
    s3.server.requests.clear()
    results = [each.outcome for each in client.iter_downloads(several(item, 300), s3.url, state=state, max_workers=1)]
    # Only items checked before the first was written do not see it.
    assert set(results) == {"downloaded", "skipped"}
    assert s3.server.counts()["GET"] == 1


def several(item, count):
    """The same item repeated, slowly enough that the first is done before the last is checked."""
    for _ in range(count):
        time.sleep(0.002)
        yield item


def test_a_renamed_batch_moves_its_objects(sandbox, client, state, store):
    client.download_project(destination=store.url, state=state, assets=True)
    before = store.tree()
    sandbox.rename_batch(1001, "New name")
    (old,) = {Path(path).parts[0] for path in before} - {client.get_batch(1002).name}
    mine = min(path for path in before if path.startswith(f"{old}/") and "/assets/" not in path)
    store.put(mine, b"mine")
    assert client.download_project(destination=store.url, state=state, assets=True).failed == 0
    expected = {path.replace(f"{old}/", "New name/"): content for path, content in before.items()}
    # Files of others are kept.
    assert store.tree() == expected | {mine: b"mine"}


def test_two_urls_share_a_folder_for_their_state_but_not_what_is_finished(client, state, s3):
    first, second = f"{s3.url}/a", f"{s3.url}/b"
    for url in (first, second):
        assert client.download_project(destination=url, state=state).successful == ITEMS
    assert client.download_project(destination=second, state=state).skipped == ITEMS
    assert len(os.listdir(state)) == 2
    # A lost state costs only requests.
    assert client.download_project(destination=second, state=state / "other").successful == ITEMS


def test_a_second_process_is_told_who_is_there(sandbox, client, state):
    code = (
        "import sys, fsspec\nfrom cfplatform import Client\n"
        "with Client() as client:\n    client.download_project(destination=sys.argv[1], state=sys.argv[2])\n"
    )
    items = client.iter_downloads(client.get_work_items(), "memory://busy", state=state)
    next(items)
    with start(sandbox, code, "memory://busy", state) as process:
        _, complaint = process.communicate(timeout=60)
    assert f"DestinationBusyError: Process {os.getpid()} is downloading" in complaint
    items.close()


def test_an_executor_writes_to_the_store_too(sandbox, client, tmp_path, state, s3):
    client.download_project(destination=tmp_path / "folder", assets=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        summary = client.download_project(destination=s3.url, state=state, assets=True, executor=pool)
    assert (summary.successful, summary.failed) == (ITEMS, 0)
    assert s3.tree() == tree(tmp_path / "folder")
    assert client.download_project(destination=s3.url, state=state, assets=True).skipped == ITEMS


def test_the_command_takes_a_url(sandbox, tmp_path, s3):
    done = shell.run("download", s3.url, "--state", tmp_path / "state", "--json", sandbox=sandbox)
    assert done.returncode == 0, done.stderr
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert {each["object_url"] for each in lines} == {f"{s3.url}/{path}" for path in s3.tree()}
    assert (last["summary"]["destination"], last["summary"]["successful"]) == (s3.url, ITEMS)


# --- Complete or not at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inject", [True, False])
def test_a_large_document_is_sent_in_parts_and_seen_when_it_is_proven(sandbox, client, tmp_path, state, store, inject):
    item = next(client.get_work_items())
    served = LARGE
    sandbox.update_work_item(item.id, document=served)
    in_folder = item.refresh().download(tmp_path / "folder", inject_asset_url=inject)
    result = item.download(store.url, state=state, inject_asset_url=inject)
    assert (result.size, result.written) == (in_folder.size, in_folder.size)
    assert store.tree() == tree(tmp_path / "folder")
    if store.server:
        posts = [request.query for request in store.server.requests if request.method == "POST"]
        assert [query.partition("=")[0] for query in posts] == ["uploads", "uploadId"]
        assert store.server.counts()["PUT"] == 3
        assert unfinished(store) == []
    assert item.download(store.url, state=state, inject_asset_url=inject).outcome == "skipped"
    before = store.tree()
    if store.server:
        # Of the same size: only a store with ETags shows the difference.
        (path,) = before
        store.put(path, before[path].replace(b"x", b"y"))
        assert item.download(store.url, state=state, inject_asset_url=inject).outcome == "downloaded"
        assert store.tree() == before
    sandbox.update_work_item(item.id, document=served[:-1])
    with pytest.raises(InvalidResponseError, match="not one complete JSON object"):
        item.refresh().download(store.url, state=state, inject_asset_url=inject)
    assert store.tree() == before
    if store.server:
        assert unfinished(store) == []


@pytest.mark.parametrize(
    ("served", "inject"), [(SMALL, True), (LARGE, True), (LARGE, False)], ids=["small", "large", "raw"]
)
def test_a_broken_body_is_fetched_again_and_leaves_nothing(sandbox, client, state, s3, served, inject):
    item = next(client.get_work_items())
    sandbox.update_work_item(item.id, document=served)
    sandbox.truncate_next(times=2, path="/storage/*", keep=0.99)
    assert item.refresh().download(s3.url, state=state, inject_asset_url=inject).outcome == "downloaded"
    assert len(s3.tree()) == 1
    assert unfinished(s3) == []
    sandbox.truncate_next(times=None, path="/storage/*", keep=0.99)
    other = list(client.get_work_items(limit=2))[1]
    sandbox.update_work_item(other.id, document=served)
    with pytest.raises(Exception, match="bytes"):
        other.refresh().download(s3.url, state=state, inject_asset_url=inject)
    assert len(s3.tree()) == 1
    assert unfinished(s3) == []


DOWNLOAD = """
import sys
from cfplatform import Client
with Client(max_workers=8) as client:
    print("ready", flush=True)
    print(client.download_project(destination=sys.argv[1], state=sys.argv[2], assets=True).failed, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
@pytest.mark.parametrize(
    ("items", "kills"), [(30, (25,)), pytest.param(400, range(20, 120, 12), marks=pytest.mark.stress)]
)
def test_a_process_that_is_killed_leaves_whole_objects_only(make_sandbox, tmp_path, state, s3, items, kills):
    sandbox = make_sandbox(items=items, batches=2)
    with sandbox.client() as client:
        # Two multipart documents, so that a kill interrupts one.
        for item in list(client.get_work_items(limit=2)):
            sandbox.update_work_item(item.id, document=LARGE)
        client.download_project(destination=tmp_path / "folder", assets=True).raise_for_failures()
    whole = tree(tmp_path / "folder")
    sums = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in whole.items()}
    seen = []
    for kill_at in kills:
        with start(sandbox, DOWNLOAD, s3.url, state) as process:
            assert process.stdout.readline() == "ready\n"
            began = len(s3.server.requests)
            wait_until(lambda: len(s3.server.requests) >= began + kill_at, 60)  # noqa: B023 - called at once
            process.kill()
        s3.fs.invalidate_cache()
        there = s3.fs.find(s3.base, detail=True)
        for place, info in there.items():
            path = place.removeprefix(f"{s3.base}/")
            assert info["size"] == len(whole[path]), path
            assert info["ETag"].strip('"') == sums[path] or "-" in info["ETag"], path
        seen.append(len(there))
    assert 0 < seen[0] <= seen[-1] < len(whole)
    with start(sandbox, DOWNLOAD, s3.url, state) as process:
        out, complaint = process.communicate(timeout=100)
    assert (out, complaint) == ("ready\n0\n", "")
    assert s3.tree() == whole


def test_an_asset_that_the_store_refuses_is_not_fetched_again(sandbox, client, tmp_path, state, s3):
    item = next(client.get_work_items())
    item.download(tmp_path / "folder", assets=True)
    s3.server.door = lambda request: ("400 Bad", "InvalidRequest") if "/assets/" in request.path else None
    with pytest.raises(DownloadError, match="InvalidRequest"):
        item.download(s3.url, state=state, assets=True)
    assert [path for path in s3.tree() if "/assets/" in path] == []
    s3.server.door = lambda request: None
    sandbox.clear_requests()
    assert item.download(s3.url, state=state, assets=True).outcome == "downloaded"
    assert sandbox.counts["storage"] == 0
    assert s3.tree() == tree(tmp_path / "folder")


@pytest.mark.parametrize("fault", ["loses", "breaks"])
def test_a_file_that_did_not_arrive_complete_is_never_seen(sandbox, client, tmp_path, state, monkeypatch, fault):
    store = Store(f"shelf://{tmp_path / 'shelf'}")
    item = next(client.get_work_items())
    item.download(store.url, state=state)
    before = store.tree()
    sandbox.update_work_item(item.id, document=SMALL)
    monkeypatch.setattr(Shelf, fault, True)
    with pytest.raises(DownloadError, match="does not have its" if fault == "loses" else "the shelf broke"):
        item.refresh().download(store.url, state=state)
    assert store.tree() == before
    # Nothing is left on this machine either.
    assert list(state.glob("*/.cfplatform/partial/*")) == []
    monkeypatch.setattr(Shelf, fault, False)
    assert item.download(store.url, state=state).outcome == "downloaded"


# --- Stores that refuse ------------------------------------------------------------------------------------------


def test_one_object_that_is_refused_fails_one_item(sandbox, client, state, s3):
    victim = next(sandbox.work_item_ids(3))
    s3.server.door = lambda request: ("400 Bad", "InvalidRequest") if victim in request.path else None
    summary = client.download_project(destination=s3.url, state=state)
    assert (summary.successful, summary.failed) == (ITEMS - 1, 1)
    (failure,) = summary.failures
    assert type(failure.error) is DownloadError
    assert f"{s3.url}/" in str(failure.error)
    assert failure.object_url is None
    s3.server.door = lambda request: None
    assert client.download_project(destination=s3.url, state=state).successful == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (("403 Forbidden", "AccessDenied"), "credentials"),
        (("403 Forbidden", "InvalidAccessKeyId"), "credentials"),
        (("404 Not Found", "NoSuchBucket"), "name and region of the bucket"),
        (("400 Bad Request", "InvalidBucketName"), "name and region of the bucket"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_store_that_refuses_everything_ends_the_run(make_sandbox, state, s3, refusal, words):
    sandbox = make_sandbox(items=200, batches=1)
    s3.server.door = lambda request: refusal if request.method == "PUT" else None
    with sandbox.client(max_workers=8) as client, pytest.raises(DestinationError, match=words) as caught:
        client.download_project(destination=s3.url, state=state)
    assert s3.url in str(caught.value)
    assert refusal[1] in str(caught.value)
    assert SECRET not in str(caught.value)
    assert sandbox.counts["storage"] < 60
    assert type(pickle.loads(pickle.dumps(caught.value))) is DestinationError  # noqa: S301 - made in this line
    s3.server.door = lambda request: None
    with sandbox.client(max_workers=8) as client:
        few = client.get_work_items(limit=3)
        assert client.download_work_items(few, s3.url, state=state).failed == 0


def test_a_store_that_refuses_to_be_listed_ends_the_second_run(client, state, s3):
    client.download_project(destination=s3.url, state=state)
    s3.server.door = lambda request: ("403 Forbidden", "AccessDenied") if request.method == "GET" else None
    with pytest.raises(DestinationError, match="permissions to list"):
        client.download_project(destination=s3.url, state=state)


def test_a_refusal_reaches_the_caller_of_an_executor(client, state, s3):
    s3.server.door = lambda request: ("403 Forbidden", "AccessDenied")
    with pytest.raises(DestinationError, match="credentials"):
        client.download_project(destination=s3.url, state=state, executor=Inline())


def test_a_store_that_cannot_be_reached(client, state, s3, monkeypatch):
    settings = {
        **s3.server.settings(),
        "endpoint_url": "http://127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    with pytest.raises(DestinationError, match="not reachable") as caught:
        client.download_project(destination=s3.url, state=state)
    assert SECRET not in str(caught.value)


# --- Arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "options", "words"),
    [
        ("memory://labels", {}, "needs a local state folder.*state="),
        ("memory://labels", {"state": ""}, "state must be"),
        ("memory://labels", {"state": 5}, "state must be"),
        ("s3://AKIA:hidden@bucket/labels", {"state": "s"}, "must not contain a password"),
        ("ftp://user:hid/den@host/labels", {"state": "s"}, "must not contain a password"),
        ("abfs://box/labels?sig=hidden", {"state": "s"}, "must not contain a password"),
        ("simplecache::memory://labels", {"state": "s"}, "without '::'"),
        ("memory://a::s3://u:hidden@b", {"state": "s"}, "must not contain a password"),
        ("s3://", {"state": "s"}, "has no bucket"),
        ("nosuch://bucket/labels", {"state": "s"}, "does not support nosuch://"),
        (Path("s3://bucket/labels"), {"state": "s"}, "as a string, not as a pathlib.Path"),
        ("file://host/labels", {}, "must have the form file:///"),
        ("memory://labels", {"state": "s", "executor": ProcessPoolExecutor(1)}, "memory of this process"),
    ],
    ids=case_id,
)
def test_destinations_that_are_refused_before_any_request(tmp_path, monkeypatch, destination, options, words):
    monkeypatch.chdir(tmp_path)
    # Nothing listens there.
    client = Client("key", base_url="https://127.0.0.1:9", project_id="p")
    with client, pytest.raises(InvalidParameterError, match=words) as caught:
        client.download_project(destination=destination, **options)
    assert "hidden" not in str(caught.value)
    assert "den@" not in str(caught.value)


def test_calls_that_take_folders_only(sandbox, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sandbox.export_seconds = 0
    export = client.create_export("Nightly")
    for call in (export.download, next(client.get_work_items()).download_asset):
        with pytest.raises(InvalidParameterError, match="not a URL"):
            call("memory://labels")
    assert os.listdir(tmp_path) == []


def test_a_file_url_is_the_path_that_it_names(client, tmp_path):
    folder = tmp_path / "with blank"
    summary = client.download_project(destination=folder.as_uri())
    assert summary.destination == folder
    assert len(tree(folder)) == ITEMS
    assert len(list(iter_downloaded(folder.as_uri()))) == ITEMS
    assert parts(folder) == []


@pytest.mark.parametrize(
    ("missing", "url", "words"),
    [("fsspec", "memory://labels", "cfplatform[fsspec]"), ("s3fs", "s3://bucket/labels", "s3fs")],
)
def test_a_package_that_is_missing_is_named(client, tmp_path, state, monkeypatch, missing, url, words):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        client.download_project(destination=url, state=state)
    assert words in str(caught.value)
    assert not state.exists()


def test_a_folder_needs_no_fsspec(sandbox, tmp_path):
    code = (
        "import sys\nfrom cfplatform import Client\n"
        "with Client() as client:\n    client.download_project(destination=sys.argv[1], assets=True)\n"
        "print(sorted({'fsspec', 's3fs', 'asyncio'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(shell.ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "labels")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
