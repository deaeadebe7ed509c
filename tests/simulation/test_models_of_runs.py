"""Jobs that keep models appear on a hub when runs complete, once, whatever dies, and whoever else has been there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from work_story import learning, now, until

from fedplane.runtime.errors import ApiDenied
from fedplane.runtime.kinds import JOB, PERSISTENT_VOLUME_CLAIM
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Kind, Object, Objects
from fedplane.runtime.ports import Log
from fedplane.scheduler.depositing import deposit
from fedplane.scheduler.storage import Keeper, claim, job
from fedplane.scheduler.storing import Storing
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Submitted
from fedplane.schemas.models import Model, Piece

KEEPER = Keeper("cli:1", "nats://nats.fedplane:4222")
NOTHING = Piece(subject="bulk.x", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)
STORED = learning(server={"storage": {"type": "PersistentVolumeClaim", "name": "models", "size": "1Gi"}})


@asynccontextmanager
async def keeping(log: Log, hub: Objects) -> AsyncIterator[None]:
    running = asyncio.create_task(deposit(log, hub, KEEPER, Storing(tick_seconds=0.02)))
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def complete(log: Log, run: str, end: RunFact | None = None, stored: bool = True) -> None:
    await log.state(Submitted(run=run, at=now(), resource=STORED if stored else learning()))
    await log.state(end or Completed(run=run, at=now(), model=MODEL, metrics={}))


def names(hub: Objects, kind: Kind) -> Callable[[], object]:
    async def look() -> list[str]:
        return [body["metadata"]["name"] for body in await hub.all(kind)]

    return look


async def test_every_completed_run_with_storage_has_its_job_and_all_share_the_claim() -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    async with keeping(bus.log, hub), keeping(bus.log, hub):
        await complete(bus.log, "r-1")
        await complete(bus.log, "r-2")
        await complete(bus.log, "elsewhere", stored=False)
        await complete(bus.log, "failed", Failed(run="failed", at=now(), reason="x", message="y"))
        await complete(bus.log, "cancelled", Cancelled(run="cancelled", at=now()))
        await until(names(hub, JOB), ["r-1", "r-2"])

    (volume,) = await hub.all(PERSISTENT_VOLUME_CLAIM)
    made, expected = await hub.get(JOB, "r-1", "default"), job("r-1", STORED, KEEPER)
    assert made is not None
    assert (made["spec"], volume["spec"]) == (expected["spec"], (claim(STORED) or {})["spec"])


async def test_a_fresh_scheduler_makes_what_is_missing_and_leaves_what_is_there_as_it_is() -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await hub.create(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "models", "namespace": "default"}, "spec": {"mine": True}})
    async with keeping(bus.log, hub):
        await complete(bus.log, "r-1")
        await until(names(hub, JOB), ["r-1"])
    first = await hub.get(JOB, "r-1", "default")
    await complete(bus.log, "r-2")
    await complete(bus.log, "gone")
    await bus.log.state(Archived(run="gone", at=now(), facts=2, piece=NOTHING))

    async with keeping(bus.log, hub):
        await until(names(hub, JOB), ["r-1", "r-2"])

    volume = await hub.get(PERSISTENT_VOLUME_CLAIM, "models", "default")
    assert volume is not None
    assert (await hub.get(JOB, "r-1", "default"), volume["spec"]) == (first, {"mine": True})


class Refusing(MemoryCluster):
    """A server that grants nothing at first."""

    refusals = 1

    async def create(self, kind: Kind, body: Object) -> Object:
        if self.refusals:
            self.refusals -= 1
            raise ApiDenied("jobs is forbidden")
        return await super().create(kind, body)


@pytest.mark.parametrize("trouble", ["away", "refusing"])
async def test_a_hub_that_is_away_or_refuses_is_asked_again(trouble: str) -> None:
    bus, hub = MemoryBus(), Refusing()
    hub.refusals, hub.reachable = int(trouble == "refusing"), trouble != "away"
    async with keeping(bus.log, hub):
        await complete(bus.log, "r-1")
        await asyncio.sleep(0.1)
        hub.reachable = True
        before = await hub.all(JOB)
        await until(names(hub, JOB), ["r-1"])

    assert before == []
