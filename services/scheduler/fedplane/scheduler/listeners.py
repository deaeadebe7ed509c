"""How clusters reach the bus from outside the hub, as `spec.server.listeners` says: the objects of each type, and their addresses.

One bus serves all runs. So a listener is a Service that selects the bus's pods, in their namespace, and for two types a Route or an
Ingress before it; resources that ask for the same share it. Types, and what is printed of them, are upstream's but for the last.
NATS is no HTTP: what comes through a Route or an Ingress is TLS that ends at the bus, and the name in its greeting says where it goes.

Runs that ask for listeners, and when these are made and deleted, are the business of `listening`.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedplane.runtime.kinds import INGRESS, ROUTE, SERVICE
from fedplane.runtime.objects import Kind, Object
from fedplane.scheduler.works import LABELS, RUN_LABEL
from fedplane.schemas.facts import Exposed
from fedplane.schemas.models import LISTENERS_MAX, Exposure
from fedplane.schemas.resources import FederatedLearning, Listener

__all__ = [
    "BUS_PODS", "BUS_PORT", "NODE_PORTS", "TYPES", "Entrance", "address", "entrances", "objection", "objects", "told", "without_address",
]  # fmt: skip

BUS_PODS = {"app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/name": "nats"}
"""The labels of the bus's pods, as deploy/base/nats.yaml has them."""

BUS_PORT = 4222
"""Where the bus listens, as deploy/base/nats.conf has it."""

NODE_PORTS = range(30000, 32768)
"""Kubernetes' own default. A port from elsewhere, such as upstream's default of 8080, is no node's: then the API server chooses one."""

TLS_PORT = 443
"""At which routers and ingress controllers take TLS."""

HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
"""A host's name (RFC 1123)."""

Part = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Entrance:
    """A listener without what does not tell it from another. `host` is what the resource says: a node's address, or an Ingress's name."""

    type: str
    port: int
    host: str = ""

    @property
    def name(self) -> str:
        """The name of its objects. An Ingress is told from others by its host, which may be longer than a name."""
        which = hashlib.sha256(self.host.encode()).hexdigest()[:10] if self.type == "Ingress" else str(self.port)
        return f"listener-{self.type.lower()}-{which}"

    @property
    def needs_nodes(self) -> bool:
        """Whether its address is a node's, and the resource does not say which."""
        return self.type == "NodePort" and not self.host

    def exposure(self, address: str) -> Exposure:
        """What is told of it once it has an address."""
        port = int(address.rpartition(":")[2]) if self.type == "NodePort" else None
        return Exposure(name=self.name, type=self.type, address=address, port=port)


@dataclass(frozen=True, slots=True)
class _Type:
    """One type of listener: why one cannot be, which entrance it is, the Service's spec, what stands before that, and where it is reached.

    `hosts` finds the hosts in the object that stands foremost; for a NodePort they are nodes'. `waits` says why there is none.
    """

    objection: Callable[[Listener], str | None]
    entrance: Callable[[Listener], Entrance]
    service: Callable[[Entrance], Part]
    before: Callable[[Entrance], tuple[tuple[Kind, Object], ...]]
    hosts: Callable[[Entrance, Object], Iterable[str]]
    waits: str


def objection(resource: FederatedLearning) -> str | None:
    """Why the resource's listeners cannot be, in a sentence that says what to change; None if they can, or if there are none."""
    listeners = resource.spec.server.listeners
    if len(listeners) > LISTENERS_MAX:
        return f"spec.server.listeners has {len(listeners)} listeners; a run may have {LISTENERS_MAX}"
    for number, listener in enumerate(listeners):
        known = TYPES.get(listener.type)
        wrong = known.objection(listener) if known else f"type is {listener.type!r}; known are {', '.join(TYPES)}"
        if wrong:
            return f"spec.server.listeners[{number}].{wrong}"
    return None


def entrances(resource: FederatedLearning) -> tuple[Entrance, ...]:
    """What the resource asks for, in its order. Nothing may object to it."""
    return tuple(TYPES[listener.type].entrance(listener) for listener in resource.spec.server.listeners)


def objects(entrance: Entrance, namespace: str, run: str) -> tuple[tuple[Kind, Object], ...]:
    """The objects that an entrance is made of, its Service first, for the bus in a namespace. `run` is one that asks for it."""
    known = TYPES[entrance.type]
    metadata = {"name": entrance.name, "namespace": namespace, "labels": {**LABELS, RUN_LABEL: run}}
    service = (SERVICE, {"metadata": metadata, "spec": {"selector": BUS_PODS, **known.service(entrance)}})
    before = ((kind, {**body, "metadata": {**metadata, **body.get("metadata", {})}}) for kind, body in known.before(entrance))
    return (service, *before)


def address(entrance: Entrance, foremost: Object, nodes: Iterable[Object]) -> str:
    """Where the entrance is reached, as host:port; empty if nowhere yet. `foremost` is the last of its objects, as the hub has it."""
    hosts = _node_addresses(nodes) if entrance.needs_nodes else TYPES[entrance.type].hosts(entrance, foremost)
    host = next(iter(hosts), "")
    port = _node_port(foremost) if entrance.type == "NodePort" else entrance.port
    return f"{f'[{host}]' if ':' in host else host}:{port}" if host and port else ""


