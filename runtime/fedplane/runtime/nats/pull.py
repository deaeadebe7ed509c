"""Reading a stream in order, for ever, without a gap: across restarts of the server, lost requests and dropped messages.

The client library's ordered consumer drops messages silently when its reader is slow.
Its fetch fails for good when the server has forgotten the consumer.
So this asks the server itself, on JetStream's pull API: the reader's position is ours, and the consumer on the server is disposable.
It is made anew from that position whenever anything looks wrong.
Source: JetStream API (CONSUMER.MSG.NEXT), ADR-13 of the NATS architecture repository.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fedplane.runtime.errors import BusError, Unreachable
from fedplane.runtime.nats.connection import door, heed_cancellation, while_connected
from fedplane.runtime.ports import Begin

__all__ = ["LINGERING", "READER", "Pulled", "Stale", "ask", "beginning", "check_open", "consumed", "forget", "pull", "take"]

BATCH_MESSAGES_MAX = 256
"""How many messages are on their way at most: a thousand facts a second need four requests, and 256 facts are a quarter of a megabyte."""

BATCH_BYTES_MAX = 4_000_000
"""How many bytes are on their way at most: four of the largest facts, and 16 seconds on a line of two megabits a second.
A server cuts off a client to whom it cannot get rid of 64 MB, and signs of life wait behind what is on its way.
"""

REQUEST_FULL = "Message Size Exceeds MaxBytes"
"""What the server says when a request has had its bytes."""

REQUEST_DONE = "Batch Completed"
"""What the server says after the last message of a request that limits bytes. We count them, and may have asked again already."""

EXPIRES_SECONDS = 30.0
HEARTBEAT_SECONDS = 1.0
LINGERING: Mapping[str, int | bool] = {"expires": int(EXPIRES_SECONDS * 1e9), "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9)}
REQUEST: Mapping[str, int | bool] = {"batch": BATCH_MESSAGES_MAX, "max_bytes": BATCH_BYTES_MAX, **LINGERING}
"""What is asked of the server; it counts in nanoseconds."""

AT_ONCE: Mapping[str, int | bool] = {"batch": 1, "no_wait": True}
"""What is asked first of a consumer of which we do not know whether it has anything: one message, or the server's word that it has none."""

SILENCE_SECONDS = 2.5
"""The server says something every second while a request is open; two and a half seconds of silence mean that it forgot us."""

CONSUMER_AGE_SECONDS = 60.0
"""A consumer that nobody reads from disappears after a minute, so a killed reader leaves nothing behind."""

RETRY_SECONDS = 0.2

