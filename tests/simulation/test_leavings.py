"""What runs leave on the bulk stream: the models that they keep, and nothing else, whatever happens while they go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from collaborator_story import until
from federation_story import Federation, NumpyApp, ended, federation, learning, submit

from fedplane.runtime.errors import BusFull
from fedplane.runtime.memory import MemoryBulk, MemoryBus
from fedplane.runtime.replica import Replica
from fedplane.schemas.facts import Aggregated, Cancelled, Completed, Fact, Folded, RoundFailed, RunFact
from fedplane.schemas.models import Model, Piece
from fedplane.schemas.subjects import model_piece
from fedplane.status.archiving import Archiving
from fedplane.status.retention import Retention


@dataclass
class SlowApp(NumpyApp):
    """Takes its time."""

    seconds: float = 0.0

    async def ask(self, directory: Path, deadline: datetime):
        await asyncio.sleep(self.seconds)
        return await super().ask(directory, deadline)


def pieces(model: Model) -> set[str]:
    return {piece.subject for piece in (model.layout, *model.shards, *model.memory)}


def stored(bus: MemoryBus) -> set[str]:
    return {chunk.rpartition(".")[0] for chunk in bus.bulk.chunks}


def of_round_1(bus: MemoryBus) -> set[str]:
    return {subject for subject in stored(bus) if ".1.model." in subject}


VICTIMS = ("scheduler", "status", "aggregator 1", "aggregator 2", "collaborator c")


@pytest.mark.parametrize("seed", range(12))
async def test_whoever_is_killed_only_the_last_models_are_left(tmp_path, seed) -> None:
    random, checkpoints = np.random.default_rng(seed), 1 + seed % 3
    policy = {"quorum": 1, "closeAt": 1, "carry": seed % 4, "checkpoints": checkpoints, "evaluate": bool(seed % 2), "attempts": 100}
    strategy = {"name": ("fedbuff", "fedadam")[seed % 2]}
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        it.apps.update({cluster: SlowApp(seconds=seconds) for cluster, seconds in (("a", 0.01), ("b", 0.03), ("c", 0.05))})
        run = await submit(bus, learning(server={"rounds": 4, "minAvailableClients": 3}, strategy=strategy, rounds=policy))
        over = asyncio.create_task(ended(bus, run))
        while not over.done():
            await asyncio.sleep(float(random.exponential(0.006)))
            victim = str(random.choice(VICTIMS))
            await it.kill(victim)
            it.start(victim)
        made = [fact.model for fact in await over if isinstance(fact, Aggregated) and fact.model]
        kept = set().union(*(pieces(model) for model in made[-checkpoints:]))
        await until(lambda: stored(bus) == kept)

    assert stored(bus) == kept


async def test_a_run_whose_id_is_used_again_when_nothing_is_left_of_it_goes_like_the_first(tmp_path) -> None:
    bus, models = MemoryBus(), []
    async with federation(bus, tmp_path):
        forgetting = asyncio.create_task(Replica(Retention(0.1, 0.1), bus.log, perform=Archiving(bus)).run())
        for _ in range(2):
            run = await submit(bus, learning())
            completed = (await ended(bus, run))[-1]
            assert isinstance(completed, Completed)
            models.append(completed.model.digest)
            await until(lambda: not bus.bulk.chunks and not any(isinstance(record.fact, RunFact) for record in bus.log.records))
        forgetting.cancel()

    assert models[0] == models[1]


@dataclass
class Paused(MemoryBulk):
    """Round 1's model is stored only when it may be."""

    may: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: list[str] = field(default_factory=list)
    written: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        if ".1.model." not in subject:
            return await super().write(subject, data, chunk_bytes)
        self.waiting.append(subject)
        await self.may.wait()
        piece = await super().write(subject, data, chunk_bytes)
        self.written += 1
        return piece


@asynccontextmanager
async def folding(tmp_path: Path) -> AsyncIterator[tuple[MemoryBus, Paused, str, Federation]]:
    """A run both of whose aggregators are about to store what they folded."""
    bulk = Paused()
    bus = MemoryBus(bulk=bulk)
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning(rounds={"attempts": 1, "evaluate": False}))
        await until(lambda: len(bulk.waiting) == 2)
        yield bus, bulk, run, it


@pytest.mark.parametrize("end", [Cancelled, RoundFailed], ids=["the run is cancelled", "the round has failed"])
async def test_what_is_folded_when_nobody_wants_it_any_more_is_not_left(tmp_path, end) -> None:
    async with folding(tmp_path) as (bus, bulk, run, _):
        more = {"round": 1, "reason": "test", "message": "test"} if end is RoundFailed else {}
        await bus.log.state(end(run=run, at=datetime.now(UTC), **more))
        await ended(bus, run)
        await asyncio.sleep(0.02)  # everybody knows
        bulk.may.set()
        await until(lambda: bulk.written >= 2 and not of_round_1(bus))

    assert of_round_1(bus) == set()


async def test_of_two_who_fold_a_shard_the_second_removes_what_it_stored(tmp_path) -> None:
    async with folding(tmp_path) as (bus, bulk, run, _):
        twice = next(int(subject.rpartition(".")[2]) for subject in bulk.waiting if not subject.endswith(".0"))
        rival = Piece(subject=model_piece(run, 1, "rival", twice), bytes=64, chunk_bytes=16, digest="blake3:" + "0" * 64)
        await bus.log.state(Folded(run=run, round=1, shard=twice, at=datetime.now(UTC), members=("a", "b", "c"), piece=rival))
        bulk.may.set()
        facts: list[Fact] = await ended(bus, run)
        (model,) = [fact.model for fact in facts if isinstance(fact, Aggregated) and fact.round == 1]

        assert model is not None
        await until(lambda: of_round_1(bus) == pieces(model) - {rival.subject})


@dataclass
class Full(Paused):
    """A bus that is full when the first shard has been stored, and has room again then."""

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        if subject.endswith(".layout") and ".1.model." in subject and not self.may.is_set():
            self.may.set()
            raise BusFull("no room")
        return await MemoryBulk.write(self, subject, data, chunk_bytes)


async def test_a_fold_for_which_there_was_no_room_leaves_no_half_of_it(tmp_path) -> None:
    bulk = Full()
    bus = MemoryBus(bulk=bulk)
    async with federation(bus, tmp_path):
        facts = await ended(bus, await submit(bus, learning(server={"rounds": 1, "minAvailableClients": 3})))
        last = [fact.model for fact in facts if isinstance(fact, Aggregated) and fact.model][-1]

        assert bulk.may.is_set()
        await until(lambda: stored(bus) == pieces(last))