def told(resource: FederatedLearning, exposed: Exposed | None) -> tuple[Exposure | None, str]:
    """The listener by which clusters reach the bus, which is the last one as upstream has it; or why they cannot. Neither if there is none.

    `exposed` is the last that was said of the resource's listeners.
    """
    if not resource.spec.server.listeners:
        return None, ""
    if wrong := objection(resource):
        return None, wrong
    name = entrances(resource)[-1].name
    found = [exposure for exposure in exposed.listeners if exposure.name == name] if exposed else []
    if found:
        return found[-1], ""
    why = exposed.pending.get(name) if exposed else None
    return None, f"listener {name} has no address yet" + (f": {why}" if why else "")


def without_address(entrance: Entrance) -> str:
    """What it waits for while it has no address."""
    return TYPES[entrance.type].waits


def _node_addresses(nodes: Iterable[Object]) -> Iterable[str]:
    """The internal addresses of nodes that are ready, by the nodes' names."""
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        status = node.get("status", {})
        if any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()):
            yield from (each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP")


def _node_port(service: Object) -> int:
    """The port that the API server gave it; 0 if none yet."""
    return int(service["spec"]["ports"][0].get("nodePort", 0))


def _balanced(entrance: Entrance, service: Object) -> Iterable[str]:
    """Host names before addresses, as upstream prints them."""
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    return (each[word] for each in entries for word in ("hostname", "ip") if each.get(word))


def _routed(entrance: Entrance, route: Object) -> Iterable[str]:
    """Under which host a router has admitted it."""
    for each in route.get("status", {}).get("ingress") or ():
        if each.get("host") and any(said["type"] == "Admitted" and said["status"] == "True" for said in each.get("conditions") or ()):
            yield each["host"]


def _taken_up(entrance: Entrance, ingress: Object) -> Iterable[str]:
    """Its own host, once a controller says that it serves it."""
    return (entrance.host for _ in _balanced(entrance, ingress))


def _no_node_port(listener: Listener) -> str | None:
    if listener.ip and not _is_host(listener.ip):
        return f"ip is {listener.ip!r}; give the address or the name of a node, or nothing"
    return _no_port(listener)


def _no_port(listener: Listener) -> str | None:
    return None if 0 < listener.port < 65536 else f"port is {listener.port}; a port is from 1 to 65535"


def _no_host(listener: Listener) -> str | None:
    if "." in listener.name and HOST.fullmatch(listener.name):
        return None
    return f"name is {listener.name!r}; for an Ingress it is the host name under which clusters reach it, such as nats.example.org"


def _is_host(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return HOST.fullmatch(text) is not None


def _port(port: int, **further: int) -> list[Part]:
    return [{"name": "nats", "port": port, "protocol": "TCP", "targetPort": BUS_PORT, **further}]


def _of_nodes(port: int) -> list[Part]:
    return _port(BUS_PORT, nodePort=port) if port in NODE_PORTS else _port(BUS_PORT)


def _inside(entrance: Entrance) -> Part:
    """A Service that only what stands before it uses."""
    return {"type": "ClusterIP", "ports": _port(BUS_PORT)}


def _route(entrance: Entrance) -> tuple[tuple[Kind, Object], ...]:
    spec = {
        "to": {"kind": "Service", "name": entrance.name, "weight": 100},
        "port": {"targetPort": "nats"},
        "tls": {"termination": "passthrough", "insecureEdgeTerminationPolicy": "None"},
        "wildcardPolicy": "None",
    }
    return ((ROUTE, {"spec": spec}),)


def _ingress(entrance: Entrance) -> tuple[tuple[Kind, Object], ...]:
    backend = {"service": {"name": entrance.name, "port": {"name": "nats"}}}
    rule = {"host": entrance.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return ((INGRESS, {"metadata": {"annotations": PASSTHROUGH}, "spec": {"rules": [rule]}}),)


PASSTHROUGH = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
"""By which ingress-nginx leaves TLS to the bus, if it was started with --enable-ssl-passthrough. An Ingress itself has no word for it."""

TYPES: Mapping[str, _Type] = {
    "NodePort": _Type(
        _no_node_port, lambda listener: Entrance("NodePort", listener.port, listener.ip),
        lambda entrance: {"type": "NodePort", "ports": _of_nodes(entrance.port)}, lambda _: (),
        lambda entrance, _: [entrance.host], "no node of the hub is ready and has an internal address; name one by the listener's ip",
    ),
    "LoadBalancer": _Type(
        _no_port, lambda listener: Entrance("LoadBalancer", listener.port),
        lambda entrance: {"type": "LoadBalancer", "ports": _port(entrance.port)}, lambda _: (),
        _balanced, "the load balancer has no address yet; does the hub have something that makes load balancers?",
    ),
    "Route": _Type(
        lambda _: None, lambda _: Entrance("Route", TLS_PORT), _inside, _route,
        _routed, "no router has admitted the Route yet",
    ),
    "Ingress": _Type(
        _no_host, lambda listener: Entrance("Ingress", TLS_PORT, listener.name), _inside, _ingress,
        _taken_up, "no ingress controller has taken the Ingress up yet; does the hub have one, and a default IngressClass?",
    ),
}  # fmt: skip
"""The types of listeners. The first three are upstream's; it declares the third and refuses it."""
