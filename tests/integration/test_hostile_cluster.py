"""A cluster that takes part in a run and means harm, on a bus that trusts nobody: what it tries is refused, and the run completes.

The services and three honest clusters are the real ones, each with its own certificate and rights. Their apps wait until everything
was tried. What else a stranger or a cluster may not do is tried right by right in `test_authorizer`.
"""

import asyncio
import json
import pickle
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nats.errors
import pytest
import pytest_asyncio
from authorizing_story import NOW, PATIENCE, Guarded, guarded_bus
from federation_story import Answer, Federation, NumpyApp, ended, federation, learning, model_bytes, submit
from nats.aio.client import Client
from structlog.testing import capture_logs

from fedplane.authorizer.grants import connections_of
from fedplane.authorizer.identity import Because
from fedplane.runtime.errors import BusError, Denied
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Credentials, Limits, NatsBus, Patience, open_bus
from fedplane.runtime.nats.bulk import NatsBulk
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import (
    Advertised,
    Closed,
    Completed,
    Contributed,
    Declined,
    Evaluated,
    Fact,
    Invited,
    Rejected,
    Revoked,
    all_facts_of,
)
from fedplane.schemas.models import Task
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen, update_piece, updates_of

HONEST, HARMFUL = "abc", "mallory"
ROUND = 1
"""The round that waits: the first one to train."""

SPEC = {
    "server": {"rounds": 2, "minAvailableClients": 4},
    "rounds": {"quorum": 3, "closeAt": 3, "deadlineSeconds": 600, "evaluate": False},
}
SECONDS = 120
OTHERS_SECONDS = 10.0
"""What one question of somebody else may take meanwhile: hundredths of a second on a machine that has nothing else to do."""

SERVICES = {"scheduler": Role.SCHEDULER, "status": Role.STATUS, "aggregator 1": Role.AGGREGATOR, "aggregator 2": Role.AGGREGATOR}


@dataclass
class WaitingApp(NumpyApp):
    """Begins to train when it is let."""

    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, directory: Path, deadline: datetime) -> Answer:
        if json.loads((directory / "invitation.json").read_text())["task"] != Task.INITIALIZE:
            await self.go.wait()
        return await super().ask(directory, deadline)


@dataclass
class Scene:
    """A run whose first round to train waits, and the harmful cluster's own connection and credentials."""

    guarded: Guarded
    operator: NatsBus
    run: str
    go: asyncio.Event
    services: list[Federation]

    def harmful(self) -> "Harmful":
        return Harmful(self)

    async def until(self, kind: type[Fact], cluster: str, round_: int = ROUND) -> Fact:
        async with asyncio.timeout(SECONDS):
            async for batch in self.operator.log.tail([kind.pattern(run=self.run, round=round_, cluster=cluster)]):
                if batch.records:
                    return batch.records[0].fact
        raise AssertionError("the log ended")

    async def log(self, pattern: str = "") -> tuple[list[Fact], int]:
        """The run's facts, or those that match, and how many messages are none."""
        facts, skipped = list[Fact](), 0
        async for batch in self.operator.log.tail([pattern or all_facts_of(self.run)]):
            facts += [record.fact for record in batch.records]
            skipped += batch.skipped
            if batch.live:
                return facts, skipped
        raise AssertionError("the log ended")


