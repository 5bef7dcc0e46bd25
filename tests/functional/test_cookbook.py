"""The scripts of the cookbook, run as a reader runs them, and their results."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests

from tests.faults.tools import wait_until
from tests.functional.shell import run
from tests.functional.test_report import Parsed
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
    """The number of annotations of each work item, from the sandbox."""
    return {item: len(json.loads(sandbox.document(item))["annotations"]) for item in sandbox.work_item_ids()}


def test_every_example_stands_in_the_docs_and_is_run_here():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.rst"))
    assert set(re.findall(r"^\.\. literalinclude:: (?:\.\./)?examples/(\w+\.py)$", pages, re.MULTILINE)) == scripts
    tests = Path(__file__).read_text(encoding="utf-8")
    in_cookbook = set(re.findall(r"^\.\. literalinclude:: examples/(\w+\.py)$", PAGE, re.MULTILINE))
    assert [name for name in in_cookbook if f'"{name}"' not in tests] == []
    assert len(in_cookbook) >= 12


@pytest.mark.parametrize(
    "name", ["behind_a_proxy.py", "dask_to_s3.py", "merge_agreed.py", "upload_folder.py", "upload_scenes.py"]
)
def test_a_script_without_its_arguments_shows_how_to_run_it(script, sandbox, name):
    assert script(name, status=1, stderr=rf"(?s)\w[^\n]+\.\n\nRun it with ``python {name} \S.*") == []
    assert not sandbox.requests


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
        assert script("nightly_sync.py") == ["the previous run is still in progress"]


def test_changed_since_yesterday(script, client, sandbox, tmp_path):
    (line,) = script("changed_since_yesterday.py")
    assert re.fullmatch(r"0 changed since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line)
    # Changes to created objects have the current time.
    client.create_work_item("assets/new", asset_type="image")
    sandbox.update_work_item(3)
    changed = [*sandbox.work_item_ids()][3]
    line, total = script("changed_since_yesterday.py")
    assert total.startswith("1 changed since ")
    folder = tmp_path / f"changed-{datetime.now(timezone.utc):%Y-%m-%d}"
    assert (folder / line).stem == changed
    assert set(documents(folder)) == {changed}
    # The items of a sandbox are of March 2025.
    *lines, total = script("changed_since_yesterday.py", "2025-03-01T00:00:00Z")
    assert len(lines) == 20
    assert total == "20 changed since 2025-03-01T00:00:00Z"


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
    # Failed items are missing in both epochs; the next start fetches them.
    sandbox.fail_next(404, times=2, path="*/annotations")
    lines = script("training_loop.py", 2, stderr=r"(skipped: [0-9a-f-]{36} .*404.*\n){2}")
    assert [line.split(",")[0] for line in lines] == ["epoch 1: 18 images", "epoch 2: 18 images"]
    boxes = sum(labels_of(sandbox).values())
    lines = script("training_loop.py", 3)
    assert lines == [f"epoch {number}: 20 images, {boxes} boxes" for number in (1, 2, 3)]
    assert sandbox.counts["annotations"] == 22


def test_count_labels(script, sandbox):
    header, *rows = csv.reader(script("count_labels.py"))
    assert header == ["class", "annotations", "items"]
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
            return dict(db.execute("SELECT item, annotations FROM done")) if exists else {}

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
        # The platform behind the proxy signs URLs with its own host name.
        paths = [f"coco_output/{each}.json" for each in sandbox.work_item_ids()]
        with sandbox.client() as client:
            signed = client.request("POST", f"/spaces/{sandbox.space_id}/signedurls", json={"paths": paths}).text
        origin = sandbox.base_url.partition("/api")[0]
        sandbox.replace_next(signed.replace(origin, proxy.shown).encode(), times=None, path="*/signedurls")
        reached = {"CF_PLATFORM_BASE_URL": sandbox.base_url.replace(origin, proxy.shown)}
        first = next(iter(labels_of(sandbox).values()))
        lines = script("behind_a_proxy.py", proxy.url, proxy.certificate, **reached)
        assert lines == ["20 items are completed", f"{first} annotations in the first one"]
        assert set(proxy.tunnels) == {"platform.example:443"}
        assert sandbox.counts["storage"] == 1
        # Without the company's certificate the proxy is not trusted.
        failed = {"status": 1, "stderr": r"(?s).*certificate verify failed.*"}
        script("behind_a_proxy.py", proxy.url, requests.certs.where(), **failed, **reached)


def test_retry_failures(script, sandbox, tmp_path):
    sandbox.fail_next(404, times=5, path="*/annotations")
    assert script("retry_failures.py", 0, 0) == ["15 fetched, 5 failed", "retry: 5 fetched, 0 failed"]
    assert sandbox.counts["annotations"] == 25
    # The second listing is of the five and no others.
    listings = [request.query_string for request in sandbox.requests if request.route == "work_items"]
    assert [query.count("workItemIDs=") for query in listings][-1] == 5
    assert set(documents(tmp_path / "labels")) == set(sandbox.work_item_ids())


def test_retry_failures_gives_up_with_an_error(script, sandbox):
    sandbox.fail_next(404, times=None, path=f"*/{next(iter(sandbox.work_item_ids()))}/annotations")
    lines = script("retry_failures.py", 0, status=1, stderr=r"(?s).*DownloadError: 1 of 1 work items could not.*404.*")
    assert lines == ["19 fetched, 1 failed", "retry: 0 fetched, 1 failed"]


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
    (line,) = script("webhook_worker.py", database, stderr=rf"failed: {ids[5]} .*404.*\n")
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


# --- Labels: the commands of the page --------------------------------------------------------------------------------


def commands_of(heading):
    """The lines of each shell block of a section."""
    section = re.search(rf"^{re.escape(heading)}\n-+\n(.*?)(?=^[^\n]+\n---+\n|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    blocks = re.findall(r"^\.\. code-block:: shell\n\n((?:(?:    .*)?\n)+)", section, re.MULTILINE)
    return [[line.strip() for line in block.splitlines() if line] for block in blocks]


@pytest.fixture
def typed(tmp_path):
    """Run the lines of a block, check their exit status, and return the output of the last one."""

    def type_in(lines, sandbox, status=0):
        for line in lines:
            name, *arguments = shlex.split(line)
            assert name == "cfplatform"
            done = run(*arguments, sandbox=sandbox, cwd=tmp_path)
            assert done.returncode == (status if line == lines[-1] else 0), done.stderr
        return done

    return type_in


def figures(done):
    """The output of ``compare`` in a pipe: totals by name."""
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[1]: row[2] for row in rows if row[0] == "total"}


def test_review_a_rework(typed, sandbox, tmp_path):
    before, after = commands_of("Review a rework")
    typed(before, sandbox)
    ids = [*sandbox.work_item_ids()]
    removed, relabelled, moved, untouched = (json.loads(sandbox.document(each)) for each in ids[:4])
    total = sum(labels_of(sandbox).values())
    removed["annotations"].pop()
    first = relabelled["annotations"][0]
    first["category_id"] = next(each["id"] for each in relabelled["categories"] if each["id"] != first["category_id"])
    for each in moved["annotations"]:
        each["bbox"][0] += 2
    for item, document in zip(ids, (removed, relabelled, moved), strict=False):
        sandbox.update_work_item(item, document=json.dumps(document).encode())
    # Still in rework.
    sandbox.set_status(ids[3], "REWORK")
    found = figures(typed(after, sandbox))
    assert (found["images in both"], found["only in the first"], found["only in the second"]) == ("19", "1", "0")
    shifted = len(moved["annotations"])
    changed = {"removed": 1, "relabelled": 1, "moved": shifted, "added": 0, "reshaped": 0, "attributes": 0}
    assert {kind: int(found[kind]) for kind in changed} == changed
    assert int(found["same"]) == total - len(untouched["annotations"]) - 2 - shifted
    rows = list(csv.DictReader((tmp_path / "changes.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["item_id"] for row in rows} == set(ids[:3])
    assert len(rows) == 2 + shifted
    # Both versions of three images, with the image that only the first download has.
    page = (tmp_path / "changes.html").read_text(encoding="utf-8")
    assert len(Parsed(page).pictures()) == 6


def test_train_yolo_in_six_commands(typed, sandbox, tmp_path):
    yaml = pytest.importorskip("yaml")
    (lines,) = commands_of("Train YOLO in six commands")
    export, *ours, install, train = lines
    assert (export.split()[0], install, len(ours)) == ("export", "pip install ultralytics", 3)
    done = typed(ours, sandbox)
    # The last command prints the path that was written.
    name = re.fullmatch(r"yolo detect train data=(\S+) model=yolo11n.pt epochs=100", train)[1]
    assert f"yolo detect train data={tmp_path / name}" in done.stdout
    data = yaml.safe_load((tmp_path / name).read_text(encoding="utf-8"))
    assert (data["train"], data["val"], data["nc"]) == ("images/train", "images/val", len(data["names"]))
    assert set(data["names"].values()) == {"rectangle", "triangle", "star", "ellipse"}
    rows = {path.stem: path.read_text().splitlines() for path in (tmp_path / "yolo" / "labels").rglob("*.txt")}
    assert sum(map(len, rows.values())) == sum(labels_of(sandbox).values())
    images = [path for part in ("train", "val") for path in (tmp_path / "yolo" / data[part]).iterdir()]
    assert {path.stem for path in images} == set(rows)
    assert len(images) == 20


def scenes_of(path):
    """The number of images of each scene in a part of a split."""
    data = json.loads(path.read_text(encoding="utf-8"))
    names = [Path(path.parent, each["file_name"]).read_bytes().decode() for each in data["images"]]
    return Counter(name.split()[0] for name in names)


def test_split_by_scene(script, typed, make_sandbox, tmp_path):
    sandbox = make_sandbox(items=0, batches=0)
    script.environment.update(sandbox.environment())

    def annotated(*scenes):
        """Finished items as on the page: images of some scenes, five each, created and annotated."""
        for scene in scenes:
            (tmp_path / "photos" / scene).mkdir(parents=True)
            for number in range(5):
                (tmp_path / "photos" / scene / f"{number}.png").write_bytes(f"{scene} {number}".encode())
        (line,) = script("upload_scenes.py", "photos")
        for item in sandbox.work_item_ids():
            sandbox.set_status(item, "COMPLETED")
        return line

    first, second, convert = commands_of("Split by scene")
    assert annotated(*"abcdefghij") == "50 of 50 items exist"
    typed(first, sandbox)
    parts = {name: scenes_of(tmp_path / "first" / f"{name}.json") for name in ("train", "val")}
    assert {name: (len(found), sum(found.values())) for name, found in parts.items()} == {
        "train": (8, 40),
        "val": (2, 10),
    }
    assert not parts["train"].keys() & parts["val"].keys()
    # Later: five more scenes.
    assert annotated(*"klmno") == "75 of 75 items exist"
    typed(second, sandbox)
    later = {name: scenes_of(tmp_path / "second" / f"{name}.json") for name in ("train", "val")}
    assert all(parts[name].items() <= later[name].items() for name in parts)
    assert {name: sum(found.values()) for name, found in later.items()} == {"train": 60, "val": 15}
    # The same in one folder, as the page says.
    typed([line.replace(" second ", " first ") for line in second], sandbox)
    for name in ("train.json", "val.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    typed(convert, sandbox)
    written = {name: len([*(tmp_path / "yolo" / "images" / name).iterdir()]) for name in ("train", "val")}
    assert written == {"train": 60, "val": 15}


def test_two_annotators(script, typed, make_sandbox, tmp_path):
    sandbox = make_sandbox(items=0, batches=0)
    script.environment.update(sandbox.environment())
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]

    def box(number, category):
        return {"id": number, "image_id": 1, "category_id": category, "bbox": [number * 30, 10, 20, 20], "area": 400}

    # Of five images: the same; the class differs; one object is missing; empty for both; the same.
    drawn = {
        "First": [[box(1, 1), box(2, 2)], [box(1, 1)], [box(1, 2), box(2, 2)], [], [box(1, 1)]],
        "Second": [[box(1, 1), box(2, 2)], [box(1, 2)], [box(1, 2)], [], [{**box(1, 1), "bbox": [31, 10, 20, 20]}]],
    }
    with sandbox.client() as client:
        # In the order of their names, one at a time.
        uploaded = [client.upload_file(io.BytesIO(f"image {number}".encode())) for number in range(5)]
        for batch, images in drawn.items():
            for asset, annotations in zip(uploaded, images, strict=True):
                (created,) = client.create_work_items([asset], batch=batch)
                document = json.loads(sandbox.document(created.item.id))
                document.update(annotations=annotations, categories=categories)
                sandbox.update_work_item(created.item.id, status="COMPLETED", document=json.dumps(document).encode())
    (lines,) = commands_of("Measure agreement, and merge two annotators")
    done = typed(lines, sandbox, status=1)
    assert "F1 is 0.7273, below 0.8" in done.stderr
    found = figures(done)
    assert found["images in both"] == "5"
    # Matched objects are 2 cars, 2 buses, and a car that is a bus for the second. By hand: kappa is
    # (4/5 - 12/25) / (1 - 12/25) and alpha is 1 - (10 - 1) * 2 / (2 * 5 * 5).
    assert (found["f1"], found["kappa of matched objects"], found["alpha of matched objects"]) == (
        "0.727",
        "0.615",
        "0.640",
    )
    lines = script("merge_agreed.py", "labels/First", "labels/Second", "agreed.json")
    assert lines == ["2 images with agreement, 2 without"]
    data = json.loads((tmp_path / "agreed.json").read_text(encoding="utf-8"))
    contents = sorted((tmp_path / each["file_name"]).read_text() for each in data["images"])
    assert contents == ["image 0", "image 4"]
    assert sorted(each["bbox"][0] for each in data["annotations"]) == [30, 30, 60]
