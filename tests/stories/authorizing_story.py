"""The authorizer within a test's own process, twice, beside a real server: what it knows is what the test states."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats.js.errors
from accounts_story import ADMIN_PASSWORD, CALLOUT_PASSWORD, SYSTEM_PASSWORD, GuardedServer
from authority_story import ADDON, Known
from nats.aio.client import Client

from fedplane.authorizer.answering import Answering
from fedplane.authorizer.certificates import parse
from fedplane.authorizer.crowds import Crowd
from fedplane.authorizer.identity import Trust
from fedplane.authorizer.main import Authorizer, Reading, authorize
from fedplane.runtime.nats import Limits, Patience
from fedplane.runtime.nats.callouts import open_gate
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.nats.streams import declare
from fedplane.schemas.facts import Granted, Scheduled, Submitted
from fedplane.schemas.models import Chosen
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.roles import Role

__all__ = ["NOW", "PATIENCE", "Guarded", "authorizing", "guarded_bus", "scheduled", "submitted"]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PATIENCE = Patience()

FIRST_BYTES = 500_000_000
"""What an update may have before there is a model: more than any test stores."""


@dataclass
class Guarded:
    """A server with the authorizer beside it, twice."""

    it: GuardedServer
    admin: Client
    granted: dict[str, Known] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.it.url

    @property
    def log(self) -> NatsLog:
        return NatsLog(self.admin, "/test")

    @asynccontextmanager
    async def connected(self, role: Role, name: str, known: Known | None = None, patience: Patience = PATIENCE) -> AsyncIterator[Client]:
        """A connection of our own making, with that certificate; what the server complains of is in `complaints`."""
        shown = known or (self.granted[name] if role is Role.SUBSCRIBER else self.it.known(role, name))
        credentials = shown.credentials(self.it.ours.file, role, name)
        self.complaints.clear()
        connection = await connect(self.url, name, CONTROL_PENDING_BYTES, patience, self.complaints.append, credentials=credentials)
        try:
            yield connection
        finally:
            await close(connection)

    async def held(self, stream: str, subject: str) -> bytes | None:
        try:
            return (await self.admin.jetstream().get_msg(stream, subject=subject)).data
        except nats.js.errors.NotFoundError:
            return None

    async def grant(self, name: str, **said: Any) -> Known:
        """Have a subscriber granted something, as `fedplane access` does, and the certificate for it."""
        self.granted[name] = self.it.known(Role.SUBSCRIBER, name)
        fingerprint = parse(self.granted[name].pem).fingerprint
        await self.log.state(Granted(at=datetime.now(UTC), role=Role.SUBSCRIBER, name=name, fingerprint=fingerprint, **said))
        return self.granted[name]


def submitted(run: str, namespace: str) -> Submitted:
    spec = {"framework": "flower", "server": {"rounds": 1, "minAvailableClients": 1}}
    metadata = {"name": run, "namespace": namespace}
    document = {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning", "metadata": metadata}
    return Submitted(at=NOW, run=run, resource=FederatedLearning.model_validate({**document, "spec": spec}))


def scheduled(run: str, *clusters: str) -> Scheduled:
    return Scheduled(at=NOW, run=run, participants=tuple(Chosen(cluster=each, score=1, terms=()) for each in clusters), refused=())


@asynccontextmanager
async def authorizing(it: GuardedServer) -> AsyncIterator[None]:
    """What the authorizer's process does, within this one."""
    trust = Trust(ADDON, frozenset({it.ocm.fingerprint}), frozenset({it.ours.fingerprint}))
    reading, crowd, passwords = Reading(), Crowd(), (CALLOUT_PASSWORD, SYSTEM_PASSWORD)
    answering = Answering(it.signer, lambda: trust, reading.known, crowd, lambda: datetime.now(UTC))
    known = it.credentials(Role.AUTHORIZER, "authorizer")
    async with open_gate(it.url, name="authorizer", source="/test", credentials=known, passwords=passwords, answer=answering) as gate:
        authorizer = Authorizer(gate, reading, crowd, FIRST_BYTES)
        working = asyncio.create_task(authorize(authorizer, lambda: datetime.now(UTC)))
        while not authorizer.is_connected():
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait({working})


@asynccontextmanager
async def guarded_bus(directory: Path) -> AsyncIterator[Guarded]:
    """The server with its streams, and two authorizers that have read the log."""
    it = GuardedServer(directory, admin=True)
    it.server.start()
    try:
        async with AsyncExitStack() as opened:
            admin = await opened.enter_async_context(it.user("admin", ADMIN_PASSWORD))
            await declare(admin.jetstream(), Limits())
            for _ in range(2):
                await opened.enter_async_context(authorizing(it))
            yield Guarded(it, admin)
    finally:
        it.server.stop()
