"""A watch that misses nothing: list, follow the changes from there, and when they are lost list again and say what differs.

Three things end a stream of changes: the server ends it after a while, the connection breaks, or the server has forgotten our version.
After the first two the stream is taken up where it was, after the last everything is listed anew.
The server's bookmarks keep our version fresh while nothing happens, so that the last is rare.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import structlog

from fedplane.runtime.errors import ApiDenied, ApiUnreachable, NotFound
from fedplane.runtime.kubernetes.connection import Connection, Gone, Query, door, refusal
from fedplane.runtime.mirror import Mirror
from fedplane.runtime.objects import Change, ChangeType, Object

__all__ = ["Watched"]

STREAM_SECONDS = 300
"""After so long the server ends a stream and we ask anew, perhaps another server behind the same address; as long as its own clients do."""


class Watched:
    """The state of one watch. `step` goes on with it and gives what changed, if anything did."""

    def __init__(
        self, connection: Connection, what: str, path: str, query: Query, listing: Callable[[], Awaitable[tuple[list[Object], str]]]
    ) -> None:
        self._connection = connection
        self._what, self._path, self._query, self._listing = what, path, query, listing
        self._mirror = Mirror()
        self._version = ""
        self._stream: aiohttp.ClientResponse | None = None
        self._loop = asyncio.get_running_loop()
        self._began, self._synced_at = self._loop.time(), 0.0
        self._refused_at: float | None = None
        self._away = False
        self._pause_seconds = connection.patience.pause_min_seconds

    async def step(self) -> list[Change]:
        """The next changes. Raises what `Objects.watch` says; everything else is waited for."""
        try:
            changes = await self._go_on()
        except Gone as error:
            self._version = ""
            if self._away:  # a server that restarted: it answers, so nobody waits for it as long as it was away
                self._away, self._pause_seconds = False, self._connection.patience.pause_min_seconds
            await self._pause(error)
        except ApiUnreachable as error:
            self._refused_at, self._away = None, True
            if not self._synced_at and self._loop.time() > self._began + self._connection.patience.connect_seconds:
                raise
            await self._pause(error)
        except (ApiDenied, NotFound) as error:
            self._refused_at = self._refused_at or self._loop.time()
            if self._loop.time() > self._refused_at + self._connection.patience.refusal_seconds:
                raise
            await self._pause(error)
        else:
            self._refused_at, self._away = None, False
            return changes
        return []

    def close(self) -> None:
        """Let go of the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _go_on(self) -> list[Change]:
        if self._stream is not None:
            return await self._read(self._stream)
        if not self._version or self._loop.time() >= self._synced_at + self._connection.patience.resync_seconds:
            bodies, self._version = await self._listing()
            self._synced_at = self._loop.time()
            return [*self._mirror.listed(bodies), Change(ChangeType.SYNCED, {})]
        until_resync = self._synced_at + self._connection.patience.resync_seconds - self._loop.time()
        seconds = math.ceil(min(STREAM_SECONDS, until_resync))
        query = {**self._query, "resourceVersion": self._version, "timeoutSeconds": str(seconds)}
        self._stream = await self._connection.stream(self._what, self._path, query)
        return []

    async def _read(self, stream: aiohttp.ClientResponse) -> list[Change]:
        with door(self._what):
            line = await stream.content.readline()
            if not line.endswith(b"\n"):  # the stream has ended, perhaps in the middle of a line
                await self._pause(None)
                return []
            event = json.loads(line)
        changes = list(self._heard(event["type"], event["object"]))
        self._pause_seconds = self._connection.patience.pause_min_seconds
        return changes

    def _heard(self, said: str, body: Object) -> Iterator[Change]:
        if said == "ERROR":
            raise refusal(self._what, body.get("code", 0), body)
        self._version = body["metadata"]["resourceVersion"]
        match said:
            case "ADDED" | "MODIFIED":
                yield from self._mirror.stored(body)
            case "DELETED":
                yield from self._mirror.removed(body)

    async def _pause(self, error: Exception | None) -> None:
        """Wait a while before the next attempt, longer each time until something is heard again."""
        self.close()
        logger, first = structlog.get_logger(watch=self._what), self._pause_seconds == self._connection.patience.pause_min_seconds
        say = logger.info if error is not None and first else logger.debug  # an outage is worth one line, and a stream's usual end none
        say("a watch is interrupted", why=str(error or "the server ended it"))
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, self._connection.patience.pause_max_seconds)
