"""``cfplatform compare`` and its page, on real downloads."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest

from cfplatform import InvalidParameterError, coco
from cfplatform.report import write_comparison
from tests.chromium import chromium, program
from tests.functional.shell import json_lines, run
from tests.functional.test_report import Parsed
from tests.functional.test_report_browser import contrast

ATTACK = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A download, and a copy with some annotations removed, relabelled, moved or added."""
    from cfplatform.sandbox import Sandbox

    root = tmp_path_factory.mktemp("comparing")
    with Sandbox(items=30, batches=2) as sandbox, sandbox.client() as client:
        client.download_project(destination=root / "labels", assets=True).raise_for_failures()
    shutil.copytree(root / "labels", root / "reworked", ignore=shutil.ignore_patterns("assets"))
    expected = dict.fromkeys(("removed", "relabelled", "moved", "added"), 0)
    for number, path in enumerate(sorted((root / "reworked").glob("*/*.json"))):
        data = json.loads(path.read_text(encoding="utf-8"))
        first = next((each for each in data["annotations"] if "bbox" in each and not each.get("iscrowd")), None)
        if number % 3 or first is None:
            continue
        kind = list(expected)[number // 3 % 4]
        expected[kind] += 1
        if kind == "removed":
            data["annotations"].remove(first)
        elif kind == "relabelled":
            first["category_id"] = next(c["id"] for c in data["categories"] if c["id"] != first["category_id"])
        elif kind == "moved":
            first["bbox"][0] += 1
        else:
            data["annotations"].append({**first, "id": 999, "bbox": [0, 0, 3, 3], "segmentation": []})
        path.write_text(json.dumps(data), encoding="utf-8")
    assert all(expected.values())
    return root / "labels", root / "reworked", expected


def test_the_command_writes_figures_changes_and_a_page(folders, tmp_path):
    first, second, expected = folders
    table, page = tmp_path / "changes.csv", tmp_path / "page.html"
    done = run("compare", first, second, "--csv", table, "--html", page, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    (found,) = json_lines(done.stdout)
    assert found["images"] == 30
    assert {kind: found["changes"][kind] for kind in expected} == expected
    assert found == json.loads(json.dumps(coco.compare(first, second).as_dict()))
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {kind: sum(row["kind"] == kind for row in rows) for kind in expected} == expected
    assert len(rows) == sum(found["changes"].values()) - found["changes"]["same"]
    assert len(Parsed(page.read_text(encoding="utf-8")).pictures()) == 2 * sum(expected.values())


@pytest.mark.parametrize(("limit", "code"), [("0.5", 0), ("1", 1)])
def test_a_job_fails_under_a_limit(folders, limit, code):
    done = run("compare", *folders[:2], "--fail-under", limit)
    assert done.returncode == code
    assert re.search(r"^60 of 60 documents, [1-9][\d.]* kB, ", done.stderr, re.MULTILINE)
    assert ("F1 is 0.9" in done.stderr and "below 1." in done.stderr) == bool(code)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["total", "images in both", "30"] in lines
    assert {line[0] for line in lines} == {"total", "category", "confusion", "image"}


def test_what_cannot_be_compared_is_named(folders, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"images": [{"id": 1, "file_name": "z"}], "annotations": [], "categories": []}))
    done = run("compare", folders[0], other)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no image in common: 30 images in the first and 1 in the second" in done.stderr


def test_an_unreadable_file_is_an_error(folders, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folders[1], copy)
    next(copy.glob("*/*.json")).write_text("{")
    done = run("compare", folders[0], copy)
    assert done.returncode == 1
    assert "1 file could not be read." in done.stderr


def test_the_page_has_the_worst_images_and_runs_nothing_of_a_document(tmp_path):
    images = [{"id": n, "file_name": f"{n} {ATTACK}", "width": 40, "height": 30} for n in range(1, 6)]
    classes = [{"id": 1, "name": ATTACK}]
    boxes = [
        {"id": n, "image_id": image["id"], "category_id": 1, "bbox": [n, 1, 5, 5], "score": 0.5}
        for image in images
        for n in range(image["id"])
    ]
    a = {"images": images, "categories": classes, "annotations": boxes}
    b = {**a, "annotations": []}
    summary = write_comparison([a], [b], tmp_path / "a.html", samples=2, title=ATTACK)
    page = Parsed(summary.path.read_text(encoding="utf-8"))
    assert (summary.samples, summary.comparison.changes["removed"]) == (2, 15)
    assert [pair[0][:1] for pair in page.index["pairs"]] == ["5", "4"]
    assert len(page.named("script")) == 2 + 4
    (policy,) = [each["content"] for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    for samples in (-1, 2_001, "3"):
        with pytest.raises(InvalidParameterError, match="samples must be"):
            write_comparison([a], [b], tmp_path / "a.html", samples=samples)
    with pytest.raises(InvalidParameterError, match="must end with .html"):
        write_comparison([a], [b], tmp_path / "a.txt")


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    source = """
import resource, sys
from cfplatform import coco
def documents(count):
    for n in range(count):
        boxes = [{"id": k, "image_id": 1, "category_id": 1, "bbox": [9 * k, n, 8, 8]} for k in range(20)]
        images, classes = [{"id": 1, "file_name": f"{n}.png"}], [{"id": 1, "name": "a"}]
        yield {"images": images, "categories": classes, "annotations": boxes}
def peak(count):
    assert coco.compare(documents(count), documents(count)).images == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few = peak(300)
print((peak(6000) - few) / 1024)
"""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    # Kept, 6,000 images would take 60 MB.
    assert float(done.stdout) < 12


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running():
    if program() is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(folders, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    return write_comparison(*folders[:2], path, title=ATTACK).path


@pytest.fixture
def browser(running, page):
    running.events.clear()
    running.open(page.as_uri())
    yield running
    assert running.reported("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded") == []


def test_images_are_side_by_side_and_filtered(browser, folders):
    expected = folders[2]
    count = browser.evaluate("document.querySelectorAll('#pairs > li').length")
    assert count == sum(expected.values())
    images = "[...document.querySelectorAll('#pairs img')]"
    assert browser.evaluate(f"{images}.every((each) => each.alt && each.complete && each.naturalWidth > 0)")
    left, right = browser.evaluate(
        f"{images}.slice(0, 2).map((each) => each.getBoundingClientRect()).map((b) => [b.x, b.y])"
    )
    assert left[0] < right[0]
    assert left[1] == right[1]
    for place, kind in enumerate(["moved", "reshaped", "relabelled", "added", "removed"]):
        browser.evaluate(
            f"(() => {{ const of = document.getElementById('filters'); of.elements.kind.value = '{place}';"
            " of.dispatchEvent(new Event('input')); })()"
        )
        shown = browser.evaluate("document.getElementById('shown').textContent")
        assert shown == f"{expected.get(kind, 0)} of {count} images"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window_and_colours_follow_the_system(browser, width, dark):
    browser.view(width=width, height=844, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    ground, ink = browser.evaluate(
        "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    assert (sum(ground) < 128) == dark
    assert contrast(ground, ink) >= 7


def test_the_keyboard_reaches_everything(browser):
    reached = []
    for _ in range(40):
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.name || document.activeElement.tagName"))
    assert {"text", "kind", "category", "SUMMARY"} <= set(reached)
    browser.evaluate("document.querySelector('#pairs summary').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('#pairs details').open")
