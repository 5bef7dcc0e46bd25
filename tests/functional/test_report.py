"""Reports on real downloads, and on labels that contain markup."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import subprocess
import sys
import zlib
from datetime import datetime, timezone
from html.parser import HTMLParser

import pytest
from PIL import Image, ImageChops

from cfplatform import Batch, InvalidParameterError
from cfplatform.cli import cli
from cfplatform.report import DEFAULT_SAMPLES, MAX_SAMPLES, write_report
from tests.functional.shell import json_lines, run


class Parsed(HTMLParser):
    """A page as parsed by a browser: its tags, and the texts of its scripts and styles."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.text, self._open = [], [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.scripts.append((self.tags[-1], data))
        else:
            self.text += f"{data} "

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def index(self):
        (text,) = [text for (_, attributes), text in self.scripts if attributes.get("id") == "index"]
        return json.loads(text)

    def images(self):
        """The attributes of each image in the order of the samples, with its content in base64."""
        found = [(attributes, text) for (_, attributes), text in self.scripts if attributes.get("type") == "text/plain"]
        strip = [each for each in self.named("img") if "src" in each]
        assert all(each["src"].startswith("data:image/webp;base64,") for each in strip)
        found += [(each, each["src"].partition(",")[2]) for each in strip]
        # Each image is on the page once.
        assert len({attributes["id"] for attributes, _ in found}) == len(found)
        return sorted(found, key=lambda entry: int(entry[0]["id"][1:]))

    def pictures(self):
        return [Image.open(io.BytesIO(base64.b64decode(text))) for _, text in self.images()]

    def notes(self):
        return [attributes["data-note"] for attributes, _ in self.images() if "data-note" in attributes]

    def strip(self):
        """The positions of the images at the top of the page, in their order."""
        return [int(each["id"][1:]) for each in self.named("img") if "src" in each]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    from cfplatform.sandbox import Sandbox

    folder = tmp_path_factory.mktemp("report") / "labels"
    with Sandbox(items=20, batches=2) as sandbox, sandbox.client() as client:
        client.download_project(destination=folder, assets=True).raise_for_failures()
        return folder, list(client.get_batches())


@pytest.fixture
def page(downloaded, tmp_path):
    return Parsed(write_report(downloaded[0], tmp_path / "a.html").path.read_text(encoding="utf-8"))


def put(root, batch="a", item="1", picture=None, **document):
    """Put a document into a folder."""
    folder = root / batch / "assets"
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"images": [{"id": 1, "width": 40, "height": 30, "file_name": "a.png"}], **document}
    (root / batch / f"{item}.json").write_text(json.dumps(whole), encoding="utf-8")
    if picture is not None:
        (folder / f"{item}.png").write_bytes(picture)


def label(number=1, category=1, **more):
    box = {"bbox": [1, 1, 20, 10], "area": 200, "iscrowd": 0}
    return {"id": number, "image_id": 1, "category_id": category, **box, **more}


def test_the_gallery_shows_every_image_under_its_labels(page, downloaded):
    paths = sorted(downloaded[0].glob("*/*.json"), key=lambda path: (path.parent.name, path.stem))
    index = page.index
    assert [sample[0] for sample in index["samples"]] == [path.stem for path in paths]
    for sample, path, picture in zip(index["samples"], paths, page.pictures(), strict=True):
        annotations = json.loads(path.read_bytes())["annotations"]
        assert index["batches"][sample[1]] == path.parent.name
        assert sum(sample[2][1::2]) == sample[3] == len(annotations)
        assert (picture.size, picture.format) == ((320, 240), "WEBP")
        plain = Image.open(path.parent / "assets" / f"{path.stem}.png").convert("RGB")
        # Annotations were drawn on it: compression alone changes no pixel by that much.
        apart = ImageChops.difference(picture.convert("RGB"), plain).split()
        levels = ImageChops.lighter(ImageChops.lighter(apart[0], apart[1]), apart[2]).histogram()
        assert sum(levels[120:]) > 100 * len(annotations)


