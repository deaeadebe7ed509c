"""Durable subscriptions: pull consumers of the streams that keep facts, under names that people choose.

The server keeps a consumer's place with the stream, so a reader that is killed goes on behind the last fact that it was done with.
One process reads a consumer at a time, and one that is done with each fact before it takes the next hears them in the log's order.
While it reads it answers to a question that the next one asks first. Whether a request is open would not tell, as none is while it works.

What a reader had and was not done with when it ended, the server hands out again once its patience has ended, and each fact by itself.
The next reader waits for that, takes all of it, and puts it into order, since it would hear later facts first.

Owner and purpose stand in the consumer's metadata. Consumers that somebody made with other tools have none, and are left alone.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Subscribed
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from fedplane.runtime.errors import BadInput, BusError
from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.log import recorded
from fedplane.runtime.nats.pull import LINGERING, Stale, ask, beginning, check_open, forget, take
from fedplane.runtime.nats.streams import FACT_STREAMS, STATED, stream_of
from fedplane.runtime.ports import Handed, Recorded, Subscription
from fedplane.runtime.subscribing import IDLE_SECONDS, check_name, check_number, check_owner, check_same
from fedplane.schemas.subjects import reader_of

__all__ = ["OWNER", "NatsSubscriptions"]

OWNER = "fedplane-owner"
"""The word in a consumer's metadata under which stands whose it is."""

BATCH_MESSAGES_MAX = 32
"""How many facts are handed out before the first is done with. They are what a killed reader hears again; most have a kilobyte."""

ACKNOWLEDGED_SECONDS = 2.0
"""How long the server waits until it hands a fact out again."""

NOT_DONE_MAX = 1000
"""How many facts the server hands out that nobody is done with; the next reader takes them all at once. A forwarder has 288 at most."""

DONE_MAX = NOT_DONE_MAX
"""How many facts are known that were done with. The server hands them out again to a slow reader, whose next request may overtake its
acknowledgements, as those wait in another queue; and to whoever could not acknowledge them.
"""

HANDED_AGAIN_SECONDS = ACKNOWLEDGED_SECONDS + 0.5
LOOKS_MAX = 10
"""How long to wait behind a reader that has ended, since the server looks for what was not acknowledged a little late.
How often to look meanwhile whether anything was: one that has just ended may have acknowledgements on their way.
"""

ENDED_SECONDS = 0.5
"""How long a process that has just ended may still seem to read: the server hears of it a moment later."""

ANSWER_SECONDS = 1.0
"""How long whoever reads may take to answer. One that says nothing is busy, or its machine is gone and the server has not noticed yet."""

AT_ONCE: Mapping[str, int | bool] = {"batch": BATCH_MESSAGES_MAX, "no_wait": True}
NEXT: Mapping[str, int | bool] = {"batch": 1, **LINGERING}
"""What is asked of the server: all that is there, and if nothing is, the next fact.
So no request is open while facts are worked on, and nothing is handed out into it a second time.
"""

RETRY_SECONDS = 0.5


@dataclass
class _Handed:
    record: Recorded | None
    live: bool
    message: Msg
    known: deque[int]

    async def done(self) -> None:
        """See `Handed.done`."""
        self.known.append(_place(self.message))
        with door(f"acknowledge {self.message.subject}"):
            await self.message.ack()


@dataclass
class _Nothing:
    """Says that everything was handed over."""

    record: Recorded | None = None
    live: bool = True

    async def done(self) -> None:
        """See `Handed.done`."""


