"""How Open Cluster Management's scores and ours go together in one placement."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fedplane.scheduler import fleet
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, Binding, ClusterSet, Decision, Inventory, ManagedCluster
from fedplane.scheduler.placement import objections, place
from fedplane.schemas.facts import Advertised
from fedplane.schemas.models import Chosen, Term
from fedplane.schemas.placements import LabelSelector
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CPU = {"scoreCoordinate": {"builtIn": "ResourceAllocatableCPU"}}


def resource(policy=None, weights=None, **placement):
    given = placement | ({} if policy is None else {"prioritizerPolicy": policy})
    spec = {"client": {"placement": given}, "weights": weights or {}}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


def cluster(name, cpu="8", live_runs=0, took_part=False):
    said = Advertised(at=NOON, cluster=name, lease_seconds=15, claims={"r.client-data": f"/{name}"}, allocatable={"cpu": cpu})
    return replace(fleet.fold({}, said)[name], live_runs=live_runs, took_part=took_part)


def ours(cpu=0.5, balance=1.0, steady=0.0, scale=100, weights=None):
    scores = {"data_locality": 0.5, "cpu": cpu, "memory": 0.0, "balance": balance, "steady": steady}
    return tuple(Term(criterion=name, score=score * scale, weight=(weights or {}).get(name, 0)) for name, score in scores.items())


def totals(plan):
    return {chosen.cluster: chosen.score for chosen in plan.participants}


def test_a_policy_compares_the_clusters_and_our_criteria_are_shown_with_no_weight():
    plan = place(resource({"configurations": [CPU]}), [cluster("a", "8", live_runs=1), cluster("b", "24", took_part=True)], NOON)

    assert plan.participants == (
        Chosen(
            cluster="b", score=300.0, data="/b",
            terms=(
                Term(criterion="Balance", score=100, weight=1),
                Term(criterion="Steady", score=100, weight=1),
                Term(criterion="ResourceAllocatableCPU", score=100, weight=1),
                *ours(cpu=0.75, steady=1.0),
            ),
        ),
        Chosen(
            cluster="a", score=-200.0, data="/a",
            terms=(
                Term(criterion="Balance", score=-100, weight=1),
                Term(criterion="Steady", score=0, weight=1),
                Term(criterion="ResourceAllocatableCPU", score=-100, weight=1),
                *ours(balance=0.5),
            ),
        ),
    )  # fmt: skip


def test_our_criteria_count_beside_a_policy_if_they_are_named_and_on_its_scale():
    run = resource({"mode": "Exact", "configurations": [CPU]}, weights={"balance": 3})

    assert totals(place(run, [cluster("a", "8"), cluster("b", "24", live_runs=3)], NOON)) == {
        "a": -100 + 100 * 1.0 * 3,
        "b": 100 + 100 * 0.25 * 3,
    }


def test_without_a_policy_our_criteria_decide_as_ever():
    weights = {"data_locality": 2, "cpu": 1, "memory": 1, "balance": 1, "steady": 1}
    plan = place(resource(), [cluster("a"), cluster("b", "24")], NOON)

    assert [chosen.terms for chosen in plan.participants] == [ours(0.75, scale=1, weights=weights), ours(0.5, scale=1, weights=weights)]


def test_who_is_refused_is_on_no_scale_but_counts_for_balance():
    clusters = [cluster("a", "8", live_runs=1), cluster("b", "16", live_runs=1), cluster("busy", "64", live_runs=4)]
    run = resource({"configurations": [CPU]}, predicates=[{"requiredClusterSelector": {"celSelector": {"celExpressions": [
        "managedCluster.metadata.name != 'busy'"]}}}])  # fmt: skip

    # Balance: 2 * trunc(100 * (0.5 - 1/4)) = 50 for both
    assert totals(place(run, clusters, NOON)) == {"a": 50 - 100, "b": 50 + 100}


def test_what_a_hub_knows_comes_first():
    def known(name, cpu, **more):
        return ManagedCluster(name=name, allocatable={"cpu": cpu}, capacity={"cpu": cpu}, **more)

    hub = Inventory(
        clusters={"a": known("a", 64.0), "b": known("b", 4.0)},
        sets={"global": ClusterSet("global", True, LabelSelector())},
        bindings=(Binding("default", "global"),),
        decisions=(Decision("default", "r", ("b",)), Decision("other", "p", ("a", "a", "b"))),
        scores={("b", "usage"): AddOnPlacementScore("b", "usage", (("gpu", 7),))},
    )
    gpu = {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "usage", "scoreName": "gpu"}}, "weight": 10}
    plan = place(resource({"configurations": [CPU, gpu]}), [cluster("a"), cluster("b", "24")], NOON, hub)

    # Balance: a was chosen twice and b once; Steady: b is chosen already; CPU as the hub has it; the add-on's score of b
    assert totals(plan) == {"a": -100 + 0 + 100 + 0, "b": 0 + 100 - 100 + 70}


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ({"policy": {"mode": "Odd"}}, "spec.client.placement.prioritizerPolicy: incorrect prioritizer policy mode: Odd"),
        ({"tolerations": [{"value": "x"}]}, "spec.client.placement.tolerations: If the key is empty, operator must be Exists."),
        (
            {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["1 +"]}}}]},
            "spec.client.placement.predicates: a value is expected at its end",
        ),
        (
            {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["true"] * 101}}}]},
            "spec.client.placement.predicates: a placement may have 100 expressions in all",
        ),
    ],
)
def test_a_placement_that_cannot_be_meant_is_objected_to(placement, said):
    assert list(objections(resource(**placement))) == [said]
