"""Archiving, purging and forgetting runs on a bus in memory, interrupted anywhere and done by several at once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from fedplane.cli.archives import archive_of, facts_in
from fedplane.runtime.errors import BusFull, Unreachable
from fedplane.runtime.memory import MemoryBulk, MemoryBus, MemoryLog
from fedplane.runtime.ports import Batch, Fence, Recorded, Stated
from fedplane.runtime.replica import Replica
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Archived
from fedplane.schemas.models import Piece
from fedplane.schemas.subjects import bulk_of_run, update_piece
from fedplane.schemas.views import RunView
from fedplane.status.archiving import Archiving
from fedplane.status.retention import Archive, Forget, Purge, Retention

FACT = {type(fact): fact for fact in EXAMPLES}
RUN = "mnist-5f3a9c1e"
NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
OTHERS = facts.Failed | facts.Cancelled | Archived | facts.Advertised | facts.AccessFact
STORY = [fact for fact in EXAMPLES if not isinstance(fact, OTHERS)]
LATE = FACT[facts.Declined].model_copy(update={"cluster": "late"})


async def ended(bus: MemoryBus) -> list[Recorded]:
    """A bus on which a run has ended: what its log says."""
    for fact in STORY:
        await bus.log.state(fact, traceparent="00-trace-span-01")
    await bus.log.state(FACT[facts.Submitted].model_copy(update={"run": "other-1"}))
    await bus.bulk.write("bulk.fed.v1.other-1.0.model.a.0", memoryview(b"12345678"), 8)
    await bus.bulk.write(f"bulk.fed.v1.{RUN}.1.model.a.0", memoryview(b"12345678"), 8)
    return [record for record in bus.log.records if record.fact in STORY]


async def do(bus: MemoryBus, *effects: object) -> None:
    archiving = Archiving(bus, retry_seconds=0, clock=lambda: NOON)
    async with asyncio.timeout(5):
        for effect in effects:
            await archiving(effect)


async def archived_records(bus: MemoryBus) -> list[Recorded]:
    archived = await archive_of(bus, RUN)
    assert archived is not None
    return [record async for record in facts_in(bus, archived)]


def of_run(bus: MemoryBus) -> list[facts.Fact]:
    return [record.fact for record in bus.log.records if record.fact.subject.startswith(f"fed.v1.run.{RUN}.")]


def attempts(bus: MemoryBus) -> set[str]:
    return {subject.split(".")[5] for subject in bus.bulk.chunks if ".archive." in subject}


async def test_an_archive_has_every_fact_as_the_log_had_it_and_says_so() -> None:
    bus = MemoryBus()
    before = await ended(bus)
    await do(bus, Archive(RUN))

    archived = await archive_of(bus, RUN)
    assert archived is not None
    assert (archived.at, archived.facts) == (NOON, len(STORY))
    assert await archived_records(bus) == before
    assert of_run(bus) == [*STORY, archived]


async def test_updates_that_came_when_the_run_had_ended_leave_with_its_facts() -> None:
    bus = MemoryBus()
    await ended(bus)
    model = set(bus.bulk.chunks)
    await bus.bulk.write(update_piece(RUN, 1, "slow", "x", 0), memoryview(b"12345678"), 8)
    await do(bus, Archive(RUN))

    assert {chunk for chunk in bus.bulk.chunks if ".archive." not in chunk} == model


async def test_the_run_s_last_view_is_shown_before_it_cannot_be_made_any_more() -> None:
    bus = MemoryBus()
    await ended(bus)
    await do(bus, Archive(RUN))

    (shown,) = await bus.views.all()
    assert RunView.model_validate_json(shown.body).phase == "Completed"


async def test_after_the_purge_only_the_last_fact_is_left_and_after_all_nothing() -> None:
    bus = MemoryBus()
    await ended(bus)
    await do(bus, Archive(RUN))
    (archived,) = [record for record in bus.log.records if isinstance(record.fact, Archived)]
    await do(bus, Purge(RUN, archived.sequence))
    purged = of_run(bus), await archived_records(bus)
    await do(bus, Forget(RUN))

    assert purged[0] == [archived.fact]
    assert [record.fact for record in purged[1]] == STORY
    assert of_run(bus) == []
    assert await bus.views.all() == []
    assert await bus.bulk.stored(bulk_of_run(RUN)) == frozenset()
    assert (len(bus.log.records), len(bus.bulk.chunks)) == (1, 1), "the other run is whole"


async def test_no_timer_of_an_archived_run_states_anything_any_more() -> None:
    bus = MemoryBus()
    await ended(bus)
    late = FACT[facts.Expired].model_copy(update={"round": 9})
    others = late.model_copy(update={"run": "other-1"})
    for fact in (late, others):
        await bus.timers.remind(fact, datetime.now(UTC))
    await do(bus, Archive(RUN), Purge(RUN, 19))
    keeping = asyncio.create_task(bus.timers.keep())
    async with asyncio.timeout(5):
        while await bus.log.read(others.subject) is None:
            await asyncio.sleep(0.001)
    keeping.cancel()

    assert await bus.log.read(late.subject) is None


async def test_who_comes_late_to_forget_a_run_leaves_alone_whoever_has_its_id_now() -> None:
    bus = MemoryBus()
    await ended(bus)
    await do(bus, Archive(RUN), Purge(RUN, 19), Forget(RUN))
    again = await ended(bus)
    chunks = set(bus.bulk.chunks)
    await do(bus, Forget(RUN))

    assert [record for record in bus.log.records if record.fact in STORY] == again
    assert set(bus.bulk.chunks) == chunks


async def test_whatever_is_done_twice_is_done_once() -> None:
    bus = MemoryBus()
    await ended(bus)
    await do(bus, Archive(RUN), Archive(RUN), Purge(RUN, 19), Purge(RUN, 19), Archive(RUN))

    assert [record.fact for record in await archived_records(bus)] == STORY
    assert len(attempts(bus)) == 1


async def test_of_two_replicas_one_archives_and_the_other_removes_what_it_wrote() -> None:
    bus = MemoryBus()
    before = await ended(bus)
    await asyncio.gather(do(bus, Archive(RUN)), do(bus, Archive(RUN)))

    assert await archived_records(bus) == before
    assert len(attempts(bus)) == 1


class Interrupted(MemoryLog):
    """A log on which somebody who was asleep says something just before a run is archived."""

    async def state(self, fact: facts.Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """See `Log.state`."""
        if isinstance(fact, Archived):
            await super().state(LATE)
        return await super().state(fact, fence=fence, traceparent=traceparent)


async def test_a_fact_that_comes_in_between_is_in_the_archive_too() -> None:
    bus = MemoryBus()
    bus.log = Interrupted("/test")
    await ended(bus)
    await do(bus, Archive(RUN))

    assert [record.fact for record in await archived_records(bus)] == [*STORY, LATE]
    assert len(attempts(bus)) == 1


class Strange(MemoryLog):
    """A log with a message that this version cannot read."""

    async def tail(self, patterns: Any, after: int = 0) -> Any:
        """See `Log.tail`."""
        async for batch in super().tail(patterns, after):
            yield Batch(batch.records, batch.live, batch.sequence, skipped=1)


async def test_a_run_with_facts_that_cannot_be_read_stays_on_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    bus = MemoryBus()
    bus.log = Strange("/test")
    await ended(bus)
    await do(bus, Archive(RUN))

    assert of_run(bus) == STORY
    assert "cannot be read, so it stays on the log; upgrade, or purge it by hand" in capsys.readouterr().out


class Full(MemoryBulk):
    """A bus that takes one chunk of an archive, and no more."""

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        if ".archive." not in subject:
            return await super().write(subject, data, chunk_bytes)
        await super().write(subject, data[:8], 8)
        raise BusFull("no room")


async def test_an_archive_for_which_there_is_no_room_leaves_no_half_of_it_however_often_it_is_tried() -> None:
    bus = MemoryBus(bulk=Full())
    await ended(bus)
    archiving = asyncio.create_task(do(bus, Archive(RUN)))
    await asyncio.sleep(0.05)
    archiving.cancel()

    assert attempts(bus) == set()
    assert of_run(bus) == STORY


class Away(MemoryBulk):
    """A bus that is away for the first few writes."""

    failures = 3

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        if ".archive." in subject and self.failures:
            self.failures -= 1
            raise Unreachable("no server answers")
        return await super().write(subject, data, chunk_bytes)


async def test_a_bus_that_is_away_is_waited_for() -> None:
    bus = MemoryBus(bulk=Away())
    before = await ended(bus)
    await do(bus, Archive(RUN))

    assert await archived_records(bus) == before


async def test_a_replica_takes_a_run_from_its_end_to_nothing() -> None:
    bus = MemoryBus()
    await ended(bus)
    replica = Replica(Retention(0.05, 0.05), bus.log, perform=Archiving(bus))
    running = asyncio.create_task(replica.run())
    async with asyncio.timeout(5):
        while of_run(bus):
            await asyncio.sleep(0.01)
    running.cancel()

    assert [record.fact for record in bus.log.records] == [FACT[facts.Submitted].model_copy(update={"run": "other-1"})]
    assert await bus.views.all() == []
    assert await bus.bulk.stored(bulk_of_run(RUN)) == frozenset()