class Harmful:
    """The harmful cluster's connection, for a block."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._opened = scene, AsyncExitStack()

    async def __aenter__(self) -> Client:
        connection = await self._opened.enter_async_context(self._scene.guarded.connected(Role.COLLABORATOR, HARMFUL))
        connection._max_payload = 2**40  # the library would keep to what the server says
        return connection

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    directory, go = tmp_path_factory.mktemp("hostile"), asyncio.Event()
    async with guarded_bus(directory / "server") as guarded, AsyncExitStack() as opened:

        async def bus(role: Role, name: str) -> NatsBus:
            listening = listen(role, name) if role is Role.COLLABORATOR else ""
            known = guarded.it.credentials(role, name, listening)
            limits = Limits() if name in SERVICES.values() else None
            return await opened.enter_async_context(open_bus(guarded.url, name=name, source=f"/{name}", limits=limits, credentials=known))

        services = [(name, await bus(role, role)) for name, role in SERVICES.items()]
        clusters = [(f"collaborator {name}", await bus(Role.COLLABORATOR, name)) for name in HONEST]
        running = []
        for name, own in [*services, *clusters]:
            part = Federation(own, directory / name, {cluster: WaitingApp(go=go) for cluster in HONEST})
            part.start(name)
            running.append(part)
        operator = await bus(Role.OPERATOR, "ann")
        async with guarded.connected(Role.COLLABORATOR, HARMFUL) as connection:
            offered = {"claims": {"data": "/m"}, "allocatable": {"cpu": "1", "memory": "1Gi"}, "frameworks": ("flower",)}
            await NatsLog(connection, "/m").state(Advertised(cluster=HARMFUL, at=datetime.now(UTC), lease_seconds=3600, **offered))
        run = await submit(operator, learning(**SPEC))
        it = Scene(guarded, operator, run, go, running)
        await it.until(Invited, HARMFUL)
        yield it
        for part in running:
            for name in list(part.running):
                await part.kill(name)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_message_that_is_too_large_ends_the_connection_and_is_not_stored(scene: Scene) -> None:
    subject = f"{update_piece(scene.run, ROUND, HARMFUL, 'a1', 0)}.0"
    async with scene.harmful() as connection:
        await connection.publish(subject, bytes(3_000_000))
        async with asyncio.timeout(SECONDS):
            while connection.is_connected and connection.stats["reconnects"] == 0:
                await asyncio.sleep(0.01)

    assert "maximum payload" in scene.guarded.it.log.lower()
    assert await scene.guarded.held("BULK", subject) is None


async def test_who_opens_many_connections_has_as_many_as_it_can_use_and_others_are_let_in(scene: Scene) -> None:
    """There are two authorizers, and each lets in as many as one may."""
    known = scene.guarded.it.credentials(Role.COLLABORATOR, HARMFUL)
    most = connections_of(Role.COLLABORATOR, 1)

    async def connected(credentials: Credentials) -> Client | None:
        try:
            return await connect(scene.guarded.url, "many", CONTROL_PENDING_BYTES, Patience(connect_seconds=3), credentials=credentials)
        except BusError:
            return None

    with capture_logs() as said:
        many = await asyncio.gather(*(connected(known) for _ in range(4 * most)))
        honest = await connected(scene.guarded.it.credentials(Role.COLLABORATOR, "a"))
    opened = [connection for connection in [*many, honest] if connection is not None]
    for connection in opened:
        await close(connection)

    assert most <= len(opened) - 1 <= 2 * most
    assert honest is not None
    assert {each["kind"] for each in said if each["event"] == "refused a connection"} == {Because.CROWDED}


async def let_in(port: int, tls: ssl.SSLContext) -> asyncio.StreamWriter | None:
    """A connection of which nothing more is read, once the server has answered on it."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=tls, limit=1)
    writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nPING\r\n')
    heard = b""
    with suppress(ConnectionError):
        while b"PONG" not in heard and (part := await reader.read(1000)):
            heard += part
    if b"PONG" in heard:
        return writer
    writer.close()
    return None


