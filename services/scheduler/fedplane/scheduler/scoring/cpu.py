"""CPU: more allocatable cores train faster."""

from decimal import Decimal

from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.scoring.saturation import saturating
from fedplane.schemas.resources import FederatedLearning

__all__ = ["score"]

CORES_HALF = Decimal(8)
"""Eight cores score one half: a small worker node, so that the curve is steep where clusters at the edge really differ."""


def score(resource: FederatedLearning, cluster: Cluster) -> float:
    """More cores score higher."""
    return saturating(cluster.cpu, CORES_HALF)
