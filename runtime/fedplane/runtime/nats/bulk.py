"""Bytes in chunks on their own connection, a window of them on their way at a time.

A chunk is one message that fits a default server, under a subject that nobody else writes: sending it again is harmless, so every chunk
has its own
time-out and is sent again until it is acknowledged. Reading asks for each chunk by its subject, which needs no consumer, survives
restarts of the
server, can be permitted per subject, and is served by a mirror where there is one.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from fedplane.runtime.errors import Corrupt
from fedplane.runtime.nats.connection import BULK_PENDING_BYTES, Patience, connect, door
from fedplane.runtime.nats.streams import BULK
from fedplane.schemas.models import Piece

__all__ = ["NatsBulk"]

WRITE_WINDOW_CHUNKS = 16
"""16 chunks of 1 MB cover 200 MB/s at a round trip of 50 ms (measured); more only fills buffers."""

READ_WINDOW_CHUNKS = 8

CHUNK_SECONDS = 10.0
"""How long one chunk may take: a megabyte on a line of one megabit a second."""

CHUNK_ATTEMPTS_MAX = 6
"""A server that is gone for a minute is found again; one that is gone for longer ends the transfer."""


class NatsBulk:
    """See `Bulk`. Connects when it is first used."""

    def __init__(self, url: str, name: str, patience: Patience) -> None:
        self._where = (url, f"{name} bulk", BULK_PENDING_BYTES, patience)
        self._connection: Client | None = None
        self._connecting = asyncio.Lock()

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        piece = Piece(subject=subject, bytes=len(data), chunk_bytes=chunk_bytes, digest=digest)
        jetstream = await self._jetstream()
        window = asyncio.Semaphore(WRITE_WINDOW_CHUNKS)

        async def put(chunk: int) -> None:
            async with window:
                await _put(jetstream, f"{subject}.{chunk}", bytes(data[chunk * chunk_bytes : (chunk + 1) * chunk_bytes]))

        await _all_or_first_failure([put(chunk) for chunk in range(piece.chunks)])
        return piece

    async def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        """See `Bulk.read`."""
        jetstream = await self._jetstream()
        digest = hashlib.sha256()
        coming: dict[int, asyncio.Task[bytes]] = {}
        try:
            for chunk in range(piece.chunks):
                for ahead in range(chunk, min(chunk + READ_WINDOW_CHUNKS, piece.chunks)):
                    if ahead not in coming:
                        coming[ahead] = asyncio.create_task(_get(jetstream, f"{piece.subject}.{ahead}"))
                part = await coming[chunk]
                digest.update(part)
                yield chunk * piece.chunk_bytes, memoryview(part)
                del coming[chunk]  # only now: until the reader is done with it, it counts as being in the window
        finally:
            for task in coming.values():
                task.cancel()
        if digest.hexdigest() != piece.digest:
            raise Corrupt(f"the bytes of {piece.subject} are not those that were stored")

    async def purge(self, pattern: str) -> None:
        """See `Bulk.purge`."""
        with door(f"purge {pattern}"):
            await (await self._jetstream()).purge_stream(BULK, subject=pattern)

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            await self._connection.close()

    async def _jetstream(self) -> JetStreamContext:
        async with self._connecting:
            if self._connection is None:
                self._connection = await connect(*self._where)
            return self._connection.jetstream()


async def _put(jetstream: JetStreamContext, subject: str, chunk: bytes) -> None:
    with door(f"store {subject}"):
        for attempt in range(1, CHUNK_ATTEMPTS_MAX + 1):
            try:
                await jetstream.publish(subject, chunk, CHUNK_SECONDS)
            except nats.js.errors.APIError:
                raise
            except (nats.errors.Error, nats.js.errors.Error):
                if attempt == CHUNK_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(0.2 * attempt)
            else:
                return


async def _get(jetstream: JetStreamContext, subject: str) -> bytes:
    with door(f"read {subject}"):
        for attempt in range(1, CHUNK_ATTEMPTS_MAX + 1):
            try:
                return (await jetstream.get_msg(BULK, subject=subject, direct=True)).data or b""
            except nats.js.errors.NotFoundError as error:
                raise Corrupt(f"{subject} is missing") from error
            except (nats.errors.Error, nats.js.errors.Error):
                if attempt == CHUNK_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(0.2 * attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _all_or_first_failure(transfers: list[Coroutine[None, None, None]]) -> None:
    tasks = [asyncio.create_task(transfer) for transfer in transfers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
