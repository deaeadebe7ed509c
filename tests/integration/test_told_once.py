"""What is told of a fact is told by the one who was first to state it, as the server's register says, and by nobody else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest_asyncio
from aggregator_story import resource
from conftest import NatsServer
from telemetry_story import kept

from fedplane.runtime.metrics import FACTS_STATED, RUNS, Measurement
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.ports import Fence
from fedplane.runtime.spans import run_ended, run_traceparent, traceparent_of
from fedplane.schemas.facts import Advertised, Cancelled, Expired, Fact, Failed, Started, Submitted

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=30)
RUN = "r-1"


@pytest_asyncio.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsBus]:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as opened:
        yield opened


def started(at: datetime) -> Started:
    return Started(run=RUN, at=at, strategy="fedavg", training_rounds=1)


async def state(bus: NatsBus, fact: Fact, fence: Fence | None = None) -> bool:
    return (await bus.log.state(fact, fence=fence, traceparent=traceparent_of(fact))).mine


async def test_of_two_who_state_a_fact_one_counts_and_the_other_says_that_it_was_late(bus: NatsBus) -> None:
    with kept() as told:
        assert [await state(bus, started(at)) for at in (NOON, LATER)] == [True, False]
        assert await state(bus, started(NOON)), "it holds what we say"

    counted = Measurement(FACTS_STATED, 1, {"cloudevents.event_type": Started.type}, run_traceparent(RUN))
    assert told.measured == [counted]
    sent = f"send {Started.template}"
    assert [name for name, _, _ in told.begun] == [sent] * 3
    assert told.events == [(sent, "refused", {"error.type": "stated-before"})]


async def test_a_fact_that_comes_too_late_says_so(bus: NatsBus) -> None:
    await state(bus, started(NOON))
    failed = Failed(run=RUN, at=LATER, reason="x", message="y")
    with kept() as told:
        assert not await state(bus, failed, Fence(Started.pattern(run=RUN)))

    assert (told.measured, told.ended) == ([], [])
    assert told.events == [(f"send {Failed.template}", "refused", {"error.type": "fenced"})]


async def test_whoever_ends_a_run_tells_of_it_from_its_submission_on(bus: NatsBus) -> None:
    await state(bus, Submitted(run=RUN, at=NOON, resource=resource()))
    cancelled = Cancelled(run=RUN, at=LATER, message="not needed")
    with kept() as told:
        await state(bus, cancelled)

    assert told.ended == [run_ended(cancelled, NOON)]
    assert [(each.metric, each.attributes) for each in told.measured][1:] == [(RUNS, {"fedplane.outcome": "cancelled"})]


async def test_what_belongs_to_no_trace_is_counted_and_is_no_span(bus: NatsBus) -> None:
    with kept() as told:
        await state(bus, Advertised(cluster="a", at=NOON, lease_seconds=9))
        await state(bus, Expired(run=RUN, round=1, at=NOON))

    assert told.begun == []
    assert [each.attributes["cloudevents.event_type"] for each in told.measured] == [Advertised.type, Expired.type]
