"""Works on a real API server that has Open Cluster Management's definitions: taken as they are, written once, deleted."""

import asyncio
import os
import sys
from collections.abc import MutableMapping, MutableSequence
from dataclasses import replace
from typing import Any

import pytest
from apiserver import NOBODY, ApiServer, Server
from conftest import NatsServer
from rights_story import granted
from structlog.testing import capture_logs
from work_story import OUTFIT, begin, declined, invite, join, learning, now, register, report, scheduler, status, until, until_works

from fedplane.runtime.kinds import CONFIG_MAP, JOB, MANAGED_CLUSTER, MANIFEST_WORK, NAMESPACE
from fedplane.runtime.kubernetes import Patience, open_cluster
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.scheduler.delivering import MANAGER
from fedplane.scheduler.works import NAMESPACE as ON_THE_CLUSTER
from fedplane.scheduler.works import work
from fedplane.schemas.facts import Cancelled
from fedplane.schemas.models import Chosen

SECURE = replace(OUTFIT, bus_url="tls://hub.example.org:4222", authority="-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
LOOKS = [{"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["list", "watch"]} for kind in (MANIFEST_WORK, MANAGED_CLUSTER)]

HOSTILE = '"; rm -rf / #$(FEDPLANE_NATS_URL)\n\r\t--socket=/etc\u202e' + "x" * 900
TEMPLATES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing special": ({}, "/data/a"),
    "a hostile claim": ({}, HOSTILE),
    "everything": (
        {
            "env": [{"name": "A", "value": "$(B)"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "data": {"mountPath": "/data"},
            "imagePullSecrets": [{"name": "pull"}],
        },
        "/data/a",
    ),
    "data of a claim": ({"data": {"source": "PersistentVolumeClaim"}}, "images"),
}


def work_of(cluster: str, run: str, template: dict[str, Any], data: str) -> dict[str, Any]:
    resources = {"requests": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1}, "limits": {"memory": "2Gi"}}
    resource = learning(client={"image": "app:1", "template": template}, resources=resources)
    return work(run, resource, Chosen(cluster=cluster, score=0, terms=(), data=data), SECURE)


def without_times(held: dict[str, Any]) -> dict[str, Any]:
    """The object, but for when who applied it: a server before 1.22 writes that down anew if a second has begun meanwhile."""
    kept = {name: value for name, value in held["metadata"].items() if name not in ("managedFields", "resourceVersion")}
    return {**held, "metadata": kept}


@pytest.mark.parametrize(("number", "template", "data"), [(n, *each) for n, each in enumerate(TEMPLATES.values())], ids=TEMPLATES)
async def test_hub_and_cluster_take_a_work_as_it_is_and_a_second_time_nothing_changes(
    hub_server: Server, number: int, template: dict[str, Any], data: str
) -> None:
    cluster, run = f"taken-{number}", f"r-taken{number}"
    made = work_of(cluster, run, template, data)
    job, authority = made["spec"]["workload"]["manifests"]
    async with open_cluster(str(hub_server.kubeconfig)) as hub:
        await register(hub, cluster)

        first = await hub.apply(MANIFEST_WORK, made, MANAGER)
        await report(hub, cluster, run, status(active=1, ready=1, failedReason="?"))
        second = await hub.apply(MANIFEST_WORK, made, MANAGER)
        third = await hub.apply(MANIFEST_WORK, made, MANAGER)

        if await hub.get(NAMESPACE, ON_THE_CLUSTER) is None:
            await hub.create(NAMESPACE, {"metadata": {"name": ON_THE_CLUSTER}})
        applied = await hub.apply(JOB, job, "work-agent")  # as the cluster's agent does; what the server does not know, it refuses
        known_by = await hub.apply(CONFIG_MAP, authority, "work-agent")
        assert await hub.delete(MANIFEST_WORK, run, cluster, uid=first["metadata"]["uid"])
        assert await hub.get(MANIFEST_WORK, run, cluster) is None

    assert first["spec"]["workload"]["manifests"] == [job, authority]
    assert known_by["data"] == authority["data"]
    assert (second["spec"], second["metadata"]["generation"]) == (first["spec"], 1)
    assert without_times(third) == without_times(second)
    assert told(applied) == told(job)


def told(job: dict[str, Any]) -> list[Any]:
    """What each container is told, without what a server fills in."""
    containers = job["spec"]["template"]["spec"]["containers"]
    return [(each.get("args"), [(said["name"], said.get("value")) for said in each.get("env", ())]) for each in containers]


async def test_a_scheduler_sends_hears_and_removes_works_on_a_real_hub(hub_server: Server) -> None:
    bus = MemoryBus()
    async with open_cluster(str(hub_server.kubeconfig)) as hub:
        await register(hub, "real-a", "real-b")
        async with scheduler(bus.log, hub):
            await begin(bus.log, "r-real", "real-a", "real-b")
            await until_works(hub, ("real-a", "r-real"), ("real-b", "r-real"))
            await report(hub, "real-b", "r-real", status(active=1, ready=1))
            await report(hub, "real-a", "r-real", status(failed=1, failedReason="BackoffLimitExceeded", failedMessage="four times"))
            await invite(bus.log, "r-real", "real-a")
            failed = await declined(bus.log, "r-real", "real-a")
            await hub.delete(MANAGED_CLUSTER, "real-b")
            await until_works(hub, ("real-a", "r-real"))
            await bus.log.state(Cancelled(run="r-real", at=now()))
            await until_works(hub)

    assert (failed.reason, failed.message) == ("failed", "the work has failed on the cluster: four times")


async def test_two_schedulers_change_nothing_that_the_other_wrote(hub_server: Server) -> None:
    bus = MemoryBus()
    async with open_cluster(str(hub_server.kubeconfig)) as hub:
        await register(hub, "two-a")
        async with scheduler(bus.log, hub), scheduler(bus.log, hub):
            await begin(bus.log, "r-two", "two-a")
            await until_works(hub, ("two-a", "r-two"))
            first = await hub.get(MANIFEST_WORK, "r-two", "two-a")
            await asyncio.sleep(0.5)
            assert await hub.get(MANIFEST_WORK, "r-two", "two-a") == first
            await bus.log.state(Cancelled(run="r-two", at=now()))
            await until_works(hub)


async def test_the_service_itself_sends_what_its_settings_say(hub_server: Server, nats_server: NatsServer) -> None:
    settings = {
        "FEDPLANE_NATS_URL": nats_server.url,
        "FEDPLANE_INSECURE": "true",
        "FEDPLANE_KUBERNETES": str(hub_server.kubeconfig),
        "FEDPLANE_COLLABORATOR_IMAGE": "registry.example.org/collaborator:9",
        "FEDPLANE_OUTSIDE_URL": "nats://outside.example.org:4222",
    }
    service = await asyncio.create_subprocess_exec(sys.executable, "-m", "fedplane.scheduler.main", env={**os.environ, **settings})
    async with (
        open_cluster(str(hub_server.kubeconfig)) as hub,
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await register(hub, "served")
        await begin(bus.log, "r-served", "served")
        await until_works(hub, ("served", "r-served"))
        sent = await hub.get(MANIFEST_WORK, "r-served", "served")
        await bus.log.state(Cancelled(run="r-served", at=now()))
        await until_works(hub)
    service.terminate()

    assert await service.wait() == 0
    assert sent is not None
    collaborator = sent["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]["containers"][0]
    assert collaborator["image"] == "registry.example.org/collaborator:9"
    assert {"name": "FEDPLANE_NATS_URL", "value": "nats://outside.example.org:4222"} in collaborator["env"]


async def test_a_cluster_without_a_namespace_on_the_hub_declines_with_the_servers_word(hub_server: Server) -> None:
    bus = MemoryBus()
    async with open_cluster(str(hub_server.kubeconfig)) as hub:
        await join(hub, "homeless")
        async with scheduler(bus.log, hub):
            await begin(bus.log, "r-1", "homeless")
            await invite(bus.log, "r-1", "homeless")
            fact = await declined(bus.log, "r-1", "homeless")

    assert fact.reason == "not-sent"
    assert 'namespaces "homeless" not found' in fact.message


async def test_a_scheduler_that_may_only_look_names_the_permission_that_it_lacks(api_server: ApiServer, hub_server: Server) -> None:
    bus = MemoryBus()
    kubeconfig = api_server.directory / "kubeconfig-that-may-look"
    api_server.write_kubeconfig(kubeconfig, NOBODY, api_server.port)
    async with open_cluster(str(hub_server.kubeconfig)) as hub, open_cluster(str(kubeconfig)) as seen_by_nobody:
        await register(hub, "guarded")
        await begin(bus.log, "r-1", "guarded")
        await invite(bus.log, "r-1", "guarded")
        with granted(hub_server, LOOKS):
            async with scheduler(bus.log, seen_by_nobody):
                fact = await declined(bus.log, "r-1", "guarded")

    assert fact.reason == "not-sent"
    assert "grant the scheduler create and patch on manifestworks, as deploy/base/rbac.yaml does: " in fact.message
    assert 'cannot patch resource "manifestworks"' in fact.message


async def test_a_scheduler_that_may_not_even_look_says_so_and_goes_on(api_server: ApiServer, hub_server: Server) -> None:
    kubeconfig = api_server.directory / "kubeconfig-of-nobody"
    api_server.write_kubeconfig(kubeconfig, NOBODY, api_server.port)
    bus, said = MemoryBus(), "clusters get no work"
    expected = {
        f"{said}{more}; grant the scheduler get, list and watch on {plural}, as deploy/base/rbac.yaml does"
        for more, plural in (("", "manifestworks"), (", and no run is placed", "managedclusters"))
    }
    async with open_cluster(str(kubeconfig), patience=Patience(refusal_seconds=0.1)) as hub:
        with capture_logs() as lines:
            async with scheduler(bus.log, hub):
                await until(lambda: logged(lines, said), expected)
    assert {line["log_level"] for line in lines if line["event"] in expected} == {"error"}


async def logged(lines: MutableSequence[MutableMapping[str, Any]], said: str) -> set[str]:
    return {line["event"] for line in lines if line["event"].startswith(said)}
