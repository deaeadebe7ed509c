"""Who is chosen, in which order, and why the others are not."""

from datetime import UTC, datetime

import pytest

from fedplane.scheduler import fleet
from fedplane.scheduler.placement import Plan, objections, place
from fedplane.schemas.facts import Advertised
from fedplane.schemas.models import Chosen, Refused, Term
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ONLY_CPU = {"data_locality": 0, "cpu": 1, "memory": 0, "balance": 0, "steady": 0}


def resource(**spec):
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


def cluster(name, cpu="8", claims=None):
    held = {"r.client-data": f"/{name}"} if claims is None else claims
    return fleet.fold({}, Advertised(at=NOON, cluster=name, lease_seconds=15, claims=held, allocatable={"cpu": cpu}))[name]


def terms(cpu):
    scores = {"data_locality": 0.5, "cpu": cpu, "memory": 0.0, "balance": 1.0, "steady": 0.0}
    return tuple(Term(criterion=name, score=score, weight=ONLY_CPU[name]) for name, score in scores.items())


def test_the_best_take_part_and_everybody_else_learns_why_not():
    run = resource(weights=ONLY_CPU, client={"placement": {"numberOfClusters": 2}})
    fleet_ = [cluster("small", "0"), cluster("half", "8"), cluster("bare", "64", claims={}), cluster("large", "24")]

    assert place(run, fleet_, NOON) == Plan(
        participants=(
            Chosen(cluster="large", score=0.75, terms=terms(0.75), data="/large"),
            Chosen(cluster="half", score=0.5, terms=terms(0.5), data="/half"),
        ),
        refused=(
            Refused(
                cluster="bare",
                reason="data",
                message="does not advertise the claim r.client-data; its value says where data is; spec.data.claim may name another",
            ),
            Refused(
                cluster="small",
                reason="outscored",
                message="is number 3 by score, the placement asks for the best 2",
                score=0.0,
                terms=terms(0.0),
            ),
        ),
        eligible=3,
    )


def test_without_a_number_all_that_are_eligible_take_part_and_ties_go_by_name():
    plan = place(resource(), [cluster("c"), cluster("a"), cluster("b", "16")], NOON)

    assert ([chosen.cluster for chosen in plan.participants], plan.refused, plan.eligible) == (["b", "a", "c"], (), 3)


def test_a_total_is_the_sum_of_score_times_weight():
    run = resource(weights={"data_locality": 4, "cpu": 2, "memory": 1, "balance": 0.5, "steady": 10})

    assert [chosen.score for chosen in place(run, [cluster("a")], NOON).participants] == [4 * 0.5 + 2 * 0.5 + 0 + 0.5 * 1 + 0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, []),
        ({"framework": "flower", "weights": {"cpu": -10, "steady": 10}}, []),
        ({"framework": "jax"}, ["spec.framework is 'jax'; known frameworks are flower, openfl, other, torch, sklearn, xgboost"]),
        (
            {"weights": {"gpu": 1, "cpu": 11}},
            [
                "spec.weights names 'gpu'; known criteria are data_locality, cpu, memory, balance, steady",
                "spec.weights.cpu is 11; a weight is from -10 to 10",
            ],
        ),
        (
            {"server": {"minAvailableClients": 3}, "client": {"placement": {"numberOfClusters": 2}}},
            [
                "spec.client.placement.numberOfClusters is 2, fewer than spec.server.minAvailableClients, which is 3; "
                "raise the first or lower the second"
            ],
        ),
    ],
)
def test_what_no_fleet_could_satisfy_is_objected_to_with_what_to_change(spec, said):
    assert list(objections(resource(**spec))) == said
