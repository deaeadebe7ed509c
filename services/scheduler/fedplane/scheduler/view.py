"""A cluster of our fleet as Open Cluster Management sees it, so that one set of rules judges both kinds of clusters.

What a hub says of a cluster comes first. A cluster that only advertises itself has no taints, and can allocate all it has.
"""

from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.ocm.amounts import approximate
from fedplane.scheduler.ocm.inventory import Inventory, ManagedCluster

__all__ = ["managed"]


def managed(cluster: Cluster, hub: Inventory) -> ManagedCluster:
    """The cluster as a ManagedCluster."""
    known = hub.clusters.get(cluster.name)
    if known is not None:
        return known
    amounts = {
        name: approximate(amount) for name, amount in (("cpu", cluster.cpu), ("memory", cluster.memory)) if name in cluster.allocatable
    }
    return ManagedCluster(
        name=cluster.name,
        labels=cluster.labels,
        claims=cluster.claims,
        allocatable=amounts,
        capacity=amounts,
        document={
            "metadata": {"name": cluster.name, "labels": dict(cluster.labels)},
            "spec": {"hubAcceptsClient": True},
            "status": {
                "allocatable": dict(cluster.allocatable),
                "capacity": dict(cluster.allocatable),
                "clusterClaims": [{"name": name, "value": value} for name, value in cluster.claims.items()],
            },
        },
    )
