"""A hub with objects that ask for runs, and schedulers that take them in: on a bus and a hub in one process, or on real ones."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from work_story import OUTFIT, PATIENCE, alive, until

from fedplane.runtime.errors import Conflict
from fedplane.runtime.kinds import (
    FEDERATED_LEARNING,
    MANAGED_CLUSTER,
    MANAGED_CLUSTER_SET,
    MANAGED_CLUSTER_SET_BINDING,
    PLACEMENT_DECISION,
)
from fedplane.runtime.objects import Object, Objects
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.scheduler.delivering import deliver
from fedplane.scheduler.driving import Driving
from fedplane.scheduler.exposing import expose
from fedplane.scheduler.informer import Informer
from fedplane.scheduler.intake import Intake
from fedplane.scheduler.launching import launch
from fedplane.scheduler.listening import Listening
from fedplane.scheduler.runs import Scheduler
from fedplane.scheduler.sending import Sending
from fedplane.scheduler.tending import tend
from fedplane.scheduler.wishes import wish
from fedplane.schemas.facts import RunFact, all_facts_of

LABEL = "cluster.open-cluster-management.io/clusterset"


async def make_set(hub: Objects, namespace: str = "default", name: str = "eu") -> None:
    """A set of clusters that the namespace may use."""
    with contextlib.suppress(Conflict):
        await hub.create(MANAGED_CLUSTER_SET, {"metadata": {"name": name}, "spec": {}})
    with contextlib.suppress(Conflict):
        binding = {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterSet": name}}
        await hub.create(MANAGED_CLUSTER_SET_BINDING, binding)


def health(answer: str = "True", **claims: str) -> Object:
    """A ManagedCluster's status as its agent writes it."""
    condition = {
        "type": "ManagedClusterConditionAvailable", "status": answer, "reason": "Said", "message": "",
        "lastTransitionTime": "2026-01-02T12:00:00Z",
    }  # fmt: skip
    written = [{"name": name.replace("_", "-"), "value": value} for name, value in claims.items()]
    return {"conditions": [condition], "clusterClaims": written, "allocatable": {"cpu": "8", "memory": "32Gi"}}


async def enlist(hub: Objects, *names: str, of: str = "eu", answer: str = "True", accepted: bool = True) -> None:
    """Clusters of the set that the hub has accepted, which hold data and are available."""
    for name in names:
        spec = {"hubAcceptsClient": accepted}
        await hub.create(MANAGED_CLUSTER, {"metadata": {"name": name, "labels": {LABEL: of}}, "spec": spec})
        await hub.merge(MANAGED_CLUSTER, name, {"status": health(answer, data=f"/data/{name}")}, subresource="status")


async def ask(hub: Objects, name: str = "r", namespace: str = "default", **spec: Any) -> str:
    """Make an object that asks for a run; the run's id."""
    asked = {"framework": "flower", "data": {"claim": "data"}, "client": {"image": "app:1"}, **spec}
    return wish(await hub.create(FEDERATED_LEARNING, {"metadata": {"name": name, "namespace": namespace}, "spec": asked})).run


async def edit(hub: Objects, name: str, namespace: str = "default", **spec: Any) -> Object:
    return await hub.merge(FEDERATED_LEARNING, name, {"spec": spec}, namespace)


@asynccontextmanager
async def tending(log: Log, hub: Objects, namespace: str = "", bus: str = "") -> AsyncIterator[Intake]:
    """A whole scheduler on a hub, for the objects of a namespace or of all. `bus` is the namespace that the bus is in."""
    intake, sending = Intake(namespace, tick_seconds=0.02), Sending(PATIENCE, tick_seconds=0.02)
    intake.hub.works = sending.hub.works
    clusters = Informer(hub, MANAGED_CLUSTER)
    async with alive(
        clusters.run(),
        Replica(Scheduler(0.02, intake.hub.overview), log).run(),
        tend(log, hub, clusters, intake, offer_seconds=0.02),
        deliver(log, hub, clusters, OUTFIT, sending),
        expose(log, hub, Listening(bus, tick_seconds=0.02)),
        launch(log, hub, OUTFIT, Driving(PATIENCE, tick_seconds=0.02)),
    ):
        yield intake


async def said(log: Log, run: str, kind: type[RunFact]) -> list[Any]:
    """What the log has of a kind about a run, now."""
    found = []
    async for batch in log.tail([all_facts_of(run)]):
        found += [record.fact for record in batch.records if isinstance(record.fact, kind)]
        if batch.live:
            return found
    raise AssertionError("the log ended")


async def once(log: Log, run: str, kind: type[RunFact]) -> Any:
    """The first fact of a kind about a run, as soon as there is one."""
    await until(lambda: _any(log, run, kind), True)
    return (await said(log, run, kind))[0]


async def _any(log: Log, run: str, kind: type[RunFact]) -> bool:
    return bool(await said(log, run, kind))


async def decided(hub: Objects, name: str = "r", namespace: str = "default") -> list[str]:
    """The clusters that the hub shows for an object, over all its decisions."""
    of = {"cluster.open-cluster-management.io/placement": name}
    bodies = await hub.all(PLACEMENT_DECISION, namespace, of)
    return [each["clusterName"] for body in bodies for each in body.get("status", {}).get("decisions", ())]


async def until_gone(hub: Objects, name: str = "r", namespace: str = "default") -> None:
    await until(lambda: hub.get(FEDERATED_LEARNING, name, namespace), None)


def having(field: Callable[[Object], Any], hub: Objects, name: str, namespace: str = "default") -> Callable[[], Any]:
    """A look at a part of the object."""

    async def look() -> Any:
        body = await hub.get(FEDERATED_LEARNING, name, namespace)
        return None if body is None else field(body)

    return look
