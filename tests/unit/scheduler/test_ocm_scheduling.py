"""From a Placement and a hub's objects to decisions and conditions, in upstream's words."""

from datetime import UTC, datetime, timedelta

import pytest
from inventory_story import cluster, hub

from fedplane.scheduler.ocm.conditions import Condition
from fedplane.scheduler.ocm.groups import Group, PlacementDecision, decisions
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, Binding, ClusterSet, Decision, ManagedCluster, Taint
from fedplane.scheduler.ocm.scheduling import candidates, schedule
from fedplane.scheduler.ocm.selectors import mistakes
from fedplane.schemas.placements import LabelSelector, Placement, Requirement

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CONFIGURED = Condition("PlacementMisconfigured", False, "Succeedconfigured", "Placement configurations check pass")
SATISFIED = Condition("PlacementSatisfied", True, "AllDecisionsScheduled", "All cluster decisions scheduled")


def placed(inventory, **spec):
    return schedule(Placement.model_validate(spec), "ml", "p", inventory, NOON)


def labelled(**labels):
    return {"requiredClusterSelector": {"labelSelector": {"matchLabels": labels}}}


def expressed(*expressions):
    return {"requiredClusterSelector": {"celSelector": {"celExpressions": expressions}}}


def test_the_best_by_score_and_then_by_name_are_chosen():
    others = tuple(Decision("other", f"o{number}", ("b",) * 1 + ("c",) * (number > 0)) for number in range(3))
    inventory = hub(*map(cluster, "dcba"), decisions=(*others, Decision("ml", "p", ("c", "gone"))))

    found = placed(inventory, numberOfClusters=3)

    # b was chosen three times by others, c twice: Balance gives -100 and 2 * trunc(100 * (0.5 - 2/3)) = -32; c is chosen already
    assert found.totals == {"a": 100, "b": -100, "c": 68, "d": 100}
    assert (found.chosen, found.unscheduled, found.conditions) == (("a", "d", "c"), 0, (CONFIGURED, SATISFIED))


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ({}, ("a", "b", "c")),
        ({"numberOfClusters": 0}, ()),
        ({"predicates": [labelled(zone="north")]}, ("a", "b")),
        ({"predicates": [labelled(zone="south"), labelled(zone="west")]}, ("c",)),
        ({"predicates": [{}]}, ("a", "b", "c")),
        ({"predicates": [expressed("managedCluster.metadata.name < 'c'", "managedCluster.metadata.name > 'a'")]}, ("b",)),
        ({"predicates": [expressed("managedCluster.metadata.nothing")]}, ()),
        ({"predicates": [expressed("managedCluster.scores('usage').exists(s, s.value > 50)")]}, ("c",)),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, ("a", "b", "c", "t")),
    ],
)
def test_who_passes_the_filters_can_be_chosen(spec, chosen):
    score = AddOnPlacementScore("c", "usage", (("gpu", 60),))
    tainted = cluster("t", zone="east", taints=(Taint("gpu"),))
    inventory = hub(cluster("a"), cluster("b"), cluster("c", "south"), tainted, scores={("c", "usage"): score})

    assert placed(inventory, **spec).chosen == chosen


def condition(reason, message):
    return Condition("PlacementSatisfied", False, reason, message)


@pytest.mark.parametrize(
    ("inventory", "spec", "said"),
    [
        (
            hub(cluster("a"), bindings=(Binding("elsewhere", "prod"), Binding("ml", "gone"))),
            {},
            condition("NoManagedClusterSetBindings", "No valid ManagedClusterSetBindings found in placement namespace"),
        ),
        (
            hub(cluster("a")),
            {"clusterSets": ["eu", "us"]},
            condition("NoIntersection", "None of ManagedClusterSets [eu,us] is bound to placement namespace"),
        ),
        (
            hub(cluster("a", deleting=True)),
            {},
            condition("AllManagedClusterSetsEmpty", "All ManagedClusterSets [prod] have no member ManagedCluster"),
        ),
        (
            hub(cluster("a")),
            {"predicates": [labelled(zone="south")], "numberOfClusters": 1},
            condition("NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate"),
        ),
        (
            hub(cluster("a")),
            {"numberOfClusters": 3},
            condition("NotAllDecisionsScheduled", "2 cluster decisions unscheduled"),
        ),
        (hub(cluster("a")), {"numberOfClusters": 1}, SATISFIED),
    ],
)
def test_a_condition_says_the_first_reason_why_not_enough_are_chosen(inventory, spec, said):
    assert placed(inventory, **spec).conditions == (CONFIGURED, said)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tolerations": [{"value": "x"}]}, "TaintToleration:If the key is empty, operator must be Exists."),
        ({"prioritizerPolicy": {"mode": "Odd"}}, ":incorrect prioritizer policy mode: Odd"),
        ({"predicates": [labelled(zone="a/b")]}, "Predicate:'a/b' is no label's value"),
        ({"predicates": [expressed("1 +")]}, "Predicate:compilation failed: a value is expected at its end"),
    ],
)
def test_a_placement_that_cannot_be_meant_chooses_nobody(spec, message):
    found = placed(hub(cluster("a"), decisions=(Decision("ml", "p", ("a",)),)), **spec)

    assert found.chosen == ()
    assert decisions(found.groups) == (PlacementDecision("p-decision-1", "", 0, ()),)
    assert found.conditions == (
        Condition("PlacementMisconfigured", True, "Misconfigured", message),
        condition("NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate"),
    )


def test_filters_of_no_clusters_find_nothing_wrong():
    assert placed(hub(), predicates=[expressed("1 +")], tolerations=[{"value": "x"}]).conditions[0] == CONFIGURED