async def test_who_reads_too_slowly_is_cut_off_and_others_do_not_wait(scene: Scene) -> None:
    stored = update_piece(scene.run, ROUND, HARMFUL, "big", 0)
    known = scene.guarded.it.known(Role.COLLABORATOR, HARMFUL)
    async with scene.harmful() as connection:
        await connection.jetstream().publish(f"{stored}.0", bytes(100_000))
        register = Declined(at=NOW, run=scene.run, round=900, cluster=HARMFUL, reason="x", message="y" * 300_000)
        assert (await NatsLog(connection, "/m").state(register)).mine
    tls = ssl.create_default_context(cafile=scene.guarded.it.ours.file)
    tls.load_cert_chain(known.certificate, known.key)
    async with asyncio.timeout(SECONDS):
        while (writer := await let_in(scene.guarded.it.server.port, tls)) is None:  # as long as those of another test count
            await asyncio.sleep(0.2)
    inbox = f"_INBOX_collaborator_{HARMFUL}.flood"
    get = f"$JS.API.DIRECT.GET.LOG.log.{register.subject}"
    writer.write(f"SUB {inbox} 1\r\n".encode())
    begun = asyncio.get_running_loop().time()
    slowest = 0.0
    for number in range(3_000):  # nobody reads what comes back
        writer.write(f"PUB {get} {inbox} 0\r\n\r\n".encode())
        if number % 300 == 0:
            with suppress(ConnectionError):  # it may be cut off already
                await asyncio.wait_for(writer.drain(), SECONDS)
            asked = asyncio.get_running_loop().time()
            await scene.operator.log.read(Invited.pattern(run=scene.run, round=ROUND, cluster="a"))
            slowest = max(slowest, asyncio.get_running_loop().time() - asked)
    async with asyncio.timeout(SECONDS):
        while "Slow Consumer" not in scene.guarded.it.log:
            await asyncio.sleep(0.05)
    writer.close()

    assert slowest < OTHERS_SECONDS
    assert asyncio.get_running_loop().time() - begun < SECONDS


async def test_what_was_said_once_cannot_be_said_otherwise_or_repeated_elsewhere(scene: Scene) -> None:
    first = Evaluated(at=NOW, run=scene.run, round=901, cluster=HARMFUL, weight=1.0, metrics={"loss": 1.0})
    other = first.model_copy(update={"metrics": {"loss": 0.0}})
    async with scene.harmful() as connection:
        log = NatsLog(connection, "/m", listen(Role.COLLABORATOR, HARMFUL))
        outcomes = [(await log.state(fact)).mine for fact in (first, first, other)]
        bytes_of_first = await scene.guarded.held("LOG", f"log.{first.subject}")
        held = await log.read(first.subject)

    assert outcomes == [True, True, False]
    assert held is not None
    assert held.fact == first
    assert bytes_of_first is not None


async def test_a_header_says_nothing_that_the_subject_does_not(scene: Scene) -> None:
    """A fact of another type, source and subject in the headers; a rollup, which would purge the stream; a line break in a header."""
    own = Evaluated(at=NOW, run=scene.run, round=902, cluster=HARMFUL, weight=1.0, metrics={})
    closed = Closed.pattern(run=scene.run, round=ROUND)
    headers = {"ce-type": Closed.type, "ce-source": "/fedplane/aggregator/0", "ce-subject": closed, "ce-id": "1", "ce-specversion": "1.0"}
    before = (await scene.guarded.admin.jetstream().stream_info("LOG")).state.messages
    async with scene.harmful() as connection:
        await connection.publish(f"log.{own.subject}", b'{"run": "x"}', headers=headers)
        for stream, subject in (("LOG", f"log.{Evaluated.pattern(run=scene.run, round=903, cluster=HARMFUL)}"), ("BULK", "")):
            target = subject or f"{update_piece(scene.run, ROUND, HARMFUL, 'r', 0)}.0"
            for how in ("all", "sub"):
                await connection.publish(target, b"x", headers={"Nats-Rollup": how})
            assert await scene.guarded.held(stream, target) is None
        broken = f"log.{Evaluated.pattern(run=scene.run, round=904, cluster=HARMFUL)}"
        raw = b"NATS/1.0\r\nce-id: 1\r\n\r\nPUB log." + closed.encode() + b" 0\r\n\r\n"
        await connection._send_command(b"HPUB %b %d %d\r\n%b\r\n" % (broken.encode(), len(raw), len(raw), raw))
        await connection.flush()
        await asyncio.sleep(0.2)
    after = (await scene.guarded.admin.jetstream().stream_info("LOG")).state.messages
    facts, _ = await scene.log()

    assert after > before
    assert await scene.guarded.held("LOG", f"log.{closed}") is None
    assert [fact.round for fact in facts if isinstance(fact, Closed)] == [0]


