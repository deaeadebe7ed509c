"""The ports on NATS JetStream: the only place that knows streams, consumers, headers and acknowledgements.

`open_bus` gives them all on one connection for facts and, once bytes are moved, a second one for bulk.
A large upload must not make a fact wait.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import fedplane.runtime.nats.loading  # noqa: F401 -- before the library is loaded
from fedplane.runtime.nats.bulk import NatsBulk
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, Patience, close, connect, without_secrets
from fedplane.runtime.nats.credentials import Credentials
from fedplane.runtime.nats.guarded import answered
from fedplane.runtime.nats.letters import NatsLetters
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.nats.looking import look
from fedplane.runtime.nats.streams import Limits, declare, declared
from fedplane.runtime.nats.subscriptions import NatsSubscriptions
from fedplane.runtime.nats.timers import NatsTimers
from fedplane.runtime.nats.views import NatsViews
from fedplane.runtime.nats.work import NatsWork

__all__ = ["Credentials", "Limits", "NatsBus", "Patience", "look", "open_bus", "without_secrets"]


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class NatsBus:
    """All ports on one server."""

    log: NatsLog
    subscriptions: NatsSubscriptions
    timers: NatsTimers
    work: NatsWork
    bulk: NatsBulk
    views: NatsViews
    letters: NatsLetters
    is_connected: Callable[[], bool]


@asynccontextmanager
async def open_bus(
    url: str,
    *,
    name: str,
    source: str,
    limits: Limits | None = None,
    patience: Patience = PATIENCE,
    credentials: Credentials | None = None,
) -> AsyncIterator[NatsBus]:
    """Connect, declare the streams if `limits` are given (else wait for somebody to declare them), and close everything at the end.

    Who may not ask about streams, as his credentials say, waits for an answer about his own advertisement instead.

    Raises Unreachable when no server answers, or nobody declares the streams, within the patience.
    Raises BusFull when the server has no room for them.
    """
    connection = await connect(url, name, CONTROL_PENDING_BYTES, patience, credentials=credentials)
    bulk = NatsBulk(url, name, patience, credentials)
    try:
        jetstream = connection.jetstream()
        listening = credentials.listening if credentials else ""
        if listening:
            await answered(connection, listening, patience)
        else:
            await (declare(jetstream, limits) if limits else declared(jetstream, patience))
        log = NatsLog(connection, source, listening)
        timers, work, views, letters = NatsTimers(connection, log), NatsWork(connection), NatsViews(connection), NatsLetters(connection)
        yield NatsBus(log, NatsSubscriptions(connection), timers, work, bulk, views, letters, lambda: connection.is_connected)
    finally:
        await bulk.close()
        await close(connection)
