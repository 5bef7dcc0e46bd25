"""Filters by name, by several statuses and by metadata: the requests sent and the items selected."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta, timezone

import pytest

from cfplatform import InvalidParameterError, NotFoundError, WorkItemStatus
from tests.functional.shell import json_lines, run

ITEMS, BATCHES = "work_items", "batches"


@pytest.fixture
def world(make_sandbox):
    """Three batches of 4 items; the last of each is in review."""
    sandbox = make_sandbox(items=12, batches=3)
    for batch, name in ((1001, "Street"), (1002, "Night drive"), (1003, "Park")):
        sandbox.rename_batch(batch, name)
    for index in (3, 7, 11):
        sandbox.update_work_item(index, status="CLIENT_REVIEW", touch=False)
    for index, metadata in ((0, {"externalId": "e1"}), (5, {"externalId": "e1", "camera": 7}), (6, {"camera": 7})):
        sandbox.patch_work_item_json(index, {"metadata": metadata})
    sandbox.patch_work_item_json(1, {"metadata": None})
    sandbox.patch_work_item_json(2, {}, remove=["metadata"])
    sandbox.clear_requests()
    return sandbox


@pytest.fixture
def client(world):
    with world.client() as client:
        yield client


def sent(sandbox, key):
    """The values of a parameter in each listing of items."""
    queries = [request.query for request in sandbox.requests if request.route == ITEMS]
    return [[value for name, value in query if name == key] for query in queries]


def requested(sandbox):
    """The listings that were requested, in their order."""
    return [request.route for request in sandbox.requests if request.route in (ITEMS, BATCHES)]


def ids(sandbox, *indexes):
    known = list(sandbox.work_item_ids())
    return [known[index] for index in indexes]


# --- Batches by name --------------------------------------------------------------------------------------------------


def test_names_are_looked_up_once_and_sent_as_ids(world, client):
    items = client.get_work_items(batch_names=["Park", "Street", "Park"], page_size=5)
    assert world.requests == []
    assert [item.id for item in items] == ids(world, 0, 1, 2, 3, 8, 9, 10, 11)
    assert requested(world) == [BATCHES, ITEMS, ITEMS]
    assert sent(world, "batchIds") == [["1001", "1003"]] * 2


def test_names_and_ids_are_united_and_other_filters_still_apply(world, client):
    found = client.get_work_items(batch_ids=[1002], batch_names=iter(["Park"]), status="CLIENT_REVIEW")
    assert [item.id for item in found] == ids(world, 7, 11)
    assert sent(world, "batchIds") == [["1002", "1003"]]


def test_count_stream_and_download_take_names(world, client, tmp_path):
    assert client.get_work_items_count(batch_names=["Street", "Park"]) == 8
    assert requested(world) == [BATCHES, ITEMS]
    assert [item.batch_id for item, _ in client.iter_annotations(batch_names=["Park"])] == [1003] * 3
    world.clear_requests()
    totals = []
    summary = client.download_project(
        destination=tmp_path, batch_names=["Street"], progress=lambda done, total: totals.append(total)
    )
    assert (summary.total_items, summary.failed, {*totals}) == (3, 0, {3})
    # The folder of each batch needs its name: the same listing has it.
    assert requested(world) == [BATCHES, ITEMS]
    assert {path.parent.name for path in tmp_path.glob("*/*.json")} == {"Street"}


def test_a_renamed_batch_is_found_by_its_new_name(world, client):
    assert client.get_work_items_count(batch_names=["Park"]) == 4
    world.rename_batch(1003, "Garden")
    assert client.get_work_items_count(batch_names=["Garden"]) == 4
    with pytest.raises(NotFoundError):
        client.get_work_items_count(batch_names=["Park"])


def test_unknown_names_are_reported_with_similar_ones_and_the_existing_ones(world, client, tmp_path):
    says = (
        f"Project {world.project_id} has no batch named 'Parc' or 'Steet'. Did you mean 'Park' or 'Street'? "
        "Its batches are 'Street', 'Night drive', 'Park'."
    )
    calls = [
        lambda **filters: next(client.get_work_items(**filters)),
        client.get_work_items_count,
        lambda **filters: next(client.iter_annotations(**filters)),
        lambda **filters: client.download_project(destination=tmp_path / "labels", **filters),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call(batch_names=["Steet", "Park", "Parc"])
        assert str(caught.value) == says
    assert ITEMS not in requested(world)
    with pytest.raises(NotFoundError, match=r"no batch named 'street'\. Did you mean 'Street'\? Its batches are"):
        client.get_batch(name="street")


def test_of_many_batches_only_near_names_are_listed(make_sandbox):
    sandbox = make_sandbox(items=11, batches=11)
    sandbox.rename_batch(1011, "Quay")
    with sandbox.client() as client:
        with pytest.raises(NotFoundError, match=r"has no batch named 'Quai'\. Did you mean 'Quay'\?$"):
            client.get_work_items_count(batch_names=["Quai"])
        with pytest.raises(NotFoundError, match=r"has no batch named 'zzzzzz'\.$"):
            client.get_work_items_count(batch_names=["zzzzzz"])


@pytest.mark.parametrize(
    "filters",
    [
        {"batch_names": []},
        {"batch_names": [], "batch_ids": []},
        {"batch_names": ["Street"], "work_item_ids": []},
        {"batch_names": ["Street"], "status": []},
        {"status": []},
        {"status": [], "metadata": {"a": 1}},
    ],
)
def test_an_empty_list_selects_nothing_and_sends_nothing(world, client, tmp_path, filters):
    assert list(client.get_work_items(**filters)) == []
    assert client.get_work_items_count(**filters) == 0
    assert list(client.iter_annotations(**filters)) == []
    assert client.download_project(destination=tmp_path / "none", **filters).total_items == 0
    assert world.requests == []


def test_the_items_of_a_batch_take_no_other_batches(world, client, tmp_path):
    batch = client.get_batch(name="Park")
    for filters in ({"batch_names": ["Street"]}, {"batch_ids": [1001]}):
        with pytest.raises(TypeError, match="multiple values"):
            batch.get_work_items(**filters)
        with pytest.raises(TypeError, match="multiple values"):
            batch.download(tmp_path, **filters)
    assert len(list(batch.get_work_items(status=["COMPLETED", "CLIENT_REVIEW"]))) == 4


# --- Several statuses -------------------------------------------------------------------------------------------------


def test_each_status_is_listed_once(world, client):
    statuses = [WorkItemStatus.CLIENT_REVIEW, "COMPLETED"]
    assert [item.id for item in client.get_work_items(status=iter(statuses))] == ids(
        world, 3, 7, 11, 0, 1, 2, 4, 5, 6, 8, 9, 10
    )
    assert sent(world, "status") == [["CLIENT_REVIEW"], ["COMPLETED"]]
    world.clear_requests()
    assert client.get_work_items_count(status=statuses, batch_names=["Park"]) == 4
    assert sent(world, "status") == [["CLIENT_REVIEW"], ["COMPLETED"]]
    with pytest.raises(InvalidParameterError, match="cursor cannot be used with .* several statuses"):
        client.get_work_items(status=statuses, cursor="x")


def test_an_item_that_changes_its_status_between_two_listings_comes_once(world, client):
    items = client.get_work_items(status=["COMPLETED", "CLIENT_REVIEW"])
    first = next(items)
    world.set_status(first.id, "CLIENT_REVIEW")
    assert sorted(item.id for item in [first, *items]) == sorted(world.work_item_ids())


def test_a_download_of_several_statuses_has_no_total_at_first_and_is_no_prune(world, client, tmp_path):
    totals = []
    summary = client.download_project(
        destination=tmp_path,
        status=["COMPLETED", "CLIENT_REVIEW"],
        progress=lambda done, total: totals.append(total),
    )
    # Items in review have no annotations yet.
    assert (summary.total_items, summary.successful, summary.failed) == (12, 9, 3)
    assert {*totals} == {None}
    world.clear_requests()
    with pytest.raises(InvalidParameterError, match="prune cannot be used with filters"):
        client.download_project(destination=tmp_path, status=["COMPLETED", "CLIENT_REVIEW"], prune=True)
    assert world.requests == []
    # One alone is what a download selects by default.
    world.delete_work_item(0)
    assert client.download_project(destination=tmp_path, status=["COMPLETED"], prune=True).pruned == 1


# --- Metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_is_compared_here_and_every_page_is_requested(world, client):
    found = client.get_work_items(metadata={"externalId": "e1"}, page_size=5)
    assert [item.id for item in found] == ids(world, 0, 5)
    assert requested(world) == [ITEMS] * 3
    assert sent(world, "limit") == [["5"]] * 3
    assert {name for request in world.requests for name, _ in request.query} == {"limit", "cursor", "page"}
    assert [item.id for item in client.get_work_items(metadata={"externalId": "e1", "camera": 7})] == ids(world, 5)
    assert list(client.get_work_items(metadata={"externalId": "e1", "camera": 8})) == []
    assert list(client.get_work_items(metadata={"absent": None})) == []


def test_limit_counts_what_matches_and_ends_the_listing(world, client):
    found = client.get_work_items(metadata={"camera": 7}, limit=1, page_size=3)
    assert [item.id for item in found] == ids(world, 5)
    assert sent(world, "limit") == [["3"]] * 2


def test_count_stream_and_download_by_metadata(world, client, tmp_path):
    assert client.get_work_items_count(metadata={"camera": 7}) == 2
    assert sent(world, "limit") == [["100"]]
    assert client.get_work_items_count(metadata={"camera": 7}, batch_names=["Street"]) == 0
    streamed = client.iter_annotations(metadata={"externalId": "e1"}, status=None)
    assert [item.id for item, _ in streamed] == ids(world, 0, 5)
    totals = []
    summary = client.download_project(
        destination=tmp_path, metadata={"camera": 7}, progress=lambda done, total: totals.append(total)
    )
    assert (summary.total_items, {*totals}) == (2, {None})
    assert sorted(path.stem for path in tmp_path.glob("*/*.json")) == sorted(ids(world, 5, 6))
    with pytest.raises(InvalidParameterError, match="prune cannot be used with filters"):
        client.download_project(destination=tmp_path, metadata={"camera": 7}, prune=True)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"batch_names": {"Street": 1}}, "batch_names must be a list of names, not dict"),
        ({"batch_names": "Street"}, r"For a single name, pass batch_names=\[...\]"),
        ({"batch_names": [" "]}, "batch_names: ' ' is not a valid name"),
        ({"status": [""]}, "status must be a string such as 'COMPLETED'"),
        ({"metadata": ["externalId"]}, "metadata must be a mapping, not list"),
        ({"metadata": {}}, "metadata is empty"),
    ],
)
def test_wrong_filters_are_refused_before_any_request(world, client, tmp_path, filters, says):
    calls = (
        client.get_work_items,
        client.get_work_items_count,
        client.iter_annotations,
        lambda **filters: client.download_project(destination=tmp_path / "none", **filters),
    )
    for call in calls:
        with pytest.raises(InvalidParameterError, match=says):
            call(**filters)
    assert world.requests == []
    assert not (tmp_path / "none").exists()


# --- The command line -------------------------------------------------------------------------------------------------


def test_the_command_line_has_the_same_filters(world):
    def listed(*options):
        world.clear_requests()
        return [item["id"] for item in json_lines(run("work-items", *options, "--json", sandbox=world).stdout)]

    assert listed("--batch-name", "Park", "--batch-id", 1001) == ids(world, 0, 1, 2, 8, 9, 10)
    assert requested(world) == [BATCHES, ITEMS]
    assert listed("--status", "CLIENT_REVIEW", "--status", "COMPLETED", "--batch-name", "Park") == ids(
        world, 11, 8, 9, 10
    )
    assert sent(world, "status") == [["CLIENT_REVIEW"], ["COMPLETED"]]
    assert len(listed("--status", "COMPLETED", "--status", "any")) == 12
    assert sent(world, "status") == [[]]
    assert listed() == ids(world, 0, 1, 2, 4, 5, 6, 8, 9, 10)
    assert listed("--metadata", json.dumps({"externalId": "e1"})) == ids(world, 0, 5)
    assert run("count", "--metadata", '{"camera": 7}', sandbox=world).stdout == "2\n"


def test_wrong_filters_on_the_command_line(world, tmp_path):
    for arguments, code, says in (
        (["--batch-name", "Steet"], 1, "has no batch named 'Steet'. Did you mean 'Street'? Its batches are"),
        (["--batch-name", " "], 2, "Error: --batch-name: ' ' is not a valid name"),
        (["--status", ""], 2, "Error: --status must be a string such as 'COMPLETED'. Pass \"any\""),
        (["--metadata", "[1]"], 2, "must be a JSON object"),
        (["--metadata", "{}"], 2, "Error: --metadata is empty"),
        (["--created-at-from", ""], 2, "Error: Invalid value for '--created-at-from': '' is not a time."),
    ):
        done = run("count", *arguments, sandbox=world)
        assert (done.returncode, done.stdout) == (code, "")
        assert says in done.stderr
    done = run("download", tmp_path, "--prune", "--status", "COMPLETED", "--metadata", '{"a": 1}', sandbox=world)
    assert done.returncode == 2
    assert "prune cannot be used with filters" in done.stderr
    assert run("download", tmp_path, "-q", "--prune", "--status", "COMPLETED", sandbox=world).returncode == 0


def test_a_download_of_at_most_so_many(world, client, tmp_path):
    summary = client.download_project(destination=tmp_path, limit=2)
    assert {result.item_id for result in summary.results} == set(ids(world, 0, 1))
    assert sent(world, "limit") == [["2"]]
    # With a filter of our own, any number of items may have to be listed.
    world.clear_requests()
    summary = client.download_project(destination=tmp_path, limit=1, metadata={"camera": 7})
    assert ([result.item_id for result in summary.results], summary.unlisted) == (ids(world, 5), 0)
    assert sent(world, "limit") == [["100"]]
    with pytest.raises(InvalidParameterError, match="prune cannot be used with filters or a limit"):
        client.download_project(destination=tmp_path, limit=2, prune=True)
    with pytest.raises(InvalidParameterError, match="limit must be an integer"):
        client.download_project(destination=tmp_path, limit="2")


# --- Batches by their time --------------------------------------------------------------------------------------------


def batch(number, created):
    return {"id": number, "name": f"b{number}", "createdAt": created}


def test_batches_by_their_time_of_creation(world, client):
    times = ["2026-07-01T00:00:00Z", "2026-07-02T00:00:00+05:45", "2026-07-03T00:00:00Z", "soon", None]
    page = {"items": [batch(number, created) for number, created in enumerate(times)], "meta": {}}
    page["items"].append(batch(5, "2026-07-02T12:00:00"))
    world.replace_next(json.dumps(page).encode(), times=None, path="*/batches")

    def found(**options):
        return [each.id for each in client.get_batches(**options)]

    assert found() == [0, 1, 2, 3, 4, 5]
    assert found(created_at_from="2026-07-02T00:00:00Z") == [2, 5]
    assert found(created_at_from="2026-07-01T18:15:00Z", created_at_to="2026-07-03T00:00:00Z") == [1, 2, 5]
    assert found(created_at_to="2026-07-01T00:00:00Z") == [0]
    assert found(created_at_from="2026-07-01T00:00:00Z", limit=2) == [0, 1]
    assert {dict(request.query)["limit"] for request in world.requests} == {"100"}
    assert {name for request in world.requests for name, _ in request.query} == {"limit"}


def test_times_of_batches_are_those_of_the_platform(world, client):
    first, second, third = client.get_batches()
    moment = second.created_at.astimezone(timezone(timedelta(hours=2)))
    assert list(client.get_batches(created_at_from=moment)) == [
        each for each in (first, second, third) if each.created_at >= moment
    ]
    world.clear_requests()
    with pytest.raises(InvalidParameterError, match="created_at_from.* has no time zone"):
        client.get_batches(created_at_from=moment.replace(tzinfo=None))
    with pytest.raises(InvalidParameterError, match="created_at_from is after the end"):
        client.get_batches(created_at_from=moment, created_at_to=moment - timedelta(seconds=1))
    assert world.requests == []


# --- Bare arrays ------------------------------------------------------------------------------------------------------


def test_a_bare_array_with_snake_case_keys_is_a_page_of_work_items(world, client, tmp_path):
    real = world.work_item(0)
    item = {
        "id": real["id"],
        "batch_id": 1001,
        "asset_url": real["assetUrl"],
        "result_url": "https://example.com/r",
        "asset_type": "image",
        "project_id": world.project_id,
        "status": "COMPLETED",
        "created_at": "2025-03-03T06:00:00Z",
        "updated_at": real["updatedAt"],
        "metadata": {"externalId": "e1"},
    }
    both = {"id": str(uuid.uuid4()), "batchId": 1002, "batch_id": 1001, "assetUrl": None, "asset_url": "a/b"}
    world.replace_next(json.dumps([item, both]).encode(), times=None, path="*/workItems")
    first, second = client.get_work_items()
    assert (first.batch_id, first.asset_url, first.asset_type) == (1001, real["assetUrl"], "image")
    assert (first.result_url, first.project_id) == ("https://example.com/r", world.project_id)
    assert (first.created_at.isoformat(), first.revision) == ("2025-03-03T06:00:00+00:00", real["updatedAt"])
    assert first.updated_at > first.created_at
    assert first.as_dict() == item
    # The platform's own spelling counts, unless it is null.
    assert (second.batch_id, second.asset_url) == (1002, "a/b")
    assert list(client.get_work_items(metadata={"externalId": "e1"})) == [first]
    assert client.get_work_items_count() == 2
    result = next(client.iter_downloads([first], tmp_path))
    assert result.path == tmp_path / "Street" / f"{first.id}.json"
    assert json.loads(result.path.read_bytes())["info"]["asset_url"] == real["assetUrl"]


def test_a_bare_array_of_batches_and_of_exports(world, client):
    sent = {
        "id": 7,
        "name": "Street",
        "project_id": world.project_id,
        "created_by": "u",
        "created_at": "2026-07-01T00:00:00Z",
        "total_count": 3,
        "completed_count": 2,
    }
    world.replace_next(json.dumps([sent]).encode(), times=None, path="*/batches")
    (found,) = client.get_batches(created_at_to="2026-07-01T00:00:00Z")
    assert (found.id, found.created_by, found.total_count, found.completed_count) == (7, "u", 3, 2)
    assert found.as_dict() == sent
    assert list(client.get_batches(created_at_to="2026-06-30T00:00:00Z")) == []
    own = str(uuid.uuid4())
    world.replace_next(json.dumps([{"export_id": own, "status": "FAILED", "download_url": None}]).encode())
    (export,) = client.get_exports()
    assert (export.id, export.status, export.download_url) == (own, "FAILED", None)
