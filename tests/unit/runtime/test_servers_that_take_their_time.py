"""A server that pings before it has said whether it lets a client in has not let it in yet."""

import asyncio

import pytest

from fedplane.runtime.nats import Patience
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect

REFUSAL = b"-ERR 'Authorization Violation'\r\n"


@pytest.mark.parametrize("refused", [1, 2])
async def test_a_client_that_is_pinged_and_then_refused_asks_again_until_it_is_let_in(refused: int) -> None:
    clients = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        clients += 1
        writer.write(b'INFO {"server_id":"N","version":"2.15.1","max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        if clients <= refused:
            writer.write(b"PING\r\n")
            await asyncio.sleep(0.05)
            writer.write(REFUSAL)
            writer.close()
            return
        writer.write(b"PONG\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await connect(f"nats://127.0.0.1:{port}", "test", CONTROL_PENDING_BYTES, Patience(connect_seconds=10))
        await asyncio.sleep(0.1)
        seen = connection.is_connected, connection.is_closed, clients
        await close(connection)

    assert seen == (True, False, refused + 1)
