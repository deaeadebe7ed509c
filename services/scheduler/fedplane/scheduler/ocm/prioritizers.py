"""Prioritizers: how much does each cluster suit a placement, compared with the others?

Every formula is Open Cluster Management's, down to the order of its floating-point operations and to what it truncates.
A score is from -100 to 100. A cluster that a prioritizer says nothing about has no entry, which counts as 0.
Source: ocm, pkg/placement/plugins and pkg/placement/controllers/scheduling/schedule.go.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, ManagedCluster
from fedplane.schemas.placements import PrioritizerPolicy, ScoreCoordinate

__all__ = ["BUILT_IN", "Circumstances", "Prioritized", "SCORE_MAX", "misconfigured", "prioritize", "totals"]

SCORE_MAX = 100
"""The score of a cluster that suits best; one that suits least has the negative of it."""

Scores = Mapping[str, int]
"""The scores of one prioritizer by cluster."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What prioritizers look at besides the clusters.

    `others` counts how often each cluster is chosen by other placements, of any namespace; `own` are the clusters that this one has.
    `scores` are the add-ons' scores by cluster and name.
    """

    others: Mapping[str, int]
    own: frozenset[str]
    scores: Mapping[tuple[str, str], AddOnPlacementScore]
    now: datetime


@dataclass(frozen=True, slots=True)
class Prioritized:
    """What one prioritizer says; `expired` are the clusters whose add-on score is no longer valid."""

    name: str
    weight: int
    scores: Scores
    expired: tuple[str, ...] = ()


def _balance(clusters: Sequence[ManagedCluster], circumstances: Circumstances) -> Scores:
    """The more often others have chosen a cluster, the less; the scale is the cluster that was chosen most often, candidate or not."""
    most = max(circumstances.others.values(), default=0)
    return {
        cluster.name: 2 * int(100.0 * (0.5 - chosen / most)) if (chosen := circumstances.others.get(cluster.name)) else SCORE_MAX
        for cluster in clusters
    }


def _steady(clusters: Sequence[ManagedCluster], circumstances: Circumstances) -> Scores:
    """Those who are chosen already; the others are not pushed away, only passed."""
    return {cluster.name: SCORE_MAX if cluster.name in circumstances.own else 0 for cluster in clusters}


def _allocatable(resource: str) -> Callable[[Sequence[ManagedCluster], Circumstances], Scores]:
    """The more of the resource is allocatable, the more, on a straight line between the least and the most of the clusters."""

    def scores(clusters: Sequence[ManagedCluster], circumstances: Circumstances) -> Scores:
        held = {
            cluster.name: cluster.allocatable[resource]
            for cluster in clusters
            if resource in cluster.allocatable and resource in cluster.capacity
        }
        least, most = min(held.values(), default=0.0), max(held.values(), default=0.0)
        if most == least:
            return dict.fromkeys(held, SCORE_MAX)
        return {name: int(((amount - least) / (most - least) - 0.5) * 2.0 * 100.0) for name, amount in held.items()}

    return scores


BUILT_IN: Mapping[str, tuple[Callable[[Sequence[ManagedCluster], Circumstances], Scores], int]] = {
    "Balance": (_balance, 1),
    "Steady": (_steady, 1),
    "ResourceAllocatableCPU": (_allocatable("cpu"), 0),
    "ResourceAllocatableMemory": (_allocatable("memory"), 0),
}
"""Every built-in prioritizer, with the weight it has if a policy is additive and does not name it."""


def prioritize(policy: PrioritizerPolicy, clusters: Sequence[ManagedCluster], circumstances: Circumstances) -> tuple[Prioritized, ...]:
    """What every prioritizer that counts says about the clusters. The policy has to be one that `misconfigured` does not object to."""
    return tuple(_prioritized(coordinate, weight, clusters, circumstances) for coordinate, weight in _weights(policy) if weight)


def totals(clusters: Iterable[ManagedCluster], prioritized: Iterable[Prioritized]) -> dict[str, int]:
    """The sum of score times weight of each cluster."""
    sums = {cluster.name: 0 for cluster in clusters}
    for each in prioritized:
        for name, score in each.scores.items():
            sums[name] += score * each.weight
    return sums


def misconfigured(policy: PrioritizerPolicy) -> str | None:
    """What Open Cluster Management refuses in the policy, in its words; None if nothing is wrong."""
    if policy.mode not in {"", "Additive", "Exact"}:
        return f"incorrect prioritizer policy mode: {policy.mode}"
    if any(configured.score_coordinate is None for configured in policy.configurations):
        return "scoreCoordinate field is required"
    for coordinate, weight in _weights(policy):
        if weight and coordinate.type == "BuiltIn" and coordinate.built_in not in BUILT_IN:
            return f"incorrect builtin prioritizer: {coordinate.built_in}"
        if weight and coordinate.type == "AddOn" and coordinate.add_on is None:
            return "addOn should not be empty"
    return None


def _weights(policy: PrioritizerPolicy) -> Iterator[tuple[ScoreCoordinate, int]]:
    """The weight of each coordinate.

    What is configured twice counts with its last weight.
    Coordinates that name an add-on's score are told apart by identity in Open Cluster Management's table, so each of them counts.
    """
    weights: dict[object, tuple[ScoreCoordinate, int]] = {}
    if policy.mode != "Exact":
        weights = {name: (ScoreCoordinate(built_in=name), weight) for name, (_, weight) in BUILT_IN.items() if weight}
    for number, configured in enumerate(policy.configurations):
        coordinate = configured.score_coordinate
        if coordinate is not None:
            same = coordinate.built_in if coordinate.type == "BuiltIn" and coordinate.add_on is None else number
            weights[same] = coordinate, configured.weight
    yield from weights.values()


def _prioritized(coordinate: ScoreCoordinate, weight: int, clusters: Sequence[ManagedCluster], circumstances: Circumstances) -> Prioritized:
    if coordinate.type == "BuiltIn":
        scores, _ = BUILT_IN[coordinate.built_in]
        return Prioritized(coordinate.built_in, weight, scores(clusters, circumstances))
    assert coordinate.add_on is not None, "a misconfigured policy was prioritized"
    resource, name = coordinate.add_on.resource_name, coordinate.add_on.score_name
    given = {cluster.name: circumstances.scores.get((cluster.name, resource)) for cluster in clusters}
    expired = {cluster for cluster, found in given.items() if found and _is_expired(found, circumstances.now)}
    scored = {cluster: dict(found.scores).get(name, 0) if found and cluster not in expired else 0 for cluster, found in given.items()}
    return Prioritized(f"AddOn/{resource}/{name}", weight, scored, tuple(cluster for cluster in given if cluster in expired))


def _is_expired(score: AddOnPlacementScore, now: datetime) -> bool:
    return score.valid_until is not None and now > score.valid_until
