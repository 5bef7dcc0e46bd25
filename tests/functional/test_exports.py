"""Exports against the sandbox: creating, waiting, downloading, unpacking, reading members, deleting."""

from __future__ import annotations

import copy
import json
import os
import pickle
import time
import uuid
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cfplatform import (
    CFPlatformError,
    ConfigurationError,
    ConflictError,
    DownloadError,
    Export,
    ExportError,
    ExportFailedError,
    ExportFormat,
    ExportTimeoutError,
    IncompleteDownloadError,
    InvalidParameterError,
    NotFoundError,
)
from tests.faults.stores import zipped
from tests.faults.tools import tree


@pytest.fixture
def finished(sandbox, client):
    """An export that is completed."""
    sandbox.export_seconds = 0
    return client.create_export("Nightly").wait()


@pytest.fixture
def add(sandbox, client, tmp_path):
    """Make the sandbox serve bytes as the archive of an export, and return the export."""

    def call(content, name="Added"):
        path = tmp_path / f"{uuid.uuid4()}.served"
        path.write_bytes(content)
        return client.get_export(sandbox.add_export(path, name=name))

    return call


def asked(sandbox, method="GET"):
    return [request for request in sandbox.requests if request.route == "exports" and request.method == method]


# --- Checks before any request -----------------------------------------------------------------------------------

ID = "0b0e7f9c-6f0c-4c76-9ab5-5d6d27c0c1f0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "name must be a non-empty string"),
        ({"name": "  "}, "name must be a non-empty string"),
        ({"name": 5}, "name must be a non-empty string"),
        ({"format": "coco"}, "format must be one of COCO_JSON, JSON, CSV"),
        ({"format": None}, "format must be one of"),
        ({"content": "LABELS"}, "content must be one of ANNOTATION, INFERENCE, ASSET_METADATA"),
        ({"content": "INFERENCE"}, "cannot be exported as COCO_JSON. Pass format='JSON'"),
        ({"content": "ASSET_METADATA", "format": "COCO_JSON"}, "cannot be exported"),
        ({"project_ids": []}, "treats as no filter"),
        ({"batch_ids": ()}, "treats as no filter"),
        ({"project_ids": "p"}, "must be a list of IDs, not str"),
        ({"batch_ids": {1: 2}}, "must be a list of IDs, not dict"),
        ({"batch_ids": 5}, "must be a list of IDs, not int"),
        ({"project_ids": [str(n) for n in range(51)]}, "has 51 IDs; the maximum for an export is 50"),
        ({"batch_ids": range(101)}, "has 101 IDs; the maximum for an export is 100"),
        ({"project_ids": ["p", ""]}, "project_ids"),
        ({"project_ids": [5]}, "project_ids"),
        ({"batch_ids": [1, "x"]}, "batch IDs are integers"),
        ({"batch_ids": [True]}, "batch IDs are integers"),
        ({"created_at_from": datetime(2026, 1, 1)}, "has no time zone"),
        ({"updated_at_to": "yesterday"}, "not a valid ISO 8601"),
        ({"created_at_from": "2026-02-01T00:00:00Z", "created_at_to": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"wait_for_running": 1}, "wait_for_running must be True or False"),
        ({"timeout": -1}, "timeout must be 0 or more seconds"),
        ({"timeout": float("nan")}, "timeout must be 0 or more seconds"),
        ({"timeout": True}, "timeout must be 0 or more seconds"),
        ({"space_id": ""}, "space_id"),
    ],
)
def test_what_the_platform_would_refuse_or_misread_is_refused_before_any_request(sandbox, client, options, words):
    with pytest.raises(InvalidParameterError, match=words):
        client.create_export(**{"name": "Nightly", **options})
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c, p: c.get_export(""), InvalidParameterError),
        (lambda c, p: c.get_export(".."), InvalidParameterError),
        (lambda c, p: c.get_export(5), InvalidParameterError),
        (lambda c, p: c.delete_export("a\nb"), InvalidParameterError),
        (lambda c, p: c.get_exports(format="XML"), InvalidParameterError),
        (lambda c, p: c.get_exports(limit=-1), InvalidParameterError),
        (lambda c, p: c.wait_for_export(ID, timeout="1"), InvalidParameterError),
        (lambda c, p: c.wait_for_export(ID, timeout=float("inf")), InvalidParameterError),
        (lambda c, p: c.wait_for_export(ID, poll_interval=0), InvalidParameterError),
        (lambda c, p: c.wait_for_export(ID, progress=3), InvalidParameterError),
        (lambda c, p: c.wait_for_export(ID, time_out=3), TypeError),
        (lambda c, p: c.download_export(ID, p, timeout=-1), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, poll_interval=float("nan")), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, extract="yes"), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, wait=None), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, overwrite=1), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, progress="bar"), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p, unzip=True), TypeError),
        (lambda c, p: c.download_export(ID, ""), InvalidParameterError),
        (lambda c, p: c.download_export(ID, 5), InvalidParameterError),
        (lambda c, p: c.download_export(ID, p / "file"), InvalidParameterError),
        (lambda c, p: Export({"exportId": ID}, c, "s").iter_members(5), InvalidParameterError),
        (lambda c, p: Export({"exportId": ID}).wait(), ConfigurationError),
    ],
)
def test_wrong_arguments_of_other_calls_cause_no_request(sandbox, client, tmp_path, call, error):
    (tmp_path / "file").touch()
    with pytest.raises(error):
        call(client, tmp_path)
    assert sandbox.requests == []


