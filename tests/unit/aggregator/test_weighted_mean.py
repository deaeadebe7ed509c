"""What the clusters measured, as one number per metric."""

from datetime import UTC, datetime

from fedplane.aggregator.rounds import weighted_mean
from fedplane.schemas.facts import Evaluated
from fedplane.schemas.models import METRICS_MAX

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def evaluated(cluster: str, weight: float, **metrics: float) -> Evaluated:
    return Evaluated(at=NOON, run="r", round=1, cluster=cluster, weight=weight, metrics=metrics)


def test_a_metric_counts_by_the_examples_of_those_who_told_it() -> None:
    answers = (evaluated("a", 1, loss=1.0, accuracy=0.5), evaluated("b", 3, loss=2.0))

    assert weighted_mean(answers) == {"accuracy": 0.5, "loss": 1.75}


def test_a_mean_that_no_number_can_hold_is_left_out() -> None:
    assert weighted_mean((evaluated("a", 1e15, loss=1e308, accuracy=0.5),)) == {"accuracy": 0.5}


def test_clusters_that_measure_different_things_cannot_make_the_result_too_large_to_state() -> None:
    answers = tuple(evaluated(name, 1, **{f"{name}-{number:03}": 0.0 for number in range(METRICS_MAX)}) for name in ("a", "b"))

    assert list(weighted_mean(answers)) == [f"a-{number:03}" for number in range(METRICS_MAX)]
