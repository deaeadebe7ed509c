"""How work ends: with the round, with the run, with the deadline, with the process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from collaborator_story import NOW, Apps, answer_to, asked_once, collaborating, hang, held, invited, said, train, until

from fedplane.collaborator import transfers
from fedplane.collaborator.apps import Answer
from fedplane.collaborator.errands import GRACE_SECONDS
from fedplane.collaborator.pool import AppPool
from fedplane.collaborator.tasks import GiveUp, Respond, Retire
from fedplane.collaborator.training import Training
from fedplane.runtime.errors import AppFailed, BusError, BusFull, Denied, Unreachable
from fedplane.runtime.memory import MemoryBus, MemoryLog
from fedplane.runtime.ports import Batch, Fence, Stated
from fedplane.schemas.facts import Advertised, Cancelled, Closed, Contributed, Declined, Fact
from fedplane.schemas.models import Task


@pytest.mark.parametrize(
    "end", [Closed(run="r1", round=0, at=NOW, reason="deadline"), Cancelled(run="r1", at=NOW)], ids=["closed", "cancelled"]
)
async def test_work_stops_when_the_round_closes_or_the_run_ends_and_nothing_is_stated(end: Fact, tmp_path: Path):
    bus, apps = MemoryBus(), Apps(hang)

    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(invited(0, Task.INITIALIZE))
        await until(lambda: apps.asked == [["round-0"]])
        await bus.log.state(end)
        await until(lambda: not (tmp_path / "r1" / "round-0").exists())
        closed = [app.closed for app in apps.started]

    assert closed == [False] or isinstance(end, Cancelled)  # the app is still good for the run's next round
    assert said(bus) == [invited(0, Task.INITIALIZE), end]


async def test_the_end_of_a_run_closes_its_app_and_removes_its_files(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)

    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(invited(0, Task.INITIALIZE))
        await answer_to(bus, invited(0))
        await bus.log.state(Cancelled(run="r1", at=NOW))
        await until(lambda: apps.started[0].closed and not any(tmp_path.iterdir()))

    assert apps.asked == [["round-0"]]


async def test_an_answer_that_is_ready_after_the_round_closed_is_not_stated(tmp_path: Path):
    bus = MemoryBus()
    await bus.log.state(Closed(run="r1", round=0, at=NOW, reason="deadline"))
    training = Training(bus, AppPool(Apps(train), 1), workdir=tmp_path, update_bytes_max=1000)

    await training.perform(Respond(invited(0, Task.INITIALIZE), None))

    assert [type(fact) for fact in said(bus)] == [Closed]
    assert bus.bulk.chunks  # the update was sent: only the log could know that it was too late


async def test_giving_up_spares_later_rounds_and_other_runs(tmp_path: Path):
    go_on = asyncio.Event()

    async def train_later(directory: Path) -> Answer:
        await go_on.wait()
        return await train(directory)

    bus, apps = MemoryBus(), Apps(train_later)
    training = Training(bus, AppPool(apps, 2), workdir=tmp_path, update_bytes_max=1000)
    working = asyncio.gather(*(training.perform(Respond(invited(3, Task.INITIALIZE, run=run), None)) for run in ("r1", "r2")))
    await until(lambda: apps.asked == [["round-3"], ["round-3"]])
    await training.perform(GiveUp("r1", 3))
    await training.perform(GiveUp("r2", 4))
    go_on.set()
    await working

    assert [fact.subject for fact in said(bus)] == ["fed.v1.run.r1.round.3.contributed.c1"]


async def test_work_that_takes_long_to_stop_may_be_given_up_again(tmp_path: Path):
    async def linger(directory: Path) -> Answer:
        try:
            return await hang(directory)
        finally:
            await asyncio.sleep(0.005)

    bus, apps = MemoryBus(), Apps(linger)
    training = Training(bus, AppPool(apps, 1), workdir=tmp_path, update_bytes_max=1000)
    working = asyncio.create_task(training.perform(Respond(invited(0, Task.INITIALIZE), None)))
    await until(lambda: apps.asked)
    await training.perform(GiveUp("r1", 1))
    await asyncio.sleep(0)
    await training.perform(Retire("r1"))
    await working

    assert (said(bus), apps.started[0].closed, held(tmp_path)) == ([], True, {})


async def test_an_app_that_is_stopped_at_the_deadline_still_declines(tmp_path: Path):
    async def be_stopped(directory: Path) -> Answer:
        await asyncio.sleep(0.005)
        raise AppFailed("timed-out", "the app was stopped")

    bus, apps, invitation = MemoryBus(), Apps(be_stopped), invited(0, Task.INITIALIZE)
    training = Training(bus, AppPool(apps, 1), workdir=tmp_path, update_bytes_max=1000, clock=lambda: invitation.deadline)

    await training.perform(Respond(invitation, None))

    assert apps.started[0].seconds == [0]
    assert said(bus) == [
        Declined(run="r1", round=0, cluster="c1", at=invitation.deadline, reason="timed-out", message="the app was stopped")
    ]


async def test_work_ends_by_itself_some_seconds_after_the_deadline(tmp_path: Path):
    bus, invitation = MemoryBus(), invited(0, Task.INITIALIZE)
    almost = invitation.deadline + timedelta(seconds=GRACE_SECONDS - 0.01)
    training = Training(bus, AppPool(Apps(hang), 1), workdir=tmp_path, update_bytes_max=1000, clock=lambda: almost)

    async with asyncio.timeout(5):
        await training.perform(Respond(invitation, None))

    assert bus.log.records == []


async def test_what_a_killed_process_left_in_the_work_directory_does_not_matter(tmp_path: Path):
    (tmp_path / "r1" / "round-0").mkdir(parents=True)
    (tmp_path / "r1" / "round-0" / "update.safetensors").write_text("half an upd")

    async def look(directory: Path) -> Answer:
        assert list(held(directory)) == ["invitation.json"]
        return await train(directory)

    answer = await asked_once(MemoryBus(), invited(0, Task.INITIALIZE), Apps(look), tmp_path)

    assert isinstance(answer, Contributed)


async def test_a_fresh_process_answers_only_what_is_unanswered(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    await asked_once(bus, invited(0, Task.INITIALIZE), Apps(train), tmp_path)
    await bus.log.state(invited(4, Task.INITIALIZE, run="r2"))
    await bus.log.state(Closed(run="r2", round=4, at=NOW, reason="deadline"))
    await bus.log.state(invited(0, Task.INITIALIZE, run="r3"))

    async with collaborating(bus, apps, tmp_path):
        await answer_to(bus, invited(0, run="r3"))

    assert [fact.subject for fact in said(bus) if isinstance(fact, Contributed)] == [
        "fed.v1.run.r1.round.0.contributed.c1",
        "fed.v1.run.r3.round.0.contributed.c1",
    ]
    assert apps.asked == [["round-0"]]


class RepeatingLog(MemoryLog):
    """Hands over everything twice."""

    async def tail(self, patterns: Sequence[str], after: int = 0) -> AsyncIterator[Batch]:
        async for batch in super().tail(patterns, after):
            yield batch
            yield batch


async def test_an_invitation_that_is_delivered_twice_is_answered_once(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    bus.log = RepeatingLog("/test")

    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(invited(0, Task.INITIALIZE))
        await answer_to(bus, invited(0))
        await bus.log.state(Closed(run="r1", round=0, at=NOW, reason="all in"))
        await bus.log.state(invited(1, Task.INITIALIZE))
        await answer_to(bus, invited(1))

    assert apps.asked == [["round-0", "round-1"]]


class RefusingLog(MemoryLog):
    """Takes no answer at first, for a reason."""

    def __init__(self, *reasons: BusError) -> None:
        super().__init__("/test")
        self.reasons = list(reasons)

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        if isinstance(fact, Contributed) and self.reasons:
            raise self.reasons.pop()
        return await super().state(fact, fence=fence, traceparent=traceparent)


async def test_an_answer_is_stated_again_until_a_log_that_is_full_or_away_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "RETRY_SECONDS", 0.0)
    bus, apps = MemoryBus(), Apps(train)
    bus.log = RefusingLog(BusFull("no room"), Unreachable("no server answers"))

    answer = await asked_once(bus, invited(0, Task.INITIALIZE), apps, tmp_path)

    assert (type(answer), apps.asked) == (Contributed, [["round-0"]])


async def test_an_answer_that_may_not_be_stated_does_not_keep_others_from_being(tmp_path: Path):
    bus = MemoryBus()
    bus.log = RefusingLog(Denied("not for you"))

    async with collaborating(bus, Apps(train), tmp_path):
        await bus.log.state(invited(0, Task.INITIALIZE))
        await until(lambda: not bus.log.reasons)
        await bus.log.state(invited(0, Task.INITIALIZE, run="r2"))
        await answer_to(bus, invited(0, run="r2"))

    assert [fact.run for fact in said(bus) if isinstance(fact, Contributed)] == ["r2"]


async def test_the_answer_travels_in_the_trace_of_its_invitation(tmp_path: Path):
    bus, trace = MemoryBus(), f"00-{'a' * 32}-{'b' * 16}-01"

    async with collaborating(bus, Apps(train), tmp_path):
        await bus.log.state(invited(0, Task.INITIALIZE), traceparent=trace)
        await answer_to(bus, invited(0))

    assert [record.traceparent for record in bus.log.records if not isinstance(record.fact, Advertised)] == [trace, trace]