def test_totals_and_tables_are_those_of_the_labels(page, downloaded):
    from cfplatform import coco

    stats = coco.stats(downloaded[0])
    text = " ".join(page.text.split())
    assert f"Work items 20 Images 20 Annotations {stats.annotations}" in text
    for name, each in stats.categories.items():
        assert f"{name} {each.annotations} {each.images} {each.mean_side:.0f} px" in text
    for name, each in stats.batches.items():
        assert f"{name} {each.documents} {each.documents} {each.annotations} 0" in text
    assert len([attributes for attributes in page.named("svg") if attributes["role"] == "img"]) == 3
    assert "No problems found." in text


def test_progress_of_batches_is_shown_if_they_are_given(downloaded, tmp_path):
    folder, batches = downloaded
    more = Batch({"id": 9, "name": "Not <b>begun</b>", "totalCount": 30, "completedCount": 0})
    path = write_report(folder, tmp_path / "a.html", batches=[*batches, more]).path
    found = Parsed(path.read_text(encoding="utf-8"))
    assert {(each["max"], each["value"]) for each in found.named("progress")} == {("10", "10"), ("30", "0")}
    assert "Not <b>begun</b>" in found.text
    assert "10 of 10, 10 completed" in found.text
    assert "0 of 30, 0 completed" in found.text


def test_findings_are_grouped_and_located(tmp_path):
    for number in range(25):
        put(tmp_path, item=f"{number:02}", annotations=[label(category=5)], categories=[{"id": 1, "name": "x"}])
    (tmp_path / "a" / "broken.json").write_text("{")
    summary = write_report(tmp_path)
    found = Parsed(summary.path.read_text(encoding="utf-8"))
    text = " ".join(found.text.split())
    assert summary.errors == 26
    assert "error dangling-category-id 25" in text
    assert "a / 00 /annotations/0/category_id" in text
    assert "a / 19 /annotations/0/category_id" in text
    assert "and 5 more" in text
    assert "error unreadable 1" in text
    assert "Work items 26 1 unreadable" in text
    places = [found.index["codes"][place] for place in found.index["samples"][0][4]]
    assert ["dangling-category-id", "error"] in places


def test_classes_with_one_name_stay_separate(tmp_path):
    for number, outer in enumerate(("vehicle", "toy", "toy")):
        car = {"id": 1, "name": "car", "supercategory": outer}
        put(tmp_path, item=str(number), annotations=[label(category=1)], categories=[car])
    found = Parsed(write_report(tmp_path).path.read_text(encoding="utf-8"))
    classes = found.index["classes"]
    assert sorted(classes) == ["car", "car (toy)"]
    assert [classes[sample[2][0]] for sample in found.index["samples"]] == ["car", "car (toy)", "car (toy)"]


# --- The images at the top ------------------------------------------------------------------------------------------


def png(width=40, height=30):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(buffer, "PNG")
    return buffer.getvalue()


def with_classes(*classes):
    """A document with an annotation of each class."""
    annotations = [label(number, category) for number, category in enumerate(classes, 1)]
    return {"annotations": annotations, "categories": [{"id": each, "name": f"class {each}"} for each in classes]}


