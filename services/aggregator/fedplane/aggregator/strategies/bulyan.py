"""Bulyan: Krum chooses members again and again, and each element is the mean of the chosen values closest to their median.

    n - 2f times: choose the member with the smallest Krum score among those left, and take it out
    model[k] = mean of the n - 4f values update[i][k], of the chosen i, that are closest to the chosen values' median

Krum alone lets one element be far off, in a vector that is close as a whole; the median of each element does not.
It needs n >= 4f + 3 members. With f = 0 it is the plain mean.
Krum itself needs 2f + 3 members, so when no more are left the last three are chosen by the same scores.
(Flower takes the n - 2f smallest scores at once, and does not compute them anew among those left.)
Source: El Mhamdi, Guerraoui and Rouault 2018,
"The Hidden Vulnerability of Distributed Learning in Byzantium" (https://arxiv.org/abs/1802.07927).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator import orders
from fedplane.aggregator.strategies.algebra import (
    MEMBERS_COMPARED_MAX,
    Coefficients,
    Cohort,
    Parameter,
    Strategy,
    Vector,
    distances,
    settle,
)
from fedplane.aggregator.strategies.krum import insist_on_enough, scores

__all__ = ["bulyan"]

PARAMETERS = {"byzantine": Parameter(1, low=0, high=(MEMBERS_COMPARED_MAX - 3) // 4, whole=True)}
"""f, the number of members that may be faulty: the fewest that it makes sense for, since with 0 it would be an expensive mean."""


def bulyan(parameters: Mapping[str, float]) -> Strategy:
    """The mean around the median, of the members that agree best, is the next model's."""
    byzantine = int(settle("bulyan", parameters, PARAMETERS)["byzantine"])

    def weigh(cohort: Cohort) -> Coefficients:
        members = len(cohort.members)
        insist_on_enough("bulyan", members, byzantine, 4 * byzantine + 3)
        left, squared = list(range(members)), distances(cohort.compared)
        while len(left) > 2 * byzantine:
            several = 1 if len(left) > 2 * byzantine + 3 else 3
            best = np.argsort(scores(squared[np.ix_(left, left)], byzantine), kind="stable")[:several]
            left = [member for at, member in enumerate(left) if at not in best]
        return Coefficients(tuple(float(index not in left) for index in range(members)), members - 2 * byzantine)

    def combine(rows: NDArray[Any], coefficients: Coefficients) -> Vector:
        return orders.mean_around_median(rows, len(rows) - 2 * byzantine)

    return Strategy(weigh, compares=True, combine=combine)