def test_without_a_space_it_says_what_to_pass(sandbox):
    with sandbox.client(space_id=None) as client, pytest.raises(ConfigurationError, match="CF_SPACE_ID"):
        client.create_export("Nightly")
    assert sandbox.requests == []


# --- Creating ----------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_the_platform_understands(sandbox, client):
    client.create_export(
        " Nightly ",
        format=ExportFormat.JSON,
        content="ANNOTATION",
        project_ids=[sandbox.project_id, sandbox.project_id],
        batch_ids=iter([1001, "1002", 1001]),
        created_at_from=datetime(2020, 1, 1, tzinfo=timezone.utc),
        updated_at_to="2030-01-01T00:00:00+05:45",
    )
    (sent,) = asked(sandbox, "POST")
    assert json.loads(sent.body) == {
        "name": "Nightly",
        "format": "JSON",
        "content": "ANNOTATION",
        "projectIds": [sandbox.project_id],
        "batchIds": [1001, 1002],
        "createdAtFrom": "2020-01-01T00:00:00+00:00",
        "updatedAtTo": "2030-01-01T00:00:00+05:45",
    }
    assert sent.path.endswith(f"/spaces/{sandbox.space_id}/exports")


def test_what_is_left_out_is_not_sent(sandbox, client):
    client.create_export("Nightly")
    (sent,) = asked(sandbox, "POST")
    assert json.loads(sent.body) == {"name": "Nightly", "format": "COCO_JSON"}


def test_an_export_tells_what_it_is(sandbox, client):
    export = client.create_export("Nightly", uuid.UUID(sandbox.space_id))
    assert (export.name, export.status, export.format, export.content) == (
        "Nightly",
        "PENDING",
        "COCO_JSON",
        "ANNOTATION",
    )
    assert (export.space_id, export.error, export.download_url) == (sandbox.space_id, None, None)
    assert "@" in export.created_by
    assert abs((datetime.now(timezone.utc) - export.created_at).total_seconds()) < 60
    assert not export.is_final
    done = export.wait()
    assert done is export
    assert export.is_final
    assert export.download_url.startswith(sandbox.base_url.partition("/api")[0])
    assert export.as_dict()["downloadUrl"] == export.download_url
    assert export.refresh() is export


@pytest.mark.parametrize("way", [repr, str, lambda e: repr([e]), lambda e: f"{e}", lambda e: repr(copy.copy(e))])
def test_what_is_shown_of_an_export_has_no_link(finished, way):
    assert "Signature" in finished.download_url
    assert "Signature" not in way(finished)
    assert finished.id in way(finished)
    assert "COMPLETED" in way(finished)


def test_exports_are_equal_by_id_and_travel(client, finished):
    again = client.get_export(finished.id)
    assert again == finished
    assert len({again, finished}) == 1
    copied = pickle.loads(pickle.dumps(finished))  # noqa: S301 - just made here
    assert (copied, copied.space_id, copied.status) == (finished, finished.space_id, "COMPLETED")
    with pytest.raises(ConfigurationError, match="has no client"):
        copied.refresh()