def test_the_page_opens_with_images_that_show_most_classes(tmp_path):
    for number in range(20):
        put(tmp_path, batch="ab"[number // 10], item=f"{number:02}", picture=png(), **with_classes(1))
    put(tmp_path, batch="c", item="1", picture=png(), **with_classes(1, 2, 3))
    put(tmp_path, batch="c", item="2", picture=png(), **with_classes(4))
    put(tmp_path, batch="c", item="3", picture=b"not an image", **with_classes(1, 2, 3, 4, 5))
    put(tmp_path, batch="c", item="4", **with_classes(1, 2, 3, 4, 6))
    page = write_report(tmp_path).path.read_text(encoding="utf-8")
    found = Parsed(page)
    # All classes that have an image, and then the first images of batches that are not there yet.
    assert found.strip() == found.index["strip"] == [20, 21, 0, 10, 1, 11]
    alternatives = [each["alt"] for each in found.named("img") if "src" in each]
    assert alternatives[:3] == [
        f"Image with {words}" for words in ("1 × class 1, 1 × class 2, 1 × class 3", "1 × class 4", "1 × class 1")
    ]
    assert page.index('id="strip"') < page.index('id="totals"') < page.index('id="gallery"')
    assert len(found.images()) == 24


def test_few_images_and_images_without_annotations_are_at_the_top_too(tmp_path):
    put(tmp_path, item="1", picture=png(), annotations=[])
    put(tmp_path, item="2", picture=png(), annotations=[label()], categories=[])
    found = Parsed(write_report(tmp_path).path.read_text(encoding="utf-8"))
    assert [each["alt"] for each in found.named("img") if "src" in each] == [
        "Image with no annotations",
        "Image with 1 × no class",
    ]


@pytest.mark.parametrize(
    ("picture", "samples", "expected"),
    [
        (None, 9, "no image files were found. Download with --assets , or pass"),
        (b"not an image", 9, "no sample has an image file that can be opened. See Findings ."),
        (None, 0, None),
    ],
)
def test_a_page_without_images_says_why(tmp_path, picture, samples, expected):
    put(tmp_path, picture=picture, **with_classes(1))
    found = Parsed(write_report(tmp_path, samples=samples).path.read_text(encoding="utf-8"))
    before_totals = " ".join(found.text.partition("Work items")[0].split())
    assert (found.strip(), [each for each in found.named("ul") if each.get("id") == "strip"]) == ([], [])
    assert ("There are no annotated images because" in before_totals) == (expected is not None)
    assert (expected or "") in before_totals
    assert ("Images 1 0 with a file" in " ".join(found.text.split())) == (picture is None)


def test_images_of_a_batch_count_without_a_file_too(tmp_path):
    put(tmp_path, item="1", picture=png(), **with_classes(1))
    put(tmp_path, item="2", **with_classes(1))
    found = " ".join(Parsed(write_report(tmp_path).path.read_text(encoding="utf-8")).text.split())
    assert "Images 2 1 with a file Annotations 2" in found
    assert "Empty images a 2 2 (1 with a file) 2 0" in found


# --- Text only ------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!-- images -->",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7 * 7 }}",
    "\u2028\u2029",
    "\u202eright to left",
    "\u05e9\u05dc\u05d5\u05dd \u0639\u0631\u0628\u064a",
    "x" * 5000,
    "\ud800 alone",
    "javascript:alert(1)",
    "]]>&lt;",
]


@pytest.fixture
def hostile(tmp_path):
    """A folder with markup in every name."""
    folder = tmp_path / "<script>alert(1)<"
    for number, name in enumerate(HOSTILE):
        put(
            folder,
            batch=name.replace("/", "\u2215")[:60].encode("utf-8", "replace").decode(),
            item=f"{number}<b>",
            images=[{"id": 1, "width": 40, "height": 30, "file_name": name}],
            categories=[{"id": 1, "name": name}],
            annotations=[label(), label(2, name)],
        )
    return folder


def test_hostile_names_are_shown_and_never_more_than_text(hostile):
    page = write_report(hostile).path.read_text(encoding="utf-8")
    found = Parsed(page)
    runs = [attributes for attributes in found.named("script") if "type" not in attributes]
    assert len(runs) == 1
    assert not {name for _, attributes in found.tags for name in attributes if name.startswith("on") or name == "style"}
    assert not {tag for tag, _ in found.tags} & {"iframe", "object", "embed", "base"}
    # Otherwise a browser requests an icon from the server.
    assert found.named("link") == [{"rel": "icon", "href": "data:,"}]
    assert all(each["href"].startswith("#") for each in found.named("a"))
    assert [each for each in found.named("img") if "src" in each] == []
    classes = found.index["classes"]
    for name in HOSTILE[:6]:
        assert name in found.text
        assert name in classes
    assert "\u2028" not in page
    assert "\u202e" not in page
    assert "x" * 199 + "…" in found.text
    assert max(map(len, classes)) == 200
    assert len(found.index["samples"]) == len(HOSTILE)


def test_hostile_names_at_the_top_are_only_text(tmp_path):
    name = '"><script>alert(1)</script>\u202e'
    put(tmp_path, picture=png(), annotations=[label()], categories=[{"id": 1, "name": name}])
    page = write_report(tmp_path).path.read_text(encoding="utf-8")
    (image,) = [each for each in Parsed(page).named("img") if "src" in each]
    assert image["alt"] == f"Image with 1 × {name[:-1]}\ufffd"
    assert "<script>alert" not in page


def test_the_page_allows_nothing_but_itself(page, downloaded, tmp_path):
    (policy,) = [each["content"] for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    texts = {
        tag: text for (tag, attributes), text in page.scripts if tag == "style" or (tag == "script" and not attributes)
    }
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(texts[tag].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!#)\w*:?//", write_page(downloaded, tmp_path))


def write_page(downloaded, tmp_path):
    return write_report(downloaded[0], tmp_path / "b.html").path.read_text(encoding="utf-8")


def test_the_page_has_landmarks_a_language_and_a_name_for_every_control(page):
    assert page.named("html") == [{"lang": "en"}]
    for tag in ("header", "main", "footer"):
        assert len(page.named(tag)) == 1
    assert all("aria-label" in each for each in page.named("nav"))
    assert all("aria-labelledby" in each for each in [*page.named("section"), *page.named("dialog")])
    assert all("scope" in each for each in page.named("th"))
    assert len(page.named("label")) == len([*page.named("input"), *page.named("select")])


# --- Bounds ---------------------------------------------------------------------------------------------------------


def test_samples_are_spread_evenly_and_bounded(downloaded, tmp_path):
    summary = write_report(downloaded[0], tmp_path / "a.html", samples=4)
    found = Parsed(summary.path.read_text(encoding="utf-8"))
    stems = sorted((path.parent.name, path.stem) for path in downloaded[0].glob("*/*.json"))
    assert [sample[0] for sample in found.index["samples"]] == [stems[number][1] for number in (0, 5, 10, 15)]
    assert len(found.pictures()) == summary.samples == 4
    assert "4 of 20 images, spread evenly" in found.text
    none = write_report(downloaded[0], tmp_path / "b.html", samples=0)
    assert "This report has no samples" in none.path.read_text(encoding="utf-8")
    assert none.documents == 20


def test_large_images_are_reduced(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((1500, 1000), 80).save(buffer, "PNG")
    put(tmp_path, picture=buffer.getvalue(), images=[{"id": 1, "width": 1500, "height": 1000}], annotations=[label()])
    (picture,) = Parsed(write_report(tmp_path).path.read_text(encoding="utf-8")).pictures()
    assert picture.size == (640, 427)


def test_the_same_labels_give_the_same_bytes(downloaded, tmp_path):
    made_at = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    pages = [write_report(downloaded[0], tmp_path / f"{name}.html", made_at=made_at).path for name in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert '<time datetime="2026-11-21T12:00:00+00:00">2026-11-21 12:00 UTC</time>' in pages[0].read_text()


def test_images_that_cannot_be_shown_are_reported(tmp_path):
    put(tmp_path, item="1", picture=b"no picture", annotations=[label()])
    put(tmp_path, item="2", annotations=[label()])
    found = Parsed(write_report(tmp_path).path.read_text(encoding="utf-8"))
    notes = found.notes()
    assert notes[0].startswith("'1.png' is not a readable image")
    assert notes[1] == "The image is missing."
    assert [picture.size for picture in found.pictures()] == [(280, 210)] * 2


# --- Malicious and unusual images -----------------------------------------------------------------------------------

MEASURED = """
import re, sys
from pathlib import Path
from PIL import EpsImagePlugin
EpsImagePlugin.Ghostscript = lambda *_, **__: print("Ghostscript was asked")
from cfplatform.report import write_report
samples = write_report(sys.argv[1]).samples
# Not that of getrusage, which begins with the peak of the process that started this one.
print(samples, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is that of Linux")
def test_images_as_large_as_they_may_be_take_little_memory_and_larger_ones_are_refused(tmp_path):
    def empty(side):
        buffer = io.BytesIO()
        Image.new("1", (side, side)).save(buffer, "PNG")
        head, _, rest = buffer.getvalue().partition(b"IHDR")
        # In RGB instead of one bit.
        packer = zlib.compressobj(1)
        pixels = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
        parts = [b"IHDR" + rest[:8] + b"\x08\x02\0\0\0", b"IDAT" + pixels, b"IEND"]
        return head[:-4] + b"".join(
            (len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts
        )

    allowed, refused = empty(9459), empty(9460)
    for number, picture in enumerate((allowed, allowed, refused)):
        put(tmp_path, item=str(number), picture=picture, annotations=[label()])
    put(tmp_path, item="3", picture=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURED, tmp_path], capture_output=True, text=True)
    samples, megabytes = done.stdout.split()
    assert (samples, done.stderr) == ("4", "")
    assert int(megabytes) < 500
    notes = notes_of(tmp_path / "report.html")
    assert [note.partition(":")[0] for note in notes] == [
        "'2.png' is too large",
        "'3.png' is not a readable image",
    ]


def notes_of(path):
    return Parsed(path.read_text(encoding="utf-8")).notes()


def test_a_cut_image_is_named_and_the_report_goes_on(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((90, 90), 80).save(buffer, "PNG")
    put(tmp_path, item="1", picture=buffer.getvalue()[:-900], annotations=[label()])
    put(tmp_path, item="2", picture=buffer.getvalue(), annotations=[label()])
    path = write_report(tmp_path).path
    (note,) = notes_of(path)
    assert note.startswith("'1.png' is not a readable image")
    assert len(Parsed(path.read_text(encoding="utf-8")).pictures()) == 2


def test_the_command_is_silent_about_images_that_the_page_names(tmp_path):
    head = b"IHDR" + (9460).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    large = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + zlib.crc32(head).to_bytes(4, "big") + b"\0\0\0\x01IDAT0\0\0\0\0"
    put(tmp_path, picture=large, annotations=[label()])
    done = run("report", tmp_path)
    assert (done.returncode, "Warning" in done.stderr) == (0, False)
    assert notes_of(tmp_path / "report.html")[0].startswith("'1.png' is too large")


# --- Every source ---------------------------------------------------------------------------------------------------


def listing(path):
    """The gallery's data of each image, without its position in other lists."""
    index = Parsed(path.read_text(encoding="utf-8")).index
    return sorted(
        (sample[0], index["batches"][sample[1]], sorted(index["classes"][n] for n in sample[2][::2]), sample[3])
        for sample in index["samples"]
    )


def test_merged_and_split_files_and_streams_have_the_gallery_of_their_folder(downloaded, tmp_path):
    from cfplatform import coco

    folder = downloaded[0]
    expected = listing(write_report(folder, tmp_path / "folder.html").path)
    assert len(expected) == 20
    coco.merge(folder, tmp_path / "all.json")
    coco.split(folder, tmp_path / "parts", {"train": 0.5, "val": 0.5})
    for name, source in {
        "merged": tmp_path / "all.json",
        "split": tmp_path / "parts",
        "list": list(coco.read(folder)),
        "stream": coco.read(tmp_path / "all.json"),
    }.items():
        written = write_report(source, tmp_path / f"{name}.html")
        assert (listing(written.path), written.samples, notes_of(written.path)) == (expected, 20, []), name
    page = (tmp_path / "merged.html").read_text(encoding="utf-8")
    assert "<h1><bdi>all.json</bdi></h1>" in page
    assert "Documents 1 Images 20" in " ".join(Parsed(page).text.split())


def several(folder):
    """A document with six images, of which the third has a finding and the last has no file."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(1, 7)]
    for image in images[:-1]:
        Image.new("RGB", (40, 30), "white").save(folder / image["file_name"])
    labels = [label(n, image_id=n, category=1 + 8 * (n == 3)) for n in range(1, 7)]
    return {"images": images, "annotations": labels, "categories": [{"id": 1, "name": "x"}]}


def test_each_image_of_a_document_has_its_own_findings_and_file(tmp_path):
    (tmp_path / "images").mkdir()
    document = several(tmp_path / "images")
    path = write_report([document], tmp_path / "a.html", images_from=tmp_path / "images").path
    found = Parsed(path.read_text(encoding="utf-8"))
    codes = [[found.index["codes"][code][0] for code in sample[4]] for sample in found.index["samples"]]
    assert codes == [[], [], ["dangling-category-id"], [], [], ["missing-image"]]
    assert [sample[6] for sample in found.index["samples"]] == [f"{n}.png" for n in range(1, 7)]
    assert notes_of(path) == ["The image is missing."]
    few = write_report([document], tmp_path / "b.html", images_from=tmp_path / "images", samples=4)
    assert few.samples == 3
    page = Parsed(few.path.read_text(encoding="utf-8"))
    assert [sample[6] for sample in page.index["samples"]] == ["1.png", "3.png", "5.png"]
    assert "3 of 6 images, spread evenly" in page.text


def test_a_source_that_is_no_folder_needs_an_output(tmp_path):
    with pytest.raises(InvalidParameterError, match="output is required"):
        write_report([{"images": []}])
    with pytest.raises(InvalidParameterError, match="not JSON"):
        write_report([{"images": [{"id": 1}], "info": {1, 2}}], tmp_path / "a.html")


def test_the_command_takes_a_file_and_the_folder_of_its_images(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "all.json").write_text(json.dumps(several(tmp_path / "elsewhere")))
    done = run("report", "all.json", "a.html", "--images-from", "elsewhere", cwd=tmp_path)
    assert (done.returncode, len(notes_of(tmp_path / "a.html"))) == (0, 1)
    assert run("report", "all.json", cwd=tmp_path).returncode == 2


# --- Output file ----------------------------------------------------------------------------------------------------


def test_the_page_appears_whole_or_not_at_all(downloaded, tmp_path, monkeypatch):
    page = tmp_path / "a.html"
    page.write_text("before")

    def stop(done, total):
        assert total == 40
        if done == 30:
            assert page.read_text() == "before"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(downloaded[0], page, progress=stop)
    assert (page.read_text(), [path.name for path in tmp_path.iterdir()]) == ("before", ["a.html"])
    reported = []
    write_report(downloaded[0], page, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(number, 40) for number in range(1, 41)]
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "neither a folder nor a file"),
        ((".",), "contains no labels"),
        (("labels", "a.json"), "must end with .html"),
        (("labels", "nowhere/a.html"), "does not exist"),
        (("labels", "folder.html"), "is a folder"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InvalidParameterError, match="samples"):
        write_report(".", samples=-1)
    with pytest.raises(InvalidParameterError, match="time zone"):
        write_report(".", made_at=datetime(2026, 1, 1))
    if arguments[0] == "labels":
        put(tmp_path / "labels")
    with pytest.raises(InvalidParameterError, match=words):
        write_report(*arguments)


def test_without_the_extra_the_error_names_it(downloaded):
    script = "import sys; sys.modules['pygal'] = None; import cfplatform.report"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("A report needs pygal: pip install 'cfplatform[report]'")


def test_the_command(downloaded, tmp_path):
    done = run("report", downloaded[0], tmp_path / "a.html", "--title", "<i>Night</i>", "--samples", 3, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a.html'}\n")
    assert "23 of 23 documents" in done.stderr
    assert f"<h1><bdi>{html.escape('<i>Night</i>')}</bdi></h1>" in (tmp_path / "a.html").read_text(encoding="utf-8")
    (line,) = json_lines(run("report", downloaded[0], tmp_path / "a.html", "--json").stdout)
    assert (line["documents"], line["samples"], line["errors"]) == (20, 20, 0)
    assert run("report", tmp_path).returncode == 2


def test_the_command_has_the_limits_of_the_library():
    (samples,) = [option for option in cli.commands["report"].params if option.name == "samples"]
    assert (samples.default, samples.type.max) == (DEFAULT_SAMPLES, MAX_SAMPLES)


def test_the_folder_of_one_batch_can_be_reported(downloaded, tmp_path):
    batch = min(path for path in downloaded[0].iterdir() if path.is_dir() and path.name[0] != ".")
    written = write_report(batch, tmp_path / "a.html")
    assert (written.documents, written.samples) == (10, 10)


def test_the_command_sends_requests_only_with_ask(sandbox, tmp_path, downloaded):
    done = run("report", downloaded[0], tmp_path / "a.html", "--ask", sandbox=sandbox)
    assert (done.returncode, sandbox.counts["batches"]) == (0, 1)
    assert "10 of 10, 10 completed" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_plot_of_an_item(client, sandbox):
    item = next(client.get_work_items())
    picture = item.plot(labels=False)
    assert (picture.mode, picture.size) == ("RGB", (320, 240))
    x, y, width, _ = item.load()["annotations"][0]["bbox"]
    from cfplatform import viz

    names = {category["id"]: category["name"] for category in item.load()["categories"]}
    colours = viz.class_colours(names.values())
    first = item.load()["annotations"][0]
    assert picture.getpixel((round(x + width / 2), round(y))) == colours[names[first["category_id"]]]
    assert item.plot(max_size=100).size == (100, 75)
