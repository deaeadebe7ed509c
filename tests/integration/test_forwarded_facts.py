"""Facts sent to a webhook, over real connections, to a receiver that fails in every way that receivers do."""

import asyncio
import os
import signal
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import nats
import pytest
from conftest import NatsServer
from test_bus_by_tls import certificate
from webhook_story import CLOSES, HANGS, Answer, Receiver, Request, receiver

from fedplane.cli.forwarding import OPEN_MAX, forward, send_again
from fedplane.cli.posting import Header, Poster
from fedplane.cli.server import STORE_BYTES_MIN, bulk_bytes
from fedplane.cli.verdicts import Patience
from fedplane.runtime.errors import BadInput
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.nats.subscriptions import BATCH_MESSAGES_MAX, NOT_DONE_MAX
from fedplane.runtime.ports import Bus, Letter
from fedplane.schemas.facts import Expired, all_facts_of

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
QUICK = Patience(attempts_max=3, first_seconds=0.01, longest_seconds=0.02)
EVERYTHING = (all_facts_of(),)


async def stated(bus: Bus, *facts: tuple[str, int]) -> list[str]:
    """The subjects of facts, one for each run and round."""
    subjects = []
    for run, round_ in facts:
        fact = Expired(run=run, round=round_, at=NOW)
        await bus.log.state(fact)
        subjects.append(fact.subject)
    return subjects


async def forwarded(bus: Bus, to: Receiver, *, seconds: float = 5.0, patience: Patience = QUICK, headers: Sequence[Header] = ()) -> None:
    """Everything on the log is settled."""
    async with asyncio.timeout(20), Poster(to.url, headers, timeout_seconds=seconds) as poster:
        await forward(bus, "hook", EVERYTHING, poster.post, lambda *_: None, begin=0, once=True, patience=patience)


async def dead(bus: Bus) -> list[Letter]:
    return [letter async for letter in bus.letters.of("hook")]


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus("/test")


async def test_facts_are_posted_in_order_with_the_headers_that_were_given(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("a", 2), ("a", 3))

    async with receiver() as to:
        await forwarded(bus, to, headers=[Header("Authorization", "Bearer x")])

    assert to.subjects == subjects
    assert {(request.path, request.headers["authorization"], request.headers["user-agent"]) for request in to.requests} == {
        ("/hook", "Bearer x", "fedplane")
    }
    assert [request.headers["ce-id"] for request in to.requests] == [record.id for record in bus.log.records]


async def test_a_receiver_that_fails_in_many_ways_gets_each_fact_in_its_order(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("a", 2), ("a", 3))

    async with receiver(Receiver(put_up=deque([Answer(500), HANGS, Answer(), CLOSES, Answer(429, {"retry-after": "0"})]))) as to:
        await forwarded(bus, to, seconds=1)

    assert [(subject, len(list(same))) for subject, same in groupby(to.subjects)] == [(subjects[0], 3), (subjects[1], 3), (subjects[2], 1)]
    assert await dead(bus) == []


async def test_a_status_counts_though_the_rest_of_the_answer_never_comes(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("a", 2))
    announced = {"content-length": "10"}

    async with receiver(Receiver(put_up=deque([Answer(200, announced), Answer(422, announced)]))) as to:
        await forwarded(bus, to, seconds=1)

    assert (to.subjects, [letter.reason for letter in await dead(bus)]) == (subjects, ["answered 422"])


async def test_a_receiver_that_is_away_for_a_while_misses_nothing(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("b", 1))
    async with receiver() as gone:
        away = Receiver(port=gone.port)
    waiting = asyncio.create_task(forwarded(bus, away, patience=Patience(attempts_max=100, first_seconds=0.02, longest_seconds=0.05)))
    await asyncio.sleep(0.1)

    async with receiver(away) as to:
        await waiting

    assert sorted(to.subjects) == subjects


async def test_a_fact_that_is_refused_is_a_dead_letter_and_its_run_goes_on(bus: MemoryBus) -> None:
    first, second = await stated(bus, ("a", 1), ("a", 2))

    async with receiver(
        Receiver(decides=lambda request: Answer(422, body="no such\nmodel") if request.subject == first else Answer())
    ) as to:
        await forwarded(bus, to)

    (letter,) = await dead(bus)
    assert to.subjects == [first, second]
    assert letter == Letter(bus.log.records[0], "answered 422: no such model", 422, 1, letter.at)


async def test_a_fact_that_fails_too_often_is_a_dead_letter(bus: MemoryBus) -> None:
    await stated(bus, ("a", 1))

    async with receiver(Receiver(decides=lambda request: CLOSES)) as to:
        await forwarded(bus, to)

    (letter,) = await dead(bus)
    assert (len(to.requests), letter.status, letter.attempts) == (3, None, 3)
    assert letter.reason.startswith("no answer: ") and letter.reason.endswith("; tried 3 times")


