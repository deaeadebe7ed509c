"""What a hub has for placements: clusters of the set "prod", which the namespace "ml" is bound to."""

from typing import Any

from fedplane.scheduler.ocm.inventory import EXCLUSIVE_LABEL, Binding, ClusterSet, Inventory, ManagedCluster

__all__ = ["cluster", "hub"]


def cluster(name: str, zone: str = "north", of: str = "prod", **said: Any) -> ManagedCluster:
    """A cluster in a zone and a set."""
    return ManagedCluster(name=name, labels={EXCLUSIVE_LABEL: of, "zone": zone}, document={"metadata": {"name": name}}, **said)


def hub(*clusters: ManagedCluster, **had: Any) -> Inventory:
    """These clusters, and whatever else the hub has."""
    given = {"sets": {"prod": ClusterSet("prod")}, "bindings": (Binding("ml", "prod"),)} | had
    return Inventory(clusters={each.name: each for each in clusters}, **given)
