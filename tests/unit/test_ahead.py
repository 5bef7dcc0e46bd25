"""Calls that are made ahead."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from cfplatform.ahead import Ahead


def always():
    """A check that finds nothing wrong."""


def started(call, check=always):
    ahead = Ahead.start(call, check)
    assert ahead is not None
    return ahead


def test_the_outcome_is_that_of_the_call_and_comes_from_another_thread():
    names = []

    def call(stop):
        names.append(threading.current_thread().name)
        assert threading.current_thread().daemon
        return 5

    assert started(call).result() == 5
    assert names == ["cfplatform-ahead"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_is_raised_reaches_who_takes_it(error):
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


def test_it_is_done_when_there_is_an_outcome():
    go = threading.Event()
    ahead = started(lambda stop: go.wait(5))
    assert not ahead.is_done
    go.set()
    assert ahead.result() is True
    assert ahead.is_done


def test_a_call_that_is_given_up_is_told():
    told = threading.Event()

    def call(stop):
        if stop.wait(5):
            told.set()

    started(call).cancel()
    assert told.wait(5)


def test_what_would_be_refused_now_is_refused_although_it_is_there():
    def refuse():
        raise PermissionError

    with pytest.raises(PermissionError):
        started(lambda stop: 5, refuse).result()


def test_without_threads_there_is_no_call_ahead(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert Ahead.start(lambda stop: 5, always) is None
