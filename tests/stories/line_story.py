"""The line between a client and the server, with everything that can happen to a line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

READ_BYTES = 65_536


@dataclass
class Line:
    """Passes bytes on, connection by connection. A silent connection is open and passes nothing on towards the client."""

    server_port: int
    port: int = 0
    clients: list[asyncio.StreamWriter] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def fall_silent(self) -> None:
        """On every connection that there is; new ones are as good as new."""
        self.silent |= set(range(len(self.clients)))

    def break_off(self) -> None:
        for client in self.clients:
            client.close()

    def say(self, words: bytes) -> None:
        """Say something to every client, in the server's name."""
        for client in self.clients:
            client.write(words)

    async def serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        number = len(self.clients)
        self.clients.append(to_client)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, silences: set[int]) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(READ_BYTES):
                    if number not in silences:
                        target.write(data)
            target.close()

        await asyncio.gather(pass_on(from_client, to_server, set()), pass_on(from_server, to_client, self.silent))


@asynccontextmanager
async def line(server_port: int) -> AsyncIterator[Line]:
    it = Line(server_port)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        it.break_off()
