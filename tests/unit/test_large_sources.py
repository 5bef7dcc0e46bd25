"""Large files read entry by entry: the same results as from the complete file, in little memory."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfplatform import InvalidResponseError, coco
from cfplatform.adapters.rows import annotation_rows
from cfplatform.coco import entries
from cfplatform.coco.samples import samples_of
from tests.layouts import LAYOUTS


@pytest.fixture
def large(monkeypatch):
    """A function that makes every file a large one, read in pieces of so many bytes; 0 for none."""

    def set_step(step):
        monkeypatch.setattr(entries, "LARGE", -1 if step else 10**12)
        monkeypatch.setattr(entries, "_STEP", step or 2**20)

    return set_step


def results(source, folder, images_from=None):
    """What all functions make of a source, but for the times."""
    folder.mkdir()
    reported = []
    merged = coco.merge(source, folder / "all.json", images_from=images_from, on_error=reported.append)
    parts = coco.split(source, folder / "parts", {"a": 0.5, "b": 0.5}, images_from=images_from)
    selection = coco.select(
        source, drop=["tram"], min_side=9, crowds=False, empty_images=False, where=lambda annotation, *_: True
    )
    selected = coco.merge(selection, folder / "selected.json")
    counts = selection.removed.annotations.copy(), selection.removed.images.copy()
    again = [each.data for each in coco.read(selection, by_image=True)]
    assert counts == (selection.removed.annotations, selection.removed.images)
    outputs = [merged.output, *(each.output for each in parts.parts.values()), selected.output]
    return (
        [path.read_bytes() for path in outputs],
        [(each.counts, each.conflicts) for each in (merged, parts, selected)],
        reported,
        coco.stats(source),
        coco.stats(selection),
        [each.data for each in coco.read(source, images_from=images_from, by_image=True)],
        again,
        counts,
        list(annotation_rows(source, empty_images=True, images_from=images_from)),
        [each.data for each in samples_of(source, images_from=images_from, skip_missing=True)],
        [each.data for each in coco.read(source)],
        list(coco.validate(source)),
    )  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_results_as_of_the_whole(name, large, tmp_path):
    layout = LAYOUTS[name](tmp_path / "source")
    large(0)
    expected = results(layout.source, tmp_path / "whole", layout.images_from)
    large(700)
    found = results(layout.source, tmp_path / "other", layout.images_from)
    assert found == expected


def mixed():
    """A document with entries of all kinds and errors, in another order than that of its images."""
    images = [{"id": number, "file_name": f"\u00e9{number}.png"} for number in (3, 1, 2, 1)]
    annotations = [
        {"id": number, "image_id": number % 5, "category_id": 1 + number % 3, "bbox": [0, 0, 9 + number, 9]}
        for number in range(40)
    ]
    annotations[4]["caption"] = 'a "}, {" b'
    annotations[5]["caption"] = "\U0001f600 \u00e9 \\"
    annotations[6].update(segments_info=[{"id": 5, "category_id": 1}, {"id": 6, "category_id": 9}, {"id": 7}])
    annotations[7]["area"] = float("nan")
    annotations[8]["parent_id"] = 3
    return {
        "annotations": [*annotations, 5, None, [], "text", -1.5e3, annotations[0]],
        "videos": [{"id": 4}],
        "images": images,
        "categories": [{"id": 1, "name": "bus"}, {"id": 2, "name": "tram"}],
        "info": {"year": 2026},
    }


@pytest.mark.parametrize("step", [1, 7, 100, 2500, 2**20])
@pytest.mark.parametrize(
    "options", [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False, "separators": (" ,\n", ": ")}]
)
def test_entries_of_all_kinds_cut_anywhere(step, options, large, tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(mixed(), **options), encoding="utf-8-sig" if step == 7 else "utf-8")
    large(0)
    expected = results(path, tmp_path / "whole")
    large(step)
    found = results(path, tmp_path / "other")
    assert repr(found) == repr(expected)
    assert expected[2]


BROKEN = [
    b"",
    b'{"annotations": [',
    b'{"annotations": []',
    b'{"annotations": [{"id": 1}',
    b'{"annotations": [{"id": 1},]}',
    b'{"annotations": [{"id": 1} {"id": 2}], "images": []}',
    b'{"annotations": [{"id": 1}, {"id": 2]}, "images": []}',
    b'{"annotations": [1.]}',
    b'{"annotations": [1], }',
    b'{"annotations": [1]} 5',
    b'{annotations: [1]}',
    b'{"annotations" [1]}',
    b'{"annotations": ["\xff"]}',
    b'{"annotations": [' + b"[" * 100_000,
    b'\xef\xbb\xbf\xef\xbb\xbf{"annotations": []}',
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_broken_files_are_one_finding(content, large, tmp_path):
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    texts = []
    for step in (0, 5):
        large(step)
        found = []
        assert coco.merge(path, tmp_path / "out.json", on_error=found.append).counts == {"unreadable": 1}
        with pytest.raises(InvalidResponseError) as caught:
            coco.stats(path)
        texts.append(([each.message for each in found], str(caught.value)))
    assert texts[0] == texts[1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    ),
    step=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
)
def test_any_json(value, step, indent, ascii_only, large, tmp_path):
    large(step)
    path = tmp_path / "any.json"
    data = {"a": value, "annotations": [{"b": value}, value, {"c": 1}, {"c": value}], "\u00e9": 1}
    path.write_text(json.dumps(data, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", errors="surrogatepass")
    found = entries.read_large(path)
    if found is not None:
        assert {**found, "annotations": [*found["annotations"]]} == data
    else:
        with pytest.raises(InvalidResponseError):
            coco.stats(path)


def test_a_selection_is_compared_with_its_annotations(large, tmp_path):
    source = LAYOUTS["cvat"](tmp_path / "source").source
    found = []
    for step in (0, 64):
        large(step)
        changes = []
        result = coco.compare(source, coco.select(source, drop=["tram"]), on_change=changes.append)
        kinds = [(each.kind, each.category_a) for each in changes]
        found.append((result.total.a, result.total.b, result.changes, kinds))
    assert found[0] == found[1]
    assert (*found[0][:2], found[0][2]["same"]) == (24, 16, 24)


def test_a_file_that_changes_while_it_is_read_is_an_error(large, tmp_path):
    large(10)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(mixed()).replace("NaN", "1"))

    found = entries.read_large(path)
    path.write_text('{"annotations": [{"id": 1}, {')
    with pytest.raises(InvalidResponseError, match="changed while it was read"):
        coco.merge([found | {"images": []}], tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_memory_is_far_below_the_size_of_the_file(large, tmp_path):
    path = tmp_path / "dataset.json"
    numbers = random.Random(1)
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(500)]
    labels = [
        {
            "id": number,
            "image_id": numbers.randrange(500),
            "category_id": 1,
            "bbox": [0, 0, 5, 5],
            "segmentation": [[each + 0.5 for each in range(20)]],
        }
        for number in range(6_000)
    ]
    path.write_text(json.dumps({"images": images, "annotations": labels, "categories": [{"id": 1, "name": "car"}]}))
    large(2**16)

    def peak(function):
        tracemalloc.start()
        try:
            function()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    selection = coco.select(path, only=["car"])
    whole = peak(lambda: list(coco.read(path)))
    for function in (
        lambda: coco.stats(path),
        lambda: coco.merge(selection, tmp_path / "out.json"),
        lambda: sum(len(each.data["annotations"]) for each in coco.read(path, by_image=True)),
    ):
        assert peak(function) < whole / 2