def test_groups_that_cannot_be_meant_leave_the_choice_and_write_no_decision():
    found = placed(hub(cluster("a")), decisionStrategy={"groupStrategy": {"clustersPerDecisionGroup": "5"}})

    assert (found.chosen, found.groups) == (("a",), ())
    assert found.conditions == (
        Condition("PlacementMisconfigured", True, "Misconfigured", ":5 invalid type: string is not a percentage"),
        SATISFIED,
    )


def test_a_set_has_the_clusters_with_its_label_or_those_that_its_selector_matches():
    sets = {
        "prod": ClusterSet("prod"),
        "global": ClusterSet("global", True, LabelSelector()),
        "south": ClusterSet("south", True, LabelSelector(match_labels={"zone": "south"})),
        "nobody": ClusterSet("nobody", True, None),
    }
    inventory = hub(cluster("a"), cluster("b", "south"), ManagedCluster(name="c"), sets=sets)

    assert {name: [each.name for each in candidates(inventory, [name])] for name in sets} == {
        "prod": ["a", "b"], "global": ["a", "b", "c"], "south": ["b"], "nobody": []
    }  # fmt: skip
    assert [each.name for each in candidates(inventory, ["south", "prod"])] == ["a", "b"]


def test_a_decision_has_to_be_made_again_when_a_toleration_of_a_chosen_cluster_runs_out():
    away = tuple(cluster(name, taints=(Taint("away", added=NOON - timedelta(seconds=since)),)) for name, since in (("a", 10), ("b", 40)))
    spec = {"tolerations": [{"key": "away", "operator": "Exists", "tolerationSeconds": 60}]}

    assert placed(hub(*away), **spec).again_at is None
    assert placed(hub(*away, decisions=(Decision("ml", "p", ("a",)),)), **spec).again_at == NOON + timedelta(seconds=50)
    assert placed(hub(*away, decisions=(Decision("ml", "p", ("a", "b")),)), **spec).again_at == NOON + timedelta(seconds=20)


def test_who_has_an_expired_score_is_named():
    expired = {(name, "usage"): AddOnPlacementScore(name, "usage", (("gpu", 9),), NOON - timedelta(1)) for name in "ab"}
    coordinate = {"type": "AddOn", "addOn": {"resourceName": "usage", "scoreName": "gpu"}}

    found = placed(hub(cluster("a"), cluster("b"), scores=expired), prioritizerPolicy={"configurations": [{"scoreCoordinate": coordinate}]})

    assert found.warnings == ("AddOnPlacementScores a/usage b/usage expired",)


def grouped(count, **strategy):
    inventory = hub(*(cluster(f"c{number:03}", "south" if number % 2 else "north") for number in range(count)))
    found = placed(inventory, decisionStrategy={"groupStrategy": strategy})
    return found.groups


def named(name, **labels):
    return {"groupName": name, "groupClusterSelector": {"labelSelector": {"matchLabels": labels}}}


@pytest.mark.parametrize(
    ("count", "per_group", "sizes"),
    [
        (10, "100%", [10]),
        (10, "25%", [3, 3, 3, 1]),  # a quarter of ten is 2.5, and that is rounded up
        (10, 4, [4, 4, 2]),
        (10, 0, [10]),
        (10, -1, [10]),
        (10, 11, [10]),
        (3, "1%", [1, 1, 1]),
    ],
)
def test_groups_are_as_long_as_they_may_be(count, per_group, sizes):
    assert [len(group.clusters) for group in grouped(count, clustersPerDecisionGroup=per_group)] == sizes


def test_named_groups_take_their_clusters_first_and_all_groups_are_counted_together():
    groups = grouped(5, decisionGroups=[named("canary", zone="south"), named("again", zone="south")], clustersPerDecisionGroup=2)

    assert groups == (
        Group(0, "canary", ("c001", "c003"), ("p-decision-1",)),
        Group(1, "", ("c000", "c002"), ("p-decision-2",)),
        Group(2, "", ("c004",), ("p-decision-3",)),
    )


def test_a_decision_has_a_hundred_clusters_at_most():
    groups = grouped(402, decisionGroups=[named("canary", zone="south")])

    assert [(each.name, each.group, each.group_index, len(each.clusters), each.clusters[0]) for each in decisions(groups)] == [
        ("p-decision-1", "canary", 0, 100, "c001"),
        ("p-decision-2", "canary", 0, 100, "c201"),
        ("p-decision-3", "canary", 0, 1, "c401"),
        ("p-decision-4", "", 1, 100, "c000"),
        ("p-decision-5", "", 1, 100, "c200"),
        ("p-decision-6", "", 1, 1, "c400"),
    ]


@pytest.mark.parametrize(
    ("key", "operator", "values", "wrong"),
    [
        ("zone", "In", ["a"], []),
        ("example.com/zone", "Exists", [], []),
        ("zone", "In", [], ["zone In needs values"]),
        ("zone", "NotIn", [], ["zone NotIn needs values"]),
        ("zone", "Exists", ["a"], ["zone Exists takes no values"]),
        ("zone", "In", ["", "/data", "a" * 64], ["'/data' is no label's value", f"{'a' * 64!r} is no label's value"]),
        ("/zone", "Exists", [], ["'/zone' is no label's name"]),
        ("Example.com/zone", "Exists", [], ["'Example.com/zone' is no label's name"]),
        ("", "DoesNotExist", [], ["'' is no label's name"]),
    ],
)
def test_a_selector_that_kubernetes_refuses_is_a_mistake(key, operator, values, wrong):
    assert list(mistakes([Requirement(key=key, operator=operator, values=values)])) == wrong
