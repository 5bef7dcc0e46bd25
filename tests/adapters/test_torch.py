"""PyTorch: every item comes once, with any number of workers, forked or spawned."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from functools import partial

import pytest

from cfplatform import (
    CFPlatformError,
    Client,
    ConfigurationError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
)

torch = pytest.importorskip("torch", reason="needs torch: python -m tests.adapters installs it")

from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from cfplatform.adapters.torch import FolderDataset, StreamDataset, collate, detection_target, to_tensor  # noqa: E402
from tests.faults.tools import wait_until  # noqa: E402

#: Workers, how they are started, and whether they stay for the next epoch.
LOADERS = [(0, None, False), (1, "fork", False), (4, "fork", True), (4, "fork", False), (4, "spawn", True)]
SECRET = "key-sentinel"

#: What torch and newer Pythons say of more workers than processors, and of a fork beside the threads of the sandbox.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def loader_of(dataset, workers=0, method=None, persistent=False, **options):
    options = {"batch_size": 3, "collate_fn": collate, "timeout": 60 if workers else 0, **options}
    return DataLoader(
        dataset, num_workers=workers, multiprocessing_context=method, persistent_workers=persistent, **options
    )


def ids_of(loader):
    return Counter(item.id for items, _ in loader for item in items)


def error_of(loader):
    """The error that ends an epoch, without its traceback: that would keep the loader's workers waiting."""
    try:
        for _ in loader:
            pass
    except CFPlatformError as error:
        return error.with_traceback(None)
    return None


# --- The stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "method", "persistent"), LOADERS)
def test_each_item_comes_once_in_each_epoch(sandbox, environment, workers, method, persistent):
    loader = loader_of(StreamDataset(Client), workers, method, persistent)
    for epoch in (1, 2):
        found = ids_of(loader)
        assert found == Counter(sandbox.work_item_ids())
        # Each label was fetched once; only the listing is read by every worker.
        assert sandbox.counts["annotations"] == sandbox.counts["storage"] == epoch * 20
        assert sandbox.counts["work_items"] == epoch * max(workers, 1)
    assert sandbox.leaks == 0


@pytest.mark.parametrize(("workers", "method", "persistent"), [*LOADERS[1:4], (1, "spawn", True)])
def test_each_sample_of_a_folder_comes_once_in_each_epoch(folder, sandbox, workers, method, persistent):
    dataset = FolderDataset(folder, transform=to_tensor)
    orders = []
    for _ in (1, 2):
        numbers = [
            target["image_id"]
            for _, targets in loader_of(dataset, workers, method, persistent, shuffle=True)
            for target in targets
        ]
        assert sorted(numbers) == list(range(20))
        orders.append(numbers)
    assert orders[0] != orders[1]


