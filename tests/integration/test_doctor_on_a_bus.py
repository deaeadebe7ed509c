"""What doctor finds on real servers: one that is sound and lived on, and others with something wrong that a server can have."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import NatsServer
from federation_story import federation

from fedplane.cli.connection import Server
from fedplane.cli.doctor.probing import bus_findings
from fedplane.runtime.nats import Limits, NatsBus, look, open_bus
from fedplane.runtime.nats.letters import LETTERS_BYTES_MAX
from fedplane.runtime.nats.looking import TRIALS
from fedplane.runtime.nats.streams import STREAMS
from fedplane.runtime.observed import Access, Difference, SubscriptionSeen
from fedplane.runtime.ports import Letter, Subscription
from fedplane.schemas.facts import Advertised, Expired, Lapsed, Revoked, all_facts_of

LISTENER = """
accounts { A: { jetstream: enabled, users: [
  {user: all, password: p},
  {user: listener, password: p, permissions: {publish: {deny: ["log.>", "bulk.>", "$JS.API.CONSUMER.LIST.>"]}, subscribe: {deny: "fed.>"}}}
] } }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that several tests share, with a user who may do everything and one who may not."""
    started = NatsServer(tmp_path_factory.mktemp("bus") / "nats", further=LISTENER)
    started.start()
    yield started
    started.stop()


def url(server: NatsServer, user: str = "all") -> str:
    return f"nats://{user}:p@127.0.0.1:{server.port}"


async def declared(server: NatsServer) -> None:
    async with open_bus(url(server), name="test", source="/test", limits=Limits()):
        pass


async def test_of_a_server_that_is_lived_on_everything_is_seen(nats_server: NatsServer, tmp_path: Path) -> None:
    bus: NatsBus
    async with (
        open_bus(nats_server.url, name="scheduler 7", source="/fedplane/scheduler/7", limits=Limits()) as bus,
        federation(bus, tmp_path / "work", clusters="ab"),
    ):
        await bus.log.state(thrown_out := Revoked(role="collaborator", name="c", at=datetime.now(UTC)))
        async for batch in bus.log.tail([Advertised.pattern()]):
            if batch.records:
                break
        seen = await look(nats_server.url)

    assert (seen.jetstream, seen.servers, seen.payload_bytes_max, seen.unseen) == (True, 1, 1_048_576, {})
    assert {name: stream.drift for name, stream in seen.streams.items() if stream} == dict.fromkeys(STREAMS, ())
    assert {trial.access for trial in seen.trials} == {Access.ALLOWED}
    assert ("scheduler 7", True) in {(reader.name, reader.asking) for reader in seen.readers}
    assert {fact.cluster for fact in seen.advertised} <= {"a", "b"} != set()
    assert {stamp.source for stamp in seen.stamps} >= {"/fedplane/scheduler/7"}
    assert abs(seen.ahead_seconds) < 1
    assert seen.queues["folds"] is not None
    assert [record.fact for record in seen.access] == [thrown_out]


async def test_who_listens_and_what_webhooks_left_is_seen(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        before = await look(nats_server.url)
        await bus.subscriptions.make(Subscription("audit", (all_facts_of(),), "me", 0))
        await bus.subscriptions.make(Subscription("fleet", (Advertised.pattern(),), "you", 0))
        stated = [await bus.log.state(Expired(run="r-1", round=round_, at=datetime.now(UTC))) for round_ in (1, 2)]
        for record in (each.record for each in stated):
            assert record is not None
            await bus.letters.bury("hook", Letter(record, "answered 400", 400, 1, datetime.now(UTC)))
        after = await look(nats_server.url)

    assert (before.subscriptions, before.letters) == ((), None)
    assert after.subscriptions == (SubscriptionSeen("audit", "me", 2, False), SubscriptionSeen("fleet", "you", 0, False))
    assert after.letters is not None
    assert (after.letters.by_reader, after.letters.bytes > 0, after.letters.bytes_max) == ({"hook": 2}, True, LETTERS_BYTES_MAX)


async def test_what_timers_say_is_on_nobodys_clock(nats_server: NatsServer) -> None:
    whose = {"run": "r-1", "round": 1, "at": datetime.now(UTC) - timedelta(hours=1)}
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        await bus.log.state(Expired(**whose))
        await bus.log.state(Lapsed(**whose, step="sharing"))
        seen = await look(nats_server.url)

    assert seen.stamps == ()


async def test_a_look_leaves_nothing_behind(server: NatsServer) -> None:
    await declared(server)
    before = await look(url(server))

    after = await look(url(server))

    assert [(name, stream.bytes) for name, stream in after.streams.items() if stream] == [
        (name, stream.bytes) for name, stream in before.streams.items() if stream
    ]
    assert {trial.what: trial.access for trial in after.trials if trial.what in TRIALS} == dict.fromkeys(TRIALS, Access.ALLOWED)


async def test_what_credentials_may_not_do_is_found_out(server: NatsServer) -> None:
    await declared(server)

    seen = await look(url(server, "listener"))

    assert {trial.what for trial in seen.trials if trial.access is Access.DENIED} == {
        "hear what is announced", "state facts of runs", "say who may use the bus", "advertise clusters", "store models to begin with",
        "store updates",
    }  # fmt: skip
    assert seen.unseen == dict.fromkeys(("readers", "subscriptions"), "the server does not allow to publish $JS.API.CONSUMER.LIST.LOG")


async def test_what_was_changed_in_a_stream_is_named_field_by_field(server: NatsServer) -> None:
    await declared(server)
    from nats import connect  # not in the product: it is the operator's hand

    connection = await connect(url(server))
    jetstream = connection.jetstream()
    sound = (await jetstream.stream_info("LOG")).config
    await jetstream.update_stream(sound.evolve(max_age=3600, republish=None, max_bytes=128_000_000))
    try:
        seen = await look(url(server))
    finally:
        await jetstream.update_stream(sound)
        await connection.close()

    log = seen.streams["LOG"]
    assert log is not None
    assert log.drift == (
        Difference("max_age", 3_600_000_000_000, 0),
        Difference("republish", None, {"src": "log.fed.v1.run.>", "dest": "fed.v1.run.>"}),
    )
    assert log.bytes_max == 128_000_000


def test_a_server_without_jetstream_is_told_from_one_without_streams(nats_server: NatsServer, tmp_path: Path) -> None:
    bare = NatsServer(tmp_path / "bare")
    bare.start()
    (bare.directory / "nats.conf").write_text(f"host: 127.0.0.1\nport: {bare.port}\n")
    bare.stop()
    bare.process = subprocess.Popen(
        [Path(sys.executable).parent / "nats-server", "-c", bare.directory / "nats.conf"], stderr=subprocess.DEVNULL
    )
    try:
        without, empty = (
            {found.what for found in bus_findings(Server(each.url)) if found.mend and found.area == "bus"} for each in (bare, nats_server)
        )
    finally:
        bare.stop()

    assert without == {"JetStream is off, for this account at least, so nothing can be stored"}
    assert "there is no LOG, FLEET, ACCESS, TIMERS, WORK and 2 more" in empty


def test_the_command_ends_with_1_when_there_is_a_problem_and_says_so_to_programs(server: NatsServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fedplane.cli.main", "doctor", "--insecure", "-o", "json"),
            *("--url", url(server, "all").replace(":p@", ":wrong@")),
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "not let in by the bus" not in line] == []  # said while it is tried again
    assert "wrong" not in done.stdout + done.stderr
    ((check, what),) = ((each["check"], each["what"]) for each in json.loads(done.stdout) if each["level"] == "problem")
    assert check == "reachable"
    assert what.startswith(f"the server at nats://127.0.0.1:{server.port} does not know these credentials, or wants some; ")
