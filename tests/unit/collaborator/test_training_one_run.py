"""A collaborator that was started for one run: it answers that one alone, offers nothing, and ends with it."""

import asyncio
from pathlib import Path

from collaborator_story import NOW, SAID, Apps, answer_to, hang, invited, model_on, train, until

from fedplane.collaborator.main import collaborate
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Advertised, Cancelled, Contributed


def serving(bus: MemoryBus, apps: Apps, workdir: Path) -> asyncio.Task[None]:
    return asyncio.create_task(collaborate(bus, CollaboratorSettings(cluster="c1", run="r1", workdir=workdir), apps))


async def test_it_answers_its_run_and_offers_nothing(tmp_path: Path) -> None:
    bus, apps = MemoryBus(), Apps(train)
    model = await model_on(bus)
    running = serving(bus, apps, tmp_path)
    await bus.log.state(invited(model=model, run="r2"))
    await bus.log.state(invited(model=model))

    answer = await answer_to(bus, invited())
    running.cancel()
    await asyncio.wait({running})

    assert isinstance(answer, Contributed)
    assert (answer.run, answer.weight, answer.metrics) == ("r1", SAID.weight, SAID.metrics)
    assert apps.asked == [["round-1"]]
    assert not any(isinstance(record.fact, Advertised) for record in bus.log.records)


async def test_it_ends_with_its_run_and_leaves_nothing(tmp_path: Path) -> None:
    bus, apps = MemoryBus(), Apps(hang)
    running = serving(bus, apps, tmp_path)
    await bus.log.state(invited(model=await model_on(bus)))
    await until(lambda: apps.asked == [["round-1"]])
    await bus.log.state(Cancelled(run="r2", at=NOW))
    await asyncio.sleep(0.02)
    was_done = running.done()
    await bus.log.state(Cancelled(run="r1", at=NOW))
    async with asyncio.timeout(5):
        await running

    assert not was_done
    assert apps.started[0].closed
    assert not (tmp_path / "r1").exists()


async def test_started_after_its_run_has_ended_it_ends_at_once(tmp_path: Path) -> None:
    bus, apps = MemoryBus(), Apps(train)
    await bus.log.state(invited(model=await model_on(bus)))
    await bus.log.state(Cancelled(run="r1", at=NOW))

    async with asyncio.timeout(5):
        await serving(bus, apps, tmp_path)

    assert apps.started == []
