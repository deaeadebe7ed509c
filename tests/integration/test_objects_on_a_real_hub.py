"""A whole scheduler on a real API server and a real bus: objects made, edited, deleted, with the server killed in between."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import NOBODY, ApiServer, Server
from conftest import NatsServer, our_crd
from hub_story import ask, decided, edit, enlist, make_set, once, said, tending, until_gone
from rights_story import granted_as_deployed
from work_story import until, until_works

from fedplane.runtime.errors import Invalid
from fedplane.runtime.kinds import FEDERATED_LEARNING, MANAGED_CLUSTER, MANIFEST_WORK, NAMESPACE, PLACEMENT, PLACEMENT_DECISION
from fedplane.runtime.kubernetes import Patience, open_cluster
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.objects import Objects
from fedplane.scheduler.wishes import FINALIZER
from fedplane.scheduler.works import RUN_LABEL
from fedplane.schemas.facts import Advertised, Cancelled, EditRefused, Failed, Scheduled, Submitted

QUICK = Patience(pause_min_seconds=0.05, pause_max_seconds=0.2)


@pytest.fixture
def hub_alone(tmp_path: Path, ocm_crds: dict[str, dict[str, Any]]) -> Iterator[ApiServer]:
    """An API server that a test may kill."""
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        pytest.skip("KUBEBUILDER_ASSETS does not name a folder with etcd and kube-apiserver; see CONTRIBUTING.md")
    server = ApiServer(tmp_path / "kubernetes", Path(os.environ["KUBEBUILDER_ASSETS"]))
    try:
        server.start()
        server.install(ocm_crds | our_crd())
        yield server
    finally:
        server.stop()


async def populate(hub: Objects, *clusters: str, namespace: str = "default", of: str = "eu") -> None:
    """Clusters with a namespace each, in a set that the namespace may use."""
    for name in (*clusters, namespace):
        if await hub.get(NAMESPACE, name) is None:
            await hub.create(NAMESPACE, {"metadata": {"name": name}})
    await make_set(hub, namespace, of)
    await enlist(hub, *clusters, of=of)


async def clear(hub: Objects, *clusters: str) -> None:
    for name in clusters:
        await hub.delete(MANAGED_CLUSTER, name)


async def test_an_object_is_placed_shown_edited_and_deleted_on_a_real_hub(hub_server: Server, nats_server: NatsServer) -> None:
    async with (
        open_cluster(str(hub_server.kubeconfig)) as hub,
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await populate(hub, "object-a", "object-b", of="real")
        await populate(hub, "other-a", namespace="elsewhere", of="other")
        async with tending(bus.log, hub), tending(bus.log, hub):
            run = await ask(hub, server={"rounds": 2})
            placed = await once(bus.log, run, Scheduled)
            await until_works(hub, ("object-a", run), ("object-b", run))
            await until(lambda: decided(hub), ["object-a", "object-b"])
            placement = await hub.get(PLACEMENT, "r", "default")
            there = [len(await hub.all(kind, labels={RUN_LABEL: run})) for kind in (PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)]
            first = await hub.get(FEDERATED_LEARNING, "r", "default")
            advertised = await bus.log.read(Advertised.pattern(cluster="other-a"))
            await edit(hub, "r", server={"rounds": 4})
            refused = await once(bus.log, run, EditRefused)

            await hub.delete(FEDERATED_LEARNING, "r", "default")
            await until_gone(hub)
            left = [await hub.all(kind, labels={RUN_LABEL: run}) for kind in (PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)]
        await clear(hub, "object-a", "object-b", "other-a")

    assert [(chosen.cluster, chosen.data) for chosen in placed.participants] == [
        ("object-a", "/data/object-a"),
        ("object-b", "/data/object-b"),
    ]
    assert placement is not None
    assert placement["status"]["numberOfSelectedClusters"] == 2
    assert first is not None
    assert first["metadata"]["finalizers"] == [FINALIZER]
    assert advertised is not None
    assert isinstance(advertised.fact, Advertised)
    assert (advertised.fact.managed, advertised.fact.allocatable) == (True, {"cpu": "8", "memory": "32Gi"})
    assert "spec.server.rounds is 2 and not 4" in refused.message
    assert (there, left) == ([1, 1, 2], [[], [], []])


async def test_hostile_objects_fail_with_a_reason_or_are_refused_by_the_server_and_others_go_on(
    hub_server: Server, nats_server: NatsServer
) -> None:
    async with (
        open_cluster(str(hub_server.kubeconfig)) as hub,
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await populate(hub, "h-a", of="hostile")
        long = ".".join(["n" * 60] * 4) + ".z"
        specs: dict[str, dict[str, Any]] = {
            "big.one": {"server": {"image": "x" * 950_000}},
            "text": {"config": {"note": "\x00\ufffe\u202e'; DROP TABLE runs; --" + "x" * 1000}},
            "quantity": {"resources": {"requests": {"cpu": "1e999999999"}}},
            "claims": {"data": {"claim": "../../etc/passwd"}},
            "many": {"server": {"minAvailableClients": 9}, "client": {"placement": {"numberOfClusters": 1}}},
            long: {},
        }
        runs: dict[str, str] = {}
        async with tending(bus.log, hub):
            for name, spec in specs.items():
                try:
                    runs[name] = await ask(hub, name, **spec)
                except Invalid as error:  # by the definition's rules, as for whoever applies it
                    assert name in str(error)
            for name in ("big.one", "many"):
                assert (await once(bus.log, runs[name], Failed)).reason == "BadRequest"
            await once(bus.log, runs[long], Scheduled)
            for name, run in runs.items():
                await once(bus.log, run, Submitted)
                await hub.delete(FEDERATED_LEARNING, name, "default")
                await until_gone(hub, name)
        await clear(hub, "h-a")

    assert {"big.one", "text", "claims", "many", long} <= runs.keys()


async def test_a_server_that_is_killed_in_between_changes_nothing(hub_alone: ApiServer, nats_server: NatsServer) -> None:
    async with (
        open_cluster(str(hub_alone.kubeconfig), patience=QUICK) as hub,
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await populate(hub, "a", "b")
        async with tending(bus.log, hub):
            run = await ask(hub)
            hub_alone.kill()
            await asyncio.to_thread(hub_alone.start)
            await once(bus.log, run, Scheduled)
            await until_works(hub, ("a", run), ("b", run))
            await until(lambda: decided(hub), ["a", "b"])
            await hub.delete(FEDERATED_LEARNING, "r", "default")
            hub_alone.kill()
            await asyncio.to_thread(hub_alone.start)
            await until_gone(hub)
        left = [await hub.all(kind) for kind in (PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)]

    assert left == [[], [], []]
    assert [len(await_said) for await_said in await facts(nats_server, run)] == [1, 1, 1]


async def facts(server: NatsServer, run: str) -> list[list[Any]]:
    async with open_bus(server.url, name="test", source="/test", limits=Limits()) as bus:
        return [await said(bus.log, run, kind) for kind in (Submitted, Scheduled, Cancelled)]


async def test_the_service_itself_takes_objects_in_and_two_of_them_killed_at_any_time_lose_none(
    hub_server: Server, nats_server: NatsServer
) -> None:
    settings = {"FEDPLANE_NATS_URL": nats_server.url, "FEDPLANE_INSECURE": "true", "FEDPLANE_KUBERNETES": str(hub_server.kubeconfig)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "fedplane.scheduler.main"], env={**os.environ, **settings})

    async with (
        open_cluster(str(hub_server.kubeconfig)) as hub,
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await populate(hub, "s-a", of="served")
        services = [start(), start()]
        try:
            runs = [await ask(hub, f"s{number}", client={}) for number in range(3)]
            await once(bus.log, runs[0], Submitted)
            services[0].send_signal(signal.SIGKILL)
            for run in runs:
                await once(bus.log, run, Scheduled)
            for number in range(3):
                await hub.delete(FEDERATED_LEARNING, f"s{number}", "default")
            services[1].send_signal(signal.SIGKILL)
            services.append(start())
            for number in range(3):
                await until_gone(hub, f"s{number}")
        finally:
            for service in services:
                service.kill()
                service.wait()
        await clear(hub, "s-a")

    assert [len(each) for run in runs for each in await facts(nats_server, run)] == [1, 1, 1] * 3


async def test_the_rights_of_the_manifests_are_enough_and_without_them_nothing_is_placed(api_server: ApiServer, hub_server: Server) -> None:
    bus = MemoryBus()
    kubeconfig = api_server.directory / "kubeconfig-of-the-scheduler"
    api_server.write_kubeconfig(kubeconfig, NOBODY, api_server.port)
    quick = Patience(refusal_seconds=0.1)
    async with open_cluster(str(hub_server.kubeconfig)) as hub, open_cluster(str(kubeconfig), patience=quick) as seen_by_the_scheduler:
        await populate(hub, "g-a", of="guarded")
        async with tending(bus.log, seen_by_the_scheduler):
            run = await ask(hub, "g")
            await asyncio.sleep(1)
            without = await said(bus.log, run, Submitted)
        with granted_as_deployed(hub_server, "scheduler"):
            async with tending(bus.log, seen_by_the_scheduler):
                await once(bus.log, run, Scheduled)
                await until_works(hub, ("g-a", run))
                await until(lambda: decided(hub, "g"), ["g-a"])
                await hub.delete(FEDERATED_LEARNING, "g", "default")
                await until_gone(hub, "g")
        await clear(hub, "g-a")

    assert without == []
    assert [len(await said(bus.log, run, kind)) for kind in (Submitted, Scheduled, Cancelled)] == [1, 1, 1]
