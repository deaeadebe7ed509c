"""Robust federated aggregation: the geometric median of the updates, by a few weighted means of them.

    v = mean of the updates, weighted by examples
    iterations times:  b[i] = examples[i] / max(nu, |v - update[i]|),   v = (sum of b[i] * update[i]) / sum of b[i]

The geometric median is the point whose weighted distances to all updates are the least in sum.
Members with less than half of the examples cannot move it far, whatever they send.
v is always a weighted mean of the updates. So its distances follow from those between members, and the updates are read no more often.
Source: Pillutla, Kakade and Harchaoui 2019 (the smoothed Weiszfeld algorithm),
"Robust Aggregation for Federated Learning" (https://arxiv.org/abs/1912.13445).
"""

from collections.abc import Mapping

import numpy as np

from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Parameter, Strategy, distances, settle

__all__ = ["rfa"]

PARAMETERS = {"iterations": Parameter(50, low=1, high=1000, whole=True), "nu": Parameter(1e-6, low=1e-12, high=1e6)}
"""The authors' own code takes two to five means, since each costs a round of communication. Here they cost nothing, and few are too few
for who means harm: an update a thousand times as large as the others needs about ten to lose all its weight, a million times about twenty.
nu keeps a member that v coincides with from dividing by zero; the value is that of the authors' code for TensorFlow Federated."""


def rfa(parameters: Mapping[str, float]) -> Strategy:
    """The geometric median is the next model."""
    settled = settle("rfa", parameters, PARAMETERS)
    iterations, nu = int(settled["iterations"]), settled["nu"]

    def weigh(cohort: Cohort) -> Coefficients:
        squared, examples = distances(cohort.compared), np.array([member.weight for member in cohort.members])
        shares = examples / examples.sum()
        for _ in range(iterations):
            # |v - u[i]|^2 for v = sum of shares[j] * u[j], by the theorem of Leibniz (that of Huygens and Steiner)
            spread = squared @ shares
            away = np.sqrt(np.maximum(spread - shares @ spread / 2, 0.0))
            pulls = examples / np.maximum(away, nu)
            shares = pulls / pulls.sum()
        return Coefficients(tuple(float(share) for share in shares), float(shares.sum()))

    return Strategy(weigh, compares=True)
