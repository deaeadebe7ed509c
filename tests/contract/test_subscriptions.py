"""Durable subscriptions on every implementation of the ports: what a reader misses, hears twice, and in which order."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from fedplane.runtime.errors import BadInput
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Batch, Bus, Subscription
from fedplane.runtime.subscribing import DURABLES_MAX
from fedplane.schemas.facts import Advertised, Fact, RunFact, Waiting, all_facts_of

EVERY_RUN = (all_facts_of(),)


def waiting(number: int, run: str = "r-1") -> Waiting:
    return Waiting(run=run, at=datetime(2026, 1, 1, tzinfo=UTC), number=number, wanted=1, eligible=0, message="nobody", refused=())


async def state(bus: Bus, *numbers: int) -> None:
    for number in numbers:
        await bus.log.state(waiting(number))


async def hear(bus: Bus, name: str = "audit", *, until: int | None = None, done: int = 1_000) -> list[Fact]:
    """What is handed over until it is live, or as many facts; so many of them are done with."""
    heard: list[Fact] = []
    async with asyncio.timeout(20), aclosing(bus.subscriptions.read(name)) as subscription:
        async for handed in subscription:
            if handed.record is not None:
                heard.append(handed.record.fact)
            if len(heard) <= done:
                await handed.done()
            if len(heard) == until or (until is None and handed.live):
                return heard
    raise AssertionError("the log ended")


def audit(begin: int | datetime | None = 0, patterns: tuple[str, ...] = EVERY_RUN, owner: str = "me") -> Subscription:
    return Subscription("audit", patterns, owner, begin)


async def test_a_reader_that_comes_back_goes_on_behind_what_it_was_done_with(bus: Bus) -> None:
    await state(bus, *range(1, 71))

    assert await bus.subscriptions.make(audit())
    assert await hear(bus, until=40, done=38) == [waiting(number) for number in range(1, 41)]
    await state(bus, 71)
    assert not await bus.subscriptions.make(audit())
    assert await hear(bus) == [waiting(number) for number in range(39, 72)]
    assert await hear(bus) == []


async def test_a_reader_that_skipped_a_fact_hears_that_one_again(bus: Bus) -> None:
    await state(bus, 1, 2, 3)
    await bus.subscriptions.make(audit())
    async with aclosing(bus.subscriptions.read("audit")) as reading:
        first, _, third = [await anext(reading) for _ in range(3)]
        await third.done()
        await first.done()

    assert await hear(bus) == [waiting(2)]


async def test_what_is_stated_while_nobody_reads_waits(bus: Bus) -> None:
    await state(bus, 1)
    await bus.subscriptions.make(audit(begin=None))
    await state(bus, 2, 3)

    assert await hear(bus) == [waiting(2), waiting(3)]


async def test_a_reader_that_has_heard_everything_waits_for_more(bus: Bus) -> None:
    await bus.subscriptions.make(audit())
    hearing = asyncio.create_task(hear(bus, until=1))
    await asyncio.sleep(0.05)
    await state(bus, 1)

    assert await hearing == [waiting(1)]


async def test_a_subscription_may_begin_at_a_time_or_behind_a_place(bus: Bus) -> None:
    await state(bus, 1)
    await asyncio.sleep(0.01)
    since = datetime.now(UTC)
    await state(bus, 2)

    for begin in (since, 1):
        await bus.subscriptions.make(audit(begin=begin))
        assert await hear(bus) == [waiting(2)]
        await bus.subscriptions.forget("audit", "me")


async def test_a_reader_of_the_log_may_begin_at_a_time(bus: Bus) -> None:
    await state(bus, 1)
    await asyncio.sleep(0.01)
    since = datetime.now(UTC)
    await state(bus, 2)

    for begin, expected in (
        (since, [waiting(2)]),
        (since + timedelta(hours=1), []),
        (since - timedelta(hours=1), [waiting(1), waiting(2)]),
    ):
        heard: list[Fact] = []
        async for batch in bus.log.tail(EVERY_RUN, begin):
            heard += [record.fact for record in batch.records]
            if batch.live:
                break
        assert heard == expected


async def test_a_reader_of_the_log_may_begin_behind_all_that_there_is(bus: Bus) -> None:
    await state(bus, 1)
    batches = aiter(bus.log.tail(EVERY_RUN, None))

    assert await anext(batches) == Batch((), live=True)
    await state(bus, 2)
    assert [record.fact for record in (await anext(batches)).records] == [waiting(2)]


async def test_only_what_was_asked_for_is_heard(bus: Bus) -> None:
    await bus.subscriptions.make(audit(patterns=(Waiting.pattern(run="r-2"), Waiting.pattern(run="r-3"))))
    for run in ("r-1", "r-2", "r-3"):
        await bus.log.state(waiting(1, run))

    assert [fact.run for fact in await hear(bus) if isinstance(fact, RunFact)] == ["r-2", "r-3"]


async def test_facts_of_the_fleet_are_subscribed_to_as_well(bus: Bus) -> None:
    advertised = Advertised(at=datetime(2026, 1, 1, tzinfo=UTC), cluster="a", lease_seconds=5)
    await bus.subscriptions.make(audit(patterns=(Advertised.pattern(),)))
    await bus.log.state(advertised)

    assert await hear(bus) == [advertised]
    assert await bus.subscriptions.every() == [audit(patterns=(Advertised.pattern(),))]


async def test_a_name_belongs_to_its_owner_and_to_what_it_hears(bus: Bus) -> None:
    await bus.subscriptions.make(audit())

    with pytest.raises(BadInput, match="the durable subscription audit is me's, and you are you; choose another name, or say --owner me"):
        await bus.subscriptions.make(audit(owner="you"))
    with pytest.raises(BadInput, match=r"hears fed\.v1\.run\.\*\.>, and now fed\.v1\.run\.r-1\.> is asked for"):
        await bus.subscriptions.make(audit(patterns=(all_facts_of("r-1"),)))
    with pytest.raises(BadInput, match="is me's, and you are you"):
        await bus.subscriptions.forget("audit", "you")


async def test_one_process_at_a_time_reads_a_subscription(bus: Bus) -> None:
    await bus.subscriptions.make(audit())
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(bus.subscriptions.read("audit")) as subscription:
            async for _ in subscription:
                begun.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 20)

    with pytest.raises(BadInput, match="audit is read by another process"):
        await hear(bus)
    reading.cancel()
    await asyncio.wait([reading])
    await state(bus, 1)
    assert await hear(bus) == [waiting(1)]


async def test_a_subscription_whose_reader_is_busy_is_read_by_nobody_else(bus: Bus) -> None:
    await state(bus, 1)
    await bus.subscriptions.make(audit())

    async with aclosing(bus.subscriptions.read("audit")) as reading:
        await anext(reading)
        with pytest.raises(BadInput, match="audit is read by another process"):
            await hear(bus)


async def test_a_subscription_that_is_forgotten_begins_anew(bus: Bus) -> None:
    await state(bus, 1)
    await bus.subscriptions.make(audit())
    await hear(bus)

    await bus.subscriptions.forget("audit", "me")

    assert await bus.subscriptions.every() == []
    with pytest.raises(BadInput, match="there is no durable subscription 'audit'; there are: none"):
        await hear(bus)
    assert await bus.subscriptions.make(audit())
    assert await hear(bus) == [waiting(1)]


async def test_what_is_no_name_names_no_subscription(bus: Bus) -> None:
    for name in ("", "Audit", "a.b", "a*", "x" * 64):
        with pytest.raises(BadInput, match="is no name for a durable subscription; it has lower-case letters, digits and dashes"):
            await bus.subscriptions.make(Subscription(name, EVERY_RUN, "me"))


async def test_there_are_only_so_many_subscriptions() -> None:
    bus = MemoryBus()
    for number in range(DURABLES_MAX):
        await bus.subscriptions.make(Subscription(f"n{number}", EVERY_RUN, "me"))

    with pytest.raises(BadInput, match=f"there are {DURABLES_MAX} durable subscriptions, and no more are taken; `fedplane events --forget"):
        await bus.subscriptions.make(audit())
