"""Streaming documents with a small memory budget."""

from __future__ import annotations

import json

import pytest

from cfplatform.transfer import streaming


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("prefetch_bytes", [1, 20_000, 10**9])
def test_every_document_comes_however_little_room_there_is(make_sandbox, ordered, prefetch_bytes):
    sandbox = make_sandbox(items=60, batches=2)
    ids = list(sandbox.work_item_ids())
    large = json.dumps({"info": {}, "images": [{"id": n} for n in range(3000)]}).encode()
    for item_id in ids[::7]:
        sandbox.update_work_item(item_id, document=large)
    sandbox.fail_next(503, times=2, path=f"*{ids[0]}*")
    sandbox.set_annotation(ids[20], None)
    failed = []
    with sandbox.client(max_workers=8) as client:
        found = streaming.parsed_documents(
            client._calls,
            client.get_work_items(),
            space_id=None,
            workers=8,
            patience=600,
            ordered=ordered,
            on_error=lambda item, error: failed.append(item.id),
            prefetch_bytes=prefetch_bytes,
        )
        sizes = {item.id: len(document["images"]) for item, document in found}
    assert failed == [ids[20]]
    assert sorted(sizes) == sorted(set(ids) - {ids[20]})
    assert {item_id for item_id, size in sizes.items() if size == 3000} == set(ids[::7])
    if ordered:
        assert list(sizes) == [item_id for item_id in ids if item_id != ids[20]]
    if prefetch_bytes == 10**9:
        assert sandbox.counts["storage"] == 59
