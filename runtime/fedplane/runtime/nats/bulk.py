"""Bytes in chunks on their own connection, a window of them on their way at a time.

A chunk is one message that fits a default server, under a subject that nobody else writes.
Sending it again is harmless, so every chunk has its own time-out and is sent again until it is acknowledged.
Reading asks for each chunk by its subject.
That needs no consumer, survives restarts of the server, can be permitted per subject, and is served by a mirror where there is one.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TypeVar, cast

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from fedplane.runtime.errors import Corrupt
from fedplane.runtime.nats.connection import BULK_PENDING_BYTES, Patience, close, connect, door
from fedplane.runtime.nats.streams import BULK
from fedplane.schemas.models import Piece

__all__ = ["NatsBulk"]

T = TypeVar("T")

WRITE_WINDOW_CHUNKS = 16
"""16 chunks of 1 MB cover 200 MB/s at a round trip of 50 ms (measured); more only fills buffers."""

READ_WINDOW_CHUNKS = 8

KEPT_BYTES = 16_000_000
"""How large a block may be and still be kept by the allocator when it is freed: a window of chunks."""

CHUNK_SECONDS = 60.0
"""How long one chunk may take: a whole window of them on a line of two megabits a second."""

CHUNK_ATTEMPTS_MAX = 6
"""A chunk is asked for again when its time is up, or at once when the connection was made anew: then no answer can come any more."""

LOST_SECONDS = 0.25
"""How often to look whether the connection was made anew."""


class NatsBulk:
    """See `Bulk`. Connects when it is first used."""

    def __init__(self, url: str, name: str, patience: Patience) -> None:
        self._where = (url, f"{name} bulk", BULK_PENDING_BYTES, patience)
        self._connection: Client | None = None
        self._connecting = asyncio.Lock()

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        connection = await self._connected()
        begins, digest = range(0, len(data), chunk_bytes), hashlib.sha256()
        left = iter(begins)

        async def send() -> None:
            for begin in left:
                await _put(connection, f"{subject}.{begin // chunk_bytes}", data[begin : begin + chunk_bytes])

        hashing = asyncio.to_thread(digest.update, data)  # it takes half as long as sending, and nothing waits for it until the end
        await _all_or_first_failure([hashing, *(send() for _ in begins[:WRITE_WINDOW_CHUNKS])])
        return Piece(subject=subject, bytes=len(data), chunk_bytes=chunk_bytes, digest=digest.hexdigest())

    async def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        """See `Bulk.read`."""
        connection = await self._connected()
        digest = hashlib.sha256()
        coming: dict[int, asyncio.Task[memoryview]] = {}
        try:
            for chunk in range(piece.chunks):
                for ahead in range(chunk, min(chunk + READ_WINDOW_CHUNKS, piece.chunks)):
                    if ahead not in coming:
                        coming[ahead] = asyncio.create_task(_get(connection, piece, ahead))
                part = await coming[chunk]
                digest.update(part)
                yield chunk * piece.chunk_bytes, part
                del coming[chunk]  # only now: until the reader is done with it, it counts as being in the window
        finally:
            for task in coming.values():
                task.cancel()
        if digest.hexdigest() != piece.digest:
            raise Corrupt(f"the bytes of {piece.subject} are not those that were stored")

    async def chunk(self, piece: Piece, index: int) -> memoryview:
        """See `Bulk.chunk`."""
        return await _get(await self._connected(), piece, index)

    async def purge(self, pattern: str) -> None:
        """See `Bulk.purge`."""
        with door(f"purge {pattern}"):
            await (await self._connected()).jetstream().purge_stream(BULK, subject=pattern)

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            await close(self._connection)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._connection is None or self._connection.is_closed:
                _keep_freed_chunks()
                self._connection = await connect(*self._where)
            return self._connection


def _keep_freed_chunks() -> None:
    """Have a freed chunk's memory ready for the next one. Else the kernel takes it and clears another: a third of our CPU (measured).

    glibc keeps blocks up to the size of the largest one that was freed, 32 MB at most, and twice as much in all; see mallopt(3).
    The block here is never touched, so it takes no memory; other allocators do not mind it.
    """
    bytes(KEPT_BYTES)


async def _put(connection: Client, subject: str, chunk: memoryview) -> None:
    jetstream = connection.jetstream()
    payload = cast(bytes, chunk)  # the library copies it into its command, and any buffer will do for that
    with door(f"store {subject}"):
        await _insist(connection, lambda: jetstream.publish(subject, payload, CHUNK_SECONDS))


async def _get(connection: Client, piece: Piece, index: int) -> memoryview:
    subject = f"{piece.subject}.{index}"
    jetstream = connection.jetstream(timeout=CHUNK_SECONDS)
    with door(f"read {subject}"):
        try:
            message = await _insist(connection, lambda: jetstream.get_msg(BULK, subject=subject, direct=True))
        except nats.js.errors.NotFoundError as error:
            raise Corrupt(f"{subject} is missing") from error
    begin, end = piece.extent(index)
    data = message.data or b""
    if len(data) != end - begin:
        raise Corrupt(f"{subject} has {len(data)} bytes instead of {end - begin}")
    return memoryview(data)


async def _insist(connection: Client, request: Callable[[], Coroutine[None, None, T]]) -> T:
    """The answer to a request that may be repeated: it is, when it or its answer was lost. JetStream's refusals are answers."""
    for attempt in range(1, CHUNK_ATTEMPTS_MAX + 1):
        try:
            return await _while_connected(connection, request())
        except nats.js.errors.APIError:
            raise
        except (nats.errors.Error, nats.js.errors.Error):
            if attempt == CHUNK_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(0.2 * attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _while_connected(connection: Client, request: Coroutine[None, None, T]) -> T:
    made, task = connection.stats["reconnects"], asyncio.create_task(request)
    try:
        while not (await asyncio.wait({task}, timeout=LOST_SECONDS))[0]:
            if connection.stats["reconnects"] != made:
                raise nats.errors.StaleConnectionError
        return task.result()
    finally:
        task.cancel()


async def _all_or_first_failure(transfers: list[Coroutine[None, None, None]]) -> None:
    tasks = [asyncio.create_task(transfer) for transfer in transfers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
