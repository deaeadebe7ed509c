"""What the command line does with runs whose facts have left the log, and with older models, on a bus in memory."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from fedplane.cli import lines, listening, runs
from fedplane.cli.archives import archive_of, facts_in
from fedplane.cli.checkpoints import checkpoint, checkpoints
from fedplane.cli.listening import Until, Wanted
from fedplane.runtime.archive import Packer
from fedplane.runtime.errors import BadInput, Corrupt
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Aggregated, Archived, Submitted, all_facts_of
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import archive_piece, bulk_of_round

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "mnist-5f3a9c1e"
FACT = {type(fact): fact for fact in EXAMPLES}
SUBMITTED, AGGREGATED = FACT[Submitted], FACT[Aggregated]
assert isinstance(SUBMITTED, Submitted)
assert isinstance(AGGREGATED, Aggregated)
assert AGGREGATED.model is not None


def aggregated(number: int) -> Aggregated:
    layout = AGGREGATED.model.layout.model_copy(update={"subject": f"bulk.fed.v1.{RUN}.{number}.model.a.layout"})
    model = AGGREGATED.model.model_copy(update={"round": number, "layout": layout})
    task = Task.TRAIN if number else Task.INITIALIZE
    return AGGREGATED.model_copy(update={"round": number, "training_round": number, "task": task, "model": model})


STORY = [SUBMITTED, *(aggregated(number) for number in range(4)), FACT[facts.Completed]]


async def ended() -> MemoryBus:
    """A bus with a run whose models 0 to 3 are stored."""
    bus = MemoryBus()
    for fact in STORY:
        await bus.log.state(fact)
        if isinstance(fact, Aggregated) and fact.model:
            await bus.bulk.write(fact.model.layout.subject, memoryview(b"12345678"), 8)
    return bus


async def archived(bus: MemoryBus, lost: int = 0) -> MemoryBus:
    """The same with its facts in an archive, but for the last `lost` ones."""
    packer = Packer()
    for record in bus.log.records[: len(bus.log.records) - lost]:
        packer.add(record)
    piece = await bus.bulk.write(archive_piece(RUN, "a"), packer.end(), 100)
    stated = await bus.log.state(Archived(run=RUN, at=NOON, facts=len(STORY), piece=piece))
    assert stated.record is not None
    await bus.log.purge(all_facts_of(RUN), stated.record.sequence)
    return bus


async def all_of(items: AsyncGenerator[Recorded, None]) -> list[Recorded]:
    async with asyncio.timeout(5):
        return [item async for item in items]


async def test_the_facts_of_an_archived_run_are_read_as_if_they_were_on_the_log() -> None:
    bus = await ended()
    before = list(bus.log.records)
    await archived(bus)

    heard = await all_of(listening.facts(bus, Wanted(RUN, begin=0, until=Until.ENDED)))
    assert heard[:-1] == before
    assert isinstance(heard[-1].fact, Archived)
    assert await all_of(listening.facts(bus, Wanted(RUN, until=Until.ENDED))) == []
    assert lines.fact_line(heard[-1]) == f"12:00:00 {RUN}.archived  {len(STORY)} facts in {heard[-1].fact.piece.bytes} bytes"


async def test_an_archive_without_all_its_facts_is_corrupt() -> None:
    bus = await archived(await ended(), lost=2)
    said = await archive_of(bus, RUN)

    assert said is not None
    with pytest.raises(Corrupt, match=r"has 4 facts, and it was made of 6"):
        await all_of(facts_in(bus, said))


async def test_an_archived_run_is_neither_submitted_again_nor_cancelled() -> None:
    bus = await archived(await ended())

    with pytest.raises(BadInput, match=r"the run mnist-5f3a9c1e was submitted before and is archived; remove metadata\.uid"):
        await runs.submit(bus, SUBMITTED.resource, NOON)
    with pytest.raises(BadInput, match="has ended and is archived; there is nothing to cancel"):
        await runs.cancel(bus, RUN, NOON, "")
    assert len(bus.log.records) == 1


@pytest.mark.parametrize("after", [False, True], ids=["while its facts are on the log", "when they are archived"])
async def test_the_model_of_a_training_round_is_found_if_it_is_stored(after: bool) -> None:
    bus = await ended()
    await bus.bulk.purge(bulk_of_round(RUN, 1, "model"))
    if after:
        await archived(bus)

    assert sorted(await checkpoints(bus, RUN)) == [0, 2, 3]
    assert await checkpoint(bus, RUN, 2) == aggregated(2).model
    with pytest.raises(
        BadInput, match=r"the model of training round 1 of .* is not stored; those of 0, 2, 3 are \(spec\.rounds\.checkpoints"
    ):
        await checkpoint(bus, RUN, 1)


async def test_a_run_without_models_says_so() -> None:
    bus = MemoryBus()
    await bus.log.state(SUBMITTED)

    with pytest.raises(BadInput, match="is not stored; there is none"):
        await checkpoint(bus, RUN, 0)
