"""What each type of listener is made of, where it is reached, and what is wrong with one that cannot be."""

from datetime import UTC, datetime
from typing import Any

import pytest
from work_story import learning

from fedplane.runtime.kinds import INGRESS, ROUTE, SERVICE
from fedplane.scheduler.listeners import TYPES, Entrance, address, entrances, objects, told
from fedplane.scheduler.placement import objections
from fedplane.schemas.facts import Exposed
from fedplane.schemas.models import Exposure

NODE_PORT, BALANCER, ROUTED = Entrance("NodePort", 31531), Entrance("LoadBalancer", 8080), Entrance("Route", 443)
CHOSEN = Entrance("NodePort", 8080)
GUARDED = Entrance("Ingress", 443, "nats.example.org")
HOST_DIGEST = "773993dbbb"
UPSTREAM = {"name": "server-listener", "port": 31531, "type": "NodePort"}


def asking(*listeners: dict[str, Any]) -> Any:
    return learning(server={"listeners": list(listeners)})


def head(name: str, **more: Any) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/part-of": "fedplane",
        "app.kubernetes.io/managed-by": "fedplane-scheduler",
        "fedplane.io/run": "r-1",
    }
    return {"name": name, "namespace": "fedplane", "labels": labels, **more}


def service(type_: str, port: int, **more: int) -> dict[str, Any]:
    return {
        "selector": {"app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/name": "nats"},
        "type": type_,
        "ports": [{"name": "nats", "port": port, "protocol": "TCP", "targetPort": 4222, **more}],
    }


MADE = {
    NODE_PORT: [(SERVICE, {"metadata": head("listener-nodeport-31531"), "spec": service("NodePort", 4222, nodePort=31531)})],
    Entrance("NodePort", 31531, "10.0.0.9"): [
        (SERVICE, {"metadata": head("listener-nodeport-31531"), "spec": service("NodePort", 4222, nodePort=31531)})
    ],
    CHOSEN: [(SERVICE, {"metadata": head("listener-nodeport-8080"), "spec": service("NodePort", 4222)})],
    BALANCER: [(SERVICE, {"metadata": head("listener-loadbalancer-8080"), "spec": service("LoadBalancer", 8080)})],
    ROUTED: [
        (SERVICE, {"metadata": head("listener-route-443"), "spec": service("ClusterIP", 4222)}),
        (
            ROUTE,
            {
                "metadata": head("listener-route-443"),
                "spec": {
                    "to": {"kind": "Service", "name": "listener-route-443", "weight": 100},
                    "port": {"targetPort": "nats"},
                    "tls": {"termination": "passthrough", "insecureEdgeTerminationPolicy": "None"},
                    "wildcardPolicy": "None",
                },
            },
        ),
    ],
    GUARDED: [
        (SERVICE, {"metadata": head(f"listener-ingress-{HOST_DIGEST}"), "spec": service("ClusterIP", 4222)}),
        (
            INGRESS,
            {
                "metadata": head(f"listener-ingress-{HOST_DIGEST}", annotations={"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}),
                "spec": {
                    "rules": [
                        {
                            "host": "nats.example.org",
                            "http": {
                                "paths": [
                                    {
                                        "path": "/",
                                        "pathType": "Prefix",
                                        "backend": {"service": {"name": f"listener-ingress-{HOST_DIGEST}", "port": {"name": "nats"}}},
                                    }
                                ]
                            },
                        }
                    ]
                },
            },
        ),
    ],
}


@pytest.mark.parametrize("entrance", MADE, ids=lambda entrance: f"{entrance.type} {entrance.host}")
def test_an_entrance_is_made_of(entrance: Entrance) -> None:
    assert list(objects(entrance, "fedplane", "r-1")) == MADE[entrance]


def test_what_resources_ask_for_is_the_same_if_it_is_reached_in_the_same_way() -> None:
    one = asking(UPSTREAM, {"type": "LoadBalancer"}, {"type": "Route", "port": 8080}, {"type": "Ingress", "name": "nats.example.org"})
    other = asking({**UPSTREAM, "name": "another"}, {"type": "LoadBalancer", "ip": "10.0.0.1"}, {"type": "Route"})

    assert entrances(one) == (NODE_PORT, BALANCER, ROUTED, GUARDED)
    assert entrances(other) == (NODE_PORT, BALANCER, ROUTED)


def node(name: str, ready: str = "True", **addresses: str) -> dict[str, Any]:
    told = [{"type": kind, "address": address} for kind, address in addresses.items()]
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": told}}


NODES = [
    node("c", InternalIP="172.18.0.4"),
    node("b", ExternalIP="1.2.3.4", InternalIP="172.18.0.2"),
    node("a", "False", InternalIP="172.18.0.9"),
]
ROUTE_SEEN = [
    {"host": "waits.example.org", "conditions": [{"type": "Admitted", "status": "False"}]},
    {"host": "nats.apps.example.org", "conditions": [{"type": "Admitted", "status": "True"}]},
]

REACHED: dict[str, tuple[Entrance, dict[str, Any], list[dict[str, Any]], str]] = {
    "a NodePort at the first node that is ready": (NODE_PORT, {}, NODES, "172.18.0.2:31531"),
    "a NodePort of an IPv6 node": (NODE_PORT, {}, [node("a", InternalIP="fd00::2")], "[fd00::2]:31531"),
    "a NodePort where no node is ready": (NODE_PORT, {}, [node("a", "Unknown", InternalIP="10.0.0.1"), node("b")], ""),
    "a NodePort of a node that is named": (Entrance("NodePort", 31531, "node.example.org"), {}, [], "node.example.org:31531"),
    "a balancer with a name and an address": (
        BALANCER, {"loadBalancer": {"ingress": [{"ip": "10.1.1.1", "hostname": "lb.example.org"}]}}, [], "lb.example.org:8080",
    ),
    "a balancer with an address": (BALANCER, {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}}, [], "10.1.1.1:8080"),
    "a balancer with nothing yet": (BALANCER, {"loadBalancer": {}}, [], ""),
    "a Route that a router has admitted": (ROUTED, {"ingress": ROUTE_SEEN}, [], "nats.apps.example.org:443"),
    "a Route that none has": (ROUTED, {"ingress": ROUTE_SEEN[:1]}, [], ""),
    "an Ingress that is served": (GUARDED, {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}}, [], "nats.example.org:443"),
    "an Ingress that is not": (GUARDED, {}, [], ""),
}  # fmt: skip


