"""How many apps are kept warm, and whose."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedplane.collaborator.apps import Answer
from fedplane.collaborator.pool import AppPool
from fedplane.runtime.errors import AppFailed

HERE = Path("/nowhere")


@dataclass
class Story:
    """What happened to apps, in order; an app is known by its run's directory."""

    lines: list[str] = field(default_factory=list)

    def start(self, framework: str, app: Path, workdir: Path) -> "StoriedApp":
        self.lines.append(f"start {workdir.name}")
        return StoriedApp(workdir.name, self)


@dataclass
class StoriedApp:
    name: str
    story: Story

    async def ask(self, directory: Path, deadline_seconds: float) -> Answer:
        raise AssertionError("a pool does not ask")

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.story.lines.append(f"close {self.name}")


async def use(pool: AppPool, story: Story, run: str) -> None:
    async with pool.lend(run, "other", HERE, HERE / run):
        story.lines.append(f"begin {run}")
        await asyncio.sleep(0.005)
        story.lines.append(f"end {run}")


async def test_a_run_keeps_its_app_between_invitations():
    pool = AppPool((story := Story()).start, 2)

    for run in ("r1", "r2", "r1"):
        await use(pool, story, run)

    assert story.lines == ["start r1", "begin r1", "end r1", "start r2", "begin r2", "end r2", "begin r1", "end r1"]


async def test_the_app_that_was_idle_longest_makes_room():
    pool = AppPool((story := Story()).start, 2)

    for run in ("r1", "r2", "r1", "r3"):
        await use(pool, story, run)

    assert story.lines[-4:] == ["close r2", "start r3", "begin r3", "end r3"]


async def test_invitations_of_one_run_are_served_one_at_a_time():
    pool = AppPool((story := Story()).start, 2)

    await asyncio.gather(use(pool, story, "r1"), use(pool, story, "r1"))

    assert story.lines == ["start r1", "begin r1", "end r1", "begin r1", "end r1"]


async def test_as_many_runs_as_there_are_places_are_served_at_once():
    pool = AppPool((story := Story()).start, 2)

    await asyncio.gather(*(use(pool, story, run) for run in ("r1", "r2", "r3")))

    assert story.lines[:5] == ["start r1", "begin r1", "start r2", "begin r2", "end r1"]
    assert story.lines.index("begin r3") > story.lines.index("close r1")


async def test_an_app_that_cannot_be_started_leaves_its_place_free():
    def refuse(framework: str, app: Path, workdir: Path) -> StoriedApp:
        raise AppFailed("no-framework", f"no framework is called {framework}")

    pool = AppPool(refuse, 1)

    for _ in range(2):
        with pytest.raises(AppFailed, match="no framework is called other"):
            async with asyncio.timeout(1), pool.lend("r1", "other", HERE, HERE):
                raise AssertionError("there is no app to lend")


async def test_a_cancelled_use_leaves_the_app_for_the_next():
    pool = AppPool((story := Story()).start, 1)
    using = asyncio.create_task(use(pool, story, "r1"))
    await asyncio.sleep(0.001)
    using.cancel()
    await asyncio.wait({using})
    await use(pool, story, "r1")

    assert story.lines == ["start r1", "begin r1", "begin r1", "end r1"]


async def test_retiring_a_run_waits_for_whoever_has_its_app():
    pool = AppPool((story := Story()).start, 1)
    using = asyncio.create_task(use(pool, story, "r1"))
    await asyncio.sleep(0.001)

    await pool.retire("r1")
    await using

    assert story.lines == ["start r1", "begin r1", "end r1", "close r1"]


async def test_closing_the_pool_closes_every_app():
    pool = AppPool((story := Story()).start, 2)
    for run in ("r1", "r2"):
        await use(pool, story, run)

    await pool.close()
    await pool.close()

    assert story.lines[-2:] == ["close r1", "close r2"]
