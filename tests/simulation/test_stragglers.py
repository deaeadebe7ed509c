"""Whole runs with clusters that need longer than a round: what they do counts later, and nobody waits for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from federation_story import TINY, Answer, Federation, NumpyApp, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Closed, Completed, Contributed, Fact, Invited, Opened, Submitted
from fedplane.schemas.models import Task


@dataclass
class Opening:
    """Lets whoever needs long go on when a training round has been opened."""

    events: dict[int, asyncio.Event] = field(default_factory=dict)

    def of(self, training_round: int) -> asyncio.Event:
        return self.events.setdefault(training_round, asyncio.Event())

    async def watch(self, bus: MemoryBus) -> None:
        async for batch in bus.log.tail([Opened.pattern()]):
            for record in batch.records:
                if isinstance(record.fact, Opened) and record.fact.task is Task.TRAIN:
                    self.of(record.fact.training_round).set()


@dataclass
class SlowApp(NumpyApp):
    """Trains for some seconds, and then until another training round has been opened: `until` says which, by training round."""

    seconds: float = 0.0
    opening: Opening = field(default_factory=Opening)
    until: dict[int, int] = field(default_factory=dict)

    async def ask(self, directory: Path, deadline: object) -> Answer:
        asked = json.loads((directory / "invitation.json").read_text())
        if asked["task"] == "train":
            await asyncio.sleep(self.seconds)
        if asked["task"] == "train" and asked["training_round"] in self.until:
            await self.opening.of(self.until[asked["training_round"]]).wait()
        return await super().ask(directory, deadline)


@asynccontextmanager
async def slow_federation(bus: MemoryBus, workdir: Path, clusters: str, **until: dict[int, int]) -> AsyncIterator[Federation]:
    opening = Opening()
    watching = asyncio.create_task(opening.watch(bus))
    async with federation(bus, workdir, clusters) as it:
        it.apps.update({cluster: SlowApp(opening=opening, until=until.get(cluster, {})) for cluster in clusters})
        yield it
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


NEVER = 1000
"""No run here has so many training rounds."""


def initial() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()}


def trained(model: dict[str, np.ndarray], target: int) -> dict[str, np.ndarray]:
    return {name: values - np.float32(0.5 / 3) * (values - np.float32(target)) for name, values in model.items()}


def moved(update: dict[str, np.ndarray], base: dict[str, np.ndarray], model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: (update[name].astype(np.float64) - base[name] + model[name]).astype(np.float32) for name in model}


def mean(*updates: tuple[float, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    total = sum(weight for weight, _ in updates)
    return {name: (sum(weight * update[name].astype(np.float64) for weight, update in updates) / total).astype(np.float32) for name in TINY}


def lists(model: dict[str, np.ndarray]) -> dict[str, list]:
    return {name: values.tolist() for name, values in model.items()}


async def run_to_end(tmp_path: Path, clusters: str, spec: dict, **until: dict[int, int]) -> tuple[dict, list[Fact]]:
    bus = MemoryBus()
    async with slow_federation(bus, tmp_path, clusters, **until) as it:
        facts = await ended(bus, await submit(bus, learning(**spec)))
        it.check()
    completed = facts[-1]
    assert isinstance(completed, Completed), completed
    return load(await model_bytes(bus, completed.model)), facts


def training(facts: list[Fact]) -> list[tuple[str, ...]]:
    return [fact.members for fact in facts if isinstance(fact, Aggregated) and fact.task is Task.TRAIN]


def carried_in(facts: list[Fact]) -> list[tuple[int, str, int]]:
    return [(fact.round, fact.cluster, fact.origin) for fact in facts if isinstance(fact, Contributed) and fact.origin is not None]


TWO_OF_THREE = {"server": {"rounds": 2, "minAvailableClients": 3}, "rounds": {"quorum": 2, "closeAt": 2, "evaluate": False}}
WITH_CARRY = {**TWO_OF_THREE, "rounds": {**TWO_OF_THREE["rounds"], "carry": 1}}


async def test_what_a_straggler_changed_counts_in_the_next_round_and_less_for_being_late(tmp_path) -> None:
    model, facts = await run_to_end(tmp_path, "abc", WITH_CARRY, c={1: 2}, b={2: NEVER})

    first = initial()
    second = mean((10.0, trained(first, 1)), (20.0, trained(first, 2)))
    late = moved(trained(first, 3), first, second)
    assert (training(facts), carried_in(facts)) == ([("a", "b"), ("a", "c")], [(2, "c", 1)])
    assert lists(model) == lists(mean((10.0, trained(second, 1)), (30.0 / sqrt(2), late)))


async def test_without_carry_a_straggler_is_asked_anew_and_what_it_did_is_lost(tmp_path) -> None:
    model, facts = await run_to_end(tmp_path, "abc", TWO_OF_THREE, c={1: NEVER}, b={2: NEVER})

    second = mean((10.0, trained(initial(), 1)), (20.0, trained(initial(), 2)))
    assert (training(facts), carried_in(facts)) == ([("a", "b"), ("a", "c")], [])
    assert lists(model) == lists(mean((10.0, trained(second, 1)), (30.0, trained(second, 3))))


async def test_by_fedbuff_nobody_waits_for_the_slowest_and_what_they_do_is_not_lost(tmp_path) -> None:
    spec = {
        "server": {"rounds": 5, "minAvailableClients": 4}, "strategy": {"name": "fedbuff"},
        "rounds": {"quorum": 2, "closeAt": 2, "carry": 4, "deadlineSeconds": 3600, "evaluate": False},
    }  # fmt: skip
    _, facts = await run_to_end(tmp_path, "abcd", spec, a={4: 5}, b={3: 4, 5: NEVER}, c={1: 3, 4: NEVER, 5: NEVER}, d={1: 4})

    assert training(facts) == [("a", "b"), ("a", "b"), ("a", "c"), ("b", "d"), ("a", "d")]
    assert {fact.reason for fact in facts if isinstance(fact, Closed) and fact.round} == {"2 contributions are in"}
    assert sorted(carried_in(facts)) == [(3, "c", 1), (4, "b", 3), (4, "d", 1), (5, "a", 4)]
    assert [fact.carried for fact in facts if isinstance(fact, Opened)] == [
        {}, {}, {"c": 1, "d": 1}, {"c": 1, "d": 1}, {"b": 3, "d": 1}, {"a": 4, "c": 4},
    ]  # fmt: skip


async def test_a_collaborator_that_is_restarted_while_it_is_carried_answers_the_new_question(tmp_path) -> None:
    bus = MemoryBus()
    async with slow_federation(bus, tmp_path, "abc", c={1: NEVER}, b={2: NEVER}) as it:
        run = await submit(bus, learning(**WITH_CARRY))
        async for batch in bus.log.tail([Closed.pattern(run=run, round=1)]):
            if batch.records:
                await it.kill("collaborator c")
                it.start("collaborator c")
                break
        facts = await ended(bus, run)

    assert [fact.run for fact in facts if isinstance(fact, Submitted)] == [run]
    assert (training(facts), carried_in(facts)) == ([("a", "b"), ("a", "c")], [])
    assert [fact.carries for fact in facts if isinstance(fact, Invited) and (fact.round, fact.cluster) == (2, "c")] == [1]


VICTIMS = ("scheduler", "status", "aggregator 1", "aggregator 2", "collaborator c")
"""The other two collaborators live on, or hardly any work would last until it is carried."""


@pytest.mark.parametrize("seed", range(10))
async def test_whoever_is_killed_at_any_moment_each_answer_counts_once_and_the_run_completes(tmp_path, seed) -> None:
    random = np.random.default_rng(seed)
    spec = {
        "server": {"rounds": 6, "minAvailableClients": 3}, "strategy": {"name": "fedbuff"},
        "rounds": {"quorum": 1, "closeAt": 1, "carry": 3, "evaluate": bool(seed % 2), "attempts": 100},
    }  # fmt: skip
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        it.apps.update({cluster: SlowApp(seconds=seconds) for cluster, seconds in (("a", 0.01), ("b", 0.03), ("c", 0.05))})
        over = asyncio.create_task(ended(bus, await submit(bus, learning(**spec))))
        while not over.done():
            await asyncio.sleep(float(random.exponential(0.006)))
            victim = str(random.choice(VICTIMS))
            await it.kill(victim)
            it.start(victim)
        facts = await over

    opened = {fact.round: fact for fact in facts if isinstance(fact, Opened)}
    answers = {(fact.round, fact.cluster): fact.origin for fact in facts if isinstance(fact, Contributed)}
    counted = [(f.round, cluster) for f in facts if isinstance(f, Aggregated) and f.task is Task.TRAIN for cluster in f.members]
    questions = [(cluster, round_ if answers[round_, cluster] is None else answers[round_, cluster]) for round_, cluster in counted]
    assert isinstance(facts[-1], Completed), facts[-1]
    assert len(questions) == len(set(questions))
    assert all(answers[key] in (None, opened[key[0]].carried.get(key[1])) for key in counted)
