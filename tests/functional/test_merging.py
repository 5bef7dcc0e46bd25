"""Merging a real download, or a stream from the platform, into one dataset; and the commands for it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from cfplatform import coco
from tests.functional.shell import HOSTILE, json_lines, on_terminal, run, shown, started
from tests.layouts import labelbox

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def loaded(path):
    """A file as read by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(os.fspath(path))


@pytest.fixture
def labels(client, tmp_path):
    """A folder with the annotations of 20 items in 2 batches."""
    client.download_project(destination=tmp_path / "labels").raise_for_failures()
    return tmp_path / "labels"


def test_areas_boxes_and_masks_of_a_download_are_those_of_its_documents(client, tmp_path):
    summary = client.download_project(destination=tmp_path / "labels", assets=True)
    whole = loaded(coco.merge(tmp_path / "labels", tmp_path / "merged.json").output)
    assert len(whole.imgs) == summary.successful == 20
    seen = 0
    for image in whole.imgs.values():
        source = loaded(tmp_path / "labels" / image["batch"] / f"{image['work_item_id']}.json")
        for before, after in zip(source.anns.values(), whole.imgToAnns[image["id"]], strict=True):
            assert (before["area"], before["bbox"]) == (after["area"], after["bbox"])
            assert source.cats[before["category_id"]]["name"] == whole.cats[after["category_id"]]["name"]
            assert (source.annToMask(before) == whole.annToMask(after)).all()
            seen += 1
        with Image.open(tmp_path / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        assert image["file_name"] == image["asset_path"]
        assert image["asset_url"] == source.dataset["info"]["asset_url"]
        assert image["original_file_name"] == source.dataset["images"][0]["file_name"]
    assert seen == len(whole.anns) > 20


def test_a_stream_needs_no_folder(client, tmp_path, labels):
    with contextlib.closing(client.iter_annotations()) as stream:
        streamed = coco.merge(stream, tmp_path / "streamed.json")
    merged = coco.merge(labels, tmp_path / "merged.json")
    assert (streamed.images, streamed.annotations) == (merged.images, merged.annotations)

    def by_item(summary):
        data = loaded(summary.output)
        return {image["work_item_id"]: (image["asset_url"], len(data.imgToAnns[n])) for n, image in data.imgs.items()}

    assert by_item(streamed) == by_item(merged)


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_merge_prints_an_account_and_needs_no_key(labels, tmp_path):
    done = run("merge", labels, "merged.json", cwd=tmp_path)
    assert done.returncode == 0
    assert "Reading 20 documents" in done.stderr
    figures = dict(line.split() for line in done.stdout.splitlines() if line)
    assert (figures["Documents"], figures["Images"], figures["Categories"]) == ("20", "20", "4")
    assert len(loaded(tmp_path / "merged.json").anns) == int(figures["Annotations"])
    quiet = run("merge", labels, "merged.json", "-q", cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_problems_and_conflicts_are_named_and_problems_make_the_exit_code(labels, tmp_path):
    batch, other = sorted(path for path in labels.iterdir() if path.name[0] != ".")
    (batch / f"{'0' * 36}.json").write_text("{")
    second = json.loads(next(other.glob("*.json")).read_text())
    second["categories"][0]["name"] = "Rectangle"
    second["annotations"].append({"id": 99, "image_id": HOSTILE, "category_id": 1})
    (other / "second.json").write_text(json.dumps(second))
    done = run("merge", labels, tmp_path / "merged.json")
    assert done.returncode == 1
    assert "Warning: " in done.stderr
    assert "'Rectangle' differs from 'rectangle' only by case or spaces" in done.stderr
    assert "Error: 2 entries could not be merged; the rest was written." in done.stderr
    assert "second.json /annotations/" in done.stderr
    assert "\x1b" not in done.stderr
    done = run("merge", labels, tmp_path / "merged.json", "--json")
    *findings, last = json_lines(done.stdout)
    assert done.returncode == 1
    assert [each["code"] for each in findings] == ["unreadable", "dangling-image-id", "category-spelling"]
    assert (last["summary"]["problem_count"], last["summary"]["documents"]) == (2, 21)
    assert last["summary"]["output"] == str((tmp_path / "merged.json").resolve())


def test_split_writes_the_parts(labels, tmp_path):
    parts = ["--part", "train=0.5", "--part", "val=0.5"]
    done = run("split", labels, tmp_path / "datasets", *parts, "--json")
    (line,) = json_lines(done.stdout)
    found = line["summary"]["parts"]
    assert sum(part["images"] for part in found.values()) == 20
    assert {name: len(loaded(part["output"]).imgs) for name, part in found.items()} == {
        name: part["images"] for name, part in found.items()
    }
    done = run("split", labels, tmp_path / "other", *parts, "--seed", "7", "--by", "batch")
    assert done.returncode == 0
    assert "train" in done.stdout
    named = sorted(path.name for path in labels.iterdir() if path.name[0] != ".")
    batches = ["--batch-name", f"train={named[0]}", "--batch-name", f"val={named[1]}"]
    done = run("split", labels, tmp_path / "third", *batches, "--json")
    (line,) = json_lines(done.stdout)
    assert [part["images"] for part in line["summary"]["parts"].values()] == [10, 10]
    assert run("split", labels, tmp_path / "third", *batches[:2]).returncode == 1


def test_images_of_other_tools_are_found_and_put_beside_the_output(tmp_path):
    layout = labelbox(tmp_path / "theirs")
    found = ["--images-from", layout.images_from]
    assert run("merge", layout.source, tmp_path / "merged" / "all.json", *found).returncode == 0
    merged = json.loads((tmp_path / "merged" / "all.json").read_bytes())["images"]
    assert {each["file_name"] for each in merged} == {f"../theirs/downloads/{path.name}" for path in layout.images}
    assert not (tmp_path / "merged" / "images").exists()
    parts = ["--part", "train=0.5", "--part", "val=0.5"]
    for command, arguments in (("merge", ["all/all.json"]), ("split", ["parts", *parts])):
        done = run(command, layout.source, *arguments, *found, "--images", "copy", "--json", cwd=tmp_path)
        (line,) = json_lines(done.stdout)
        summary = line["summary"]
        outputs = [Path(each["output"]) for each in summary.get("parts", {"all": summary}).values()]
        paths = [(each.parent, image["file_name"]) for each in outputs for image in loaded(each).imgs.values()]
        assert sorted(name for _, name in paths) == sorted(f"images/{path.name}" for path in layout.images)
        originals = {path.name: path.read_bytes() for path in layout.images}
        assert all((folder / name).read_bytes() == originals[name[7:]] for folder, name in paths)
    plain = run("stats", layout.source, "--json")
    assert run("stats", layout.source, *found, "--json").stdout == plain.stdout
    assert json.loads(plain.stdout)["images"] == len(layout.images)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("merge", "{labels}", "all.json", "--images-from", "nowhere"), "--images-from 'nowhere' is not a folder"),
        (("split", "{labels}", "x", "--part", "a=1", "--images-from", "no"), "--images-from 'no' is not a folder"),
        (("stats", "{labels}", "--images-from", "nowhere"), "--images-from 'nowhere' is not a folder"),
        (("split", "{labels}", "x", "--part", "a=1", "--images", "move"), "'move' is not one of 'link', 'copy'"),
        (("merge", "nowhere", "all.json"), "SOURCE 'nowhere' is neither a folder nor a file."),
        (("merge", "{labels}", "{labels}"), "OUTPUT must be the path of a file"),
        (("merge", "{labels}", "{labels}/new/all.json"), "would be read as labels of the source"),
        (("split", "{labels}", "x"), "Name the parts"),
        (("split", "{labels}", "x", "--part", "a=1", "--batch-name", "a=b"), "Name the parts"),
        (("split", "{labels}", "x", "--part", "a"), "must have the form PART=FRACTION"),
        (("split", "{labels}", "x", "--part", "a=much"), "is not a number"),
        (("split", "{labels}", "x", "--part", "a=1", "--part", "a=0"), "is given twice"),
        (("split", "{labels}", "x", "--part", "a=80"), "Percentages of --part must sum to 100, not 80."),
        (("split", "{labels}", "x", "--part", "a=0.4"), "--part must be fractions that sum to 1, not 0.4"),
        (("split", "{labels}", "x", "--part", "a=1", "--by", "image"), "--by"),
    ],
)
def test_wrong_commands_say_what_is_wrong(labels, tmp_path, arguments, words):
    done = run(*(each.format(labels=labels) for each in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_a_bar(labels, tmp_path):
    code, screen = on_terminal("merge", labels, tmp_path / "merged.json")
    assert code == 0
    assert "20/20" in shown(screen)


@pytest.fixture
def many(tmp_path):
    """A folder of 2,000 large documents, which takes a while to read."""
    (tmp_path / "labels/a").mkdir(parents=True)
    first = tmp_path / "labels/a/0.json"
    annotations = [{"id": n, "image_id": 1, "bbox": [n, n, 1.5, 2.5]} for n in range(3000)]
    first.write_text(json.dumps({"images": [{"id": 1}], "annotations": annotations}))
    for number in range(1, 2000):
        os.link(first, first.with_name(f"{number}.json"))
    return tmp_path / "labels"


def stopped(*arguments):
    with started(*arguments) as process:
        assert process.stderr.readline() == "Reading 2,000 documents\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130
    return said


def test_ctrl_c_leaves_nothing(many, tmp_path):
    assert "Stopped. No dataset was written" in stopped("merge", many, tmp_path / "merged.json")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_a_stopped_conversion_says_that_its_output_may_be_incomplete(many, tmp_path):
    assert "Stopped. The output may be incomplete" in stopped("convert", many, tmp_path / "voc", "--to", "voc")
    assert (tmp_path / "voc").is_dir()


def test_commands_select_a_part_and_say_what_was_left_out(tmp_path):
    layout = labelbox(tmp_path / "source")
    data = json.loads(layout.documents[0].read_text())
    names = {each["id"]: each["name"] for each in data["categories"]}
    labels = [(names[each["category_id"]], each) for each in data["annotations"]]
    buses = [each for name, each in labels if name == "bus"]
    crowds = [each for name, each in labels if name != "bus" and each["iscrowd"]]
    small = [each for name, each in labels if name != "bus" and not each["iscrowd"] and min(each["bbox"][2:]) < 10]
    kept = len(labels) - len(buses) - len(crowds) - len(small)
    options = ["--drop", "bus", "--rename", "bike=tram", "--rename", "tram=rail", "--min-side", "10", "--no-crowds"]
    done = run("merge", layout.source, "all.json", *options, "--drop-empty", cwd=tmp_path)
    assert done.returncode == 0
    whole = loaded(tmp_path / "all.json")
    assert [each["name"] for each in whole.cats.values()] == ["rail", "tram"]
    assert len(whole.anns) == kept
    assert all(whole.getAnnIds(imgIds=[own]) for own in whole.imgs)
    left_out = f"{len(buses)} annotations of other classes, {len(crowds)} annotations that are crowds"
    empty = len(data["images"]) - len(whole.imgs)
    assert f"Removed: {left_out}, {len(small)} annotations below --min-side, {empty} images without annotations." in (
        done.stderr
    )
    found = run("stats", layout.source, *options, "--json")
    assert json.loads(found.stdout)["annotations"] == kept
    parts = ["--part", "a=0.5", "--part", "b=0.5"]
    (*_, line) = json_lines(run("split", layout.source, tmp_path / "parts", *parts, "--only", "bus", "--json").stdout)
    assert sum(each["annotations"] for each in line["summary"]["parts"].values()) == len(buses)
    page = run("report", layout.source, tmp_path / "page.html", "--only", "bus", "--json")
    assert json.loads(page.stdout)["annotations"] == len(buses)
    wrong = run("merge", layout.source, "wrong.json", "--only", "buss", cwd=tmp_path)
    assert "Did you mean 'bus'?" in wrong.stderr
    assert wrong.returncode != 0
    assert not (tmp_path / "wrong.json").exists()
    assert run("stats", layout.source, "--rename", "bus").returncode == 2
    assert run("stats", layout.source, "--rename", "bus=a", "--rename", "bus=b").returncode == 2


def test_the_report_of_a_part_of_a_folder_lies_in_it(labels):
    done = run("report", labels, "--only", "ellipse", "--samples", "3", "--json")
    assert done.returncode == 0
    (line,) = json_lines(done.stdout)
    assert Path(line["path"]) == labels / "report.html"
    assert line["annotations"] == coco.stats(labels).categories["ellipse"].annotations
    assert line["samples"] == 3
    assert "<title>labels" in (labels / "report.html").read_text(encoding="utf-8")
