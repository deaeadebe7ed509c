"""Placement: filter, score, choose, and explain all of it.

One pure function from a resource, the clusters and the time to who takes part and who does not.
Every cluster is in the result exactly once: a refusal is a reason, not a missing line.
The order of the clusters does not matter: the higher total goes first, and ties go by name.

Clusters are compared by our criteria. If the placement has a prioritizer policy, they are compared as Open Cluster Management does,
and of our criteria only those count that `spec.weights` names, on the same scale: whoever brings a policy gets the choice it means.
Whether there are enough clusters to begin is not decided here but in `runs`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedplane.scheduler import filters, listeners, scoring, storage
from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.ocm import predicates, prioritizers, taints
from fedplane.scheduler.ocm.inventory import NO_HUB, Inventory
from fedplane.scheduler.view import managed
from fedplane.schemas.models import OUTSCORED, SCORE_MAX, Chosen, Refused, Term
from fedplane.schemas.placements import PrioritizerPolicy
from fedplane.schemas.resources import FRAMEWORKS, FederatedLearning

__all__ = ["Plan", "objections", "place"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Who takes part, the best first, and who does not, by name. `eligible` is how many passed the filters."""

    participants: tuple[Chosen, ...]
    refused: tuple[Refused, ...]
    eligible: int


def place(resource: FederatedLearning, clusters: Iterable[Cluster], now: datetime, hub: Inventory = NO_HUB) -> Plan:
    """The best clusters for the resource at that time: all that pass the filters, or as many as its placement asks for.

    `hub` is what Open Cluster Management knows of the clusters, if they are a hub's.
    """
    question = filters.Question.of(resource, now, hub)
    fleet = tuple(clusters)
    refused, passed = [], []
    for cluster in fleet:
        refusal = filters.refusal(question, cluster)
        if refusal is None:
            passed.append(cluster)
        else:
            refused.append(refusal)
    policy = resource.spec.client.placement.prioritizer_policy
    eligible = [_score(resource, cluster) for cluster in passed] if policy is None else _prioritized(question, policy, fleet, passed)
    eligible.sort(key=lambda scored: (-scored.score, scored.cluster))
    asked = resource.spec.client.placement.number_of_clusters
    taken = len(eligible) if asked is None else asked
    refused += (_outscored(scored, rank, taken) for rank, scored in enumerate(eligible[taken:], start=taken + 1))
    return Plan(tuple(eligible[:taken]), tuple(sorted(refused, key=lambda refusal: refusal.cluster)), len(eligible))


def objections(resource: FederatedLearning) -> Iterator[str]:
    """Whatever makes the resource impossible to place on any fleet, as sentences that say what to change."""
    spec = resource.spec
    if spec.framework not in FRAMEWORKS:
        yield f"spec.framework is {spec.framework!r}; known frameworks are {', '.join(FRAMEWORKS)}"
    for name, weight in spec.weights.items():
        if name not in scoring.CRITERIA:
            yield f"spec.weights names {name!r}; known criteria are {', '.join(scoring.CRITERIA)}"
        elif not -scoring.WEIGHT_MAX <= weight <= scoring.WEIGHT_MAX:
            yield f"spec.weights.{name} is {weight:g}; a weight is from {-scoring.WEIGHT_MAX:g} to {scoring.WEIGHT_MAX:g}"
    for objection in (storage.objection, listeners.objection):
        wrong = objection(resource)
        if wrong:
            yield wrong
    placement = spec.client.placement
    wrong = taints.misconfigured(placement.tolerations)
    if wrong:
        yield f"spec.client.placement.tolerations: {wrong}"
    wrong = prioritizers.misconfigured(placement.prioritizer_policy or PrioritizerPolicy())
    if wrong:
        yield f"spec.client.placement.prioritizerPolicy: {wrong}"
    try:
        predicates.alternatives(placement.predicates)
    except ValueError as error:
        yield f"spec.client.placement.predicates: {error}"
    most, least = spec.client.placement.number_of_clusters, spec.server.min_available_clients
    if most is not None and most < least:
        yield (
            f"spec.client.placement.numberOfClusters is {most}, fewer than spec.server.minAvailableClients, which is {least}; "
            "raise the first or lower the second"
        )


def _score(resource: FederatedLearning, cluster: Cluster) -> Chosen:
    return _chosen(resource, cluster, scoring.terms(resource, cluster))


def _prioritized(
    question: filters.Question, policy: PrioritizerPolicy, fleet: Iterable[Cluster], passed: Sequence[Cluster]
) -> list[Chosen]:
    """The clusters that passed with Open Cluster Management's scores, and ours multiplied to its scale.

    A cluster is chosen by others as often as it takes part in a live run or is in a decision of the hub about another placement.
    """
    resource, hub = question.resource, question.hub
    others = Counter(hub.others(resource.metadata.namespace, resource.metadata.name))
    others.update({cluster.name: cluster.live_runs for cluster in fleet if cluster.live_runs})
    own = frozenset(cluster.name for cluster in passed if question.has(cluster))
    circumstances = prioritizers.Circumstances(others, own, hub.scores, question.now)
    said = prioritizers.prioritize(policy, [managed(cluster, hub) for cluster in passed], circumstances)
    weights = resource.spec.weights
    return [
        _chosen(
            resource,
            cluster,
            (
                *(Term(criterion=each.name, score=each.scores.get(cluster.name, 0), weight=each.weight) for each in said),
                *(
                    Term(criterion=term.criterion, score=term.score * SCORE_MAX, weight=weights.get(term.criterion, 0.0))
                    for term in scoring.terms(resource, cluster)
                ),
            ),
        )
        for cluster in passed
    ]


def _chosen(resource: FederatedLearning, cluster: Cluster, terms: tuple[Term, ...]) -> Chosen:
    total = sum(term.score * term.weight for term in terms)
    return Chosen(cluster=cluster.name, score=total, terms=terms, data=cluster.claims.get(resource.data_claim, ""))


def _outscored(scored: Chosen, rank: int, taken: int) -> Refused:
    message = f"is number {rank} by score, the placement asks for the best {taken}"
    return Refused(cluster=scored.cluster, reason=OUTSCORED, message=message, score=scored.score, terms=scored.terms)
