"""A real server that asks the authorizer who may connect: every right of every role, and what lies outside them.

The server checks certificates of two authorities, asks by auth callout, and has two accounts, as ADR 0019 says.
The process under test answers its questions; the participants are those that the log has.
"""

import asyncio
import json
import runpy
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import nats.errors
import pytest
import pytest_asyncio
from authority_story import ADDON, Authority, Known, groups_of, user_of
from conftest import NatsServer
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig
from sources import ROOT
from structlog.testing import capture_logs

from fedplane.authorizer import grants
from fedplane.authorizer.answering import Answering
from fedplane.authorizer.following import Following
from fedplane.authorizer.grants import Role
from fedplane.authorizer.identity import Trust
from fedplane.authorizer.tokens import Signer
from fedplane.runtime.errors import BusError, Denied, Unreachable
from fedplane.runtime.nats import Limits, Patience, open_bus
from fedplane.runtime.nats.bulk import NatsBulk
from fedplane.runtime.nats.callouts import answer_callouts, end_connections
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.nats.pull import LINGERING, ask, take
from fedplane.runtime.nats.streams import declare
from fedplane.runtime.ports import Fence
from fedplane.schemas.facts import Advertised, Closed, Declined, Failed, Invited, Scheduled
from fedplane.schemas.models import Chosen
from fedplane.schemas.subjects import model_piece, update_piece

LISTING = runpy.run_path(str(ROOT / "docs/list_rights.py"))
MINE, ANOTHERS, CLUSTER, OTHER = (LISTING[name] for name in ("MINE", "ANOTHERS", "CLUSTER", "OTHER"))

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEED = "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI"
HARMLESS = b'{"filter": "nothing.has.this.subject"}'
"""A purge of nothing, and no other request: a server takes one that it cannot read for one of everything."""

WITHIN_SECONDS = 20.0
"""It takes half a second on a machine that has nothing else to do, and this is about one that has."""

PATIENCE, IMPATIENT = Patience(), Patience(connect_seconds=0.8)

CONFIGURATION = """
tls {{ cert_file: "{server.certificate}", key_file: "{server.key}", ca_file: "{authorities}", verify: true, handshake_first: auto }}
accounts {{
  SYS {{ users: [ {{ user: system, password: connections }} ] }}
  AUTH {{ users: [ {{ user: authorizer, password: callout }} ] }}
  BUS {{
    jetstream: enabled
    users: [ {{ user: admin, password: streams }} ]
    exports: [
      {{ service: "log.fed.v1.>" }}, {{ service: "bulk.fed.v1.>" }}, {{ service: "$JS.API.DIRECT.GET.>" }}
      {{ service: "$JS.API.CONSUMER.MSG.NEXT.>", response_type: stream }}, {{ stream: "fed.v1.>" }}
    ]
  }}
  CLUSTERS {{
    imports: [
      {{ service: {{ account: BUS, subject: "log.fed.v1.>" }} }}, {{ service: {{ account: BUS, subject: "bulk.fed.v1.>" }} }}
      {{ service: {{ account: BUS, subject: "$JS.API.DIRECT.GET.>" }} }}
      {{ service: {{ account: BUS, subject: "$JS.API.CONSUMER.MSG.NEXT.>" }} }}
    ]
  }}
  SUBSCRIBERS {{ imports: [ {{ stream: {{ account: BUS, subject: "fed.v1.>" }} }} ] }}
}}
authorization {{ auth_callout {{ issuer: {issuer}, account: AUTH, auth_users: [ authorizer, admin, system ] }} }}
system_account: SYS
"""


