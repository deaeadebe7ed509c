"""What becomes of a hub's objects, and of those that make no sense."""

from datetime import UTC, datetime

import pytest

from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, Binding, ClusterSet, Decision, Inventory, ManagedCluster, Taint
from fedplane.scheduler.ocm.reading import PROBLEMS_MAX, read
from fedplane.schemas.placements import LabelSelector

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NEW = "2026-01-02T12:00:00Z"


def an_object(kind, name="a", namespace=None, **parts):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": metadata | parts.pop("metadata", {}), **parts}


CLUSTER = an_object(
    "ManagedCluster",
    metadata={"labels": {"zone": "north"}, "uid": "1"},
    spec={
        "hubAcceptsClient": True,
        "taints": [{"key": "gpu", "value": "yes", "effect": "NoSelect", "timeAdded": NEW}],
    },
    status={
        "allocatable": {"cpu": "3900m", "memory": "1Gi"},
        "capacity": {"cpu": 4},
        "clusterClaims": [{"name": "id.k8s.io", "value": "x"}],
        "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True", "reason": "Fine"}],
    },
)
SELECTOR = {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"zone": "north"}}}
LABEL = {"labels": {"cluster.open-cluster-management.io/placement": "p"}}


def test_a_hubs_objects_become_an_inventory():
    found = read(
        [
            CLUSTER,
            an_object("ManagedClusterSet", "prod", spec={"clusterSelector": {"selectorType": "ExclusiveClusterSetLabel"}}),
            an_object("ManagedClusterSet", "plain"),
            an_object("ManagedClusterSet", "north", spec={"clusterSelector": SELECTOR}),
            an_object("ManagedClusterSetBinding", "prod", "ml", spec={"clusterSet": "prod"}),
            an_object(
                "PlacementDecision", "p-decision-1", "ml", metadata=LABEL, status={"decisions": [{"clusterName": "a", "reason": ""}]}
            ),
            an_object("AddOnPlacementScore", "usage", "a", status={"scores": [{"name": "gpu", "value": -5}], "validUntil": NEW}),
            an_object("Pod", "x", "ml"),
        ]
    )

    assert found == (
        Inventory(
            clusters={
                "a": ManagedCluster(
                    name="a",
                    labels={"zone": "north"},
                    claims={"id.k8s.io": "x"},
                    allocatable={"cpu": 3.9, "memory": 1073741824.0},
                    capacity={"cpu": 4.0},
                    taints=(Taint("gpu", "yes", "NoSelect", NOON),),
                    conditions={"ManagedClusterConditionAvailable": "True"},
                    document=CLUSTER,
                )
            },
            sets={
                "prod": ClusterSet("prod"),
                "plain": ClusterSet("plain"),
                "north": ClusterSet("north", True, LabelSelector(match_labels={"zone": "north"})),
            },
            bindings=(Binding("ml", "prod"),),
            decisions=(Decision("ml", "p", ("a",)),),
            scores={("a", "usage"): AddOnPlacementScore("a", "usage", (("gpu", -5),), NOON)},
        ),
        (),
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (an_object("ManagedCluster", ""), "ManagedCluster : has no name and is left out"),
        (
            an_object("ManagedCluster", metadata={"labels": {"zone": 1}}),
            "ManagedCluster a: metadata.labels has 'zone': 1, which is no text, and is left out",
        ),
        (
            an_object("ManagedCluster", status={"allocatable": {"cpu": "many"}}),
            "ManagedCluster a: status.allocatable.cpu is 'many', which is no quantity, and is left out",
        ),
        (
            an_object("ManagedCluster", spec={"taints": ["gpu"]}),
            "ManagedCluster a: spec.taints has 'gpu', which is no object, and is left out",
        ),
        (
            an_object("ManagedCluster", spec={"taints": [{"key": "gpu", "effect": ["NoSelect"]}]}),
            "ManagedCluster a: spec.taints has the effect ['NoSelect'], which is unknown and counts as NoSelect",
        ),
        (
            an_object("ManagedClusterSet", spec={"clusterSelector": {"selectorType": "Odd"}}),
            "ManagedClusterSet a: spec.clusterSelector.selectorType is 'Odd', which is unknown; the set is left out",
        ),
        (
            an_object(
                "ManagedClusterSet", spec={"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": 1}}}
            ),
            "ManagedClusterSet a: spec.clusterSelector.labelSelector is wrong in 1 places; the set is left out",
        ),
        (
            an_object("AddOnPlacementScore", "s", "a", status={"scores": [{"name": "gpu", "value": 101}]}),
            "AddOnPlacementScore a/s: status.scores has 'gpu': 101, no whole number from -100 to 100; it is left out",
        ),
        (
            an_object("AddOnPlacementScore", "s", "a", status={"validUntil": "tomorrow"}),
            "AddOnPlacementScore a/s: status.validUntil is 'tomorrow', which is no time with a zone",
        ),
    ],
)
def test_what_makes_no_sense_is_left_out_and_said(given, problem):
    _, problems = read([given])

    assert problems == (problem,)


def test_what_cannot_be_read_lets_no_cluster_in():
    taints = [{"effect": "Odd"}, {"key": "gpu", "effect": "NoSelect", "timeAdded": "9999-12-31T00:00:00Z"}]
    scores = an_object("AddOnPlacementScore", "s", "a", status={"scores": [{"name": "gpu", "value": 1}], "validUntil": 5})
    inventory, _ = read([an_object("ManagedCluster", spec={"taints": taints, "hubAcceptsClient": "yes"}), scores])

    assert (inventory.clusters["a"].taints, inventory.clusters["a"].accepted) == ((Taint("", effect="NoSelect"), Taint("gpu")), False)
    assert inventory.scores == {}


@pytest.mark.parametrize("junk", [None, 5, [], {}, {"kind": []}, {"kind": "ManagedCluster"}, {"kind": "ManagedCluster", "metadata": [1]}])
def test_junk_is_no_object(junk):
    assert read([junk])[0] == Inventory()


def test_the_last_of_two_counts_and_problems_have_an_end():
    crowd = [an_object("ManagedCluster", f"c{number}", status={"capacity": {"cpu": "x"}}) for number in range(PROBLEMS_MAX + 1)]
    inventory, problems = read([*crowd, an_object("ManagedCluster", "c0", status={"capacity": {"cpu": "7"}})])

    assert (inventory.clusters["c0"].capacity, len(inventory.clusters), len(problems)) == ({"cpu": 7}, PROBLEMS_MAX + 1, PROBLEMS_MAX)
