"""What `kubectl` makes of deploy/, for the tests that read it or give it to a server; and the roles that it starts."""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from sources import ROOT

from fedplane.runtime.settings import ServiceSettings

DEPLOY = ROOT / "deploy"
KUBECTL = Path(sys.executable).parent / "kubectl"
OVERLAYS = tuple(sorted(f"overlays/{each.name}" for each in (DEPLOY / "overlays").iterdir()))
COMBINED = {
    "production, load balancer, KEDA": ("overlays/production", "hub", "loadbalancer", "keda", "certificates"),
    "production, route, CPU": ("overlays/production", "route", "cpu"),
    "production, node port": ("overlays/production", "nodeport"),
}
"""What a person may put together in an overlay of their own."""

FEDERATIONS = ("base", *OVERLAYS, *COMBINED)
"""Everything that starts a federation's services; the add-on comes beside it."""

Manifest = dict[str, Any]


@cache
def built(name: str) -> tuple[Manifest, ...]:
    """All objects of a kustomization, or of a combination."""
    if name in COMBINED:
        base, *components = COMBINED[name]
        mine = {
            "namespace": "fedplane",
            "resources": [f"DEPLOY/{base}"],
            "components": [f"DEPLOY/components/{each}" for each in components],
        }
        return built_in(yaml.safe_dump(mine))
    return _build(DEPLOY / name)


def built_in(kustomization: str) -> tuple[Manifest, ...]:
    """All objects of somebody's own kustomization, which calls our directory DEPLOY."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory).resolve()
        (here / "kustomization.yaml").write_text(kustomization.replace("DEPLOY", os.path.relpath(DEPLOY, here)))
        return _build(here)


def _build(directory: Path) -> tuple[Manifest, ...]:
    said = subprocess.run([KUBECTL, "kustomize", directory], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stderr == "", "a warning of kustomize is an error here"
    return tuple(yaml.safe_load_all(said.stdout))


def of_kind(name: str, *kinds: str) -> list[Manifest]:
    return [each for each in built(name) if each["kind"] in kinds]


def named(name: str, kind: str, called: str) -> Manifest:
    """The one object of that kind and name."""
    (found,) = [each for each in of_kind(name, kind) if plain_name(each) == called]
    return found


def plain_name(manifest: Manifest) -> str:
    """Its name, without the digest that kustomize appends to a generated one."""
    name: str = manifest["metadata"]["name"]
    return name.rpartition("-")[0] if manifest["kind"] == "ConfigMap" else name


def workloads(name: str) -> list[Manifest]:
    return of_kind(name, "Deployment", "StatefulSet")


def container(workload: Manifest) -> Manifest:
    """The one that it is named after."""
    (own,) = [each for each in containers(workload) if each["name"] == workload["metadata"]["name"]]
    return own


def containers(workload: Manifest) -> list[Manifest]:
    """All of them."""
    return [dict(each) for each in workload["spec"]["template"]["spec"]["containers"]]


def settings_class(role: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"fedplane.{role}.settings")
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    return [each for each in own if issubclass(each, ServiceSettings)][-1]  # what it builds on comes before


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels."""
    equal = selector.get("matchLabels", {}).items() <= labels.items()
    return equal and all(_matches(each, labels) for each in selector.get("matchExpressions", ()))


def _matches(expression: Manifest, labels: dict[str, str]) -> bool:
    assert expression["operator"] == "In", "the only one that is used"
    return labels.get(expression["key"]) in expression["values"]


def may_connect(name: str, source: Manifest | None, target: Manifest | None, port: int) -> bool:
    """Whether the network policies let one pod, by its labels, connect to another; None is something outside, as a node or a person.

    Namespaces' labels are those of `source` and `target` under `namespace`; our own pods have none, as no policy asks for them.
    Our policies let nobody out or in but pods of our namespace, so who is in another one may leave it.
    """
    policies = of_kind(name, "NetworkPolicy")
    leaves = source is None or "namespace" in source or _allowed(policies, "egress", "to", source, target, port)
    return leaves and (target is None or _allowed(policies, "ingress", "from", target, source, port))


def _allowed(policies: list[Manifest], rules: str, peers: str, pod: Manifest, other: Manifest | None, port: int) -> bool:
    about = [
        each["spec"] for each in policies if rules.capitalize() in each["spec"]["policyTypes"] and matches(each["spec"]["podSelector"], pod)
    ]
    return not about or any(_lets(rule, peers, other, port) for policy in about for rule in policy.get(rules, ()))


def _lets(rule: Manifest, peers: str, other: Manifest | None, port: int) -> bool:
    if port not in {each["port"] for each in rule["ports"]}:
        return False
    return peers not in rule or any(_is(peer, other) for peer in rule[peers])


def _is(peer: Manifest, other: Manifest | None) -> bool:
    if other is None:
        return False
    inside = "namespaceSelector" in peer or "namespace" not in other
    return inside and matches(peer.get("namespaceSelector", {}), other.get("namespace", {})) and matches(peer.get("podSelector", {}), other)


def references(value: object, key: str) -> Iterator[Any]:
    """Everything under this key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from references(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner, key)
