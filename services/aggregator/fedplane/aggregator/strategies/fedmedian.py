"""Coordinate-wise median: each element of the next model is the middle one of the members' values.

    model[k] = median over i of update[i][k]

Fewer than half of the members, whatever they send, cannot move an element beyond what the others sent.
Every member counts once: how many examples it has is its own word, and a lie about it would undo that.
It has no hyper-parameters.
Source: Yin, Chen, Ramchandran and Bartlett 2018,
"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (https://arxiv.org/abs/1803.01498).
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fedplane.aggregator import orders
from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Strategy, Vector, settle

__all__ = ["each_once", "fedmedian"]


def each_once(cohort: Cohort) -> Coefficients:
    """Each member counts as much as any other."""
    return Coefficients((1.0,) * len(cohort.members), len(cohort.members))


def fedmedian(parameters: Mapping[str, float]) -> Strategy:
    """The median of each element is the next model's."""
    settle("fedmedian", parameters, {})

    def combine(rows: NDArray[Any], coefficients: Coefficients) -> Vector:
        return orders.median(rows)

    return Strategy(each_once, combine=combine)
