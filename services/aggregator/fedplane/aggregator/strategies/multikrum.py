"""Multi-Krum: the next model is the mean of the few updates that are closest to their neighbours.

    score[i] as Krum has it
    model    = mean of update[i] over the m smallest scores; of equal ones the first by name

Krum with less noise: it learns from m members' data at each round, and from one if m is 1.
Those that are chosen count once each, as in the paper. (Flower weights them by examples, which are each member's own word.)
Source: Blanchard, El Mhamdi, Guerraoui and Stainer 2017,
"Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (https://arxiv.org/abs/1703.02757).
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import MEMBERS_COMPARED_MAX, CannotFold, Coefficients, Cohort, Parameter, Strategy, settle
from fedplane.aggregator.strategies.krum import BYZANTINE, insist_on_enough, mean_of_best

__all__ = ["multikrum"]

PARAMETERS = {"byzantine": BYZANTINE, "keep": Parameter(0, low=0, high=MEMBERS_COMPARED_MAX, whole=True)}
"""keep is m; 0 means n - f - 2, which is the default in the code of two of the authors, AggregaThor. Flower's default is 1."""


def multikrum(parameters: Mapping[str, float]) -> Strategy:
    """The mean of the members that agree best is the next model."""
    settled = settle("multikrum", parameters, PARAMETERS)
    byzantine, wanted = int(settled["byzantine"]), int(settled["keep"])

    def weigh(cohort: Cohort) -> Coefficients:
        members = len(cohort.members)
        insist_on_enough("multikrum", members, byzantine, 2 * byzantine + 3)
        keep = wanted or members - byzantine - 2
        if keep > members - byzantine:
            raise CannotFold(
                f"multikrum cannot keep {keep} of {members} members when {byzantine} may be faulty; keep at most {members - byzantine}"
            )
        return mean_of_best(cohort, byzantine, keep)

    return Strategy(weigh, compares=True)
