"""Downloads to disk against the sandbox: layout, bytes, request counts, failures."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cfplatform import (
    AuthenticationError,
    CFPlatformError,
    DestinationError,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)


def tree(root):
    """Every file below a folder, except for the hidden state, with its bytes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".cfplatform" not in path.parts
    }


def test_a_project_lies_on_disk_as_served_but_for_asset_url(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=60, batches=3)
    with sandbox.client() as client:
        names = {batch.id: batch.name for batch in client.get_batches()}
        items = {item.id: item for item in client.get_work_items()}
        summary = client.download_project(destination=tmp_path / "out")
    files = tree(tmp_path / "out")
    assert set(files) == {f"{names[item.batch_id]}/{item.id}.json" for item in items.values()}
    for path, content in files.items():
        item = items[path.rsplit("/", 1)[1].removesuffix(".json")]
        served = sandbox.document(item.id)
        edit = f'"asset_url": "{item.asset_url}", '.encode()
        assert content.replace(edit, b"") == served
        assert json.loads(content)["info"]["asset_url"] == item.asset_url
    assert (summary.total_items, summary.successful, summary.skipped, summary.failed) == (60, 60, 0, 0)
    assert summary.bytes == sum(len(content) for content in files.values())
    assert summary.elapsed > 0
    assert sandbox.leaks == 0


def test_request_counts_are_exact(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=1000, batches=5)
    with sandbox.client(max_workers=10) as client:
        client.download_project(destination=tmp_path)
    counts = sandbox.counts
    assert counts["work_items"] == 10
    assert counts["batches"] == 1
    assert counts["annotations"] == 1000
    assert counts["storage"] == 1000
    assert counts["signing"] <= math.ceil(1000 / 100) + 10
    assert counts["other"] == 0


def test_raw_documents_are_byte_for_byte_what_is_served(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path, inject_asset_url=False)
    for path, content in tree(tmp_path).items():
        assert content == sandbox.document(path.rsplit("/", 1)[1].removesuffix(".json"))


def test_filters_select_what_is_downloaded(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=40, batches=4, in_review=0.25)
    with sandbox.client() as client:
        completed = {item.id for item in client.get_work_items(status="COMPLETED", batch_ids=[1002])}
        client.download_project(destination=tmp_path, batch_ids=[1002])
        assert {path.stem for path in tmp_path.glob("*/*.json")} == completed
        everything = client.download_project(destination=tmp_path / "all", status=None, batch_ids=[1002])
    assert everything.failed == 10 - len(completed)
    assert everything.total_items == 10


def test_one_failing_item_never_stops_the_others(sandbox, client, tmp_path):
    ids = list(sandbox.work_item_ids())
    sandbox.set_annotation(ids[0], None)
    sandbox.fail_next(404, times=None, path=f"*{ids[1]}/annotations")
    sandbox.update_work_item(ids[2], document=b"<!DOCTYPE html><title>Sorry</title>")
    sandbox.update_work_item(ids[3], document=b'{"info": {}')
    sandbox.update_work_item(ids[4], document=b"[1, 2]")
    sandbox.update_work_item(ids[5], document=b"")
    sandbox.fail_next(500, times=None, path=f"/storage/*{ids[6]}*")
    summary = client.download_project(destination=tmp_path)
    assert (summary.total_items, summary.successful, summary.failed) == (20, 13, 7)
    errors = {result.item_id: result.error for result in summary.failures}
    expected = {
        ids[0]: (DownloadError, "coco_results_url is missing"),
        ids[1]: (NotFoundError, "404"),
        ids[2]: (InvalidResponseError, "HTML page"),
        ids[3]: (InvalidResponseError, "not one complete JSON object"),
        ids[4]: (InvalidResponseError, "array"),
        ids[5]: (InvalidResponseError, "empty"),
        ids[6]: (ServerError, "500"),
    }
    assert set(errors) == set(expected)
    for item_id, (kind, words) in expected.items():
        assert type(errors[item_id]) is kind
        assert words in str(errors[item_id])
        assert "?X-Amz" not in str(errors[item_id])
    assert len(tree(tmp_path)) == 13
    assert list((tmp_path / ".cfplatform" / "partial").iterdir()) == []
    with pytest.raises(DownloadError, match="7 of 20 work items") as caught:
        summary.raise_for_failures()
    assert ".. Run" not in str(caught.value)
    assert ".; " not in str(caught.value)
    assert {result.item_id for result in caught.value.failures} == set(expected)
    sandbox.clear_faults()
    client.download_project(destination=tmp_path / "again", work_item_ids=ids[7:]).raise_for_failures()


