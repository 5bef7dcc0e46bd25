"""Metadata of work items: saved by every download, and used as groups of a split."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from cfplatform import coco, iter_downloaded
from tests.functional.shell import json_lines, run
from tests.functional.test_any_folder import counts, tree
from tests.functional.test_executors import Inline

SECRET = "https://hooks.example.com/?token=s3cret"


def metadata_of(number):
    return {"scene": f"scene-{number // 4}", "callbackUrl": SECRET, "tags": ["\u00e9", 1.5, None]}


@pytest.fixture
def sandbox(sandbox):
    """20 items, four of each scene; the last has no metadata."""
    for number, item in enumerate([*sandbox.work_item_ids()][:-1]):
        sandbox.patch_work_item_json(item, {"metadata": metadata_of(number)})
    return sandbox


def expected(sandbox):
    *ids, last = sandbox.work_item_ids()
    return {**{item: metadata_of(number) for number, item in enumerate(ids)}, last: {}}


def kept(root, state=None):
    return {item.item_id: item.metadata for item in iter_downloaded(root, state)}


def read(root):
    return {document.item_id: document.metadata for document in coco.read(root)}


def test_a_download_keeps_the_metadata_and_leaves_the_documents_alone(sandbox, client, make_sandbox, tmp_path):
    client.download_project(destination=tmp_path / "labels", assets=True).raise_for_failures()
    assert kept(tmp_path / "labels") == read(tmp_path / "labels") == expected(sandbox)
    *others, _ = (path for path in sorted((tmp_path / "labels").iterdir()) if path.name[0] != ".")
    assert all(found == expected(sandbox)[item] for other in others for item, found in read(other).items())
    for item in iter_downloaded(tmp_path / "labels"):
        assert "s3cret" not in repr(item)
        assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301 - made in this line
        assert len({item, item}) == 1
    assert not any(b"s3cret" in content for content in tree(tmp_path / "labels").values())


def test_metadata_that_change_are_kept_at_the_next_run_without_a_fetch(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path)
    before, first = tree(tmp_path), next(iter(sandbox.work_item_ids()))
    sandbox.patch_work_item_json(first, {"metadata": {"scene": "another"}})
    fetched = sandbox.counts["storage"]
    assert counts(client.download_project(destination=tmp_path)) == (0, 20, 0)
    assert (sandbox.counts["storage"], tree(tmp_path)) == (fetched, before)
    assert kept(tmp_path) == {**expected(sandbox), first: {"scene": "another"}}
    sandbox.patch_work_item_json(first, {"metadata": None})
    assert counts(client.download_project(destination=tmp_path)) == (0, 20, 0)
    assert kept(tmp_path)[first] == {}


#: The tables of earlier versions.
OLD = {
    3: """
