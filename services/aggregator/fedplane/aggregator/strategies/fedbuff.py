"""FedBuff: buffered asynchronous aggregation. The server moves as soon as K updates are in, and those that come later count for less.

    model = model + serverLearningRate * (1 / K) * sum over i of (1 + staleness[i])^(-stalenessExponent) * change[i]

A change is the update less the model that it was trained from, and its staleness the number of training rounds between the two.
K is `spec.rounds.closeAt`, and `spec.rounds.carry` says how stale an update may be.
Without them everyone is waited for and nothing is stale, and with a learning rate of 1 this is the plain mean of the updates.
The numbers of examples do not count: who sends often counts often.
Each change is divided by K and not by the sum of the factors, so a buffer of stale changes makes a smaller step, as in the paper.

Source: Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek and Huba, "Federated Learning with Buffered Asynchronous Aggregation", 2022
(https://arxiv.org/abs/2106.06639).
"""

from collections.abc import Mapping
from decimal import Decimal

from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Parameter, Strategy, settle

__all__ = ["fedbuff"]

PARAMETERS = {
    "serverLearningRate": Parameter(1.0, low=1e-6, high=100),
    "stalenessExponent": Parameter(0.5, low=0, high=10),
}
"""serverLearningRate: the paper tunes it for each task; with 1 the model moves by the mean change.
stalenessExponent: the paper's; at 0 a stale change counts as much as a fresh one."""


def fedbuff(parameters: Mapping[str, float]) -> Strategy:
    """The model moves by the mean of the changes, each made smaller the staler it is."""
    settled = settle("fedbuff", parameters, PARAMETERS)
    eta, exponent = settled["serverLearningRate"], settled["stalenessExponent"]

    def weigh(cohort: Cohort) -> Coefficients:
        factors = tuple(_power(1 + member.staleness, -exponent) for member in cohort.members)
        buffered = len(factors)
        return Coefficients(factors, buffered / eta, 1 - eta * sum(factors) / buffered)

    return Strategy(weigh)


def _power(whole: int, exponent: float) -> float:
    """Replicas on different machines fold shards of one model, and their processors' powers may differ in the last bit; decimals do not."""
    return float(Decimal(whole) ** Decimal(exponent))
