"""A whole run on clusters of a hub: works carry the collaborators there, a stock Flower app answers beside them, and nothing is left."""

import asyncio
import sys
import tempfile
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apiserver import Server
from conftest import NatsServer
from federation_story import ended, submit
from machine_story import TINY_APP, app_python
from work_agent import Image, WorkAgent, agent
from work_story import learning, register, scheduler, until_works

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.runtime.kubernetes import open_cluster
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.objects import Objects
from fedplane.runtime.replica import Replica
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.runs import Scheduler
from fedplane.scheduler.standing import Patience
from fedplane.schemas.facts import Advertised, Completed, Contributed, Declined

CLUSTERS = ("hospital-a", "hospital-b")


@pytest.fixture(params=["a hub in this process", "a real API server"])
def kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """Of the real one; None stands for the other."""
    server: Server | None = request.getfixturevalue("hub_server") if request.param == "a real API server" else None
    return server.kubeconfig if server else None


def opened(kubeconfig: Path | None) -> AbstractAsyncContextManager[Objects]:
    return open_cluster(str(kubeconfig)) if kubeconfig else nullcontext(MemoryCluster())


async def test_a_run_completes_on_clusters_that_have_nothing_but_an_agent(nats_server: NatsServer, kubeconfig: Path | None) -> None:
    outfit = Outfit("ours:1", nats_server.url)
    images = {"ours:1": Image(Path(sys.executable)), "tiny:1": Image(app_python(), TINY_APP)}
    resource = learning(
        "tiny", client={"image": "tiny:1"}, server={"rounds": 2, "minAvailableClients": 2}, rounds={"deadlineSeconds": 60, "attempts": 1}
    )
    with tempfile.TemporaryDirectory(prefix="fp") as directory:
        async with (
            opened(kubeconfig) as hub,
            open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
            AsyncExitStack() as everything,
        ):
            await register(hub, *CLUSTERS)
            for cluster in CLUSTERS:
                at = datetime.now(UTC)
                await bus.log.state(Advertised(cluster=cluster, at=at, lease_seconds=600, claims={"data": f"/data/{cluster}"}))
                here = WorkAgent(hub, cluster, Path(directory, cluster), images)
                await everything.enter_async_context(agent(here))
            await everything.enter_async_context(scheduler(bus.log, hub, outfit, Patience(60, 60)))
            tasks = await everything.enter_async_context(asyncio.TaskGroup())
            settings = AggregatorSettings(shard_bytes=80_000, chunk_bytes=8_000)
            services = [tasks.create_task(each) for each in (Replica(Scheduler(), bus.log).run(), aggregate(bus, settings))]
            try:
                facts = await ended(bus, await submit(bus, resource), 90)
                await until_works(hub)
            finally:
                for service in services:
                    service.cancel()

    assert isinstance(facts[-1], Completed), facts[-1]
    assert [fact for fact in facts if isinstance(fact, Declined)] == []
    assert {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)} >= {(1, cluster) for cluster in CLUSTERS}
