"""A bus on which anybody may publish anything: what is no fact of ours harms the run that it is about, and nobody else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import nats
import pytest
from aggregator_story import RUN, resource, scheduled
from conftest import NatsServer

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.cli import runs
from fedplane.runtime.errors import BusFull, Corrupt
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.nats.streams import FLEET, FLEET_MESSAGE_BYTES_MAX
from fedplane.runtime.ports import Viewed
from fedplane.schemas.facts import Advertised, Cancelled, Expired, Granted, Revoked, Started, Submitted, all_facts_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = "other-01234567"
STRANGE_HEADERS = {
    "none": b"\r\n\r\n",
    "no text": b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    "no colon": b"NATS/1.0\r\nnothing\r\n\r\n",
    "a status line": b"NATS/1.0 503 no responders\r\n\r\n",
    "a status that is no text": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    "a status header": b"NATS/1.0\r\nStatus: 503\r\n\r\n",
}


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsBus]:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits(lease_seconds=1)) as opened:
        yield opened


async def publish(server: NatsServer, *messages: tuple[bytes, bytes, bytes]) -> None:
    """Subject, headers and body as they are, since a client library would not send all of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose": true, "headers": true}\r\n')
    for subject, headers, body in messages:
        writer.write(b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(headers), len(headers) + len(body), headers, body))
    told = [await asyncio.wait_for(reader.readline(), 20) for _ in range(len(messages) + 2)]
    writer.close()
    assert told[1:] == [b"+OK\r\n"] * (len(messages) + 1)


async def first_fact(bus: NatsBus) -> object:
    async with asyncio.timeout(10):
        async for batch in bus.log.tail([all_facts_of()]):
            if batch.records:
                return batch.records[0].fact
    raise AssertionError("the log ended")


@pytest.mark.parametrize("headers", STRANGE_HEADERS.values(), ids=STRANGE_HEADERS.keys())
async def test_a_reader_passes_over_a_message_with_strange_headers(bus, nats_server, headers) -> None:
    await publish(nats_server, (b"log.fed.v1.run.x.started", headers, b""), (b"log.fed.v1.run.y.started", headers, b"x"))
    submitted = Submitted(run=RUN, at=NOW, resource=resource())
    await bus.log.state(submitted)

    assert await first_fact(bus) == submitted


async def test_a_reader_passes_over_a_message_whose_subject_is_no_text(bus, nats_server) -> None:
    await publish(nats_server, (b"log.fed.v1.run.\xff.started", b"NATS/1.0\r\n\r\n", b"{}"))
    submitted = Submitted(run=RUN, at=NOW, resource=resource())
    await bus.log.state(submitted)

    assert await first_fact(bus) == submitted


async def test_a_register_that_is_taken_by_nonsense_is_an_error_that_names_it(bus, nats_server) -> None:
    await publish(nats_server, (f"log.fed.v1.run.{RUN}.cancelled".encode(), b"NATS/1.0\r\n\r\n", b"nonsense"))

    with pytest.raises(Corrupt, match=f"the register fed.v1.run.{RUN}.cancelled is taken by what is no fact"):
        await bus.log.state(Cancelled(run=RUN, at=NOW))


async def test_nonsense_about_one_run_leaves_the_others_alone(bus, nats_server) -> None:
    await publish(nats_server, (f"log.fed.v1.run.{RUN}.started".encode(), b"NATS/1.0\r\n\r\n", b"nonsense"))
    for run in (RUN, OTHER):
        await bus.log.state(Submitted(run=run, at=NOW, resource=resource()))
        await bus.log.state(scheduled("a", "b").model_copy(update={"run": run}))
    aggregating = asyncio.create_task(aggregate(bus, AggregatorSettings()))
    async with asyncio.timeout(10):
        while await bus.log.read(Started.pattern(run=OTHER)) is None and not aggregating.done():
            await asyncio.sleep(0.05)

    assert not aggregating.done()
    aggregating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await aggregating


async def test_a_run_about_which_something_unreadable_was_said_can_be_cancelled(bus, nats_server) -> None:
    await bus.log.state(Submitted(run=RUN, at=NOW, resource=resource()))
    await publish(nats_server, (f"log.fed.v1.run.{RUN}.paused".encode(), b"NATS/1.0\r\nce-type: io.fedplane.run.paused.v9\r\n\r\n", b"{}"))

    assert await runs.cancel(bus, RUN, NOW, "enough") == (Cancelled(run=RUN, at=NOW, message="enough"), True)


