"""Leases on a JetStream work queue: a task belongs to the process that fetched it, as long as that process keeps saying so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from fedplane.runtime.errors import BusError
from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.log import REFUSED
from fedplane.runtime.nats.streams import FOLDS_CONSUMER, WORK
from fedplane.runtime.ports import Backlog, Lease
from fedplane.schemas.envelope import TRACEPARENT

__all__ = ["NatsWork"]

ACKNOWLEDGED_SECONDS = 3.0


class _NatsLease:
    def __init__(self, message: Msg) -> None:
        self.subject = message.subject
        self.deliveries = message.metadata.num_delivered or 1
        self.traceparent = (message.headers or {}).get(TRACEPARENT)
        self.finished = False
        self._message = message

    async def done(self) -> None:
        with door(f"finish {self.subject}"):
            await self._message.ack_sync(timeout=ACKNOWLEDGED_SECONDS)
        self.finished = True

    async def again(self, delay_seconds: float) -> None:
        with door(f"give back {self.subject}"):
            await self._message.nak(delay=delay_seconds)
        self.finished = True

    async def keep_alive(self, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self._message.in_progress()
            except (nats.errors.Error, nats.js.errors.Error) as error:
                structlog.get_logger().debug("could not extend a lease; if it lapses, the task is done twice", why=repr(error))


class NatsWork:
    """See `Work`."""

    def __init__(self, connection: Client) -> None:
        self._jetstream = connection.jetstream()
        self._queue: JetStreamContext.PullSubscription | None = None
        self._lease_seconds = 0.0

    async def offer(self, subject: str, traceparent: str | None = None) -> None:
        """See `Work.offer`."""
        with door(f"offer {subject}"):
            try:
                headers = {TRACEPARENT: traceparent} if traceparent else None
                await self._jetstream.publish(subject, b"", ACKNOWLEDGED_SECONDS, headers=headers)
            except nats.js.errors.APIError as error:
                if error.err_code not in REFUSED or not await self._is_up(subject):
                    raise

    @asynccontextmanager
    async def lease(self, wait_seconds: float) -> AsyncIterator[Lease | None]:
        """See `Work.lease`."""
        message = await self._next(wait_seconds)
        if message is None:
            yield None
            return
        lease = _NatsLease(message)
        alive = asyncio.create_task(lease.keep_alive(self._lease_seconds / 3))
        try:
            yield lease
        finally:
            alive.cancel()
            if not lease.finished:
                await _give_back(lease)

    async def backlog(self) -> Backlog:
        """See `Work.backlog`."""
        with door("ask for the queue's length"):
            consumer = await self._jetstream.consumer_info(WORK, FOLDS_CONSUMER)
        return Backlog(consumer.num_pending or 0, consumer.num_ack_pending or 0)

    async def _is_up(self, subject: str) -> bool:
        """Whether the task is there. The server refuses a second one with the same code as anything when the stream is full."""
        try:
            await self._jetstream.get_msg(WORK, subject=subject)
        except nats.js.errors.NotFoundError:
            return False
        return True

    async def _next(self, wait_seconds: float) -> Msg | None:
        with door("lease work"):
            if self._queue is None:
                consumer = await self._jetstream.consumer_info(WORK, FOLDS_CONSUMER)
                self._lease_seconds = consumer.config.ack_wait or 10.0
                self._queue = await self._jetstream.pull_subscribe_bind(consumer=FOLDS_CONSUMER, stream=WORK)
            try:
                (message,) = await self._queue.fetch(1, timeout=wait_seconds)
            except nats.errors.TimeoutError:
                return None
            except nats.js.errors.APIError:
                self._queue = None  # the server was restarted, or the consumer was: bind again next time
                raise
        return message


async def _give_back(lease: _NatsLease) -> None:
    """Let somebody else have the task at once. A failure must not hide what ended our work: they have the task when the lease lapses."""
    try:
        await lease.again(0)
    except BusError as error:
        structlog.get_logger().debug("could not give a task back; it returns when its lease lapses", why=str(error))
