"""Open Cluster Management's objects through the port, on a server that has its definitions."""

import asyncio

from apiserver import Server

from fedplane.runtime.kinds import MANAGED_CLUSTER, MANIFEST_WORK, NAMESPACE
from fedplane.runtime.kubernetes import open_cluster


async def test_a_cluster_is_registered_reports_itself_and_is_given_work(hub_server: Server) -> None:
    async with open_cluster(str(hub_server.kubeconfig)) as hub:
        watch = hub.watch(MANAGED_CLUSTER, labels={"test": "hub"})
        await asyncio.wait_for(anext(watch), 10)

        await hub.create(NAMESPACE, {"metadata": {"name": "registered-a"}})
        head = {"metadata": {"name": "registered-a", "labels": {"test": "hub"}}}
        await hub.apply(MANAGED_CLUSTER, {**head, "spec": {"hubAcceptsClient": True}}, "registration")
        claims = [{"name": "mnist.client-data", "value": "/data"}]
        await hub.apply(MANAGED_CLUSTER, {**head, "status": {"clusterClaims": claims, "conditions": []}}, "agent", subresource="status")
        added, reported = [await asyncio.wait_for(anext(watch), 10) for _ in range(2)]

        assert (added.type.value, added.object["spec"]["hubAcceptsClient"]) == ("ADDED", True)
        assert (reported.type.value, reported.object["status"]["clusterClaims"]) == ("MODIFIED", claims)

        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}, "data": {"a": "b"}}
        work = {"metadata": {"name": "mnist", "namespace": "registered-a"}, "spec": {"workload": {"manifests": [manifest]}}}
        await hub.apply(MANIFEST_WORK, work, "scheduler")
        stored = await hub.get(MANIFEST_WORK, "mnist", "registered-a")

        assert stored is not None
        assert stored["spec"]["workload"]["manifests"] == [manifest]
        assert await hub.delete(MANIFEST_WORK, "mnist", "registered-a", uid=stored["metadata"]["uid"])