async def test_dead_letters_are_sent_again_in_the_logs_order_and_then_forgotten(bus: MemoryBus) -> None:
    first, second = await stated(bus, ("a", 1), ("b", 1))
    async with receiver(Receiver(decides=lambda request: Answer(400))) as to:
        await forwarded(bus, to)

    async with receiver(Receiver(decides=lambda request: Answer(400 if request.subject == first else 200))) as to, Poster(to.url) as poster:
        counted = await send_again(bus, "hook", poster.post, lambda *_: None, QUICK)

    assert (counted, to.subjects) == ((1, 1), [first, second])
    assert [(letter.record.fact.subject, letter.attempts) for letter in await dead(bus)] == [(first, 2)]


async def test_a_receiver_that_is_gone_for_good_ends_the_forwarder(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("a", 2))

    async with receiver(Receiver(decides=lambda request: Answer(410))) as to:
        with pytest.raises(BadInput, match="gone for good"):
            await forwarded(bus, to)

    assert (to.subjects, [letter.status for letter in await dead(bus)]) == (subjects[:1], [410])


async def test_what_is_sent_again_ends_as_well_when_the_receiver_is_gone_for_good(bus: MemoryBus) -> None:
    subjects = await stated(bus, ("a", 1), ("b", 1))
    async with receiver(Receiver(decides=lambda request: Answer(400))) as to:
        await forwarded(bus, to)

    async with receiver(Receiver(decides=lambda request: Answer(410))) as to, Poster(to.url) as poster:
        with pytest.raises(BadInput, match="gone for good"):
            await send_again(bus, "hook", poster.post, lambda *_: None, QUICK)

    assert (to.subjects, [letter.status for letter in await dead(bus)]) == (subjects[:1], [410, 400])


async def test_whoever_has_heard_enough_ends_the_forwarder_as_any_command(bus: MemoryBus) -> None:
    await stated(bus, ("a", 1))

    def closed(*_: object) -> None:
        raise BrokenPipeError

    async with receiver() as to, Poster(to.url) as poster:
        with pytest.raises(BrokenPipeError):
            await forward(bus, "hook", EVERYTHING, poster.post, closed, begin=0, once=True)


@pytest.mark.parametrize("garbage", ["HTTP/1.1 banana\r\n\r\n", f"HTTP/1.1 500 no\r\nx: {'y' * 20_000}\r\n\r\n"])
async def test_an_answer_that_is_none_does_not_make_the_address_public(bus: MemoryBus, garbage: str) -> None:
    await stated(bus, ("a", 1))

    async with receiver(Receiver(decides=lambda request: garbage)) as to, Poster(f"{to.url}/secret?token=secret") as poster:
        await forward(bus, "hook", EVERYTHING, poster.post, lambda *_: None, begin=0, once=True, patience=QUICK)

    (letter,) = await dead(bus)
    assert letter.reason.startswith("no answer: what came is no HTTP: ")
    assert "secret" not in letter.reason


async def test_a_redirect_is_not_followed(bus: MemoryBus) -> None:
    await stated(bus, ("a", 1))

    async with receiver() as other, receiver(Receiver(decides=lambda request: Answer(307, {"location": other.url}))) as to:
        await forwarded(bus, to, headers=[Header("Authorization", "secret")])

    assert (len(to.requests), other.requests) == (1, [])
    assert [letter.status for letter in await dead(bus)] == [307]