ALTER TABLE items RENAME TO later;
CREATE TABLE items (
    project_id TEXT, item_id TEXT, path TEXT, path_key TEXT, revision TEXT, injected INTEGER,
    etag TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT, PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
INSERT INTO items
    SELECT project_id, item_id, path, path_key, revision, injected, etag, size, mtime_ns, digest FROM later;
DROP TABLE later;
CREATE INDEX items_by_path ON items (path_key);
PRAGMA user_version = 3;
""",
    2: """
ALTER TABLE items RENAME TO later;
CREATE TABLE items (
    project_id TEXT, item_id TEXT, path TEXT, path_key TEXT, revision TEXT, injected INTEGER,
    etag TEXT, size INTEGER, mtime_ns INTEGER, PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
INSERT INTO items SELECT project_id, item_id, path, path_key, revision, injected, etag, size, mtime_ns FROM later;
DROP TABLE later;
CREATE INDEX items_by_path ON items (path_key);
ALTER TABLE assets RENAME TO later;
CREATE TABLE assets (
    project_id TEXT, item_id TEXT, path TEXT, source TEXT, size INTEGER, mtime_ns INTEGER,
    PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
INSERT INTO assets SELECT project_id, item_id, path, source, size, mtime_ns FROM later;
DROP TABLE later;
PRAGMA user_version = 2;
""",
}


@pytest.mark.parametrize("version", OLD)
def test_a_state_of_an_earlier_version_is_read_and_gets_the_metadata_without_a_fetch(
    sandbox, client, tmp_path, version
):
    client.download_project(destination=tmp_path, assets=True)
    database = tmp_path / ".cfplatform/state.sqlite3"
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.executescript(OLD[version])
    before, files = database.read_bytes(), tree(tmp_path)
    # Readers find what exists, and change nothing.
    assert read(tmp_path) == kept(tmp_path) == dict.fromkeys(sandbox.work_item_ids(), {})
    assert database.read_bytes() == before
    fetched = sandbox.counts["storage"]
    assert counts(client.download_project(destination=tmp_path, assets=True)) == (0, 20, 0)
    assert (sandbox.counts["storage"], tree(tmp_path)) == (fetched, files)
    assert kept(tmp_path) == read(tmp_path) == expected(sandbox)
    assert not database.with_name("state.sqlite3.damaged").exists()


@pytest.mark.parametrize(
    "damage", ["'{'", "'[1]'", "'\"a\"'", "x'ff'", "7", "CAST(x'00' AS TEXT)", "'{\"a\": 1}' || x'00'"]
)
def test_damaged_metadata_are_none(sandbox, client, tmp_path, damage):
    client.download_project(destination=tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / ".cfplatform/state.sqlite3")) as db, db:
        db.execute(f"UPDATE items SET metadata = {damage}")  # noqa: S608 - one of the above
    assert read(tmp_path) == kept(tmp_path) == dict.fromkeys(sandbox.work_item_ids(), {})
    assert client.download_project(destination=tmp_path).failed == 0
    assert kept(tmp_path) == expected(sandbox)


def test_metadata_nested_deeply_end_no_run(sandbox, client, tmp_path):
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    first = next(iter(sandbox.work_item_ids()))
    sandbox.patch_work_item_json(first, {"metadata": {"deep": deep}})
    assert counts(client.download_project(destination=tmp_path)) == (20, 0, 0)
    assert kept(tmp_path)[first] == {"deep": deep}


@pytest.mark.parametrize("how", ["inline", "processes"])
def test_other_processes_download_and_the_metadata_are_kept(sandbox, client, tmp_path, how):
    if how == "inline":
        client.download_project(destination=tmp_path / "labels", executor=Inline())
    else:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            client.download_project(destination=tmp_path / "labels", executor=pool)
    assert kept(tmp_path / "labels") == expected(sandbox)


def test_stores_and_states_elsewhere_keep_them_too(sandbox, client, tmp_path):
    client.download_project(destination="memory://metadata/labels", state=tmp_path / "state")
    assert kept("memory://metadata/labels", tmp_path / "state") == expected(sandbox)
    client.download_project(destination=tmp_path / "labels", state=tmp_path / "state")
    assert kept(tmp_path / "labels", tmp_path / "state") == expected(sandbox)


def test_single_items_batches_and_assets_alone(sandbox, client, tmp_path):
    first = next(iter(sandbox.work_item_ids()))
    (item,) = client.get_work_items(work_item_ids=[first])
    item.download_asset(tmp_path)
    assert kept(tmp_path) == {first: {}}
    item.download(tmp_path)
    assert kept(tmp_path) == {first: metadata_of(0)}


def test_items_that_are_removed_take_their_metadata_along_and_a_dry_run_keeps_them(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path)
    gone = next(iter(sandbox.work_item_ids()))
    sandbox.set_status(gone, "IN_PROGRESS")
    for dry_run in (True, False):
        client.download_project(destination=tmp_path, prune=True, dry_run=dry_run)
        assert (gone in kept(tmp_path)) == dry_run
    rehearsal = client.download_project(destination=tmp_path / "new", dry_run=True)
    assert (rehearsal.successful, kept(tmp_path / "new")) == (19, {})


# --- Split by metadata ------------------------------------------------------------------------------------------------


def parts_of(summary):
    found = {}
    for name, part in summary.parts.items():
        images = json.loads(part.output.read_text())["images"]
        found[name] = sorted(image["work_item_id"] for image in images)
    return found


@pytest.mark.parametrize("stratify", [False, True])
def test_a_folder_a_stream_and_a_merged_file_are_split_by_scenes_alike(sandbox, client, tmp_path, stratify):
    client.download_project(destination=tmp_path / "labels")
    merged = coco.merge(tmp_path / "labels", tmp_path / "merged.json", metadata=["scene"]).output
    assert "s3cret" not in merged.read_text()
    found = []
    for source in (tmp_path / "labels", [*client.iter_annotations()], merged):
        parts = {"train": 0.6, "val": 0.4}
        summary = coco.split(source, tmp_path / "datasets", parts, by="scene", stratify=stratify, seed=1)
        assert (summary.counts.get("no-group"), summary.problem_count) == (1, 0)
        found.append(parts_of(summary))
    assert found[0] == found[1] == found[2]
    *ids, _ = sandbox.work_item_ids()
    scenes = [{number // 4 for number, item in enumerate(ids) if item in part} for part in found[0].values()]
    assert not scenes[0] & scenes[1]
    assert scenes[0] | scenes[1] == {*range(5)}
    if stratify:
        assert [len(part) for part in found[0].values()] == [12, 8]


def test_the_command_splits_by_scenes_and_keeps_an_earlier_split(sandbox, client, tmp_path):
    labels, first, second = tmp_path / "labels", tmp_path / "first", tmp_path / "second"
    client.download_project(destination=labels, assets=True)
    options = ["--part", "train=0.6", "--part", "val=0.4", "--by", "scene", "--stratify", "--json"]
    done = run("split", labels, first, *options, "--images", "link", "--seed", "1")
    assert done.returncode == 0
    finding, last = json_lines(done.stdout)
    assert finding["code"] == "no-group"
    assert [part["images"] for part in last["summary"]["parts"].values()] == [12, 8]
    assert len([*(first / "images").iterdir()]) == 20
    done = run("split", labels, second, *options, "--keep", first, "--seed", "2")
    for part in ("train", "val"):
        images = [json.loads((root / f"{part}.json").read_text())["images"] for root in (first, second)]
        assert [each["work_item_id"] for each in images[0]] == [each["work_item_id"] for each in images[1]]
    done = run("split", labels, second, *options[:-2], "--by", "scenery")
    assert (done.returncode, "--by 'scenery': no image has this field" in done.stderr) == (2, True)


def test_the_command_splits_by_a_file_of_groups(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path / "labels")
    ids = [*sandbox.work_item_ids()]
    lines = [f"{item},{number % 5}" for number, item in enumerate(ids[1:])]
    (tmp_path / "groups.csv").write_text("\n".join(["item,group", *lines, "unknown,7"]))
    options = ["--part", "a=0.5", "--part", "b=0.5", "--groups", tmp_path / "groups.csv"]
    done = run("split", tmp_path / "labels", tmp_path / "out", *options, "--json")
    *findings, last = json_lines(done.stdout)
    assert (done.returncode, last["summary"]["counts"]) == (0, {"no-group": 1, "unknown-item": 1})
    assert [each["item_id"] for each in findings] == [ids[0], "unknown"]
    (tmp_path / "groups.csv").write_text("item,group\nx\n")
    done = run("split", tmp_path / "labels", tmp_path / "out", *options)
    assert "groups.csv', line 2: expected 2 cells, item and group, found 1." in done.stderr


def test_the_command_copies_metadata_into_a_merged_dataset(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path / "labels")
    done = run("merge", tmp_path / "labels", tmp_path / "merged.json", "--metadata", "scene")
    assert done.returncode == 0
    images = json.loads((tmp_path / "merged.json").read_text())["images"]
    assert {image["work_item_id"]: image.get("metadata", {}) for image in images} == {
        item: {name: value for name, value in found.items() if name == "scene"}
        for item, found in expected(sandbox).items()
    }
