"""The public types, as a type checker sees them; also run as a test, since the calls are real."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from PIL.Image import Image
from typing_extensions import assert_type

import cfplatform
from cfplatform import (
    Annotation,
    Batch,
    CreateResult,
    DownloadResult,
    DownloadSummary,
    Export,
    UploadedFile,
    UploadResult,
    WorkItem,
    archives,
    coco,
    compat,
    types,
    viz,
)
from cfplatform.report import ReportSummary, write_report
from cfplatform.webhooks import RecentDeliveries, WebhookEvent, WebhookVerifier
from tests.deliveries import Clock, Signer, key_set

if TYPE_CHECKING:
    from cfplatform.sandbox import Sandbox


def test_public_types(sandbox: Sandbox, client: cfplatform.Client, tmp_path: Path) -> None:
    items = assert_type(client.get_work_items(status="COMPLETED", batch_ids=[1001]), Iterator[WorkItem])
    item = assert_type(next(items), WorkItem)
    assert_type(item.id, str)
    assert_type(item.batch_id, int | None)
    assert_type(item.updated_at, datetime | None)
    assert_type(item.as_dict(), types.WorkItemData)
    assert_type(item.load(), types.CocoDocument)
    assert_type(item.load_bytes(), bytes)
    assert_type(item.load_asset(), bytes)
    with assert_type(item.load_asset(stream=True), BinaryIO) as file:
        assert_type(file.read(), bytes)
    assert_type(client.get_signed_urls([item.asset_url or ""]), dict[str, str])
    assert_type(client.base_url, str)
    assert_type(client.space_id, str | None)
    assert_type(item.get_annotation(), Annotation)
    assert_type(item.download(tmp_path, overwrite=True), DownloadResult)
    batch = assert_type(client.get_batch(1001), Batch)
    assert_type(batch.id, int)
    assert_type(batch.get_work_items(status="COMPLETED"), Iterator[WorkItem])
    assert len(list(batch.get_work_items(limit=2, page_size=1))) == 2
    assert_type(batch.download(tmp_path), DownloadSummary)
    assert_type(client.get_work_items_count(work_item_ids=[item.id]), int)
    assert_type(client.iter_annotations(ordered=False), Iterator[tuple[WorkItem, types.CocoDocument]])
    summary = assert_type(client.download_project(destination=tmp_path, batch_ids=[1001]), DownloadSummary)
    assert_type(summary.failures, list[DownloadResult])
    assert_type(summary.results[0], DownloadResult)
    assert_type(summary.results[1:], Sequence[DownloadResult])
    assert_type(summary.as_dict(), dict[str, Any])
    for result in client.iter_downloads([item], tmp_path):
        assert_type(result.path, Path | None)
        assert_type(result.object_url, str | None)
        assert result.outcome == "skipped"
    url, state = "memory://typed", tmp_path / "state"
    assert_type(item.download(url, state=state), DownloadResult)
    assert_type(batch.download(url, state=str(state)), DownloadSummary)
    stored = assert_type(client.download_project(destination=url, state=state), DownloadSummary)
    assert_type(stored.destination, Path | str)
    for downloaded in cfplatform.iter_downloaded(url, state):
        assert_type(downloaded.object_url, str | None)


def test_public_types_of_filters(client: cfplatform.Client, tmp_path: Path) -> None:
    statuses = (cfplatform.WorkItemStatus.COMPLETED, "CLIENT_REVIEW")
    names = [batch.name or "" for batch in client.get_batches(created_at_from="2020-01-01T00:00:00Z")]
    found = client.get_work_items(batch_names=names, status=statuses, metadata={"externalId": "e1"})
    assert_type(found, Iterator[WorkItem])
    assert list(found) == []
    assert client.get_work_items_count(batch_names=iter(names), status=[*statuses]) == 20
    stream = client.iter_annotations(batch_names=names[:1], status="COMPLETED")
    assert len(list(stream)) == 10
    assert client.download_project(destination=tmp_path, metadata={"a": 1}, batch_names=()).total_items == 0
    with pytest.raises(cfplatform.InvalidParameterError):
        client.get_work_items_count(batch_names=5)  # type: ignore[arg-type]
    with pytest.raises(cfplatform.InvalidParameterError):
        client.get_work_items_count(metadata="externalId")  # type: ignore[arg-type]


def test_public_types_of_documents(client: cfplatform.Client, tmp_path: Path) -> None:
    item = next(client.get_work_items())
    document = item.load()
    annotation = assert_type(document["annotations"][0], types.CocoAnnotation)
    assert_type(document["annotations"][0]["bbox"], list[float])
    assert_type(annotation["segmentation"], "list[list[float]] | types.CocoRLE")
    assert_type(annotation.get("attributes"), "dict[str, Any] | None")
    assert_type(document["images"][0]["file_name"], str)
    assert_type(document["categories"][0]["name"], str)
    assert_type(document["info"].get("asset_url"), "str | None")
    assert_type(document.get("licenses"), "list[types.CocoLicense] | None")
    for _, each in client.iter_annotations(batch_ids=[1001]):
        assert_type(each["annotations"][0]["category_id"], int)
    for source in (document, annotation, document["images"][0], document["categories"][0]):
        assert isinstance(source, dict)
    client.download_work_items([item], tmp_path)
    for read in coco.read(tmp_path):
        assert_type(read.data["annotations"][0]["bbox"], list[float])
    if TYPE_CHECKING:
        document["anotations"]  # type: ignore[typeddict-item]


def test_functions_take_any_dict_as_a_document(client: cfplatform.Client, tmp_path: Path) -> None:
    typed = next(client.get_work_items()).load()
    plain: dict[str, Any] = {**typed}
    built: types.CocoDocument = {"info": {}, "images": [], "annotations": [], "categories": []}
    lists: dict[str, list[dict[str, int]]] = {"images": [{"id": 1, "width": 320, "height": 240}]}
    assert viz.draw(plain).size == viz.draw(typed).size == viz.draw(lists).size == (320, 240)
    assert [document.data for document in coco.read([typed, built])] == [typed, built]
    assert list(coco.validate([plain, typed])) == []
    assert coco.stats([plain]).images == 1
    assert coco.merge([plain], tmp_path / "plain.json").images == 1
    assert coco.Document(plain) == coco.Document(typed)
    pairs = [(item, {**document}) for item, document in client.iter_annotations(batch_ids=[1001])]
    assert coco.merge(pairs, tmp_path / "pairs.json").images == 10


def test_public_types_of_what_the_platform_sends(sandbox: Sandbox, client: cfplatform.Client) -> None:
    item = next(client.get_work_items())
    assert_type(item.as_dict().get("assetUrl"), "str | None")
    assert_type(item.as_dict()["id"], str)
    assert_type(client.get_batch(1001).as_dict(), types.BatchData)
    assert_type(client.get_batch(1001).as_dict().get("totalCount"), "int | None")
    annotation = assert_type(item.get_annotation().as_dict(), types.AnnotationData)
    assert annotation["id"]
    for page in client.iterate_pages(f"/projects/{sandbox.project_id}/workItems"):
        assert_type(page, types.Page)
        assert_type(page["items"], list[dict[str, Any]])
        assert_type(page.get("meta", {}).get("cursorNext"), "str | None")
    # Like tools that record requests.
    assert WorkItem(item.as_dict(), client) == WorkItem({"id": item.id}) == item


def test_keywords_are_known_to_type_checkers(client: cfplatform.Client, tmp_path: Path) -> None:
    # An unused ignore is an error, so a keyword that is no longer checked is noticed.
    with pytest.raises(TypeError, match="status"):
        client.get_work_items_count(statsu="COMPLETED")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="status"):
        client.download_project(destination=tmp_path, statsu="COMPLETED")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="overwrite"):
        client.download_work_items([], tmp_path, overwritten=True)  # type: ignore[call-arg]
    with pytest.raises(cfplatform.InvalidParameterError):
        client.get_work_items_count(batch_ids=1001)  # type: ignore[arg-type]


class Inline:
    """The minimum that ``executor=`` accepts."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args))
        return future


