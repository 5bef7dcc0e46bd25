"""The images of the documentation: ``python -m tests.pictures`` regenerates them with Chromium and the sandbox."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from cfplatform import viz
from cfplatform.report import write_comparison, write_report
from cfplatform.sandbox import Sandbox
from tests.chromium import Browser, chromium

FOLDER = Path(__file__).parents[1] / "docs" / "_static"
NAMES = ("drawn", "report-wide", "report-gallery", "report-phone", "report-larger", "report-readme", "compare")
#: Pages of the documentation must load quickly.
MAX_BYTES = 150_000


def save(name: str, picture: Image.Image) -> None:
    """Write an image of the documentation."""
    picture.convert("RGB").save(FOLDER / f"{name}.webp", quality=80, method=6)


def drawn(folder: Path) -> Image.Image:
    """An image of the sandbox, three times as large, with annotations of every kind."""
    path = min(folder.glob("*/*.json"), key=lambda each: each.stem)
    document = json.loads(path.read_bytes())
    category = {"id": 90, "name": "person", "skeleton": [[1, 2], [2, 3], [2, 4], [4, 5], [4, 6]]}
    crowd = {"size": [240, 320], "counts": [240 * 240 + 190, *[30, 210] * 59, 30, 240 * 20 + 20]}
    document["categories"] += [category, {"id": 91, "name": "crowd of people"}]
    image = document["images"][0]["id"]
    figure = [(170, 130, 2), (170, 155, 2), (150, 175, 1), (170, 185, 2), (158, 215, 2), (182, 215, 2)]
    words = "Sample image of the sandbox, with keypoints and a crowd added"
    for more in (
        {"category_id": 90, "keypoints": [value for point in figure for value in point]},
        {"category_id": 91, "iscrowd": 1, "segmentation": crowd},
        {"caption": words},
    ):
        document["annotations"].append({"image_id": image, **more})
    with Image.open(path.parent / "assets" / f"{path.stem}.png") as small:
        return viz.draw(document, small.resize((960, 720), Image.Resampling.NEAREST))


def spoil(folder: Path) -> None:
    """Break the annotations of a few documents, for findings."""
    for number, path in enumerate(sorted(folder.glob("*/*.json"))[::13]):
        document = json.loads(path.read_bytes())
        if number % 2:
            document["annotations"] = []
        else:
            document["annotations"][0]["bbox"][0] = 400
        path.write_text(json.dumps(document), encoding="utf-8")


def compared(folder: Path) -> Path:
    """Write the comparison of labels with a copy in which a few annotations differ; return its page."""
    other = shutil.copytree(folder, folder.with_name("rework"))
    for path in sorted(other.glob("*/*.json"))[::9]:
        document = json.loads(path.read_bytes())
        first, *rest = document["annotations"]
        first["category_id"] = first["category_id"] % len(document["categories"]) + 1
        document["annotations"] = [first, *rest[1:]]
        path.write_text(json.dumps(document), encoding="utf-8")
    return write_comparison(folder, other, folder.with_name("comparison.html"), title="Before and after a rework").path


def shot(browser: Browser, name: str, *, whole: bool = False) -> None:
    """Take a screenshot of the window."""
    browser.evaluate("new Promise((done) => setTimeout(done, 200))")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shot.png"
        browser.screenshot(path, whole=whole)
        save(name, Image.open(io.BytesIO(path.read_bytes())))


def main() -> None:
    """Write all images."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "street-scenes"
        with Sandbox(items=120, batches=4, in_review=0.1) as sandbox, sandbox.client() as client:
            client.download_project(destination=folder, assets=True).raise_for_failures()
            save("drawn", drawn(folder))
            comparison = compared(folder)
            spoil(folder)
            page = write_report(folder, batches=client.get_batches()).path
        with chromium() as browser:
            browser.open(comparison.as_uri(), width=1280, height=1000)
            browser.evaluate("document.getElementById('images').scrollIntoView()")
            shot(browser, "compare")
            browser.open(page.as_uri(), width=1280, height=1000)
            shot(browser, "report-wide")
            browser.evaluate("document.getElementById('gallery').scrollIntoView()")
            shot(browser, "report-gallery")
            browser.click("#cards li:nth-child(2) button")
            shot(browser, "report-larger")
            browser.press("Escape")
            browser.view(width=390, height=844, dark=True)
            browser.evaluate("scrollTo(0, 0)")
            shot(browser, "report-phone")
            # The top of the page down to the first totals, 1200 pixels wide.
            browser.view(width=900, height=900)
            end = browser.evaluate("document.querySelector('.totals div').getBoundingClientRect().bottom")
            browser.view(width=900, height=round(end) + 12, scale=4 / 3)
            shot(browser, "report-readme")


if __name__ == "__main__":
    main()
