"""Reading the log with a collaborator's rights: through the consumer that is made for it, whatever becomes of that one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from guarded_story import CLUSTER, CONSUMER, LISTENING, Guard, guarded_by
from line_story import line
from structlog.testing import capture_logs

from fedplane.runtime.errors import BadInput, Denied, Unreachable
from fedplane.runtime.nats import NatsBus, Patience, guarded, log
from fedplane.runtime.ports import Batch, Fence, Log, Recorded, Stated
from fedplane.schemas.facts import Advertised, Cancelled, Declined

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANSWERS = [Declined.pattern(cluster=CLUSTER)]
WITHIN_SECONDS = 30.0


def declined(number: int, run: str = "r-1") -> Declined:
    return Declined(run=run, round=number, cluster=CLUSTER, at=NOW, reason="test", message="no")


@pytest.fixture
async def guard_and_bus(tmp_path: Path) -> AsyncIterator[tuple[Guard, NatsBus]]:
    async with guarded_by(tmp_path) as both:
        yield both


@pytest.fixture
def guard(guard_and_bus: tuple[Guard, NatsBus]) -> Guard:
    return guard_and_bus[0]


@pytest.fixture
def bus(guard_and_bus: tuple[Guard, NatsBus]) -> NatsBus:
    return guard_and_bus[1]


class Reading:
    """A reader at work; `heard` is what it was given so far."""

    def __init__(self, log: Log) -> None:
        self.heard: list[tuple[str, int]] = []
        self.lives = 0
        self._task = asyncio.create_task(self._read(log))

    async def _read(self, log: Log) -> None:
        async for batch in log.tail(ANSWERS):
            self.heard += [(record.fact.run, record.fact.round) for record in batch.records if isinstance(record.fact, Declined)]
            self.lives += batch.live

    async def until(self, *heard: tuple[str, int]) -> None:
        """Wait until it has heard these since the last time; the rest is forgotten."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while not set(heard) <= set(self.heard):
                await asyncio.sleep(0.02)
        assert not self._task.done()
        self.heard.clear()

    async def until_live(self) -> None:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not self.lives:
                await asyncio.sleep(0.02)

    def end(self) -> None:
        self._task.cancel()


async def until_live(log: Log, after: int | datetime = 0) -> list[Recorded]:
    """What there is now."""
    found: list[Recorded] = []
    async with asyncio.timeout(WITHIN_SECONDS):
        async for batch in log.tail(ANSWERS, after):
            found += batch.records
            if batch.live:
                break
    return found


async def test_it_hears_what_it_asks_for_of_its_own_runs(guard: Guard, bus: NatsBus) -> None:
    stated = [declined(1), Cancelled(run="r-1", at=NOW), declined(1, "r-2"), declined(2)]
    for fact in stated:
        await bus.log.state(fact)
    async with guard.bus() as own:
        heard = await until_live(own.log)
        behind = await until_live(own.log, after=1)
        since = await until_live(own.log, after=datetime.now(UTC))

    assert [record.fact for record in heard] == [declined(1), declined(2)]
    assert ([record.sequence for record in behind], since) == ([4], [])
    assert guard.asked == [LISTENING] * 3


async def test_who_has_nothing_to_hear_is_live_and_asks_again_in_time(guard: Guard, bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "AGAIN_SECONDS", 0.2)
    await bus.log.state(declined(1))
    guard.runs = ()
    async with guard.bus() as own:
        reading = Reading(own.log)
        await reading.until_live()
        guard.runs = ("r-1",)
        await reading.until(("r-1", 1))
        reading.end()


async def test_an_empty_log_is_live_at_once(guard: Guard) -> None:
    async with guard.bus() as own:
        assert await anext(own.log.tail(ANSWERS)) == Batch((), live=True)


async def test_a_connection_that_is_made_anew_has_new_rights_and_the_reader_begins_anew(guard: Guard, bus: NatsBus) -> None:
    guard.runs = ()
    await bus.log.state(declined(1, "r-2"))
    await bus.log.state(declined(1))
    async with line(guard.server.port) as between, guard.bus(between.port) as own:
        reading = Reading(own.log)
        await reading.until_live()
        guard.runs = ("r-1",)
        between.break_off()
        await reading.until(("r-1", 1))
        with capture_logs() as said:
            guard.runs = ("r-1", "r-2")
            between.break_off()
            await reading.until(("r-2", 1), ("r-1", 1))
        reading.end()

    assert "the connection was made anew" in [line.get("why") for line in said], "it was noticed by silence"


async def test_a_consumer_that_disappears_is_asked_for_again(guard: Guard, bus: NatsBus) -> None:
    await bus.log.state(declined(1))
    async with guard.bus() as own:
        reading = Reading(own.log)
        await reading.until(("r-1", 1))
        await guard.connection.jetstream().delete_consumer("LOG", CONSUMER)
        await bus.log.state(declined(2))
        await reading.until(("r-1", 1), ("r-1", 2))
        reading.end()


