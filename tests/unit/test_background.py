"""Calls in separate threads."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from cfplatform.http.background import Background


def started(call):
    return Background(call, "test")


def test_the_outcome_is_that_of_the_call_and_comes_from_another_thread():
    names = []

    def call(stop):
        names.append(threading.current_thread().name)
        assert threading.current_thread().daemon
        return 5

    assert started(call).result() == 5
    assert names == ["cfplatform-test"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_is_raised_reaches_who_waits(error):
    def call(stop):
        raise error

    with pytest.raises(type(error)) as caught:
        started(call).result()
    assert caught.value is error


def test_an_error_is_kept_alive_by_nothing():
    class Fault(Exception):
        pass

    def call(stop):
        raise Fault

    gc.disable()
    try:
        with pytest.raises(Fault) as caught:
            started(call).result()
        kept = weakref.ref(caught.value)
        del caught
        assert kept() is None
    finally:
        gc.enable()


def test_who_waits_does_not_wait_for_longer_than_that():
    go = threading.Event()
    background = started(lambda stop: go.wait(5))
    with pytest.raises(TimeoutError):
        background.result(0.01)
    go.set()
    assert background.result(5) is True


def test_a_call_that_is_given_up_is_told():
    reported = threading.Event()

    def call(stop):
        if stop.wait(5):
            reported.set()

    started(call).cancel()
    assert reported.wait(5)


def test_without_threads_the_call_is_made_at_once(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert started(lambda stop: threading.current_thread()).result() is threading.current_thread()
