"""Reading the log costs the server what it should, however many facts come."""

import asyncio
from datetime import UTC, datetime

import nats
from conftest import NatsServer

from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.nats.pull import BATCH_MESSAGES_MAX
from fedplane.schemas.facts import Declined

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = 3 * BATCH_MESSAGES_MAX


async def test_a_reader_keeps_its_consumer_over_many_requests(nats_server: NatsServer) -> None:
    heard: list[int] = []
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:

        async def read() -> None:
            async for batch in bus.log.tail([Declined.pattern()]):
                heard.extend(record.fact.round for record in batch.records if isinstance(record.fact, Declined))
                if len(heard) == FACTS:
                    return

        reading = asyncio.create_task(read())
        for number in range(FACTS):
            await bus.log.state(Declined(run="r-1", round=number, cluster="a", at=NOW, reason="test", message="no"))
        await asyncio.wait_for(reading, 20)
        async with await nats.connect(nats_server.url) as onlooker:
            consumers = (await onlooker.jetstream().stream_info("LOG")).state.consumer_count

    assert heard == list(range(FACTS))
    assert consumers == 1, "a consumer was lost, or thought to be, and made anew"