@pytest.mark.parametrize(("entrance", "status", "nodes", "reached"), REACHED.values(), ids=REACHED)
def test_an_entrance_is_reached_at(entrance: Entrance, status: dict[str, Any], nodes: list[dict[str, Any]], reached: str) -> None:
    (_, body) = objects(entrance, "fedplane", "r-1")[-1]

    assert address(entrance, {**body, "status": status}, nodes) == reached


def test_a_port_that_is_no_nodes_is_chosen_by_the_api_server_and_told() -> None:
    ((_, body),) = objects(CHOSEN, "fedplane", "r-1")
    given = {"spec": {**body["spec"], "ports": [{**body["spec"]["ports"][0], "nodePort": 31166}]}}

    assert address(CHOSEN, body, NODES) == ""
    assert CHOSEN.exposure(address(CHOSEN, given, NODES)) == Exposure(
        name="listener-nodeport-8080", type="NodePort", address="172.18.0.2:31166", port=31166
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({}, "type is ''; known are NodePort, LoadBalancer, Route, Ingress"),
    "an unknown type": ({"type": "Gateway"}, "type is 'Gateway'; known are NodePort, LoadBalancer, Route, Ingress"),
    "a node port that is none": ({"type": "NodePort", "port": 0}, "port is 0; a port is from 1 to 65535"),
    "an address that is none": (
        {**UPSTREAM, "ip": "nats://10.0.0.1"}, "ip is 'nats://10.0.0.1'; give the address or the name of a node, or nothing",
    ),
    "a port that is none": ({"type": "LoadBalancer", "port": 65536}, "port is 65536; a port is from 1 to 65535"),
    "an Ingress without a host": (
        {"type": "Ingress", "name": "server-listener"},
        "name is 'server-listener'; for an Ingress it is the host name under which clusters reach it, such as nats.example.org",
    ),
    "an Ingress of every host": (
        {"type": "Ingress", "name": "*.example.org"},
        "name is '*.example.org'; for an Ingress it is the host name under which clusters reach it, such as nats.example.org",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("listener", "said"), WRONG.values(), ids=WRONG)
def test_a_listener_that_cannot_be_is_objected_to(listener: dict[str, Any], said: str) -> None:
    resource = asking(UPSTREAM, listener)

    assert list(objections(resource)) == [f"spec.server.listeners[1].{said}"]
    assert told(resource, None) == (None, f"spec.server.listeners[1].{said}")


@pytest.mark.parametrize("port", [8080, 30000, 32767])
@pytest.mark.parametrize("ip", ["", "10.0.0.1", "fd00::2", "node-1"])
def test_nothing_is_objected_to_in_a_listener_that_can_be(port: int, ip: str) -> None:
    assert list(objections(asking({"type": "NodePort", "port": port, "ip": ip}, {"type": "LoadBalancer"}, {"type": "Route"}))) == []


def test_a_run_may_have_ten_listeners() -> None:
    every = [{"type": "LoadBalancer", "port": port} for port in range(1, 12)]

    assert list(objections(asking(*every[:10]))) == []
    assert list(objections(asking(*every))) == ["spec.server.listeners has 11 listeners; a run may have 10"]


def test_clusters_are_told_of_the_last_listener_once_it_has_an_address() -> None:
    resource = asking({"type": "LoadBalancer"}, UPSTREAM)
    balancer, port = BALANCER.exposure("lb.example.org:8080"), NODE_PORT.exposure("172.18.0.2:31531")

    def exposed(*listeners: Exposure, **pending: str) -> Exposed:
        told_pending = {name.replace("_", "-"): why for name, why in pending.items()}
        return Exposed(run="r-1", at=datetime(2026, 1, 2, tzinfo=UTC), number=1, listeners=listeners, pending=told_pending)

    waits = "listener listener-nodeport-31531 has no address yet"
    assert told(learning(), None) == (None, "")
    assert told(resource, None) == (None, waits)
    assert told(resource, exposed(balancer, listener_nodeport_31531="it is taken")) == (None, f"{waits}: it is taken")
    assert told(resource, exposed(port, listener_loadbalancer_8080="none yet")) == (port, "")
    assert told(resource, exposed(balancer, port)) == (port, "")


def test_only_a_node_port_is_told_with_its_port() -> None:
    ports = {entrance.type: entrance.exposure("host:1").port for entrance in MADE}

    assert ports == {"NodePort": 1, "LoadBalancer": None, "Route": None, "Ingress": None}
    assert set(ports) == set(TYPES)
