"""FedProx: clusters whose data differ are kept from drifting apart, by a term that holds each one near the model that it was sent.

    each cluster minimizes  loss(w) + mu / 2 * |w - model|²
    model = mean of the updates, weighted by examples

Source: Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, "Federated Optimization in Heterogeneous Networks", 2020, algorithm 2
(https://arxiv.org/abs/1812.06127).
The server averages, as Flower's FedProx does: by examples, over all who answered.
The term is the app's business: it is told mu as `proximal-mu` in the configuration, which is the name that Flower's FedProx uses.
An app that does not read it trains as under federated averaging, and the server cannot tell.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Parameter, Strategy, settle
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["fedprox"]

PARAMETERS = {"mu": Parameter(0.01, low=0, high=1000)}
"""The paper tries 0.001, 0.01, 0.1 and 1, and finds the best to be 0.001, 0.01 or 1, by the dataset.
This is a mild one: a large mu slows training down. Flower's default is 0, which is federated averaging."""


def fedprox(parameters: Mapping[str, float]) -> Strategy:
    """The weighted mean is the next model; the clients are told mu."""
    settled = settle("fedprox", parameters, PARAMETERS)
    return Strategy(by_examples, sums=True, tells={"proximal-mu": settled["mu"]})