def test_a_space_makes_one_at_a_time_and_the_refusal_names_it(sandbox, client):
    sandbox.export_seconds = 600
    first = client.create_export("First")
    with pytest.raises(ConflictError) as caught:
        client.create_export("Second")
    assert f"Export {first.id} ('First') is PENDING" in str(caught.value)
    assert "wait_for_running=True" in str(caught.value)
    assert caught.value.status_code == 409
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - just made here
    assert len(asked(sandbox, "POST")) == 2
    assert [export.name for export in client.get_exports()] == ["First"]


@pytest.mark.parametrize("fails", [False, True])
def test_another_one_can_be_waited_for(sandbox, client, fails):
    sandbox.export_seconds = 0.4
    if fails:
        sandbox.fail_next_export("no ink")
    first = client.create_export("First")
    second = client.create_export("Second", wait_for_running=True)
    assert second.id != first.id
    assert first.refresh().status == ("FAILED" if fails else "COMPLETED")
    # Fewer where a busy machine let the first one end before.
    assert len(asked(sandbox, "POST")) <= 3


def test_waiting_for_another_one_ends_too(sandbox, client):
    sandbox.export_seconds = 600
    first = client.create_export("First")
    began = time.monotonic()
    with pytest.raises(ConflictError, match=first.id):
        client.create_export("Second", wait_for_running=True, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 3
    assert len(asked(sandbox, "POST")) == 3


# --- Listing -----------------------------------------------------------------------------------------------------


def test_listing_goes_through_all_pages_lazily(sandbox, client):
    sandbox.export_seconds = 0
    ids = [client.create_export(f"n{number}", format="CSV").id for number in range(3)]
    sandbox.export_seconds = 0
    other = client.create_export("other").id
    sandbox.clear_requests()
    listed = client.get_exports()
    assert sandbox.requests == []
    assert [export.id for export in listed] == [other, *reversed(ids)]
    assert [export.id for export in client.get_exports(format="CSV", limit=2)] == [ids[2], ids[1]]
    assert all(export.space_id == sandbox.space_id for export in client.get_exports(sandbox.space_id))
    assert list(client.get_exports(limit=0)) == []


def test_more_exports_than_a_page_holds(sandbox, client, tmp_path):
    served = tmp_path / "served.zip"
    served.write_bytes(zipped(100))
    ids = [sandbox.add_export(served, name=f"n{number}") for number in range(205)]
    assert [export.id for export in client.get_exports()] == ids[::-1]
    assert len(asked(sandbox)) == 3


# --- Waiting -----------------------------------------------------------------------------------------------------


def test_a_completed_export_takes_one_look(sandbox, client, finished):
    sandbox.clear_requests()
    assert client.wait_for_export(finished.id, timeout=0).status == "COMPLETED"
    assert len(sandbox.requests) == 1


def test_without_time_there_is_still_a_look(sandbox, client):
    sandbox.export_seconds = 600
    export = client.create_export("Nightly")
    sandbox.clear_requests()
    with pytest.raises(ExportTimeoutError, match=r"is PENDING after 0 s\. It continues on the platform") as caught:
        export.wait(timeout=0)
    assert len(sandbox.requests) == 1
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ExportError)
    assert (caught.value.export, caught.value.export.status) == (export, "PENDING")
    assert pickle.loads(pickle.dumps(caught.value)).export == export  # noqa: S301 - just made here
    sandbox.export_seconds = 0
    assert caught.value.export.wait().status == "COMPLETED"


def test_the_first_second_look_comes_after_a_second(sandbox, client):
    sandbox.export_seconds = 0.5
    export = client.create_export("Nightly")
    sandbox.clear_requests()
    export.wait()
    first, second = (request.time for request in sandbox.requests)
    assert 0.95 < second - first < 3


def test_a_failed_export_says_why(sandbox, client):
    sandbox.export_seconds = 0
    sandbox.fail_next_export("no space left")
    export = client.create_export("Nightly")
    with pytest.raises(ExportFailedError, match=r"\('Nightly'\) failed: no space left\. Fix the cause") as caught:
        export.wait()
    assert caught.value.export.error == "no space left"
    assert export.id in str(caught.value)


