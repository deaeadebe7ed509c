"""Balance: a cluster that is busy with other runs should be left to them."""

from fedplane.scheduler.fleet import Cluster
from fedplane.schemas.resources import FederatedLearning

__all__ = ["score"]


def score(resource: FederatedLearning, cluster: Cluster) -> float:
    """1 / (1 + live runs): the share of the cluster that this run would get if all runs shared it equally."""
    return 1 / (1 + cluster.live_runs)