class NatsSubscriptions:
    """See `Subscriptions`."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()

    async def make(self, wanted: Subscription) -> bool:
        """See `Subscriptions.make`."""
        check_name(wanted.name)
        held = await self._find(wanted.name)
        if held is not None:
            check_same(_subscription(held), wanted)
            return False
        check_number(len(await self.every()))
        begin = ConsumerConfig(deliver_policy=DeliverPolicy.NEW) if wanted.begin is None else beginning(wanted.begin)
        configuration = begin.evolve(
            durable_name=wanted.name, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACKNOWLEDGED_SECONDS, max_deliver=-1,
            max_ack_pending=NOT_DONE_MAX, filter_subjects=[STATED + pattern for pattern in wanted.patterns],
            inactive_threshold=IDLE_SECONDS, metadata={OWNER: wanted.owner},
        )  # fmt: skip
        with door(f"make the durable subscription {wanted.name}"):
            await self._jetstream.add_consumer(stream_of(wanted.patterns[0]), configuration)
        return True

    async def read(self, name: str) -> AsyncGenerator[Handed, None]:
        """See `Subscriptions.read`."""
        held = await self._known(name)
        known: deque[int] = deque(maxlen=DONE_MAX)
        async with self._alone(name):
            while True:
                try:
                    held = await self._behind_the_last_reader(held)
                    async with aclosing(self._while_connected(held, known)) as connected:
                        async for handed in connected:
                            yield handed
                except (Stale, BusError) as error:
                    structlog.get_logger().debug("reading the subscription again", why=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    held = await self._again(held)

    async def forget(self, name: str, owner: str) -> None:
        """See `Subscriptions.forget`."""
        held = await self._known(name)
        check_owner(_subscription(held), owner)
        with door(f"forget the durable subscription {name}"):
            await self._jetstream.delete_consumer(held.stream_name, name)

    async def every(self) -> list[Subscription]:
        """See `Subscriptions.every`."""
        found: list[Subscription] = []
        for stream in FACT_STREAMS:
            offset = 0
            with door("list the durable subscriptions"):
                while page := await self._jetstream.consumers_info(stream, offset):
                    found += [_subscription(info) for info in page if _is_ours(info)]
                    offset += len(page)
        return sorted(found, key=lambda each: each.name)

    async def _find(self, name: str) -> ConsumerInfo | None:
        for stream in FACT_STREAMS:
            with door(f"look for the durable subscription {name}"):
                try:
                    info: ConsumerInfo = await self._jetstream.consumer_info(stream, name)
                except nats.js.errors.NotFoundError:
                    continue  # then it may be in another stream
            if not _is_ours(info):
                raise BadInput(f"the stream {stream} has a consumer {name} that fedplane did not make; choose another name")
            return info
        return None

    async def _known(self, name: str) -> ConsumerInfo:
        check_name(name)
        held = await self._find(name)
        if held is None:
            names = [each.name for each in await self.every()]
            raise BadInput(f"there is no durable subscription {name!r}; there are: {', '.join(names) or 'none'}")
        return held

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Answer, while this lasts, that somebody reads the subscription. Raises BadInput if another process does."""
        if await self._is_read(name):
            await asyncio.sleep(ENDED_SECONDS)
            if await self._is_read(name):
                raise BadInput(f"the durable subscription {name} is read by another process; end that one first, or choose another name")

        async def answer(question: Msg) -> None:
            await question.respond(b"")

        with door(f"read the durable subscription {name}"):
            answering = await self._connection.subscribe(reader_of(name), cb=answer)
        try:
            yield
        finally:
            await forget(self._connection, answering)

    async def _is_read(self, name: str) -> bool:
        with door(f"ask who reads the durable subscription {name}"):
            try:
                await self._connection.request(reader_of(name), timeout=ANSWER_SECONDS)
            except nats.errors.NoRespondersError:
                return bool((await self._known(name)).num_waiting)  # another NATS client may read it
            except nats.errors.TimeoutError:
                return True
        return True

    async def _behind_the_last_reader(self, held: ConsumerInfo) -> ConsumerInfo:
        """The subscription when the server hands out again what its last reader was not done with, if there is such."""
        for _ in range(LOOKS_MAX):
            if not held.num_ack_pending:
                break
            await asyncio.sleep(HANDED_AGAIN_SECONDS / LOOKS_MAX)
            held = await self._known(held.name)
        return held

    async def _again(self, held: ConsumerInfo) -> ConsumerInfo:
        """The subscription when the server can be asked again. Raises BadInput if somebody has forgotten it."""
        while True:
            try:
                found = await self._find(held.name)
            except BusError as error:
                check_open(self._connection, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if found is None:
                raise BadInput(f"somebody has forgotten the durable subscription {held.name} while it was read")
            return found

    async def _while_connected(self, held: ConsumerInfo, known: deque[int]) -> AsyncGenerator[Handed, None]:
        already = held.delivered.stream_seq if held.delivered else 0
        inbox = self._connection.new_inbox()
        with door(f"read the durable subscription {held.name}"):
            subscription = await self._connection.subscribe(inbox)
        begun = {**AT_ONCE, "batch": max(held.num_ack_pending or 0, BATCH_MESSAGES_MAX)}
        try:
            messages = sorted(await self._fetch(held, subscription, inbox, begun), key=_place)
            while True:
                if not messages:
                    yield _Nothing()
                    messages = await self._fetch(held, subscription, inbox, NEXT)
                for message in messages:
                    handed = _handed(message, already, known)
                    if handed.record is None:
                        await handed.done()
                    if handed.record is not None or handed.live:
                        yield handed
                messages = await self._fetch(held, subscription, inbox, AT_ONCE)
        finally:
            await forget(self._connection, subscription)

    async def _fetch(self, held: ConsumerInfo, subscription: Subscribed, inbox: str, request: Mapping[str, int | bool]) -> list[Msg]:
        await ask(self._connection, held.stream_name, held.name, inbox, request)
        messages: list[Msg] = []
        owed = request["batch"]
        while owed > 0:
            more, owed, _ = await take(subscription, owed)
            messages += more
        return messages


def _place(message: Msg) -> int:
    return int(message.metadata.sequence.stream)


def _handed(message: Msg, already: int, known: deque[int]) -> _Handed:
    place = _place(message)
    record = None if place in known else recorded(message)
    return _Handed(record, message.metadata.num_pending == 0 and place >= already, message, known)


def _is_ours(info: ConsumerInfo) -> bool:
    return OWNER in (info.config.metadata or {})


def _subscription(info: ConsumerInfo) -> Subscription:
    configuration = info.config
    filters = configuration.filter_subjects or [configuration.filter_subject or ""]
    return Subscription(info.name, tuple(each.removeprefix(STATED) for each in filters), (configuration.metadata or {})[OWNER])
