"""Dead letters: facts with which a reader of the log could do nothing, kept on the bus until somebody has looked at them.

A letter is the fact as the log has it, and one header more that says why it is dead; so any NATS client reads it as it reads facts.
It is a copy, because the fact itself leaves the log some time after its run has ended.
"""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.pull import pull
from fedplane.runtime.nats.streams import LOG
from fedplane.runtime.ports import Letter, Recorded
from fedplane.schemas import envelope
from fedplane.schemas.subjects import dead_letter, dead_letters

__all__ = ["LETTERS", "LETTERS_BYTES_MAX", "NatsLetters"]

LETTERS = "LETTERS"
"""The stream of dead letters. It is made when there is one, so that a bus on which nobody forwards anything has none."""

LETTERS_BYTES_MAX = 32_000_000
"""A letter has 2 KB: fifteen thousand of them, or thirty-five of the largest. A full stream refuses more, and whoever has one waits.
It is what `fedplane up` leaves free beside the other streams, so that there is room for it on a server that has all of them.
"""

WHY = "Fedplane-Dead"
"""The header that says why a letter is dead, as JSON: whatever a receiver has answered fits into a header so."""

ACKNOWLEDGED_SECONDS = 3.0


class NatsLetters:
    """See `Letters`."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()

    async def bury(self, reader: str, letter: Letter) -> None:
        """See `Letters.bury`."""
        if not await self._is_declared():
            await self._declare()
        record = letter.record
        wire = envelope.write(record.fact, record.source, record.traceparent)
        said = {"reason": letter.reason, "status": letter.status, "attempts": letter.attempts, "at": letter.at.isoformat()}
        headers = {**wire.headers, "ce-id": record.id or wire.id, WHY: json.dumps(said)}
        del headers["Nats-Msg-Id"]  # a letter that dies again soon is no repetition
        subject = dead_letter(reader, record.sequence)
        with door(f"keep {subject}"):
            await self._jetstream.publish(subject, record.body or wire.body, ACKNOWLEDGED_SECONDS, headers=headers)

    async def of(self, reader: str) -> AsyncIterator[Letter]:
        """See `Letters.of`."""
        if not await self._is_declared():
            return
        async for pulled in pull(self._connection, LETTERS, [dead_letters(reader)], 0):
            for message in pulled.messages:
                letter = _letter(message)
                if letter is not None:
                    yield letter
            if pulled.pending == 0:
                return

    async def settle(self, reader: str, sequence: int) -> None:
        """See `Letters.settle`."""
        subject = dead_letter(reader, sequence)
        with door(f"forget {subject}"):
            await self._jetstream.purge_stream(LETTERS, subject=subject)

    async def _is_declared(self) -> bool:
        with door(f"look for the stream {LETTERS}"):
            try:
                await self._jetstream.stream_info(LETTERS)
            except nats.js.errors.NotFoundError:
                return False
        return True

    async def _declare(self) -> None:
        """Make the stream, with as many copies as the log has."""
        with door(f"declare stream {LETTERS}"):
            log = await self._jetstream.stream_info(LOG)
            configuration = StreamConfig(
                name=LETTERS, subjects=[dead_letters()], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, max_bytes=LETTERS_BYTES_MAX,
                storage=StorageType.FILE, num_replicas=log.config.num_replicas, allow_direct=True,
            )  # fmt: skip
            await self._jetstream.add_stream(configuration)


def _letter(message: Msg) -> Letter | None:
    headers = message.headers or {}
    try:
        sequence = int(message.subject.rpartition(".")[2])
        said: dict[str, Any] = json.loads(headers[WHY])
        fact = envelope.read(headers["ce-subject"], headers, message.data)
        record = Recorded(fact, sequence, headers["ce-id"], headers.get(envelope.TRACEPARENT), headers.get("ce-source", ""), message.data)
        return Letter(record, said["reason"], said["status"], said["attempts"], datetime.fromisoformat(said["at"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # Unreadable is a ValueError
        structlog.get_logger().warning("skipped a dead letter that cannot be read", subject=message.subject, why=repr(error))
        return None
