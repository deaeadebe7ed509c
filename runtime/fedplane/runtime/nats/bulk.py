"""Bytes in chunks on their own connection, a window of them on their way at a time.

A chunk is one message that fits a default server, under a subject that nobody else writes.
Sending it again is harmless, so every chunk has its own time-out and is sent again until it is acknowledged.
Reading asks for each chunk by its subject.
That needs no consumer, survives restarts of the server, can be permitted per subject, and is served by a mirror where there is one.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import TypeVar, cast

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from fedplane.runtime.errors import Corrupt, Unreachable
from fedplane.runtime.metrics import BULK_IO
from fedplane.runtime.nats.connection import BULK_PENDING_BYTES, Patience, close, connect, door, while_connected
from fedplane.runtime.nats.credentials import Credentials
from fedplane.runtime.nats.streams import BULK
from fedplane.runtime.telemetry import tell
from fedplane.schemas.digests import Hashing
from fedplane.schemas.models import Piece

__all__ = ["NatsBulk"]

T = TypeVar("T")

WRITE_WINDOW_CHUNKS = 16
"""16 chunks of 1 MB cover 200 MB/s at a round trip of 50 ms (measured); more only fills buffers. All writers of a connection share them."""

READ_WINDOW_CHUNKS = 8

READ_CHUNKS_MAX = 32
"""How many chunks all readers of a connection ask for at a time. The server cuts off a client for whom 64 MB wait."""

KEPT_BYTES = 16_000_000
"""How large a block may be and still be kept by the allocator when it is freed: a window of chunks."""

CHUNK_SECONDS = 60.0
"""How long one chunk may take: a whole window of them on a line of two megabits a second."""

CHUNK_ATTEMPTS_MAX = 6
"""A chunk is asked for again when its time is up, or at once when the connection was made anew: then no answer can come any more."""

PURGE_SECONDS = 60.0
"""How long a purge may take. The server looks at every message that it removes: 4 GB took it more than five seconds (measured)."""

SENT, RECEIVED = {"network.io.direction": "transmit"}, {"network.io.direction": "receive"}

TOO_MUCH_WAITS = 10167
"""JetStream's code for what it refuses because 128 MB are waiting to be stored already: eight writers at full speed bring that about."""

REFUSED_SECONDS_MAX = 1.0
REFUSALS_MAX = 120
"""How often in a row a writer offers a chunk again, a second apart at most: for a minute and more."""


class NatsBulk:
    """See `Bulk`. Connects when it is first used."""

    def __init__(self, url: str, name: str, patience: Patience, credentials: Credentials | None = None) -> None:
        patience = replace(patience, silence_seconds=max(patience.silence_seconds, CHUNK_SECONDS))  # signs of life wait behind chunks
        self._where = (url, f"{name} bulk", BULK_PENDING_BYTES, patience)
        self._credentials = credentials
        self._connection: Client | None = None
        self._connecting = asyncio.Lock()
        self._senders = WRITE_WINDOW_CHUNKS
        self._asking = asyncio.Semaphore(READ_CHUNKS_MAX)
        self._storing = asyncio.Semaphore(WRITE_WINDOW_CHUNKS)

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        upload = _Upload(await self._connected(), subject, data, chunk_bytes, self._senders, self._storing)
        hashing = Hashing()
        hashed = asyncio.to_thread(hashing.update, data)  # a shard takes milliseconds, in which chunks should go on
        await _all_or_first_failure([hashed, *upload.senders()])
        if upload.given_up:
            structlog.get_logger().info("the server is slower than its writers; sending less at a time", subject=subject)
        self._senders = min(max(1, self._senders - upload.given_up) + 1, WRITE_WINDOW_CHUNKS)
        return Piece(subject=subject, bytes=len(data), chunk_bytes=chunk_bytes, digest=hashing.digest)

    async def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        """See `Bulk.read`."""
        hashing = Hashing()
        coming: dict[int, asyncio.Task[memoryview]] = {}
        try:
            for chunk in range(piece.chunks):
                for ahead in range(chunk, min(chunk + READ_WINDOW_CHUNKS, piece.chunks)):
                    if ahead not in coming:
                        coming[ahead] = asyncio.create_task(self.chunk(piece, ahead))
                part = await coming[chunk]
                hashing.update(part)
                yield chunk * piece.chunk_bytes, part
                del coming[chunk]  # only now: until the reader is done with it, it counts as being in the window
        finally:
            for task in coming.values():
                task.cancel()
        if hashing.digest != piece.digest:
            raise Corrupt(f"the bytes of {piece.subject} are not those that were stored")

    async def chunk(self, piece: Piece, index: int) -> memoryview:
        """See `Bulk.chunk`."""
        async with self._asking:
            return await _get(await self._connected(), piece, index)

    async def purge(self, pattern: str) -> None:
        """See `Bulk.purge`."""
        with door(f"purge {pattern}"):
            await (await self._connected()).jetstream(timeout=PURGE_SECONDS).purge_stream(BULK, subject=pattern)

    async def stored(self, pattern: str) -> frozenset[str]:
        """See `Bulk.stored`. The server names up to 100,000 subjects in one answer."""
        with door(f"look for {pattern}"):
            info = await (await self._connected()).jetstream().stream_info(BULK, subjects_filter=pattern)
        return frozenset(info.state.subjects or {})

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            await close(self._connection)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._connection is None or self._connection.is_closed:
                _keep_freed_chunks()
                self._connection = await connect(*self._where, credentials=self._credentials)
            return self._connection