class Changing:
    """Lists items with a client: for the first who asks without one of them, for others from the last one on."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, client):
        items = list(client.get_work_items())
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            return items[::-1]
        return items[1:]


def test_shares_do_not_depend_on_positions_in_the_listing(sandbox, environment, tmp_path):
    loader = loader_of(StreamDataset(Client, items=Changing(tmp_path / "mark")), 4, "fork")
    found = ids_of(loader)
    assert max(found.values()) == 1
    assert set([*sandbox.work_item_ids()][1:]) <= set(found)


def test_processes_that_train_together_share_the_items(sandbox, environment):
    parts = [
        ids_of(loader_of(StreamDataset(Client, part=(rank, 2)), rank * 2, "fork" if rank else None)) for rank in (0, 1)
    ]
    assert parts[0] + parts[1] == Counter(sandbox.work_item_ids())
    assert all(parts)


def test_what_was_seen_is_skipped_without_asking_for_it(sandbox, environment):
    seen = [*sandbox.work_item_ids()][:15]
    assert ids_of(loader_of(StreamDataset(Client, skip=seen), 2, "fork")) == Counter([*sandbox.work_item_ids()][15:])
    assert sandbox.counts["annotations"] == 5


def few(client):
    return client.get_batch(1002).get_work_items(limit=4)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_items_are_a_list_or_what_lists_them(client, sandbox, environment, method):
    expected = Counter(item.id for item in few(client))
    listed = StreamDataset(Client, items=list(few(client)))
    assert (
        ids_of(loader_of(listed, 2, method))
        == ids_of(loader_of(StreamDataset(Client, items=few), 2, method))
        == expected
    )
    assert ids_of(loader_of(StreamDataset(Client, batch_ids=[1002]))) >= expected


def number_of_labels(item, document):
    return item.id, len(document["annotations"]), os.getpid()


def test_transforms_run_in_the_worker(sandbox, environment):
    dataset = StreamDataset(Client, transform=number_of_labels)
    batches = list(DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    counts = {item: len(json.loads(sandbox.document(item))["annotations"]) for item in sandbox.work_item_ids()}
    assert {item: int(count) for item, count, _ in batches} == counts
    assert os.getpid() not in {int(process) for _, _, process in batches}


# --- Errors of the stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "fork"), (2, "spawn")])
def test_an_error_keeps_its_class_and_names_the_item(sandbox, environment, workers, method):
    broken = [*sandbox.work_item_ids()][7]
    sandbox.fail_next(404, times=100, path=f"*{broken}*")
    error = error_of(loader_of(StreamDataset(Client), workers, method))
    assert type(error) is NotFoundError
    assert re.search(f"Work item {broken}: .*404", str(error))
    assert sandbox.api_key not in str(error)


def leave_out(item, error):
    assert isinstance(error, NotFoundError)


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "spawn")])
def test_items_that_fail_can_be_left_out(sandbox, environment, workers, method):
    broken = [*sandbox.work_item_ids()][7]
    sandbox.fail_next(404, times=100, path=f"*{broken}*")
    found = ids_of(loader_of(StreamDataset(Client, on_error=leave_out), workers, method))
    assert found == Counter(sandbox.work_item_ids()) - Counter([broken])


def test_leaving_an_epoch_ends_its_requests(make_sandbox, monkeypatch):
    sandbox = make_sandbox(items=400, latency=0.05)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    batches = iter(loader_of(StreamDataset(Client), 2, "fork", batch_size=1))
    next(batches)
    del batches
    wait_until(lambda: sandbox.in_flight == 0)
    assert sandbox.counts["annotations"] < 400


# --- The key --------------------------------------------------------------------------------------------------------


def test_a_client_is_refused_and_the_error_says_what_to_pass(client):
    with pytest.raises(ConfigurationError, match="such as Client itself"):
        StreamDataset(client)


def test_the_key_is_only_where_the_caller_put_it(sandbox, environment):
    assert sandbox.api_key.encode() not in pickle.dumps(StreamDataset(Client))
    given = partial(Client, SECRET, base_url="http://127.0.0.1:1", retries=0)
    dataset = StreamDataset(given)
    assert SECRET.encode() in pickle.dumps(dataset)
    assert SECRET not in repr(dataset)
    error = error_of(loader_of(dataset, 1, "fork"))
    assert "127.0.0.1" in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "options", [{"part": (2, 2)}, {"part": (-1, 1)}, {"items": iter([])}, {"items": [], "status": "X"}]
)
def test_wrong_arguments_are_refused_at_once(options):
    with pytest.raises(InvalidParameterError):
        StreamDataset(Client, **options)


def test_unknown_filters_are_refused_at_once():
    with pytest.raises(TypeError, match="batch_ids"):
        StreamDataset(Client, batch_id=[1])


# --- The folder -----------------------------------------------------------------------------------------------------


def test_a_sample_is_the_image_with_its_target(folder, sandbox):
    dataset = FolderDataset(folder, masks=True)
    assert dataset.classes == ("ellipse", "rectangle", "star", "triangle")
    assert len(dataset) == 20
    for index, (picture, target) in enumerate(dataset):
        document = dataset.document(index)
        annotations = document.data["annotations"]
        assert json.loads(sandbox.document(document.item_id))["annotations"] == annotations
        assert (picture.mode, picture.size) == ("RGB", (320, 240))
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in annotations)]
        assert torch.equal(target["boxes"], torch.tensor(boxes, dtype=torch.float32))
        names = {each["id"]: each["name"] for each in document.data["categories"]}
        assert [dataset.classes[label - 1] for label in target["labels"]] == [
            names[each["category_id"]] for each in annotations
        ]
        assert target["area"].tolist() == pytest.approx([each["area"] for each in annotations])
        assert target["iscrowd"].tolist() == [each["iscrowd"] for each in annotations]
        assert target["image_id"] == index
        assert target["masks"].shape == (len(annotations), 240, 320)
        assert set(target["masks"].unique().tolist()) == {0, 1}
        for pixels, annotation in zip(target["masks"], annotations, strict=True):
            left, top, right, bottom = (round(each) for each in target["boxes"][annotations.index(annotation)].tolist())
            inside = pixels[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2]
            assert inside.sum() == pixels.sum()
            assert abs(pixels.sum() - annotation["area"]) < 0.05 * annotation["area"]
    assert dataset.document(-1).item_id == dataset.document(19).item_id
    assert dataset[-1][1]["image_id"] == 19
    with pytest.raises(IndexError):
        dataset[20]


def test_transforms_are_those_of_torchvision(folder):
    picture, target = FolderDataset(folder, transform=to_tensor, target_transform=len)[0]
    assert picture.dtype == torch.float32
    assert 0 <= picture.min() < picture.max() <= 1
    assert target == 5
    assert FolderDataset(folder, transforms=lambda picture, target: (picture.size, "both"))[0] == ((320, 240), "both")
    with pytest.raises(InvalidParameterError, match="not both"):
        FolderDataset(folder, transform=to_tensor, transforms=collate)


def test_classes_that_are_given_are_the_labels(folder):
    everything = [name for _, target in FolderDataset(folder) for name in target["labels"].tolist()]
    labels = [name for _, target in FolderDataset(folder, classes=["star"]) for name in target["labels"].tolist()]
    assert labels == [1] * everything.count(3)
    assert labels


def test_a_missing_image_is_refused_or_left_out(folder):
    victim = next(folder.glob("*/assets/*"))
    victim.unlink()
    with pytest.raises(InvalidParameterError, match="1 of 20 images have no file.* assets=True"):
        FolderDataset(folder)
    dataset = FolderDataset(folder, skip_missing=True)
    assert victim.stem not in [dataset.document(index).item_id for index in range(len(dataset))]
    assert len(dataset) == 19


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pattern", ["*/assets/*", "*/*.json"])
def test_what_cannot_be_read_is_named(folder, workers, pattern):
    dataset = FolderDataset(folder, classes=["star"])
    victim = next(folder.glob(pattern))
    victim.write_bytes(victim.read_bytes()[:100])
    error = error_of(loader_of(dataset, workers, "fork" if workers else None))
    assert type(error) is InvalidResponseError
    assert victim.stem in str(error)


def test_a_document_of_several_images_is_no_sample():
    with pytest.raises(InvalidResponseError, match="has 2 images"):
        detection_target({"images": [{"id": 1}, {"id": 2}]}, [])


def test_an_image_without_labels_is_a_sample():
    target = detection_target({"images": [{"id": 1, "width": 4, "height": 3}]}, ["a"], masks=True)
    assert {name: tuple(value.shape) for name, value in target.items() if name != "image_id"} == {
        "boxes": (0, 4),
        "labels": (0,),
        "area": (0,),
        "iscrowd": (0,),
        "masks": (0, 3, 4),
    }


@pytest.mark.parametrize("orientation", [1, 6])
def test_images_are_turned_as_their_labels_are(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a" / "assets").mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(tmp_path / "a" / "assets" / "1.png", exif=exif)
    for size, expected in (((4, 6), (4, 6) if orientation == 6 else (6, 4)), ((6, 4), (6, 4))):
        image = {"id": 1, "width": size[0], "height": size[1]}
        (tmp_path / "a" / "1.json").write_text(json.dumps({"images": [image]}))
        assert FolderDataset(tmp_path)[0][0].size == expected


def test_an_epoch_goes_on_where_it_was_left(folder):
    dataset = FolderDataset(folder)

    def batches(epoch, done=0):
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(epoch)).tolist()
        loader = loader_of(dataset, sampler=order[done:])
        return [[target["image_id"] for target in targets] for _, targets in loader]

    whole = batches(1)
    assert batches(1, done=9) == whole[3:]
    assert batches(2) != whole


def test_a_detector_of_torchvision_learns_from_the_samples(folder):
    torchvision = pytest.importorskip("torchvision")
    dataset = FolderDataset(folder, masks=True, transform=to_tensor)
    torch.manual_seed(0)
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=len(dataset.classes) + 1, min_size=64, max_size=96
    )
    pictures, targets = next(iter(loader_of(dataset, batch_size=2)))
    losses = model(pictures, targets)
    sum(losses.values()).backward()
    assert "loss_mask" in losses


def test_the_detector_of_the_page_gets_boxes_that_move_with_the_image(folder):
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip(p=1)

    def transforms(picture, target):
        size = picture.size[::-1]
        target["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        return flip(picture, target)

    plain, moved = FolderDataset(folder)[0][1]["boxes"], FolderDataset(folder, transforms=transforms)[0][1]["boxes"]
    assert moved[:, 0].tolist() == (320 - plain[:, 2]).tolist()