def test_results_account_for_every_item_and_can_be_read_again(sandbox, client, tmp_path):
    sandbox.set_annotation(3, None)
    summary = client.download_project(destination=tmp_path)
    first, second = list(summary.results), list(summary.results)
    assert first == second or [r.item_id for r in first] == [r.item_id for r in second]
    assert {result.item_id for result in first} == set(sandbox.work_item_ids())
    for result in first:
        assert (result.path is None) == (result.outcome == "failed")
        if result.path is not None:
            assert result.path.stat().st_size == result.size


def test_results_are_a_sequence_of_which_only_the_wanted_ones_are_read(sandbox, client, tmp_path):
    sandbox.set_annotation(3, None)
    summary = client.download_project(destination=tmp_path)
    results, everything = summary.results, list(summary.results)
    assert len(results) == 20
    assert bool(results)
    assert [results[index].item_id for index in range(-20, 20)] == [each.item_id for each in [*everything] * 2]
    for part in (slice(None), slice(2, 5), slice(-3, None), slice(None, None, -3), slice(15, 2, -4), slice(5, 5)):
        assert [each.item_id for each in results[part]] == [each.item_id for each in everything[part]]
    assert [each.item_id for each in reversed(results)] == [each.item_id for each in everything[::-1]]
    for index in (20, -21):
        with pytest.raises(IndexError):
            results[index]
    # A state file of which only one row is left gives that row, and an error for every other.
    with contextlib.closing(sqlite3.connect(tmp_path / ".cfplatform" / "state.sqlite3")) as state, state:
        state.execute("DELETE FROM results WHERE position != 7")
    assert results[7].item_id == everything[7].item_id
    for read in (lambda: results[8], lambda: results[6:9], lambda: list(results)):
        with pytest.raises(DownloadError, match=r"has [01] of \d+ results"):
            read()


def test_summaries_and_results_are_plain_data(sandbox, client, tmp_path):
    sandbox.set_annotation(3, None)
    summary = client.download_project(destination=tmp_path, assets=True, max_workers=1)
    data = json.loads(json.dumps(summary.as_dict()))
    assert data == summary.as_dict()
    assert data["destination"] == data["state"] == str(tmp_path)
    assert (data["total_items"], data["successful"], data["failed"]) == (20, 19, 1)
    for result in summary.results:
        data = json.loads(json.dumps(result.as_dict()))
        assert data["item_id"] == result.item_id
        assert data["path"] == (str(result.path) if result.path else None)
        assert data["asset_path"] == (str(result.asset_path) if result.asset_path else None)
        assert data["error"] == (str(result.error) if result.error else None)
        assert data["error_type"] == (None if result.error is None else "DownloadError")
    stored = client.download_project(destination="memory://plain", state=tmp_path / "state", batch_ids=[1002])
    assert json.loads(json.dumps(stored.as_dict()))["destination"] == "memory://plain"
    assert stored.results[0].as_dict()["object_url"].startswith("memory://plain/")


def test_a_call_may_have_more_workers_than_the_client(make_sandbox, tmp_path, loud):
    sandbox = make_sandbox(items=150, batches=1, latency=0.05)
    with sandbox.client(max_workers=1) as client:
        # The default session of requests keeps ten connections, and throws further ones away with a warning.
        for overwrite in (False, True):
            client.download_project(destination=tmp_path, max_workers=40, overwrite=overwrite).raise_for_failures()
            # How many threads start depends on the machine; pools as large as the client's number would not hold them.
            assert 12 < sandbox.connections <= 2 * 40 + 5
            assert len(list(client.iter_annotations(max_workers=30))) == 150
    assert sandbox.counts["storage"] == 4 * 150
    assert sandbox.connections <= 2 * 40 + 5
    assert "pool is full" not in loud.text


