"""Views in the key-value bucket `runs`: any NATS client reads them with its own key-value calls.

We write and read the bucket's stream directly.
The log sequence that a view reflects travels in a header, and a write names the revision that it replaces.
So of two status replicas the one that knows more wins, whatever the order in which they write.
"""

from collections.abc import AsyncIterator

import nats.js.errors
from nats.aio.client import Client

from fedplane.runtime.errors import BusError
from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.log import IN_FLIGHT
from fedplane.runtime.nats.pull import pull
from fedplane.runtime.nats.streams import VIEWS
from fedplane.runtime.ports import Viewed

__all__ = ["NatsViews"]

PREFIX = "$KV.runs."
SEQUENCE = "Fedplane-Sequence"
ACKNOWLEDGED_SECONDS = 3.0
RACED = frozenset({10071, IN_FLIGHT})
"""JetStream's codes for: the last sequence is not the one that the write names, or is just about to change."""

RACES_MAX = 10
"""How often a write is tried when other replicas write the same view at the same time; each race is lost to somebody who got on."""


class NatsViews:
    """See `Views`."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()

    async def put(self, view: Viewed) -> None:
        """See `Views.put`."""
        with door(f"write the view of {view.key}"):
            for _ in range(RACES_MAX):
                held, revision = await self._read(view.key)
                if held is not None and held.sequence >= view.sequence:
                    return
                headers = {SEQUENCE: str(view.sequence), "Nats-Expected-Last-Subject-Sequence": str(revision)}
                try:
                    await self._jetstream.publish(PREFIX + view.key, view.body, ACKNOWLEDGED_SECONDS, headers=headers)
                except nats.js.errors.APIError as error:
                    if error.err_code not in RACED:
                        raise
                else:
                    return
        raise BusError(f"could not write the view of {view.key}: {RACES_MAX} times somebody else wrote it at the same moment")

    async def get(self, key: str) -> Viewed | None:
        """See `Views.get`."""
        with door(f"read the view of {key}"):
            return (await self._read(key))[0]

    async def all(self) -> list[Viewed]:
        """See `Views.all`."""
        views: dict[str, Viewed] = {}
        async for pulled in pull(self._connection, VIEWS, [PREFIX + ">"], 0, last_only=True):
            for message in pulled.messages:
                view = _viewed(message.subject, message.headers, message.data)
                views[view.key] = view
            if pulled.pending == 0:
                break
        return [views[key] for key in sorted(views)]

    async def watch(self, key: str) -> AsyncIterator[Viewed]:
        """See `Views.watch`."""
        seen = -1
        async for pulled in pull(self._connection, VIEWS, [PREFIX + key], 0, last_only=True):
            for message in pulled.messages[-1:]:
                view = _viewed(message.subject, message.headers, message.data)
                if view.sequence > seen:
                    seen = view.sequence
                    yield view

    async def remove(self, key: str) -> None:
        """See `Views.remove`."""
        with door(f"remove the view of {key}"):
            await self._jetstream.purge_stream(VIEWS, subject=PREFIX + key)

    async def _read(self, key: str) -> tuple[Viewed | None, int]:
        try:
            message = await self._jetstream.get_msg(VIEWS, subject=PREFIX + key)
        except nats.js.errors.NotFoundError:
            return None, 0
        return _viewed(PREFIX + key, message.headers, message.data or b""), message.seq or 0


def _viewed(subject: str, headers: dict[str, str] | None, body: bytes) -> Viewed:
    try:
        sequence = int((headers or {}).get(SEQUENCE, "0"))
    except ValueError:
        sequence = 0  # somebody else's value: whatever we know is newer
    return Viewed(subject.removeprefix(PREFIX), body, sequence)
