"""The strategies: one file each, named after its paper, and one line here. What a strategy is, is in `algebra`."""

from collections.abc import Callable, Mapping

from fedplane.aggregator.strategies.algebra import Strategy
from fedplane.aggregator.strategies.app import app
from fedplane.aggregator.strategies.append import append
from fedplane.aggregator.strategies.bulyan import bulyan
from fedplane.aggregator.strategies.fedadagrad import fedadagrad
from fedplane.aggregator.strategies.fedadam import fedadam
from fedplane.aggregator.strategies.fedavg import fedavg
from fedplane.aggregator.strategies.fedavgm import fedavgm
from fedplane.aggregator.strategies.fedbuff import fedbuff
from fedplane.aggregator.strategies.fedmedian import fedmedian
from fedplane.aggregator.strategies.fednova import fednova
from fedplane.aggregator.strategies.fedprox import fedprox
from fedplane.aggregator.strategies.fedyogi import fedyogi
from fedplane.aggregator.strategies.krum import krum
from fedplane.aggregator.strategies.multikrum import multikrum
from fedplane.aggregator.strategies.normclip import normclip
from fedplane.aggregator.strategies.qfedavg import qfedavg
from fedplane.aggregator.strategies.rfa import rfa
from fedplane.aggregator.strategies.scaffold import scaffold
from fedplane.aggregator.strategies.trimmedmean import trimmedmean
from fedplane.runtime.errors import BadInput
from fedplane.schemas.resources import StrategySpec

__all__ = ["STRATEGIES", "make"]

STRATEGIES: dict[str, Callable[[Mapping[str, float]], Strategy]] = {
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedadagrad": fedadagrad,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedprox": fedprox,
    "fednova": fednova,
    "scaffold": scaffold,
    "fedbuff": fedbuff,
    "qfedavg": qfedavg,
    "normclip": normclip,
    "fedmedian": fedmedian,
    "trimmedmean": trimmedmean,
    "krum": krum,
    "multikrum": multikrum,
    "bulyan": bulyan,
    "rfa": rfa,
    "append": append,
    "app": app,
}


def make(spec: StrategySpec) -> Strategy:
    """The strategy that a resource names. Raises BadInput with the known names, or what is wrong with a parameter."""
    if spec.name not in STRATEGIES:
        raise BadInput(f"spec.strategy.name: there is no strategy {spec.name!r}; known are {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[spec.name](spec.parameters)