@dataclass
class Guarded:
    """A server with the authorizer beside it."""

    server: NatsServer
    ocm: Authority
    ours: Authority
    admin: Client
    replicas: list[Subscription]
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.server.port}"

    def known(self, role: Role, name: str) -> Known:
        return self.ocm.agent(name) if role is Role.COLLABORATOR else self.ours.sign(f"fedplane:{role}:{name}")

    @asynccontextmanager
    async def connected(self, role: Role, name: str, known: Known | None = None, patience: Patience = PATIENCE) -> AsyncIterator[Client]:
        """A connection of our own making, with that certificate; what the server complains of is in `complaints`."""
        credentials = (known or self.known(role, name)).credentials(self.ours.file, role, name)
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    ocm, ours = Authority(directory, "ocm"), Authority(directory, "ours")
    (directory / "authorities").write_text(ocm.file.read_text() + ours.file.read_text())
    signer, certificate = Signer(SEED), ours.sign("nats", host="localhost")
    further = CONFIGURATION.format(server=certificate, authorities=directory / "authorities", issuer=signer.public)
    server = NatsServer(directory / "bus", further=further)
    server.start()
    operators = ours.sign("operators")
    tls = ssl.create_default_context(cafile=ours.file)
    tls.load_cert_chain(operators.certificate, operators.key)
    url = f"tls://localhost:{server.port}"
    admin = await nats.connect(url, user="admin", password="streams", tls=tls, tls_handshake_first=True)
    authorizer = await nats.connect(url, user="authorizer", password="callout", tls=tls, tls_handshake_first=True)
    system = await nats.connect(url, user="system", password="connections", tls=tls, tls_handshake_first=True)
    try:
        await declare(admin.jetstream(), Limits())
        log = NatsLog(admin, "/test")
        for run, cluster in ((MINE, CLUSTER), (ANOTHERS, OTHER)):
            chosen = (Chosen(cluster=cluster, score=1, terms=()),)
            await log.state(Scheduled(at=NOW, run=run, participants=chosen, refused=()))
        following = Following(log, lambda names: end_connections(system, grants.CLUSTERS, names))
        reading = asyncio.create_task(following.run())
        while not following.live:
            await asyncio.sleep(0.01)
        trust = Trust(ADDON, frozenset({ocm.fingerprint}), frozenset({ours.fingerprint}))
        answering = Answering(signer, trust, lambda: following.participants, lambda: datetime.now(UTC))
        replicas = [await answer_callouts(authorizer, answering) for _ in range(2)]
        yield Guarded(server, ocm, ours, admin, replicas)
        reading.cancel()
    finally:
        for connection in (authorizer, system, admin):
            await close(connection)
        server.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("role", list(Role))
async def test_a_server_allows_each_role_what_the_page_says_and_nothing_else(guarded: Guarded, role: Role) -> None:
    name = CLUSTER if role is Role.COLLABORATOR else "one"
    grant = grants.collaborator(CLUSTER, [MINE]) if role is Role.COLLABORATOR else grants.of_role(role, name)
    seen: dict[str, bool] = {}
    async with guarded.connected(role, name) as connection:
        for right in LISTING["RIGHTS"]:
            guarded.complaints.clear()
            if right.hears:
                heard = await connection.subscribe(right.subject)
            else:
                await connection.publish(right.subject, HARMLESS, headers={"Nats-Expected-Last-Subject-Sequence": str(2**53 - 1)})
            for _ in range(2):
                await connection.flush()
            if right.hears:
                await heard.unsubscribe()
            seen[right.words] = not any("permissions violation" in complaint.lower() for complaint in guarded.complaints)

    assert seen == {right.words: LISTING["allows"](grant, right) for right in LISTING["RIGHTS"]}


async def test_a_collaborator_hears_its_invitation_uploads_and_answers(guarded: Guarded) -> None:
    invited = Invited.model_construct(at=NOW, run=MINE, round=1, cluster=CLUSTER)
    admin, subject = guarded.admin, f"log.{invited.subject}"
    await admin.jetstream().publish(subject, b"an invitation")
    await admin.jetstream().publish(f"log.{Invited.pattern(run=MINE, round=1, cluster=OTHER)}", b"another's")
    model = model_piece(MINE, 1, "a1", 0)
    await admin.jetstream().publish(f"{model}.0", b"12345678")
    listening = grants.collaborator(CLUSTER, [MINE]).listening
    assert listening is not None
    made = ConsumerConfig(name=listening.consumer, ack_policy=AckPolicy.NONE, filter_subjects=list(listening.filters))
    await admin.jetstream().add_consumer(listening.stream, made)
    credentials = guarded.ocm.agent(CLUSTER).credentials(guarded.ours.file, Role.COLLABORATOR, CLUSTER)
    bulk = NatsBulk(guarded.url, CLUSTER, PATIENCE, credentials)
    declined = Declined(at=NOW, run=MINE, round=1, cluster=CLUSTER, reason="crashed", message="")
    async with guarded.connected(Role.COLLABORATOR, CLUSTER) as connection:
        inbox = connection.new_inbox()
        subscription = await connection.subscribe(inbox)
        await ask(connection, listening.stream, listening.consumer, inbox, {"batch": 8, **LINGERING})
        heard = []
        while subject not in heard:
            messages, _, _ = await take(subscription, 8)
            heard += [message.subject for message in messages]
        piece = await bulk.write(update_piece(MINE, 1, CLUSTER, "a1", 0), memoryview(bytes(2_500_000)), 1_000_000)
        known = piece.model_copy(update={"subject": model, "bytes": 8})
        read = await bulk.chunk(known, 0)
        stated = await NatsLog(connection, "/test").state(declined, fence=Fence(Closed.pattern(run=MINE, round=1)))
        announced = (await connection.jetstream().get_msg("LOG", subject=f"log.{declined.subject}", direct=True)).data
    await bulk.close()

    assert heard == [f"log.{Scheduled.pattern(run=MINE)}", subject]
    assert bytes(read) == b"12345678"
    assert stated.mine
    assert announced == await guarded.held("LOG", f"log.{declined.subject}")
    assert await guarded.held("BULK", f"{update_piece(MINE, 1, CLUSTER, 'a1', 0)}.2") == bytes(500_000)


