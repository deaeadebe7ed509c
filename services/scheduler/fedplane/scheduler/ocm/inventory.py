"""What a hub says about its clusters, as plain values: the state that a placement is computed on.

Nothing here knows Kubernetes. `reading` makes these values of the objects' JSON, and our own fleet can be seen as them, too (`view`).
Amounts of resources are floats, because Open Cluster Management compares them as floats and its scores are to come out the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fedplane.schemas.placements import LabelSelector

__all__ = ["AddOnPlacementScore", "Binding", "ClusterSet", "Decision", "EXCLUSIVE_LABEL", "Inventory", "ManagedCluster", "NO_HUB", "Taint"]

EXCLUSIVE_LABEL = "cluster.open-cluster-management.io/clusterset"
"""The label by which a cluster is in exactly one of the sets that do not select by labels of their own."""


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps placements away from a cluster. `added` is None if nobody says when: then it was always there."""

    key: str
    value: str = ""
    effect: str = "NoSelect"
    added: datetime | None = None


@dataclass(frozen=True, slots=True)
class ManagedCluster:
    """One ManagedCluster.

    `accepted` is `spec.hubAcceptsClient`; `conditions` has the status of each condition by its type ("True", "False", "Unknown").
    `document` is the whole object, for expressions.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, float] = field(default_factory=dict)
    capacity: Mapping[str, float] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = True
    deleting: bool = False
    document: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterSet:
    """One ManagedClusterSet. It selects by `labels`; without `by_labels`, it has the clusters whose exclusive label is its name.

    As in Kubernetes, an empty selector has every cluster, and a selector that is left out (None) has none.
    """

    name: str
    by_labels: bool = False
    labels: LabelSelector | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """One ManagedClusterSetBinding, which lets a namespace use a set. Its name is the set's."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One PlacementDecision: clusters of a placement."""

    namespace: str
    placement: str
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddOnPlacementScore:
    """One AddOnPlacementScore: an add-on's scores of one cluster. `valid_until` None means for ever."""

    cluster: str
    name: str
    scores: tuple[tuple[str, int], ...] = ()
    valid_until: datetime | None = None


@dataclass(frozen=True)
class Inventory:
    """All that a hub has. Clusters, sets and scores are by name; a score's name is the cluster's and its own."""

    clusters: Mapping[str, ManagedCluster] = field(default_factory=dict)
    sets: Mapping[str, ClusterSet] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()
    decisions: tuple[Decision, ...] = ()
    scores: Mapping[tuple[str, str], AddOnPlacementScore] = field(default_factory=dict)

    def decided(self, namespace: str, placement: str) -> frozenset[str]:
        """The clusters that the placement has now."""
        own = (decision for decision in self.decisions if (decision.namespace, decision.placement) == (namespace, placement))
        return frozenset(cluster for decision in own for cluster in decision.clusters)

    def others(self, namespace: str, placement: str) -> Iterable[str]:
        """The clusters of all other placements, one as often as it was chosen."""
        others = (decision for decision in self.decisions if (decision.namespace, decision.placement) != (namespace, placement))
        return (cluster for decision in others for cluster in decision.clusters)


NO_HUB = Inventory()
"""What is known where there is no Open Cluster Management."""
