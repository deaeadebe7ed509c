"""Criteria: how well does a cluster suit a run that it may take part in?

A criterion is a function (resource, cluster) -> [0, 1] of one cluster alone, 1 being best.
No criterion compares clusters: a score that depends on who else applied changes when somebody joins or leaves, and nobody can explain it.
A cluster's total is the sum of score times weight. A new criterion is a file beside this one and a line below.
"""

from collections.abc import Callable, Mapping

from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.scoring import balance, cpu, data_locality, memory, steady
from fedplane.schemas.models import Term
from fedplane.schemas.resources import FederatedLearning

__all__ = ["CRITERIA", "Criterion", "WEIGHT_MAX", "terms"]

Criterion = Callable[[FederatedLearning, Cluster], float]

CRITERIA: Mapping[str, tuple[Criterion, float]] = {
    "data_locality": (data_locality.score, 2.0),
    "cpu": (cpu.score, 1.0),
    "memory": (memory.score, 1.0),
    "balance": (balance.score, 1.0),
    "steady": (steady.score, 1.0),
}
"""Every criterion by name, with its default weight.

Data counts double: a model learns from samples, and processors only decide how fast. That it is double and not treble is a judgement.
"""

WEIGHT_MAX = 10.0
"""A weight may be from -10 to 10, as a prioritizer's in Open Cluster Management; a negative one prefers the clusters that score low."""


def terms(resource: FederatedLearning, cluster: Cluster) -> tuple[Term, ...]:
    """The cluster's score by every criterion, each with the weight that this run gives it; a weight of 0 is kept, to be seen."""
    weights = resource.spec.weights
    return tuple(
        Term(criterion=name, score=score(resource, cluster), weight=weights.get(name, weight))
        for name, (score, weight) in CRITERIA.items()
    )  # fmt: skip