def _keep_freed_chunks() -> None:
    """Have a freed chunk's memory ready for the next one. Else the kernel takes it and clears another: a third of our CPU (measured).

    glibc keeps blocks up to the size of the largest one that was freed, 32 MB at most, and twice as much in all; see mallopt(3).
    The block here is never touched, so it takes no memory; other allocators do not mind it.
    """
    bytes(KEPT_BYTES)


class _Refused(Exception):
    """The server took no chunk because too much waits to be stored."""


class _Upload:
    """One piece on its way: several senders take chunk after chunk, each until it is acknowledged.

    Of senders that are refused, half leave the rest to the others, who offer their chunks again, later and later.
    So writers slow down to what the server can store, however many there are.
    """

    def __init__(
        self, connection: Client, subject: str, data: memoryview, chunk_bytes: int, senders: int, storing: asyncio.Semaphore
    ) -> None:
        self.given_up = 0
        self._storing = storing
        self._connection, self._subject, self._data, self._chunk_bytes = connection, subject, data, chunk_bytes
        self._left = deque(range(0, len(data), chunk_bytes))
        self._sending = min(senders, len(self._left))
        self._least = max(1, self._sending // 2)

    def senders(self) -> list[Coroutine[None, None, None]]:
        """What is to be run side by side."""
        return [self._send() for _ in range(self._sending)]

    async def _send(self) -> None:
        refusals = 0
        while self._left:
            begin = self._left.popleft()
            try:
                await self._put(begin)
                refusals = 0
            except _Refused as error:
                self._left.appendleft(begin)
                if self._sending > self._least:
                    self.given_up += 1
                    break
                refusals += 1
                if refusals == REFUSALS_MAX:
                    raise Unreachable(f"could not store {self._subject}: {error}, and so {refusals} times in a row") from error
                await asyncio.sleep(min(0.05 * 2**refusals, REFUSED_SECONDS_MAX) * random.uniform(0.5, 1))
        self._sending -= 1

    async def _put(self, begin: int) -> None:
        async with self._storing:
            subject = f"{self._subject}.{begin // self._chunk_bytes}"
            await _put(self._connection, subject, self._data[begin : begin + self._chunk_bytes])


async def _put(connection: Client, subject: str, chunk: memoryview) -> None:
    jetstream = connection.jetstream()
    payload = cast(bytes, chunk)  # the library copies it into its command, and any buffer will do for that
    with door(f"store {subject}"):
        try:
            await _insist(connection, lambda: jetstream.publish(subject, payload, CHUNK_SECONDS))
            tell(BULK_IO, len(chunk), SENT)
        except nats.js.errors.APIError as error:
            if error.err_code == TOO_MUCH_WAITS:
                raise _Refused("the server has too much waiting to be stored") from error
            raise


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
    tell(BULK_IO, len(data), RECEIVED)
    return memoryview(data)


async def _insist(connection: Client, request: Callable[[], Coroutine[None, None, T]]) -> T:
    """The answer to a request that may be repeated: it is, when it or its answer was lost. JetStream's refusals are answers."""
    for attempt in range(1, CHUNK_ATTEMPTS_MAX + 1):
        try:
            return await while_connected(connection, request())
        except nats.js.errors.APIError:
            raise
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
