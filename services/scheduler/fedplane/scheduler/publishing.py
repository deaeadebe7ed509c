"""A run's clusters as other tools of Open Cluster Management see them: a Placement of the object's name, and its PlacementDecisions.

Names, labels and the order of clusters are upstream's, so what reads the decisions of its scheduler reads ours.
An annotation tells that scheduler to leave this Placement alone. The choice is on the log, and this only shows it.
What goes wrong in showing it stops no run.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fedplane.scheduler.ocm.conditions import Misconfigured
from fedplane.scheduler.ocm.groups import PlacementDecision, decisions, groups
from fedplane.scheduler.ocm.inventory import ManagedCluster
from fedplane.scheduler.wishes import Wish
from fedplane.scheduler.works import LABELS, RUN_LABEL
from fedplane.schemas.placements import DecisionStrategy
from fedplane.schemas.resources import API_VERSION, KIND

__all__ = ["PLACEMENT_LABEL", "SCHEDULING_DISABLED", "decision_bodies", "is_ours", "placement_body", "run_of"]

_GROUP = "cluster.open-cluster-management.io"

SCHEDULING_DISABLED = f"{_GROUP}/experimental-scheduling-disable"
"""Upstream's scheduler passes over a Placement with this annotation."""

PLACEMENT_LABEL = f"{_GROUP}/placement"
GROUP_NAME_LABEL, GROUP_INDEX_LABEL = f"{_GROUP}/decision-group-name", f"{_GROUP}/decision-group-index"


def placement_body(wish: Wish, clusters: int) -> dict[str, Any]:
    """The Placement. With the object it goes, too."""
    spec = wish.resource.spec.client.placement.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": wish.name, "uid": wish.uid, "controller": True}
    return {
        "metadata": {
            "name": wish.name,
            "namespace": wish.namespace,
            "labels": {**LABELS, RUN_LABEL: wish.run},
            "annotations": {SCHEDULING_DISABLED: "true"},
            "ownerReferences": [owner],
        },
        "spec": spec,
        "status": {"numberOfSelectedClusters": clusters},
    }


def decision_bodies(
    wish: Wish, clusters: Iterable[str], known: Mapping[str, ManagedCluster], placement: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The PlacementDecisions, at most a hundred clusters each; `placement` is the Placement as the hub has it."""
    kind = {"apiVersion": placement["apiVersion"], "kind": placement["kind"]}
    owner = {**kind, "name": wish.name, "uid": placement["metadata"]["uid"], "controller": True}
    return [
        {
            "metadata": {
                "name": each.name,
                "namespace": wish.namespace,
                "labels": {
                    **LABELS,
                    RUN_LABEL: wish.run,
                    PLACEMENT_LABEL: wish.name,
                    GROUP_NAME_LABEL: each.group,
                    GROUP_INDEX_LABEL: str(each.group_index),
                },
                "ownerReferences": [owner],
            },
            "status": {"decisions": [{"clusterName": cluster, "reason": ""} for cluster in each.clusters]},
        }
        for each in _decisions(wish, [known[cluster] for cluster in clusters if cluster in known])
    ]


def run_of(body: Mapping[str, Any]) -> str:
    """The run that the object shows; empty if it is not ours."""
    labels = body["metadata"].get("labels") or {}
    return str(labels.get(RUN_LABEL, "")) if LABELS.items() <= labels.items() else ""


def is_ours(body: Mapping[str, Any]) -> bool:
    """Whether the object shows a run of ours, of this object or of an earlier one of its name."""
    return bool(run_of(body))


def _decisions(wish: Wish, clusters: list[ManagedCluster]) -> tuple[PlacementDecision, ...]:
    """By the groups that the object asks for; if these cannot be meant, in one group."""
    strategy = wish.resource.spec.client.placement.decision_strategy or DecisionStrategy()
    try:
        return decisions(groups(wish.name, strategy, clusters))
    except Misconfigured:
        return decisions(groups(wish.name, DecisionStrategy(), clusters))
