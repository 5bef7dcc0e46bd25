"""The worker pool: number of threads."""

from __future__ import annotations

import threading
import time

import pytest

from cfplatform.transfer.pool import Pool

WORKERS = 16


class Job:
    index = -1
    error = None


def threads_of(task, jobs):
    """Run a task for each of some jobs; return the number of threads that did it."""
    seen = set()
    pool = Pool(WORKERS, list, 1, window=jobs, concerns_all=lambda job, error: True)

    def work(jobs):
        seen.add(threading.get_ident())
        task()
        pool.finish(*jobs)

    finished = list(pool.run((Job() for _ in range(jobs)), lambda job: pool.submit(work, [job])))
    assert len(finished) == jobs
    return len(seen)


def compute():
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("wait", [0.02, 0.05])
def test_all_workers_are_used_where_each_task_waits(wait):
    assert threads_of(lambda: time.sleep(wait), 6 * WORKERS) == WORKERS


def test_threads_that_compute_are_not_joined_by_others(monkeypatch):
    # Measured by the processor time of this process, so that a busy machine looks like an idle one.
    monkeypatch.setattr(time, "monotonic", time.process_time)
    assert threads_of(compute, 200) == 1


def test_workers_are_started_when_tasks_begin_to_wait():
    started = time.monotonic()

    def task():
        if time.monotonic() - started < 0.4:
            compute()
        else:
            time.sleep(0.05)

    assert threads_of(task, 600) == WORKERS
