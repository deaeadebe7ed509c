"""Does a Kubernetes hub serve what a federation asks of it, and may our services ask? Pure.

Kinds and versions are those of `runtime.kinds`; rights are those that `deploy/base/rbac.yaml` grants, held together by a test.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedplane.cli.doctor.findings import Checks, Finding, listed, ok, problem, warning
from fedplane.runtime import kinds
from fedplane.runtime.objects import Kind
from fedplane.runtime.observed import HubSeen, Right
from fedplane.schemas.crd import CRD_NAME, VERSION, custom_resource_definition

__all__ = ["CHECKS", "KINDS", "needed"]

Verbs = tuple[str, ...]
Rule = tuple[Kind, str, Verbs]

READ: Verbs = ("get", "list", "watch")
WRITE: Verbs = ("create", "patch", "delete")

RULES: Mapping[str, Sequence[Rule]] = {
    "scheduler": (
        (kinds.FEDERATED_LEARNING, "", (*READ, "patch")),
        (kinds.FEDERATED_LEARNING, "finalizers", ("update",)),
        (kinds.MANAGED_CLUSTER, "", READ),
        (kinds.MANAGED_CLUSTER_SET, "", READ),
        (kinds.MANAGED_CLUSTER_SET_BINDING, "", READ),
        (kinds.ADD_ON_PLACEMENT_SCORE, "", READ),
        (kinds.PLACEMENT, "", (*READ, *WRITE)),
        (kinds.PLACEMENT_DECISION, "", (*READ, *WRITE)),
        (kinds.PLACEMENT, "status", ("patch",)),
        (kinds.PLACEMENT_DECISION, "status", ("patch",)),
        (kinds.MANIFEST_WORK, "", (*READ, *WRITE)),
        (kinds.JOB, "", (*READ, "create", "delete")),
        (kinds.PERSISTENT_VOLUME_CLAIM, "", ("create",)),
        (kinds.NODE, "", ("list",)),
    ),
    "status": (
        (kinds.FEDERATED_LEARNING, "", READ),
        (kinds.FEDERATED_LEARNING, "status", ("patch",)),
        (kinds.EVENT, "", ("create", "patch")),
    ),
}
"""What each service does to objects in any namespace: kind, subresource, verbs."""

LISTENING: Sequence[Rule] = tuple((kind, "", ("get", "list", *WRITE)) for kind in (kinds.SERVICE, kinds.INGRESS, kinds.ROUTE))
"""What the scheduler does in the namespace that the bus is in, for runs with listeners."""

OURS = (kinds.FEDERATED_LEARNING,)
CLUSTERS = (
    kinds.MANAGED_CLUSTER, kinds.MANAGED_CLUSTER_SET, kinds.MANAGED_CLUSTER_SET_BINDING, kinds.PLACEMENT, kinds.PLACEMENT_DECISION,
    kinds.ADD_ON_PLACEMENT_SCORE, kinds.MANIFEST_WORK,
)  # fmt: skip
PLAIN = (kinds.JOB, kinds.PERSISTENT_VOLUME_CLAIM, kinds.NODE, kinds.EVENT, kinds.SERVICE)
WAYS_IN = (kinds.INGRESS, kinds.ROUTE)

APPLY = "`kubectl apply --server-side --force-conflicts -f deploy/crds`"

KINDS: Sequence[Kind] = (*OURS, *CLUSTERS, *PLAIN, *WAYS_IN)
"""Every kind that is looked for."""

RULES_VERSION = (1, 25)
"""The first version that keeps rules which compare fields; see `schemas.crd`."""


def needed(namespace: str) -> Mapping[str, Sequence[Right]]:
    """The rights of each service; `namespace` is the one that the bus is in, for listeners."""
    found = {service: [right for rule in rules for right in _rights(rule, "")] for service, rules in RULES.items()}
    found["scheduler"] += [right for rule in LISTENING for right in _rights(rule, namespace)]
    return found


def _rights(rule: Rule, namespace: str) -> Iterator[Right]:
    kind, subresource, verbs = rule
    for verb in verbs:
        yield Right(verb, kind.group, kind.plural, subresource, namespace)


def _version(seen: HubSeen) -> Iterator[Finding]:
    numbers = re.findall(r"\d+", seen.version)[:2]
    if len(numbers) == 2 and (int(numbers[0]), int(numbers[1])) < RULES_VERSION:
        yield warning(
            f"Kubernetes {seen.version} drops rules that compare fields, so some mistakes in an object are told by its status alone",
            f"upgrade it to {'.'.join(map(str, RULES_VERSION))} or newer when you can",
        )
    else:
        yield ok(f"the API server answers: Kubernetes {seen.version}")


def _kinds(seen: HubSeen) -> Iterator[Finding]:
    for version, why in sorted(seen.unseen.items()):
        if version in {kind.api_version for kind in KINDS}:
            yield warning(f"which kinds {version} has cannot be seen: {why}", "look as somebody who may, or try again")
    asked: Sequence[tuple[Sequence[Kind], str, str]] = (
        (OURS, "no FederatedLearning can be applied", APPLY),
        (CLUSTERS, "the hub has no clusters for runs", "install Open Cluster Management, for example with `clusteradm init`"),
        (PLAIN, "the hub cannot run what runs need", "look at the API server's own log: these kinds are part of every Kubernetes"),
    )
    for wanted, missing, mend in asked:
        absent = [kind for kind in wanted if not _is_served(seen, kind)]
        if absent:
            yield problem(f"{missing}: it does not serve {listed([_spoken(kind) for kind in absent])}", mend)
    bare = [
        kind for kind in KINDS if _is_served(seen, kind) and kind.group == kinds.FEDERATED_LEARNING.group and not _has_status(seen, kind)
    ]
    for kind in bare:
        yield problem(f"{kind.kind} has no status of its own there, so nobody can see how a run goes", APPLY)
    there = [kind for kind in KINDS if _is_served(seen, kind)]
    if there:
        without = [kind.kind for kind in WAYS_IN if not _is_served(seen, kind)]
        yield ok(
            f"{len(there)} of {len(KINDS)} kinds are served" + (f"; without {' and '.join(without)}, which few need" if without else "")
        )


def _is_served(seen: HubSeen, kind: Kind) -> bool:
    return kind.api_version in seen.unseen or kind.plural in seen.served.get(kind.api_version, frozenset())


def _has_status(seen: HubSeen, kind: Kind) -> bool:
    return kind.api_version in seen.unseen or f"{kind.plural}/status" in seen.served[kind.api_version]


def _spoken(kind: Kind) -> str:
    return f"{kind.kind} ({kind.api_version})"


def _definition(seen: HubSeen) -> Iterator[Finding]:
    if "definition" in seen.unseen:
        yield warning(f"our definition cannot be read: {seen.unseen['definition']}", f"look as somebody who may get {CRD_NAME}")
        return
    if seen.definition is None:
        return  # then the kind is not served, which has been said
    theirs = next((each for each in seen.definition["spec"]["versions"] if each["name"] == VERSION), None)
    (ours,) = custom_resource_definition()["spec"]["versions"]
    if theirs is None:
        yield problem(f"the definition has no version {VERSION}", APPLY)
        return
    schemas = [(each.get("schema") or {}).get("openAPIV3Schema") or {} for each in (ours, theirs)]
    differing = sorted(set(_differing(schemas[0], schemas[1], "")))
    if differing:
        yield problem(
            f"the definition is another version's: {listed(differing)}",
            f"{APPLY} with the files of this version; objects stay as they are",
        )
    else:
        yield ok("our definition is this version's: every field is kept")


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[str]:
    """What the server would drop or take for something else."""
    if ours.get("type") != theirs.get("type"):
        yield f"{path.removeprefix('.')} is {theirs.get('type')} instead of {ours.get('type')}"
        return
    keeps = theirs.get("x-kubernetes-preserve-unknown-fields") is True
    for name, field in ours.get("properties", {}).items():
        known = theirs.get("properties", {})
        if name in known:
            yield from _differing(field, known[name], f"{path}.{name}")
        elif not keeps:
            yield f"{path.removeprefix('.')}.{name} is missing".removeprefix(".")
    for inner in ("items", "additionalProperties"):
        if isinstance(ours.get(inner), dict) and isinstance(theirs.get(inner), dict):
            yield from _differing(ours[inner], theirs[inner], f"{path}[]")


def _allowed(seen: HubSeen) -> Iterator[Finding]:
    if "rights" in seen.unseen:
        yield warning(f"who may do what cannot be asked: {seen.unseen['rights']}", "look as an administrator of the hub")
        return
    for service in dict.fromkeys(service for service, _ in seen.rights):
        asked = {right: allowed for (of, right), allowed in seen.rights.items() if of == service}
        denied = [right for right, allowed in asked.items() if not allowed]
        optional = [right for right in denied if right.resource in {kind.plural for kind, *_ in LISTENING} and right.group != ""]
        if set(denied) - set(optional):
            yield problem(
                f"{service} may not {listed([right.spoken for right in denied])}",
                "`kubectl apply -k deploy/base` grants it to the service accounts; without --namespace this is about your own rights",
            )
        elif optional:
            yield warning(
                f"{service} may not {listed([right.spoken for right in optional])}, so runs cannot have such listeners",
                "grant it as deploy/base/rbac.yaml does, if runs ask for an Ingress or a Route",
            )
        else:
            yield ok(f"{service} may do all {len(asked)} things that it does there")


CHECKS: Checks[HubSeen] = {"version": _version, "kinds": _kinds, "definition": _definition, "rights": _allowed}
"""What is asked of a hub."""