def test_a_download_logs_its_start_its_end_and_each_failed_item(make_sandbox, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    sandbox = make_sandbox(items=20, batches=2)
    first, second, *_ = sandbox.work_item_ids()
    sandbox.set_annotation(first, None)
    echoed = f"{sandbox.api_key} https://s.example/o?X-Amz-Signature=abc\nforged".encode()
    sandbox.fail_next(404, times=None, path=f"*{second}/annotations", body=echoed)
    with sandbox.client() as client:
        client.download_project(destination=tmp_path)
        records = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "cfplatform.transfer"]
        assert sandbox.api_key not in caplog.text
        assert "abc" not in caplog.text
        assert not any("\n" in text for _, text in records)
        assert [level for level, _ in records] == ["INFO", "ERROR", "ERROR", "INFO"]
        assert records[0] == ("INFO", f"Download to {tmp_path} started")
        assert {text.split()[2] for _, text in records[1:3]} == {first, second}
        assert any("404" in text for _, text in records[1:3])
        assert re.fullmatch(
            rf"Download to {re.escape(str(tmp_path))} finished in \d+\.\d s: 18 downloaded, 0 skipped, 2 failed",
            records[3][1],
        )

        # Single items, also in a loop: the caller has each result and each error.
        caplog.clear()
        for item in client.get_work_items(limit=3):
            with contextlib.suppress(CFPlatformError):
                item.download(tmp_path)
        assert len(list(client.iter_downloads(client.get_work_items(), tmp_path))) == 20
        assert caplog.records == []

        sandbox.fail_next(401, times=None, path="*/annotations")
        with pytest.raises(AuthenticationError):
            client.download_work_items(client.get_work_items(limit=3), tmp_path, overwrite=True)
    assert [each.getMessage() for each in caplog.records] == [
        f"Download to {tmp_path} started",
        f"Download to {tmp_path} ended early by AuthenticationError: 0 downloaded, 0 skipped, 0 failed",
    ]


@pytest.mark.parametrize("logs", [False, True])
def test_nothing_is_printed_unless_the_root_logger_prints(sandbox, tmp_path, logs):
    sandbox.set_annotation(3, None)
    code = "from cfplatform import Client; Client().download_project(destination='labels')"
    if logs:
        code = f"import logging; logging.basicConfig(level='INFO'); {code}"
    environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    levels = ["INFO", "ERROR", "INFO"] if logs else []
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == levels


def test_passing_faults_are_survived(sandbox, client, tmp_path):
    sandbox.truncate_next(3, path="/storage/*")
    sandbox.reset_next(3, path="*/annotations")
    sandbox.html_next(1, path="/storage/*")
    sandbox.fail_next(503, times=2, path="*/signedurls")
    sandbox.fail_next(429, times=2, path="*/annotations", headers={"Retry-After": "0"})
    summary = client.download_project(destination=tmp_path)
    summary.raise_for_failures()
    assert summary.successful == 20
    for path, content in tree(tmp_path).items():
        document = json.loads(content)
        del document["info"]["asset_url"]
        assert document == json.loads(sandbox.document(path.rsplit("/", 1)[1].removesuffix(".json")))


def test_expired_urls_are_signed_again(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=40, batches=2)
    for item_id in itertools.islice(sandbox.work_item_ids(), 15):
        sandbox.fail_next(
            403,
            path=f"/storage/*{item_id}*",
            headers={"Content-Type": "application/xml"},
            body=b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
        )
    with sandbox.client(max_workers=4) as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (40, 0)
    assert sandbox.counts["storage"] == 40 + 15
    assert sandbox.counts["signing"] <= 1 + 4 + 15


