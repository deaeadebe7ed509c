"""Yogi on the server: Adam whose step sizes grow back slowly, however small the changes have become.

    second = second - (1 - beta2) * change² * sign(second - change²)

The rest of the formula, and what is the same for its siblings, is in `fedopt`.
Source: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2 (https://arxiv.org/abs/2003.00295).
Flower's FedYogi computes the same.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedplane.aggregator.strategies.algebra import Strategy, settle
from fedplane.aggregator.strategies.fedopt import BETA2, ETA, TAU, adaptive, beta1

__all__ = ["fedyogi"]

PARAMETERS = {"eta": replace(ETA, default=0.01), "beta1": beta1(0.9), "beta2": BETA2, "tau": TAU}
"""eta: Flower's default for FedYogi. beta1: 0.9 in the authors' experiments with Yogi, and in Flower."""


def fedyogi(parameters: Mapping[str, float]) -> Strategy:
    """The second moment moves towards the square by a part of the square, not of their difference."""
    settled = settle("fedyogi", parameters, PARAMETERS)
    beta2 = settled["beta2"]
    return adaptive(settled, lambda second, square: second - (1 - beta2) * square * np.sign(second - square))
