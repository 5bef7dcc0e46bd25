from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import Annotation, Batch, ConfigurationError, WorkItem, WorkItemStatus

ITEM = {
    "id": "c2fe4a5d",
    "projectId": "p-1",
    "batchId": 1307,
    "status": "COMPLETED",
    "assetType": "video",
    "assetUrl": "assets/7b3d",
    "resultUrl": None,
    "createdAt": "2026-07-11T11:52:37+05:45",
    "updatedAt": "2026-07-27T20:36:59.5Z",
    "metadata": {"callbackUrl": "https://h.example", "deep": [1]},
    "newField": {"kept": True},
}
BATCH = {
    "id": 1307,
    "projectId": "p-1",
    "name": "First",
    "createdBy": "u-1",
    "createdAt": "2019-08-24T14:15:22Z",
    "metadata": {},
    "priority": 0,
    "totalCount": 5,
    "completedCount": 3,
}
ANNOTATION = {
    "id": "a-1",
    "projectID": "p-1",
    "workItemID": "c2fe4a5d",
    "metadata": {"coco_results_url": "s3://b/spaces/s/f.json"},
}
ALL = [(WorkItem, ITEM), (Batch, BATCH), (Annotation, ANNOTATION)]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def properties(cls):
    return [name for name in dir(cls) if isinstance(getattr(cls, name), property)]


def test_a_work_item_names_its_fields():
    item = WorkItem(ITEM)
    assert (item.id, item.project_id, item.batch_id) == ("c2fe4a5d", "p-1", 1307)
    assert (item.status, item.asset_type, item.asset_url, item.result_url) == (
        "COMPLETED",
        "video",
        "assets/7b3d",
        None,
    )
    assert item.created_at == datetime(2026, 7, 11, 11, 52, 37, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert item.updated_at == datetime(2026, 7, 27, 20, 36, 59, 500_000, tzinfo=timezone.utc)
    assert item.revision == "2026-07-27T20:36:59.5Z"
    assert item.metadata["callbackUrl"] == "https://h.example"


def test_a_batch_names_its_fields():
    batch = Batch(BATCH)
    assert (batch.id, batch.project_id, batch.name, batch.created_by) == (1307, "p-1", "First", "u-1")
    assert (batch.priority, batch.total_count, batch.completed_count) == (0, 5, 3)
    assert batch.created_at == datetime(2019, 8, 24, 14, 15, 22, tzinfo=timezone.utc)
    assert batch.metadata == {}


def test_an_annotation_names_its_fields():
    annotation = Annotation(ANNOTATION)
    assert (annotation.id, annotation.project_id, annotation.work_item_id) == ("a-1", "p-1", "c2fe4a5d")
    assert annotation.coco_results_url == "s3://b/spaces/s/f.json"


@pytest.mark.parametrize("cls", [WorkItem, Batch, Annotation])
def test_only_the_id_is_needed(cls):
    thing = cls({"id": 5})
    assert str(thing.id) == "5"
    for name in properties(cls):
        assert getattr(thing, name) in (thing.id, None, {})


@pytest.mark.parametrize(("cls", "data"), ALL)
@given(st.data())
def test_a_field_of_any_type_never_costs_the_item(cls, data, draw):
    fields = {name: draw.draw(ODD) for name in data if name != "id"}
    thing = cls({**fields, "id": data["id"]})
    for name in properties(cls):
        getattr(thing, name)
    assert thing.as_dict() == {**fields, "id": data["id"]} or fields != fields  # noqa: PLR0124 - NaN
    assert repr(thing).startswith(f"<{cls.__name__} id=")


@pytest.mark.parametrize(("value", "number"), [("1307", 1307), (1307, 1307), (True, None), (1.0, None), ("x", None)])
def test_a_number_may_come_as_digits(value, number):
    assert WorkItem({"id": "x", "batchId": value}).batch_id == number


def test_the_project_that_was_listed_stands_in_for_one_that_the_server_leaves_out():
    assert WorkItem({"id": "x"}, None, "listed").project_id == "listed"
    assert WorkItem(ITEM, None, "listed").project_id == "p-1"
    assert Annotation({"id": "x"}, None, "asked").work_item_id == "asked"


@pytest.mark.parametrize(("cls", "data"), ALL)
def test_as_dict_is_a_deep_copy_of_all_that_the_server_sent(cls, data):
    thing = cls(copy.deepcopy(data))
    given = thing.as_dict()
    assert given == data
    given["metadata"]["changed"] = given["changed"] = True
    thing.metadata["changed"] = True
    assert thing.as_dict() == data


@pytest.mark.parametrize(("cls", "data"), ALL)
@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])  # noqa: S301
def test_a_copy_is_equal_and_independent(cls, data, clone):
    thing = cls(copy.deepcopy(data), None, "parent")
    other = clone(thing)
    assert type(other) is cls
    assert (other, hash(other), other.as_dict()) == (thing, hash(thing), thing.as_dict())
    other._data["id"] = "other"
    assert thing.as_dict() == data


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_client_and_pickle_drops_it(clone):
    client = object()
    assert clone(WorkItem(ITEM, client))._client is client
    assert pickle.loads(pickle.dumps(WorkItem(ITEM, client)))._client is None  # noqa: S301


def test_things_are_equal_by_class_and_id():
    assert WorkItem({"id": "1", "status": "A"}) == WorkItem({"id": "1", "status": "B"})
    assert len({WorkItem({"id": "1"}), WorkItem({"id": "1"}), WorkItem({"id": "2"})}) == 2
    assert WorkItem({"id": "1"}) != WorkItem({"id": "2"})
    assert WorkItem({"id": "1"}) != Batch({"id": "1"})
    assert WorkItem({"id": "1"}) != "1"


def test_the_repr_is_short_and_prints_on_any_terminal():
    assert repr(WorkItem(ITEM)) == "<WorkItem id='c2fe4a5d' status='COMPLETED'>"
    assert repr(Batch(BATCH)) == "<Batch id=1307 name='First'>"
    assert repr(Annotation({"id": "a"})) == "<Annotation id='a'>"
    assert repr(Batch({"id": 1, "name": "\x1b[2J\n"})).isprintable()


def test_a_missing_attribute_explains_itself():
    with pytest.raises(AttributeError, match=r"WorkItem has no attribute 'newField'.* newField.*as_dict\(\)"):
        _ = WorkItem(ITEM).newField
    assert not hasattr(WorkItem(ITEM), "_private")


@pytest.mark.parametrize("call", ["get_annotation", "load", "refresh"])
def test_a_thing_without_client_says_so(call):
    with pytest.raises(ConfigurationError, match="This WorkItem has no client"):
        getattr(WorkItem(ITEM), call)()


@pytest.mark.parametrize("metadata", [None, [], "x", {}, {"coco_results_url": None}, {"coco_results_url": ""}, {"coco_results_url": 5}])  # fmt: skip # noqa: E501
def test_an_annotation_may_name_no_document(metadata):
    assert Annotation({"id": "a", "metadata": metadata}).coco_results_url is None


def test_a_status_prints_and_compares_as_its_text():
    assert f"{WorkItemStatus.COMPLETED}" == str(WorkItemStatus.COMPLETED) == "COMPLETED"
    assert WorkItemStatus.CLIENT_REVIEW == "CLIENT_REVIEW"
    assert WorkItem({"id": "x", "status": "BRAND_NEW"}).status == "BRAND_NEW"
