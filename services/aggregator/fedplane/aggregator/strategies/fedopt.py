"""Adaptive server optimizers: the mean change of a round is taken for a gradient, and each element has a step size of its own.

    change = mean of the updates, weighted by examples - model
    first  = beta1 * first + (1 - beta1) * change
    second = what FedAdagrad, FedAdam and FedYogi differ in
    model  = model + eta * first / (sqrt(second) + tau)

Source: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar and McMahan, "Adaptive Federated Optimization", 2021, algorithm 2
(https://arxiv.org/abs/2003.00295). The three strategies have files of their own; this is what they share.
The server's memory is the two moments, zero at first.
The authors' experiments and Flower begin with zero, too: tau alone keeps the quotient finite.
As in the paper, there is no correction for moments that begin at zero.
What the authors did in their experiments is in their code's own pages (https://github.com/google-research/federated, optimization/docs).
"""

from collections.abc import Callable

import numpy as np

from fedplane.aggregator.strategies.algebra import Parameter, Strategy, Vector
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["BETA2", "ETA", "TAU", "SecondMoment", "adaptive", "beta1"]

SecondMoment = Callable[[Vector, Vector], Vector]
"""The second moment so far, and the square of the change, to the next second moment."""

ETA = Parameter(0.1, low=1e-6, high=100)
"""The server's learning rate. The authors tune it for each task, and their best values are from 0.003 to 10; this is Flower's default."""

BETA2 = Parameter(0.99, low=0, high=0.9999)
"""How long the second moment remembers: Flower's default. The authors' pages have 0.999. At 1 it would stay zero for ever."""

TAU = Parameter(1e-3, low=1e-12, high=10)
"""How adaptive the steps are, less if it is greater: what the authors recommend to begin with. Above 0, or 0 is divided by 0."""


def beta1(default: float) -> Parameter:
    """How long the first moment remembers. At 1 it would stay zero for ever."""
    return Parameter(default, low=0, high=0.9999)


def adaptive(settled: dict[str, float], second_moment: SecondMoment) -> Strategy:
    """The strategy with these parameters (eta, beta1, tau) and this second moment."""
    eta, remembered, tau = settled["eta"], settled["beta1"], settled["tau"]

    def advance(model: Vector, proposal: Vector, memory: tuple[Vector, ...], training_round: int) -> tuple[Vector, tuple[Vector, ...]]:
        change = proposal - model
        first = remembered * memory[0] + (1 - remembered) * change
        second = second_moment(memory[1], np.square(change))
        return model + eta * first / (np.sqrt(second) + tau), (first, second)

    return Strategy(by_examples, sums=True, advance=advance, memories=2)
