"""Second runs: items that are skipped or fetched again, and concurrent runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from .test_downloading import tree


@pytest.fixture
def synced(sandbox, client, tmp_path):
    """A destination with the complete project; the request log is empty again."""
    client.download_project(destination=tmp_path).raise_for_failures()
    sandbox.clear_requests()
    return tmp_path


def test_an_unchanged_project_needs_listing_requests_only(sandbox, client, synced):
    before = tree(synced)
    times = {path: (synced / path).stat().st_mtime_ns for path in before}
    summary = client.download_project(destination=synced)
    assert (summary.skipped, summary.successful, summary.bytes) == (20, 0, 0)
    assert {kind: count for kind, count in sandbox.counts.items() if count} == {"work_items": 1, "batches": 1}
    assert tree(synced) == before
    assert {path: (synced / path).stat().st_mtime_ns for path in before} == times


def test_a_changed_item_is_fetched_again(sandbox, client, synced):
    changed = next(sandbox.work_item_ids(3))
    sandbox.update_work_item(changed)
    summary = client.download_project(destination=synced)
    assert (summary.skipped, summary.successful) == (19, 1)
    assert [result.item_id for result in summary.results if result.outcome == "downloaded"] == [changed]
    (path,) = synced.glob(f"*/{changed}.json")
    document = json.loads(path.read_bytes())
    del document["info"]["asset_url"]
    assert document == json.loads(sandbox.document(changed))


@pytest.mark.parametrize("harm", ["delete", "cut", "edit"])
def test_a_file_that_was_touched_is_put_back(sandbox, client, synced, harm):
    before = tree(synced)
    victim = synced / next(iter(before))
    if harm == "delete":
        victim.unlink()
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:100])
    else:
        victim.write_bytes(victim.read_bytes().replace(b"0", b"1"))
    summary = client.download_project(destination=synced)
    assert (summary.skipped, summary.successful) == (19, 1)
    assert tree(synced) == before
    assert sandbox.counts["storage"] == 1


def test_overwrite_fetches_everything(sandbox, client, synced):
    assert client.download_project(destination=synced, overwrite=True).successful == 20
    assert sandbox.counts["storage"] == 20


def test_another_form_of_the_document_is_fetched_again(sandbox, client, synced):
    assert client.download_project(destination=synced, inject_asset_url=False).successful == 20
    assert client.download_project(destination=synced, inject_asset_url=False).skipped == 20


def test_an_interrupted_run_goes_on_where_it_stopped(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        for _ in range(120):
            next(results)
        results.close()
        kept = len(tree(tmp_path))
        sandbox.clear_requests()
        summary = client.download_project(destination=tmp_path)
    assert summary.skipped == kept >= 120
    assert sandbox.counts["storage"] == 300 - kept


def test_a_state_file_that_is_gone_or_garbage_costs_requests_only(sandbox, client, synced):
    before = tree(synced)
    state = synced / ".cfplatform" / "state.sqlite3"
    state.write_bytes(b"garbage" * 100)
    assert client.download_project(destination=synced).successful == 20
    state.unlink()
    assert client.download_project(destination=synced).successful == 20
    assert client.download_project(destination=synced).skipped == 20
    assert tree(synced) == before


def test_without_updated_at_the_storage_is_asked(sandbox, client, tmp_path):
    for number in range(20):
        sandbox.patch_work_item_json(number, {}, remove=["updatedAt"])
    assert client.download_project(destination=tmp_path).successful == 20
    sandbox.clear_requests()
    assert client.download_project(destination=tmp_path).skipped == 20
    assert {request.status for request in sandbox.requests if request.path.startswith("/storage")} == {304}
    sandbox.update_work_item(5)
    sandbox.patch_work_item_json(5, {}, remove=["updatedAt"])
    assert client.download_project(destination=tmp_path).successful == 1


def test_a_renamed_batch_moves_its_files(sandbox, client, synced):
    old = client.get_batch(1001).name
    sandbox.rename_batch(1001, "New name")
    summary = client.download_project(destination=synced)
    assert (summary.successful, summary.skipped) == (10, 10)
    assert len(list((synced / "New name").glob("*.json"))) == 10
    assert not list((synced / old).glob("*.json"))
    assert client.download_project(destination=synced).skipped == 20


def test_an_item_that_changed_its_batch_leaves_no_copy_behind(sandbox, client, synced):
    item = next(sandbox.work_item_ids())
    sandbox.update_work_item(item)
    sandbox.patch_work_item_json(item, {"batchId": 1002})
    client.download_project(destination=synced).raise_for_failures()
    (path,) = synced.glob(f"*/{item}.json")
    assert path.parent.name == client.get_batch(1002).name


def test_two_projects_may_share_a_destination(make_sandbox, tmp_path):
    first, second = make_sandbox(items=10, batches=1), make_sandbox(items=10, batches=1, seed=1)
    for sandbox in (first, second):
        with sandbox.client() as client:
            client.download_project(destination=tmp_path).raise_for_failures()
    assert {path.stem for path in tmp_path.glob("*/*.json")} == {*first.work_item_ids(), *second.work_item_ids()}
    assert len({path.parent for path in tmp_path.glob("*/*.json")}) == 2


def test_a_second_process_gets_a_clear_error(sandbox, client, tmp_path):
    script = (
        "import os, sys, cfplatform\n"
        "client = cfplatform.Client()\n"
        "try:\n"
        "    client.download_project(destination=sys.argv[1])\n"
        "except cfplatform.DestinationBusyError as error:\n"
        "    print(error)\n"
    )
    results = client.iter_downloads(client.get_work_items(), tmp_path)
    next(results)
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, **sandbox.environment()}
    other = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert f"Process {os.getpid()} is downloading to" in other.stdout
    for _ in results:
        pass
    other = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert other.stdout == ""
