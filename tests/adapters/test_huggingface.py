"""Hugging Face datasets: a folder and a stream as datasets, and the row cache when annotations change."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from functools import partial

import pytest

from cfplatform import Client, ConfigurationError, InvalidParameterError, InvalidResponseError, NotFoundError

datasets = pytest.importorskip("datasets", reason="needs datasets: python -m tests.adapters installs it")

from cfplatform.adapters.huggingface import stream_dataset, to_dataset  # noqa: E402

CLASSES = ["ellipse", "rectangle", "star", "triangle"]


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


@pytest.fixture
def made(folder, tmp_path):
    return partial(to_dataset, folder, cache_dir=tmp_path / "cache")


def check(row, document):
    """A row against the document that the sandbox serves."""
    annotations = document["annotations"]
    names = {each["id"]: each["name"] for each in document["categories"]}
    assert row["objects"]["bbox"] == [each["bbox"] for each in annotations]
    assert [CLASSES[number] for number in row["objects"]["category"]] == [
        names[each["category_id"]] for each in annotations
    ]
    assert row["objects"]["area"] == [each["area"] for each in annotations]
    assert row["objects"]["iscrowd"] == [bool(each["iscrowd"]) for each in annotations]
    assert (row["width"], row["height"]) == (320, 240)


def test_a_folder_is_a_dataset_of_images_with_objects(made, sandbox):
    dataset = made()
    assert dataset.features["objects"]["category"].feature.names == CLASSES
    assert sorted(dataset["item_id"]) == sorted(sandbox.work_item_ids())
    assert list(dataset["image_id"]) == list(range(20))
    for row in dataset:
        check(row, json.loads(sandbox.document(row["item_id"])))
        assert row["image"].size == (320, 240)
    assert set(dataset["batch"]) == {batch.name for batch in sandbox.client().get_batches()}


def test_rows_are_cached_until_a_label_changes(made, folder):
    files = [each["filename"] for each in made().cache_files]
    assert [each["filename"] for each in made().cache_files] == files
    path = next(folder.glob("*/*.json"))
    document = json.loads(path.read_bytes())
    document["annotations"] = []
    path.write_text(json.dumps(document))
    (row,) = [row for row in made() if row["item_id"] == path.stem]
    assert row["objects"]["bbox"] == []


def test_classes_can_be_chosen(made):
    dataset = made(classes=["star"])
    assert {number for row in dataset for number in row["objects"]["category"]} == {0}


def test_a_missing_image_is_refused_or_left_out(made, folder):
    next(folder.glob("*/assets/*")).unlink()
    with pytest.raises(InvalidParameterError, match="1 of 20 images have no file"):
        made()
    assert len(made(skip_missing=True)) == 19


def test_what_cannot_be_read_keeps_its_error(made, folder):
    path = next(folder.glob("*/*.json"))
    path.write_text('{"images": []}')
    with pytest.raises(InvalidResponseError, match=f"{path.stem} has 0 images"):
        made(classes=["star"])


def test_a_stream_is_an_iterable_dataset(sandbox, environment):
    dataset = stream_dataset(Client, classes=CLASSES, shards=3)
    for epoch in (1, 2):
        found = list(dataset)
        assert Counter(row["item_id"] for row in found) == Counter(sandbox.work_item_ids())
        assert sandbox.counts["annotations"] == epoch * 20
    for row in found:
        check(row, json.loads(sandbox.document(row["item_id"])))
    assert {row["batch"] for row in found} == {"1001", "1002"}
    (seen, *rest) = [row["item_id"] for row in found]
    assert {row["item_id"] for row in stream_dataset(Client, classes=[], skip=[seen])} == set(rest)


def test_an_error_of_the_stream_names_the_item(sandbox, environment):
    broken = next(iter(sandbox.work_item_ids()))
    sandbox.fail_next(404, times=100, path=f"*{broken}*")
    with pytest.raises(NotFoundError, match=f"Work item {broken}"):
        list(stream_dataset(Client, classes=CLASSES))


def test_wrong_arguments_are_refused_at_once(client):
    with pytest.raises(ConfigurationError, match="Client itself"):
        stream_dataset(client, classes=CLASSES)
    with pytest.raises(InvalidParameterError, match="shards"):
        stream_dataset(Client, classes=CLASSES, shards=0)


def test_the_dataset_holds_no_key(sandbox, environment):
    assert sandbox.api_key.encode() not in pickle.dumps(stream_dataset(Client, classes=CLASSES))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("workers", "shards", "method"), [(0, 4, None), (1, 4, "fork"), (4, 4, "fork"), (2, 4, "spawn")]
)
def test_workers_of_a_loader_share_the_stream(sandbox, environment, workers, shards, method):
    data = pytest.importorskip("torch.utils.data", reason="needs torch: python -m tests.adapters installs it")
    dataset = stream_dataset(Client, classes=CLASSES, shards=shards)
    loader = data.DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=method)
    assert Counter(row["item_id"] for row in loader) == Counter(sandbox.work_item_ids())
    assert sandbox.counts["annotations"] == 20
