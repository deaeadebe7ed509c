"""Steadiness: a cluster that took part in this resource's last run has the image, the data and the app's environment at hand.

It is decided by the log of the runs alone: whoever reads the same log says the same.
How steadily a cluster renews its lease cannot be decided so, since the fleet stream keeps only the last advertisement.
"""

from fedplane.scheduler.fleet import Cluster
from fedplane.schemas.resources import FederatedLearning

__all__ = ["score"]


def score(resource: FederatedLearning, cluster: Cluster) -> float:
    """1 if the cluster took part in the last run of the resource of this namespace and name, else 0."""
    return float(cluster.took_part)
