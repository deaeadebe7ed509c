"""Memory: more allocatable memory holds larger batches and leaves room for the others on the cluster."""

from decimal import Decimal

from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.scoring.saturation import saturating
from fedplane.schemas.resources import FederatedLearning

__all__ = ["score"]

BYTES_HALF = Decimal(16 * 1024**3)
"""16 GiB score one half: two for each of the eight cores that do so in `cpu`."""


def score(resource: FederatedLearning, cluster: Cluster) -> float:
    """More bytes score higher."""
    return saturating(cluster.memory, BYTES_HALF)