async def test_a_receiver_is_told_nothing_until_this_machine_trusts_its_certificate(
    bus: MemoryBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = await stated(bus, ("a", 1))
    certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async with receiver(tls=tls) as to:
        await forwarded(bus, to)
        untrusted = list(to.requests), [letter.reason for letter in await dead(bus)]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        async with Poster(to.url) as poster:
            await send_again(bus, "hook", poster.post, lambda *_: None, QUICK)

    assert (untrusted[0], "certificate verify failed" in untrusted[1][0]) == ([], True)
    assert (to.subjects, await dead(bus)) == (subjects, [])


async def test_a_run_that_waits_does_not_hold_up_another(bus: MemoryBus) -> None:
    await stated(bus, ("a", 1), *(("b", number) for number in range(5)))

    async with receiver(Receiver(decides=lambda request: Answer(500 if ".a." in request.subject else 200))) as to:
        await forwarded(bus, to, patience=Patience(attempts_max=2, first_seconds=0.5))

    assert to.subjects[-1] == "fed.v1.run.a.round.1.expired"
    assert [len(of_run(to.subjects, run)) for run in "ab"] == [2, 5]


async def test_a_receiver_that_asks_for_time_is_left_alone_by_all_runs(bus: MemoryBus) -> None:
    await stated(bus, *((run, 1) for run in "abcdefgh"))
    loop, came = asyncio.get_running_loop(), list[float]()

    def decide(request: Request) -> Answer:
        came.append(loop.time())
        return Answer(503, {"retry-after": "1"}) if len(came) == 1 else Answer(after_seconds=0.01)

    async with receiver(Receiver(decides=decide)) as to:
        await forwarded(bus, to)

    assert len([each for each in came if each - came[0] < 0.5]) <= 4
    assert to.at_once_max <= 4
    assert len(to.requests) == 9


async def test_what_was_forwarded_once_is_not_forwarded_by_the_next(bus: MemoryBus) -> None:
    await stated(bus, ("a", 1))
    async with receiver() as to:
        await forwarded(bus, to)
        later = await stated(bus, ("a", 2))
        await forwarded(bus, to)

    assert to.subjects[1:] == later


async def test_there_is_room_for_dead_letters_on_the_smallest_server_of_fedplane_up(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", options=f", max_file_store: {STORE_BYTES_MIN}")
    server.start()
    limits = Limits(bulk_bytes=bulk_bytes(STORE_BYTES_MIN))

    async with open_bus(server.url, name="test", source="/test", limits=limits) as bus:
        await stated(bus, ("a", 1))
        async with receiver(Receiver(decides=lambda request: Answer(400))) as to:
            await forwarded(bus, to)
        letters = await dead(bus)

    server.stop()
    assert [letter.status for letter in letters] == [400]


async def test_what_waits_for_long_is_delivered_once_and_in_order(nats_server: NatsServer) -> None:
    """The bus hands it over again after two seconds."""
    loop = asyncio.get_running_loop()
    mended = loop.time() + 4

    def decide(request: Request) -> Answer:
        return Answer(500) if ".a." in request.subject and loop.time() < mended else Answer()

    patience = Patience(attempts_max=100, first_seconds=0.2, longest_seconds=0.2)
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus, receiver(Receiver(decides=decide)) as to:
        subjects = await stated(bus, *((run, round_) for round_ in range(20) for run in "ab"))
        async with forwarding(bus, to, patience):
            await asyncio.sleep(4.5)
            await stated(bus, ("b", 20))
            await asyncio.sleep(2.5)
        async with forwarding(bus, to, patience):
            await asyncio.sleep(0.5)

    refused = [subject for subject in to.subjects if subject == subjects[0]]
    assert len(refused) > 10
    assert of_run(to.subjects, "a") == [*refused, *of_run(subjects, "a")[1:]]
    assert of_run(to.subjects, "b") == [*of_run(subjects, "b"), "fed.v1.run.b.round.20.expired"]


async def test_no_more_is_read_than_may_wait(nats_server: NatsServer) -> None:
    silent = Receiver(decides=lambda request: HANGS)
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus, receiver(silent) as to:
        await stated(bus, *(("a", round_) for round_ in range(OPEN_MAX + 2 * BATCH_MESSAGES_MAX)))
        connection = await nats.connect(nats_server.url)
        async with forwarding(bus, to, QUICK):
            await asyncio.sleep(1.5)
            held = await connection.jetstream().consumer_info("LOG", "hook")
        await connection.close()

    assert OPEN_MAX <= held.num_ack_pending <= OPEN_MAX + BATCH_MESSAGES_MAX < NOT_DONE_MAX


@asynccontextmanager
async def forwarding(bus: Bus, to: Receiver, patience: Patience) -> AsyncIterator[None]:
    """Somebody forwards meanwhile, and is then interrupted."""
    async with Poster(to.url) as poster:
        task = asyncio.create_task(forward(bus, "hook", EVERYTHING, poster.post, lambda *_: None, begin=0, patience=patience))
        yield
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_forwarder_that_is_killed_loses_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    slow = Receiver(decides=lambda request: Answer(after_seconds=0.01))
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus, receiver(slow) as to:
        subjects = await stated(bus, *((run, round_) for round_ in range(30) for run in "abc"))
        process = await started(nats_server.url, to.url, tmp_path)
        async with asyncio.timeout(30):
            while len(to.requests) < 40:
                await asyncio.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process = await started(nats_server.url, to.url, tmp_path, "--once")
        async with asyncio.timeout(60):
            assert await process.wait() == 0

    first = list(dict.fromkeys(to.subjects))
    assert sorted(first) == sorted(subjects)
    assert [of_run(first, run) for run in "abc"] == [of_run(subjects, run) for run in "abc"]
    assert len({(request.subject, request.headers["ce-id"]) for request in to.requests}) == len(subjects)
    assert len(to.requests) < len(subjects) + 40, "what a kill repeats is bounded"


async def started(bus: str, to: str, directory: Path, *options: str) -> asyncio.subprocess.Process:
    own: dict[str, Any] = {**os.environ, "FEDPLANE_NATS_URL": bus, "FEDPLANE_FORWARD_TO": to}
    command = ["forward", "--name", "hook", "--from-start", *options]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedplane.cli.main", *command, cwd=directory, env=own, stdout=asyncio.subprocess.DEVNULL
    )


def of_run(subjects: Sequence[str], run: str) -> list[str]:
    return [subject for subject in subjects if subject.startswith(f"fed.v1.run.{run}.")]
