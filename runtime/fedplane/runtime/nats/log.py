"""The log on JetStream: stating a fact means publishing it under `log.` and its subject.

The server refuses a second message on a subject, so whatever happens between us and it, the register decides what is true.
After a refusal, a time-out or a lost acknowledgement we read it back and compare the event's id, which is derived from the fact's content.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.errors import BusFull, Corrupt, Unreachable
from fedplane.runtime.headroom import check_room
from fedplane.runtime.nats.connection import NO_ROOM, door
from fedplane.runtime.nats.pull import pull
from fedplane.runtime.nats.streams import LOG, STATED, stream_of
from fedplane.runtime.ports import Batch, Begin, Fence, Recorded, Stated, Usage
from fedplane.runtime.stating import stating, tell_refused, tell_stated
from fedplane.runtime.telemetry import is_on
from fedplane.schemas import envelope
from fedplane.schemas.facts import Fact, Submitted

__all__ = ["NatsLog", "recorded"]

ACKNOWLEDGED_SECONDS = 3.0
"""How long to wait for the server's word on one fact before asking the register."""

ATTEMPTS_MAX = 3
"""Then the caller hears Unreachable, and states the fact again when it likes: stating is idempotent."""

IN_FLIGHT = 10164
"""JetStream's code for: another message with the same fence is on its way to the other servers of a cluster.
It says nothing about the fence.
"""

RACES_MAX = 40
RACE_SECONDS = 0.01
"""How often a fact is stated again when it met another one on its way, and how much longer to wait each time.
That is 8 s in all, for a thousand at once.
"""

REFUSED = frozenset({10071, 10077})
"""JetStream's codes for: wrong last sequence (the fence, or our own retry), and a register that is written already (or a full stream)."""


class NatsLog:
    """See `Log`."""

    def __init__(self, connection: Client, source: str) -> None:
        self.source = source
        self._connection = connection
        self._jetstream = connection.jetstream()
        self._logger = structlog.get_logger()

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """See `Log.state`."""
        wire = envelope.write(fact, self.source, traceparent)
        with stating(fact, wire.id, traceparent) as sent:
            stated, is_first = await self._state(fact, wire, fence, traceparent)
            tell_refused(sent, stated)
        if is_first and is_on():
            await tell_stated(fact, traceparent, self.read)
        return stated

    async def _state(self, fact: Fact, wire: envelope.Wire, fence: Fence | None, traceparent: str | None) -> tuple[Stated, bool]:
        """What became of it, and whether it is certain that nobody, not even we, had stated it before."""
        if isinstance(fact, Submitted):
            held = await self.read(wire.subject)
            if held is not None:
                return Stated(held, held.id == wire.id), False
            check_room(fact, await self.usage())
        headers = dict(wire.headers)
        if fence is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(fence.sequence)
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = STATED + fence.subject
        failure: Exception | None = None
        lost = raced = 0
        while lost < ATTEMPTS_MAX and raced < RACES_MAX:
            with door(f"state {wire.subject}"):
                try:
                    stated = await self._jetstream.publish(STATED + wire.subject, wire.body, ACKNOWLEDGED_SECONDS, headers=dict(headers))
                    is_first = lost > 0 or not stated.duplicate
                    return Stated(Recorded(fact, stated.seq, wire.id, traceparent, self.source), True), is_first
                except nats.js.errors.APIError as error:
                    failure = error
                    if error.err_code == IN_FLIGHT:
                        raced += 1
                        await asyncio.sleep(RACE_SECONDS * raced)
                        continue
                    if error.err_code not in REFUSED:
                        raise
                    break
                except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
                    failure = error
                    lost += 1
        settled = await self._settle(wire, failure)
        return settled, settled.mine and lost > 0  # it was stored, and only the server's word was lost

    async def _settle(self, wire: envelope.Wire, failure: Exception | None) -> Stated:
        held = await self.read(wire.subject)
        if held is not None:
            return Stated(held, held.id == wire.id)
        if isinstance(failure, nats.js.errors.APIError) and failure.err_code != IN_FLIGHT:
            if failure.err_code in NO_ROOM:
                raise BusFull(f"could not state {wire.subject}: the log is full; raise the limit of the stream LOG") from failure
            return Stated(None, False)
        raise Unreachable(f"could not state {wire.subject}: no answer after {ATTEMPTS_MAX} attempts") from failure

    async def tail(self, patterns: Sequence[str], after: Begin | None = 0) -> AsyncIterator[Batch]:
        """See `Log.tail`."""
        stream = stream_of(patterns[0])
        if after is None:
            with door("ask for the end of the log"):
                after = int((await self._jetstream.stream_info(stream)).state.last_seq)
        async for pulled in pull(self._connection, stream, [STATED + pattern for pattern in patterns], after):
            records = tuple(record for message in pulled.messages if (record := recorded(message)))
            last = pulled.messages[-1].metadata.sequence.stream if pulled.messages else 0
            skipped = len(pulled.messages) - len(records)
            yield Batch(records, live=pulled.pending == 0, sequence=last, skipped=skipped, pending=pulled.pending)

    async def read(self, subject: str) -> Recorded | None:
        """See `Log.read`."""
        with door(f"read {subject}"):
            try:
                message = await self._jetstream.get_msg(stream_of(subject), subject=STATED + subject)
            except nats.js.errors.NotFoundError:
                return None
        headers = message.headers or {}
        try:
            fact = envelope.read(subject, headers, message.data or b"")
        except envelope.Unreadable as error:
            raise Corrupt(f"the register {subject} is taken by what is no fact: {error}") from error
        return _with_headers(fact, message.seq or 0, headers, message.data or b"")

    async def purge(self, pattern: str, before: int | None = None) -> None:
        """See `Log.purge`."""
        with door(f"purge {pattern}"):
            await self._jetstream.purge_stream(stream_of(pattern), seq=before, subject=STATED + pattern)

    async def usage(self) -> Usage:
        """See `Log.usage`."""
        with door("ask how full the log is"):
            info = await self._jetstream.stream_info(LOG)
        limit = info.config.max_bytes or 0
        return Usage(info.state.bytes, limit if limit > 0 else None)


def recorded(message: Msg) -> Recorded | None:
    """The fact in a message of the log; None, and a warning, if it has none that can be read."""
    headers = message.headers or {}
    try:
        fact = envelope.read(message.subject.removeprefix(STATED), headers, message.data)
    except envelope.Unreadable as error:
        structlog.get_logger().warning("skipped a fact that cannot be read", why=str(error))
        return None
    return _with_headers(fact, message.metadata.sequence.stream, headers, message.data)


def _with_headers(fact: Fact, sequence: int, headers: dict[str, str], body: bytes) -> Recorded:
    return Recorded(fact, sequence, headers.get("ce-id", ""), headers.get(envelope.TRACEPARENT), headers.get("ce-source", ""), body)
