"""SCAFFOLD: clusters whose data differ correct each local step by what they know of each other's gradients, and do not drift apart.

With N clusters in the run, of which those in S contribute to a round, x the model and c the mean of the clusters' own c[i]:

    each cluster:  K times:  y = y - lr * (gradient at y - c[i] + c),   from y = x
                   c[i]' = c[i] - c + (x - y) / (K * lr)
    the server:    x = x + eta * mean over S of (y[i] - x)
                   c = c + |S| / N * mean over S of (c[i]' - c[i])

Source: Karimireddy, Kale, Mohri, Reddi, Stich and Suresh 2020, with the second of its two options for c[i],
"SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (https://arxiv.org/abs/1910.06378).
Means are over clusters, not examples, as in the paper.

c travels with the model, as ordinary tensors: `control.W` beside each `W` that is trained, of its shape, and zero in the initial model.
So it is stored, cut, checked and sent as the model is, and an app needs nothing that it does not have anyway.
A cluster answers with y, and with c + c[i]' - c[i] in place of c; its own c[i], zero at first, it keeps.
The server weighs the tensors apart whose names begin with `control.`, and nothing else is special about them.

What a cluster sent and the server did not count, because it was late, stale or refused, would stay in its c[i] and never reach c.
Then c is no more the mean, and the model ends beside the optimum. How an app finds out is in docs/how-to/choose-a-strategy.md.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Parameter, Strategy, settle

__all__ = ["CONTROL", "scaffold"]

CONTROL = "control."
"""What the names of control variates begin with."""

PARAMETERS = {"eta": Parameter(1.0, low=1e-6, high=100)}
"""eta, the server's learning rate: 1, with which the next model is the mean."""


def scaffold(parameters: Mapping[str, float]) -> Strategy:
    """The model goes towards the mean of the updates, and the control variates to the mean over all clusters."""
    eta = settle("scaffold", parameters, PARAMETERS)["eta"]

    def weigh(cohort: Cohort) -> Coefficients:
        fresh = _fresh(cohort)
        return Coefficients(tuple(eta * counts for counts in fresh), sum(fresh), 1 - eta)

    return Strategy(weigh, apart={CONTROL: _weigh_controls}, counts_late=False)


def _weigh_controls(cohort: Cohort) -> Coefficients:
    """Clusters that are not counted leave c as it is."""
    fresh = _fresh(cohort)
    return Coefficients(fresh, cohort.clusters, 1 - sum(fresh) / cohort.clusters)


def _fresh(cohort: Cohort) -> tuple[float, ...]:
    """1 for members whose answer is to this round's question. A later one has changed an older c, and cannot be added to this one."""
    return tuple(float(member.staleness == 0) for member in cohort.members)
