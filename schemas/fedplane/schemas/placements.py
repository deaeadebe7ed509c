"""Which clusters a run may be placed on: Open Cluster Management's PlacementSpec, as it stands in `spec.client.placement`.

The schema is not ours and grows on its own, so fields that are unknown here are kept and passed on.
What the placement's own CRD refuses is refused here, too; what only its scheduler finds wrong is for our scheduler to say.
Source: cluster.open-cluster-management.io/v1beta1, as of version 1.3 of its API.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedplane.schemas.parts import Open, Part

__all__ = [
    "AddOnScore", "CelSelector", "ClaimSelector", "ClusterSelector", "DecisionGroup", "DecisionStrategy", "GroupClusterSelector",
    "GroupStrategy", "LabelSelector", "Placement", "Predicate", "PrioritizerConfiguration", "PrioritizerPolicy", "Requirement",
    "ScoreCoordinate", "SpreadConstraint", "SpreadPolicy", "Toleration", "WEIGHT_MAX",
]  # fmt: skip

WEIGHT_MAX = 10
"""A prioritizer's weight is from -10 to 10. The CRD's bound."""


class Requirement(Part):
    """One line of a selector: `key operator values`, as Kubernetes writes it."""

    key: str
    """The label's or the claim's name."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """What must hold of its value."""
    values: tuple[str, ...] = ()
    """The values that In and NotIn compare with; none for the other two."""


class LabelSelector(Open):
    """Labels a cluster must have; both parts must hold. An empty one holds for every cluster."""

    match_labels: dict[str, str] = Field(default={})
    """Labels with their values."""
    match_expressions: tuple[Requirement, ...] = ()
    """Conditions on labels; all must hold."""


class ClaimSelector(Open):
    """Claims a cluster must have."""

    match_expressions: tuple[Requirement, ...] = ()
    """Conditions on claims; all must hold."""


class CelSelector(Open):
    """Expressions in the Common Expression Language about the cluster."""

    cel_expressions: tuple[str, ...] = ()
    """Expressions that must all be true; `managedCluster` is the cluster."""


class ClusterSelector(Open):
    """Labels, claims and expressions; all must hold."""

    label_selector: LabelSelector = LabelSelector()
    """What must hold of the cluster's labels."""
    claim_selector: ClaimSelector = ClaimSelector()
    """What must hold of the cluster's claims."""
    cel_selector: CelSelector = CelSelector()
    """What must hold of the cluster as a whole."""


class Predicate(Open):
    """One alternative of a placement's predicates."""

    required_cluster_selector: ClusterSelector = ClusterSelector()
    """What a cluster must be to satisfy the predicate."""


class AddOnScore(Open):
    """A score that an add-on gives to clusters."""

    resource_name: str
    """The AddOnPlacementScore's name, in each cluster's namespace."""
    score_name: str
    """The score's name within it."""


class ScoreCoordinate(Open):
    """Where a score comes from."""

    type: Literal["BuiltIn", "AddOn"] = "BuiltIn"
    """Whether the placement's scheduler computes the score or an add-on gives it."""
    built_in: str = ""
    """Balance, Steady, ResourceAllocatableCPU or ResourceAllocatableMemory."""
    add_on: AddOnScore | None = None
    """Which score, if an add-on gives it."""


class PrioritizerConfiguration(Open):
    """A score, and how much it counts."""

    score_coordinate: ScoreCoordinate | None = None
    """Where the score comes from."""
    weight: int = Field(default=1, ge=-WEIGHT_MAX, le=WEIGHT_MAX)
    """How much it counts; 0 leaves it out, and a negative one prefers the clusters that score low."""


class PrioritizerPolicy(Open):
    """How clusters are compared."""

    mode: str = "Additive"
    """Additive: Balance and Steady count 1 unless said otherwise. Exact: only what is configured counts."""
    configurations: tuple[PrioritizerConfiguration, ...] = ()
    """The scores that count."""


class Toleration(Open):
    """A taint that does not keep a cluster from being chosen."""

    key: str = Field(default="", max_length=316)
    """The taint's key; none, with Exists, means any."""
    operator: Literal["", "Equal", "Exists"] = "Equal"
    """Whether the taint's value must be equal, as if nothing is said, or may be any."""
    value: str = Field(default="", max_length=1024)
    """The taint's value."""
    effect: Literal["", "NoSelect", "PreferNoSelect", "NoSelectIfNew"] = ""
    """The taint's effect; none means any."""
    toleration_seconds: int | None = None
    """For how long after the taint was added it is tolerated; none means for ever."""


class SpreadConstraint(Open):
    """How evenly clusters are to be spread over a label's or a claim's values."""

    topology_key: str
    """The label or the claim."""
    topology_key_type: Literal["Label", "Claim"]
    """Which of both it is."""
    max_skew: int = Field(default=1, ge=1)
    """By how many clusters values may differ."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "ScheduleAnyway"
    """What to do if that cannot be."""


class SpreadPolicy(Open):
    """How clusters are to be spread. Open Cluster Management declares this and does not do it; nor do we."""

    spread_constraints: Annotated[tuple[SpreadConstraint, ...], Field(max_length=8)] = ()
    """The constraints."""


class GroupClusterSelector(Open):
    """Labels and claims; both must hold."""

    label_selector: LabelSelector = LabelSelector()
    """What must hold of the cluster's labels."""
    claim_selector: ClaimSelector = ClaimSelector()
    """What must hold of the cluster's claims."""


class DecisionGroup(Open):
    """Chosen clusters that belong together."""

    group_name: str
    """The group's name."""
    group_cluster_selector: GroupClusterSelector
    """Which clusters are in it."""


class GroupStrategy(Open):
    """How chosen clusters are put into groups."""

    decision_groups: tuple[DecisionGroup, ...] = ()
    """Groups with names, which take their clusters first, in this order."""
    clusters_per_decision_group: int | Annotated[str, Field(pattern=r"^((100|[1-9][0-9]{0,1})%|[1-9][0-9]*)$")] = "100%"
    """How many clusters a group may have: a number, or a percentage of the chosen ones."""


class DecisionStrategy(Open):
    """What is to be done with the chosen clusters."""

    group_strategy: GroupStrategy = GroupStrategy()
    """How they are put into groups."""


class Placement(Open):
    """Open Cluster Management's PlacementSpec. A cluster must satisfy any one of the predicates, if there are any."""

    cluster_sets: tuple[str, ...] = ()
    """The sets that clusters are taken from; none means all."""
    number_of_clusters: int | None = Field(default=None, ge=0)
    """How many clusters are chosen; none means all that may be."""
    predicates: tuple[Predicate, ...] = ()
    """What a cluster must be."""
    prioritizer_policy: PrioritizerPolicy | None = None
    """How clusters are compared, if not by our criteria."""
    spread_policy: SpreadPolicy | None = None
    """How clusters are to be spread."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that do not keep a cluster from being chosen."""
    decision_strategy: DecisionStrategy | None = None
    """How the chosen clusters are put into groups."""
