"""HTTP for the page: one question per connection, read by h11, answered with bytes or with a stream that goes on.

Why not a web framework: there are a dozen paths, all of them are read, and none has parameters worth the name.
h11 reads what strangers send, which is the part that is hard to get right; sockets, bounds and waits are asyncio's.

Rules that keep this file honest:
1. Nobody waits for anybody else: whoever asks slowly, or reads slowly, is cut off, and there are only so many connections.
2. On a loopback address only questions for this machine are answered. Else a page of somebody else's, open in the same browser,
   could give its own name our address and read what is here (DNS rebinding).
3. What an answer is made of is not said here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import h11

from fedplane.runtime.errors import Unavailable

__all__ = ["CONNECTIONS_MAX", "SEND_SECONDS", "STREAMS_MAX", "Answer", "Question", "Respond", "listening"]

QUESTION_BYTES_MAX = 16_384
"""A browser's question has some hundred bytes; Node and Apache allow as much as this."""

READ_BYTES = 4_096
"""How much of it is taken at a time, and so how much more than that there may be before it is refused."""

QUESTION_SECONDS = 5.0
"""How long a question may take to come. A browser that opens a connection in advance opens another one when it needs it."""

SEND_SECONDS = 10.0
"""How long a reader may leave a part of what it was sent unread. It is dropped then, and comes back by itself if it is a browser."""

BUFFER_BYTES_MAX = 65_536
"""How large such a part is, and how much may wait in this process for a reader before it is waited for."""

CONNECTIONS_MAX = 128
STREAMS_MAX = 64
"""A page has one stream, and asks over another connection at times. More people than that look at a copy of this process.
A stream too many is told so; a connection too many is cut off at once.
"""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page is its own files and nothing else: no text that gets into it can be a program, or fetch one."""

HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
    ("Connection", "close"),
)
"""Said with every answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: the path, what follows its question mark, and where a stream that was interrupted should go on."""

    path: str
    query: str = ""
    last_event_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said. A body that is a stream goes on until the reader has gone; `more` are further headers."""

    status: int
    kind: str
    body: bytes | Callable[[], AsyncGenerator[bytes, None]]
    more: tuple[tuple[str, str], ...] = ()


Respond = Callable[[Question], Answer]


@asynccontextmanager
async def listening(host: str, port: int, respond: Respond) -> AsyncIterator[None]:
    """Answer on that address as long as the block lasts. Raises Unavailable if it cannot be had."""
    door = _Door(respond, own_only=_is_loopback(host))
    try:
        server = await asyncio.start_server(door.meet, host=host, port=port, limit=QUESTION_BYTES_MAX)
    except OSError as error:
        raise Unavailable(f"cannot serve the page at {host}, port {port}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()
        door.close()


class _Door:
    """Everybody who is connected."""

    def __init__(self, respond: Respond, *, own_only: bool) -> None:
        self._respond = respond
        self._own_only = own_only
        self._guests: set[asyncio.Task[None]] = set()
        self._streams = 0

    def close(self) -> None:
        for guest in self._guests:
            guest.cancel()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its question to its end."""
        guest = asyncio.current_task()
        assert guest is not None, "a coroutine runs in a task"
        if len(self._guests) >= CONNECTIONS_MAX:
            writer.transport.abort()  # unheard: whoever says nothing would else use up this process's descriptors, and the bus needs one
            return
        self._guests.add(guest)
        try:
            writer.transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=QUESTION_BYTES_MAX)
            answer, bare = await self._hear(connection, reader)
            if answer is not None:
                await self._say(connection, answer, bare, reader, writer)
                writer.close()
                async with asyncio.timeout(SEND_SECONDS):
                    await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            pass  # cut off, or gone: rule 1, and nothing of ours is wrong
        except asyncio.CancelledError:
            pass  # the page is closed; nobody waits for this task, and asyncio would report that it was cancelled
        finally:
            self._guests.discard(guest)
            writer.transport.abort()  # nothing is left to be sent, or nobody who would take it

    async def _hear(self, connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[Answer | None, bool]:
        """The answer, and whether only its headers are wanted; no answer for whoever has left without a question."""
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                while (event := connection.next_event()) is h11.NEED_DATA:
                    connection.receive_data(await reader.read(READ_BYTES))
        except h11.RemoteProtocolError as error:
            return _words(error.error_status_hint, f"this is no question: {error}"), False
        if not isinstance(event, h11.Request):
            return None, False
        return self._judge(event), event.method == b"HEAD"

    def _judge(self, request: h11.Request) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        if self._own_only and not _is_this_machine(headers.get("host", "")):
            return _words(421, "this page is for this machine's browsers: ask for it at 127.0.0.1, or at localhost through a tunnel")
        if request.method not in (b"GET", b"HEAD"):
            answer = _words(405, "this page can only be read")
            return Answer(answer.status, answer.kind, answer.body, (("Allow", "GET, HEAD"),))
        path, _, query = request.target.decode("latin-1").partition("?")
        answer = self._respond(Question(path, query, headers.get("last-event-id", "")))
        return _busy() if callable(answer.body) and self._streams >= STREAMS_MAX else answer

    async def _say(
        self, connection: h11.Connection, answer: Answer, bare: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length = () if callable(answer.body) else (("Content-Length", str(len(answer.body))),)
        headers = [("Content-Type", answer.kind), *length, *HEADERS, *answer.more]
        writer.write(connection.send(h11.Response(status_code=answer.status, headers=headers)))
        if callable(answer.body) and not bare:
            self._streams += 1
            try:
                await _pass_on(connection, answer.body, reader, writer)
            finally:
                self._streams -= 1
        elif not bare:
            assert isinstance(answer.body, bytes), "what is no stream is bytes"
            await _send(writer, connection.send(h11.Data(data=answer.body)))
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await _drain(writer)


async def _pass_on(
    connection: h11.Connection,
    body: Callable[[], AsyncGenerator[bytes, None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Send a stream until its reader has gone, which is when it closes its own end, or says anything more."""
    async with aclosing(body()) as pieces:
        gone, piece = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(anext(pieces))
        try:
            while not gone.done():
                await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
                if piece.done():
                    await _send(writer, connection.send(h11.Data(data=piece.result())))
                    piece = asyncio.ensure_future(anext(pieces))
        finally:
            gone.cancel()
            piece.cancel()
            await asyncio.wait({piece})  # it is still at work on the next one, and cannot be closed before


async def _send(writer: asyncio.StreamWriter, said: bytes) -> None:
    """Send a part at a time: a reader at the end of a slow line has time for each, however large the whole is."""
    for start in range(0, len(said), BUFFER_BYTES_MAX):
        writer.write(said[start : start + BUFFER_BYTES_MAX])
        await _drain(writer)


async def _drain(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await writer.drain()


def _words(status: int, said: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", said.encode())


def _busy() -> Answer:
    return Answer(503, "text/plain; charset=utf-8", b"too many are looking at once; try again", (("Retry-After", "5"),))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_this_machine(host: str) -> bool:
    """Whether a question's `Host` names this machine. The port does not matter: a tunnel may have another one."""
    name = host if host.endswith("]") else host.partition(":")[0] if host.count(":") < 2 else host.rpartition(":")[0]
    return name in {"localhost", "127.0.0.1", "[::1]"}