async def test_what_is_denied_leaves_nothing(guarded: Guarded) -> None:
    forged = [
        ("LOG", f"log.{Declined.pattern(run=MINE, round=2, cluster=OTHER)}"),
        ("LOG", f"log.{Declined.pattern(run=ANOTHERS, round=2, cluster=CLUSTER)}"),
        ("LOG", f"log.{Closed.pattern(run=MINE, round=2)}"),
        ("FLEET", f"log.{Advertised.pattern(cluster=OTHER)}"),
        ("BULK", f"{update_piece(MINE, 2, OTHER, 'a1', 0)}.0"),
        ("BULK", f"{model_piece(MINE, 2, 'a1', 0)}.0"),
    ]
    async with guarded.connected(Role.COLLABORATOR, CLUSTER) as connection:
        for _, subject in forged:
            await connection.publish(subject, b"forged")
        await connection.flush()
        await connection.flush()

    assert [await guarded.held(stream, subject) for stream, subject in forged] == [None] * len(forged)
    assert len(guarded.complaints) == len(forged)


async def test_an_answer_of_the_server_cannot_be_sent_where_the_asker_may_not_write(guarded: Guarded) -> None:
    """A server writes its answer with rights of its own. Within the account of the streams, that is how one forges a fact."""
    register, advertised = f"log.{Closed.pattern(run=ANOTHERS, round=7)}", f"log.{Advertised.pattern(cluster=OTHER)}"
    own = f"log.{Declined.pattern(run=MINE, round=3, cluster=CLUSTER)}"

    told: list[bytes] = []

    async def hear(message: Msg) -> None:
        told.append(message.data)

    async def send(connection: Client) -> list[bytes | None]:
        await connection.publish(own, b"forged", reply=register)
        await connection.flush()
        await connection.publish(f"$JS.API.DIRECT.GET.LOG.{own}", reply=Failed.pattern(run=ANOTHERS))
        await connection.flush()
        await connection.publish(f"$JS.API.DIRECT.GET.LOG.{own}", reply=advertised)
        await connection.flush()
        await asyncio.sleep(0.2)
        return [await guarded.held("LOG", register), await guarded.held("FLEET", advertised)]

    async with guarded.connected(Role.SUBSCRIBER, "grafana") as subscriber:
        await subscriber.subscribe(Failed.pattern(run=ANOTHERS), cb=hear)
        await subscriber.flush()
        async with guarded.connected(Role.COLLABORATOR, CLUSTER) as outside:
            through_imports = await send(outside)
            complaints, forged = list(guarded.complaints), list(told)
        within = await send(guarded.admin)
    await guarded.admin.jetstream().purge_stream("LOG", subject=register)

    assert (through_imports, complaints, forged) == ([None, None], [], [])
    assert within[0] is not None  # the register of another run, taken by the server's acknowledgement
    assert within[1] == b"forged"
    assert told == [b"forged"]  # an announcement of what was never stored


async def test_a_filter_is_nothing_that_a_permission_sees(guarded: Guarded) -> None:
    """So nobody outside may make a consumer: with several filters they stand in the body, and with one it may deliver to any subject."""
    admin = guarded.admin
    filters = [f"log.{Invited.pattern(run=ANOTHERS)}", f"log.{Closed.pattern(run=ANOTHERS)}"]
    configuration = ConsumerConfig(name="any", ack_policy=AckPolicy.NONE, filter_subjects=filters)
    subject = f"$JS.API.CONSUMER.CREATE.LOG.any.{filters[0]}"
    request = json.dumps({"stream_name": "LOG", "config": configuration.as_dict()}).encode()
    named = json.loads((await admin.request(subject, request)).data)
    unnamed = json.loads((await admin.request("$JS.API.CONSUMER.CREATE.LOG.any", request)).data)
    await admin.jetstream().delete_consumer("LOG", "any")

    assert named["error"]["err_code"] == 10137  # consumer with multiple subject filters cannot use subject based API
    assert unnamed["config"]["filter_subjects"] == filters


async def test_a_service_opens_the_bus_by_its_certificate(guarded: Guarded) -> None:
    credentials = guarded.known(Role.SCHEDULER, "one").credentials(guarded.ours.file, Role.SCHEDULER, "one")
    fact = Advertised(at=NOW, cluster="lisbon", lease_seconds=15)
    async with open_bus(guarded.url, name="scheduler", source="/test", limits=Limits(), credentials=credentials) as bus:
        stated = await bus.log.state(fact)
        held = await bus.log.read(fact.subject)
        batch = await anext(aiter(bus.log.tail([Advertised.pattern()])))

    assert stated.mine
    assert held is not None
    assert held.fact == fact
    assert batch.sequence >= 0


