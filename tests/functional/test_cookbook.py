"""The scripts of the cookbook, run as a reader runs them, and what came of each."""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests

from tests.faults.tools import wait_until
from tests.functional.test_webhook_examples import started
from tests.proxies import CompanyProxy
from tests.stores import SECRET, S3Server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "cookbook.rst").read_text(encoding="utf-8")


class Script:
    """Runs examples in a folder of the test, with the environment that points to the sandbox."""

    def __init__(self, sandbox, folder):
        self.folder = folder
        self.environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}

    def command(self, name, *arguments):
        return [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments)]

    def __call__(self, name, *arguments, status=0, stderr="", **environment):
        variables = {**self.environment, **environment}
        streams = {"capture_output": True, "text": True, "timeout": 60, "check": False}
        done = subprocess.run(self.command(name, *arguments), cwd=self.folder, env=variables, **streams)
        assert re.fullmatch(stderr, done.stderr), done.stderr
        assert done.returncode == status
        return done.stdout.splitlines()

    @contextmanager
    def running(self, name):
        process = subprocess.Popen(self.command(name), cwd=self.folder, env=self.environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def script(sandbox, tmp_path):
    return Script(sandbox, tmp_path)


def documents(folder):
    return {path.stem: json.loads(path.read_bytes()) for path in folder.rglob("*.json")}


def labels_of(sandbox):
    """How many labels each work item has, by the sandbox itself."""
    return {item: len(json.loads(sandbox.document(item))["annotations"]) for item in sandbox.work_item_ids()}


def test_every_example_stands_in_the_docs_and_is_run_here():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.rst"))
    assert set(re.findall(r"^\.\. literalinclude:: examples/(\w+\.py)$", pages, re.MULTILINE)) == scripts
    tests = Path(__file__).read_text(encoding="utf-8")
    in_cookbook = set(re.findall(r"^\.\. literalinclude:: examples/(\w+\.py)$", PAGE, re.MULTILINE))
    assert [name for name in in_cookbook if f'"{name}"' not in tests] == []
    assert len(in_cookbook) >= 12


def test_nightly_sync(script, sandbox, tmp_path):
    (line,) = script("nightly_sync.py", "copy")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d: 20 fetched, 0 unchanged, 0 failed", line)
    assert set(documents(tmp_path / "copy")) == set(sandbox.work_item_ids())
    assert len([*(tmp_path / "copy").rglob("assets/*.png")]) == 20

    sandbox.update_work_item(0)
    sandbox.update_work_item(1)
    sandbox.fail_next(404, path="*/annotations")
    (line,) = script("nightly_sync.py", "copy", status=1, stderr=r"[0-9a-f-]{36}: .*404.*\n")
    assert line.endswith(": 1 fetched, 18 unchanged, 1 failed")
    (line,) = script("nightly_sync.py", "copy")
    assert line.endswith(": 1 fetched, 19 unchanged, 0 failed")


def test_nightly_sync_tells_what_stopped_it(script, sandbox, tmp_path):
    assert script("nightly_sync.py", status=1, stderr=r"sync failed: .*\n", CF_API_KEY="no") == []
    sandbox.latency = 0.3
    with script.running("nightly_sync.py"):
        wait_until((tmp_path / "labels" / ".cfplatform").exists)
        wait_until(lambda: sandbox.counts["work_items"] > 1)
        assert script("nightly_sync.py") == ["yesterday's run is still running"]


def test_changed_since_yesterday(script, client, sandbox, tmp_path):
    assert script("changed_since_yesterday.py") == []
    # What changes after something was created carries the present time.
    client.create_work_item("assets/new", asset_type="image")
    sandbox.update_work_item(3)
    changed = [*sandbox.work_item_ids()][3]
    (line,) = script("changed_since_yesterday.py")
    folder = tmp_path / f"changed-{datetime.now(timezone.utc):%Y-%m-%d}"
    assert (folder / line).stem == changed
    assert set(documents(folder)) == {changed}


def test_upload_folder(script, client, sandbox, tmp_path):
    (tmp_path / "Night").mkdir()
    for name in ("a.png", "b.jpg", "notes.txt"):
        (tmp_path / "Night" / name).write_bytes(name.encode())
    assert script("upload_folder.py", "Night") == ["2 created, 0 existed, 0 failed"]
    items = list(client.get_batch(name="Night").get_work_items())
    assert {item.metadata["externalId"]: sandbox.asset(item.id) for item in items} == {
        "a.png": b"a.png",
        "b.jpg": b"b.jpg",
    }
    (tmp_path / "Night" / "c.png").write_bytes(b"new")
    sandbox.fail_next(422, path="*/workItems", method="POST")
    lines = script("upload_folder.py", "Night", status=1, stderr=r"Night.c\.png: .*422.*\n")
    assert lines == ["0 created, 2 existed, 1 failed"]
    assert script("upload_folder.py", "Night") == ["1 created, 2 existed, 0 failed"]


def test_training_loop(script, sandbox):
    # What fails is left out of both epochs, and fetched by the next start.
    sandbox.fail_next(404, times=2, path="*/annotations")
    lines = script("training_loop.py", 2, stderr=r"(skipped: [0-9a-f-]{36} .*404.*\n){2}")
    assert [line.split(",")[0] for line in lines] == ["epoch 1: 18 images", "epoch 2: 18 images"]
    boxes = sum(labels_of(sandbox).values())
    lines = script("training_loop.py", 3)
    assert lines == [f"epoch {number}: 20 images, {boxes} boxes" for number in (1, 2, 3)]
    assert sandbox.counts["annotations"] == 22


def test_count_labels(script, sandbox):
    header, *rows = csv.reader(script("count_labels.py"))
    assert header == ["class", "labels", "items"]
    assert sum(int(labels) for _, labels, _ in rows) == sum(labels_of(sandbox).values())
    assert [int(labels) for _, labels, _ in rows] == sorted((int(labels) for _, labels, _ in rows), reverse=True)
    assert all(0 < int(items) <= int(labels) and int(items) <= 20 for _, labels, items in rows)
    assert "ellipse" in {name for name, _, _ in rows}


def test_split_by_batch(script, sandbox, tmp_path):
    assert script("split_by_batch.py", "Street scenes") == [
        "train: 1 batches, 10 items",
        "validation: 1 batches, 10 items",
    ]
    train, validation = (set(documents(tmp_path / "dataset" / split)) for split in ("train", "validation"))
    assert train | validation == set(sandbox.work_item_ids())
    assert not train & validation
    assert [path.name for path in (tmp_path / "dataset" / "validation").glob("[!.]*")] == ["Street scenes"]
    script("split_by_batch.py", "Street", "x", status=1, stderr="no such batch: Street, x\n")


def test_resume_own_work(script, sandbox, tmp_path):
    def done():
        with closing(sqlite3.connect(tmp_path / "work.db")) as db:
            exists = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'done'").fetchone()
            return dict(db.execute("SELECT item, labels FROM done")) if exists else {}

    sandbox.drip_next(times=None, path=f"*/{[*sandbox.work_item_ids()][8]}.json")
    with script.running("resume_own_work.py"):
        # It hangs at the ninth, and is killed there.
        wait_until(lambda: len(done()) == 8)
    sandbox.clear_faults()
    # Done already, but changed since.
    sandbox.update_work_item(0)
    before = sandbox.counts["annotations"]
    labels = labels_of(sandbox)
    assert script("resume_own_work.py") == [f"20 {sum(labels.values())}"]
    assert done() == labels
    assert sandbox.counts["annotations"] - before == 13


def test_behind_a_proxy(script, sandbox, tmp_path):
    with CompanyProxy(sandbox.base_url, tmp_path) as proxy:
        # The platform that is behind the proxy signs URLs of its own name.
        paths = [f"coco_output/{each}.json" for each in sandbox.work_item_ids()]
        with sandbox.client() as client:
            signed = client.request("POST", f"/spaces/{sandbox.space_id}/signedurls", json={"paths": paths}).text
        origin = sandbox.base_url.partition("/api")[0]
        sandbox.replace_next(signed.replace(origin, proxy.shown).encode(), times=None, path="*/signedurls")
        reached = {
            "CF_PLATFORM_BASE_URL": sandbox.base_url.replace(origin, proxy.shown),
            "LABELS_PROXY": proxy.url,
            "LABELS_CA": str(proxy.certificate),
        }
        first = next(iter(labels_of(sandbox).values()))
        lines = script("behind_a_proxy.py", **reached)
        assert lines == ["20 items are completed", f"{first} labels in the first one"]
        assert set(proxy.tunnels) == {"platform.example:443"}
        assert sandbox.counts["storage"] == 1
        # Without the company's certificate nobody vouches for the proxy.
        usual = {**reached, "LABELS_CA": requests.certs.where()}
        script("behind_a_proxy.py", status=1, stderr=r"(?s).*certificate verify failed.*", **usual)


def test_retry_failures(script, sandbox, tmp_path):
    sandbox.fail_next(404, times=5, path="*/annotations")
    assert script("retry_failures.py", 0, 0) == ["15 fetched, 5 failed", "again: 5 fetched, 0 failed"]
    assert sandbox.counts["annotations"] == 25
    # The second listing is of the five and no others.
    listings = [request.query_string for request in sandbox.requests if request.route == "work_items"]
    assert [query.count("workItemIDs=") for query in listings][-1] == 5
    assert set(documents(tmp_path / "labels")) == set(sandbox.work_item_ids())


def test_retry_failures_gives_up_with_an_error(script, sandbox):
    sandbox.fail_next(404, times=None, path=f"*/{next(iter(sandbox.work_item_ids()))}/annotations")
    lines = script("retry_failures.py", 0, status=1, stderr=r"(?s).*DownloadError: 1 of 1 work items could not.*404.*")
    assert lines == ["19 fetched, 1 failed", "again: 0 fetched, 1 failed"]


def test_export_and_unpack(script, sandbox, tmp_path):
    sandbox.export_seconds = 0
    folder, *batches = script("export_and_unpack.py", "Nightly")
    found = documents(tmp_path / "exports" / folder)
    assert {item: len(document["annotations"]) for item, document in found.items()} == labels_of(sandbox)
    total = sum(labels_of(sandbox).values())
    assert sum(int(line.split(": ")[1].split()[0]) for line in batches) == total
    assert [line.split(":")[0] for line in batches] == ["Café façades", "Street scenes"]


def test_webhook_worker(script, sandbox, tmp_path):
    with started("receive_webhooks.py", sandbox.base_url, tmp_path) as (port, database):
        sandbox.webhook_url = f"http://127.0.0.1:{port}/webhooks"
        for index, status in ((4, "COMPLETED"), (5, "COMPLETED"), (6, "CLIENT_REVIEW")):
            sandbox.set_status(index, status)
        assert sandbox.wait_for_deliveries(20)
    ids = [*sandbox.work_item_ids()]
    sandbox.fail_next(404, path=f"*/{ids[5]}/annotations")
    (line,) = script("webhook_worker.py", database, stderr=rf"later: {ids[5]} .*404.*\n")
    assert Path(line).stem == ids[4]
    (line,) = script("webhook_worker.py", database)
    assert Path(line).stem == ids[5]
    assert set(documents(tmp_path / "labels")) == {ids[4], ids[5]}
    assert len([*(tmp_path / "labels").rglob("assets/*.png")]) == 2
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT work_item_id, status FROM events").fetchall() == [(ids[6], "CLIENT_REVIEW")]


def test_items_without_labels(script, client, sandbox, tmp_path):
    item = next(client.get_work_items())
    empty = {**json.loads(sandbox.document(item.id)), "annotations": []}
    sandbox.update_work_item(item.id, document=json.dumps(empty).encode())
    client.download_project(destination=tmp_path / "labels", assets=True)
    lines = script("items_without_labels.py")
    picture = next((tmp_path / "labels").rglob(f"assets/{item.id}.png"))
    assert lines[0] == f"{item.id} {picture}"
    assert lines[1:] == ["1 of 20 have no annotations"]


def test_dask_to_s3(script, sandbox):
    import fsspec

    server = S3Server()
    try:
        store = fsspec.filesystem("s3", **server.settings(), skip_instance_cache=True)
        store.mkdir("bucket")
        reached = {
            "FSSPEC_S3_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu",
        }
        lines = script("dask_to_s3.py", "s3://bucket/labels", **reached)
        assert lines == ["20 written, 0 unchanged"]
        found = {path.split("/")[-1].removesuffix(".json") for path in store.find("bucket/labels")}
        assert found == set(sandbox.work_item_ids())
    finally:
        server.stop()
