"""Schedulers side by side on one log."""

import asyncio
from datetime import UTC, datetime

from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.replica import Replica
from fedplane.scheduler.runs import Scheduler
from fedplane.schemas.facts import Advertised, Cancelled, Failed, Scheduled, Submitted, Waiting
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

PATIENCE_SECONDS = 20


def submitted(run):
    resource = FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}})
    return Submitted(at=datetime.now(UTC), run=run, resource=resource)


def advertised(cluster, **claims):
    return Advertised(at=datetime.now(UTC), cluster=cluster, lease_seconds=60, claims=claims)


async def until_said(log, type_, run):
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(batch.records[0].fact async for batch in log.tail([type_.pattern(run=run)]) if batch.records)


async def test_replicas_place_a_run_once_and_leave_a_cancelled_one_alone():
    bus = MemoryBus()
    await bus.log.state(advertised("b"))
    await bus.log.state(submitted("r-1"))
    await bus.log.state(submitted("r-2"))
    await bus.log.state(Cancelled(at=datetime.now(UTC), run="r-2"))
    replicas = [asyncio.create_task(Replica(Scheduler(), bus.log).run()) for _ in range(3)]

    wait = await until_said(bus.log, Waiting, "r-1")
    await bus.log.state(advertised("a", **{"r.client-data": "/data"}))
    placed = await until_said(bus.log, Scheduled, "r-1")
    await bus.log.state(submitted("r-3"))
    await until_said(bus.log, Scheduled, "r-3")
    for replica in replicas:
        replica.cancel()
    ended = await asyncio.gather(*replicas, return_exceptions=True)

    assert [type(end) for end in ended] == [asyncio.CancelledError] * 3
    assert [(refusal.cluster, refusal.reason) for refusal in wait.refused] == [("b", "data")]
    assert [(chosen.cluster, chosen.data) for chosen in placed.participants] == [("a", "/data")]
    ours = [(type(r.fact), r.fact.run) for r in bus.log.records if isinstance(r.fact, Waiting | Scheduled | Failed)]
    assert ours == [(Waiting, "r-1"), (Scheduled, "r-1"), (Scheduled, "r-3")]