READER = "fedplane-reader"
"""The word in a consumer's metadata under which stands who reads: by it, an onlooker knows which processes live."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """Messages in stream order, and how many that match are still to come."""

    messages: list[Msg]
    pending: int


def beginning(after: Begin) -> ConsumerConfig:
    """Where a consumer begins."""
    if isinstance(after, datetime):
        return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=after)
    return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1)


class Stale(Exception):
    """The consumer can no longer be trusted; the sentence says why."""


def check_open(connection: Client, failure: Exception) -> None:
    """Raises Unreachable, because of that failure, when trying again is of no use."""
    if connection.is_closed:
        raise Unreachable(f"the server ended the connection for good: {connection.last_error or 'no reason given'}") from failure


async def pull(
    connection: Client, stream: str, filters: list[str], after: Begin, *, last_only: bool = False, headers_only: bool = False
) -> AsyncGenerator[Pulled, None]:
    """Messages of a stream that match a filter, from the first one after `after`, for ever. The first item may be empty.

    `last_only` begins with the last message of each subject; `headers_only` leaves bodies out, and says how large they are.
    """
    at, first = after, True
    logger = structlog.get_logger(stream=stream)
    while True:
        try:
            start = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT) if last_only and first else beginning(at)
            async for pulled in _one_consumer(connection, stream, start.evolve(filter_subjects=filters, headers_only=headers_only)):
                at = pulled.messages[-1].metadata.sequence.stream if pulled.messages else at
                if pulled.messages or first or pulled.pending == 0:
                    first = False
                    yield pulled
        except (Stale, BusError) as error:
            check_open(connection, error)
            logger.debug("reading the stream again from where we were", after=at, why=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def _one_consumer(connection: Client, stream: str, wanted: ConsumerConfig) -> AsyncIterator[Pulled]:
    configuration = wanted.evolve(
        name=f"reader-{secrets.token_hex(8)}", ack_policy=AckPolicy.NONE, mem_storage=True, num_replicas=1,
        inactive_threshold=CONSUMER_AGE_SECONDS, metadata={READER: str(connection.options["name"])},
    )  # fmt: skip
    with door(f"read stream {stream}"):
        consumer = await connection.jetstream().add_consumer(stream, configuration)
    async with aclosing(consumed(connection, stream, str(consumer.name), consumer.num_pending or 0)) as pulling:
        async for pulled in pulling:
            yield pulled


async def consumed(
    connection: Client, stream: str, consumer: str, pending: int | None = None, *, made: int | None = None
) -> AsyncGenerator[Pulled, None]:
    """What a consumer delivers that has delivered nothing yet. The first item may be empty.

    `pending` is how many messages it has, if that is known. Raises Stale when the consumer can no longer be trusted;
    with `made`, how often the connection had been made anew when the consumer was made, that is as soon as it has been once more.
    """
    with door(f"read stream {stream}"):
        inbox = connection.new_inbox()
        subscription = await connection.subscribe(inbox)
    try:
        expected, owed = 1, 0
        if pending is None:
            await ask(connection, stream, consumer, inbox, AT_ONCE)
            owed = 1
        else:
            yield Pulled([], pending)
        while True:
            if owed <= 0:
                await ask(connection, stream, consumer, inbox, REQUEST)
                owed = BATCH_MESSAGES_MAX
            before = expected
            taking = take(subscription, owed)
            messages, owed, delivered = await (taking if made is None else while_connected(connection, taking, made))
            heed_cancellation()  # else a reader that was told to end goes on until it has to ask again
            gapless = [message for number, message in enumerate(messages, expected) if message.metadata.sequence.consumer == number]
            expected += len(gapless)
            if gapless:
                pending = gapless[-1].metadata.num_pending
                yield Pulled(gapless, pending)
            if len(gapless) < len(messages) or (delivered or 0) >= expected:
                raise Stale(f"message {expected} of the consumer was lost on its way")
            if delivered is not None and delivered < before - 1:
                raise Stale("the consumer has begun anew")
            if not messages and (pending is None or (pending and delivered is not None)):
                pending = 0  # there was nothing to begin with, or the server is idle: what was to come has been purged
                yield Pulled([], pending)
    except nats.errors.StaleConnectionError as error:
        raise Stale("the connection was made anew") from error
    finally:
        await forget(connection, subscription)


async def ask(connection: Client, stream: str, consumer: str, inbox: str, request: Mapping[str, int | bool]) -> None:
    """Have the server send messages of a consumer to the inbox."""
    with door("ask for messages"):
        await connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(request).encode(), reply=inbox)


async def take(subscription: Subscription, owed: int) -> tuple[list[Msg], int, int | None]:
    """Everything that has arrived, at least one message or one word of the server's.

    Also how many messages the server still owes, and how many it says it has delivered in all; None if it says nothing.
    It says so when a second has passed in which there was nothing to deliver. Raises Stale when it is silent, or finds something wrong.
    """
    messages: list[Msg] = []
    delivered = None
    try:
        arrived = [await subscription.next_msg(timeout=SILENCE_SECONDS)]
        while subscription.pending_msgs and len(arrived) < BATCH_MESSAGES_MAX:
            arrived.append(await subscription.next_msg(timeout=SILENCE_SECONDS))
    except nats.errors.TimeoutError as error:
        raise Stale(f"the server was silent for {SILENCE_SECONDS:g} s") from error
    except nats.errors.Error as error:
        raise Stale(f"the connection was lost ({error or type(error).__name__})") from error
    for message in arrived:
        # A message of the stream comes with a reply subject. One without is a word of the server's.
        said = message.headers or {}
        status, why = None if message.reply else said.get("Status"), said.get("Description", "")
        if status is None:
            messages.append(message)
            owed -= 1
        elif status in ("404", "408") or (status == "409" and why == REQUEST_FULL):
            owed = 0  # that request is over; nothing is wrong
        elif status == "409" and why == REQUEST_DONE:
            pass
        elif status == "100":
            delivered = int(said.get("Nats-Last-Consumer", "0"))
        else:
            raise Stale(f"the server said {status} {why}")
    return messages, owed, delivered


async def forget(connection: Client, subscription: Subscription | JetStreamContext.PullSubscription) -> None:
    """End a subscription. It raises nothing: what made its owner leave, a cancellation most of all, must not be hidden."""
    if not connection.is_closed:
        try:
            await subscription.unsubscribe()
        except nats.errors.Error:
            structlog.get_logger().debug("the subscription had ended before we did")
