"""The other end of a webhook: a real HTTP server on loopback that answers as it is told, and fails in every way that servers do."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

HANGS, CLOSES = "hangs", "closes"
"""Answers that are none. Any other text is sent as it is, before the connection is closed."""


@dataclass(frozen=True)
class Request:
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def subject(self) -> str:
        return self.headers["ce-subject"]


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    after_seconds: float = 0.0

    def written(self) -> bytes:
        reason = HTTPStatus(self.status).phrase
        headers = {"content-length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join([*lines, "", ""]) + self.body).encode()


@dataclass
class Receiver:
    """Keeps what it was sent. The first answers are those that are put up; then `decides` says, which is happy with everything."""

    port: int = 0
    put_up: deque[Answer | str] = field(default_factory=deque)
    decides: Callable[[Request], Answer | str] = lambda request: Answer()
    requests: list[Request] = field(default_factory=list)
    scheme: str = "http"
    at_once: int = 0
    at_once_max: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hook"

    @property
    def subjects(self) -> list[str]:
        return [request.subject for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                request = Request(head.split()[1], headers, await reader.readexactly(int(headers.get("content-length", "0"))))
                self.requests.append(request)
                self.at_once += 1
                self.at_once_max = max(self.at_once_max, self.at_once)
                answer = self.put_up.popleft() if self.put_up else self.decides(request)
                if answer == HANGS:
                    await asyncio.sleep(60)
                if not isinstance(answer, Answer):
                    self.at_once -= 1
                    writer.write(b"" if answer == CLOSES else answer.encode())
                    break
                await asyncio.sleep(answer.after_seconds)
                self.at_once -= 1
                writer.write(answer.written())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiver(it: Receiver | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    it = it or Receiver()
    serving: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(it.serve(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", it.port, ssl=tls)
    it.port, it.scheme = server.sockets[0].getsockname()[1], "https" if tls else "http"
    try:
        yield it
    finally:
        server.close()
        for each in serving:
            each.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
