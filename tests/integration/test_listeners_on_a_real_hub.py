"""Listeners on a real API server: it allocates the ports, refuses those that are taken, and lets a scheduler do what deploy/ grants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from apiserver import NOBODY, ApiServer, Server
from hub_story import ask, enlist, make_set, once, said, tending
from rights_story import granted_as_deployed
from work_story import now, until, until_works

from fedplane.runtime.kinds import FEDERATED_LEARNING, INGRESS, MANAGED_CLUSTER, NAMESPACE, NODE, SERVICE
from fedplane.runtime.kubernetes import KubernetesCluster, Patience, open_cluster
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.objects import Kind, Object, Objects
from fedplane.scheduler.exposing import Exposing
from fedplane.scheduler.listeners import NODE_PORTS, Entrance
from fedplane.scheduler.listening import Expose, Listening
from fedplane.scheduler.works import LABELS
from fedplane.schemas.facts import Exposed
from fedplane.schemas.models import Exposure

BUS = "fedplane"
PORT = {"name": "server-listener", "port": 31531, "type": "NodePort"}
AT_NODE = Exposure(name="listener-nodeport-31531", type="NodePort", address="172.18.0.2:31531", port=31531)
QUICK = Patience(refusal_seconds=0.1)


@asynccontextmanager
async def hub_with(server: Server, cluster: str) -> AsyncIterator[KubernetesCluster]:
    """A hub with one cluster, and one node that is ready."""
    async with open_cluster(str(server.kubeconfig)) as hub:
        for namespace in (cluster, BUS):
            if await hub.get(NAMESPACE, namespace) is None:
                await hub.create(NAMESPACE, {"metadata": {"name": namespace}})
        await make_set(hub, name=cluster)
        await enlist(hub, cluster, of=cluster)
        await hub.create(NODE, {"metadata": {"name": "node-1"}})
        status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]}
        await hub.merge(NODE, "node-1", {"status": status}, subresource="status")
        try:
            yield hub
        finally:
            await hub.delete(NODE, "node-1")
            await hub.delete(MANAGED_CLUSTER, cluster)
            for body in await hub.all(FEDERATED_LEARNING, "default"):
                await hub.merge(FEDERATED_LEARNING, body["metadata"]["name"], {"metadata": {"finalizers": None}}, "default")
                await hub.delete(FEDERATED_LEARNING, body["metadata"]["name"], "default")


async def listener(hub: Objects, name: str, kind: Kind = SERVICE) -> Object:
    body = await hub.get(kind, name, BUS)
    assert body is not None
    return body


async def versions(hub: Objects) -> list[str]:
    return [body["metadata"]["resourceVersion"] for kind in (SERVICE, INGRESS) for body in await hub.all(kind, BUS, LABELS)]


async def until_none(hub: Objects) -> None:
    async def left() -> list[str]:
        return [body["metadata"]["name"] for kind in (SERVICE, INGRESS) for body in await hub.all(kind, BUS, LABELS)]

    await until(left, [])


async def until_told(bus: MemoryBus, run: str, **pending: str) -> Any:
    async def last() -> dict[str, str]:
        found = await said(bus.log, run, Exposed)
        return {} if not found else {name: why for name, why in found[-1].pending.items()} or {"": "nothing"}

    await until(last, {name.replace("_", "-"): why for name, why in pending.items()} or {"": "nothing"})
    return (await said(bus.log, run, Exposed))[-1]


async def test_two_objects_share_a_node_port_that_the_server_has_allocated(hub_server: Server) -> None:
    bus = MemoryBus()
    async with hub_with(hub_server, "listened-a") as hub, tending(bus.log, hub, bus=BUS), tending(bus.log, hub, bus=BUS):
        runs = [await ask(hub, name, server={"listeners": [PORT]}) for name in ("one", "two")]
        exposed = [await once(bus.log, run, Exposed) for run in runs]
        await until_works(hub, *(("listened-a", run) for run in sorted(runs)))
        made = await listener(hub, "listener-nodeport-31531")
        await hub.delete(FEDERATED_LEARNING, "one", "default")
        await until(lambda: hub.get(FEDERATED_LEARNING, "one", "default"), None)
        kept = await listener(hub, "listener-nodeport-31531")
        await hub.delete(FEDERATED_LEARNING, "two", "default")
        await until_none(hub)

    assert [each.listeners for each in exposed] == [(AT_NODE,)] * 2
    assert kept["metadata"]["uid"] == made["metadata"]["uid"]
    assert (made["spec"]["type"], made["spec"]["ports"]) == (
        "NodePort",
        [{"name": "nats", "protocol": "TCP", "port": 4222, "targetPort": 4222, "nodePort": 31531}],
    )


async def test_a_port_that_is_no_nodes_becomes_one_that_the_server_chooses(hub_server: Server) -> None:
    bus = MemoryBus()
    async with hub_with(hub_server, "listened-h") as hub, tending(bus.log, hub, bus=BUS):
        run = await ask(hub, "chosen", server={"listeners": [{"name": "server-listener", "type": "NodePort"}]})
        (told,) = (await once(bus.log, run, Exposed)).listeners
        await until_works(hub, ("listened-h", run))
        made = await listener(hub, "listener-nodeport-8080")
        await hub.delete(FEDERATED_LEARNING, "chosen", "default")
        await until_none(hub)

    port = made["spec"]["ports"][0]["nodePort"]
    assert port in NODE_PORTS
    assert told == Exposure(name="listener-nodeport-8080", type="NodePort", address=f"172.18.0.2:{port}", port=port)


async def test_a_node_port_that_is_taken_is_said_and_opened_once_it_is_free(hub_server: Server) -> None:
    bus = MemoryBus()
    theirs = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31532}], "selector": {"app": "theirs"}}
    async with hub_with(hub_server, "listened-b") as hub:
        await hub.create(SERVICE, {"metadata": {"name": "theirs", "namespace": "default"}, "spec": theirs})
        async with tending(bus.log, hub, bus=BUS):
            run = await ask(hub, server={"listeners": [{**PORT, "port": 31532}]})
            first = await once(bus.log, run, Exposed)
            await hub.delete(SERVICE, "theirs", "default")
            await until_works(hub, ("listened-b", run))
            last = (await said(bus.log, run, Exposed))[-1]
            await hub.delete(FEDERATED_LEARNING, "r", "default")
            await until_none(hub)

    (why,) = first.pending.values()
    assert why.startswith("another Service of the hub has the node port 31532; choose another port for the listener: could not apply")
    assert "provided port is already allocated" in why
    assert [each.address for each in last.listeners] == ["172.18.0.2:31532"]


async def test_a_balancer_and_an_ingress_wait_for_whoever_serves_them(hub_server: Server) -> None:
    bus = MemoryBus()
    asked = [{"type": "Ingress", "name": "nats.example.org"}, {"type": "LoadBalancer", "port": 4222}]
    served = {"status": {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}}}
    async with hub_with(hub_server, "listened-c") as hub, tending(bus.log, hub, bus=BUS):
        run = await ask(hub, server={"listeners": asked})
        first = await once(bus.log, run, Exposed)
        ingress, balancer = sorted(first.pending)
        await hub.merge(INGRESS, ingress, served, BUS, subresource="status")
        await hub.merge(SERVICE, balancer, served, BUS, subresource="status")
        last = await until_told(bus, run)
        await until_works(hub, ("listened-c", run))
        before = await versions(hub)
        again = Exposing(bus.log, hub, Listening(BUS), now)
        for entrance in (Entrance("Ingress", 443, "nats.example.org"), Entrance("LoadBalancer", 4222)):
            await again(Expose(entrance, run))
        after = await versions(hub)
        rule = (await listener(hub, ingress, INGRESS))["spec"]["rules"][0]
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until_none(hub)

    assert first.listeners == ()
    assert [(each.name, each.address) for each in last.listeners] == [(ingress, "nats.example.org:443"), (balancer, "10.1.1.1:4222")]
    assert rule["host"] == "nats.example.org"
    assert before == after


async def test_a_hub_that_is_not_openshift_says_so_of_a_route(hub_server: Server) -> None:
    bus = MemoryBus()
    async with hub_with(hub_server, "listened-d") as hub, tending(bus.log, hub, bus=BUS):
        run = await ask(hub, server={"listeners": [{"type": "Route"}]})
        exposed = await once(bus.log, run, Exposed)
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until_none(hub)

    why = exposed.pending["listener-route-443"]
    assert why.startswith("the hub does not know what a listener of type Route is made of: could not apply the fields of the Route")


@pytest.mark.parametrize("missing", ["services", "nodes"])
async def test_the_rights_of_the_manifests_are_enough_and_without_them_the_reason_is_said(
    missing: str, api_server: ApiServer, hub_server: Server
) -> None:
    bus = MemoryBus()
    kubeconfig = api_server.directory / "kubeconfig-of-the-listener"
    api_server.write_kubeconfig(kubeconfig, NOBODY, api_server.port)
    home = BUS if missing == "nodes" else ""
    listeners = [PORT, {"type": "LoadBalancer", "port": 4222}, {"type": "Ingress", "name": "nats.example.org"}]
    async with hub_with(hub_server, "listened-e") as hub, open_cluster(str(kubeconfig), patience=QUICK) as seen_by_the_scheduler:
        with granted_as_deployed(hub_server, "scheduler", home, without=missing):
            async with tending(bus.log, seen_by_the_scheduler, bus=BUS):
                run = await ask(hub, server={"listeners": listeners})
                refused = await once(bus.log, run, Exposed)
        with granted_as_deployed(hub_server, "scheduler", BUS):
            async with tending(bus.log, seen_by_the_scheduler, bus=BUS):
                await until(lambda: addresses(bus, run), ["172.18.0.2:31531"])
                await hub.delete(FEDERATED_LEARNING, "r", "default")
                await until_none(hub)

    why = refused.pending["listener-nodeport-31531"]
    assert why.startswith("grant the scheduler what deploy/base/rbac.yaml says: could not")
    assert f'resource "{missing}"' in why


async def addresses(bus: MemoryBus, run: str) -> list[str]:
    return [each.address for each in (await said(bus.log, run, Exposed))[-1].listeners]
