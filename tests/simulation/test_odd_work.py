"""Whole runs when an aggregator is behind the log, or is handed tasks that nobody offered: none is lost, and nobody dies of one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from federation_story import Federation, ended, federation, learning, submit

from fedplane.aggregator import working
from fedplane.runtime.memory import MemoryBus, MemoryLog
from fedplane.runtime.ports import Batch
from fedplane.schemas.facts import Completed, Fact

BEHIND_SECONDS = 0.15
COMPARING = {"strategy": {"name": "krum", "parameters": {"byzantine": 1}}}


class SlowLog(MemoryLog):
    """Another's log, whose news arrive late."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log.source)
        self.state, self.read, self._tail = log.state, log.read, log.tail  # type: ignore[method-assign]

    async def tail(self, patterns: Sequence[str], after: int = 0) -> AsyncIterator[Batch]:
        live = False
        async for batch in self._tail(patterns, after):
            await asyncio.sleep(BEHIND_SECONDS if live else 0)
            live = live or batch.live
            yield batch


@dataclass
class BehindBus(MemoryBus):
    """Another's bus, on which the log's news arrive late."""

    other: MemoryBus | None = None

    def __post_init__(self) -> None:
        assert self.other is not None
        self.log, self.timers, self.work, self.bulk = SlowLog(self.other.log), self.other.timers, self.other.work, self.other.bulk


async def run_of(it: Federation, bus: MemoryBus, **spec: object) -> list[Fact]:
    run = await submit(bus, learning(server={"rounds": 2, "minAvailableClients": 5}, **spec))
    over = asyncio.create_task(ended(bus, run))
    while not over.done():
        await asyncio.sleep(0.01)
        it.check()
    return await over


@pytest.mark.parametrize("spec", [{}, COMPARING], ids=["folding", "measuring, then folding"])
async def test_an_aggregator_that_is_behind_the_log_loses_no_task(tmp_path, monkeypatch, spec) -> None:
    monkeypatch.setattr(working, "KNOWN_SECONDS", BEHIND_SECONDS / 3)
    monkeypatch.setattr(working, "RETRY_SECONDS", BEHIND_SECONDS / 3)
    bus = MemoryBus()
    async with federation(bus, tmp_path, "abcde") as it:
        it.shard_bytes = 8  # so many tasks that each aggregator is handed some
        for name in ("aggregator 1", "aggregator 2"):
            await it.kill(name)
        it.start("aggregator 1")
        replace(it, bus=BehindBus(other=bus)).start("aggregator 2")
        facts = await run_of(it, bus, **spec)

    assert isinstance(facts[-1], Completed), facts[-1]


@pytest.mark.parametrize(
    "task",
    ["work.fed.v1.nonsense", "work.fed.v1.r-1.x.fold.0", "work.fed.v1.tiny-01234567.1.fold.99", "work.fed.v1.tiny-01234567.1.bake.0"],
)
async def test_a_task_that_nobody_offered_harms_nobody(tmp_path, monkeypatch, task) -> None:
    monkeypatch.setattr(working, "KNOWN_SECONDS", 0.02)
    monkeypatch.setattr(working, "RETRY_SECONDS", 0.02)
    bus = MemoryBus()
    await bus.work.offer(task)
    async with federation(bus, tmp_path, "abcde") as it:
        facts = await run_of(it, bus)
        async with asyncio.timeout(20):
            while task in bus.work.tasks:
                await asyncio.sleep(0.01)
        it.check()

    assert isinstance(facts[-1], Completed), facts[-1]
