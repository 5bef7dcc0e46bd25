"""The level of concurrency, tried on models of a server whose best level is known."""

from __future__ import annotations

import random

import pytest

from cfplatform.level import START, Level


class Model:
    """A server, and workers that take turns at it, in a time of its own.

    Args:
        latency: Seconds that one turn takes where nothing stands in the way.
        capacity: Turns a second that the server manages, at the most.
        processor: Seconds of a processor that a turn costs; all workers share one.
        noise: How much a turn may be shorter or longer, as a share.
    """

    def __init__(self, most, *, latency=0.0, capacity=1e9, processor=0.0007, noise=0.0):
        self.latency, self.capacity, self.processor, self.noise = latency, capacity, processor, noise
        self.now = 0.0
        self.overloads = 0
        self.overloaded_from = None
        self.turns = 0
        self.chance = random.Random(1)
        self.level = Level(most, clock=lambda: self.now)
        self.levels = [self.level.limit]

    def rate(self, workers):
        alone = self.latency + self.processor
        # Each further worker costs a little where they all wait for the processor.
        shared = self.processor * (1 + 0.02 * workers)
        return min(workers / alone, self.capacity, 1 / shared)

    def run(self, seconds):
        end = self.now + seconds
        while self.now < end:
            rate = self.rate(self.level.limit)
            self.now += self.chance.uniform(1 - self.noise, 1 + self.noise) / rate
            self.turns += 1
            if self.overloaded_from is not None and self.level.limit > self.overloaded_from:
                self.overloads += 1
            self.level.turn(self.processor, self.overloads)
            if self.levels[-1] != self.level.limit:
                self.levels.append(self.level.limit)
        return self.level.limit


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("most", [1, 3, 10, 32])
@pytest.mark.parametrize("latency", [0.02, 0.05, 0.5])
def test_all_workers_are_used_where_there_is_latency_to_hide(most, latency, noise):
    model = Model(most, latency=latency, processor=0.0002, noise=noise)
    # From four to 32 are three trials, each watched for a turn of every worker and for a tenth of a second at least.
    assert model.run(5 * max(0.2, 2 * latency)) == most
    assert model.run(120) == most
    assert set(model.levels) <= {START, 8, 16, most} | {most}


def test_it_costs_little_to_begin_modestly():
    model = Model(32, latency=0.05)
    model.run(6.25)
    assert model.turns >= 0.93 * 6.25 * model.rate(32)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_few_workers_are_used_where_all_of_them_wait_for_the_processor(noise):
    model = Model(32, latency=0.0001, noise=noise)
    assert model.run(5) <= START
    used = {model.run(1) for _ in range(120)}
    assert max(used) <= 2 * START
    assert model.turns >= 0.9 * model.now * model.rate(2)


def test_a_server_that_has_enough_to_do_is_not_asked_by_more():
    # Four at a time are all that it can serve.
    model = Model(64, latency=0.05, capacity=80)
    model.run(10)
    seen = [model.run(1) for _ in range(60)]
    # A trial of twice as many now and then, each of them given up.
    assert sum(level <= 8 for level in seen) > 50
    assert max(model.levels) <= 16


def test_a_server_that_says_that_it_is_overloaded_is_given_less():
    model = Model(32, latency=0.05)
    assert model.run(2) == 32
    model.overloaded_from = 10
    model.run(10)
    seen = [model.run(0.5) for _ in range(60)]
    assert sum(level <= 10 for level in seen) > 50
    model.overloaded_from = None
    assert model.run(200) == 32


def test_one_burst_of_refusals_halves_it_once():
    model = Model(32, latency=0.05)
    model.run(2)
    for overloads in range(1, 20):
        model.level.turn(0.0, overloads)
    assert model.level.limit == 16
    model.overloads = overloads
    assert model.run(0.05) == 16


def test_a_refusal_halves_it_also_while_no_trials_are_made():
    model = Model(64, latency=0.05, capacity=80)
    # By now trials of more have failed so often that the next one is a minute away.
    model.run(100)
    level = model.level.limit
    assert level > 1
    model.level.turn(0.0, 1)
    assert model.level.limit == level // 2


def test_overloads_of_an_earlier_run_do_not_count():
    level = Level(32)
    level.begin(7)
    level.turn(0.0, 7)
    assert level.limit == START
    level.turn(0.0, 8)
    assert level.limit == START // 2


def test_it_falls_back_when_answers_take_longer_because_of_the_load_and_returns():
    model = Model(32, latency=0.05)
    model.run(2)
    # From now on the server does 100 turns a second whoever asks, so that answers wait in a queue.
    model.capacity = 100
    model.run(60)
    assert model.level.limit < 32
    assert model.turns > 50 * 100
    model.capacity = 1e9
    assert model.run(150) == 32


def test_it_stays_when_answers_take_longer_for_another_reason():
    model = Model(32, latency=0.05)
    model.run(2)
    model.latency = 0.5
    model.run(20)
    seen = [model.run(1) for _ in range(60)]
    assert sum(level == 32 for level in seen) > 50


def test_workers_that_lack_work_say_nothing():
    clock = [0.0]
    level = Level(32, clock=lambda: clock[0])
    for _ in range(1000):
        clock[0] += 0.01
        level.lacked_work(0.03)
        level.turn(0.001, 0)
    assert level.limit == START


def test_it_goes_on_where_the_run_before_stopped():
    model = Model(32, latency=0.05)
    model.run(2)
    model.level.begin(0)
    assert model.run(0.2) == 32


def test_short_runs_find_out_together_what_one_does():
    model = Model(32, latency=0.0001)
    for _ in range(30):
        model.level.begin(0)
        # As many turns as a chunk of 200 items takes.
        model.run(0.25)
    assert model.level.limit <= 2


def test_it_is_told_at_level_debug_only(caplog):
    caplog.set_level("DEBUG", "cfplatform")
    Model(32, latency=0.05).run(1)
    assert [record.getMessage() for record in caplog.records][:2] == [
        "8 workers at a time instead of 4: more may help",
        "16 workers at a time instead of 8: more may help",
    ]