def test_the_status_is_told_at_each_look(sandbox, client):
    class Reporter:
        def __init__(self):
            self.seen = []

        def start(self, total):
            self.seen.append(("start", total))

        def advance(self, outcome, size):
            self.seen.append(outcome)

        def finish(self):
            self.seen.append("finish")

    sandbox.export_seconds = 0.3
    reporter = Reporter()
    client.create_export("Nightly").wait(progress=reporter, poll_interval=0.1)
    assert reporter.seen[0] == ("start", None)
    assert reporter.seen[-2:] == ["COMPLETED", "finish"]
    assert set(reporter.seen[1:-2]) <= {"PENDING", "IN_PROGRESS"}


def test_an_export_that_is_not_there(client):
    with pytest.raises(NotFoundError):
        client.wait_for_export(ID)


# --- Downloading -------------------------------------------------------------------------------------------------


def test_a_download_waits_and_names_the_archive_after_the_export(sandbox, client, tmp_path):
    export = client.create_export("Nightly")
    path = export.download(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / f"Nightly {export.id}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 20
    assert sandbox.leaks == 0


def test_the_path_is_absolute(client, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert finished.download("out") == tmp_path.resolve() / "out" / f"Nightly {finished.id}.zip"


@pytest.mark.parametrize(
    "name", ["..", "../../evil", "/etc/x", "a/b", "x" * 300, "CON", "-rf", "a\nb", "  x  ", "é" * 150]
)
def test_no_name_leads_elsewhere_or_hides_the_id_of_another(add, tmp_path, name):
    one, two = add(zipped(100), name), add(zipped(200), name)
    root = tmp_path / "deep" / "out"
    first, second = one.download(root), two.download(root)
    assert first.parent == second.parent == root
    assert first != second
    assert [path.stat().st_size for path in (first, second)] == [len(zipped(100)), len(zipped(200))]
    assert len(os.fsencode(first.name)) <= 255
    assert sorted(os.listdir(root)) == sorted([".cfplatform", first.name, second.name])
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_what_is_there_is_not_fetched_again(sandbox, client, finished, tmp_path):
    path = finished.download(tmp_path)
    path.write_bytes(b"mine")
    assert finished.download(tmp_path) == path
    assert path.read_bytes() == b"mine"
    assert sandbox.counts["storage"] == 1
    assert finished.download(tmp_path, overwrite=True) == path
    assert zipfile.is_zipfile(path)
    assert sandbox.counts["storage"] == 2


def test_not_waiting_raises_if_it_is_not_there_yet(sandbox, client, tmp_path):
    sandbox.export_seconds = 600
    export = client.create_export("Nightly")
    with pytest.raises(ExportError, match="is PENDING and has no archive yet. Omit wait=False") as caught:
        export.download(tmp_path, wait=False)
    assert caught.value.export == export
    with pytest.raises(ExportTimeoutError):
        export.download(tmp_path, timeout=0)
    sandbox.export_seconds = 0
    assert export.download(tmp_path, wait=False).exists()


def test_a_failed_export_cannot_be_downloaded(sandbox, client, tmp_path):
    sandbox.export_seconds = 0
    sandbox.fail_next_export("no ink")
    with pytest.raises(ExportFailedError, match="no ink"):
        client.create_export("Nightly").download(tmp_path)
    assert tree(tmp_path) == {}


def test_what_is_no_archive_is_never_saved(sandbox, add, tmp_path):
    out = tmp_path / "out"
    for content in (b"", b"{}", b"<html>", zipped(5000)[:-30], zipped(5000)[:100] + b"\0" + zipped(5000)[101:]):
        with pytest.raises(IncompleteDownloadError):
            add(content).download(out)
        assert tree(out) == {}
        assert list((out / ".cfplatform" / "resume").iterdir()) == []


def test_an_archive_is_a_file_as_any_program_makes_it(finished, tmp_path):
    path = finished.download(tmp_path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- Unpacking ---------------------------------------------------------------------------------------------------


def test_unpacking_leaves_a_folder_and_no_archive(sandbox, client, finished, tmp_path):
    folder = finished.download(tmp_path, extract=True)
    assert folder == tmp_path / f"Nightly {finished.id}"
    assert sorted(os.listdir(tmp_path)) == [".cfplatform", folder.name]
    files = tree(folder)
    assert {Path(name).stem for name in files} == {item.id for item in client.get_work_items()}
    for content in files.values():
        assert json.loads(content)["info"]["asset_url"]
    assert list((tmp_path / ".cfplatform" / "resume").iterdir()) == []


def test_a_folder_that_is_there_is_kept(sandbox, finished, tmp_path):
    folder = finished.download(tmp_path, extract=True)
    (folder / "mine").write_text("mine")
    assert finished.download(tmp_path, extract=True) == folder
    with pytest.raises(DownloadError, match="already exists"):
        finished.download(tmp_path, extract=True, overwrite=True)
    assert (folder / "mine").read_text() == "mine"
    # Rejected before anything was fetched for it.
    assert sandbox.counts["storage"] == 1


def test_a_file_in_place_of_the_folder_is_refused_before_the_download(sandbox, finished, tmp_path):
    (tmp_path / f"Nightly {finished.id}").touch()
    with pytest.raises(DownloadError, match="already exists"):
        finished.download(tmp_path, extract=True)
    assert sandbox.counts["storage"] == 0


# --- Members -----------------------------------------------------------------------------------------------------


def left_in(folder):
    """Files of the library; the sandbox keeps its archives there too."""
    return [name for name in os.listdir(folder) if not name.startswith("cfplatform-sandbox-")]


def test_members_are_read_one_by_one_and_nothing_stays(sandbox, client, finished, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    members = finished.iter_members("*.json")
    assert sandbox.counts["storage"] == 0
    ids = []
    for member in members:
        assert left_in(tmp_path) != []
        ids.append(Path(member.name).stem)
        assert member.json()["info"]
    assert sorted(ids) == sorted(item.id for item in client.get_work_items())
    assert left_in(tmp_path) == []


def test_leaving_in_the_middle_leaves_nothing_either(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    members = finished.iter_members()
    next(members)
    members.close()
    assert left_in(tmp_path) == []


def test_members_of_an_archive_that_is_kept(sandbox, finished, tmp_path):
    assert len(list(finished.iter_members(destination=tmp_path))) == 20
    assert list(finished.iter_members("*.csv", destination=tmp_path)) == []
    assert list(tree(tmp_path)) == [f"Nightly {finished.id}.zip"]
    assert sandbox.counts["storage"] == 1


# --- Progress ----------------------------------------------------------------------------------------------------


def test_progress_counts_bytes_up_to_the_length(sandbox, add, tmp_path):
    content = zipped(1_000_000)
    seen = []
    add(content).download(tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {len(content)}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(content), len(content))
    assert len(seen) > 10


def test_progress_counts_what_an_earlier_run_left(sandbox, add, tmp_path):
    content = zipped(1_000_000)
    export = add(content)
    sandbox.truncate_next(1, path="/storage/*")
    first, second = [], []

    def progress(done, total):
        first.append(done)
        if done >= len(content) // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.download(tmp_path / "out", progress=progress)
    export.download(tmp_path / "out", progress=lambda done, total: second.append((done, total)))
    assert second[0][0] > first[-1] > 400_000
    assert second[-1] == (len(content), len(content))
    assert max(done for done, _ in second) == len(content)


def test_a_bar_shows_bytes(add, tmp_path, monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, file=open(os.devnull, "w"))  # noqa: SIM115
            bars.append(self)

        def close(self):
            super().close()
            self.fp.close()

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    content = zipped(300_000)
    add(content).download(tmp_path / "out", progress=True)
    (bar,) = bars
    assert (bar.n, bar.total, bar.unit) == (len(content), len(content), "B")


# --- Deleting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 600])
def test_an_export_can_be_deleted_in_any_state(sandbox, client, seconds):
    sandbox.export_seconds = seconds
    export = client.create_export("Nightly")
    assert export.delete() is None
    assert list(client.get_exports()) == []
    for call in (export.refresh, export.delete, lambda: client.delete_export(export.id), export.wait):
        with pytest.raises(NotFoundError):
            call()
    # The space is free for another one.
    client.create_export("Nightly")


def test_errors_of_an_export_are_of_the_family():
    for error in (ExportError, ExportFailedError, ExportTimeoutError):
        assert issubclass(error, CFPlatformError)
        assert error("x").export is None
