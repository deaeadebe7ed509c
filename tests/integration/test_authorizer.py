"""A real server that asks the authorizer who may connect: every right of every role, and what lies outside them.

The server checks certificates of two authorities, asks by auth callout, and has the accounts of a federation (ADR 0019).
What answers it is what the authorizer's process composes; who may do what follows from the facts that the log has.
"""

import asyncio
import json
import runpy
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import nats.errors
import pytest
import pytest_asyncio
from accounts_story import SYSTEM_PASSWORD
from authority_story import Authority, Known, groups_of, user_of
from authorizing_story import NOW, Guarded, guarded_bus, scheduled, submitted
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from sources import ROOT
from structlog.testing import capture_logs
from telemetry_story import kept

from fedplane.authorizer.grants import Grant
from fedplane.runtime.errors import BusError, Denied, Unreachable
from fedplane.runtime.metrics import CONNECTIONS_REFUSED
from fedplane.runtime.nats import Limits, Patience, open_bus
from fedplane.runtime.nats.callouts import end_connections
from fedplane.runtime.ports import Fence
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import (
    Advertised,
    Bound,
    Closed,
    Declined,
    Entrusted,
    Fact,
    Failed,
    Invited,
    Keyed,
    Paired,
    Revealed,
    Revoked,
    RoundFact,
    Scheduled,
    Shared,
    Submitted,
    all_facts_of,
)
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen, model_piece, update_piece

LISTING = runpy.run_path(str(ROOT / "docs/list_rights.py"))
MINE, ANOTHERS, CLUSTER, OTHER, TENANT = (LISTING[name] for name in ("MINE", "ANOTHERS", "CLUSTER", "OTHER", "TENANT"))

HARMLESS = b'{"filter": "nothing.has.this.subject"}'
"""A purge of nothing, and no other request: a server takes one that it cannot read for one of everything."""

