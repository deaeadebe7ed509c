"""Timers on JetStream's message schedules: the server keeps the fact and hands it back when its time has come.

A schedule's message may only appear in the schedule's own stream, so what is due is moved to the log by whoever keeps the timers.
Any number of replicas keep them; each due fact is handed to one, and handed again if that one dies.
Source: ADR-51 of the NATS architecture repository (message scheduler); nats-server 2.12 and later.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.errors import BusError, Corrupt
from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.nats.pull import forget
from fedplane.runtime.nats.streams import TIMERS, TIMERS_CONSUMER
from fedplane.schemas import envelope
from fedplane.schemas.facts import Fact

__all__ = ["NatsTimers"]

WAIT_SECONDS = 10.0
RETRY_SECONDS = 0.5
ACKNOWLEDGED_SECONDS = 3.0


class NatsTimers:
    """See `Timers`."""

    def __init__(self, connection: Client, log: NatsLog) -> None:
        self._log = log
        self._connection = connection
        self._jetstream = connection.jetstream()

    async def remind(self, fact: Fact, at: datetime, traceparent: str | None = None) -> None:
        """See `Timers.remind`. The server fires at whole seconds, and a deadline must not come early."""
        wire = envelope.write(fact, self._log.source, traceparent)
        headers = {name: value for name, value in wire.headers.items() if name != "Nats-Msg-Id"}
        headers["Nats-Schedule"] = f"@at {_not_before(at).strftime('%Y-%m-%dT%H:%M:%SZ')}"
        headers["Nats-Schedule-Target"] = f"due.{wire.subject}"
        with door(f"set the timer for {wire.subject}"):
            await self._jetstream.publish(f"timer.{wire.subject}", wire.body, ACKNOWLEDGED_SECONDS, headers=headers)

    async def keep(self) -> None:
        """See `Timers.keep`."""
        logger = structlog.get_logger()
        while True:
            try:
                await self._keep_while_connected()
            except BusError as error:
                logger.debug("keeping the timers again", why=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def purge(self, pattern: str) -> None:
        """See `Timers.purge`."""
        with door(f"forget the timers of {pattern}"):
            for stage in ("timer", "due"):
                await self._jetstream.purge_stream(TIMERS, subject=f"{stage}.{pattern}")

    async def _keep_while_connected(self) -> None:
        with door("keep the timers"):
            subscription = await self._jetstream.pull_subscribe_bind(consumer=TIMERS_CONSUMER, stream=TIMERS)
        try:
            while True:
                with door("keep the timers"):
                    try:
                        (message,) = await subscription.fetch(1, timeout=WAIT_SECONDS)
                    except nats.errors.TimeoutError:
                        continue
                    await self._state_due(message)
        finally:
            await forget(self._connection, subscription)

    async def _state_due(self, message: Msg) -> None:
        headers = message.headers or {}
        try:
            fact = envelope.read(message.subject.removeprefix("due."), headers, message.data)
        except envelope.Unreadable as error:
            structlog.get_logger().warning("dropped a timer that cannot be read", why=str(error))
            await message.term()
            return
        try:
            await self._log.state(fact, traceparent=headers.get(envelope.TRACEPARENT))
        except Corrupt as error:
            structlog.get_logger().warning("dropped a timer that cannot be stated", why=str(error))
        await message.ack()
        await self._jetstream.purge_stream(TIMERS, subject=message.subject)  # its work is done, and the stream is not for history


def _not_before(at: datetime) -> datetime:
    """The first whole second that is not before the time."""
    whole = at.astimezone(UTC).replace(microsecond=0)
    return whole if whole == at else whole + timedelta(seconds=1)
