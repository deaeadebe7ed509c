"""Rights follow the log: who gains or loses some is connected anew with those of now, and who is thrown out is not let in again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import pytest_asyncio
from authorizing_story import NOW, Guarded, authorizing, guarded_bus, scheduled, submitted
from nats.aio.client import Client
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from fedplane.authorizer.grants import RUNS_MAX
from fedplane.runtime.errors import BusError
from fedplane.runtime.nats import Patience, open_bus
from fedplane.schemas.facts import Cancelled, Declined, Failed, Granted, Revoked, Scheduled, all_facts_of
from fedplane.schemas.names import NAME_CHARACTERS_MAX
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen

SECONDS = 20.0
"""What is measured takes half a second on a machine that has nothing else to do, and this is about one that has."""

IMPATIENT = Patience(connect_seconds=0.8)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded_bus(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


async def made_anew(connection: Client, times: int) -> None:
    """Wait until the connection was made again for so many times."""
    async with asyncio.timeout(SECONDS):
        while connection.stats["reconnects"] < times or not connection.is_connected:
            await asyncio.sleep(0.01)


async def test_rights_follow_the_run_on_a_connection_that_is_open(guarded: Guarded) -> None:
    run, cluster, rounds = "late-01234567", "lisbon", count(1)

    async def stored(connection: Client) -> bool:
        subject = f"log.{Declined.pattern(run=run, round=next(rounds), cluster=cluster)}"
        await connection.publish(subject, b"an answer")
        await asyncio.sleep(0.1)
        return await guarded.held("LOG", subject) is not None

    async def until(wanted: bool, connection: Client) -> None:
        async with asyncio.timeout(SECONDS):
            while await stored(connection) is not wanted:  # as long as a replica is behind
                continue

    async with guarded.connected(Role.COLLABORATOR, cluster) as connection:
        before = await stored(connection)
        await guarded.log.state(scheduled(run, cluster))
        await made_anew(connection, 1)
        await until(True, connection)
        await guarded.log.state(Failed(at=NOW, run=run, reason="no-clusters", message=""))  # long ago
        await made_anew(connection, 2)
        await until(False, connection)

    assert not before


async def test_a_cluster_in_as_many_runs_as_a_grant_has_room_for_is_let_in(guarded: Guarded) -> None:
    """With the longest names that there are, that is half a megabyte of rights."""
    cluster, runs = "c" * NAME_CHARACTERS_MAX, [f"{number:03}".ljust(NAME_CHARACTERS_MAX, "r") for number in range(RUNS_MAX)]
    for run in runs:
        await guarded.log.state(scheduled(run, cluster))
    subject = f"log.{Declined.pattern(run=runs[-1], round=1, cluster=cluster)}"

    async with guarded.connected(Role.COLLABORATOR, cluster) as connection:
        async with asyncio.timeout(SECONDS):
            while await guarded.held("LOG", subject) is None:  # as long as a replica is behind
                await connection.publish(subject, b"an answer")
                await asyncio.sleep(0.1)
        kept = await guarded.held("LOG", subject)

    assert kept == b"an answer"


async def test_a_replica_that_starts_leaves_connections_alone_whose_rights_are_those_of_now(guarded: Guarded) -> None:
    await guarded.log.state(scheduled("calm-01234567", "porto"))

    async with guarded.connected(Role.COLLABORATOR, "porto") as connection:
        await asyncio.sleep(1)  # a replica that has not heard of the run yet may have let it in
        before = connection.stats["reconnects"]
        with capture_logs() as said:
            async with authorizing(guarded.it):
                await asyncio.sleep(0.5)
        after = connection.stats["reconnects"]

    assert after == before
    assert [each for each in said if each["event"].startswith("had connections made anew")] == []


async def test_a_collaborator_hears_that_its_run_has_ended_and_that_another_one_has_begun(guarded: Guarded) -> None:
    first, second, cluster = "first-01234567", "second-01234567", "madrid"
    credentials = guarded.it.credentials(Role.COLLABORATOR, cluster, listen(Role.COLLABORATOR, cluster))
    heard: list[str] = []

    async def hear() -> None:
        async with open_bus(guarded.url, name=cluster, source="/test", credentials=credentials) as bus:
            async for batch in bus.log.tail([all_facts_of()]):
                heard.extend(record.fact.subject for record in batch.records if record.fact.subject not in heard)

    async def until_heard(*subjects: str) -> None:
        async with asyncio.timeout(SECONDS):
            while not set(subjects) <= set(heard):
                await asyncio.sleep(0.01)

    hearing = asyncio.create_task(hear())
    await guarded.log.state(scheduled(first, cluster))
    await until_heard(Scheduled.pattern(run=first))
    await guarded.log.state(Cancelled(at=datetime.now(UTC), run=first, message=""))
    await until_heard(Cancelled.pattern(run=first))
    await guarded.log.state(submitted(second, "default"))
    await guarded.log.state(scheduled(second, cluster))
    await until_heard(Scheduled.pattern(run=second))
    hearing.cancel()

    assert heard == [fact.pattern(run=run) for run, fact in ((first, Scheduled), (first, Cancelled))] + [
        f"fed.v1.run.{second}.submitted", f"fed.v1.run.{second}.scheduled",
    ]  # fmt: skip


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AGGREGATOR, Role.COLLABORATOR])
async def test_who_is_thrown_out_is_cut_off_and_let_in_again_when_that_is_granted(guarded: Guarded, role: Role) -> None:
    who = {"role": role, "name": "mallory"}

    async with guarded.connected(role, "mallory") as connection:
        await guarded.log.state(Revoked(at=datetime.now(UTC), message="left", **who))
        async with asyncio.timeout(SECONDS):
            while connection.is_connected:
                await asyncio.sleep(0.01)
        with pytest.raises(BusError):
            async with guarded.connected(role, "mallory", patience=IMPATIENT):
                pass
        await guarded.log.state(Granted(at=datetime.now(UTC), **who))
        await made_anew(connection, 1)
        async with guarded.connected(role, "mallory") as another:
            let_in = another.is_connected, connection.is_connected

    assert let_in == (True, True)


async def test_a_subscriber_is_let_in_with_the_certificate_that_was_granted_and_as_long_as_it_was(guarded: Guarded) -> None:
    granted, other = await guarded.grant("grafana"), guarded.it.known(Role.SUBSCRIBER, "grafana")
    over = await guarded.grant("late", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    soon = await guarded.grant("soon", expires_at=datetime.now(UTC) + timedelta(seconds=6))
    stranger = guarded.it.known(Role.SUBSCRIBER, "stranger")

    async def is_let_in(name: str, known: object, patience: Patience = IMPATIENT) -> bool:
        try:
            async with guarded.connected(Role.SUBSCRIBER, name, known, patience) as connection:  # type: ignore[arg-type]
                return bool(connection.is_connected)
        except BusError:
            return False

    async with guarded.connected(Role.SUBSCRIBER, "soon", soon) as connection:
        let_in = [await is_let_in("grafana", granted, Patience())]
        let_in += [await is_let_in(*each) for each in (("grafana", other), ("late", over), ("stranger", stranger))]
        async with asyncio.timeout(SECONDS):
            while connection.is_connected:
                await asyncio.sleep(0.05)
        let_in.append(await is_let_in("soon", soon))

    assert let_in == [True, False, False, False, False]


async def test_a_tenant_hears_the_runs_of_its_namespace_and_no_others(guarded: Guarded) -> None:
    await guarded.log.state(submitted("ours-1", "team-a"))
    await guarded.grant("tenant", namespace="team-a", patterns=("fed.v1.run.*.*", "fed.v1.fleet.>"))
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async def listen_to(connection: Client, run: str) -> bool:
        """Whether the server lets the tenant listen to that run."""
        guarded.complaints.clear()
        await connection.subscribe(f"fed.v1.run.{run}.*", cb=hear)
        await connection.flush()
        await connection.flush()
        return not guarded.complaints

    async with guarded.connected(Role.SUBSCRIBER, "tenant") as connection:
        before = [await listen_to(connection, run) for run in ("ours-1", "ours-2", "theirs-1")]
        await guarded.log.state(submitted("theirs-1", "team-b"))
        await guarded.log.state(submitted("ours-2", "team-a"))
        await made_anew(connection, 1)
        after = [await listen_to(connection, run) for run in ("ours-2", "theirs-1")]
        for run in ("ours-1", "ours-2", "theirs-1"):
            await guarded.log.state(scheduled(run, "amsterdam"))
        async with asyncio.timeout(SECONDS):
            while len(heard) < 2:
                await asyncio.sleep(0.01)

    assert (before, after) == ([True, False, False], [True, False])
    assert set(heard) == {"fed.v1.run.ours-1.scheduled", "fed.v1.run.ours-2.scheduled"}
