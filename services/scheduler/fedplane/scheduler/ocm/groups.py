"""Decisions: the chosen clusters in groups, and the groups in PlacementDecisions.

Named groups take the clusters they select first, in the order in which they are listed; the rest has no name.
Within a group clusters are in the order of their names, whatever they scored.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fedplane.scheduler.ocm import selectors
from fedplane.scheduler.ocm.conditions import Misconfigured
from fedplane.scheduler.ocm.inventory import ManagedCluster
from fedplane.schemas.placements import DecisionStrategy

__all__ = ["CLUSTERS_PER_DECISION_MAX", "Group", "PlacementDecision", "decisions", "groups"]

CLUSTERS_PER_DECISION_MAX = 100
"""How many clusters one PlacementDecision may have. Open Cluster Management's bound, for the size of an object."""


@dataclass(frozen=True, slots=True)
class Group:
    """Clusters that belong together, by name. `index` counts groups from 0; `decisions` are the names of its PlacementDecisions."""

    index: int
    name: str
    clusters: tuple[str, ...]
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlacementDecision:
    """What is to be written: at most a hundred clusters of one group."""

    name: str
    group: str
    group_index: int
    clusters: tuple[str, ...]


def groups(placement: str, strategy: DecisionStrategy, chosen: Sequence[ManagedCluster]) -> tuple[Group, ...]:
    """The chosen clusters in groups, one group without clusters if none are chosen. Raises Misconfigured."""
    length = _length(strategy.group_strategy.clusters_per_decision_group, len(chosen))
    remaining = {cluster.name: cluster for cluster in chosen}
    cut: list[tuple[str, tuple[str, ...]]] = []
    for named in strategy.group_strategy.decision_groups:
        labels = selectors.requirements(named.group_cluster_selector.label_selector)
        claims = named.group_cluster_selector.claim_selector.match_expressions
        wrong = next(selectors.mistakes((*labels, *claims)), None)
        if wrong:
            raise Misconfigured(wrong)
        members = [
            name
            for name, cluster in remaining.items()
            if selectors.matches(labels, cluster.labels) and selectors.matches(claims, cluster.claims)
        ]
        for name in members:
            del remaining[name]
        cut += ((named.group_name, part) for part in _parts(sorted(members), length))
    cut += (("", part) for part in _parts(sorted(remaining), length))
    return tuple(_numbered(placement, cut or [("", ())]))


def decisions(found: Iterable[Group]) -> tuple[PlacementDecision, ...]:
    """The PlacementDecisions of the groups."""
    return tuple(
        PlacementDecision(name, group.name, group.index, part)
        for group in found
        for name, part in zip(group.decisions, _parts(group.clusters, CLUSTERS_PER_DECISION_MAX) or [()], strict=True)
    )


def _numbered(placement: str, cut: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Group]:
    """Decisions are counted from 1, across all groups."""
    said = 0
    for index, (name, clusters) in enumerate(cut):
        count = max(1, -(-len(clusters) // CLUSTERS_PER_DECISION_MAX))
        yield Group(index, name, clusters, tuple(f"{placement}-decision-{said + number}" for number in range(1, count + 1)))
        said += count


def _parts(names: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(names[begin : begin + length]) for begin in range(0, len(names), length)] if names else []


def _length(wanted: int | str, total: int) -> int:
    """How many clusters a group may have; none or too many mean all of them."""
    if isinstance(wanted, str):
        if not wanted.endswith("%"):
            raise Misconfigured(f"{wanted} invalid type: string is not a percentage")
        wanted = math.ceil(float(wanted[:-1]) / 100 * total)
    return wanted if 0 < wanted <= total else total