async def test_a_timer_whose_fact_cannot_be_stated_does_not_hold_up_the_others(bus, nats_server) -> None:
    due, other = Expired(run=RUN, round=1, at=NOW), Expired(run=RUN, round=2, at=NOW)
    await publish(nats_server, (f"log.{due.subject}".encode(), b"NATS/1.0\r\n\r\n", b"nonsense"))
    for fact in (due, other):
        await bus.timers.remind(fact, datetime.now(UTC))
    keeping = asyncio.create_task(bus.timers.keep())
    async with asyncio.timeout(10):
        while await bus.log.read(other.subject) is None or await _messages(nats_server, "TIMERS"):
            await asyncio.sleep(0.05)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_a_full_work_queue_says_so_and_a_task_that_is_up_already_does_not(bus, nats_server) -> None:
    await _shrink(nats_server, "WORK")
    await bus.work.offer("work.fed.v1.r-1.1.fold.0")

    with pytest.raises(BusFull, match=r"offer work.fed.v1.r-1.1.fold.\d+"):
        for shard in range(100):
            await bus.work.offer(f"work.fed.v1.r-1.1.fold.{shard}")


async def test_a_full_bucket_of_views_says_so(bus, nats_server) -> None:
    await _shrink(nats_server, "KV_runs")

    with pytest.raises(BusFull, match=r"write the view of r-\d+"):
        for number in range(100):
            await bus.views.put(Viewed(f"r-{number}", b"x" * 100, 1))


async def test_clusters_that_fill_the_fleet_push_nobody_out_of_what_is_known_of_access(bus, nats_server) -> None:
    await bus.log.state(revoked := Revoked(role="collaborator", name="a", at=NOW))
    await _shrink(nats_server, FLEET)
    said = [(b"log." + Advertised.pattern(cluster=f"c{number}").encode(), b"NATS/1.0\r\n\r\n", b"x" * 900) for number in range(9)]
    await publish(nats_server, *said)

    assert await _messages(nats_server, FLEET) == 2
    assert (await bus.log.read(revoked.subject)).fact == revoked


async def test_a_cluster_that_bypasses_us_advertises_no_more_than_the_server_takes_of_each(nats_server, bus) -> None:
    client = await nats.connect(nats_server.url)
    subject = f"log.{Advertised.pattern(cluster='a')}"
    await client.jetstream().publish(subject, bytes(FLEET_MESSAGE_BYTES_MAX))
    with pytest.raises(nats.js.errors.APIError, match="message size exceeds maximum allowed"):
        await client.jetstream().publish(subject, bytes(FLEET_MESSAGE_BYTES_MAX + 1))
    await client.close()

    assert await _messages(nats_server, FLEET) == 1


async def test_what_is_said_of_access_when_there_is_no_room_is_an_error_and_what_was_said_stays(bus, nats_server) -> None:
    first = Revoked(role="collaborator", name="c0", at=NOW)
    await _shrink(nats_server, "ACCESS")
    with pytest.raises(BusFull, match=r"access\.collaborator\.c\d\.revoked: the log is full; raise the limit of the stream ACCESS"):
        for number in range(9):
            await bus.log.state(first.model_copy(update={"name": f"c{number}"}))
    with pytest.raises(BusFull, match=r"collaborator\.c0\.revoked: the log is full"):
        await bus.log.state(first.model_copy(update={"message": "for another reason"}))
    with pytest.raises(BusFull, match=r"collaborator\.c0\.granted: the log is full"):
        await bus.log.state(Granted(role="collaborator", name="c0", at=NOW))

    assert (await bus.log.read(first.subject)).fact == first


async def _messages(server: NatsServer, stream: str) -> int:
    client = await nats.connect(server.url)
    information = await client.jetstream().stream_info(stream)
    await client.close()
    return information.state.messages


async def _shrink(server: NatsServer, stream: str) -> None:
    client = await nats.connect(server.url)
    configuration = (await client.jetstream().stream_info(stream)).config
    await client.jetstream().update_stream(configuration.evolve(max_bytes=2_000))
    await client.close()


async def test_a_view_that_somebody_else_wrote_is_replaced_by_ours(bus, nats_server) -> None:
    await publish(nats_server, (b"$KV.runs.r-1", b"NATS/1.0\r\nFedplane-Sequence: many\r\n\r\n", b"theirs"))
    await bus.views.put(Viewed("r-1", b"ours", 1))

    assert await bus.views.get("r-1") == Viewed("r-1", b"ours", 1)


async def test_a_timer_does_not_fire_before_its_time(bus) -> None:
    at = datetime.now(UTC).replace(microsecond=900_000) + timedelta(seconds=1)
    expired = Expired(run=RUN, round=1, at=at)
    await bus.timers.remind(expired, at)
    keeping = asyncio.create_task(bus.timers.keep())
    heard = await first_fact(bus)
    fired_at = datetime.now(UTC)
    keeping.cancel()

    assert heard == expired
    assert at <= fired_at