async def test_a_fact_that_is_a_bomb_is_skipped(scene: Scene) -> None:
    subjects = [Evaluated.pattern(run=scene.run, round=number, cluster=HARMFUL) for number in (905, 906)]
    bombs = [b'{"metrics":' + b"[" * 200_000, b'{"weight":1e' + b"9" * 200_000 + b"}"]
    async with scene.harmful() as connection:
        for subject, bomb in zip(subjects, bombs, strict=True):
            headers = {"ce-id": "1", "ce-type": Evaluated.type, "ce-source": "/m", "ce-specversion": "1.0", "ce-time": NOW.isoformat()}
            await connection.jetstream().publish(f"log.{subject}", bomb, headers=headers)

    assert [await scene.log(subject) for subject in subjects] == [([], 1), ([], 1)]


async def test_a_pickle_is_no_tensor(scene: Scene, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    known = scene.guarded.it.credentials(Role.COLLABORATOR, HARMFUL)
    bulk = NatsBulk(scene.guarded.url, HARMFUL, credentials=known, patience=PATIENCE)
    harm = memoryview(pickle.dumps(Harm()))
    layout, shard = [await bulk.write(update_piece(scene.run, ROUND, HARMFUL, "p", part), harm, 1_000_000) for part in ("layout", 0)]
    await bulk.close()
    whose = {"run": scene.run, "round": ROUND, "cluster": HARMFUL}
    claimed = Contributed(**whose, at=NOW, weight=1.0, metrics={}, attempt="p", layout=layout, shards=(shard,))
    async with scene.harmful() as connection:
        assert (await NatsLog(connection, "/m").state(claimed)).mine
    rejected = await scene.until(Rejected, HARMFUL)

    assert isinstance(rejected, Rejected)
    assert rejected.reason
    assert not (tmp_path / "executed").exists()


async def test_who_stores_more_than_it_was_asked_for_is_thrown_out_and_its_chunks_are_removed(scene: Scene) -> None:
    known = scene.guarded.it.credentials(Role.COLLABORATOR, HARMFUL)
    subject = updates_of(scene.run, HARMFUL)
    async with scene.harmful() as connection:
        stored = 0
        with suppress(nats.errors.Error):
            for number in range(200):
                await connection.jetstream().publish(f"{update_piece(scene.run, 7_000 + number, HARMFUL, 'f', 0)}.0", bytes(1_000_000))
                stored += 1
        async with asyncio.timeout(SECONDS):
            async for batch in scene.operator.log.tail([Revoked.pattern(role=Role.COLLABORATOR, name=HARMFUL)]):
                if batch.records:
                    said = batch.records[0].fact
                    break
            while (await scene.guarded.admin.jetstream().stream_info("BULK", subjects_filter=subject)).state.subjects:
                await asyncio.sleep(0.05)
    with pytest.raises(Denied):
        await connect(scene.guarded.url, HARMFUL, CONTROL_PENDING_BYTES, Patience(connect_seconds=4), credentials=known)

    assert 64 <= stored < 200
    assert isinstance(said, Revoked)
    assert "bytes of updates for rounds that nobody asked it about" in said.message


async def test_the_run_completes_with_the_model_of_those_who_are_honest(scene: Scene, tmp_path: Path) -> None:
    scene.go.set()
    facts = await ended(scene.operator, scene.run, SECONDS)
    undisturbed = MemoryBus()
    async with federation(undisturbed, tmp_path, HONEST) as it:
        alone = await ended(undisturbed, await submit(undisturbed, learning(**SPEC | {"server": {"rounds": 2, "minAvailableClients": 3}})))
        it.check()

    assert await _model(scene.operator, facts) == await _model(undisturbed, alone)
    for part in scene.services:
        part.check()


async def _model(bus: Bus, facts: list[Fact]) -> bytes:
    completed = facts[-1]
    assert isinstance(completed, Completed), completed
    return await model_bytes(bus, completed.model)
