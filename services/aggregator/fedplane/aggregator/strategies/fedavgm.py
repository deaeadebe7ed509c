"""Federated averaging with server momentum: the server keeps moving in the direction in which past rounds agreed.

    change   = mean of the updates, weighted by examples - model
    velocity = momentum * velocity + change
    model    = model + eta * velocity

Source: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019
(https://arxiv.org/abs/1909.06335).
The server's memory is the velocity, zero at first. It is the plain form of momentum, not Nesterov's.

Flower's FedAvgM computes the same; its default momentum is 0, which is federated averaging.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Parameter, Strategy, Vector, settle
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["fedavgm"]

PARAMETERS = {
    "momentum": Parameter(0.9, low=0, high=0.9999),
    "eta": Parameter(1.0, low=1e-6, high=100),
}
"""momentum: the value with which Reddi et al. (https://arxiv.org/abs/2003.00295) run FedAvgM in their experiments.
At 1 a velocity would never fade.
eta, the server's learning rate: Flower's default, with which the velocity is added as it is."""


def fedavgm(parameters: Mapping[str, float]) -> Strategy:
    """The model moves by a velocity that remembers past rounds."""
    settled = settle("fedavgm", parameters, PARAMETERS)
    momentum, eta = settled["momentum"], settled["eta"]

    def advance(model: Vector, proposal: Vector, memory: tuple[Vector, ...], training_round: int) -> tuple[Vector, tuple[Vector, ...]]:
        velocity = momentum * memory[0] + (proposal - model)
        return model + eta * velocity, (velocity,)

    return Strategy(by_examples, sums=True, advance=advance, memories=1)
