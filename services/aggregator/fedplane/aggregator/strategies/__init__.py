"""The strategies: one file each, named after its paper, and one line here. What a strategy is, is in `algebra`."""

from collections.abc import Callable, Mapping

from fedplane.aggregator.strategies.algebra import Strategy
from fedplane.aggregator.strategies.fedavg import fedavg
from fedplane.runtime.errors import BadInput
from fedplane.schemas.resources import StrategySpec

__all__ = ["STRATEGIES", "make"]

STRATEGIES: dict[str, Callable[[Mapping[str, float]], Strategy]] = {
    "fedavg": fedavg,
}


def make(spec: StrategySpec) -> Strategy:
    """The strategy that a resource names. Raises BadInput with the known names, or what is wrong with a parameter."""
    if spec.name not in STRATEGIES:
        raise BadInput(f"spec.strategy.name: there is no strategy {spec.name!r}; known are {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[spec.name](spec.parameters)
