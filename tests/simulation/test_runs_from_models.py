"""Runs that start from a model: what their first model is, what they train on from, and what they say when they cannot."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_story import ended, federation, learning, model_bytes
from federation_story import submit as state
from safetensors.numpy import load, save_file

from fedplane.cli.keeping import keep
from fedplane.cli.manifest import origin
from fedplane.cli.starting import submit
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Completed, Fact, Failed, Folded, Opened
from fedplane.schemas.models import Model, Task
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.subjects import bulk_of_run, given_models


def wish(name: str, rounds: int = 1, **server: Any) -> FederatedLearning:
    policy = {"evaluate": False, "attempts": 2, "checkpoints": 9}
    return learning(name, server={"rounds": rounds, "minAvailableClients": 3, **server}, rounds=policy)


async def run(bus: MemoryBus, resource: FederatedLearning, source: str = "") -> tuple[str, list[Fact]]:
    name, _ = await submit(bus, resource, source, datetime.now(UTC))
    return name, await ended(bus, name)


def model_of(facts: list[Fact], training_round: int) -> Model:
    (made,) = [fact for fact in facts if isinstance(fact, Aggregated) and fact.training_round == training_round]
    assert made.model is not None
    return made.model


async def last_model(bus: MemoryBus, facts: list[Fact]) -> bytes:
    assert isinstance(facts[-1], Completed), facts[-1]
    return await model_bytes(bus, facts[-1].model)


@pytest.mark.parametrize("how", ["named by the resource", "named at the command line", "kept in a file"])
async def test_a_run_goes_on_where_another_ended_to_the_byte(tmp_path: Path, how: str) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path / "work") as it:
        whole = await last_model(bus, (await run(bus, wish("whole", 3)))[1])
        first, facts = await run(bus, wish("first", 2))
        half = await last_model(bus, facts)
        await keep(bus.bulk, *origin(facts, None), str(tmp_path / "kept"))
        source = {"named by the resource": "", "named at the command line": "first", "kept in a file": str(tmp_path / "kept")}[how]
        it.shard_bytes = 40  # the next aggregator cuts otherwise
        await it.kill("aggregator 1")
        await it.kill("aggregator 2")
        it.start("aggregator 3")

        second, facts = await run(bus, wish("second", 1, **({} if source else {"initialModel": first})), source)

        begun = model_of(facts, 0)
        started = [fact for fact in facts if isinstance(fact, Folded) and fact.round == 0]
        tasks = [(fact.task, fact.training_round) for fact in facts if isinstance(fact, Aggregated)]
        assert await model_bytes(bus, begun) == half
        assert await last_model(bus, facts) == whole
    assert (begun.run, {fact.piece.subject.split(".")[3] for fact in started}, len(started)) == (second, {second}, 4)
    assert tasks == [(Task.INITIALIZE, 0), (Task.TRAIN, 1)]
    assert await bus.bulk.stored(given_models(second)) == frozenset()


async def test_the_older_run_may_be_forgotten_once_round_0_is_done(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path):
        first, facts = await run(bus, wish("first", 1))
        half = await last_model(bus, facts)
        second, _ = await run(bus, wish("second", 1), first)
        await bus.bulk.purge(bulk_of_run(first))

        _, facts = await run(bus, wish("third", 1), second)

    assert await bus.bulk.stored(bulk_of_run(first)) == frozenset()
    assert isinstance(facts[-1], Completed)
    assert await last_model(bus, facts) != half


async def test_a_restart_in_round_0_goes_on_with_the_same_model(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        first, facts = await run(bus, wish("first", 1))
        half = await last_model(bus, facts)
        for name in ("aggregator 1", "aggregator 2", "collaborator a"):
            await it.kill(name)
        it.start("aggregator 3")
        second = await state(bus, wish("second", 1, initialModel=first))
        async with asyncio.timeout(20):
            while await bus.log.read(Opened.pattern(run=second, round=0)) is None:
                await asyncio.sleep(0.02)
        await it.kill("aggregator 3")
        it.start("aggregator 4")
        it.start("collaborator a")

        facts = await ended(bus, second)

        assert await model_bytes(bus, model_of(facts, 0)) == half
    assert isinstance(facts[-1], Completed)


async def test_a_model_whose_bytes_are_gone_fails_the_run_with_a_sentence(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path):
        first, _ = await run(bus, wish("first", 1))
        await bus.bulk.purge(bulk_of_run(first))

        second = await state(bus, wish("second", 1, initialModel=first))  # as for an object on a hub: nobody looks before
        facts = await ended(bus, second)

    assert isinstance(facts[-1], Failed)
    assert (facts[-1].reason, f"bulk.fed.v1.{first}" in facts[-1].message) == ("RoundFailed", True), facts[-1].message


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"w": np.zeros((7, 5), np.float32)}, "it has no tensor 'b', which the app has"),
        (
            {"w": np.zeros((5, 7), np.float32), "b": np.zeros(3, np.float32)},
            "its tensor 'w' is F32 of shape [5, 7], and the app's is F32 of",
        ),
    ],
)
async def test_a_model_that_the_app_cannot_train_fails_the_run_before_anybody_trains(tmp_path: Path, tensors: Any, why: str) -> None:
    bus = MemoryBus()
    save_file(tensors, tmp_path / "other.safetensors")
    async with federation(bus, tmp_path / "work"):
        _, facts = await run(bus, wish("second", 1), str(tmp_path / "other.safetensors"))

    assert isinstance(facts[-1], Failed)
    assert why in facts[-1].message
    assert not any(isinstance(fact, Aggregated) for fact in facts)


async def test_a_file_of_another_program_needs_the_apps_tensors_and_not_its_header(tmp_path: Path) -> None:
    bus = MemoryBus()
    tensors = {"b": np.full(3, 2, np.float32), "w": np.full((7, 5), 3, np.float32)}
    save_file(tensors, tmp_path / "other.safetensors", {"format": "pt"})
    async with federation(bus, tmp_path / "work"):
        _, facts = await run(bus, wish("second", 1), str(tmp_path / "other.safetensors"))
        begun = load(await model_bytes(bus, model_of(facts, 0)))

    assert isinstance(facts[-1], Completed)
    assert {name: values.tolist() for name, values in begun.items()} == {name: values.tolist() for name, values in tensors.items()}
