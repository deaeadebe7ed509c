"""Adam on the server: an element's steps are smaller the more it moved of late.

    second = beta2 * second + (1 - beta2) * change²

The rest of the formula, and what is the same for its siblings, is in `fedopt`.
Source: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2 (https://arxiv.org/abs/2003.00295).

Flower's FedAdam multiplies each round's step by sqrt(1 - beta2^(t + 1)) / (1 - beta1^(t + 1)), where t counts rounds from 1.
That is meant to be the correction of Kingma and Ba (https://arxiv.org/abs/1412.6980), whose exponent is t.
Reddi et al. have no correction, and neither do we.
With the defaults Flower's first step is 0.74 of ours, and its three hundredth 0.98.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Strategy, settle
from fedplane.aggregator.strategies.fedopt import BETA2, ETA, TAU, adaptive, beta1

__all__ = ["fedadam"]

PARAMETERS = {"eta": ETA, "beta1": beta1(0.9), "beta2": BETA2, "tau": TAU}
"""beta1: 0.9 in the authors' experiments with Adam, and in Flower."""


def fedadam(parameters: Mapping[str, float]) -> Strategy:
    """The second moment is a fading mean of squares."""
    settled = settle("fedadam", parameters, PARAMETERS)
    beta2 = settled["beta2"]
    return adaptive(settled, lambda second, square: beta2 * second + (1 - beta2) * square)
