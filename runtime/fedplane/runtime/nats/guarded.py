"""Reading the log for those who may make no consumer: somebody who knows their rights makes one for them, when they ask.

A consumer's filters are said in the body of a request, which no permission looks into, so whoever makes one may read the whole stream.
A collaborator therefore asks the authorizer, and may then have messages of that one consumer sent, and of no other.
It cannot say where to begin either. So whenever anything looks wrong it asks again, and reads everything again from the beginning:
nothing is missed, and what was heard may be heard again. That is also how it hears of runs in which it had no part before,
whose first facts are older than the last one that it has heard: a change of rights ends its connection.

Two processes of one name take the consumer from each other. Each then waits longer and longer before it asks again.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from fedplane.runtime.errors import BadInput, BusError, Denied, Unreachable
from fedplane.runtime.nats.connection import LOST_SECONDS, Patience, door, while_connected
from fedplane.runtime.nats.pull import RETRY_SECONDS, Pulled, Stale, check_open, consumed
from fedplane.runtime.nats.streams import LOG, STATED, stream_of
from fedplane.runtime.ports import Begin
from fedplane.schemas.facts import Advertised
from fedplane.schemas.patterns import matches
from fedplane.schemas.subjects import parse_listen

__all__ = ["answered", "pull_given", "register"]

LISTEN_SECONDS = 5.0
"""How long the authorizer may take to make a consumer, which takes it milliseconds."""

AGAIN_SECONDS = 30.0
"""How often to ask again when there is nothing to read. A change of rights is heard of at once, unless the authorizer missed it."""

PAUSE_SECONDS_MAX = 5.0
"""How long to wait at most before asking again; at first it is `RETRY_SECONDS`, and twice as long each time."""

LASTED_SECONDS = 10.0
"""A consumer that was good for so long was taken by nobody, so that what ended it does not count as a failure in a row."""

FAILURES_MAX = 10
"""More failures in a row make the pause no longer."""

ANSWERED_SECONDS = 0.1
"""How often to ask while the streams are being made."""

ANSWER_BYTES_SHOWN = 200
"""How much of an answer that makes no sense is repeated."""


async def pull_given(connection: Client, listening: str, patterns: Sequence[str], after: Begin | None = 0) -> AsyncGenerator[Pulled, None]:
    """Messages that match a pattern, of those that we may hear: from the first one after `after`, for ever, and perhaps again from there.

    The first item may be empty. Raises Denied for what nobody makes a reader of, BadInput for where such a reader cannot begin.
    """
    if any(stream_of(pattern) != LOG for pattern in patterns):
        raise Denied(f"this process may hear of its own runs, and not {', '.join(patterns)}")
    if after is None:
        raise BadInput("a reader that the authorizer makes begins at the beginning, behind a place or at a time, and not at the end")
    subjects = [STATED + pattern for pattern in patterns]
    failures = 0
    logger = structlog.get_logger(listening=listening)
    while True:
        while not (connection.is_connected or connection.is_closed):
            await asyncio.sleep(LOST_SECONDS)  # a question would wait for the server, and be asked a second time when it is back
        made, begun = connection.stats["reconnects"], _now()
        try:
            stream, consumer = await _asked(connection, listening, made)
            if not consumer:
                failures = 0
                yield Pulled([], 0)
                await _made_anew(connection, made, AGAIN_SECONDS)
                continue
            async with aclosing(consumed(connection, stream, consumer, made=made)) as pulling:
                async for pulled in pulling:
                    yield Pulled([message for message in pulled.messages if _is_wanted(message, subjects, after)], pulled.pending)
        except Stale as error:
            check_open(connection, error)
            logger.debug("asking for a reader again", why=str(error))
        except BusError as error:
            check_open(connection, error)
            logger.warning("no reader of the log yet, asking again", why=str(error))
        failures = 1 if _now() - begun > LASTED_SECONDS else min(failures + 1, FAILURES_MAX)
        pause = min(RETRY_SECONDS * 2 ** (failures - 1), PAUSE_SECONDS_MAX)
        await _made_anew(connection, made, pause * random.uniform(0.5, 1))


async def _asked(connection: Client, listening: str, made: int) -> tuple[str, str]:
    """The stream and the consumer that was made for us; without a name if there is nothing that we may hear."""
    with door("ask for a reader of the log"):
        answer = (await while_connected(connection, connection.request(listening, b"", timeout=LISTEN_SECONDS), made)).data
    try:
        said = json.loads(answer)
        if "error" in said:
            raise BusError(f"the authorizer makes no reader of the log for us: {said['error']}")
        return str(said["stream"]), str(said["consumer"])
    except (ValueError, TypeError, KeyError) as error:
        raise BusError(f"what was answered on {listening} names no reader: {answer[:ANSWER_BYTES_SHOWN]!r}") from error


async def _made_anew(connection: Client, made: int, seconds: float) -> None:
    """Wait until the connection has been made anew, or so long."""
    until = _now() + seconds
    while connection.stats["reconnects"] == made and (left := until - _now()) > 0:
        await asyncio.sleep(min(LOST_SECONDS, left))


def _is_wanted(message: Msg, subjects: Sequence[str], after: Begin) -> bool:
    metadata = message.metadata
    is_late = metadata.timestamp >= after if isinstance(after, datetime) else metadata.sequence.stream > after
    return is_late and any(matches(subject, message.subject) for subject in subjects)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def answered(connection: Client, listening: str, patience: Patience) -> None:
    """Wait until the server answers at all, by what it has of our own advertisement. Raises Unreachable when it does not in time."""
    _, name, _ = parse_listen(listening)
    jetstream = connection.jetstream(timeout=LISTEN_SECONDS)
    failure: BusError | None = None
    try:
        async with asyncio.timeout(patience.connect_seconds):
            while (failure := await _failure(jetstream, Advertised.pattern(cluster=name))) is not None:
                await asyncio.sleep(ANSWERED_SECONDS)
    except TimeoutError as error:
        said = f"; {failure}" if failure else ""
        raise Unreachable(f"the server has no streams after {patience.connect_seconds:g} s; is a scheduler running?{said}") from error


async def _failure(jetstream: JetStreamContext, subject: str) -> BusError | None:
    try:
        with door(f"read {subject}"):
            await register(jetstream, subject, direct=True)
    except BusError as error:
        return error
    return None


async def register(jetstream: JetStreamContext, subject: str, *, direct: bool) -> RawStreamMsg | None:
    """What a register holds: from the stream's leader, or `direct` from any server with a copy, which may be late.

    Only the latter can be allowed subject by subject.
    """
    try:
        return await jetstream.get_msg(stream_of(subject), subject=STATED + subject, direct=direct)
    except nats.js.errors.NotFoundError:
        return None
