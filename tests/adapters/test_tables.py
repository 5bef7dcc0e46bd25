"""pandas and Parquet: one row for each annotation, typed, for any document."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timezone
from pathlib import Path

import pytest

from cfplatform import (
    APIConnectionError,
    Batch,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    WorkItem,
    coco,
)

pd = pytest.importorskip("pandas", reason="needs pandas: python -m tests.adapters installs it")
pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: python -m tests.adapters installs it")

from cfplatform.adapters.pandas import items_to_dataframe, results_to_dataframe, to_dataframe  # noqa: E402
from cfplatform.adapters.parquet import SCHEMA, write_parquet  # noqa: E402

ROOT = Path(__file__).parents[2]
#: What the format allows, and what it does not.
ODD = {
    "info": {"asset_url": "assets/1"},
    "images": [{"id": 1.0, "width": 4, "height": "3", "file_name": "a\ud800.png"}, {"id": 2}, {"id": 3}],
    "categories": [{"id": 1, "name": "café", "supercategory": "place"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
         "segmentation": [[1, 2, 3.5, 4, 5, 6]]},
        {"id": "a", "image_id": 2, "category_id": 9, "bbox": [1, 2], "area": "12", "iscrowd": 2,
         "segmentation": {"size": [1, 2], "counts": "02"}, "keypoints": [1, 2, 2], "attributes": {"é": [None]}},
        {"id": 2**70, "image_id": 77, "segmentation": []},
    ],
}  # fmt: skip


def rows(frame):
    """The rows as plain values, with None for what is missing."""
    return [
        {name: None if value is None or value is pd.NA or value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def annotations_of(sandbox):
    """Every annotation, with its item, by the sandbox itself."""
    return [
        (item, annotation)
        for item in sandbox.work_item_ids()
        for annotation in json.loads(sandbox.document(item))["annotations"]
    ]


# --- pandas -----------------------------------------------------------------------------------------------------------


def test_each_annotation_is_a_row(client, sandbox, folder):
    expected = sorted((item, each["id"], *map(float, each["bbox"])) for item, each in annotations_of(sandbox))
    boxes = ["bbox_x", "bbox_y", "bbox_width", "bbox_height"]
    for source in (folder, client.iter_annotations()):
        frame = to_dataframe(source)
        found = frame[["item_id", "annotation_id", *boxes]].itertuples(index=False, name=None)
        assert sorted(found) == expected
        assert frame.index.tolist() == list(range(len(expected)))
        segmentations = {(row.item_id, row.annotation_id): json.loads(row.segmentation) for row in frame.itertuples()}
        assert segmentations == {(item, each["id"]): each["segmentation"] for item, each in annotations_of(sandbox)}
    assert all(Path(path).is_file() for path in to_dataframe(folder)["asset_path"])
    assert frame["asset_path"].isna().all()


def test_types_are_the_same_whatever_is_there():
    types = to_dataframe([ODD]).dtypes
    assert {name: str(kind) for name, kind in types.items()} == {
        **dict.fromkeys(["item_id", "file_name", "asset_url", "asset_path", "segmentation", "other"], "string"),
        **dict.fromkeys(["image_id_text", "annotation_id_text"], "string"),
        **dict.fromkeys(["batch", "category", "supercategory"], "category"),
        **dict.fromkeys(["image_id", "image_width", "image_height", "annotation_id"], "Int64"),
        **dict.fromkeys(["bbox_x", "bbox_y", "bbox_width", "bbox_height", "area"], "float64"),
        "iscrowd": "boolean",
    }
    empty = to_dataframe([])
    assert empty.dtypes.drop(["batch", "category", "supercategory"]).equals(
        types.drop(["batch", "category", "supercategory"])
    )
    assert len(empty) == 0


def test_what_cannot_be_read_is_missing_and_no_row_is():
    first, second, third = rows(to_dataframe([ODD]))
    assert (first["image_id"], first["image_width"], first["image_height"], first["file_name"]) == (
        1,
        4,
        None,
        "a?.png",
    )
    assert (first["category"], first["bbox_height"], first["iscrowd"], first["other"]) == ("café", 4, False, None)
    assert (second["annotation_id"], second["category"], second["bbox_x"], second["area"]) == (None,) * 4
    assert (second["annotation_id_text"], second["image_id"], second["image_id_text"]) == ("a", 2, None)
    assert json.loads(second["segmentation"]) == {"size": [1, 2], "counts": "02"}
    columns = {"keypoints": [1, 2, 2], "attributes": {"é": [None]}}
    odd = {"category_id": 9, "bbox": [1, 2], "area": "12", "iscrowd": 2}
    assert json.loads(second["other"]) == {**columns, **odd}
    assert json.loads(third["other"]) == {"id": 2**70}
    assert (second["iscrowd"], third["annotation_id"], third["image_id"], third["segmentation"]) == (
        None,
        None,
        77,
        None,
    )
    assert {each["asset_url"] for each in (first, second, third)} == {"assets/1"}


def test_ids_that_are_strings_have_columns_of_their_own():
    document = {
        "images": [{"id": "img-77", "file_name": "a.png"}, {"id": "img-78"}],
        "annotations": [{"id": "ann-5", "image_id": "img-77"}, {"id": "6", "image_id": "gone"}],
    }
    names = ["image_id", "image_id_text", "annotation_id", "annotation_id_text", "file_name", "other"]
    found = [[row[name] for name in names] for row in rows(to_dataframe([document], empty_images=True))]
    assert found == [
        [None, "img-77", None, "ann-5", "a.png", None],
        [None, "gone", None, "6", None, None],
        [None, "img-78", None, None, None, None],
    ]


@pytest.mark.parametrize("own", [None, True, "1", [1], 2, float("nan")])
def test_what_has_no_category_or_no_image_has_none_in_the_table(own):
    document = {
        "images": [{"id": 1, "file_name": "a.png"}, {"file_name": "without-id.png"}],
        "categories": [{"id": 1, "name": "car"}, {"name": "without id"}, {"id": None, "name": "null"}],
        "annotations": [{"id": 1, "image_id": own, "category_id": own}],
    }
    (row,) = rows(to_dataframe([document]))
    assert (row["category"], row["file_name"]) == (None, None)
    # Null is what a missing member is; everything else is kept. NaN is equal to nothing.
    kept = {} if row["other"] is None else json.loads(row["other"])
    assert str(kept.get("category_id")) == str(own)


def test_a_merged_or_split_dataset_has_the_columns_of_its_folder(folder, tmp_path):
    whole = coco.merge(folder, tmp_path / "merged" / "dataset.json").output
    parts = coco.split(folder, tmp_path / "split", {"train": 0.5, "val": 0.5}).parts
    kept = ["item_id", "batch", "asset_url", "image_width", "asset_path", "category", "bbox_x", "segmentation"]

    def table(*frames):
        frame = pd.concat(frames)[kept].astype(object)
        return sorted(map(tuple, frame.where(frame.notna(), None).to_numpy().tolist()))

    expected = table(to_dataframe(folder))
    assert all(item and batch and url for item, batch, url, *_ in expected)
    assert table(to_dataframe(whole)) == expected
    assert table(*(to_dataframe(part.output) for part in parts.values())) == expected
    assert table(to_dataframe(coco.read(whole))) == table(to_dataframe(coco.read(whole, by_image=True))) == expected


def test_the_asset_of_frames_is_their_video_before_and_after_a_merge(tmp_path):
    video = {
        "info": {"asset_url": "assets/1"},
        "images": [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 2}],
    }
    (tmp_path / "labels" / "a" / "assets").mkdir(parents=True)
    (tmp_path / "labels" / "a" / "i.json").write_text(json.dumps(video))
    (tmp_path / "labels" / "a" / "assets" / "i.mp4").touch()
    whole = coco.merge(tmp_path / "labels", tmp_path / "merged.json").output
    for source in (tmp_path / "labels", whole):
        found = to_dataframe(source, empty_images=True)
        assert found["asset_path"].tolist() == [str(tmp_path.resolve() / "labels" / "a" / "assets" / "i.mp4")] * 2


def test_images_are_found_where_images_from_says(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    source = [{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 1, "image_id": 1}]}]
    (row,) = rows(to_dataframe(source, images_from=tmp_path / "images"))
    assert row["asset_path"] == str(tmp_path / "images" / "a.png")
    write_parquet(source, tmp_path / "a.parquet", images_from=tmp_path / "images")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [row]


def test_images_without_annotations_are_rows_if_asked_for():
    *_, last = rows(to_dataframe([ODD], empty_images=True))
    assert last["image_id"] == 3
    assert [last[name] for name in ("annotation_id", "category", "bbox_x", "segmentation")] == [None] * 4
    assert len(to_dataframe([ODD], empty_images=True)) == len(to_dataframe([ODD])) + 1


def test_work_items_are_rows_with_times_in_utc(client, sandbox):
    items = list(client.get_work_items())
    frame = items_to_dataframe(iter(items))
    assert frame["item_id"].tolist() == list(sandbox.work_item_ids())
    assert [time.to_pydatetime() for time in frame["updated_at"]] == [item.updated_at for item in items]
    assert frame["created_at"].dt.tz == timezone.utc
    assert (str(frame["batch_id"].dtype), str(frame["status"].dtype)) == ("Int64", "category")
    merged = to_dataframe(client.iter_annotations()).merge(frame, on="item_id")
    assert len(merged) == len(annotations_of(sandbox))


def test_batches_are_rows(client):
    frame = items_to_dataframe(client.get_batches())
    assert frame["batch_id"].tolist() == [1001, 1002]
    assert frame["name"].tolist() == [batch.name for batch in client.get_batches()]
    assert frame["total_count"].sum() == 20


def test_odd_resources_are_rows_too():
    odd = {"id": "x", "batchId": "no", "createdAt": "soon", "status": None, "metadata": {"a": 1}}
    (item,) = rows(items_to_dataframe([WorkItem(odd)]))
    assert {name for name, value in item.items() if value is not None} == {"item_id", "metadata"}
    (batch,) = rows(items_to_dataframe([Batch({"id": "x", "totalCount": 10**19})]))
    assert set(batch.values()) == {None}
    assert list(items_to_dataframe([]).columns)[0] == "item_id"


def test_results_are_rows_with_their_errors(client, sandbox, tmp_path):
    sandbox.fail_next(404, path="*/annotations")
    summary = client.download_project(destination=tmp_path / "labels", assets=True)
    frame = results_to_dataframe(summary)
    assert frame.equals(results_to_dataframe(iter(summary.results)))
    assert frame["outcome"].value_counts().to_dict() == {"downloaded": 19, "failed": 1}
    failed = frame[frame["outcome"] == "failed"].iloc[0]
    assert (failed["error_type"], failed["path"] is pd.NA) == ("NotFoundError", True)
    assert "404" in failed["error"]
    assert frame["written"].sum() == summary.bytes
    assert all(Path(path).is_file() for path in frame["asset_path"].dropna())


# --- Parquet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty_images", [False, True])
def test_the_file_holds_what_the_frame_does(folder, tmp_path, empty_images):
    path = tmp_path / "labels.parquet"
    for source in (folder, [ODD]):
        frame = to_dataframe(source, empty_images=empty_images)
        assert write_parquet(source, path, empty_images=empty_images) == len(frame)
        table = pq.read_table(path)
        assert table.schema == SCHEMA
        assert table.to_pylist() == rows(frame)
        assert len(pd.read_parquet(path)) == len(frame)


def test_row_groups_are_as_long_as_asked_for(folder, tmp_path):
    path = tmp_path / "labels.parquet"
    count = write_parquet(folder, path, rows_per_group=7, compression="snappy")
    metadata = pq.read_metadata(path)
    assert metadata.row_group(0).column(0).compression == "SNAPPY"
    assert [metadata.row_group(each).num_rows for each in range(metadata.num_row_groups)] == [7] * (count // 7) + [
        count % 7
    ] * (count % 7 > 0)
    long = {"images": [], "annotations": [{"caption": "x" * 20_000_000}] * 4}
    write_parquet([long], path)
    assert pq.read_metadata(path).num_row_groups == 2


def test_an_empty_source_is_an_empty_table(tmp_path):
    assert write_parquet([], tmp_path / "none.parquet") == 0
    assert pq.read_table(tmp_path / "none.parquet").schema == SCHEMA


def failing():
    yield ODD
    raise APIConnectionError("the line broke")


@pytest.mark.parametrize("problem", [APIConnectionError, InvalidResponseError])
def test_a_file_appears_whole_or_not_at_all(tmp_path, problem):
    path = tmp_path / "out" / "labels.parquet"
    path.parent.mkdir()
    (tmp_path / "labels" / "a").mkdir(parents=True)
    (tmp_path / "labels" / "a" / "1.json").write_text("[]")
    write_parquet([ODD], path)
    before = path.read_bytes()
    with pytest.raises(problem):
        write_parquet(failing() if problem is APIConnectionError else tmp_path / "labels", path, rows_per_group=1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(DownloadError, match="Could not write .*: No such file"):
        write_parquet([ODD], tmp_path / "nowhere" / "labels.parquet")


@pytest.mark.parametrize("options", [{"rows_per_group": 0}, {"compression": "zip"}])
def test_wrong_arguments_are_refused(tmp_path, options):
    with pytest.raises(InvalidParameterError):
        write_parquet([ODD], tmp_path / "labels.parquet", **options)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_source(tmp_path):
    script = (
        "import sys\n"
        "from cfplatform.adapters.parquet import write_parquet\n"
        "def documents(count):\n"
        "    for number in range(count):\n"
        "        boxes = [{'id': n, 'image_id': 1, 'bbox': [n, number, 3, 4], 'segmentation': [[number / 7] * 80]}"
        " for n in range(5)]\n"
        "        yield {'images': [{'id': 1}], 'annotations': boxes}\n"
        "def peak(count):\n"
        "    write_parquet(documents(count), sys.argv[1], rows_per_group=2000)\n"
        "    with open('/proc/self/status') as file:\n"
        "        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM'))\n"
        "first = peak(1500)\n"
        "print(peak(8000) - first)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.parquet"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # In KiB: the JSON of the second source alone has 50 MB.
    assert int(done.stdout) < 25_000


def test_a_value_that_is_not_json_is_a_typed_error(tmp_path):
    source = [{"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "score": 1j}]}]
    with pytest.raises(InvalidParameterError, match="a value that is not JSON: Object of type complex"):
        to_dataframe(source)
    with pytest.raises(InvalidParameterError, match="a value that is not JSON: Object of type complex"):
        write_parquet(source, tmp_path / "labels.parquet")
