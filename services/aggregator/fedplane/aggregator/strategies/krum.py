"""Krum: the next model is the update of the one member that is closest to its neighbours.

    score[i] = sum of |update[i] - update[j]|^2 over the n - f - 2 members j that are closest to i
    model    = update[i] of the smallest score; of equal ones the first by name

At most f of n members may be faulty in any way. An update that is far from most others has a large score and is never chosen.
Distances are of differences from the model, in float64.
So they are exact to many digits, however small they are beside the weights.
Source: Blanchard, El Mhamdi, Guerraoui and Stainer 2017,
"Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (https://arxiv.org/abs/1703.02757).
"""

from collections.abc import Mapping

import numpy as np

from fedplane.aggregator.strategies.algebra import (
    MEMBERS_COMPARED_MAX,
    CannotFold,
    Coefficients,
    Cohort,
    Parameter,
    Strategy,
    Vector,
    distances,
    settle,
)

__all__ = ["BYZANTINE", "insist_on_enough", "krum", "mean_of_best", "scores"]

BYZANTINE = Parameter(0, low=0, high=(MEMBERS_COMPARED_MAX - 3) // 2, whole=True)
PARAMETERS = {"byzantine": BYZANTINE}
"""f, the number of members that may be faulty. 0, Flower's default, trusts all of them and takes the most central one.
Whoever expects attackers has to say how many: a larger f compares with fewer neighbours and needs more members."""


def krum(parameters: Mapping[str, float]) -> Strategy:
    """One member's update is the next model."""
    byzantine = int(settle("krum", parameters, PARAMETERS)["byzantine"])

    def weigh(cohort: Cohort) -> Coefficients:
        insist_on_enough("krum", len(cohort.members), byzantine, 2 * byzantine + 3)
        return mean_of_best(cohort, byzantine, 1)

    return Strategy(weigh, compares=True)


def mean_of_best(cohort: Cohort, byzantine: int, keep: int) -> Coefficients:
    """The plain mean of so many members with the smallest scores."""
    best = set(np.argsort(scores(distances(cohort.compared), byzantine), kind="stable")[:keep].tolist())
    return Coefficients(tuple(float(index in best) for index in range(len(cohort.members))), keep)


def scores(squared: Vector, byzantine: int) -> Vector:
    """How far each member is from its neighbours, by squared distances of at least 2 * byzantine + 3 members."""
    members = len(squared)
    others = squared + np.diag(np.full(members, np.inf))  # nobody is a neighbour of itself
    score: Vector = np.sort(others, axis=1)[:, : members - byzantine - 2].sum(axis=1)
    return score


def insist_on_enough(name: str, members: int, byzantine: int, needed: int) -> None:
    """Raise CannotFold when so few members cannot outvote the faulty ones."""
    if members < needed:
        raise CannotFold(
            f"{name} with byzantine={byzantine} needs at least {needed} members, and there are {members}; "
            "wait for more (spec.server.minAvailableClients), or lower byzantine"
        )
