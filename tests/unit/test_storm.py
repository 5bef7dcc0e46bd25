"""One response in ten is a fault of some kind."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from cfplatform.sandbox.faults import Fault
from tests.faults.tools import parts, tree

EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


def reject(status, retry_after=None):
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda: Fault("fail", status=status, headers=headers)


ANYWHERE = {
    "reset": lambda: Fault("reset"),
    "cut": lambda: Fault("truncate"),
    "drip": lambda: Fault("drip"),
    "429": reject(429, "0"),
    "500": reject(500),
    "503": reject(503),
    "late": lambda: None,
}
STORAGE = {
    **ANYWHERE,
    "expired": lambda: Fault("fail", status=403, body=EXPIRED, content_type="application/xml"),
    "html": lambda: Fault("html"),
}


class Storm:
    """Chooses the fault of each answer, in place of the sandbox's plan.

    The choice depends on the seed, the path and how often it was asked for, so that threads that overtake each other
    change nothing. A web page comes once for each path, since a second one is final by design, and no path meets more
    than three faults in a row, since five repeats are the limit.
    """

    def __init__(self, seed, rate=0.1, late=0.05):
        self._seed, self._rate, self._late = seed, rate, late
        self._lock = threading.Lock()
        self._asked = Counter()
        self._in_a_row = Counter()
        self._paged = set()
        self.kinds = Counter()
        #: Paths of which a whole, right answer was sent, and how often.
        self.answered = Counter()

    def take(self, method, path, kind_of_endpoint):
        with self._lock:
            self._asked[path] += 1
            dice = random.Random(f"{self._seed} {method} {path} {self._asked[path]}")
            kind = None
            if dice.random() < self._rate and self._in_a_row[path] < 3:
                kind = dice.choice(sorted(STORAGE if path.startswith("/storage") else ANYWHERE))
                # Each pauses all workers for a second, so there are few of them.
                if kind == "429" and dice.random() < 0.05:
                    kind = "429 after 1 s"
            # Each holds a worker until the read timeout.
            if kind == "drip" and dice.random() < 0.5:
                kind = "cut"
            if kind == "html":
                kind = "reset" if path in self._paged else kind
                self._paged.add(path)
            self._in_a_row[path] = self._in_a_row[path] + 1 if kind not in (None, "late") else 0
            self.kinds[kind] += 1
            if kind in (None, "late"):
                self.answered[path] += 1
        if kind == "429 after 1 s":
            return reject(429, "1")()
        if kind == "late":
            # The sandbox answers on one thread, so everybody waits: that is what a stalled network looks like.
            time.sleep(self._late)
        return None if kind is None else STORAGE[kind]()


def weather(make_sandbox, tmp_path, items, seed, workers=16, patience=1.5):
    """Download a project in fair weather and in a storm, compare, and print the figures.

    ``patience`` is the read timeout in seconds: short, since each drip holds a worker for that long, yet long enough
    for a right answer while all workers are waiting for theirs.
    """
    sandbox = make_sandbox(items=items, batches=4, seed=seed)
    with sandbox.client(max_workers=workers) as client:
        client.download_project(destination=tmp_path / "calm").raise_for_failures()
    calm, calm_counts = tree(tmp_path / "calm"), sandbox.counts
    assert len(calm) == items
    storm = Storm(seed, late=0.02)
    sandbox._platform.faults = storm
    sandbox.clear_requests()
    began = time.monotonic()
    seen = []
    with sandbox.client(max_workers=workers, timeout=(10, patience)) as client:
        summary = client.download_project(
            destination=tmp_path / "storm", progress=lambda done, total: seen.append((done, total))
        )
    elapsed = time.monotonic() - began
    counts = sandbox.counts
    faults = sum(number for kind, number in storm.kinds.items() if kind not in (None, "late"))
    print(
        f"\n{items} items, {workers} workers, {elapsed:.1f} s: {sum(counts.values())} requests "
        f"(calm: {sum(calm_counts.values())}), {faults} faults {dict(sorted(storm.kinds.items(), key=str))}"
    )
    assert [str(failure.error) for failure in summary.failures] == []
    assert (summary.total_items, summary.successful, summary.skipped, summary.failed) == (items, items, 0, 0)
    results = list(summary.results)
    assert sorted(result.item_id for result in results) == sorted(sandbox.work_item_ids())
    assert tree(tmp_path / "storm") == calm
    assert parts(tmp_path / "storm") == []
    assert summary.bytes == sum(map(len, calm.values()))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == items
    # Nobody fetches what arrived already.
    fetched = {path: number for path, number in storm.answered.items() if path.startswith("/storage")}
    assert len(fetched) == items
    assert set(fetched.values()) == {1}
    # A request for each request of a calm run, one for each fault, and the signatures for URLs that ran out.
    assert faults > sum(counts.values()) / 20
    renewed = storm.kinds["expired"]
    assert sum(counts.values()) <= sum(calm_counts.values()) + faults + renewed + 10
    with sandbox.client(max_workers=workers, timeout=(10, patience)) as client:
        again = client.download_project(destination=tmp_path / "storm")
    assert (again.skipped, again.failed) == (items, 0)


@pytest.mark.parametrize("items", [250, pytest.param(2000, marks=pytest.mark.stress)])
def test_storm_of_mixed_faults_loses_nothing(make_sandbox, tmp_path, items):
    weather(make_sandbox, tmp_path, items, seed=1)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(2, 5))
def test_storm_that_lasts(make_sandbox, tmp_path, seed):
    weather(make_sandbox, tmp_path, 20_000, seed=seed, workers=64, patience=4)