IMPATIENT = Patience(connect_seconds=2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded_bus(tmp_path_factory.mktemp("guarded")) as guarded:
        for run, cluster, namespace in ((MINE, CLUSTER, "team-a"), (ANOTHERS, OTHER, "team-b")):
            await guarded.log.state(submitted(run, namespace))
            await guarded.log.state(scheduled(run, cluster))
        await guarded.grant("one")
        await guarded.grant(TENANT, namespace="team-a")
        yield guarded


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("grant", LISTING["GRANTS"].values(), ids=LISTING["GRANTS"])
async def test_a_server_allows_each_role_what_the_page_says_and_nothing_else(guarded: Guarded, grant: Grant) -> None:
    seen: dict[str, bool] = {}
    async with guarded.connected(grant.role, grant.name) as connection:
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
    invited = Invited.model_construct(
        at=NOW, run=MINE, round=1, cluster=CLUSTER, attempt="a1", task="train", model=None, clusters=(CLUSTER,)
    )
    admin = guarded.admin
    await admin.jetstream().publish(f"log.{Invited.pattern(run=MINE, round=1, cluster=OTHER)}", b"another's")
    await admin.jetstream().publish(f"log.{invited.subject}", b"no invitation that can be read")
    model = model_piece(MINE, 1, "a1", 0)
    await admin.jetstream().publish(f"{model}.0", b"12345678")
    credentials = guarded.it.credentials(Role.COLLABORATOR, CLUSTER, listen(Role.COLLABORATOR, CLUSTER))
    declined = Declined(at=NOW, run=MINE, round=1, cluster=CLUSTER, reason="crashed", message="")
    async with open_bus(guarded.url, name=CLUSTER, source="/test", credentials=credentials) as bus:
        heard, skipped = [], 0
        async for batch in bus.log.tail([all_facts_of(MINE)]):
            heard += [record.fact.subject for record in batch.records]
            skipped += batch.skipped
            if batch.live:
                break
        piece = await bus.bulk.write(update_piece(MINE, 1, CLUSTER, "a1", 0), memoryview(bytes(2_500_000)), 1_000_000)
        read = await bus.bulk.chunk(piece.model_copy(update={"subject": model, "bytes": 8}), 0)
        stated = await bus.log.state(declined, fence=Fence(Closed.pattern(run=MINE, round=1)))
        own = await bus.log.read(declined.subject)

    assert (heard, skipped) == ([Submitted.pattern(run=MINE), Scheduled.pattern(run=MINE)], 1)
    assert bytes(read) == b"12345678"
    assert stated.mine
    assert own is not None and own.fact == declined
    assert await guarded.held("BULK", f"{update_piece(MINE, 1, CLUSTER, 'a1', 0)}.2") == bytes(500_000)


async def test_a_collaborator_masks_with_others_of_whom_it_hears_what_the_aggregator_hands_on(guarded: Guarded) -> None:
    """Its keys, its shares and what takes masks off are fenced on facts that it may not read, and each of them is stated once."""
    round_ = {"run": MINE, "round": 5}
    told = [like(Paired, **round_), like(Entrusted, **round_, cluster=CLUSTER), like(Closed, **round_)]
    others = [like(Bound, **round_), *(like(fact, **round_, cluster=OTHER) for fact in (Keyed, Shared, Entrusted, Revealed))]
    for fact in (*told, *others):
        await guarded.log.state(fact)
    credentials = guarded.it.credentials(Role.COLLABORATOR, CLUSTER, listen(Role.COLLABORATOR, CLUSTER))
    own = [like(fact, **round_, cluster=CLUSTER) for fact in (Keyed, Shared, Revealed)]
    async with open_bus(guarded.url, name=CLUSTER, source="/test", credentials=credentials) as bus:
        stated = [await bus.log.state(fact) for fact in own]
        again = [await bus.log.state(fact.model_copy(update={"at": NOW})) for fact in own]
        late = await bus.log.state(like(Keyed, run=MINE, round=6, cluster=CLUSTER), fence=Fence(Paired.pattern(run=MINE, round="*")))
        heard: list[Fact] = []
        async for batch in bus.log.tail([all_facts_of(MINE)]):
            heard += [record.fact for record in batch.records]
            if batch.live:
                break

    assert ([each.mine for each in stated], [each.mine for each in again], late.record) == ([True] * 3, [False] * 3, None)
    assert [fact for fact in heard if isinstance(fact, RoundFact) and fact.round == 5] == [*told, *own]


def like(fact: type[Fact], **named: object) -> Fact:
    """The example of such a fact, in a run of these tests."""
    return next(each for each in EXAMPLES if isinstance(each, fact)).model_copy(update=named)


async def test_what_is_denied_leaves_nothing(guarded: Guarded) -> None:
    forged = [
        ("LOG", f"log.{Declined.pattern(run=MINE, round=2, cluster=OTHER)}"),
        ("LOG", f"log.{Declined.pattern(run=ANOTHERS, round=2, cluster=CLUSTER)}"),
        ("LOG", f"log.{Closed.pattern(run=MINE, round=2)}"),
        ("LOG", f"log.{Paired.pattern(run=MINE, round=2)}"),
        ("LOG", f"log.{Entrusted.pattern(run=MINE, round=2, cluster=CLUSTER)}"),
        ("LOG", f"log.{Revealed.pattern(run=MINE, round=2, cluster=OTHER)}"),
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
    own, other = (f"log.{fact}" for fact in (Declined.pattern(run=MINE, round=3, cluster=CLUSTER), Closed.pattern(run=ANOTHERS, round=8)))

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
        await connection.publish(listen(Role.COLLABORATOR, CLUSTER), reply=other)
        await connection.flush()
        await asyncio.sleep(0.2)
        forged = ("LOG", register), ("FLEET", advertised), ("LOG", other)
        return [await guarded.held(*each) for each in forged]

    async with guarded.connected(Role.SUBSCRIBER, "one") as subscriber:
        await subscriber.subscribe(Failed.pattern(run=ANOTHERS), cb=hear)
        await subscriber.flush()
        async with guarded.connected(Role.COLLABORATOR, CLUSTER) as outside:
            through_imports = await send(outside)
            complaints, forged = list(guarded.complaints), list(told)
        within = await send(guarded.admin)
    for subject in (register, other):
        await guarded.admin.jetstream().purge_stream("LOG", subject=subject)

    assert (through_imports, complaints, forged) == ([None] * 3, [], [])
    assert within[0] is not None  # the register of another run, taken by the server's acknowledgement
    assert within[1] == b"forged"
    assert within[2] is not None  # taken by the authorizer's answer
    assert told == [b"forged"]  # an announcement of what was never stored


async def test_a_wildcard_in_a_question_reaches_nothing_that_its_subject_does_not(guarded: Guarded) -> None:
    """A server takes a wildcard for a word when it compares a question with rights, and for a wildcard when it answers."""
    admin, secret = guarded.admin.jetstream(), b"another cluster's"
    await admin.publish(f"log.{Declined.pattern(run=MINE, round=4, cluster=OTHER)}", secret)
    await admin.publish(f"{update_piece(MINE, 4, OTHER, 'a1', 0)}.0", secret)
    told: list[bytes] = []
    async with guarded.connected(Role.COLLABORATOR, CLUSTER) as connection:
        answers = await connection.subscribe(connection.new_inbox())
        for asked in (each for each in LISTING["GRANTS"]["collaborator"].publish if "DIRECT.GET" in each):
            words = asked.split(".")
            for end in range(6, len(words) + 1):
                for tail in ([], words[end:]):
                    await connection.publish(".".join([*words[: end - 1], ">", *tail]), reply=answers.subject)
        await connection.flush()
        while not told or answers.pending_msgs:
            told.append((await answers.next_msg(timeout=20)).data)

    assert secret not in told


async def test_all_connections_of_somebody_end_in_one_look_though_they_fill_several_pages(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are counted from the first connection that there is, so those that end meanwhile would hide as many others."""
    monkeypatch.setattr("fedplane.runtime.nats.callouts.PAGE_CONNECTIONS", 2)
    async with AsyncExitStack() as opened:
        for _ in range(6):
            await opened.enter_async_context(guarded.connected(Role.COLLABORATOR, "porto"))
        system = await opened.enter_async_context(guarded.it.user("system", SYSTEM_PASSWORD))

        assert await end_connections(system, lambda user: user.startswith("collaborator:porto:")) == 6


async def test_who_floods_the_authorizer_with_questions_is_thrown_out_and_others_are_answered(guarded: Guarded) -> None:
    question, revoked = listen(Role.COLLABORATOR, "faro").encode(), f"log.{Revoked.pattern(role=Role.COLLABORATOR, name='faro')}"

    async def answered(connection: Client) -> bytes:
        while True:  # while a replica asks for more questions, the server may say that nobody answers
            with suppress(nats.errors.NoRespondersError):
                return (await connection.request(listen(Role.COLLABORATOR, CLUSTER), timeout=20)).data

    async with guarded.connected(Role.COLLABORATOR, CLUSTER) as honest, guarded.connected(Role.COLLABORATOR, "faro") as flooding:
        async with asyncio.timeout(30):
            asked = asyncio.create_task(answered(honest))
            while not (said := await guarded.held("ACCESS", revoked)):
                await flooding._send_command(b"PUB %b _INBOX_collaborator_faro.x 0\r\n\r\n" % question * 100)
                await asyncio.sleep(0)
            answer = await asked

    assert json.loads(answer) == {"stream": "LOG", "consumer": f"collaborator-{CLUSTER}"}
    assert json.loads(said)["message"] == "it asked 5,000 times for a reader in 10 s"


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
    credentials = guarded.it.credentials(Role.SCHEDULER, "one")
    fact = Advertised(at=NOW, cluster="lisbon", lease_seconds=15)
    async with open_bus(guarded.url, name="scheduler", source="/test", limits=Limits(), credentials=credentials) as bus:
        stated = await bus.log.state(fact)
        held = await bus.log.read(fact.subject)
        batch = await anext(aiter(bus.log.tail([Advertised.pattern()])))

    assert stated.mine
    assert held is not None
    assert held.fact == fact
    assert batch.sequence >= 0


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _by_itself(guarded: Guarded) -> Known:
    files = guarded.it.ocm.file.parent / "self.crt", guarded.it.ocm.file.parent / "self.key"
    name = "/CN=" + user_of(CLUSTER)[:64]
    new = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", name, "-out", files[0], "-keyout", files[1], "-days", "1"]
    subprocess.run(new, check=True, capture_output=True)
    return Known(*files)


BY_THE_SERVER = ""
"""The server has refused the certificate itself, and has asked nobody."""

STRANGERS: dict[str, tuple[Callable[[Guarded], Known], str]] = {
    "a wildcard for a cluster": (lambda guarded: guarded.it.ocm.agent(">"), "no DNS label"),
    "two tokens for a cluster": (lambda guarded: guarded.it.ocm.agent(f"{CLUSTER}.>"), "no DNS label"),
    "another add-on": (lambda guarded: guarded.it.ocm.agent(CLUSTER, "work-manager"), "no agent of the add-on"),
    "another cluster's groups": (lambda guarded: guarded.it.ocm.sign(user_of(CLUSTER), groups_of(OTHER)), "not in the group"),
    "a service by the clusters' authority": (lambda guarded: guarded.it.ocm.sign("fedplane:aggregator:one"), "no agent of the add-on"),
    "a cluster by the services' authority": (lambda guarded: guarded.it.ours.agent(CLUSTER), "not one for clients of this kind"),
    "an unknown authority": (lambda guarded: Authority(guarded.it.ocm.file.parent, "strange").agent(CLUSTER), BY_THE_SERVER),
    "an authority of the same name": (
        lambda guarded: Authority(_new(guarded.it.ocm.file.parent / "alike"), "ocm").agent(CLUSTER),
        BY_THE_SERVER,
    ),
    "by itself": (_by_itself, BY_THE_SERVER),
    "expired": (lambda guarded: guarded.it.ocm.sign(user_of(CLUSTER), groups_of(CLUSTER), lasts=timedelta(hours=-1)), BY_THE_SERVER),
}


@pytest.mark.parametrize(("make", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_is_not_let_in(guarded: Guarded, make: Callable[[Guarded], Known], reason: str) -> None:
    known = make(guarded)
    with capture_logs() as said, kept() as told, pytest.raises(BusError) as refused:
        async with guarded.connected(Role.COLLABORATOR, CLUSTER, known, IMPATIENT):
            pass

    reasons = [each["why"] for each in said if each["event"] == "refused a connection"]
    assert type(refused.value) in (Denied, Unreachable)
    assert bool(reasons) == bool(reason)
    assert all(reason in each for each in reasons)
    assert [each.metric for each in told.measured if each.metric is CONNECTIONS_REFUSED] == [CONNECTIONS_REFUSED] * len(reasons)
