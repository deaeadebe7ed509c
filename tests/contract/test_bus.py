"""One suite for every implementation of the ports: the memory bus and the real server behave alike."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from fedplane.runtime.errors import BusFull, Corrupt
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Backlog, Batch, Bus, Fence, Viewed
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import (
    Advertised,
    Cancelled,
    Closed,
    Contributed,
    Declined,
    Expired,
    Fact,
    Granted,
    Revoked,
    Started,
    all_facts_of,
    run_level_facts_of,
)
from fedplane.schemas.models import Piece

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "blake3:" + "0" * 64


def declined(cluster: str, message: str = "no", run: str = "r-1") -> Declined:
    return Declined(run=run, round=1, cluster=cluster, at=NOW, reason="test", message=message)


def contributed(cluster: str) -> Contributed:
    piece = Piece(subject="bulk.x", bytes=0, chunk_bytes=8, digest=DIGEST)
    return Contributed(run="r-1", round=1, cluster=cluster, at=NOW, attempt="a", weight=1, metrics={}, layout=piece, shards=())


closed = Closed(run="r-1", round=1, at=NOW, reason="test")


async def facts_until_live(batches: AsyncIterator[Batch]) -> list[Fact]:
    facts: list[Fact] = []
    async for batch in batches:
        facts += [record.fact for record in batch.records]
        if batch.live:
            return facts
    raise AssertionError("the log ended")


async def test_a_fact_is_stated_once_and_everyone_reads_the_first_statement(bus: Bus) -> None:
    first = await bus.log.state(declined("a", "first"))
    second = await bus.log.state(declined("a", "second"))

    assert (first.mine, second.mine) == (True, False)
    assert second.record is not None
    assert second.record.fact == declined("a", "first")
    assert await bus.log.read(declined("a").subject) == first.record == second.record


async def test_stating_the_same_fact_again_is_no_conflict(bus: Bus) -> None:
    first = await bus.log.state(declined("a"))
    again = await bus.log.state(declined("a"))

    assert again.mine
    assert again.record == first.record


async def test_of_many_who_state_different_things_at_once_one_is_right(bus: Bus) -> None:
    outcomes = await asyncio.gather(*(bus.log.state(declined("a", f"statement {n}")) for n in range(20)))

    assert [outcome.mine for outcome in outcomes].count(True) == 1
    assert len({outcome.record.fact.message for outcome in outcomes if outcome.record and isinstance(outcome.record.fact, Declined)}) == 1


async def test_a_reader_gets_a_fact_as_it_was_written_too(bus: Bus) -> None:
    await bus.log.state(declined("a"))
    records = [record async for batch in _first(bus.log.tail([Declined.pattern()]), 1) for record in batch.records]
    held = await bus.log.read(declined("a").subject)

    assert held is not None
    assert [record.body for record in (*records, held)] == [declined("a").model_dump_json(by_alias=True, exclude_none=True).encode()] * 2


async def test_a_register_that_nobody_wrote_is_empty(bus: Bus) -> None:
    assert await bus.log.read(declined("a").subject) is None


async def test_a_fence_refuses_what_comes_after_the_fact_that_it_names(bus: Bus) -> None:
    fence = Fence(closed.subject)
    before = await bus.log.state(contributed("a"), fence=fence)
    await bus.log.state(closed)
    after = await bus.log.state(contributed("b"), fence=fence)
    again = await bus.log.state(contributed("a"), fence=fence)

    assert before.mine
    assert (after.record, after.mine) == (None, False)
    assert again.mine, "what was stated before the fence fell stays stated"
    assert await bus.log.read(contributed("b").subject) is None


async def test_a_fence_on_all_facts_of_a_kind_lets_a_run_end_only_once(bus: Bus) -> None:
    started = await bus.log.state(Started(run="r-1", at=NOW, strategy="fedavg", training_rounds=1))
    assert started.record is not None
    fence = Fence(run_level_facts_of("r-1"), started.record.sequence)

    first = await bus.log.state(Cancelled(run="r-1", at=NOW), fence=fence)
    second = await bus.log.state(Started(run="r-1", at=NOW, strategy="other", training_rounds=2), fence=fence)
    third = await bus.log.state(Cancelled(run="r-2", at=NOW), fence=Fence(run_level_facts_of("r-2"), 0))

    assert (first.mine, second.mine, third.mine) == (True, False, True)


async def test_a_reader_gets_every_matching_fact_in_order_and_learns_when_it_is_live(bus: Bus) -> None:
    stated = [declined(f"c{n}") for n in range(600)]
    for fact in stated[:300]:
        await bus.log.state(fact)
    await bus.log.state(closed)
    await asyncio.gather(*(bus.log.state(fact) for fact in stated[300:]))

    read = await asyncio.wait_for(facts_until_live(bus.log.tail([Declined.pattern()])), 10)

    assert read[:300] == stated[:300]
    assert sorted(fact.subject for fact in read) == sorted(fact.subject for fact in stated)


async def test_a_reader_of_an_empty_log_is_live_at_once(bus: Bus) -> None:
    assert await asyncio.wait_for(facts_until_live(bus.log.tail([Declined.pattern()])), 20) == []


async def test_a_live_reader_hears_what_is_stated_later(bus: Bus) -> None:
    batches = bus.log.tail([Declined.pattern(run="r-1"), Closed.pattern()])
    await asyncio.wait_for(facts_until_live(batches), 20)
    await bus.log.state(declined("other", run="r-2"))
    await bus.log.state(declined("a"))
    await bus.log.state(closed)

    heard: list[Fact] = []
    while len(heard) < 2:
        heard += [record.fact for record in (await asyncio.wait_for(anext(batches), 20)).records]
    assert heard == [declined("a"), closed]


async def test_a_reader_starts_after_the_sequence_it_names(bus: Bus) -> None:
    first = await bus.log.state(declined("a"))
    await bus.log.state(declined("b"))
    assert first.record is not None

    read = await asyncio.wait_for(facts_until_live(bus.log.tail([Declined.pattern()], after=first.record.sequence)), 20)

    assert read == [declined("b")]


async def test_of_what_a_cluster_advertises_the_last_counts(bus: Bus) -> None:
    old, new = (Advertised(cluster="a", at=NOW + timedelta(seconds=s), lease_seconds=9) for s in (0, 1))
    other = Advertised(cluster="b", at=NOW, lease_seconds=9)
    for fact in (old, other, new):
        assert (await bus.log.state(fact)).mine

    read = await asyncio.wait_for(facts_until_live(bus.log.tail([Advertised.pattern()])), 20)

    assert read == [other, new]


async def test_of_what_is_said_of_a_clients_access_the_later_counts_and_clusters_are_read_without_it(bus: Bus) -> None:
    granted, again = (Granted(role="cli", name="anna", at=NOW + timedelta(seconds=s)) for s in (0, 2))
    revoked = Revoked(role="cli", name="anna", at=NOW + timedelta(seconds=1))
    advertised = Advertised(cluster="a", at=NOW, lease_seconds=9)
    for fact in (granted, advertised, revoked, again):
        assert (await bus.log.state(fact)).mine

    access = await asyncio.wait_for(facts_until_live(bus.log.tail([Granted.pattern(), Revoked.pattern()])), 20)
    fleet = await asyncio.wait_for(facts_until_live(bus.log.tail([Advertised.pattern()])), 20)
    held = await bus.log.read(revoked.subject)

    assert (access, fleet) == ([revoked, again], [advertised])
    assert held is not None and held.fact == revoked


async def test_a_timer_states_its_fact_when_its_time_has_come(bus: Bus) -> None:
    expired = Expired(run="r-1", round=1, at=NOW)
    keeping = asyncio.create_task(bus.timers.keep())
    try:
        for _ in range(2):
            await bus.timers.remind(expired, datetime.now(UTC) + timedelta(seconds=1), "00-trace-span-01")
        early = await bus.log.read(expired.subject)
        batches = bus.log.tail([Expired.pattern()])
        records = [record async for batch in _first(batches, 10) for record in batch.records]
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    assert early is None
    assert [(record.fact, record.traceparent) for record in records] == [(expired, "00-trace-span-01")]


async def test_a_timer_that_was_purged_states_nothing_and_others_do(bus: Bus) -> None:
    expired = Expired(run="r-1", round=1, at=NOW)
    others = expired.model_copy(update={"run": "r-2"})
    await bus.timers.remind(expired.model_copy(update={"round": 2}), datetime.now(UTC))
    await asyncio.sleep(1.5)  # by now it is due, and nobody keeps the timers
    for seconds, fact in enumerate((expired, others), 1):
        await bus.timers.remind(fact, datetime.now(UTC) + timedelta(seconds=seconds))
    await bus.timers.purge(all_facts_of("r-1"))
    keeping = asyncio.create_task(bus.timers.keep())
    try:
        batches = bus.log.tail([Expired.pattern()])
        records = [record async for batch in _first(batches, 10) for record in batch.records]
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    assert [record.fact for record in records] == [others]


async def _first(batches: AsyncIterator[Batch], seconds: float) -> AsyncIterator[Batch]:
    async with asyncio.timeout(seconds):
        async for batch in batches:
            yield batch
            if batch.records:
                return


async def test_a_task_is_leased_to_one_at_a_time_and_gone_when_done(bus: Bus) -> None:
    await bus.work.offer("work.fed.v1.r-1.1.fold.0", "00-trace-span-01")
    await bus.work.offer("work.fed.v1.r-1.1.fold.0")
    async with bus.work.lease(2) as lease:
        assert lease is not None
        assert (lease.subject, lease.deliveries, lease.traceparent) == ("work.fed.v1.r-1.1.fold.0", 1, "00-trace-span-01")
        async with bus.work.lease(0.1) as second:
            assert second is None
        await lease.done()
    async with bus.work.lease(0.1) as third:
        assert third is None


async def test_a_lease_that_ends_without_a_result_goes_to_the_next(bus: Bus) -> None:
    await bus.work.offer("work.fed.v1.r-1.1.fold.0")
    with contextlib.suppress(RuntimeError):
        async with bus.work.lease(2):
            raise RuntimeError("the fold failed")
    async with bus.work.lease(2) as lease:
        assert lease is not None
        assert lease.deliveries == 2
        await lease.again(0.2)
    async with bus.work.lease(3) as lease:
        assert lease is not None
        assert lease.deliveries == 3


async def test_a_queue_tells_how_many_tasks_wait_and_how_many_are_leased(bus: Bus) -> None:
    for shard in range(3):
        await bus.work.offer(f"work.fed.v1.r-1.1.fold.{shard}")
    async with bus.work.lease(2) as lease:
        assert lease is not None
        leased = await bus.work.backlog()
        await lease.done()

    assert (leased, await bus.work.backlog()) == (Backlog(waiting=2, leased=1), Backlog(waiting=2, leased=0))


async def test_a_lease_is_kept_alive_for_as_long_as_the_work_takes(bus: Bus) -> None:
    await bus.work.offer("work.fed.v1.r-1.1.fold.0")
    async with bus.work.lease(2) as lease, bus.work.lease(2.5) as second:
        assert lease is not None
        assert second is None, "the lease lasts one second and was extended"
        await lease.done()


@pytest.mark.parametrize("size", [0, 1, 8, 1000, 1001, 50_000])
async def test_bytes_come_back_in_order_and_whole(bus: Bus, size: int) -> None:
    data = bytes(n * 7 % 256 for n in range(size))
    piece = await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(data), 1000)

    read = bytearray(size)
    async for offset, chunk in bus.bulk.read(piece):
        read[offset : offset + len(chunk)] = chunk

    assert bytes(read) == data
    assert (piece.bytes, piece.chunks) == (size, -(-size // 1000))


async def test_one_chunk_can_be_had_by_itself(bus: Bus) -> None:
    data = bytes(n % 256 for n in range(2500))
    piece = await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(data), 1000)

    assert [bytes(await bus.bulk.chunk(piece, index)) for index in (2, 0, 1)] == [data[2000:], data[:1000], data[1000:2000]]
    with pytest.raises(Corrupt, match=r"0\.3 is missing"):
        await bus.bulk.chunk(piece, 3)
    with pytest.raises(Corrupt, match=r"0\.2 has 500 bytes instead of 900"):
        await bus.bulk.chunk(piece.model_copy(update={"bytes": 2900}), 2)


async def test_missing_and_changed_bytes_are_noticed(bus: Bus) -> None:
    piece = await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(bytes(3000)), 1000)
    other = piece.model_copy(update={"digest": DIGEST})
    with pytest.raises(Corrupt, match="are not those that were stored"):
        [chunk async for chunk in bus.bulk.read(other)]

    await bus.bulk.purge("bulk.fed.v1.r-1.1.model.>")
    with pytest.raises(Corrupt, match="missing"):
        [chunk async for chunk in bus.bulk.read(piece)]


async def test_an_advertisement_that_says_too_much_is_refused_and_the_last_one_stays(bus: Bus) -> None:
    small, large = (Advertised(cluster="a", at=NOW, lease_seconds=15, labels={"note": "x" * each}) for each in (10, Advertised.bytes_max))
    stated = await bus.log.state(small)

    with pytest.raises(Unreadable, match=r"fleet\.a\.advertised has 250\d+ bytes, and such a fact may have 250000"):
        await bus.log.state(large)
    assert await bus.log.read(small.subject) == stated.record


async def test_a_view_never_goes_back(bus: Bus) -> None:
    for sequence in (3, 5, 4):
        await bus.views.put(Viewed("r-1", b"%d" % sequence, sequence))
    await bus.views.put(Viewed("r-0", b"1", 1))

    assert await bus.views.get("r-1") == Viewed("r-1", b"5", 5)
    assert await bus.views.get("r-2") is None
    assert await bus.views.all() == [Viewed("r-0", b"1", 1), Viewed("r-1", b"5", 5)]


async def test_a_watcher_sees_the_view_now_and_when_it_changes(bus: Bus) -> None:
    await bus.views.put(Viewed("r-1", b"1", 1))
    watching = bus.views.watch("r-1")
    seen = [await asyncio.wait_for(anext(watching), 20)]
    await bus.views.put(Viewed("r-1", b"2", 2))
    seen.append(await asyncio.wait_for(anext(watching), 20))

    assert seen == [Viewed("r-1", b"1", 1), Viewed("r-1", b"2", 2)]


async def test_a_full_memory_bulk_says_so() -> None:
    bus = MemoryBus()
    bus.bulk.bytes_max = 1500
    with pytest.raises(BusFull, match="no room"):
        await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(bytes(3000)), 1000)
