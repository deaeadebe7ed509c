"""Federated averaging: the mean of the updates, weighted by their numbers of examples.

Source: McMahan, Moore, Ramage, Hampson and Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
2017,
algorithm 1 (https://arxiv.org/abs/1602.05629). It has no hyper-parameters on the server.

Sums are float64 whatever the updates' dtype: with float32 inputs, the rounding of a sum of a thousand of them stays below that of the
result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.runtime.errors import BadInput

__all__ = ["FedAvg", "Partial"]

BLOCK_ELEMENTS = 16_384
"""A block's sums are 128 KiB, so it stays in the second-level cache while it is converted, scaled and added."""


@dataclass(slots=True)
class Partial:
    """A weighted sum: `total` (float64, one-dimensional) and the weights' sum."""

    total: NDArray[np.float64]
    weight: float


@dataclass(frozen=True, slots=True)
class FedAvg:
    """The weighted mean."""

    @classmethod
    def of(cls, parameters: dict[str, float]) -> "FedAvg":
        """Raises BadInput if there are parameters."""
        if parameters:
            raise BadInput(f"spec.strategy.parameters: fedavg has none, not {', '.join(sorted(parameters))}")
        return cls()

    def zero(self, size: int) -> Partial:
        """The fold of nothing."""
        return Partial(np.zeros(size, np.float64), 0.0)

    def accumulate(self, partial: Partial, values: NDArray[Any], weight: float) -> Partial:
        """Add `weight` times the values, of any real dtype, in place."""
        for begin in range(0, len(values), BLOCK_ELEMENTS):
            block = values[begin : begin + BLOCK_ELEMENTS].astype(np.float64)
            block *= weight
            partial.total[begin : begin + BLOCK_ELEMENTS] += block
        partial.weight += weight
        return partial

    def merge(self, one: Partial, other: Partial) -> Partial:
        """Both sums, in the first one's place."""
        one.total += other.total
        one.weight += other.weight
        return one

    def report(self, partial: Partial) -> NDArray[np.float64]:
        """The mean. Defined only if something was accumulated."""
        assert partial.weight > 0, "the round machine lets nobody report a fold of nothing"
        return partial.total / partial.weight
