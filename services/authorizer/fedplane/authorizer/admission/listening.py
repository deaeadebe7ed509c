"""HTTPS for the API server: one question per connection, read by h11, answered with JSON.

Whoever reaches the port may ask: an API server does not say who it is unless its own configuration has it so.
Nothing is lost by that. An answer depends on the question alone, and only the API server acts on it.
So what matters is that nobody keeps others from being answered: sizes, waits and the number of connections have bounds.
The certificate is renewed while this runs, so its files are looked at again and again; while they are no pair, the last one stays.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import structlog

from fedplane.runtime.errors import BadInput, Unavailable

__all__ = ["QUESTION_BYTES_MAX", "Respond", "listening"]

QUESTION_BYTES_MAX = 262_144
"""A question about an honest request has 5 to 10 KB: the request, perhaps as it was and as it is, and who asks."""

HEAD_BYTES_MAX = 16_384
"""An API server's headers have some hundred bytes; Node and Apache allow as much as this."""

READ_BYTES = 16_384

QUESTION_SECONDS = 5.0
"""How long a question may take to come and an answer to be taken. The webhook's own limit in the manifest is as long."""

CONNECTIONS_MAX = 64
"""Clusters renew once in hours, so a handful at a time is much. One too many is cut off, and the cluster's agent tries again later.
Whoever is still greeting is not counted, and has as long as a question may take.
"""

LOOK_SECONDS = 10.0
"""How often the certificate's files are looked at. A kubelet takes a minute to bring a new one, and it was renewed weeks ahead."""

QUESTION_PATH = "/judge"
HEALTH_PATH = "/live"
"""Where an API server asks, whose question has a query with a time limit behind it, and where a kubelet does."""

Respond = Callable[[bytes], Mapping[str, Any]]
"""What is answered to the body of a question; raises BadInput if that is none."""

Answer = tuple[int, bytes]


@asynccontextmanager
async def listening(
    host: str, port: int, certificate: Path, key: Path, respond: Respond, *, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[int]:
    """Answer at that address as long as the block lasts; it is given the port.

    Raises Unavailable if the address cannot be had, and BadInput for files that are no certificate with its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise BadInput(f"{certificate} and {key} are no certificate with its key: {error.strerror or error}") from error
    door = _Door(respond)
    try:
        server = await asyncio.start_server(
            door.meet, host, port, limit=READ_BYTES, ssl=context, ssl_handshake_timeout=QUESTION_SECONDS, ssl_shutdown_timeout=1.0
        )
    except OSError as error:
        raise Unavailable(f"cannot listen at {host}, port {port}: {error.strerror or error}") from error
    renewing = asyncio.create_task(_renew(context, certificate, key, look_seconds))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        renewing.cancel()
        server.close()


async def _renew(context: ssl.SSLContext, certificate: Path, key: Path, look_seconds: float) -> None:
    """Take a new certificate for the connections to come."""
    known = _seen(certificate, key)
    while True:
        await asyncio.sleep(look_seconds)
        try:
            if (seen := _seen(certificate, key)) != known:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)  # half a pair would spoil the one in use
                context.load_cert_chain(certificate, key)
                known = seen
                structlog.get_logger().info("took the new certificate")
        except OSError as error:  # half written, or gone for a moment
            structlog.get_logger().warning("keeps the old certificate, since the new one cannot be read", why=str(error))


def _seen(*paths: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in paths)


class _Door:
    """Everybody who is connected."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._guests = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its question to its end."""
        if self._guests >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._guests += 1
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                await self._converse(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, h11.LocalProtocolError):
            pass  # cut off, or gone, or it wants what we do not speak; to an API server that is a refusal
        finally:
            self._guests -= 1
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            question = await _hear(connection, reader, writer)
        except h11.RemoteProtocolError as error:
            status, body = error.error_status_hint, _words(f"this is no question: {error}")
        else:
            if question is None:
                return
            status, body = self._answer(*question)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)))
        writer.write(connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))
        await writer.drain()

    def _answer(self, request: h11.Request, body: bytes | None) -> Answer:
        asked = (request.method.decode("latin-1"), request.target.decode("latin-1").partition("?")[0])
        if asked == ("GET", HEALTH_PATH):
            return 200, _words("the guard answers")
        if asked != ("POST", QUESTION_PATH):
            return 404, _words(f"ask POST {QUESTION_PATH}, or GET {HEALTH_PATH}")
        return (413, _words(f"a question has {QUESTION_BYTES_MAX:,} bytes at most")) if body is None else self._judged(body)

    def _judged(self, body: bytes) -> Answer:
        try:
            return 200, json.dumps(self._respond(body)).encode()
        except BadInput as error:
            return 400, _words(str(error))


async def _hear(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[h11.Request, bytes | None] | None:
    """The question and its body, without one if it was too large; nothing from whoever left without a question."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
                connection.receive_data(await reader.read(READ_BYTES))
            case h11.Request() as heard:
                request = heard
            case h11.Data(data=data):
                body += data
                if request is not None and len(body) > QUESTION_BYTES_MAX:
                    return request, None
            case h11.EndOfMessage() if request is not None:
                return request, bytes(body)
            case _:
                return None


def _words(said: str) -> bytes:
    return json.dumps({"message": said}).encode()
