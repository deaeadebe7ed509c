"""Objects ask for listeners: a hub's clusters reach the bus by them, runs share them, and the last one takes them along."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hub_story import ask, enlist, make_set, once, said, tending
from work_story import begin, declined, invite, learning, now, until, until_works

from fedplane.runtime.kinds import FEDERATED_LEARNING, INGRESS, MANIFEST_WORK, NODE, ROUTE, SERVICE
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Kind, Object, Objects, Subresource
from fedplane.scheduler.exposing import Exposing
from fedplane.scheduler.listeners import Entrance
from fedplane.scheduler.listening import Expose, Listening, Withdraw
from fedplane.schemas.facts import Cancelled, Exposed, Failed, Submitted
from fedplane.schemas.models import Exposure

PORT = {"name": "server-listener", "port": 31531, "type": "NodePort"}
BALANCER = {"port": 8080, "type": "LoadBalancer"}
AT_NODE = Exposure(name="listener-nodeport-31531", type="NodePort", address="172.18.0.2:31531", port=31531)
NOT_YET = "the load balancer has no address yet; does the hub have something that makes load balancers?"


async def hub_with(*clusters: str) -> tuple[MemoryBus, MemoryCluster]:
    bus, hub = MemoryBus(), MemoryCluster()
    await make_set(hub)
    await enlist(hub, *clusters)
    await hub.create(NODE, {"metadata": {"name": "node-1"}})
    addresses = [{"type": "InternalIP", "address": "172.18.0.2"}]
    status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses}
    await hub.merge(NODE, "node-1", {"status": status}, subresource="status")
    return bus, hub


async def listeners(hub: Objects, kind: Kind = SERVICE) -> list[str]:
    return [body["metadata"]["name"] for body in await hub.all(kind, "fedplane")]


async def bus_url(hub: Objects, cluster: str, run: str) -> str:
    """What the work tells its collaborator."""
    body = await hub.get(MANIFEST_WORK, run, cluster)
    assert body is not None
    (job,) = body["spec"]["workload"]["manifests"]
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(str(each["value"]) for each in environment if each["name"] == "FEDPLANE_NATS_URL")


async def balanced(hub: Objects, name: str, **entry: str) -> None:
    """A cloud gives the balancer an address."""
    await hub.merge(SERVICE, name, {"status": {"loadBalancer": {"ingress": [entry]}}}, "fedplane", subresource="status")


async def test_a_node_port_is_opened_and_clusters_are_told_its_address() -> None:
    bus, hub = await hub_with("a", "b")
    async with tending(bus.log, hub, bus="fedplane"):
        run = await ask(hub, server={"listeners": [PORT]})
        exposed = await once(bus.log, run, Exposed)
        await until_works(hub, ("a", run), ("b", run))
        urls = [await bus_url(hub, cluster, run) for cluster in "ab"]
        other = await ask(hub, "other")
        await until_works(hub, ("a", other), ("a", run), ("b", other), ("b", run))
        without = await bus_url(hub, "a", other)

    assert (exposed.number, exposed.listeners, exposed.pending) == (1, (AT_NODE,), {})
    assert urls == ["nats://172.18.0.2:31531"] * 2
    assert without == "nats://hub.example.org:4222"


async def test_objects_that_ask_for_the_same_share_it_and_the_last_one_takes_it_along() -> None:
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub, bus="fedplane"):
        first, second = [await ask(hub, name, server={"listeners": [PORT]}) for name in ("first", "second")]
        for run in (first, second):
            await once(bus.log, run, Exposed)
        shared = await hub.get(SERVICE, "listener-nodeport-31531", "fedplane")
        await hub.delete(FEDERATED_LEARNING, "first", "default")
        await once(bus.log, first, Cancelled)
        await until(lambda: asker(hub), second)
        kept = await hub.get(SERVICE, "listener-nodeport-31531", "fedplane")
        await bus.log.state(Failed(run=second, at=now(), reason="X", message="x"))
        await until(lambda: listeners(hub), [])
        told = [len(await said(bus.log, run, Exposed)) for run in (first, second)]

    assert shared["metadata"]["uid"] == kept["metadata"]["uid"]
    assert told == [1, 1]


async def asker(hub: Objects) -> str:
    body = await hub.get(SERVICE, "listener-nodeport-31531", "fedplane")
    return "" if body is None else str(body["metadata"]["labels"]["fedplane.io/run"])


async def test_clusters_get_their_works_when_the_last_listener_has_an_address() -> None:
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub, bus="fedplane"):
        run = await ask(hub, server={"listeners": [PORT, BALANCER]})
        first = await once(bus.log, run, Exposed)
        await asyncio.sleep(0.2)
        before = await hub.all(MANIFEST_WORK)
        await balanced(hub, "listener-loadbalancer-8080", hostname="lb.example.org")
        await until_works(hub, ("a", run))
        url = await bus_url(hub, "a", run)
        last = (await said(bus.log, run, Exposed))[-1]

    assert (first.listeners, first.pending) == ((AT_NODE,), {"listener-loadbalancer-8080": NOT_YET})
    assert before == []
    assert url == "nats://lb.example.org:8080"
    assert (last.number, last.pending) == (2, {})
    assert last.listeners[1] == Exposure(name="listener-loadbalancer-8080", type="LoadBalancer", address="lb.example.org:8080")


async def test_a_route_and_an_ingress_lead_to_a_service_of_their_own_and_are_reached_by_tls() -> None:
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub, bus="fedplane"):
        routed = await ask(hub, "routed", server={"listeners": [{"type": "Route"}]})
        guarded = await ask(hub, "guarded", server={"listeners": [{"type": "Ingress", "name": "nats.example.org"}]})
        for run in (routed, guarded):
            await once(bus.log, run, Exposed)
        (ingress,) = await listeners(hub, INGRESS)
        entry = {"host": "nats.apps.example.org", "conditions": [{"type": "Admitted", "status": "True"}]}
        await hub.merge(ROUTE, "listener-route-443", {"status": {"ingress": [entry]}}, "fedplane", subresource="status")
        taken = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
        await hub.merge(INGRESS, ingress, {"status": taken}, "fedplane", subresource="status")
        await until_works(hub, ("a", guarded), ("a", routed))
        urls = [await bus_url(hub, "a", run) for run in (routed, guarded)]
        services = await listeners(hub)
        for name in ("routed", "guarded"):
            await hub.delete(FEDERATED_LEARNING, name, "default")
        for kind in (SERVICE, ROUTE, INGRESS):
            await until(lambda kind=kind: listeners(hub, kind), [])

    assert urls == ["tls://nats.apps.example.org:443", "tls://nats.example.org:443"]
    assert services == [ingress, "listener-route-443"]


@pytest.mark.parametrize(
    ("listener", "namespace", "why"),
    [
        (BALANCER, "fedplane", f"listener listener-loadbalancer-8080 has no address yet: {NOT_YET}"),
        (PORT, "", "the scheduler does not know in which namespace the bus is: set its FEDPLANE_LISTEN_NAMESPACE"),
    ],
)
async def test_a_cluster_that_cannot_be_told_an_address_declines_with_the_reason(
    listener: dict[str, Any], namespace: str, why: str
) -> None:
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub, bus=namespace):
        await begin(bus.log, "r-1", "a", resource=learning(server={"listeners": [listener]}))
        await invite(bus.log, "r-1", "a")
        answer = await declined(bus.log, "r-1", "a")

    assert answer.reason == "not-sent"
    assert answer.message.startswith("the bus had no address for the cluster for 0.5 s: listener listener-")
    assert why in answer.message


async def test_a_service_of_somebody_else_is_left_alone_and_one_that_is_being_deleted_is_waited_for() -> None:
    bus, hub = await hub_with("a")
    theirs = await hub.create(SERVICE, {"metadata": {"name": "listener-nodeport-31531", "namespace": "fedplane"}, "spec": {}})
    async with tending(bus.log, hub, bus="fedplane"):
        balancer = await ask(hub, "balancer", server={"listeners": [BALANCER]})
        await once(bus.log, balancer, Exposed)
        await hub.merge(SERVICE, "listener-loadbalancer-8080", {"metadata": {"finalizers": ["cloud/cleanup"]}}, "fedplane")
        await hub.delete(FEDERATED_LEARNING, "balancer", "default")
        await until(lambda: is_leaving(hub), True)
        run = await ask(hub, server={"listeners": [PORT, BALANCER]})
        first = await once(bus.log, run, Exposed)
        await hub.merge(SERVICE, "listener-loadbalancer-8080", {"metadata": {"finalizers": []}}, "fedplane")
        await until(lambda: pending(bus, run), NOT_YET)

    assert first.pending == {
        "listener-nodeport-31531": (
            "the Service fedplane/listener-nodeport-31531 is somebody else's; delete it, or choose another port for the listener"
        ),
        "listener-loadbalancer-8080": "the Service fedplane/listener-loadbalancer-8080 of an earlier run is still being deleted",
    }
    assert await hub.get(SERVICE, "listener-nodeport-31531", "fedplane") == theirs


async def is_leaving(hub: Objects) -> bool:
    body = await hub.get(SERVICE, "listener-loadbalancer-8080", "fedplane")
    return body is not None and "deletionTimestamp" in body["metadata"]


async def pending(bus: MemoryBus, run: str) -> str | None:
    why: str | None = (await said(bus.log, run, Exposed))[-1].pending.get("listener-loadbalancer-8080")
    return why


async def test_two_schedulers_say_it_once_and_write_nothing_in_turn() -> None:
    bus, hub = await hub_with("a")
    async with AsyncExitStack() as both:
        for _ in range(2):
            await both.enter_async_context(tending(bus.log, hub, bus="fedplane"))
        runs = [await ask(hub, f"r{number}", server={"listeners": [PORT, BALANCER]}) for number in range(3)]
        for run in runs:
            await once(bus.log, run, Exposed)
        before = await versions(hub)
        await asyncio.sleep(4)  # the balancer is looked at again
        after = await versions(hub)
        told = [len(await said(bus.log, run, Exposed)) for run in runs]

    assert before == after
    assert told == [1, 1, 1]


async def versions(hub: Objects) -> list[str]:
    return [body["metadata"]["resourceVersion"] for body in await hub.all(SERVICE, "fedplane")]


async def test_schedulers_that_are_killed_at_any_time_leave_nothing() -> None:
    bus, hub = await hub_with("a")
    run = await ask(hub, server={"listeners": [PORT]})

    async def killed_often_until(reached: Any) -> None:
        for milliseconds in [*range(0, 60, 5), *[2000] * 5]:
            if await reached():
                return
            async with tending(bus.log, hub, bus="fedplane"):
                await asyncio.sleep(milliseconds / 1000)
        raise AssertionError("not reached")

    async def open_to_clusters() -> bool:
        return len(await hub.all(MANIFEST_WORK)) == 1

    async def closed() -> bool:
        return await listeners(hub) == [] and await hub.get(FEDERATED_LEARNING, "r", "default") is None

    await killed_often_until(open_to_clusters)
    await hub.delete(FEDERATED_LEARNING, "r", "default")
    await killed_often_until(closed)

    assert [len(await said(bus.log, run, kind)) for kind in (Submitted, Exposed, Cancelled)] == [1, 1, 1]


class Counting(MemoryCluster):
    """A hub that counts what is applied."""

    applied = 0

    async def apply(self, kind: Kind, body: Object, manager: str, *, subresource: Subresource = "", force: bool = False) -> Object:
        """See `Objects.apply`."""
        self.applied += 1
        return await super().apply(kind, body, manager, subresource=subresource, force=force)


async def test_a_listener_that_is_as_it_should_be_is_not_written_again_and_one_that_somebody_changed_is() -> None:
    bus, hub = MemoryBus(), Counting()
    await begin(bus.log, "r-1", "a", resource=learning(server={"listeners": [PORT]}))
    exposing, entrance = Exposing(bus.log, hub, Listening("fedplane"), now), Entrance("NodePort", 31531, "10.0.0.1")
    written = []
    for change in ({}, {"metadata": {"annotations": {"theirs": "x"}}}, {"spec": {"type": "ClusterIP"}}, {}):
        if change:
            await hub.merge(SERVICE, entrance.name, change, "fedplane")
        await exposing(Expose(entrance, "r-1"))
        written.append(hub.applied)
    body = await hub.get(SERVICE, entrance.name, "fedplane")

    assert written == [1, 1, 2, 2]
    assert body is not None
    assert (body["spec"]["type"], body["metadata"]["annotations"]) == ("NodePort", {"theirs": "x"})


async def test_a_scheduler_that_has_fallen_behind_deletes_nothing_of_a_live_run_and_makes_nothing_for_one_that_has_ended() -> None:
    bus, hub = await hub_with("a")
    await begin(bus.log, "live", "a", resource=learning(server={"listeners": [PORT]}))
    await begin(bus.log, "ended", "a", resource=learning(server={"listeners": [BALANCER]}))
    await bus.log.state(Failed(run="ended", at=now(), reason="X", message="x"))
    core = Listening("fedplane")
    behind = Exposing(bus.log, hub, core, now)

    await behind(Expose(Entrance("NodePort", 31531), "live"))
    await behind(Expose(Entrance("LoadBalancer", 8080), "ended"))
    await behind(Withdraw(frozenset()))

    assert await listeners(hub) == ["listener-nodeport-31531"]
    assert (core.hub.sights, core.hub.there) == ({}, {"listener-nodeport-31531"})


async def test_an_outage_of_the_hub_changes_nothing_that_was_said() -> None:
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub, bus="fedplane"):
        run = await ask(hub, server={"listeners": [PORT, BALANCER]})
        await once(bus.log, run, Exposed)
        await hub.reach(False)
        await asyncio.sleep(3)
        await hub.reach(True)
        await balanced(hub, "listener-loadbalancer-8080", ip="10.1.1.1")
        await until_works(hub, ("a", run))
        told = await said(bus.log, run, Exposed)

    assert [(each.number, [listener.address for listener in each.listeners]) for each in told] == [
        (1, ["172.18.0.2:31531"]),
        (2, ["172.18.0.2:31531", "10.1.1.1:8080"]),
    ]
