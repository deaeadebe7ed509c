"""Coordinate-wise trimmed mean: each element of the next model is the mean of the members' values without the extreme ones.

    model[k] = mean of the values update[i][k] without the c smallest and the c largest, c = floor(beta * members)

At most c members, whatever they send, cannot move an element beyond what the others sent.
Unlike the median it still averages, so it loses less when nobody means harm.
Every member counts once: how many examples it has is its own word.
Source: Yin, Chen, Ramchandran and Bartlett 2018,
"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (https://arxiv.org/abs/1803.01498).
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fedplane.aggregator import orders
from fedplane.aggregator.strategies.algebra import Coefficients, Parameter, Strategy, Vector, settle
from fedplane.aggregator.strategies.fedmedian import each_once

__all__ = ["trimmedmean"]

PARAMETERS = {"beta": Parameter(0.2, low=0.0, high=0.499)}
"""The share of members that is cut at each end; Flower's default. The theory wants it no smaller than the share that may be faulty.
Fewer than five members cut nobody by default. At a half nothing would be left."""


def trimmedmean(parameters: Mapping[str, float]) -> Strategy:
    """The mean of what lies between each element's extremes is the next model's."""
    beta = settle("trimmedmean", parameters, PARAMETERS)["beta"]

    def combine(rows: NDArray[Any], coefficients: Coefficients) -> Vector:
        return orders.trimmed_mean(rows, int(beta * len(rows)))

    return Strategy(each_once, combine=combine)
