"""Adagrad on the server: an element's steps become smaller the more it has moved since the run began.

    second = second + change²

The rest of the formula, and what is the same for its siblings, is in `fedopt`.
Source: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2 (https://arxiv.org/abs/2003.00295).
Flower's FedAdagrad computes the same, without a beta1 to set.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Strategy, settle
from fedplane.aggregator.strategies.fedopt import ETA, TAU, adaptive, beta1

__all__ = ["fedadagrad"]

PARAMETERS = {"eta": ETA, "beta1": beta1(0.0), "tau": TAU}
"""beta1: Flower's; the authors' experiments take Keras' Adagrad, which has no momentum. There is no beta2, because nothing is forgotten."""


def fedadagrad(parameters: Mapping[str, float]) -> Strategy:
    """The second moment is the sum of all squares."""
    return adaptive(settle("fedadagrad", parameters, PARAMETERS), lambda second, square: second + square)
