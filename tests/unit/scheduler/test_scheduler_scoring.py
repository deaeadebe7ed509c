"""What each criterion gives, by example."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fedplane.scheduler import fleet
from fedplane.scheduler.scoring import CRITERIA, terms
from fedplane.schemas.facts import Advertised
from fedplane.schemas.models import Term
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def resource(**spec):
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


def cluster(live_runs=0, took_part=False, **advertised):
    held = fleet.fold({}, Advertised(at=NOON, cluster="a", lease_seconds=15, **advertised))["a"]
    return replace(held, live_runs=live_runs, took_part=took_part)


def claiming(samples):
    return cluster(claims={"r.client-data": "/data", "r.client-data.samples": samples})


@pytest.mark.parametrize(
    ("criterion", "offered", "score"),
    [
        ("data_locality", claiming("0"), 0.0),
        ("data_locality", claiming("1000"), 0.5),
        ("data_locality", claiming("3k"), 0.75),
        ("data_locality", claiming("-5"), 0.0),
        ("data_locality", claiming("many"), 0.5),
        ("data_locality", cluster(), 0.5),
        ("cpu", cluster(), 0.0),
        ("cpu", cluster(allocatable={"cpu": "8"}), 0.5),
        ("cpu", cluster(allocatable={"cpu": "24"}), 0.75),
        ("memory", cluster(), 0.0),
        ("memory", cluster(allocatable={"memory": "16Gi"}), 0.5),
        ("memory", cluster(allocatable={"memory": "48Gi"}), 0.75),
        ("balance", cluster(), 1.0),
        ("balance", cluster(live_runs=1), 0.5),
        ("balance", cluster(live_runs=3), 0.25),
        ("steady", cluster(), 0.0),
        ("steady", cluster(took_part=True), 1.0),
    ],
)
def test_a_criterion_scores_a_cluster_by_itself(criterion, offered, score):
    function, _ = CRITERIA[criterion]

    assert function(resource(), offered) == score


def test_the_samples_are_those_of_the_claim_that_the_run_reads():
    function, _ = CRITERIA["data_locality"]

    assert function(resource(data={"claim": "shared"}), cluster(claims={"r.client-data.samples": "3000", "shared.samples": "0"})) == 0.0


def test_every_criterion_is_a_term_and_the_run_may_override_weights_by_name():
    assert terms(resource(weights={"cpu": -2, "steady": 0}), cluster(allocatable={"cpu": "8"})) == (
        Term(criterion="data_locality", score=0.5, weight=2.0),
        Term(criterion="cpu", score=0.5, weight=-2.0),
        Term(criterion="memory", score=0.0, weight=1.0),
        Term(criterion="balance", score=1.0, weight=1.0),
        Term(criterion="steady", score=0.0, weight=0.0),
    )
