"""Scheduling: a Placement, what the hub has, and the time, to decisions. The whole of Open Cluster Management's scheduler as one function.

    candidates (bound sets) --> Predicate --> TaintToleration --> prioritizers --> the best by score, then by name --> groups --> conditions

A placement that is wrong in itself chooses nobody: who writes the result down takes away what was decided before, as upstream does.
Nothing is random and nothing depends on the order of the input.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedplane.scheduler.ocm import conditions, predicates, prioritizers, selectors, taints
from fedplane.scheduler.ocm.conditions import Condition, Misconfigured
from fedplane.scheduler.ocm.groups import Group, groups
from fedplane.scheduler.ocm.inventory import EXCLUSIVE_LABEL, ClusterSet, Inventory, ManagedCluster
from fedplane.scheduler.ocm.prioritizers import Circumstances, Prioritized
from fedplane.schemas.placements import DecisionStrategy, Placement, PrioritizerPolicy

__all__ = ["Schedule", "candidates", "eligible_sets", "in_set", "schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What was decided, and how.

    `chosen` are names, the best first. `filtered` are the clusters that were left after each filter, by its name.
    `again_at` is when a toleration of a cluster that the placement has now runs out, so that all of this has to be asked again.
    """

    chosen: tuple[str, ...] = ()
    unscheduled: int = 0
    totals: Mapping[str, int] | None = None
    prioritized: tuple[Prioritized, ...] = ()
    filtered: tuple[tuple[str, tuple[str, ...]], ...] = ()
    groups: tuple[Group, ...] = ()
    conditions: tuple[Condition, ...] = ()
    warnings: tuple[str, ...] = ()
    again_at: datetime | None = None


def schedule(placement: Placement, namespace: str, name: str, inventory: Inventory, now: datetime) -> Schedule:
    """What Open Cluster Management decides about a placement of this namespace and name at that time."""
    sets = eligible_sets(inventory, namespace, placement.cluster_sets)
    among = candidates(inventory, sets)
    own = inventory.decided(namespace, name)
    circumstances = Circumstances(Counter(inventory.others(namespace, name)), own, inventory.scores, now)
    wrong: Misconfigured | None = None
    filtered: list[tuple[str, tuple[ManagedCluster, ...]]] = []
    prioritized: tuple[Prioritized, ...] = ()
    totals: Mapping[str, int] | None = None
    best: Sequence[ManagedCluster] = ()
    try:
        left = _filtered(placement, among, circumstances, filtered)
        prioritized = _prioritized(placement.prioritizer_policy or PrioritizerPolicy(), left, circumstances)
        totals = prioritizers.totals(left, prioritized)
        best = sorted(left, key=lambda cluster: (-totals[cluster.name], cluster.name))[: placement.number_of_clusters]
    except Misconfigured as error:
        wrong = error
    grouped: tuple[Group, ...] = ()
    try:
        grouped = groups(name, placement.decision_strategy or DecisionStrategy(), best)
    except Misconfigured as error:
        wrong = error
    unscheduled = 0 if totals is None or placement.number_of_clusters is None else placement.number_of_clusters - len(best)
    return Schedule(
        chosen=tuple(cluster.name for cluster in best),
        unscheduled=unscheduled,
        totals=totals,
        prioritized=prioritized,
        filtered=tuple((filter_, tuple(cluster.name for cluster in left)) for filter_, left in filtered),
        groups=grouped,
        conditions=(
            conditions.misconfigured(wrong),
            conditions.satisfied(
                asked_sets=placement.cluster_sets, sets=sets, bindings=len(eligible_sets(inventory, namespace, ())),
                candidates=len(among), chosen=len(best), unscheduled=unscheduled,
            ),
        ),
        warnings=tuple(_expired(prioritized)),
        again_at=None if totals is None else _again_at(placement, inventory, own, now),
    )  # fmt: skip


def eligible_sets(inventory: Inventory, namespace: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """The sets that exist and are bound to the namespace, by name: those that are wanted, all if none are named."""
    bound = {binding.name for binding in inventory.bindings if binding.namespace == namespace and binding.name in inventory.sets}
    return tuple(sorted(bound & set(wanted) if wanted else bound))


def candidates(inventory: Inventory, sets: Iterable[str]) -> tuple[ManagedCluster, ...]:
    """The clusters of any of the sets, by name, without those that are being deleted."""
    wanted = [inventory.sets[name] for name in sets]
    alive = (cluster for _, cluster in sorted(inventory.clusters.items()) if not cluster.deleting)
    return tuple(cluster for cluster in alive if any(in_set(cluster, each) for each in wanted))


def in_set(cluster: ManagedCluster, wanted: ClusterSet) -> bool:
    """Whether the cluster is in the set."""
    if not wanted.by_labels:
        return cluster.labels.get(EXCLUSIVE_LABEL) == wanted.name
    return wanted.labels is not None and selectors.matches(selectors.requirements(wanted.labels), cluster.labels)


def _filtered(
    placement: Placement,
    among: tuple[ManagedCluster, ...],
    circumstances: Circumstances,
    filtered: list[tuple[str, tuple[ManagedCluster, ...]]],
) -> tuple[ManagedCluster, ...]:
    """The clusters that pass both filters; what each of them leaves is added to `filtered`. Filters of no clusters find nothing wrong."""
    if among and placement.predicates:
        wanted = _alternatives(placement)
        among = tuple(cluster for cluster in among if predicates.satisfied(wanted, cluster, circumstances.scores))
    filtered.append(("Predicate", among))
    wrong = taints.misconfigured(placement.tolerations) if among else None
    if wrong:
        raise Misconfigured(wrong, "TaintToleration")
    own, now = circumstances.own, circumstances.now
    among = tuple(
        cluster
        for cluster in among
        if taints.tolerance(cluster.taints, placement.tolerations, cluster.name in own, now).intolerable is None
    )  # fmt: skip
    filtered.append(("Predicate,TaintToleration", among))
    return among


def _alternatives(placement: Placement) -> tuple[predicates.Alternative, ...]:
    for predicate in placement.predicates:
        selector = predicate.required_cluster_selector
        wrong = next(
            selectors.mistakes((*selectors.requirements(selector.label_selector), *selector.claim_selector.match_expressions)), None
        )  # fmt: skip
        if wrong:
            raise Misconfigured(wrong, "Predicate")
    try:
        return predicates.alternatives(placement.predicates)
    except ValueError as error:
        raise Misconfigured(f"compilation failed: {error}", "Predicate") from error


def _prioritized(policy: PrioritizerPolicy, among: Sequence[ManagedCluster], circumstances: Circumstances) -> tuple[Prioritized, ...]:
    wrong = prioritizers.misconfigured(policy)
    if wrong:
        raise Misconfigured(wrong)
    return prioritizers.prioritize(policy, among, circumstances)


def _expired(prioritized: Iterable[Prioritized]) -> Iterable[str]:
    for each in prioritized:
        if each.expired:
            resource = each.name.split("/")[1]
            yield f"AddOnPlacementScores{''.join(f' {cluster}/{resource}' for cluster in each.expired)} expired"


def _again_at(placement: Placement, inventory: Inventory, own: Iterable[str], now: datetime) -> datetime | None:
    """Of the clusters that the placement has, whether or not it still may: when the first toleration runs out."""
    held = (inventory.clusters[name] for name in own if name in inventory.clusters)
    return taints.earliest(taints.tolerance(cluster.taints, placement.tolerations, True, now).until for cluster in held)
