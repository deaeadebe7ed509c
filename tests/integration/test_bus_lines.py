"""The bus when its connections fail in ways that look like silence: nobody may wait for ever, and no fact may be missed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
import uvloop
from conftest import NatsServer
from line_story import line

from fedplane.runtime.errors import Unreachable
from fedplane.runtime.nats import Limits, NatsBus, Patience, open_bus
from fedplane.runtime.ports import Subscription
from fedplane.runtime.service import EXIT_UNREACHABLE
from fedplane.schemas.facts import Declined

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THE_END = b"-ERR 'maximum connections exceeded'\r\n"


@pytest.fixture
async def other(nats_server: NatsServer) -> AsyncIterator[NatsBus]:
    """Somebody else, whose connection is well."""
    async with open_bus(nats_server.url, name="other", source="/other", limits=Limits(lease_seconds=1)) as bus:
        yield bus


def declined(number: int, message: str = "no") -> Declined:
    return Declined(run="r-1", round=number, cluster="a", at=NOW, reason="test", message=message)


async def reading(bus: NatsBus, heard: list[int]) -> None:
    async for batch in bus.log.tail([Declined.pattern()]):
        heard.extend(record.fact.round for record in batch.records if isinstance(record.fact, Declined))


async def until_heard(heard: list[int], numbers: list[int], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while heard != numbers:
            await asyncio.sleep(0.01)


async def test_a_fact_that_was_lost_on_its_way_is_heard_though_nothing_is_said_after_it(nats_server, other) -> None:
    heard: list[int] = []
    async with line(nats_server.port) as to_server, open_bus(to_server.url, name="test", source="/test") as bus:
        task = asyncio.create_task(reading(bus, heard))
        await other.log.state(declined(0))
        await until_heard(heard, [0])
        to_server.fall_silent()
        await other.log.state(declined(1))
        await asyncio.sleep(0.1)
        to_server.break_off()

        await until_heard(heard, [0, 1])
        task.cancel()

    assert heard == [0, 1]


async def test_facts_as_large_as_can_be_arrive_however_many_there_are(nats_server, other) -> None:
    heard: list[int] = []
    for number in range(200):
        await other.log.state(declined(number, "x" * 890_000))
    task = asyncio.create_task(reading(other, heard))

    await until_heard(heard, list(range(200)))
    task.cancel()

    assert heard == list(range(200))


async def test_a_peer_that_is_gone_without_a_word_is_left_for_a_new_connection(nats_server, other) -> None:
    async with (
        line(nats_server.port) as to_server,
        open_bus(to_server.url, name="test", source="/test", patience=Patience(silence_seconds=0.2)) as bus,
    ):
        await bus.log.state(declined(0))
        to_server.fall_silent()
        async with asyncio.timeout(20):
            while True:
                try:
                    stated = await bus.log.state(declined(1))
                    break
                except Unreachable:
                    continue  # said again until a new connection is made, as the loop of a service does

    assert stated.mine


async def test_whoever_reads_hears_that_the_server_ended_the_connection_for_good(nats_server, other) -> None:
    async with line(nats_server.port) as to_server, open_bus(to_server.url, name="test", source="/test") as bus:
        task = asyncio.create_task(reading(bus, []))
        await bus.log.state(declined(0))
        to_server.say(THE_END)

        with pytest.raises(Unreachable, match="ended the connection for good: nats: maximum connections exceeded"):
            await asyncio.wait_for(task, 10)


async def test_whoever_reads_a_subscription_hears_so_as_well(nats_server, other) -> None:
    await other.subscriptions.make(Subscription("audit", (Declined.pattern(),), "me"))
    async with (
        line(nats_server.port) as to_server,
        open_bus(to_server.url, name="test", source="/test") as bus,
        aclosing(bus.subscriptions.read("audit")) as listening,
    ):
        await anext(listening)
        to_server.say(THE_END)

        with pytest.raises(Unreachable, match="ended the connection for good: nats: maximum connections exceeded"):
            await asyncio.wait_for(anext(listening), 10)


async def test_bytes_are_moved_on_a_new_connection_after_the_server_ended_the_old_one(nats_server, other) -> None:
    async with line(nats_server.port) as to_server, open_bus(to_server.url, name="test", source="/test") as bus:
        await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(b"12345678"), 8)
        to_server.clients[-1].write(THE_END)
        await asyncio.sleep(0.2)

        piece = await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.1", memoryview(b"87654321"), 8)

        assert [bytes(chunk) async for _, chunk in other.bulk.read(piece)] == [b"87654321"]


async def test_who_is_told_to_stop_stops_though_a_task_cannot_be_given_back(nats_server, other) -> None:
    await other.work.offer("work.fed.v1.r-1.1.fold.0")
    leased = asyncio.Event()

    async def work(bus: NatsBus) -> None:
        async with bus.work.lease(2) as lease:
            assert lease is not None
            leased.set()
            await asyncio.Event().wait()

    async with line(nats_server.port) as to_server, open_bus(to_server.url, name="test", source="/test") as bus:
        task = asyncio.create_task(work(bus))
        await leased.wait()
        to_server.say(THE_END)
        await asyncio.sleep(0.2)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

    async with other.work.lease(3) as lease:
        assert lease is not None, "it comes back when the lease lapses"


async def test_a_service_whose_connection_was_ended_ends_and_says_that_it_cannot_reach_the_bus(nats_server, other) -> None:
    async with line(nats_server.port) as to_server:
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "fedplane.aggregator.main"),
            env={**os.environ, "FEDPLANE_NATS_URL": to_server.url, "FEDPLANE_INSECURE": "true"},
            stderr=subprocess.PIPE,
        )
        assert service.stderr is not None
        while b"ready" not in await asyncio.wait_for(service.stderr.readline(), 20):
            pass
        to_server.say(THE_END)
        said = await asyncio.wait_for(service.stderr.read(), 20)

    assert await service.wait() == EXIT_UNREACHABLE
    assert b"ended the connection for good" in said.splitlines()[-1]


def test_a_bus_is_closed_without_ado_when_its_server_is_dead(nats_server) -> None:
    async def use() -> None:
        async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
            nats_server.kill()
            with pytest.raises(Unreachable):
                await bus.log.state(declined(0))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(use()) is None