def test_public_types_of_executors(client: cfplatform.Client, tmp_path: Path) -> None:
    items = list(client.get_work_items(limit=2))
    with ThreadPoolExecutor() as threads, ProcessPoolExecutor() as processes:
        # Without items nothing is submitted.
        assert_type(client.download_work_items([], tmp_path, executor=processes), DownloadSummary)
        assert_type(client.download_project(destination=tmp_path, executor=threads), DownloadSummary)
        assert_type(client.iter_downloads(items, tmp_path, executor=threads), Iterator[DownloadResult])
        assert_type(items[0].download(tmp_path, executor=Inline()), DownloadResult)
        assert_type(client.get_batch(1001).download(tmp_path, executor=None), DownloadSummary)


def test_public_types_of_uploads(client: cfplatform.Client, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    uploaded = assert_type(client.upload_file(path, content_type="image/png"), UploadedFile)
    assert_type(uploaded.path, str)
    assert_type(uploaded.name, str | None)
    results = assert_type(client.upload_files([path, str(path), io.BytesIO(b"x")]), Generator[UploadResult, None, None])
    with path.open("rb") as file:
        assert_type(client.upload_file(file), UploadedFile)
    for result in results:
        assert_type(result.uploaded, UploadedFile | None)
        assert_type(result.error, cfplatform.CFPlatformError | None)
        assert assert_type(result.ok, bool)
    assert_type(client.create_work_item(uploaded, asset_type="image", metadata={"a": [1]}), WorkItem)
    assert_type(client.create_work_item(uploaded.path), WorkItem)
    assert_type(client.create_work_item(path, upload=True), WorkItem)
    created = client.create_work_items([path, str(path), io.BytesIO(b"x"), uploaded], metadata=lambda asset: {"a": 1})
    for each in assert_type(created, Generator[CreateResult, None, None]):
        assert_type(each.item, WorkItem | None)
        assert_type(each.uploaded, UploadedFile | None)
        assert assert_type(each.ok, bool)
        assert not assert_type(each.existed, bool)
    batch = assert_type(client.create_batch("Spring"), Batch)
    assert_type(client.create_batch("Spring", exist_ok=True), Batch)
    assert_type(client.update_batch(batch.id, name="Summer"), Batch)
    assert_type(batch.update(name="Autumn"), Batch)


def test_public_types_of_exports(sandbox: Sandbox, client: cfplatform.Client, tmp_path: Path) -> None:
    sandbox.export_seconds = 0
    export = assert_type(client.create_export("Nightly", batch_ids=[1001]), Export)
    assert_type(export.wait(timeout=5, poll_interval=0.5), Export)
    assert_type(client.wait_for_export(export.id), Export)
    assert_type(client.get_export(export.id), Export)
    assert_type(client.get_exports(format="COCO_JSON"), Iterator[Export])
    assert_type(export.status, str | None)
    assert_type(export.created_at, datetime | None)
    assert_type(export.is_final, bool)
    assert_type(export.as_dict(), types.ExportData)
    path = assert_type(export.download(tmp_path, progress=lambda done, total: None), Path)
    assert_type(client.download_export(export.id, str(tmp_path), extract=True), Path)
    member = assert_type(next(export.iter_members("*.json", destination=tmp_path)), archives.ArchiveMember)
    assert_type(member.size, int)
    assert_type(member.read(), bytes)
    assert_type(member.json(), dict[str, Any])
    assert_type(archives.iter_members(path), Iterator[archives.ArchiveMember])
    assert_type(archives.verify(path), archives.ArchiveInfo)
    assert_type(archives.check(path).total_bytes, int)
    assert_type(archives.extract(path, tmp_path / "unpacked"), Path)
    client.delete_export(export.id)


def test_public_types_of_pictures(client: cfplatform.Client, tmp_path: Path) -> None:
    client.download_project(destination=tmp_path, assets=True)
    item = next(client.get_work_items())
    assert_type(item.plot(labels=False, colours={"star": (1, 2, 3)}), Image)
    assert_type(viz.draw(item.load(), tmp_path / "none.png" if item.asset_url is None else None), Image)
    written = assert_type(write_report(tmp_path, samples=2, batches=client.get_batches()), ReportSummary)
    assert_type(written.path, Path)
    if TYPE_CHECKING:
        item.plot(lables=False)  # type: ignore[call-arg]


def test_public_types_of_merge_and_split(client: cfplatform.Client, tmp_path: Path) -> None:
    merged = assert_type(coco.merge(client.iter_annotations(), tmp_path / "merged.json"), coco.MergeSummary)
    assert_type(merged.output, Path)
    assert_type(merged.problems, list[coco.Finding])
    documents = [document.data for document in coco.read(str(merged.output))]
    divided = assert_type(coco.split(documents, tmp_path, {"train": 0.5, "val": 0.5}), coco.SplitSummary)
    assert_type(divided.parts["train"], coco.Part)
    coco.split(merged.output, str(tmp_path), {"train": ["a"], "val": ("b",)}, on_error=print)


def test_public_types_of_webhooks() -> None:
    def is_mine(event: WebhookEvent) -> bool:
        return event.status == "COMPLETED"

    signer, message = Signer(), Message()
    verifier = WebhookVerifier(keys=key_set(signer), clock=Clock(), expected=is_mine, seen=RecentDeliveries())
    WebhookVerifier(expected={"item-1"}, tolerance=60)
    body, headers = signer.deliver()
    for name, value in headers.items():
        message[name] = value
    event = assert_type(verifier.verify(body, message), WebhookEvent)
    for form in (headers, {name: value.encode() for name, value in headers.items()}):
        assert WebhookVerifier(keys=key_set(signer), clock=Clock()).verify(body, form) == event
    assert_type(event.delivered_at, datetime)
    assert_type(event.updated_at, datetime | None)
    assert_type(event.as_dict(), types.WebhookEventData)


def test_public_types_of_the_drop_in(sandbox: Sandbox, tmp_path: Path) -> None:
    async def in_a_task() -> None:
        async with compat.CFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as client:
            summary = await client.download_project(sandbox.project_id, sandbox.space_id, tmp_path)
            assert_type(summary, compat.DownloadSummary)

    with compat.SyncCFUserClient.create_with_api_key(sandbox.api_key, base_url=sandbox.base_url) as client:
        assert_type(client, compat.SyncCFUserClient)
        summary = client.download_project(sandbox.project_id, sandbox.space_id, str(tmp_path), [1001], limit=10)
        assert_type(summary.results, list[compat.DownloadResult])
        assert_type(summary.results[0].file_path, str | None)
        assert_type(summary.model_dump(mode="json"), dict[str, Any])
        export = assert_type(client.create_export(sandbox.space_id, "typed", format="CSV"), compat.ExportResponse)
        assert_type(client.list_exports(sandbox.space_id).meta, compat.KeysetPaginationMeta | None)
        assert_type(client.download_export_file(sandbox.space_id, export.export_id, tmp_path), str)
        client.delete_export(sandbox.space_id, str(export.export_id))
    asyncio.run(in_a_task())