async def test_todays_collaborator_cannot_open_the_bus_with_only_its_own_rights(guarded: Guarded) -> None:
    """It asks how a stream is, which would tell it the names of all runs. That is for `open_bus` to change."""
    credentials = guarded.ocm.agent(CLUSTER).credentials(guarded.ours.file, Role.COLLABORATOR, CLUSTER)

    with pytest.raises(Unreachable, match="is a scheduler running"):
        async with open_bus(guarded.url, name=CLUSTER, source="/test", patience=IMPATIENT, credentials=credentials):
            pass


async def test_rights_follow_the_run_on_a_connection_that_is_open(guarded: Guarded) -> None:
    log, run, cluster = NatsLog(guarded.admin, "/test"), "late-01234567", "lisbon"

    async def stored(connection: Client, round_: int) -> bool:
        subject = f"log.{Declined.pattern(run=run, round=round_, cluster=cluster)}"
        await connection.publish(subject, b"an answer")
        await connection.flush()
        return await guarded.held("LOG", subject) is not None

    async with guarded.connected(Role.COLLABORATOR, cluster) as connection:
        before = await stored(connection, 1)
        await log.state(Scheduled(at=NOW, run=run, participants=(Chosen(cluster=cluster, score=1, terms=()),), refused=()))
        gained = await _made_anew(connection, 1)
        during = await stored(connection, 2)
        await log.state(Failed(at=NOW, run=run, reason="no-clusters", message=""))
        lost = await _made_anew(connection, 2)
        after = await stored(connection, 3)

    assert (before, during, after) == (False, True, False)
    assert max(gained, lost) < WITHIN_SECONDS


async def _made_anew(connection: Client, times: int) -> float:
    """How long it took until the connection was made again for so many times."""
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        while connection.stats["reconnects"] < times or not connection.is_connected:
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - begun


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _by_itself(guarded: Guarded) -> Known:
    files = guarded.ocm.file.parent / "self.crt", guarded.ocm.file.parent / "self.key"
    name = "/CN=" + user_of(CLUSTER)[:64]
    new = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", name, "-out", files[0], "-keyout", files[1], "-days", "1"]
    subprocess.run(new, check=True, capture_output=True)
    return Known(*files)


async def test_one_replica_is_enough(guarded: Guarded) -> None:
    await guarded.replicas[0].unsubscribe()
    names = [f"one-{number}" for number in range(5)]
    for name in names:
        async with guarded.connected(Role.SUBSCRIBER, name) as connection:
            assert connection.is_connected


BY_THE_SERVER = ""
"""The server has refused the certificate itself, and has asked nobody."""

STRANGERS: dict[str, tuple[Callable[[Guarded], Known], str]] = {
    "a wildcard for a cluster": (lambda guarded: guarded.ocm.agent(">"), "no DNS label"),
    "two tokens for a cluster": (lambda guarded: guarded.ocm.agent(f"{CLUSTER}.>"), "no DNS label"),
    "another add-on": (lambda guarded: guarded.ocm.agent(CLUSTER, "work-manager"), "no agent of the add-on"),
    "another cluster's groups": (lambda guarded: guarded.ocm.sign(user_of(CLUSTER), groups_of(OTHER)), "not in the group"),
    "a service by the clusters' authority": (lambda guarded: guarded.ocm.sign("fedplane:aggregator:one"), "no agent of the add-on"),
    "a cluster by the services' authority": (lambda guarded: guarded.ours.agent(CLUSTER), "not one for clients of this kind"),
    "an unknown authority": (lambda guarded: Authority(guarded.ocm.file.parent, "strange").agent(CLUSTER), BY_THE_SERVER),
    "an authority of the same name": (
        lambda guarded: Authority(_new(guarded.ocm.file.parent / "alike"), "ocm").agent(CLUSTER),
        BY_THE_SERVER,
    ),
    "by itself": (_by_itself, BY_THE_SERVER),
    "expired": (lambda guarded: guarded.ocm.sign(user_of(CLUSTER), groups_of(CLUSTER), lasts=timedelta(hours=-1)), BY_THE_SERVER),
}


@pytest.mark.parametrize(("make", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_is_not_let_in(guarded: Guarded, make: Callable[[Guarded], Known], reason: str) -> None:
    known = make(guarded)
    with capture_logs() as said, pytest.raises(BusError) as refused:
        async with guarded.connected(Role.COLLABORATOR, CLUSTER, known, IMPATIENT):
            pass

    reasons = [each["why"] for each in said if each["event"] == "refused a connection"]
    assert type(refused.value) in (Denied, Unreachable)
    assert bool(reasons) == bool(reason)
    assert all(reason in each for each in reasons)
