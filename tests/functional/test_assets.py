"""Downloads with assets: layout, bytes, request counts, repeated runs, and faults."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import pytest
import requests

from cfplatform import (
    BadRequestError,
    ConfigurationError,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    UnsafePathError,
    iter_downloaded,
)
from tests.faults.tools import parts, tree
from tests.http.scripted import Answer, ScriptedServer, raw, said

PICTURE = b"\x89PNG\r\n" + bytes(range(256)) * 800


@pytest.fixture
def serve():
    servers = []

    def make(*answers, default=None):
        servers.append(ScriptedServer(*answers, default=default))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def point_to(sandbox, item, url):
    sandbox.patch_work_item_json(item, {"assetUrl": url})


def left_over(root):
    """What a run keeps for a later one."""
    folder = root / ".cfplatform" / "resume"
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.parametrize("absolute", [False, True], ids=["in the space", "on the web"])
def test_pictures_lie_beside_their_labels_as_served(make_sandbox, tmp_path, absolute):
    sandbox = make_sandbox(items=60, batches=3, absolute_assets=absolute)
    with sandbox.client(max_workers=8) as client:
        names = {batch.id: batch.name for batch in client.get_batches()}
        items = {item.id: item for item in client.get_work_items()}
        sandbox.clear_requests()
        summary = client.download_project(destination=tmp_path, assets=True)
    files = tree(tmp_path)
    expected = {f"{names[item.batch_id]}/{item.id}.json" for item in items.values()}
    expected |= {f"{names[item.batch_id]}/assets/{item.id}.png" for item in items.values()}
    assert set(files) == expected
    for result in summary.results:
        assert result.asset_path.read_bytes() == sandbox.asset(result.item_id)
        assert result.asset_size == len(sandbox.asset(result.item_id))
        document = json.loads(result.path.read_bytes())
        # The platform's name of the image is kept.
        assert document["images"] == json.loads(sandbox.document(result.item_id))["images"]
    assert (summary.successful, summary.bytes) == (60, sum(map(len, files.values())))
    counts = sandbox.counts
    assert counts["annotations"] == 60
    # Signed together with the documents: no more requests than those need.
    assert counts["signing"] <= 3
    assert counts["storage"] == (60 if absolute else 120)
    assert counts["assets"] == (60 if absolute else 0)
    assert sandbox.leaks == 0
    assert parts(tmp_path) == left_over(tmp_path) == []


def test_a_second_run_fetches_only_what_is_missing(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path)
    sandbox.clear_requests()
    first = client.download_project(destination=tmp_path, assets=True)
    # The annotations exist already, so only images are fetched.
    assert (first.successful, sandbox.counts["storage"]) == (20, 20)
    assert first.bytes == sum(len(sandbox.asset(item)) for item in sandbox.work_item_ids())
    sandbox.clear_requests()
    again = client.download_project(destination=tmp_path, assets=True)
    assert (again.skipped, again.bytes) == (20, 0)
    assert {kind: number for kind, number in sandbox.counts.items() if number} == {"work_items": 1, "batches": 1}
    gone, edited, changed = (result.asset_path for result in list(again.results)[:3])
    gone.unlink()
    edited.write_bytes(b"edited")
    changed_item = changed.stem
    point_to(sandbox, changed_item, sandbox.work_item(gone.stem)["assetUrl"])
    sandbox.clear_requests()
    repaired = client.download_project(destination=tmp_path, assets=True)
    assert (repaired.successful, repaired.skipped, sandbox.counts["storage"]) == (3, 17, 3)
    assert edited.read_bytes() == sandbox.asset(edited.stem)
    assert changed.read_bytes() == gone.read_bytes() == sandbox.asset(gone.stem)
    assert client.download_project(destination=tmp_path, assets=True, overwrite=True).successful == 20
    # Without the option images are not touched.
    gone.unlink()
    assert client.download_project(destination=tmp_path).skipped == 20
    assert not gone.exists()


def test_a_known_space_saves_the_annotation_where_only_the_picture_is_missing(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path)
    sandbox.clear_requests()
    client.download_project(destination=tmp_path, assets=True, space_id=sandbox.space_id)
    assert sandbox.counts["annotations"] == 0
    assert sandbox.counts["storage"] == 20


def test_pictures_move_with_their_batch(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path, assets=True)
    before = tree(tmp_path)
    sandbox.rename_batch(1001, "Renamed")
    client.download_project(destination=tmp_path, assets=True)
    after = tree(tmp_path)
    assert len(after) == len(before) == 40
    assert len([name for name in after if name.startswith("Renamed/assets/")]) == 10
    assert {name.rsplit("/", 1)[1] for name in after} == {name.rsplit("/", 1)[1] for name in before}


def test_an_item_without_an_asset_is_complete_without_it(sandbox, client, tmp_path):
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, None)
    summary = client.download_project(destination=tmp_path, assets=True)
    assert (summary.successful, summary.failed) == (20, 0)
    (result,) = [result for result in summary.results if result.item_id == item]
    assert (result.asset_path, result.asset_size) == (None, 0)
    assert client.download_project(destination=tmp_path, assets=True).skipped == 20


def test_the_label_stays_where_its_picture_fails(sandbox, client, tmp_path):
    item = next(sandbox.work_item_ids())
    sandbox.fail_next(404, times=None, path="/storage/*assets*" + sandbox.work_item(item)["assetUrl"].split("/")[-1])
    summary = client.download_project(destination=tmp_path, assets=True)
    (failure,) = summary.failures
    assert failure.item_id == item
    assert isinstance(failure.error, NotFoundError)
    assert "assets/" in str(failure.error)
    assert len(list(tmp_path.glob("*/*.json"))) == 20
    sandbox.clear_faults()
    sandbox.clear_requests()
    repaired = client.download_project(destination=tmp_path, assets=True)
    assert (repaired.successful, repaired.skipped, sandbox.counts["storage"]) == (1, 19, 1)


@pytest.mark.parametrize(
    ("asset_url", "kind"),
    [
        ("s3://bucket/spaces/another/assets/1", DownloadError),
        ("../../outside", UnsafePathError),
        ("ftp://host/picture.png", DownloadError),
        ("https://user:pw@host.example/p.png", InvalidResponseError),
        ("http://[::1", InvalidResponseError),
    ],
)
def test_an_asset_at_a_place_that_cannot_be_is_not_asked_for(sandbox, client, tmp_path, asset_url, kind):
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, asset_url)
    summary = client.download_project(destination=tmp_path, assets=True)
    (failure,) = summary.failures
    assert type(failure.error) is kind
    assert "pw" not in str(failure.error)
    assert sandbox.counts["storage"] == 20 + 19
    assert len(list(tmp_path.glob("*/*.json"))) == 20


def test_a_web_page_in_place_of_a_picture_is_refused(sandbox, client, tmp_path):
    item = next(sandbox.work_item_ids())
    sandbox.html_next(None, path="/storage/*" + sandbox.work_item(item)["assetUrl"].split("/")[-1])
    (failure,) = client.download_project(destination=tmp_path, assets=True).failures
    assert isinstance(failure.error, InvalidResponseError)
    assert "HTML page instead of the asset" in str(failure.error)
    assert not list(tmp_path.glob(f"*/assets/{item}*"))


@pytest.mark.parametrize(
    ("path", "media_type", "extension"),
    [
        ("/p/picture.JPG?token=1", "image/png", ".JPG"),
        ("/p/picture", "image/jpeg; charset=x", ".jpg"),
        ("/p/picture", "video/mp4", ".mp4"),
        ("/p/picture.not-an-extension", "", ".bin"),
        ("/p/picture.e/", "x/y", ".bin"),
    ],
)
def test_the_extension_is_that_of_the_place_or_of_the_media_type(
    sandbox, client, serve, tmp_path, path, media_type, extension
):
    server = serve(raw(200, PICTURE, *([f"Content-Type: {media_type}"] if media_type else [])))
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, server.origin + path)
    place = client.get_work_item(item).download_asset(tmp_path)
    assert place.name == item + extension
    assert place.read_bytes() == PICTURE
    (request,) = server.requests
    assert request.target == path
    assert not request.names & {"x-api-key", "authorization", "cookie", "range"}
    assert request.values("Accept-Encoding") == ["identity"]


def test_a_picture_that_was_cut_is_continued_in_the_same_run(sandbox, client, serve, tmp_path):
    half = len(PICTURE) // 2
    etag = 'ETag: "one"'
    server = serve(
        Answer(raw(200, PICTURE[:half], f"Content-Length: {len(PICTURE)}", etag), end="close"),
        raw(206, PICTURE[half:], f"Content-Range: bytes {half}-{len(PICTURE) - 1}/{len(PICTURE)}", etag),
    )
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, f"{server.origin}/p.png")
    assert client.get_work_item(item).download_asset(tmp_path).read_bytes() == PICTURE
    assert server.requests[1].values("Range") == [f"bytes={half}-"]
    assert server.requests[1].values("If-Range") == ['"one"']


def test_a_picture_that_was_cut_is_continued_in_a_later_run(make_sandbox, serve, tmp_path):
    sandbox = make_sandbox(items=3)
    half = len(PICTURE) // 2
    etag = 'ETag: "one"'
    server = serve(Answer(raw(200, PICTURE[:half], f"Content-Length: {len(PICTURE)}", etag), end="close"))
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, f"{server.origin}/p.png")
    with sandbox.client(retries=0) as client:
        work_item = client.get_work_item(item)
        # Received data is kept: no fault is set for the second request.
        with pytest.raises(BadRequestError, match="nothing planned"):
            work_item.download_asset(tmp_path)
        assert left_over(tmp_path) != []
        server.plan(raw(206, PICTURE[half:], f"Content-Range: bytes {half}-{len(PICTURE) - 1}/{len(PICTURE)}", etag))
        assert work_item.download_asset(tmp_path).read_bytes() == PICTURE
    assert server.requests[-1].values("Range") == [f"bytes={half}-"]
    assert left_over(tmp_path) == []


def test_signed_addresses_of_pictures_may_expire(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=40, url_lifetime=1)
    sandbox.latency = 0.05
    with sandbox.client(max_workers=2) as client:
        summary = client.download_project(destination=tmp_path, assets=True)
    assert [str(failure.error) for failure in summary.failures] == []
    assert summary.successful == 40
    assert 403 in {request.status for request in sandbox.requests}


def test_an_address_with_a_signature_of_its_own_is_shown_nowhere(sandbox, client, serve, tmp_path, caplog):
    caplog.set_level("DEBUG")
    server = serve(default=raw(403, b"no"))
    item = next(sandbox.work_item_ids())
    point_to(sandbox, item, f"{server.origin}/p.png?sig=SENTINEL-SIGNATURE")
    (failure,) = client.download_project(destination=tmp_path, assets=True).failures
    assert "SENTINEL" not in str(failure.error) + repr(failure) + caplog.text
    for path in (tmp_path / ".cfplatform").rglob("*"):
        assert not path.is_file() or b"SENTINEL" not in path.read_bytes()


def test_one_picture_is_saved_where_a_whole_run_would_save_it(sandbox, client, tmp_path):
    item = next(client.get_work_items())
    place = item.download_asset(tmp_path)
    assert place.read_bytes() == sandbox.asset(item.id)
    sandbox.clear_requests()
    assert item.download_asset(str(tmp_path)) == place
    assert sandbox.counts["storage"] == 0
    assert item.download_asset(tmp_path, overwrite=True) == place
    assert sandbox.counts["storage"] == 1
    assert not list(tmp_path.glob("*/*.json"))
    summary = client.download_project(destination=tmp_path, assets=True)
    assert summary.successful == 20
    assert place in {result.asset_path for result in summary.results}


def test_a_picture_of_an_item_without_labels_needs_the_space(sandbox, client, tmp_path):
    item = next(client.get_work_items())
    sandbox.set_annotation(item.id, None)
    with sandbox.client(space_id=sandbox.space_id) as knowing:
        assert knowing.get_work_item(item.id).download_asset(tmp_path).exists()
    bare = type(item)({"id": "x", "assetUrl": None}, client, sandbox.project_id)
    with pytest.raises(DownloadError, match="has no asset"):
        bare.download_asset(tmp_path)
    with pytest.raises(ConfigurationError, match="has no client"):
        type(item)({"id": "x", "assetUrl": "assets/1"}).download_asset(tmp_path)


def test_what_lies_in_a_folder_can_be_read_from_its_state(sandbox, client, tmp_path):
    with pytest.raises(DownloadError, match="Could not read the downloaded items"):
        list(iter_downloaded(tmp_path))
    client.download_project(destination=tmp_path, assets=True, batch_ids=[1001])
    client.download_project(destination=tmp_path, batch_ids=[1002])
    found = list(iter_downloaded(tmp_path))
    assert {item.item_id for item in found} == set(sandbox.work_item_ids())
    assert {item.project_id for item in found} == {sandbox.project_id}
    assert all(item.path.is_file() for item in found)
    assert len([item for item in found if item.asset_path and item.asset_path.is_file()]) == 10
    next(client.get_work_items()).download_asset(tmp_path / "pictures")
    (alone,) = iter_downloaded(str(tmp_path / "pictures"))
    assert alone.path is None
    assert alone.asset_path.is_file()


@pytest.mark.parametrize("planted", ["folder", "file"])
def test_a_link_in_the_way_of_a_picture_leads_nowhere(sandbox, client, tmp_path, planted):
    root, outside = tmp_path / "labels", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    first = client.download_project(destination=root, assets=True)
    asset = next(iter(first.results)).asset_path
    asset.unlink()
    if planted == "folder":
        for each in asset.parent.iterdir():
            each.unlink()
        asset.parent.rmdir()
        asset.parent.symlink_to(outside)
        summary = client.download_project(destination=root, assets=True)
        assert {type(failure.error) for failure in summary.failures} == {UnsafePathError}
    else:
        asset.symlink_to(outside / "kept")
        assert client.download_project(destination=root, assets=True).failed == 0
        assert not asset.is_symlink()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"kept": b"kept"}


def test_threads_may_fetch_the_same_pictures_into_one_folder(sandbox, client, tmp_path):
    items = list(client.get_work_items())
    threads = [
        threading.Thread(target=client.download_work_items, args=(items, tmp_path), kwargs={"assets": True})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for item in items:
        (place,) = Path(tmp_path).glob(f"*/assets/{item.id}.*")
        assert place.read_bytes() == sandbox.asset(item.id)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_option_is_on_or_off(sandbox, client, tmp_path, value):
    with pytest.raises(InvalidParameterError, match="assets must be True or False"):
        client.download_project(destination=tmp_path, assets=value)
    assert sandbox.requests == []


# --- Without a folder: bytes, files and signed URLs


@pytest.mark.parametrize("absolute", [False, True], ids=["in the space", "on the web"])
def test_an_asset_can_be_loaded_as_bytes_or_as_a_file(make_sandbox, tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    sandbox = make_sandbox(items=3, batches=1, absolute_assets=absolute)
    with sandbox.client() as client:
        for item in client.get_work_items():
            stored = sandbox.asset(item.id)
            assert item.load_asset() == stored
            with item.load_asset(stream=True) as file:
                assert file.read(4) == stored[:4]
                file.seek(0)
                assert file.read() == stored
            assert file.closed
    assert list(tmp_path.iterdir()) == []
    assert sandbox.counts["assets" if absolute else "storage"] == 6


def test_an_asset_is_loaded_as_it_is_stored_and_complete_whatever_breaks(sandbox, client, serve):
    volume = gzip.compress(PICTURE)
    cut = Answer(raw(200, PICTURE, f"Content-Length: {len(PICTURE) + 9}"), end="close")
    server = serve(
        raw(200, volume, "Content-Encoding: gzip", "Content-Type: application/gzip"),
        cut,
        raw(200, b"<html>", "Content-Type: text/html"),
        raw(200, PICTURE),
        default=raw(403, b"no"),
    )
    point_to(sandbox, 0, f"{server.origin}/scan.nii.gz")
    item = next(client.get_work_items())
    assert item.load_asset() == volume
    with item.load_asset(stream=True) as file:
        assert file.read() == PICTURE
    for stream in (False, True):
        with pytest.raises(PermissionDeniedError):
            item.load_asset(stream=stream)
    assert server.requests[0].names.isdisjoint({"x-api-key", "authorization"})


def test_the_signed_url_of_an_asset_is_renewed_where_it_expired(sandbox, client):
    item = next(client.get_work_items())
    expired = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    sandbox.fail_next(403, times=2, path="/storage/*", body=expired)
    assert item.load_asset() == sandbox.asset(item.id)
    assert sandbox.counts["signing"] == 3


def test_what_an_asset_needs_is_said(make_sandbox):
    sandbox = make_sandbox(items=2, batches=1)
    sandbox.set_annotation(0, None)
    sandbox.patch_work_item_json(1, {"assetUrl": None})
    with sandbox.client(space_id=None) as client:
        first, second = client.get_work_items()
        with pytest.raises(DownloadError, match="has no COCO document"):
            first.load_asset()
        with pytest.raises(DownloadError, match="has no asset"):
            second.load_asset()
        with pytest.raises(InvalidParameterError, match="stream must be True or False"):
            first.load_asset(stream=1)
    with sandbox.client() as client:
        assert next(client.get_work_items()).load_asset() == sandbox.asset(0)


def test_a_document_can_be_loaded_as_bytes(sandbox, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    served = b'\xef\xbb\xbf {"images": [ ],\r\n "info": {"asset_url": "other"}} '
    sandbox.update_work_item(0, document=served)
    large = b'{"images": [], "x": "' + b"y" * (9 * 1024 * 1024) + b'"}'
    sandbox.update_work_item(1, document=large)
    items = list(client.get_work_items())
    assert items[0].load_bytes() == served
    assert items[1].load_bytes() == large
    assert items[2].load_bytes() == sandbox.document(2)
    for document in (b"<!DOCTYPE html>", b"[1, 2]", b'{"a": ', large[:-1]):
        sandbox.update_work_item(3, document=document)
        with pytest.raises(InvalidResponseError, match="not one complete JSON object"):
            items[3].load_bytes()
    sandbox.set_annotation(4, None)
    with pytest.raises(DownloadError, match="has no COCO document"):
        items[4].load_bytes()
    assert list(tmp_path.iterdir()) == []


def test_any_number_of_paths_is_signed_a_thousand_at_a_time(sandbox, client):
    items = list(client.get_work_items())
    paths = [item.asset_url for item in items] + [f"uploads/{number}.bin" for number in range(2_200)]
    urls = client.get_signed_urls(iter([*paths, *paths]))
    assert list(urls) == paths
    sizes = [len(json.loads(request.body)["paths"]) for request in sandbox.requests if request.route == "signing"]
    assert sizes == [1000, 1000, 220]
    assert requests.get(urls[items[0].asset_url], timeout=5).content == sandbox.asset(items[0].id)
    # A complete path names its space.
    result = items[0].get_annotation().coco_results_url
    (url,) = client.get_signed_urls([result]).values()
    assert requests.get(url, timeout=5).content == sandbox.document(items[0].id)


def test_what_cannot_be_signed_is_refused(sandbox, client):
    sandbox.clear_requests()
    for paths, error, words in (
        ("one/path", InvalidParameterError, r"paths must be a list of paths, not str\. .* pass paths=\[\.\.\.\]"),
        ([""], InvalidParameterError, "is not a valid storage path"),
        ([5], InvalidParameterError, "is not a valid storage path"),
        (["a/../b"], UnsafePathError, "points outside its space"),
        (["s3://bucket/elsewhere"], DownloadError, "has no space ID"),
        (["s3://bucket/spaces/another/o.json"], DownloadError, "is in space 'another'"),
    ):
        with pytest.raises(error, match=words):
            client.get_signed_urls(paths, sandbox.space_id)
    with sandbox.client(space_id=None) as bare, pytest.raises(ConfigurationError, match="No space"):
        bare.get_signed_urls(["a/b"])
    assert client.get_signed_urls([], sandbox.space_id) == {}
    assert sandbox.requests == []


def test_the_first_path_that_is_not_signed_is_named(serve, connect):
    def sign(request):
        paths = json.loads(request.body)["paths"]
        items = [{"path": path, "signedUrl": f"https://s.example/{path}"} for path in paths if "x" not in path]
        return said({"items": items})

    server = serve(default=Answer(sign))
    client = connect(server, space_id="s")
    assert client.get_signed_urls(["a"]) == {"a": "https://s.example/a"}
    with pytest.raises(DownloadError, match="no signed URL for 'x1'"):
        client.get_signed_urls(["a", "x1", "x2"])
