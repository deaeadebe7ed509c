"""A server on which a collaborator may do what it is let do and no more, and a guard who makes the readers that it asks for.

The guard plays the authorizer's part in it, with what the authorizer makes readers with.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from authority_story import Authority
from conftest import NatsServer
from nats.aio.client import Client

from fedplane.runtime.nats import Credentials, Limits, NatsBus, Patience, open_bus
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.runtime.nats.readers import NatsReaders
from fedplane.schemas.roles import Role, inbox_of
from fedplane.schemas.subjects import listen

__all__ = ["CLUSTER", "Guard", "guarded_by", "tls_of"]

CLUSTER = "a"
LISTENING = listen(Role.COLLABORATOR, CLUSTER)
CONSUMER = f"collaborator-{CLUSTER}"
INBOX = inbox_of(Role.COLLABORATOR, CLUSTER)

RIGHTS = """
allow_non_tls: true
authorization {{ users: [
  {{ user: guard, password: all }}
  {{ user: a, password: little, permissions: {{
    publish: [ "{listening}", "$JS.API.CONSUMER.MSG.NEXT.LOG.{consumer}", "$JS.API.DIRECT.GET.>", "log.fed.v1.run.*.round.*.declined.a" ]
    subscribe: "{inbox}.>"
  }} }}
] }}
"""


def tls_of(directory: Path, authority: Authority, clients: Path) -> str:
    """A server's configuration: its own certificate by one authority, and clients' by those in a file."""
    known = authority.sign("nats", host="localhost")
    files = f'cert_file: "{known.certificate}", key_file: "{known.key}", ca_file: "{clients}"'
    return f"tls {{ {files}, verify: true, handshake_first: 500ms }}\n"


@dataclass
class Guard:
    """Gives the cluster the facts of these runs, or says what a test has it say."""

    server: NatsServer
    credentials: Credentials
    connection: Client
    runs: tuple[str, ...] = ("r-1",)
    says: bytes | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return guards_url(self.server)

    def bus(self, port: int | None = None, **options: Patience) -> AbstractAsyncContextManager[NatsBus]:
        """The cluster's own, with its few rights."""
        url = f"tls://localhost:{port or self.server.port}"
        return open_bus(url, name="a", source="/a", credentials=self.credentials, **options)

    async def answer(self, subject: str) -> bytes:
        self.asked.append(subject)
        if self.says is not None:
            return self.says
        if self.runs:
            filters = tuple(f"log.fed.v1.run.{run}.>" for run in self.runs)
            await NatsReaders(self.connection).make("LOG", CONSUMER, filters, "collaborator a")
        return json.dumps({"stream": "LOG", "consumer": CONSUMER if self.runs else ""}).encode()


def guards_url(server: NatsServer) -> str:
    return f"nats://guard:all@127.0.0.1:{server.port}"


@asynccontextmanager
async def guarded_by(directory: Path) -> AsyncIterator[tuple[Guard, NatsBus]]:
    """The guard, and a bus on which everything is allowed."""
    authority = Authority(directory, "authority")
    rights = RIGHTS.format(listening=LISTENING, consumer=CONSUMER, inbox=INBOX)
    server = NatsServer(directory / "bus", further=tls_of(directory, authority, authority.file) + rights)
    server.start()
    try:
        known = authority.sign(f"fedplane:collaborator:{CLUSTER}").credentials(authority.file, Role.COLLABORATOR, CLUSTER)
        credentials = replace(known, listening=LISTENING, user="a", password="little")
        connection = await connect(guards_url(server), "guard", CONTROL_PENDING_BYTES, Patience())
        guard = Guard(server, credentials, connection)
        await NatsReaders(connection).answer(LISTENING, guard.answer)
        async with open_bus(guard.url, name="test", source="/test", limits=Limits()) as bus:
            yield guard, bus
        await close(connection)
    finally:
        server.stop()
