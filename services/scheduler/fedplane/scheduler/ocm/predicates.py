"""Predicates: which clusters satisfy any one of a placement's alternatives?

An alternative is what must hold of labels, of claims and of the cluster as a whole; without alternatives, everybody passes.
Expressions are compiled once for all clusters. One that fails on a cluster does not hold of it, as in Open Cluster Management.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedplane.scheduler.ocm import selectors
from fedplane.scheduler.ocm.cel.expressions import COST_MAX, EXPRESSIONS_MAX, Expression, compiled
from fedplane.scheduler.ocm.cel.values import Failure, Meter
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, ManagedCluster
from fedplane.schemas.placements import Predicate, Requirement

__all__ = ["Alternative", "alternatives", "satisfied", "unmet"]

Scores = Mapping[tuple[str, str], AddOnPlacementScore]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One predicate, ready to be asked of many clusters."""

    labels: tuple[Requirement, ...]
    claims: tuple[Requirement, ...]
    expressions: tuple[Expression, ...]


def alternatives(predicates: Iterable[Predicate]) -> tuple[Alternative, ...]:
    """The predicates, compiled. Raises ValueError with what is wrong in an expression."""
    found = []
    expressions = 0
    for predicate in predicates:
        wanted = predicate.required_cluster_selector
        expressions += len(wanted.cel_selector.cel_expressions)
        if expressions > EXPRESSIONS_MAX:
            raise ValueError(f"a placement may have {EXPRESSIONS_MAX} expressions in all")
        found.append(
            Alternative(
                selectors.requirements(wanted.label_selector),
                wanted.claim_selector.match_expressions,
                tuple(compiled(text) for text in wanted.cel_selector.cel_expressions),
            )
        )
    return tuple(found)


def satisfied(wanted: Sequence[Alternative], cluster: ManagedCluster, scores: Scores) -> bool:
    """Whether the cluster satisfies any one of the alternatives, or there are none."""
    meter = Meter(COST_MAX)
    return not wanted or any(next(unmet(each, cluster, scores, meter), None) is None for each in wanted)


def unmet(wanted: Alternative, cluster: ManagedCluster, scores: Scores, meter: Meter) -> Iterator[str]:
    """Everything in the alternative that does not hold of the cluster, as sentences about it. One cluster has one meter."""
    yield from selectors.unmet("label", wanted.labels, cluster.labels)
    yield from selectors.unmet("claim", wanted.claims, cluster.claims)
    for expression in wanted.expressions:
        try:
            value = expression.value(cluster.document, scores, meter)
        except Failure as failure:
            yield f"asks for {expression.text}, and {failure}"
        else:
            if value is not True:
                yield f"asks for {expression.text}, and it is {'false' if value is False else 'no truth value'}"
