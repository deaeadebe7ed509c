"""A run's clusters as a Placement and its decisions, and the inventory of a hub kept change by change."""

from fedplane.runtime.objects import Change, ChangeType
from fedplane.scheduler.ocm.inventory import Binding, Decision, ManagedCluster
from fedplane.scheduler.ocm.reading import read
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.publishing import decision_bodies, is_ours, placement_body, run_of
from fedplane.scheduler.wishes import Wish
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

GROUP = "cluster.open-cluster-management.io"
HUB_PLACEMENT = {"apiVersion": f"{GROUP}/v1beta1", "kind": "Placement", "metadata": {"name": "r", "uid": "p"}}
OURS = {"app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/managed-by": "fedplane-scheduler", "fedplane.io/run": "r-1"}


def wish(**placement):
    metadata = {"name": "r", "namespace": "ns", "uid": "1"}
    resource = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"client": {"placement": placement}}}
    return Wish(run="r-1", uid="1", version="5", resource=FederatedLearning.model_validate(resource))


def shown(wanted, clusters):
    known = {name: ManagedCluster(name=name, labels={"zone": name[0]}) for name in clusters}
    bodies = decision_bodies(wanted, clusters, known, HUB_PLACEMENT)
    return [
        (
            body["metadata"]["name"],
            body["metadata"]["labels"][f"{GROUP}/decision-group-name"],
            body["metadata"]["labels"][f"{GROUP}/decision-group-index"],
            [decision["clusterName"] for decision in body["status"]["decisions"]],
        )
        for body in bodies
    ]


def test_a_placement_says_what_was_asked_and_that_upstreams_scheduler_is_to_leave_it_alone():
    asked = {"numberOfClusters": 2, "predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"a": "b"}}}}], "new": 1}

    assert placement_body(wish(**asked), 2) == {
        "metadata": {
            "name": "r",
            "namespace": "ns",
            "labels": OURS,
            "annotations": {f"{GROUP}/experimental-scheduling-disable": "true"},
            "ownerReferences": [{"apiVersion": API_VERSION, "kind": KIND, "name": "r", "uid": "1", "controller": True}],
        },
        "spec": asked,
        "status": {"numberOfSelectedClusters": 2},
    }


def test_a_hundred_clusters_fit_one_decision_and_they_are_in_the_order_of_names():
    names = [f"c{number:03}" for number in range(150)]

    assert shown(wish(), [*reversed(names)]) == [("r-decision-1", "", "0", names[:100]), ("r-decision-2", "", "0", names[100:])]


def test_decisions_follow_the_groups_that_were_asked_for_and_groups_that_cannot_be_meant_are_one():
    selector = {"labelSelector": {"matchLabels": {"zone": "n"}}}
    asked = {"decisionGroups": [{"groupName": "north", "groupClusterSelector": selector}]}
    wrong = {"labelSelector": {"matchExpressions": [{"key": "zone", "operator": "In"}]}}
    odd = {"decisionGroups": [{"groupName": "none", "groupClusterSelector": wrong}]}

    grouped = shown(wish(decisionStrategy={"groupStrategy": asked}), ["n1", "s1"])
    together = shown(wish(decisionStrategy={"groupStrategy": odd}), ["n1", "s1"])

    assert grouped == [("r-decision-1", "north", "0", ["n1"]), ("r-decision-2", "", "1", ["s1"])]
    assert together == [("r-decision-1", "", "0", ["n1", "s1"])]


def test_a_cluster_that_has_left_meanwhile_is_not_shown():
    (body,) = decision_bodies(wish(), ["a", "gone"], {"a": ManagedCluster(name="a")}, HUB_PLACEMENT)

    assert body["status"] == {"decisions": [{"clusterName": "a", "reason": ""}]}


def test_decisions_belong_to_the_placement():
    (body,) = decision_bodies(wish(), ["a"], {"a": ManagedCluster(name="a")}, HUB_PLACEMENT)

    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": f"{GROUP}/v1beta1", "kind": "Placement", "name": "r", "uid": "p", "controller": True}
    ]


def test_what_is_ours_is_known_by_its_labels():
    ours, theirs = {"metadata": {"labels": OURS}}, {"metadata": {"labels": {"fedplane.io/run": "r-1"}}}

    assert (run_of(ours), is_ours(ours)) == ("r-1", True)
    assert (run_of(theirs), is_ours(theirs), is_ours({"metadata": {}})) == ("", False, False)


OBJECTS = [
    {"kind": "ManagedCluster", "metadata": {"name": "a", "labels": {f"{GROUP}/clusterset": "eu"}}, "spec": {"hubAcceptsClient": True}},
    {"kind": "ManagedClusterSet", "metadata": {"name": "eu"}},
    {"kind": "ManagedClusterSetBinding", "metadata": {"name": "eu", "namespace": "ns"}},
    {
        "kind": "PlacementDecision",
        "metadata": {"name": "p-1", "namespace": "ns", "labels": {f"{GROUP}/placement": "p"}},
        "status": {"decisions": [{"clusterName": "a"}]},
    },
    {
        "kind": "AddOnPlacementScore",
        "metadata": {"name": "usage", "namespace": "a"},
        "status": {"scores": [{"name": "gpu", "value": 7}]},
    },
]


def test_an_overview_has_what_a_whole_reading_of_the_hub_has_and_loses_what_is_deleted():
    overview = Overview()
    for body in OBJECTS:
        assert overview.see(Change(ChangeType.ADDED, body)) == ()
    whole, _ = read(OBJECTS)
    seen = overview.inventory

    assert seen == whole
    assert (seen.bindings, seen.decisions) == ((Binding("ns", "eu"),), (Decision("ns", "p", ("a",)),))
    for body in OBJECTS:
        overview.see(Change(ChangeType.DELETED, body))
    assert overview.inventory == read([])[0]


def test_decisions_that_show_our_own_runs_are_kept_apart():
    overview = Overview()
    for number, cluster in ((1, "a"), (2, "b")):
        metadata = {"name": f"r-decision-{number}", "namespace": "ns", "labels": {**OURS, f"{GROUP}/placement": "r"}}
        body = {"kind": "PlacementDecision", "metadata": metadata, "status": {"decisions": [{"clusterName": cluster}]}}
        overview.see(Change(ChangeType.ADDED, body))

    assert overview.inventory.decisions == ()
    assert overview.published() == {"r-1": frozenset({"a", "b"})}
    overview.see(Change(ChangeType.DELETED, body))
    assert overview.published() == {"r-1": frozenset({"a"})}
