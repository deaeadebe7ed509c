"""From the JSON of a hub's objects to an inventory.

Objects come from other people's controllers: fields may be missing, unknown, of another type, or without sense.
Nothing of that may stop the rest from being placed, so what cannot be read is left out, and said in a sentence for a person.
What is left out never lets a cluster in: a taint of unknown effect counts as NoSelect, and one of unknown time as having always been there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from pydantic import ValidationError

from fedplane.scheduler.ocm.amounts import amount, approximate
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, Binding, ClusterSet, Decision, Inventory, ManagedCluster, Taint
from fedplane.scheduler.ocm.prioritizers import SCORE_MAX
from fedplane.schemas.placements import LabelSelector

__all__ = ["KINDS", "PROBLEMS_MAX", "read"]

PROBLEMS_MAX = 1_000
"""How many problems are told; more than a person reads."""

PLACEMENT_LABEL = "cluster.open-cluster-management.io/placement"
"""The label by which a PlacementDecision says whose it is."""

EFFECTS = ("NoSelect", "PreferNoSelect", "NoSelectIfNew")
YEARS = range(1, 9000)
"""Of a time: what is added to it must not leave Python's calendar, which ends with 9999."""


@dataclass(slots=True)
class _Object:
    """One object's JSON, and a way to complain about it."""

    document: dict[str, Any]
    kind: str
    name: str
    namespace: str
    problems: list[str]

    def complain(self, said: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}: {said}")

    def part(self, *path: str) -> Any:
        """What is there, None if nothing is."""
        found: Any = self.document
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def items(self, *path: str) -> Iterator[dict[str, Any]]:
        """The objects of a list."""
        found = self.part(*path)
        for item in found if isinstance(found, list) else ():
            if isinstance(item, dict):
                yield item
            else:
                self.complain(f"{'.'.join(path)} has {item!r}, which is no object, and is left out")

    def texts(self, *path: str) -> dict[str, str]:
        """The texts of an object by name."""
        found = self.part(*path)
        return self.named(".".join(path), found.items() if isinstance(found, dict) else ())

    def named(self, where: str, entries: Iterable[tuple[object, object]]) -> dict[str, str]:
        held = {}
        for name, value in entries:
            if isinstance(name, str) and isinstance(value, str):
                held[name] = value
            else:
                self.complain(f"{where} has {name!r}: {value!r}, which is no text, and is left out")
        return held

    def amounts(self, *path: str) -> dict[str, float]:
        found = self.part(*path)
        held = {}
        for name, value in found.items() if isinstance(found, dict) else ():
            try:
                held[name] = approximate(amount(str(value) if _is_whole(value) else value))
            except (ValueError, TypeError, AttributeError):
                self.complain(f"{'.'.join(path)}.{name} is {value!r}, which is no quantity, and is left out")
        return held

    def time(self, where: str, given: object) -> datetime | None:
        """The time that is meant; None if there is none or it cannot be read."""
        if given is None:
            return None
        try:
            found = datetime.fromisoformat(given) if isinstance(given, str) else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is None or found.year not in YEARS:
            self.complain(f"{where} is {given!r}, which is no time with a zone")
            return None
        return found


def read(objects: Iterable[object]) -> tuple[Inventory, tuple[str, ...]]:
    """What the hub has, and what could not be read. An object that comes twice counts as it came last; other kinds are ignored."""
    problems: list[str] = []
    found: dict[str, dict[tuple[str, str], Any]] = {kind: {} for kind in KINDS}
    for given in objects:
        if not isinstance(given, dict):
            continue
        kind = given.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            continue
        metadata = given.get("metadata")
        name, namespace = (metadata.get(key) if isinstance(metadata, dict) else None for key in ("name", "namespace"))
        one = _Object(given, kind, name if isinstance(name, str) else "", namespace if isinstance(namespace, str) else "", problems)
        if not one.name:
            one.complain("has no name and is left out")
        elif (value := KINDS[one.kind](one)) is not None:
            found[one.kind][one.namespace, one.name] = value
    return Inventory(
        clusters={name: value for (_, name), value in found["ManagedCluster"].items()},
        sets={name: value for (_, name), value in found["ManagedClusterSet"].items()},
        bindings=tuple(found["ManagedClusterSetBinding"].values()),
        decisions=tuple(found["PlacementDecision"].values()),
        scores=found["AddOnPlacementScore"],
    ), tuple(problems)  # fmt: skip


