"""The line between a client and the server, with everything that can happen to a line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

READ_BYTES = 65_536


@dataclass
class Line:
    """Passes bytes on, connection by connection. A silent connection is open and passes nothing on towards the client.

    `passes` sees what a client says before the server does, and decides whether the server does.
    """

    server_port: int
    passes: Callable[[bytes], bool] = lambda said: True
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

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, passes: Callable[[bytes], bool]) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(READ_BYTES):
                    if passes(data):
                        target.write(data)
            target.close()

        await asyncio.gather(
            pass_on(from_client, to_server, self.passes), pass_on(from_server, to_client, lambda said: number not in self.silent)
        )


@asynccontextmanager
async def line(server_port: int, passes: Callable[[bytes], bool] = lambda said: True) -> AsyncIterator[Line]:
    it = Line(server_port, passes)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        it.break_off()
