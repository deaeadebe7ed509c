"""A hub with clusters, runs on a log, and schedulers that send works: on a bus and a hub in one process, or on real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from fedplane.runtime.kinds import MANAGED_CLUSTER, MANIFEST_WORK, NAMESPACE
from fedplane.runtime.objects import Object, Objects
from fedplane.runtime.ports import Log
from fedplane.scheduler.delivering import deliver
from fedplane.scheduler.informer import Informer
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.sending import Sending
from fedplane.scheduler.standing import Patience
from fedplane.scheduler.works import FEEDBACK, LABELS
from fedplane.schemas.facts import Declined, Invited, Scheduled, Submitted
from fedplane.schemas.models import Chosen, Task
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

OUTFIT = Outfit("ours:1", "nats://hub.example.org:4222")
PATIENCE = Patience(start_seconds=0.5, refusal_seconds=0.2)
WAIT_SECONDS = 20
LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 0.02, 0.2


def learning(name: str = "r", **spec: Any) -> FederatedLearning:
    spec = {"framework": "flower", "data": {"claim": "data"}, "client": {"image": "app:1"}, **spec}
    return FederatedLearning.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, "uid": "0123abcd"}, "spec": spec}
    )


def now() -> datetime:
    return datetime.now(UTC)


async def begin(log: Log, run: str, *clusters: str, resource: FederatedLearning | None = None) -> None:
    """A run that is submitted and scheduled on the clusters."""
    participants = tuple(Chosen(cluster=cluster, score=0, terms=(), data=f"/data/{cluster}") for cluster in clusters)
    await log.state(Submitted(run=run, at=now(), resource=resource or learning()))
    await log.state(Scheduled(run=run, at=now(), participants=participants, refused=()))


async def invite(log: Log, run: str, cluster: str, number: int = 0) -> None:
    await log.state(
        Invited(
            run=run, at=now(), round=number, cluster=cluster, task=Task.TRAIN, training_round=1, framework="flower", app="", data="",
            configuration={}, run_configuration={}, deadline=now() + timedelta(minutes=10), shard_bytes=8, chunk_bytes=8,
        )
    )  # fmt: skip


async def declined(log: Log, run: str, cluster: str, number: int = 0) -> Declined:
    """What the cluster's invitation was declined with, once it is."""
    async with asyncio.timeout(WAIT_SECONDS):
        async for batch in log.tail([Declined.pattern(run=run, round=number, cluster=cluster)]):
            for record in batch.records:
                assert isinstance(record.fact, Declined)
                return record.fact
    raise AssertionError("the log ended")


async def join(hub: Objects, *clusters: str) -> None:
    """Clusters that the hub accepts."""
    for cluster in clusters:
        await hub.create(MANAGED_CLUSTER, {"metadata": {"name": cluster}, "spec": {"hubAcceptsClient": True}})


async def register(hub: Objects, *clusters: str) -> None:
    """The same, with the namespaces that Open Cluster Management makes for them."""
    for cluster in clusters:
        await hub.create(NAMESPACE, {"metadata": {"name": cluster}})
    await join(hub, *clusters)


async def works(hub: Objects) -> list[tuple[str, str]]:
    """Cluster and run of each work of ours."""
    return [(work["metadata"]["namespace"], work["metadata"]["name"]) for work in await hub.all(MANIFEST_WORK, labels=LABELS)]


async def until_works(hub: Objects, *expected: tuple[str, str]) -> None:
    await until(lambda: works(hub), sorted(expected))


async def until(look: Callable[[], Any], expected: Any) -> None:
    """Wait until what is there is what is expected. Looking at a real hub is work, so it is done ever less often."""
    give_up = asyncio.get_running_loop().time() + WAIT_SECONDS
    pause_seconds = LOOK_SECONDS_MIN
    while (seen := await look()) != expected:
        assert asyncio.get_running_loop().time() < give_up, f"{seen} is not {expected} after {WAIT_SECONDS} s"
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(1.5 * pause_seconds, LOOK_SECONDS_MAX)


def status(applied: bool = True, message: str = "", **said: int | str) -> Object:
    """A work's status as Open Cluster Management's agent writes it, with what it reports of the Job."""
    assert said.keys() <= FEEDBACK.keys()
    moment = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    reason = "AppliedManifestComplete" if applied else "AppliedManifestFailed"
    condition = {"type": "Applied", "status": str(applied), "reason": reason, "message": message, "lastTransitionTime": moment}
    values = [
        {
            "name": name,
            "fieldValue": {"type": "Integer", "integer": value} if isinstance(value, int) else {"type": "String", "string": value},
        }
        for name, value in said.items()
    ]
    meta = {"ordinal": 0, "group": "batch", "version": "v1", "kind": "Job", "resource": "jobs"}
    manifest = {"resourceMeta": meta, "conditions": [condition], "statusFeedback": {"values": values}}
    return {"conditions": [condition], "resourceStatus": {"manifests": [manifest]}}


async def report(hub: Objects, cluster: str, run: str, reported: Mapping[str, Any]) -> None:
    """What a cluster's agent says of a work."""
    await hub.merge(MANIFEST_WORK, run, {"status": dict(reported)}, cluster, subresource="status")


@asynccontextmanager
async def scheduler(log: Log, hub: Objects, outfit: Outfit = OUTFIT, patience: Patience = PATIENCE) -> AsyncIterator[None]:
    """A scheduler's part that sends works."""
    clusters = Informer(hub, MANAGED_CLUSTER)
    async with alive(clusters.run(), deliver(log, hub, clusters, outfit, Sending(patience, tick_seconds=0.02))):
        yield


@asynccontextmanager
async def alive(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Parts of a service that go on as long as the block; whatever one dies of is raised."""
    running = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        died = [part for part in running if part.done()]
        for part in running:
            part.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert not died, ended
