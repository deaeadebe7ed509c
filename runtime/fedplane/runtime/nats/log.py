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
from fedplane.runtime.nats.guarded import pull_given, register
from fedplane.runtime.nats.pull import Pulled, pull
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

LATE_SECONDS = (0.05, 0.2, 0.8)
"""How long to wait each time before a copy is asked again what a register holds that was refused to us. Copies are behind by milliseconds;
one that does not have it by then leaves us with "refused by the fence", and whoever reads the log hears of the fact all the same.
"""

MESSAGE_ID = "Nats-Msg-Id"
"""By which the server knows a message again that it has stored, so that a repetition costs nothing; for two minutes, and on any subject."""

REFUSED = frozenset({10071, 10077})
"""JetStream's codes for: wrong last sequence (the fence, or our own retry), and a register that is written already (or a full stream)."""


class NatsLog:
    """See `Log`."""

    def __init__(self, connection: Client, source: str, listening: str = "") -> None:
        """`listening` is where to ask for readers, for a process that may make none; it then reads registers from any copy."""
        self.source = source
        self._listening = listening
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
                    if not stated.duplicate:
                        return Stated(Recorded(fact, stated.seq, wire.id, traceparent, self.source), True), True
                    # The server has a message with this id, which need not be ours: anybody may use any id.
                    held = await self.read(wire.subject)
                    if held is not None:
                        return Stated(held, held.id == wire.id), lost > 0
                    del headers[MESSAGE_ID]
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
        settled = await self._settle(wire, failure, replaces=fact.replaces)
        return settled, settled.mine and lost > 0  # it was stored, and only the server's word was lost

    async def _settle(self, wire: envelope.Wire, failure: Exception | None, *, replaces: bool) -> Stated:
        held = await self.read(wire.subject)
        for seconds in LATE_SECONDS if self._listening else ():
            if held is not None:
                break
            await asyncio.sleep(seconds)
            held = await self.read(wire.subject)
        code = failure.err_code if isinstance(failure, nats.js.errors.APIError) else None
        is_full = code in NO_ROOM
        if held is not None and (held.id == wire.id or not (replaces and is_full)):  # what may be replaced is no reason for a refusal
            return Stated(held, held.id == wire.id)
        if is_full:
            stream = stream_of(wire.subject)
            raise BusFull(f"could not state {wire.subject}: the log is full; raise the limit of the stream {stream}") from failure
        if code not in (None, IN_FLIGHT):
            return Stated(None, False)
        raise Unreachable(f"could not state {wire.subject}: no answer after {ATTEMPTS_MAX} attempts") from failure

    async def tail(self, patterns: Sequence[str], after: Begin | None = 0) -> AsyncIterator[Batch]:
        """See `Log.tail`."""
        async for pulled in await self._pulling(patterns, after):
            records = tuple(record for message in pulled.messages if (record := recorded(message)))
            last = pulled.messages[-1].metadata.sequence.stream if pulled.messages else 0
            skipped = len(pulled.messages) - len(records)
            yield Batch(records, live=pulled.pending == 0, sequence=last, skipped=skipped, pending=pulled.pending)

    async def _pulling(self, patterns: Sequence[str], after: Begin | None) -> AsyncIterator[Pulled]:
        if self._listening:
            return pull_given(self._connection, self._listening, patterns, after)
        stream = stream_of(patterns[0])
        if after is None:
            with door("ask for the end of the log"):
                after = int((await self._jetstream.stream_info(stream)).state.last_seq)
        return pull(self._connection, stream, [STATED + pattern for pattern in patterns], after)

    async def read(self, subject: str) -> Recorded | None:
        """See `Log.read`."""
        with door(f"read {subject}"):
            message = await register(self._jetstream, subject, direct=bool(self._listening))
        if message is None:
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
