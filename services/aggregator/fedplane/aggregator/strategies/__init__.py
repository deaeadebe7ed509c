"""The strategies: how contributions become the next model. One file each, named after its paper, and one line here.

The algebra is that of TensorFlow Federated's aggregators: `zero`, `accumulate`, `merge`, `report`.
Every strategy here is computed element by element, so it works on a shard or on any part of one.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator.strategies.fedavg import FedAvg, Partial
from fedplane.runtime.errors import BadInput
from fedplane.schemas.resources import StrategySpec

__all__ = ["STRATEGIES", "Partial", "Strategy", "make"]


class Strategy(Protocol):
    """What folding needs of a strategy. Arrays are one-dimensional; partials are float64 and may be changed in place."""

    def zero(self, size: int) -> Partial:
        """The fold of nothing, for `size` elements."""
        ...

    def accumulate(self, partial: Partial, values: NDArray[Any], weight: float) -> Partial:
        """The fold with one more contribution."""
        ...

    def merge(self, one: Partial, other: Partial) -> Partial:
        """The fold of both folds' contributions."""
        ...

    def report(self, partial: Partial) -> NDArray[np.float64]:
        """The result, float64."""
        ...


STRATEGIES: dict[str, Callable[[dict[str, float]], Strategy]] = {
    "fedavg": FedAvg.of,
}


def make(spec: StrategySpec) -> Strategy:
    """The strategy that a resource names. Raises BadInput with the known names, or the known parameters."""
    if spec.name not in STRATEGIES:
        raise BadInput(f"spec.strategy.name: there is no strategy {spec.name!r}; known are {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[spec.name](spec.parameters)
