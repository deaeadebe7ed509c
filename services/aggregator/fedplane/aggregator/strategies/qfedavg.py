"""q-FedAvg: clusters on which the model does badly count more, so that it becomes about as good for everybody.

    L         = 1 / clientLearningRate
    weight[i] = L * loss[i]^q
    h[i]      = q * loss[i]^(q - 1) * |L * (update[i] - model)|² + weight[i]
    model     = model + (sum of weight[i] * (update[i] - model)) / sum of h[i]

Source: Li, Sanjabi, Beirami and Smith, "Fair Resource Allocation in Federated Learning", 2020, algorithm 2
(https://arxiv.org/abs/1905.10497).
The losses alone decide, not the numbers of examples: with q = 0 this is the plain mean of the updates.

A cluster's loss is the first of the metrics `loss`, `train-loss` and `train_loss` that all clusters reported when they trained.
The paper means the loss of the model that a cluster was sent, before training; an app that measures that reports it as `loss`.
The other two are what Flower's apps call the loss while they train, which is near it.

Flower's QFedAvg computes the same; it asks for the loss by one name, `train_loss` unless told otherwise.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Cohort, Member, Parameter, Strategy, Vector, settle

__all__ = ["qfedavg"]

PARAMETERS = {
    "q": Parameter(0.1, low=0, high=20),
    "clientLearningRate": Parameter(0.1, low=1e-6, high=100),
}
"""q: Flower's default, and a mild one; the authors' own example takes 5. It has to be tuned.
clientLearningRate must be the app's own, which only the app knows, so 0.1 is a place to begin. Flower has no default."""

LOSSES = ("loss", "train-loss", "train_loss")
LOSS_MIN = 1e-10
"""Is added to each loss, as the authors' code and Flower do: a loss of 0 to the power of q - 1 would be infinite."""


def qfedavg(parameters: Mapping[str, float]) -> Strategy:
    """The mean of the changes, weighted by powers of the losses; the length of the step follows from the changes' norms."""
    settled = settle("qfedavg", parameters, PARAMETERS)
    q, lipschitz = settled["q"], 1 / settled["clientLearningRate"]

    def weigh(cohort: Cohort) -> Coefficients:
        losses = _losses(cohort.members) + LOSS_MIN
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            weights = lipschitz * losses**q
            divisor = float(np.sum(q * losses ** (q - 1) * lipschitz**2 * np.diag(cohort.compared) + weights))
        if not np.isfinite(divisor):
            raise CannotFold(
                f"qfedavg cannot raise a loss of {losses.max():g} to the power of {q:g}: training has diverged, or q is too large"
            )
        return Coefficients(tuple(float(weight) for weight in weights), divisor, 1 - float(np.sum(weights)) / divisor)

    return Strategy(weigh, compares=True)


def _losses(members: Sequence[Member]) -> Vector:
    """The members' losses, all by the same name."""
    for name in LOSSES:
        if all(name in member.metrics for member in members):
            break
    else:
        reported = ", ".join(f"{member.cluster} {sorted(member.metrics.keys() & set(LOSSES))}" for member in members)
        raise CannotFold(
            f"qfedavg needs a loss by one name of every cluster ({' or '.join(LOSSES)}), and has {reported}: "
            "return it as a metric from the app's train function"
        )
    negative = [member.cluster for member in members if member.metrics[name] < 0]
    if negative:
        raise CannotFold(f"qfedavg needs losses of 0 or more, and {name} is negative for {', '.join(negative)}: return another loss")
    return np.array([member.metrics[name] for member in members])
