"""Whole runs whose server is the app's own, on the memory bus: what the server makes of them, whoever is killed."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_story import TINY, Answer, Federation, NumpyServer, ended, federation, lay_out_ask, learning, model_bytes, submit
from numpy.testing import assert_allclose
from safetensors.numpy import load

from fedplane.collaborator.apps import Attend
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Asked, Completed, Contributed, Fact, Failed, Opened
from fedplane.schemas.subjects import bulk_of_run

APP = {"strategy": {"name": "app"}}


def by_hand() -> dict[str, np.ndarray]:
    """What the server makes of two rounds in which everyone replies."""
    given = np.random.default_rng(0)
    model = {name: given.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()}
    for _ in range(2):
        for name, values in model.items():
            updates = [values - np.float32(0.5 / 3) * (values - np.float32(position)) for position in (1, 2, 3)]
            model[name] = np.average(np.float64(updates), axis=0, weights=[10, 20, 30]).astype(np.float32)
    return model


async def model_of(bus: MemoryBus, facts: list[Fact]) -> dict[str, np.ndarray]:
    completed = facts[-1]
    assert isinstance(completed, Completed), completed
    return load(await model_bytes(bus, completed.model))


async def run_with(it: Federation, **spec: Any) -> list[Fact]:
    it.start("driver 1")
    return await ended(it.bus, await submit(it.bus, learning(**APP, **spec)))


def counted(facts: list[Fact], kind: type[Fact]) -> int:
    return sum(isinstance(fact, kind) for fact in facts)


async def test_a_server_gets_every_reply_and_its_model_is_the_run_s_and_nothing_else_stays_stored(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        facts = await run_with(it)
        model = await model_of(bus, facts)
        async with asyncio.timeout(20):
            while {subject.split(".")[5] for subject in await bus.bulk.stored(bulk_of_run("tiny-01234567"))} != {"model"}:
                await asyncio.sleep(0.01)

    assert (counted(facts, Asked), counted(facts, Contributed), it.server.given) == (4, 12, [3, 3, 3, 3])
    assert facts[-1].metrics["central"] == pytest.approx(model["b"].sum())
    assert set(facts[-1].metrics) == {"central", "loss"}
    for name, values in by_hand().items():
        assert_allclose(model[name], values, rtol=1e-6)


async def test_a_server_of_folded_replies_gets_one_and_comes_to_the_same(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        facts = await run_with(it, fold=True)
        model = await model_of(bus, facts)

    assert it.server.given == [1, 3, 1, 3]
    assert [fact.model is not None for fact in facts if isinstance(fact, Aggregated)] == [True, False, True, False]
    for name, values in by_hand().items():
        assert_allclose(model[name], values, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
async def test_drivers_and_aggregators_may_be_killed_and_doubled_and_nothing_is_done_twice(tmp_path: Path, seed: int) -> None:
    chance, bus = random.Random(seed), MemoryBus()
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning(**APP))
        end = asyncio.create_task(ended(bus, run))
        names = ["driver 1", "aggregator 1", *(["driver 2"] if seed % 2 else [])]
        it.start("driver 1")
        if seed % 2:
            it.start("driver 2")
        while not end.done():
            await asyncio.sleep(chance.uniform(0, 0.08))
            name = chance.choice(names)
            await it.kill(name)
            await asyncio.sleep(chance.uniform(0, 0.02))
            it.start(name)
        facts = await end
        model = await model_of(bus, facts)

    assert [fact.round for fact in facts if isinstance(fact, Asked)] == [0, 1, 2, 3]
    assert [fact.round for fact in facts if isinstance(fact, Opened)] == [0, 1, 2, 3]
    assert counted(facts, Contributed) == 12
    for name, values in by_hand().items():
        assert_allclose(model[name], values, rtol=1e-6)


async def test_a_cluster_that_cannot_reply_is_an_error_and_one_that_is_late_is_missing(tmp_path: Path) -> None:
    async with federation(MemoryBus(), tmp_path, b="raises", c="hangs") as it:
        it.server.timeout_seconds = 2
        facts = await run_with(it)

    assert isinstance(facts[-1], Completed)
    assert it.server.given == [1, 1, 1, 1]
    assert [fact.members for fact in facts if isinstance(fact, Aggregated)] == [("a",)] * 4


class Odd(NumpyServer):
    """Asks what nobody can be asked, and leaves no model."""

    def __init__(self, asked: str) -> None:
        super().__init__()
        self.asked = asked

    async def drive(self, directory: Path, attend: Attend) -> Answer:
        if self.asked:
            lay_out_ask(directory / "asked-1", {"none": np.zeros(1)}, self.asked)
            await attend(1)
        return Answer(1, {})


NONSENSE = '{"training_round": -1}'
NOBODY = json.dumps(
    {
        "training_round": 1, "timeout_seconds": None, "contents": 1,
        "instructions": [{"position": 9, "kind": "train", "group": "", "content": 0}],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (NONSENSE, "the app's server failed (garbage): what the app's server asks cannot be read"),
        (NOBODY, "the app's server failed (garbage): what the app's server asks cannot be read"),
        ("", "the app's server failed (no-update): the app finished without leaving update.safetensors"),
    ],
    ids=["asks nonsense", "asks nobody", "leaves nothing"],
)
async def test_a_server_that_misbehaves_ends_its_run(tmp_path: Path, asked: str, said: str) -> None:
    async with federation(MemoryBus(), tmp_path) as it:
        it.server = Odd(asked)
        facts = await run_with(it)

    assert isinstance(facts[-1], Failed)
    assert facts[-1].message.startswith(said)
