"""Federated averaging: the mean of the updates, weighted by their numbers of examples.

It has no hyper-parameters on the server.
Source: McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017,
"Communication-Efficient Learning of Deep Networks from Decentralized Data" (https://arxiv.org/abs/1602.05629).
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Strategy, settle

__all__ = ["by_examples", "fedavg"]


def by_examples(cohort: Cohort) -> Coefficients:
    """Each member counts as much as it has examples."""
    weights = tuple(member.weight for member in cohort.members)
    return Coefficients(weights, sum(weights))


def fedavg(parameters: Mapping[str, float]) -> Strategy:
    """The weighted mean is the next model."""
    settle("fedavg", parameters, {})
    return Strategy(by_examples, sums=True)
