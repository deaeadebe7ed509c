"""Forgetting and room, on both implementations of the ports: what is purged is gone, and only that."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fedplane.runtime.errors import BusFull
from fedplane.runtime.headroom import NEW_RUNS_SHARE
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.ports import Bus, Fence, Stated, Viewed
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Closed, Completed, Declined, Fact, Started, Submitted, all_facts_of, run_level_facts_of
from fedplane.schemas.subjects import bulk_of_run, layouts_of_models, model_piece

FACT = {type(fact): fact for fact in EXAMPLES}
SUBMITTED = FACT[Submitted]
RUN = "mnist-5f3a9c1e"
LOG_BYTES = 40_000


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """A bus with a small log."""
    if request.param == "memory":
        small = MemoryBus()
        small.log.bytes_max = LOG_BYTES
        yield small
    else:
        server = request.getfixturevalue("nats_server")
        async with open_bus(server.url, name="test", source="/test", limits=Limits(log_bytes=LOG_BYTES)) as opened:
            yield opened


async def state(bus: Bus, *said: Fact) -> list[int]:
    """State them one after the other: their places on the log."""
    outcomes = [await bus.log.state(fact) for fact in said]
    return [outcome.record.sequence for outcome in outcomes if outcome.record]


async def read(bus: Bus, pattern: str, after: int = 0) -> list[tuple[int, Fact]]:
    """What the log has now."""
    found = []
    async with asyncio.timeout(10):
        async for batch in bus.log.tail([pattern], after):
            found += [(record.sequence, record.fact) for record in batch.records]
            if batch.live:
                break
    return found


def other(fact: Fact) -> Fact:
    return fact.model_copy(update={"run": "other-1"})


async def test_of_a_purged_run_only_what_came_later_is_left_and_other_runs_are_whole(bus: Bus) -> None:
    early = [SUBMITTED, other(SUBMITTED), FACT[Started], FACT[Closed], other(FACT[Closed])]
    await state(bus, *early)
    (place,) = await state(bus, FACT[facts.Archived])

    await bus.log.purge(all_facts_of(RUN), before=place)

    assert await read(bus, all_facts_of()) == [(2, early[1]), (5, early[4]), (6, FACT[facts.Archived])]
    assert await read(bus, all_facts_of(RUN), after=3) == [(6, FACT[facts.Archived])]
    assert await bus.log.read(SUBMITTED.subject) is None


async def test_what_is_purged_without_a_place_is_gone_and_the_order_goes_on(bus: Bus) -> None:
    await state(bus, SUBMITTED, other(SUBMITTED), FACT[Closed])
    full = await bus.log.usage()
    await bus.log.purge(all_facts_of(RUN))
    less = await bus.log.usage()
    anew = FACT[Closed].model_copy(update={"reason": "another one"})  # the server knows the very same event for two minutes
    places = await state(bus, anew)

    assert places == [4]
    assert await read(bus, all_facts_of()) == [(2, other(SUBMITTED)), (4, anew)]
    assert 0 < less.bytes < full.bytes
    assert less.bytes_max == LOG_BYTES


async def test_a_live_reader_is_not_disturbed_by_a_purge(bus: Bus) -> None:
    await state(bus, SUBMITTED, FACT[Started])
    batches = bus.log.tail([all_facts_of()])
    heard: list[Fact] = []
    async with asyncio.timeout(10):
        while len(heard) < 2:
            heard += [record.fact for record in (await anext(batches)).records]
        await bus.log.purge(all_facts_of(RUN))
        await state(bus, other(SUBMITTED))
        while len(heard) < 3:
            heard += [record.fact for record in (await anext(batches)).records]

    assert heard == [SUBMITTED, FACT[Started], other(SUBMITTED)]


async def test_a_reader_learns_that_it_is_live_although_what_it_was_to_read_is_purged(bus: Bus) -> None:
    await state(bus, SUBMITTED, FACT[Started])
    batches = bus.log.tail([all_facts_of(RUN)])
    batch = await anext(batches)
    await bus.log.purge(all_facts_of(RUN))
    async with asyncio.timeout(10):
        while not batch.live:
            batch = await anext(batches)
        await state(bus, FACT[Closed])
        batch = await anext(batches)

    assert [record.fact for record in batch.records] == [FACT[Closed]]


async def test_a_fence_on_everything_about_a_run_refuses_what_has_not_seen_the_last_of_it(bus: Bus) -> None:
    *_, last = await state(bus, SUBMITTED, FACT[Completed], FACT[Closed])

    late = await bus.log.state(FACT[facts.Archived], fence=Fence(all_facts_of(RUN), last - 1))
    right = await bus.log.state(FACT[facts.Archived], fence=Fence(all_facts_of(RUN), last))

    assert late == Stated(None, False)
    assert right.mine


async def test_a_run_that_is_archived_is_not_submitted_again_and_a_sleeper_gets_no_round_into_it(bus: Bus) -> None:
    *_, last = await state(bus, SUBMITTED, FACT[Started], FACT[Completed], FACT[facts.Archived])
    await bus.log.purge(all_facts_of(RUN), before=last)

    again = await bus.log.state(SUBMITTED, fence=Fence(run_level_facts_of(RUN)))
    asleep = await bus.log.state(FACT[facts.Opened], fence=Fence(run_level_facts_of(RUN), last - 2))

    assert (again, asleep) == (Stated(None, False), Stated(None, False))


async def test_a_log_that_is_nearly_full_takes_facts_of_runs_that_go_on_but_no_new_run(bus: Bus) -> None:
    await state(bus, SUBMITTED)
    number = 0
    while (await bus.log.usage()).bytes < LOG_BYTES * NEW_RUNS_SHARE:
        await state(bus, FACT[Declined].model_copy(update={"cluster": f"c-{number}", "detail": "x" * 500}))
        number += 1

    with pytest.raises(
        BusFull, match=r"the run other-1 was not taken: .* raise the limit of the stream LOG, or shorten FEDPLANE_RETENTION"
    ):
        await bus.log.state(other(SUBMITTED))
    assert (await bus.log.state(SUBMITTED)).mine, "what was said before stays said"
    assert (await bus.log.state(FACT[Completed])).mine

    with pytest.raises(BusFull, match="the log is full"):
        for more in range(100):
            await state(bus, FACT[Declined].model_copy(update={"cluster": f"d-{more}", "detail": "x" * 500}))
    await bus.log.purge(Declined.pattern(run=RUN))
    assert (await bus.log.state(other(SUBMITTED))).mine


async def test_the_models_that_are_stored_are_found_by_their_layouts(bus: Bus) -> None:
    pieces = [model_piece(RUN, number, "a", part) for number in (0, 2) for part in ("layout", 0)]
    for subject in (*pieces, model_piece("other-1", 0, "a", "layout")):
        await bus.bulk.write(subject, memoryview(bytes(20)), 8)

    assert await bus.bulk.stored(layouts_of_models(RUN)) == {f"{pieces[0]}.0", f"{pieces[2]}.0"}
    await bus.bulk.purge(bulk_of_run(RUN))
    assert await bus.bulk.stored(layouts_of_models(RUN)) == frozenset()
    assert len(await bus.bulk.stored("bulk.fed.v1.>")) == 3


async def test_a_view_that_is_removed_is_gone_and_may_come_back(bus: Bus) -> None:
    for key in ("r-1", "r-2"):
        await bus.views.put(Viewed(key, b"1", 7))
    for _ in range(2):
        await bus.views.remove("r-1")

    assert await bus.views.all() == [Viewed("r-2", b"1", 7)]
    await bus.views.put(Viewed("r-1", b"2", 3))
    assert await bus.views.get("r-1") == Viewed("r-1", b"2", 3)
