"""How much is stored, message by message, for whoever bounds it and makes room again: sizes and subjects, and no contents.

Servers send the headers alone and say how large the body is, so that a gigabyte of chunks is some hundred kilobytes to read.
Headers and the subject are counted as well, since a message of a megabyte may consist of them, and any message has a price.
"""

from collections.abc import AsyncGenerator, Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.nats.bulk import PURGE_SECONDS
from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.pull import pull

__all__ = ["NatsSizes"]

BODY_BYTES = "Nats-Msg-Size"
"""The header in which the server says how large the body is that it has left out."""

BETWEEN = len(": \r\n")

LARGEST_BYTES = 1_048_576
"""What a message counts for whose headers the library cannot read, and with them the server's word: as much as one may have."""

MESSAGE_BYTES = 500
"""What a message counts for besides: its place on the disk and in the server's index, and the time of everybody who reads past it."""


class NatsSizes:
    """The sizes of what clusters store."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def follow(self, stream: str, subjects: Sequence[str]) -> AsyncGenerator[list[tuple[str, int]], None]:
        """Subject and bytes of each message of a stream that matches, from the first one that is there now, for ever."""
        async for pulled in pull(self._connection, stream, list(subjects), 0, headers_only=True):
            if pulled.messages:
                yield [(message.subject, _bytes(message)) for message in pulled.messages]

    async def purge(self, stream: str, pattern: str) -> None:
        """Remove the messages of a stream that match."""
        with door(f"purge {pattern}"):
            await self._connection.jetstream(timeout=PURGE_SECONDS).purge_stream(stream, subject=pattern)


def _bytes(message: Msg) -> int:
    headers = dict(message.headers or {})
    body = headers.pop(BODY_BYTES, LARGEST_BYTES)
    of_subject = MESSAGE_BYTES + len(message.subject.encode())
    return of_subject + int(body) + sum(len(name.encode()) + len(str(value).encode()) + BETWEEN for name, value in headers.items())
