"""The bus when things go wrong: a server that is killed, a store that is full, nobody there at all."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import nats
import pytest
from conftest import NatsServer

from fedplane.runtime.errors import BusFull, Unreachable
from fedplane.runtime.nats import Limits, Patience, open_bus
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.runtime.nats.sizes import NatsSizes
from fedplane.schemas import envelope
from fedplane.schemas.facts import Declined, Expired
from fedplane.schemas.subjects import bulk_of_run, update_piece

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def declined(number: int, message: str = "no") -> Declined:
    return Declined(run="r-1", round=number, cluster="a", at=NOW, reason="test", message=message)


async def test_a_reader_misses_nothing_and_repeats_nothing_while_the_server_is_killed_again_and_again(nats_server: NatsServer) -> None:
    heard: list[int] = []
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:

        async def read() -> None:
            async for batch in bus.log.tail([Declined.pattern()]):
                heard.extend(record.fact.round for record in batch.records if isinstance(record.fact, Declined))

        async def write() -> None:
            for number in range(200):
                while True:
                    try:
                        await bus.log.state(declined(number))
                        break
                    except Unreachable:
                        continue  # the server is down: whoever states a fact tries again

        async def kill() -> None:
            for _ in range(3):
                await asyncio.sleep(0.3)
                nats_server.kill()
                await asyncio.sleep(0.2)
                nats_server.start()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(asyncio.gather(write(), kill()), 60)
        async with asyncio.timeout(20):
            while len(heard) < 200:
                await asyncio.sleep(0.05)
        reading.cancel()

    assert heard == list(range(200))


async def test_bytes_arrive_whole_although_the_server_is_killed_in_mid_transfer(nats_server: NatsServer) -> None:
    data = bytes(range(256)) * 40_000
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:

        async def kill() -> None:
            await asyncio.sleep(0.01)
            nats_server.kill()
            nats_server.start()

        piece, _ = await asyncio.gather(bus.bulk.write("bulk.fed.v1.r-1.1.update.a.x.0", memoryview(data), 16_000), kill())
        read = bytearray(len(data))

        async def fetch() -> None:
            async for offset, chunk in bus.bulk.read(piece):
                read[offset : offset + len(chunk)] = chunk

        await asyncio.gather(fetch(), kill())

    assert bytes(read) == data


async def test_a_timer_fires_although_the_server_was_down_at_its_time(nats_server: NatsServer) -> None:
    expired = Expired(run="r-1", round=1, at=NOW)
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits(lease_seconds=1)) as bus:
        await bus.timers.remind(expired, datetime.now(UTC) + timedelta(seconds=1))
        nats_server.kill()
        await asyncio.sleep(1.5)
        nats_server.start()
        keeping = asyncio.create_task(bus.timers.keep())
        async with asyncio.timeout(20):
            while (fired := await _read(bus, expired.subject)) is None:
                await asyncio.sleep(0.1)
        assert fired.fact == expired
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def _read(bus, subject):
    with contextlib.suppress(Unreachable):
        return await bus.log.read(subject)
    return None


async def test_a_full_log_refuses_more_with_a_clear_error_and_keeps_what_it_has(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits(log_bytes=10_000)) as bus:
        stated = 0
        with pytest.raises(BusFull, match="the log is full; raise the limit of the stream LOG"):
            for number in range(100):
                await bus.log.state(declined(number, "x" * 500))
                stated += 1

        assert 5 < stated < 20
        assert [(await bus.log.read(declined(number).subject)) is not None for number in range(stated)] == [True] * stated
        assert await bus.log.read(declined(stated).subject) is None


async def test_a_full_bulk_stream_refuses_bytes_and_the_log_goes_on(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits(bulk_bytes=100_000)) as bus:
        with pytest.raises(BusFull, match="free disk space or raise"):
            await bus.bulk.write("bulk.fed.v1.r-1.1.update.a.x.0", memoryview(bytes(200_000)), 10_000)
        outcome = await bus.log.state(declined(1))

    assert outcome.mine


async def test_a_server_without_room_for_the_streams_says_so(tmp_path) -> None:
    server = NatsServer(tmp_path / "small", options=", max_file_store: 1MB")
    server.start()
    try:
        with pytest.raises(BusFull, match="declare stream LOG"):
            async with open_bus(server.url, name="test", source="/test", limits=Limits()):
                pass
    finally:
        server.stop()


async def test_services_that_start_together_find_the_streams_made_though_the_server_has_no_room_for_them_twice(tmp_path) -> None:
    server = NatsServer(tmp_path / "fitting", options=", max_file_store: 320MB")
    server.start()
    limits = Limits(log_bytes=10_000_000, bulk_bytes=100_000_000)  # the others take 224 MB
    try:
        async with contextlib.AsyncExitStack() as together:
            opening = (together.enter_async_context(open_bus(server.url, name="test", source="/test", limits=limits)) for _ in range(6))
            buses = await asyncio.gather(*opening)
            outcome = await buses[0].log.state(declined(1))
    finally:
        server.stop()

    assert outcome.mine


async def test_a_fact_is_stored_though_somebody_has_used_its_id_for_something_else(nats_server: NatsServer) -> None:
    """The server takes the second message with an id for a repetition of the first, whatever it is about, and says that it has it."""
    fact = declined(1)
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        connection = await nats.connect(nats_server.url)
        stolen = {"Nats-Msg-Id": envelope.write(fact, "/test").id}
        await connection.jetstream().publish(f"log.{declined(2).subject}", b"something else", headers=stolen)
        await connection.close()
        first, second = await bus.log.state(fact), await bus.log.state(fact)
        held = await bus.log.read(fact.subject)

    assert [first.mine, second.mine] == [True, True]
    assert held is not None
    assert held.fact == fact


async def test_a_message_whose_headers_cannot_be_read_counts_as_the_largest(nats_server: NatsServer) -> None:
    """Or whoever stores under such headers would store for nothing: the server says how large a body is beside them."""
    broken = b"X\r\n\r\n"
    subjects = [f"{update_piece('r-1', 1, 'a', 'x', shard)}.0" for shard in (0, 1)]
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()):
        connection = await connect(nats_server.url, "test", CONTROL_PENDING_BYTES, Patience())
        await connection.jetstream().publish(subjects[0], bytes(1_000))
        await connection._send_command(
            b"HPUB %b %d %d\r\n%b%b\r\n" % (subjects[1].encode(), len(broken), len(broken) + 1_000, broken, bytes(1_000))
        )
        await connection.flush()
        found = dict[str, int]()
        async with asyncio.timeout(20), contextlib.aclosing(NatsSizes(connection).follow("BULK", [bulk_of_run("r-1")])) as following:
            async for sizes in following:
                found |= sizes
                if len(found) == len(subjects):
                    break
        await close(connection)

    assert 1_000 < found[subjects[0]] < 2_000
    assert found[subjects[1]] > 1_000_000


async def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with pytest.raises(Unreachable, match=r"no NATS server answered at nats://127.0.0.1:1 within 0.5 s"):
        async with open_bus("nats://127.0.0.1:1", name="test", source="/test", patience=Patience(connect_seconds=0.5)):
            pass


async def test_streams_that_nobody_declares_are_an_error_that_says_what_is_missing(nats_server: NatsServer) -> None:
    with pytest.raises(Unreachable, match=r"has no stream LOG after 0.5 s; is a scheduler running\?"):
        async with open_bus(nats_server.url, name="test", source="/test", patience=Patience(connect_seconds=0.5)):
            pass
