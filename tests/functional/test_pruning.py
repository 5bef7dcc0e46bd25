"""Removing files of items that the platform no longer lists, and no others."""

from __future__ import annotations

import json
import threading

from tests.functional.test_any_folder import STATE, at, batches, tree


def stems(folder):
    return {path.rpartition("/")[2].removesuffix(".json") for path in tree(folder)}


def test_other_runs_in_the_same_folder_do_not_make_items_look_gone(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=560, batches=2)
    with sandbox.client(max_workers=8) as client:
        client.download_project(destination=tmp_path)
        one = list(client.get_work_items(limit=1))

        def others():
            # More runs than the number whose results are kept.
            for _ in range(6):
                client.download_work_items(one, tmp_path)

        def in_another_thread():
            thread = threading.Thread(target=others)
            thread.start()
            thread.join()

        summary = client.download_project(
            destination=tmp_path, overwrite=True, prune=True, progress=at(520, in_another_thread)
        )
        assert (summary.total_items, summary.failed, summary.unlisted, summary.pruned) == (560, 0, 0, 0)
        assert len(list(summary.results)) == 560
    assert len(tree(tmp_path)) == 560


def test_what_another_thread_downloads_meanwhile_is_kept(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=120, batches=1, latency=0.002)
    late = next(sandbox.work_item_ids(0, 1))
    sandbox.set_status(late, "IN_REVIEW")
    with sandbox.client(max_workers=4) as client:

        def finished_and_fetched():
            sandbox.set_status(late, "COMPLETED")
            found = list(client.get_work_items(work_item_ids=[late]))
            thread = threading.Thread(target=client.download_work_items, args=(found, tmp_path))
            thread.start()
            thread.join()

        summary = client.download_project(destination=tmp_path, prune=True, progress=at(110, finished_and_fetched))
        assert (summary.unlisted, summary.pruned) == (0, 0)
    assert late in stems(tmp_path)


def test_a_page_that_the_listing_leaves_out_removes_nothing(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=250, batches=1)
    gone = next(sandbox.work_item_ids(0, 1))
    with sandbox.client() as client:
        client.download_project(destination=tmp_path)
        sandbox.delete_work_item(gone)
        (first, *_) = client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"status": "COMPLETED"})
        cursor = first["meta"].get("cursorNext") or first["meta"]["cursor_next"]
        empty = {"items": [], "meta": {"cursorNext": cursor}}
        for dry_run in (True, False):
            sandbox.replace_next(json.dumps(empty).encode(), path="*/workItems")
            summary = client.download_project(destination=tmp_path, prune=True, dry_run=dry_run)
            assert summary.total_items < 249
            assert (summary.unlisted, summary.pruned) == (1, 1)
    assert stems(tmp_path) == {*sandbox.work_item_ids()} - {gone}


def test_a_platform_that_lists_nothing_removes_nothing(make_sandbox, tmp_path, caplog):
    sandbox = make_sandbox(items=20)
    with sandbox.client() as client:
        client.download_project(destination=tmp_path)
        for item in sandbox.work_item_ids():
            sandbox.set_status(item, "IN_REVIEW")
        for dry_run in (True, False):
            summary = client.download_project(destination=tmp_path, prune=True, dry_run=dry_run)
            assert (summary.total_items, summary.unlisted, summary.pruned) == (0, 20, 0)
            (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert "Nothing was removed" in said
            caplog.clear()
        assert len(tree(tmp_path)) == 20
        # A single listed item shows that the response is valid.
        sandbox.set_status(next(sandbox.work_item_ids(0, 1)), "COMPLETED")
        summary = client.download_project(destination=tmp_path, prune=True)
        assert (summary.total_items, summary.unlisted, summary.pruned) == (1, 19, 19)
    assert len(tree(tmp_path)) == 1
    assert STATE in {path.name for path in tmp_path.iterdir()}


def test_other_projects_in_the_folder_are_left_alone(make_sandbox, tmp_path):
    first, second = make_sandbox(items=20, batch_names=["Train"]), make_sandbox(items=30, batch_names=["Train"], seed=7)
    with first.client() as one, second.client() as two:
        assert first.project_id != second.project_id
        for client in (one, two):
            client.download_project(destination=tmp_path).raise_for_failures()
        first.delete_work_item(0)
        first.rename_batch(batches(one)["Train"], "Other")
        summary = one.download_project(destination=tmp_path, prune=True)
        assert (summary.successful, summary.unlisted, summary.pruned) == (19, 1, 1)
        summary = two.download_project(destination=tmp_path, prune=True)
        # The name of its batch is free now, so it moves there.
        assert (summary.successful, summary.failed, summary.unlisted) == (30, 0, 0)
    assert len(tree(tmp_path)) == 49
