"""Placement: filter, score, choose, and explain all of it.

One pure function from a resource, the clusters and the time to who takes part and who does not.
Every cluster is in the result exactly once: a refusal is a reason, not a missing line.
The order of the clusters does not matter: the higher total goes first, and ties go by name.
Whether there are enough clusters to begin is not decided here but in `runs`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from fedplane.scheduler import filters, scoring
from fedplane.scheduler.fleet import Cluster
from fedplane.schemas.models import Chosen, Refused
from fedplane.schemas.resources import FRAMEWORKS, FederatedLearning

__all__ = ["OUTSCORED", "Plan", "objections", "place"]

OUTSCORED = "outscored"
"""The reason of a cluster that passed every filter and was not among the best."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who takes part, the best first, and who does not, by name. `eligible` is how many passed the filters."""

    participants: tuple[Chosen, ...]
    refused: tuple[Refused, ...]
    eligible: int


def place(resource: FederatedLearning, clusters: Iterable[Cluster], now: datetime) -> Plan:
    """The best clusters for the resource at that time: all that pass the filters, or as many as its placement asks for."""
    refused, eligible = [], []
    for cluster in clusters:
        refusal = filters.refusal(resource, cluster, now)
        if refusal is None:
            eligible.append(_score(resource, cluster))
        else:
            refused.append(refusal)
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
    most, least = spec.client.placement.number_of_clusters, spec.server.min_available_clients
    if most is not None and most < least:
        yield (
            f"spec.client.placement.numberOfClusters is {most}, fewer than spec.server.minAvailableClients, which is {least}; "
            "raise the first or lower the second"
        )


def _score(resource: FederatedLearning, cluster: Cluster) -> Chosen:
    terms = scoring.terms(resource, cluster)
    total = sum(term.score * term.weight for term in terms)
    return Chosen(cluster=cluster.name, score=total, terms=terms, data=cluster.claims.get(resource.data_claim, ""))


def _outscored(scored: Chosen, rank: int, taken: int) -> Refused:
    message = f"is number {rank} by score, the placement asks for the best {taken}"
    return Refused(cluster=scored.cluster, reason=OUTSCORED, message=message, score=scored.score, terms=scored.terms)
