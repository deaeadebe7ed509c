"""Work that takes longer than its round: it goes on, and is answered in the round that carries it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from collaborator_story import NOW, TRAINED, Answer, Apps, answer_to, bytes_of, collaborating, invited, model_on, said, train, until

from fedplane.collaborator.errands import GRACE_SECONDS
from fedplane.collaborator.pool import AppPool
from fedplane.collaborator.tasks import GiveUp, Respond
from fedplane.collaborator.training import Training
from fedplane.runtime.errors import AppFailed
from fedplane.runtime.memory import MemoryBulk, MemoryBus
from fedplane.runtime.ports import Piece
from fedplane.schemas.facts import Cancelled, Closed, Contributed, Declined, Invited
from fedplane.schemas.models import Model

LATEST = NOW + timedelta(days=3)


def asked(round_: int, model: Model, carries: int | None = None, **changed: Any) -> Invited:
    return invited(round_, model=model, carries=carries, carried_until=LATEST, **changed)


def closed(round_: int) -> Closed:
    return Closed(run="r1", round=round_, at=NOW, reason="enough are in")


class Patience:
    """An app that works until it is told to be done."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.apps = Apps(self.work)

    async def work(self, directory: Path) -> Answer:
        await self.done.wait()
        return await train(directory)


async def until_closed(bus: MemoryBus, app: Patience, tmp_path: Path, model: Model) -> None:
    """Round 1 asks, and is closed while the app works."""
    await bus.log.state(asked(1, model))
    await until(lambda: app.apps.asked == [["round-1"]])
    await bus.log.state(closed(1))


def origins(bus: MemoryBus) -> list[tuple[int, int | None]]:
    return [(fact.round, fact.origin) for fact in said(bus) if isinstance(fact, Contributed)]


