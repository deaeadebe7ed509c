"""Readers for those who may make none: consumers that somebody makes for others, with the filters that those are allowed.

A client that makes a consumer chooses its filters, which no permission sees. So it asks for one, on a subject that only it may use:
who asks is what the subject says, and the server's permissions vouch for that. What it may read then is the answer's business.
"""

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.pull import READER

__all__ = ["NatsReaders"]

REPLICAS = "fedplane-authorizer"
"""The queue group in which replicas share the questions."""

UNREAD_SECONDS = 60.0
"""A reader that nobody reads disappears after a minute, as one that a client made for itself does."""

QUESTIONS_MAX = 1_000
"""After so many questions the server is asked for more. It sends as fast as it is asked itself, and what else it has for us waits behind
that; who asks in between is told that nobody answers, and asks again. A thousand clusters ask one each when a server is back.
"""


class NatsReaders:
    """Consumers of other clients, by stream and name. All raise BusError."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()
        self._answering: set[asyncio.Task[None]] = set()

    async def answer(self, subject: str, answer: Callable[[str], Awaitable[bytes | None]]) -> None:
        """Answer whoever asks on a subject, from now on: `answer` is given the very subject of the question. None is no answer."""

        async def answered(message: Msg) -> None:
            said = await answer(message.subject)
            if said is None:
                return
            try:
                await self._connection.publish(message.reply, said)
            except nats.errors.Error as error:  # who asked hears nothing, and asks again
                structlog.get_logger().warning("could not answer", subject=message.subject, why=repr(error))

        async def listen() -> None:
            left = QUESTIONS_MAX

            async def asked(message: Msg) -> None:
                nonlocal left
                left -= 1
                task = asyncio.create_task(answered(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
                if left == 0:
                    await listen()

            subscription = await self._connection.subscribe(subject, REPLICAS, asked)
            await subscription.unsubscribe(QUESTIONS_MAX)

        with door(f"listen on {subject}"):
            await listen()
            await self._connection.flush()

    async def make(self, stream: str, name: str, filters: tuple[str, ...], reader: str) -> None:
        """Make the reader anew: it begins at the beginning of the stream. `reader` is who lives as long as it is read."""
        with door(f"make the reader {name}"):
            await self._delete(stream, name)
            await self._jetstream.add_consumer(
                stream,
                ConsumerConfig(
                    name=name, ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, filter_subjects=list(filters), mem_storage=True,
                    num_replicas=1, inactive_threshold=UNREAD_SECONDS, metadata={READER: reader},
                ),
            )  # fmt: skip

    async def remove(self, stream: str, name: str, unless: tuple[str, ...]) -> bool:
        """Remove the reader, unless it has these filters; whether there was such a one."""
        with door(f"remove the reader {name}"):
            try:
                held = (await self._jetstream.consumer_info(stream, name)).config
            except nats.js.errors.NotFoundError:
                return False
            filters = held.filter_subjects or [held.filter_subject]
            return tuple(filters) != unless and await self._delete(stream, name)

    async def _delete(self, stream: str, name: str) -> bool:
        try:
            return bool(await self._jetstream.delete_consumer(stream, name))
        except nats.js.errors.NotFoundError:
            return False
