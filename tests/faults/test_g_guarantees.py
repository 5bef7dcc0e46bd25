"""Every listed item has a result with any mix of faults, and nothing grows with the project."""

from __future__ import annotations

import json
import random
import sys
import time

import pytest

from cfplatform import CFPlatformError, DownloadError
from tests.faults.tools import parts, run, start, tree

LOST = (
    lambda sandbox, item: sandbox.set_annotation(item, None),
    lambda sandbox, item: sandbox.set_annotation(item, {"coco_results_url": "s3://b/spaces/other/coco_output/x.json"}),
    lambda sandbox, item: sandbox.fail_next(404, times=None, path=f"*{item}/annotations"),
    lambda sandbox, item: sandbox.fail_next(403, times=None, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.fail_next(418, times=None, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.truncate_next(None, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.html_next(None, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.update_work_item(item, document=b'{"images": ['),
    lambda sandbox, item: sandbox.update_work_item(item, document=b"[]"),
)
PASSING = (
    lambda sandbox, item: sandbox.fail_next(503, times=2, path=f"*{item}/annotations"),
    lambda sandbox, item: sandbox.fail_next(429, path=f"*{item}/annotations", headers={"Retry-After": "0"}),
    lambda sandbox, item: sandbox.reset_next(2, path=f"*{item}*"),
    lambda sandbox, item: sandbox.truncate_next(1, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.html_next(1, path=f"/storage/*{item}*"),
    lambda sandbox, item: sandbox.fail_next(403, path=f"/storage/*{item}*", body="Request has expired"),
    lambda sandbox, item: sandbox.patch_work_item_json(item, {"batchId": None}),
    lambda sandbox, item: sandbox.patch_work_item_json(item, {}, remove=["updatedAt"]),
)


@pytest.mark.parametrize("seed", range(4))
def test_g02_every_item_is_accounted_for_under_any_mix_of_faults(make_sandbox, tmp_path, seed):
    dice = random.Random(seed)
    sandbox = make_sandbox(items=120, batches=3, overlap=dice.randrange(5), seed=seed)
    ids = list(sandbox.work_item_ids())
    chosen = dice.sample(ids, 40)
    lost, passing = set(chosen[:20]), chosen[20:]
    for item in lost:
        dice.choice(LOST)(sandbox, item)
    for item in passing:
        dice.choice(PASSING)(sandbox, item)
    with sandbox.client(max_workers=dice.choice([1, 4, 16]), retries=3) as client:
        for run in range(2):
            summary = client.download_project(destination=tmp_path)
            results = list(summary.results)
            assert summary.total_items == summary.successful + summary.skipped + summary.failed == len(results) == 120
            assert sorted(result.item_id for result in results) == sorted(ids)
            assert {result.item_id for result in results if result.outcome == "failed"} == lost
            assert {result.item_id for result in summary.failures} == lost
            assert summary.skipped == (0 if run == 0 else 100)
            for result in results:
                assert (result.error is not None) == (result.outcome == "failed") == (result.path is None)
                assert result.error is None or isinstance(result.error, CFPlatformError)
            written = {result.path.relative_to(tmp_path).as_posix() for result in results if result.path}
            assert set(tree(tmp_path)) == written
            assert parts(tmp_path) == []
            with pytest.raises(DownloadError) as caught:
                summary.raise_for_failures()
            assert len(caught.value.failures) == len(lost)
    for path, content in tree(tmp_path).items():
        served = json.loads(sandbox.document(path.rsplit("/", 1)[1].removesuffix(".json")))
        assert json.loads(content)["annotations"] == served["annotations"]


def test_g02_results_that_are_not_kept_any_more_are_an_error_and_not_nothing(sandbox, client, tmp_path):
    sandbox.set_annotation(3, None)
    first = client.download_project(destination=tmp_path)
    assert len(list(first.results)) == 20
    for _ in range(3):
        last = client.download_project(destination=tmp_path)
    for read in (lambda: list(first.results), lambda: first.failures, first.raise_for_failures):
        with pytest.raises(DownloadError, match="has 0 of .* it keeps the results of the last 3 runs"):
            read()
    assert len(list(last.results)) == 20
    assert len(last.failures) == 1


def test_g02_an_empty_run_has_no_results_and_no_error(sandbox, client, tmp_path):
    summary = client.download_project(destination=tmp_path, batch_ids=[])
    assert list(summary.results) == []
    assert summary.failures == []


SOCKETS = """
import os, sys
from cfplatform import Client

def sockets():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    return sum(link.startswith("socket:") for link in links)

most = 0
def look(done, total):
    global most
    most = max(most, sockets())

with Client(max_workers=8) as client:
    summary = client.download_project(destination=sys.argv[1], progress=look)
print(summary.successful, most)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open sockets are counted in /proc")
def test_g07_open_sockets_are_bounded_by_the_workers(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=400, batches=2)
    code, out, err = run(sandbox, SOCKETS, tmp_path)
    assert (code, err) == (0, "")
    downloaded, most = map(int, out.split())
    assert downloaded == 400
    # Each worker keeps a connection to the API and one to the storage; the listing and the signing keep one each.
    assert 2 <= most <= 2 * 8 + 2


LISTING = """
import resource
from cfplatform import Client

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with Client() as client:
    items = client.get_work_items()
    next(items)
    before, count = peak(), 1
    for count, item in enumerate(items, 2):
        pass
print(count, before, peak())
"""


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_g07_a_million_items_are_listed_in_flat_memory(make_sandbox):
    sandbox = make_sandbox(items=1_000_000, batches=5)
    began = time.monotonic()
    with start(sandbox, LISTING) as process:
        out, err = process.communicate(timeout=1700)
    assert (process.returncode, err) == (0, "")
    count, before, peak = map(int, out.split())
    print(f"\n{count} items listed in {time.monotonic() - began:.0f} s; {before} MB after the first, {peak} MB at most")
    assert count == 1_000_000
    assert peak - before < 150
