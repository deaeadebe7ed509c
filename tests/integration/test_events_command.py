"""`fedplane events` on a real server: what it writes and refuses, and what a durable name misses when somebody is killed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
import structlog
from conftest import NatsServer
from typer.testing import CliRunner, Result

from fedplane.cli.main import app
from fedplane.runtime.errors import BadInput, BusError
from fedplane.runtime.nats import Limits, NatsBus, look, open_bus
from fedplane.runtime.ports import Handed, Subscription
from fedplane.runtime.service import configure_logs
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Archived, Fact, RunFact, Waiting, all_facts_of

RUN = "mnist-5f3a9c1e"
STORY = [example for example in EXAMPLES if not isinstance(example, Archived)]


@pytest.fixture(scope="module", autouse=True)
def logs_go_to_standard_error() -> Iterator[None]:
    """As `main` has them do, so that facts are alone on standard output."""
    configure_logs("critical")
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on which one of each fact was stated."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    state(server, STORY)
    yield server.url
    server.stop()


def state(server: NatsServer, facts: list[Fact]) -> None:
    async def stated() -> None:
        async with open_bus(server.url, name="test", source="/test", limits=Limits()) as bus:
            for fact in facts:
                await bus.log.state(fact)

    asyncio.run(stated())


def waiting(number: int) -> Waiting:
    return Waiting(run="r-1", at=datetime.now(UTC), number=number, wanted=1, eligible=0, message="nobody", refused=())


def events(url: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["events", "--url", url, "--insecure", *options])


def lines_of(url: str, *options: str) -> list[dict[str, Any]]:
    done = events(url, "--structured", "--no-wait", *options)
    assert done.exit_code == 0, done.exception
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_structured_line_is_a_cloudevent_with_its_place_on_the_log(told: str) -> None:
    heard = lines_of(told, "--from-start")
    of_runs = [fact for fact in STORY if isinstance(fact, RunFact)]

    assert [event["data"] for event in heard] == [json.loads(fact.model_dump_json(by_alias=True, exclude_none=True)) for fact in of_runs]
    assert {name: value for name, value in heard[0].items() if name != "data"} == {
        "specversion": "1.0", "id": heard[0]["id"], "source": "/test", "type": "io.fedplane.run.submitted.v1",
        "subject": f"fed.v1.run.{RUN}.submitted", "time": "2026-03-02T12:00:00Z", "datacontenttype": "application/json",
        "sequence": "00000000000000000001",
    }  # fmt: skip
    assert len({event["id"] for event in heard}) == len(heard)


def test_facts_are_chosen_by_run_type_subject_and_time(told: str) -> None:
    def types(*options: str) -> list[str]:
        return [event["type"].split(".", 2)[2] for event in lines_of(told, *options)]

    failures = types(RUN, "--from-start", "--type", "failed", "--type", "round.closed")

    assert failures == ["round.closed.v1", "round.failed.v1", "run.failed.v1"]
    assert types("--from-start", "--subject", "fed.v1.run.*.round.*.*.hospital-b") == ["round.declined.v1", "round.rejected.v1"]
    assert types("--from-start", "--type", "advertised") == ["fleet.advertised.v1"]
    assert types("--since", "1h", "--type", "kept") == ["run.kept.v1"]
    assert types("--since", datetime.now(UTC).isoformat()) == []


def test_a_durable_name_goes_on_where_it_was_and_can_be_forgotten(told: str) -> None:
    durable = ("--durable", "tracker", "--type", "aggregated")

    first, second = (lines_of(told, *durable, "--from-start") for _ in range(2))
    again = events(told, *durable, "--from-start", "--no-wait")
    forgotten = events(told, "--forget", "tracker")
    third = lines_of(told, *durable, "--from-start")

    assert [event["type"] for event in first] == ["io.fedplane.round.aggregated.v1"]
    assert (second, third) == ([], first)
    assert again.stderr == "tracker was there before, and goes on where it was; `fedplane events --forget tracker` lets it begin anew\n"
    assert (forgotten.exit_code, forgotten.output) == (0, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("none-1",), "there is no run 'none-1'"),
        (("--type", "complete"), "there is no fact of the type 'complete'"),
        (("--subject", "run.>"), "no fact has a subject like"),
        (("--subject", "fed.v1.>", "--type", "kept"), "--subject says all; leave RUN and --type away"),
        (("--from-start", "--since", "1h"), "two beginnings"),
        (("--since", "soon"), "'soon' is no time"),
        (("--no-wait",), "give one of them"),
        (("--no-wait", "--from-start", "--follow"), "an end of its own"),
        (("--until-ended",), "fedplane events RUN --until-ended"),
        (("--durable", "My Audit"), "is no name for a durable subscription"),
        (("--forget", "nobody"), "there is no durable subscription 'nobody'; there are:"),
        (("--forget", "audit", "--durable", "audit"), "leave RUN and --durable away"),
    ],
)
def test_what_cannot_be_heard_is_said_with_what_to_do(told: str, options: tuple[str, ...], said: str) -> None:
    done = events(told, *options)

    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception)


def test_a_durable_listener_that_is_killed_in_the_middle_of_a_line_misses_nothing(nats_server: NatsServer) -> None:
    everything = [waiting(number) for number in range(1, 301)]  # more than a pipe holds that nobody reads
    state(nats_server, list(everything))
    command = (
        sys.executable, "-m", "fedplane.cli.main", "events", "--url", nats_server.url, "--structured", "--durable", "audit", "--from-start",
    )  # fmt: skip

    killed = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert killed.stdout is not None
    first = killed.stdout.readline()
    time.sleep(0.3)  # it fills the pipe and waits in the middle of a batch
    killed.kill()
    killed.wait()
    before = [json.loads(line) for line in (first + killed.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")]
    after = lines_of(nats_server.url, "--durable", "audit")

    heard_before, heard_after = ([event["data"]["number"] for event in heard] for heard in (before, after))
    assert 1 < len(heard_before) < len(everything)
    assert heard_before == list(range(1, len(before) + 1))
    assert heard_after == list(range(heard_after[0], len(everything) + 1))
    assert heard_after[0] <= len(before) + 1
    twice = {event["id"]: event["data"] for event in after[: len(before) + 1 - heard_after[0]]}
    assert {event["id"]: event["data"] for event in before if event["id"] in twice} == twice


def test_a_durable_listener_that_is_interrupted_ends_without_a_word_and_goes_on_later(nats_server: NatsServer) -> None:
    state(nats_server, [waiting(1)])
    command = (sys.executable, "-m", "fedplane.cli.main", "events", "--url", nats_server.url, "--durable", "audit", "--from-start")

    listening = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert listening.stdout is not None
    first = listening.stdout.readline()
    listening.send_signal(signal.SIGINT)
    _, err = listening.communicate(timeout=10)
    state(nats_server, [waiting(2)])

    assert (first[9:], listening.returncode, err) == (b"r-1.waiting.1  nobody\n", 130, b"")
    heard = [event["data"]["number"] for event in lines_of(nats_server.url, "--durable", "audit")]
    assert heard in ([2], [1, 2])  # the signal may have come between the line and its acknowledgement


def test_a_listener_whose_lines_nobody_takes_is_interrupted_by_the_first_ctrl_c(nats_server: NatsServer) -> None:
    state(nats_server, [waiting(number) for number in range(1, 301)])  # more than a pipe holds that nobody reads
    command = (sys.executable, "-m", "fedplane.cli.start", "events", "--url", nats_server.url, "--structured", "--from-start")

    listening = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listening.stdout is not None and listening.stderr is not None
    listening.stdout.read(1)
    time.sleep(0.5)
    listening.send_signal(signal.SIGINT)

    assert (listening.wait(20), listening.stderr.read()) == (130, b"")
    listening.stdout.close()


def test_facts_of_a_later_version_are_passed_over_and_their_fields_kept(nats_server: NatsServer) -> None:
    state(nats_server, [waiting(1)])
    for subject, type_, body in (
        ("r-1.paused", "run.paused", {"run": "r-1"}),
        ("r-1.waiting.2", "run.waiting", json.loads(waiting(2).model_dump_json()) | {"novelty": 1}),
    ):
        publish(nats_server, f"log.fed.v1.run.{subject}", {"ce-type": f"io.fedplane.{type_}.v1", "ce-id": "f" * 32}, json.dumps(body))

    heard = [lines_of(nats_server.url, "--from-start", *durable) for durable in ((), ("--durable", "audit"))]

    assert [[event["data"]["number"] for event in events] for events in heard] == [[1, 2], [1, 2]]
    assert (heard[0][1]["data"]["novelty"], heard[0][1]["id"]) == (1, "f" * 32)
    assert heard[0] == heard[1]
    assert [each.behind for each in asyncio.run(look(nats_server.url)).subscriptions] == [0]


def publish(server: NatsServer, subject: str, headers: dict[str, str], body: str) -> None:
    async def published() -> None:
        connection = await nats.connect(server.url)
        await connection.jetstream().publish(subject, body.encode(), headers=headers)
        await connection.close()

    asyncio.run(published())


def test_a_reader_that_has_enough_ends_it_without_a_traceback(told: str) -> None:
    command = f"{sys.executable} -m fedplane.cli.main events --url {told} --insecure --from-start --no-wait | head -n 1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)

    assert (done.stdout[9:], done.stderr) == (f"{RUN}.submitted  flower, 3 training rounds\n", "")


async def test_a_slow_reader_hears_nothing_twice(nats_server: NatsServer) -> None:
    """Its acknowledgements come late and all at once, and its next request right behind them."""
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        for number in range(1, 51):
            await bus.log.state(waiting(number))
        await bus.subscriptions.make(Subscription("audit", (all_facts_of(),), "me", 0))
        numbers: list[int] = []
        async with asyncio.timeout(30), contextlib.aclosing(bus.subscriptions.read("audit")) as reading:
            async for handed in reading:
                numbers += number_of(handed)
                await asyncio.sleep(2.2 if numbers == [1] else 0)
                await handed.done()
                if handed.live:
                    break

    assert numbers == list(range(1, 51))
    assert [each.behind for each in (await look(nats_server.url)).subscriptions] == [0]


@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_what_a_reader_was_not_done_with_comes_to_the_next_one_in_order(nats_server: NatsServer, seconds: float) -> None:
    """The server hands each fact out again at a time of its own: the last one, which was handed out once, before those that came twice."""
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        await bus.subscriptions.make(Subscription("audit", (all_facts_of(),), "me", 0))
        for number in range(1, 41):
            await bus.log.state(waiting(number))
        reading = asyncio.create_task(dropping(bus))
        await asyncio.sleep(0.2 + seconds)
        await bus.log.state(waiting(41))
        await asyncio.sleep(0.2 + seconds)
        reading.cancel()
        await asyncio.wait([reading])
        numbers: list[int] = []
        async with asyncio.timeout(30), contextlib.aclosing(bus.subscriptions.read("audit")) as again:
            async for handed in again:
                numbers += number_of(handed)
                if handed.live:
                    break

    assert numbers == list(range(1, 42))


async def dropping(bus: NatsBus) -> None:
    async for _ in bus.subscriptions.read("audit"):
        continue


def number_of(handed: Handed) -> list[int]:
    return [handed.record.fact.number] if handed.record is not None and isinstance(handed.record.fact, Waiting) else []


async def test_a_subscription_outlives_its_server(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        await bus.subscriptions.make(Subscription("audit", (all_facts_of(),), "me", 0))
        reading = aiter(bus.subscriptions.read("audit"))
        for number in (1, 2):
            await bus.log.state(waiting(number))
            heard = await until_number(reading, number)
            assert heard == list(range(heard[0], number + 1))  # what was acknowledged a moment before a kill may come again
            nats_server.kill()
            nats_server.start()
            await answered(bus)


async def until_number(reading: AsyncIterator[Handed], wanted: int) -> list[int]:
    """The numbers up to that one."""
    numbers = []
    async with asyncio.timeout(30):
        async for handed in reading:
            await handed.done()
            if handed.record is not None and isinstance(handed.record.fact, Waiting):
                numbers.append(handed.record.fact.number)
                if numbers[-1] == wanted:
                    return numbers
    raise AssertionError("the log ended")


async def answered(bus: NatsBus) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(BusError):
                await bus.log.usage()
                return
