"""The bulk plane when more is asked of it at once than its server takes."""

import asyncio
import time
from pathlib import Path

import pytest
from conftest import NatsServer
from structlog.testing import capture_logs

from fedplane.runtime.errors import Unreachable
from fedplane.runtime.nats import Limits, bulk, open_bus

CHUNK_BYTES = 100_000
CHUNKS = 40


@pytest.fixture
def narrow_server(tmp_path: Path):
    """A server that takes no more than two chunks while one is being stored."""
    server = NatsServer(tmp_path / "narrow", options=f", max_buffered_size: {2 * CHUNK_BYTES}")
    server.start()
    yield server
    server.stop()


async def test_writers_slow_down_to_what_the_server_can_store(narrow_server: NatsServer) -> None:
    data = bytes(range(250)) * (CHUNKS * CHUNK_BYTES // 250)
    async with open_bus(narrow_server.url, name="test", source="/test", limits=Limits()) as bus:
        names = [f"bulk.fed.v1.r-1.1.update.c{number}.x.0" for number in range(4)]
        with capture_logs() as said:
            pieces = await asyncio.gather(*(bus.bulk.write(name, memoryview(data), CHUNK_BYTES) for name in names))

        stored = [b"".join([bytes(chunk) async for _, chunk in bus.bulk.read(piece)]) for piece in pieces]

    assert stored == [data] * 4
    assert "sending less at a time" in str(said)


async def test_a_writer_that_is_refused_again_and_again_says_so(narrow_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "REFUSALS_MAX", 2)
    async with open_bus(narrow_server.url, name="test", source="/test", limits=Limits()) as bus:
        with pytest.raises(Unreachable, match="too much waiting to be stored, and so 2 times in a row"):
            await bus.bulk.write("bulk.fed.v1.r-1.1.update.a.x.0", memoryview(bytes(3 * CHUNK_BYTES)), 3 * CHUNK_BYTES)


async def test_a_reader_that_is_busy_for_seconds_is_not_cut_off(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        piece = await bus.bulk.write("bulk.fed.v1.r-1.1.model.a.0", memoryview(bytes(200_000_000)), 1_000_000)

        async def size_of(index: int) -> int:
            return len(await bus.bulk.chunk(piece, index))

        with capture_logs() as said:
            asyncio.get_running_loop().call_later(0.01, time.sleep, 3)
            sizes = await asyncio.gather(*(size_of(index) for index in range(piece.chunks)))

    assert sizes == [1_000_000] * 200
    assert said == [], "it was neither disconnected nor in trouble"
