"""A run whose object asks for a listener, with everything real but kubelets: its clusters reach the bus there and nowhere else."""

import socket
from pathlib import Path

import pytest
from apiserver import Server
from conftest import NatsServer
from hub_federation import hub_federation
from work_story import until

from fedplane.runtime.kinds import SERVICE
from fedplane.scheduler.works import LABELS
from fedplane.schemas.facts import Contributed, Declined, Exposed

pytestmark = pytest.mark.app

CLUSTERS = {cluster: {"data": f"/data/{cluster}"} for cluster in ("hospital-a", "hospital-b")}


def free_node_port() -> int:
    for port in range(30000, 32768):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("every node port of this machine is in use")


async def test_clusters_reach_the_bus_by_the_listener_that_the_object_asks_for(hub_server: Server, tmp_path: Path) -> None:
    bus = NatsServer(tmp_path / "nats", port=free_node_port())
    bus.start()
    listener = {"name": "server-listener", "type": "NodePort", "port": bus.port, "ip": "127.0.0.1"}
    nowhere = "nats://127.0.0.1:9"
    try:
        async with hub_federation(hub_server, bus, CLUSTERS, outside_url=nowhere, listen_namespace="default") as it:
            run = await it.apply(server={"rounds": 1, "minAvailableClients": 2, "listeners": [listener]})
            seen = await it.until_phase("tiny", "Completed")
            facts = await it.facts(run)
            await it.kubectl("delete", "federatedlearning", "tiny", "--timeout=60s")
            await it.until_nothing_is_left(run)
            await until(lambda: it.hub.all(SERVICE, "default", LABELS), [])
    finally:
        bus.stop()

    assert seen["status"]["listeners"] == [
        {
            "address": f"127.0.0.1:{bus.port}",
            "name": f"listener(service):listener-nodeport-{bus.port}",
            "port": bus.port,
            "type": "NodePort",
        }
    ]
    assert {"Exposed": "True"}.items() <= {each["type"]: each["status"] for each in seen["status"]["conditions"]}.items()
    assert {fact.cluster for fact in facts if isinstance(fact, Contributed)} == set(CLUSTERS)
    assert ([fact for fact in facts if isinstance(fact, Declined)], len([fact for fact in facts if isinstance(fact, Exposed)])) == ([], 1)
