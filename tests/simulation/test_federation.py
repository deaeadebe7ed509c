"""Whole runs with every service in one process, on the memory bus: what people get, and what they are told when things go wrong."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from federation_story import TINY, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import (
    Aggregated,
    Cancelled,
    Closed,
    Completed,
    Contributed,
    Declined,
    Failed,
    Folded,
    Invited,
    RoundFailed,
    Scheduled,
    Waiting,
)
from fedplane.schemas.models import Task
from fedplane.schemas.views import RunView


async def run_to_end(tmp_path: Path, clusters: str = "abc", spec: dict | None = None, **trouble: str):
    bus = MemoryBus()
    async with federation(bus, tmp_path, clusters, **trouble) as it:
        run = await submit(bus, learning(**(spec or {})))
        facts = await ended(bus, run)
        it.check()
    return bus, facts


def initial_model() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()}


def reference(rounds: int) -> dict[str, np.ndarray]:
    """What two rounds of federated averaging of `NumpyApp` on three clusters give, computed without any of fedplane."""
    model = initial_model()
    for _ in range(rounds):
        updates = [{n: v - np.float32(0.5 / 3) * (v - np.float32(p)) for n, v in model.items()} for p in (1, 2, 3)]
        weights = (10, 20, 30)
        model = {
            name: (sum(w * u[name].astype(np.float64) for u, w in zip(updates, weights, strict=True)) / sum(weights)).astype(np.float32)
            for name in model
        }
    return model


async def test_a_run_gives_the_model_that_the_arithmetic_says(tmp_path) -> None:
    bus, facts = await run_to_end(tmp_path)
    completed = facts[-1]
    assert isinstance(completed, Completed)
    model = load(await model_bytes(bus, completed.model))

    assert {name: values.tolist() for name, values in model.items()} == {name: v.tolist() for name, v in reference(2).items()}
    assert [(f.task, f.training_round, f.members) for f in facts if isinstance(f, Aggregated)] == [
        (Task.INITIALIZE, 0, ("a",)),
        (Task.TRAIN, 1, ("a", "b", "c")),
        (Task.EVALUATE, 1, ("a", "b", "c")),
        (Task.TRAIN, 2, ("a", "b", "c")),
        (Task.EVALUATE, 2, ("a", "b", "c")),
    ]
    assert sorted({f.shard for f in facts if isinstance(f, Folded)}) == [0, 1, 2]


async def test_the_view_of_a_completed_run_says_so(tmp_path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path):
        run = await submit(bus, learning())
        facts = await ended(bus, run)
        async with asyncio.timeout(20):
            async for viewed in bus.views.watch(run):
                view = RunView.model_validate_json(viewed.body)
                if view.phase == "Completed":
                    break

    completed = facts[-1]
    assert isinstance(completed, Completed)
    assert (view.model, view.metrics) == (completed.model, completed.metrics)


@pytest.mark.parametrize(("trouble", "reason"), [("raises", "app-raised"), ("wrong shapes", "wrong-layout")])
async def test_a_cluster_whose_app_fails_declines_and_the_others_go_on(tmp_path, trouble, reason) -> None:
    _, facts = await run_to_end(tmp_path, spec={"server": {"rounds": 1, "minAvailableClients": 2}}, b=trouble)

    assert isinstance(facts[-1], Completed)
    assert {(f.cluster, f.reason) for f in facts if isinstance(f, Declined)} == {("b", reason)}
    assert [f.members for f in facts if isinstance(f, Aggregated) and f.task is Task.TRAIN] == [("a", "c")]


async def test_an_update_that_is_not_finite_fails_its_round_and_its_cluster_is_left_out_of_the_next(tmp_path) -> None:
    bus, facts = await run_to_end(tmp_path, spec={"server": {"rounds": 1, "minAvailableClients": 2}}, b="NaN")
    completed = facts[-1]
    assert isinstance(completed, Completed)

    assert [(f.faulty, "not finite" in f.message) for f in facts if isinstance(f, RoundFailed)] == [(("b",), True)]
    assert [f.members for f in facts if isinstance(f, Aggregated) and f.task is Task.TRAIN] == [("a", "c")]
    assert all(np.isfinite(values).all() for values in load(await model_bytes(bus, completed.model)).values())


async def test_an_app_that_never_returns_is_left_behind_at_the_deadline(tmp_path) -> None:
    spec = {"server": {"rounds": 1, "minAvailableClients": 2}, "rounds": {"deadlineSeconds": 1, "evaluate": False}}
    _, facts = await run_to_end(tmp_path, spec=spec, b="hangs")

    assert isinstance(facts[-1], Completed)
    assert [f.members for f in facts if isinstance(f, Aggregated) and f.task is Task.TRAIN] == [("a", "c")]


async def test_a_run_whose_clusters_all_fail_fails_with_their_words(tmp_path) -> None:
    spec = {"rounds": {"attempts": 2}}
    _, facts = await run_to_end(tmp_path, spec=spec, a="raises", b="raises", c="raises")
    failed = facts[-1]

    assert isinstance(failed, Failed)
    assert failed.reason == "RoundFailed"
    assert "a declined (app-raised): the app raised ZeroDivisionError" in failed.message


async def test_a_run_with_too_few_clusters_waits_says_who_is_missing_and_starts_when_one_comes(tmp_path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path, "ab") as it:
        run = await submit(bus, learning())
        async with asyncio.timeout(10):
            async for batch in bus.log.tail([Waiting.pattern(run=run)]):
                if batch.records and batch.records[-1].fact.eligible == 2:
                    break
        it.apps["c"] = it.apps["a"]
        it.start("collaborator c")
        facts = await ended(bus, run)

    waiting = [f for f in facts if isinstance(f, Waiting)]
    assert (waiting[-1].wanted, waiting[-1].eligible) == (3, 2)
    assert isinstance(facts[-1], Completed)
    assert [[p.cluster for p in f.participants] for f in facts if isinstance(f, Scheduled)] == [["a", "b", "c"]]


async def test_a_cancelled_run_ends_and_its_round_takes_no_more_answers(tmp_path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path, a="hangs", b="hangs", c="hangs"):
        run = await submit(bus, learning())
        async with asyncio.timeout(10):
            async for batch in bus.log.tail([Invited.pattern(run=run, round=1)]):
                if batch.records:
                    break
        await bus.log.state(Cancelled(run=run, at=datetime.now(UTC)))
        async with asyncio.timeout(10):
            async for batch in bus.log.tail([Closed.pattern(run=run, round=1)]):
                if batch.records:
                    break

    assert not [r for r in bus.log.records if isinstance(r.fact, Contributed) and r.fact.round == 1]


async def test_a_cluster_that_poisons_its_update_gets_nothing_into_the_model_by_krum(tmp_path) -> None:
    spec = {"server": {"rounds": 2, "minAvailableClients": 5}, "strategy": {"name": "krum", "parameters": {"byzantine": 1}}}
    bus, facts = await run_to_end(tmp_path, "abcde", spec, b="poisons")
    completed = facts[-1]
    assert isinstance(completed, Completed)
    model = load(await model_bytes(bus, completed.model))

    # Of the honest targets 1, 3, 4 and 5, the fourth has the closest neighbours, so its update is the model, bit for bit.
    honest = initial_model()
    for _ in range(2):
        honest = {name: values - np.float32(0.5 / 3) * (values - np.float32(4)) for name, values in honest.items()}
    assert {name: values.tolist() for name, values in model.items()} == {name: values.tolist() for name, values in honest.items()}
    assert [f.members for f in facts if isinstance(f, Folded) and f.round == 1 and f.shard == 0] == [("d",)]


SERVICES = ("scheduler", "status", "aggregator 1", "aggregator 2", "collaborator a", "collaborator b", "collaborator c")


@pytest.mark.parametrize("seed", range(30))
async def test_services_that_are_killed_at_any_moment_change_nothing(tmp_path, seed) -> None:
    random = np.random.default_rng(seed)
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning())
        over = asyncio.create_task(ended(bus, run))
        while not over.done():
            await asyncio.sleep(float(random.exponential(0.004)))
            victim = str(random.choice(SERVICES))
            await it.kill(victim)
            it.start(victim)
        facts = await over
    completed = facts[-1]
    assert isinstance(completed, Completed), f"seed {seed}"
    model = load(await model_bytes(bus, completed.model))

    assert {name: values.tolist() for name, values in model.items()} == {name: v.tolist() for name, v in reference(2).items()}, (
        f"seed {seed}"
    )