def test_a_refusal_that_stays_fails_the_item_after_one_new_signature(sandbox, client, tmp_path):
    first = next(sandbox.work_item_ids())
    sandbox.fail_next(403, times=None, path=f"/storage/*{first}*")
    summary = client.download_project(destination=tmp_path)
    assert summary.failed == 1
    assert isinstance(summary.failures[0].error, PermissionDeniedError)
    assert sum(first in request.path for request in sandbox.requests if request.path.startswith("/storage")) == 2


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (403, PermissionDeniedError)])
def test_a_refused_key_stops_the_run_and_keeps_what_is_finished(make_sandbox, tmp_path, status, error):
    sandbox = make_sandbox(items=600, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        for _ in range(150):
            next(results)
        sandbox.fail_next(status, times=None, path="*/annotations")
        with pytest.raises(error) as caught:
            list(results)
        assert sandbox.api_key not in str(caught.value)
        refused = [request for request in sandbox.requests if request.status == status]
        assert len(refused) <= 4
        assert len(tree(tmp_path)) >= 150
        sandbox.clear_faults()
        kept = len(tree(tmp_path))
        sandbox.clear_requests()
        summary = client.download_project(destination=tmp_path)
    assert summary.skipped >= kept - 4
    assert sandbox.counts["storage"] <= 600 - kept + 4


def test_a_listing_that_breaks_finishes_what_it_listed(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=250, batches=2)
    with sandbox.client(retries=0, max_workers=4) as client:
        sandbox.fail_next(500, times=1, path="*/workItems")
        with pytest.raises(ServerError):
            client.download_project(destination=tmp_path, patience=0)

        def items():
            for number, item in enumerate(client.get_work_items()):
                if number == 100:
                    sandbox.fail_next(500, times=1, path="*/workItems")
                yield item

        with pytest.raises(ServerError) as caught:
            client.download_work_items(items(), tmp_path)
    assert caught.value.cursor
    assert len(tree(tmp_path)) == 200


def test_a_file_that_may_not_be_replaced_fails_alone(sandbox, client, tmp_path, monkeypatch):
    # As one that is open in an editor on Windows; where tests run as root no permission refuses it.
    busy = next(sandbox.work_item_ids())
    replace = os.replace

    def refusing(source, target, **options):
        if busy in str(target):
            raise PermissionError(13, "used by another process")
        return replace(source, target, **options)

    monkeypatch.setattr(os, "replace", refusing)
    summary = client.download_project(destination=tmp_path)
    (failure,) = summary.failures
    assert (failure.item_id, summary.failed) == (busy, 1)
    assert ": used by another process" in str(failure.error)
    monkeypatch.setattr(os, "replace", replace)
    again = client.download_project(destination=tmp_path)
    assert (again.successful, again.skipped, again.failed) == (1, again.total_items - 1, 0)


def test_hostile_and_colliding_batch_names_stay_inside_and_apart(make_sandbox, tmp_path):
    names = ["..", "a/b", "a_b", "A_B", "Café", "Cafe\u0301", "CON", "x\x1b[31m", "-rf", "n" * 300, "Default", " "]
    sandbox = make_sandbox(items=26, batches=len(names), batch_names=names, unbatched=2)
    destination = tmp_path / "inside"
    with sandbox.client() as client:
        summary = client.download_project(destination=destination)
    summary.raise_for_failures()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    folders = sorted(path.name for path in destination.iterdir() if path.name != ".cfplatform")
    assert len({name.casefold() for name in folders}) == len(folders) == 12 + 1
    assert "a_b" in folders
    assert all(name.isprintable() and len(os.fsencode(name)) <= 255 for name in folders)
    assert sum(1 for _ in destination.glob("*/*.json")) == 26


def test_items_without_batch_go_to_default(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=6, batches=1, unbatched=6)
    with sandbox.client() as client:
        client.download_project(destination=tmp_path).raise_for_failures()
    assert {path.parent.name for path in tmp_path.glob("*/*.json")} == {"Default"}


def test_a_link_in_the_place_of_a_batch_folder_is_refused(sandbox, client, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = tmp_path / "inside"
    destination.mkdir()
    name = client.get_batch(1001).name
    (destination / name).symlink_to(outside, target_is_directory=True)
    summary = client.download_project(destination=destination)
    assert summary.failed == 10
    assert "link" in str(summary.failures[0].error)
    assert list(outside.iterdir()) == []


def test_one_item_and_one_batch(sandbox, client, tmp_path):
    item = next(client.get_work_items())
    result = item.download(tmp_path)
    assert result.outcome == "downloaded"
    assert result.path == tmp_path / client.get_batch(item.batch_id).name / f"{item.id}.json"
    assert item.download(tmp_path).outcome == "skipped"
    assert item.download(tmp_path, overwrite=True).outcome == "downloaded"
    summary = client.get_batch(1002).download(tmp_path)
    assert summary.successful == 10
    sandbox.set_annotation(item.id, None)
    with pytest.raises(DownloadError, match="coco_results_url is missing"):
        item.download(tmp_path, overwrite=True)


def test_downloading_items_one_by_one_lists_the_batches_once(sandbox, client, tmp_path):
    for item in client.get_work_items():
        item.download(tmp_path)
    assert sandbox.counts["batches"] == 1
    assert len(tree(tmp_path)) == 20


def test_many_threads_may_download_items_into_one_folder(sandbox, client, tmp_path):
    items = list(client.get_work_items())
    threads = [threading.Thread(target=item.download, args=(tmp_path,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tree(tmp_path)) == 20


def test_results_come_while_the_run_goes_on_and_closing_cancels(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=3000, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        assert next(results).outcome == "downloaded"
        assert sandbox.counts["work_items"] <= 4
        results.close()
        stored = sandbox.counts["storage"]
        assert stored < 3000
        assert client.download_project(destination=tmp_path, batch_ids=[1001]).failed == 0


def test_progress_is_told_to_functions_and_reporters(sandbox, client, tmp_path):
    calls = []
    client.download_project(destination=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 20) for number in range(1, 21)]

    class Stops:
        def start(self, total):
            self.total = total

        def advance(self, outcome, size):
            raise KeyboardInterrupt

        def finish(self):
            self.finished = True

    reporter = Stops()
    with pytest.raises(KeyboardInterrupt):
        client.download_project(destination=tmp_path, progress=reporter)
    assert reporter.total == 20
    assert reporter.finished
    assert client.download_project(destination=tmp_path).skipped == 20


def test_a_large_document_is_saved_with_its_asset_url(sandbox, client, tmp_path):
    item = next(client.get_work_items())
    rows = b",".join(b'{"id": %d, "bbox": [1.10, 2, 3, 4]}' % number for number in range(280_000))
    served = b'{"annotations": [' + rows + b'], "info": {"year": 2026}, "images": []}'
    assert len(served) > 8 * 1024 * 1024
    sandbox.update_work_item(item.id, document=served)
    result = item.refresh().download(tmp_path)
    content = result.path.read_bytes()
    assert content == served.replace(b'{"year"', f'{{"asset_url": "{item.asset_url}", "year"'.encode())
    sandbox.update_work_item(item.id, document=served[:-1])
    with pytest.raises(InvalidResponseError, match="not one complete JSON object"):
        item.refresh().download(tmp_path)
    assert result.path.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"destination": ""}, "destination"),
        ({"destination": "\0"}, "destination"),
        ({"overwrite": 1}, "overwrite"),
        ({"inject_asset_url": "no"}, "inject_asset_url"),
        ({"max_workers": 0}, "max_workers"),
        ({"progress": 5}, "progress"),
        ({"batch_ids": "1001"}, "must be a list"),
        ({"created_at_from": "2026-01-01"}, "ISO 8601"),
    ],
)
def test_arguments_are_refused_before_any_request(sandbox, client, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        client.download_project(**{"destination": tmp_path, **arguments})
    assert sandbox.requests == []


def test_a_destination_that_is_a_file_or_cannot_be_written(sandbox, client, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InvalidParameterError, match="destination"):
        client.download_project(destination=file)
    for destination in (file / "below", "/proc/nowhere"):
        with pytest.raises(DestinationError, match="destination .* cannot be written"):
            client.download_project(destination=destination)
    assert sandbox.requests == []