def _cluster(one: _Object) -> ManagedCluster:
    claims = ((claim.get("name"), claim.get("value")) for claim in one.items("status", "clusterClaims"))
    conditions = ((condition.get("type"), condition.get("status")) for condition in one.items("status", "conditions"))
    return ManagedCluster(
        name=one.name,
        labels=one.texts("metadata", "labels"),
        claims=one.named("status.clusterClaims", claims),
        allocatable=one.amounts("status", "allocatable"),
        capacity=one.amounts("status", "capacity"),
        taints=tuple(_taint(one, given) for given in one.items("spec", "taints")),
        conditions=one.named("status.conditions", conditions),
        accepted=one.part("spec", "hubAcceptsClient") is True,
        deleting=one.part("metadata", "deletionTimestamp") is not None,
        document=one.document,
    )


def _taint(one: _Object, given: dict[str, Any]) -> Taint:
    key, value, effect = (given.get(name) for name in ("key", "value", "effect"))
    if effect not in EFFECTS:
        one.complain(f"spec.taints has the effect {effect!r}, which is unknown and counts as NoSelect")
    return Taint(
        key=key if isinstance(key, str) else "",
        value=value if isinstance(value, str) else "",
        effect=effect if effect in EFFECTS else "NoSelect",
        added=one.time("spec.taints.timeAdded", given.get("timeAdded")),
    )


def _set(one: _Object) -> ClusterSet | None:
    kind = one.part("spec", "clusterSelector", "selectorType") or "ExclusiveClusterSetLabel"
    if kind in ("ExclusiveClusterSetLabel", "LegacyClusterSetLabel"):
        return ClusterSet(one.name)
    labels = one.part("spec", "clusterSelector", "labelSelector")
    if kind != "LabelSelector":
        one.complain(f"spec.clusterSelector.selectorType is {kind!r}, which is unknown; the set is left out")
        return None
    try:
        return ClusterSet(one.name, True, None if labels is None else LabelSelector.model_validate(labels))
    except ValidationError as error:
        one.complain(f"spec.clusterSelector.labelSelector is wrong in {error.error_count()} places; the set is left out")
        return None


def _binding(one: _Object) -> Binding:
    return Binding(one.namespace, one.name)


def _decision(one: _Object) -> Decision:
    placement = one.part("metadata", "labels", PLACEMENT_LABEL)
    names = (decision.get("clusterName") for decision in one.items("status", "decisions"))
    return Decision(
        one.namespace, placement if isinstance(placement, str) else "", tuple(name for name in names if isinstance(name, str))
    )  # fmt: skip


def _score(one: _Object) -> AddOnPlacementScore | None:
    scores: list[tuple[str, int]] = []
    for given in one.items("status", "scores"):
        name, value = given.get("name"), given.get("value")
        if isinstance(name, str) and _is_whole(value) and -SCORE_MAX <= value <= SCORE_MAX:
            scores.append((name, value))
        else:
            one.complain(f"status.scores has {name!r}: {value!r}, no whole number from {-SCORE_MAX} to {SCORE_MAX}; it is left out")
    until = one.part("status", "validUntil")
    valid_until = one.time("status.validUntil", until)
    if until is not None and valid_until is None:
        return None  # scores that hold until nobody knows when would hold for ever
    return AddOnPlacementScore(one.namespace, one.name, tuple(scores), valid_until)


KINDS: Mapping[str, Callable[[_Object], object]] = {
    "ManagedCluster": _cluster,
    "ManagedClusterSet": _set,
    "ManagedClusterSetBinding": _binding,
    "PlacementDecision": _decision,
    "AddOnPlacementScore": _score,
}
"""How each kind of object is read; None means that it is left out, and that it was said why."""


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