async def test_nothing_is_missed_while_the_server_is_killed_again_and_again(guard: Guard, bus: NatsBus) -> None:
    rounds = range(60)
    async with guard.bus() as own:
        reading = Reading(own.log)

        async def write() -> None:
            for number in rounds:
                while True:
                    try:
                        await bus.log.state(declined(number))
                        break
                    except Unreachable:
                        continue  # the server is down: whoever states a fact tries again
                await asyncio.sleep(0.01)

        async def kill() -> None:
            for _ in range(2):
                await asyncio.sleep(0.3)
                guard.server.kill()
                await asyncio.sleep(0.2)
                guard.server.start()

        await asyncio.wait_for(asyncio.gather(write(), kill()), WITHIN_SECONDS)
        await reading.until(*(("r-1", number) for number in rounds))
        reading.end()


async def test_two_processes_of_one_name_get_on_although_they_take_the_reader_from_each_other(guard: Guard, bus: NatsBus) -> None:
    async with guard.bus() as old, guard.bus() as new:
        readings = [Reading(old.log), Reading(new.log)]
        for number in range(20):
            await bus.log.state(declined(number))
        for reading in readings:
            await reading.until(*(("r-1", number) for number in range(20)))
            reading.end()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"error": "the log was not read yet"}', "the authorizer makes no reader of the log for us: the log was not read yet"),
        (b"{}", f"what was answered on {LISTENING} names no reader: b'{{}}'"),
        (b"\xff[", f"what was answered on {LISTENING} names no reader: b'\\xff['"),
        (b"[]", f"what was answered on {LISTENING} names no reader: b'[]'"),
    ],
)
async def test_an_answer_that_gives_nothing_is_told_of_and_asked_for_again(guard: Guard, bus: NatsBus, said: bytes, why: str) -> None:
    await bus.log.state(declined(1))
    guard.says = said
    with capture_logs() as lines:
        async with guard.bus() as own:
            reading = Reading(own.log)
            async with asyncio.timeout(WITHIN_SECONDS):
                while len(guard.asked) < 2:
                    await asyncio.sleep(0.02)
            guard.says = None
            await reading.until(("r-1", 1))
            reading.end()

    told = [line for line in lines if line["event"] == "no reader of the log yet, asking again"]
    assert (told[0]["log_level"], told[0]["why"]) == ("warning", why)


async def test_nobody_who_answers_is_told_of_and_asked_again(guard: Guard, bus: NatsBus) -> None:
    await guard.connection.close()
    with capture_logs() as lines:
        async with guard.bus() as own:
            reading = Reading(own.log)
            async with asyncio.timeout(WITHIN_SECONDS):
                while not (told := [line for line in lines if line["event"] == "no reader of the log yet, asking again"]):
                    await asyncio.sleep(0.02)
            reading.end()

    assert "no responders" in told[0]["why"]


async def test_what_such_a_reader_cannot_do_is_said(guard: Guard) -> None:
    async with guard.bus() as own:
        with pytest.raises(BadInput, match="begins at the beginning"):
            await anext(own.log.tail(ANSWERS, after=None))
        with pytest.raises(Denied, match=r"its own runs, and not fed\.v1\.fleet\.\*\.advertised"):
            await anext(own.log.tail([Advertised.pattern()]))


async def test_a_register_is_read_and_settled_without_asking_the_leader(guard: Guard, bus: NatsBus) -> None:
    ours, theirs = declined(1), declined(1).model_copy(update={"message": "never"})
    await bus.log.state(Cancelled(run="r-1", at=NOW))
    async with guard.bus() as own:
        fenced = await own.log.state(ours, fence=Fence(Cancelled.pattern(run="r-1")))
        nothing = await own.log.read(ours.subject)
        stated = await own.log.state(ours)
        again, refused = await own.log.state(ours), await own.log.state(theirs)
        held = await own.log.read(ours.subject)

    assert (fenced, nothing) == (Stated(None, False), None)
    assert held is not None
    assert (held.fact, stated.mine, again, refused) == (ours, True, Stated(held, True), Stated(held, False))


async def test_a_copy_that_is_late_is_asked_again(guard: Guard, bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is played by a fact that is stored only after we were refused."""
    monkeypatch.setattr(log, "LATE_SECONDS", (0.05,) * 200)
    await bus.log.state(Cancelled(run="r-1", at=NOW))
    async with guard.bus() as own:
        stating = asyncio.create_task(own.log.state(declined(1), fence=Fence(Cancelled.pattern(run="r-1"))))
        await asyncio.sleep(0.3)
        await bus.log.state(declined(1))

        assert (await stating).mine


async def test_a_bus_opens_when_there_are_streams_and_not_before(guard: Guard) -> None:
    jetstream = guard.connection.jetstream()
    await jetstream.delete_stream("FLEET")

    with pytest.raises(Unreachable, match="no streams after"):
        async with guard.bus(patience=Patience(connect_seconds=0.5)):
            pass
