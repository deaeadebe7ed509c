"""An app's own server has a Job on the hub while its run lasts, whatever dies, and a run whose Job does not start ends by itself."""

import asyncio

import pytest
from hub_story import ask, enlist, make_set, once, said, tending, until_gone
from work_story import OUTFIT, PATIENCE, alive, begin, learning, until

from fedplane.runtime.errors import ApiDenied
from fedplane.runtime.kinds import FEDERATED_LEARNING, JOB
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Kind, Object
from fedplane.scheduler.driving import Driving
from fedplane.scheduler.launching import launch
from fedplane.schemas.facts import Cancelled, Completed, Failed, Scheduled
from fedplane.schemas.models import Model, Piece

APP = {"name": "app"}
NOTHING = Piece(subject="bulk.x", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)


async def hub_with(hub: MemoryCluster, *clusters: str) -> tuple[MemoryBus, MemoryCluster]:
    await make_set(hub)
    await enlist(hub, *clusters)
    return MemoryBus(), hub


async def jobs(hub: MemoryCluster) -> list[tuple[str, str]]:
    return [(body["metadata"]["namespace"], body["metadata"]["name"]) for body in await hub.all(JOB)]


async def until_jobs(hub: MemoryCluster, *names: str) -> None:
    await until(lambda: jobs(hub), [("default", f"driver-{name}") for name in names])


async def stands(hub: MemoryCluster, run: str, **status: object) -> None:
    await hub.merge(JOB, f"driver-{run}", {"status": status}, "default", subresource="status")


async def test_a_driver_is_there_while_its_run_lasts_and_other_runs_have_none() -> None:
    bus, hub = await hub_with(MemoryCluster(), "a")
    keeper = {"metadata": {"name": "keeper", "namespace": "default", "labels": {"app.kubernetes.io/part-of": "fedplane"}}}
    await hub.create(JOB, keeper)
    async with tending(bus.log, hub), tending(bus.log, hub):
        plain, run = await ask(hub, "plain"), await ask(hub, strategy=APP)
        placed = await once(bus.log, plain, Scheduled)
        await until(lambda: jobs(hub), [("default", f"driver-{run}"), ("default", "keeper")])
        await stands(hub, run, active=1, ready=1)
        await asyncio.sleep(1)  # twice as long as one may take to start
        await bus.log.state(Completed(run=run, at=placed.at, model=MODEL, metrics={}))
        await until(lambda: jobs(hub), [("default", "keeper")])
        failed = await said(bus.log, run, Failed)

    assert failed == []


async def test_a_fresh_scheduler_makes_the_driver_that_is_missing_and_deletes_the_one_that_is_left_over() -> None:
    bus, hub = await hub_with(MemoryCluster(), "a")
    async with tending(bus.log, hub):
        over, run = await ask(hub, "over", strategy=APP), await ask(hub, strategy=APP)
        placed = await once(bus.log, over, Scheduled)
        await until_jobs(hub, over, run)
        await stands(hub, over, active=1, ready=1)
    await hub.delete(JOB, f"driver-{run}", "default")
    await bus.log.state(Completed(run=over, at=placed.at, model=MODEL, metrics={}))
    before = await jobs(hub)

    async with tending(bus.log, hub):
        await until_jobs(hub, run)

    assert before == [("default", f"driver-{over}")]


async def test_an_object_that_is_deleted_takes_its_driver_along() -> None:
    bus, hub = await hub_with(MemoryCluster(), "a")
    async with tending(bus.log, hub):
        run = await ask(hub, strategy=APP)
        await until_jobs(hub, run)
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await once(bus.log, run, Cancelled)
        await until_gone(hub)
        left = await jobs(hub)

    assert left == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"active": 1, "ready": 0}, "no pod of the driver's Job was ready for 0.5 s"),
        ({"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}, "the driver's Job has failed: too often"),
    ],
)
async def test_a_driver_that_does_not_start_or_fails_is_the_end_of_its_run(status: dict[str, object], message: str) -> None:
    bus, hub = await hub_with(MemoryCluster(), "a")
    async with tending(bus.log, hub):
        run = await ask(hub, strategy=APP)
        await until_jobs(hub, run)
        await stands(hub, run, **status)
        failed = await once(bus.log, run, Failed)
        await until_jobs(hub)

    assert (failed.reason, failed.message.startswith(f"the app's server cannot be run: {message}")) == ("ServerNotRun", True)


class Refusing(MemoryCluster):
    """A server that does not let drivers be made, so often."""

    refusals = 1

    async def create(self, kind: Kind, body: Object) -> Object:
        if kind == JOB and self.refusals:
            self.refusals -= 1
            raise ApiDenied("jobs is forbidden")
        return await super().create(kind, body)


async def test_a_hub_that_refuses_a_driver_is_asked_again() -> None:
    bus, hub = MemoryBus(), Refusing()
    await begin(bus.log, "r-1", "a", resource=learning(strategy=APP))
    async with alive(launch(bus.log, hub, OUTFIT, Driving(tick_seconds=0.02))):
        await until_jobs(hub, "r-1")

    assert hub.refusals == 0


async def test_a_job_of_somebody_else_under_its_name_is_left_alone_and_ends_the_run() -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    taken = await hub.create(JOB, {"metadata": {"name": "driver-r-1", "namespace": "default"}, "spec": {"mine": True}})
    await begin(bus.log, "r-1", "a", resource=learning(strategy=APP))
    async with alive(launch(bus.log, hub, OUTFIT, Driving(PATIENCE, tick_seconds=0.02))):
        failed = await once(bus.log, "r-1", Failed)

    said = "the hub did not take the driver's Job for 0.2 s: the Job default/driver-r-1 is somebody else's; delete it"
    assert (failed.reason, failed.message) == ("ServerNotRun", f"the app's server cannot be run: {said}")
    assert await hub.get(JOB, "driver-r-1", "default") == taken