@pytest.mark.parametrize("when", ["before it is carried", "while it is carried"])
async def test_the_answer_is_given_in_the_round_that_carries_it(when: str, tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    model = await model_on(bus)

    async with collaborating(bus, app.apps, tmp_path):
        await until_closed(bus, app, tmp_path, model)
        if when == "before it is carried":
            app.done.set()
            await until((tmp_path / "r1" / "round-1" / "update.safetensors").exists)
        await bus.log.state(asked(3, model, carries=1))
        app.done.set()
        answer = await answer_to(bus, asked(3, model))
        await until(lambda: not (tmp_path / "r1" / "round-1").exists())

    assert isinstance(answer, Contributed)
    assert (origins(bus), app.apps.asked) == ([(3, 1)], [["round-1"]])
    assert answer.layout.subject == f"bulk.fed.v1.r1.3.update.c1.{answer.attempt}.layout"
    assert await bytes_of(bus, answer.layout, *answer.shards) == TRAINED


async def test_work_that_fails_is_declined_in_the_round_that_carries_it(tmp_path: Path):
    failing = asyncio.Event()

    async def fail(directory: Path) -> Answer:
        await failing.wait()
        raise AppFailed("crashed", "the app ended with status 139")

    bus, apps = MemoryBus(), Apps(fail)
    model = await model_on(bus)
    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(asked(1, model))
        await until(lambda: apps.asked == [["round-1"]])
        await bus.log.state(closed(1))
        failing.set()
        await bus.log.state(asked(3, model, carries=1))
        answer = await answer_to(bus, asked(3, model))

    assert isinstance(answer, Declined) and (answer.reason, apps.asked) == ("crashed", [["round-1"]])


async def test_it_is_carried_through_several_rounds(tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    model = await model_on(bus)

    async with collaborating(bus, app.apps, tmp_path):
        await until_closed(bus, app, tmp_path, model)
        for round_ in (3, 4, 6):
            await bus.log.state(asked(round_, model, carries=1))
            await bus.log.state(closed(round_))
        await bus.log.state(asked(8, model, carries=1))
        app.done.set()
        await answer_to(bus, asked(8, model))

    assert (origins(bus), app.apps.asked) == ([(8, 1)], [["round-1"]])


async def test_an_invitation_that_does_not_carry_it_gives_it_up_and_is_answered_anew(tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    model = await model_on(bus)

    async with collaborating(bus, app.apps, tmp_path):
        await until_closed(bus, app, tmp_path, model)
        await bus.log.state(asked(3, model))
        await until(lambda: app.apps.asked == [["round-1", "round-3"]])
        app.done.set()
        await answer_to(bus, asked(3, model))

    assert origins(bus) == [(3, None)]


async def test_the_end_of_the_run_gives_it_up(tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    model = await model_on(bus)

    async with collaborating(bus, app.apps, tmp_path):
        await until_closed(bus, app, tmp_path, model)
        await bus.log.state(Cancelled(run="r1", at=NOW))
        await until(lambda: app.apps.started[0].closed and not any(tmp_path.iterdir()))

    assert origins(bus) == []


async def test_it_ends_by_itself_when_no_round_can_carry_it_any_more(tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    question = asked(1, await model_on(bus))
    almost = LATEST + timedelta(seconds=GRACE_SECONDS - 0.01)
    training = Training(bus, AppPool(app.apps, 1), workdir=tmp_path, update_bytes_max=1000, clock=lambda: almost)

    async with asyncio.timeout(5):
        await training.perform(Respond(question, None))

    assert (said(bus), (tmp_path / "r1" / "round-1").exists()) == ([], False)


async def test_a_process_that_has_lost_the_work_answers_the_new_question(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    model = await model_on(bus)
    for fact in (asked(1, model), closed(1), asked(3, model, carries=1)):
        await bus.log.state(fact)

    async with collaborating(bus, apps, tmp_path):
        await answer_to(bus, asked(3, model))

    assert (origins(bus), apps.asked) == ([(3, None)], [["round-3"]])


async def test_what_was_begun_in_place_of_lost_work_is_declined_when_it_is_late_as_well(tmp_path: Path):
    bus, app = MemoryBus(), Patience()
    model = await model_on(bus)
    for fact in (asked(1, model), closed(1), asked(3, model, carries=1)):
        await bus.log.state(fact)

    async with collaborating(bus, app.apps, tmp_path):
        await until(lambda: app.apps.asked == [["round-3"]])
        await bus.log.state(closed(3))
        await bus.log.state(asked(4, model, carries=1))
        answer = await answer_to(bus, asked(4, model))
        await until(lambda: not (tmp_path / "r1" / "round-3").exists())

    assert isinstance(answer, Declined) and answer.reason == "work-lost"
    assert "asked anew" in answer.message


class SlowBulk(MemoryBulk):
    """Takes the updates of a round only when it may."""

    def __init__(self, round_: int) -> None:
        super().__init__()
        self.slow, self.asked, self.may = f"bulk.fed.v1.r1.{round_}.update", 0, asyncio.Event()

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        if subject.startswith(self.slow):
            self.asked += 1
            await self.may.wait()
        return await super().write(subject, data, chunk_bytes)


async def test_an_upload_that_its_round_does_not_wait_for_is_made_again_for_the_next(tmp_path: Path):
    bus, apps = MemoryBus(bulk=SlowBulk(1)), Apps(train)
    model = await model_on(bus)

    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(asked(1, model))
        await until(lambda: bus.bulk.asked)
        await bus.log.state(closed(1))
        await bus.log.state(asked(3, model, carries=1))
        await answer_to(bus, asked(3, model))

    assert (origins(bus), apps.asked, bus.bulk.asked) == ([(3, 1)], [["round-1"]], 1)


async def test_an_answer_that_the_log_refuses_because_its_round_is_closed_is_given_later(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    model = await model_on(bus)
    await bus.log.state(closed(1))  # which this shell has not heard of yet
    training = Training(bus, AppPool(apps, 1), workdir=tmp_path, update_bytes_max=1000)
    working = asyncio.create_task(training.perform(Respond(asked(1, model), None)))
    await until(lambda: (tmp_path / "r1" / "round-1" / "update.safetensors").exists() and bus.bulk.chunks)
    await training.perform(GiveUp("r1", 2, carried=1))
    await training.perform(Respond(asked(3, model, carries=1), None))
    await asyncio.wait_for(working, 5)

    assert origins(bus) == [(3, 1)]
