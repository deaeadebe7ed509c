"""FedNova: clusters that take more local steps do not pull the model towards themselves.

Each cluster's change is divided by its number of local steps, and their mean is multiplied by the mean number of steps.

    share[i] = examples[i] / sum of examples
    steps    = sum of share[i] * steps[i]
    model    = model + steps * sum of share[i] * (update[i] - model) / steps[i]

Source: Wang, Liu, Liang, Joshi and Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", 2020
(https://arxiv.org/abs/2007.07481). It has no hyper-parameters on the server.

A cluster's number of steps is its metric `num-steps`, which the app's train function must return: how many times its optimizer stepped.
That is right for plain SGD.
For momentum or another local optimizer the paper divides by the sum of the absolute weights with which the gradients entered the change.
That is its vector a, and the app returns it instead.
When all take as many steps, this is federated averaging.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Cohort, Strategy, settle

__all__ = ["fednova"]

STEPS = "num-steps"
"""Named as Flower names `num-examples`."""

STEPS_MAX = 1e9
"""More is a mistake in counting, and would move the model by as much."""


def fednova(parameters: Mapping[str, float]) -> Strategy:
    """The mean of changes per step, times the mean number of steps."""
    settle("fednova", parameters, {})
    return Strategy(_weigh)


def _weigh(cohort: Cohort) -> Coefficients:
    members = cohort.members
    without = [member.cluster for member in members if not 1 <= member.metrics.get(STEPS, 0.0) <= STEPS_MAX]
    if without:
        raise CannotFold(
            f"fednova needs the metric {STEPS}, from 1 to {STEPS_MAX:g}, of every cluster, and has none of {', '.join(without)}: "
            "return the number of local steps from the app's train function"
        )
    examples = sum(member.weight for member in members)
    mean = sum(member.weight * member.metrics[STEPS] for member in members) / examples
    factors = [mean / member.metrics[STEPS] for member in members]
    values = tuple(member.weight * factor for member, factor in zip(members, factors, strict=True))
    rest = sum(member.weight * (1 - factor) for member, factor in zip(members, factors, strict=True)) / examples
    return Coefficients(values, examples, rest)
