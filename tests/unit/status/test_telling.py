"""What operators are told of the runs that go on, and no longer than they go on."""

from datetime import UTC, datetime

from fedplane.runtime.metrics import METRICS_SHOWN_MAX, RUNS_SHOWN_MAX
from fedplane.schemas.models import Task
from fedplane.schemas.views import Phase, RoundState, RoundView, RunView
from fedplane.status.telling import active_runs, run_metrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def view(run: str, phase: Phase = Phase.RUNNING, *measured: dict[str, float]) -> RunView:
    rounds = tuple(
        RoundView(
            round=number, task=Task.TRAIN, training_round=number, state=RoundState.AGGREGATED, opened_at=NOON, deadline=NOON, invited=(),
            metrics=metrics,
        )
        for number, metrics in enumerate(measured)
    )  # fmt: skip
    return RunView(
        run=run, name=run, namespace="default", phase=phase, message="", sequence=1, submitted_at=NOON, phases={}, training_rounds=1,
        rounds=rounds,
    )  # fmt: skip


def test_runs_that_go_on_are_counted_by_phase_and_none_is_said_as_zero() -> None:
    views = {name: view(name, phase) for name, phase in (("a", Phase.RUNNING), ("b", Phase.RUNNING), ("c", Phase.COMPLETED))}

    assert list(active_runs(views)) == [(0, {"fedplane.phase": "Waiting"}), (2, {"fedplane.phase": "Running"})]


def test_the_last_value_of_each_metric_of_a_run_is_told_until_it_ends() -> None:
    measured = ({"loss": 2.0, "accuracy": 0.1}, {"loss": 1.0})
    views = {"a": view("a", Phase.RUNNING, *measured), "b": view("b", Phase.FAILED, *measured)}

    assert list(run_metrics(views)) == [
        (0.1, {"fedplane.run": "a", "fedplane.metric": "accuracy"}),
        (1.0, {"fedplane.run": "a", "fedplane.metric": "loss"}),
    ]


def test_of_many_runs_the_latest_are_told_and_of_many_metrics_the_first() -> None:
    names = [f"r{number:03}" for number in range(RUNS_SHOWN_MAX + 5)]
    many = {f"m{number:03}": 1.0 for number in range(METRICS_SHOWN_MAX + 5)}
    told = [of for _, of in run_metrics({name: view(name, Phase.RUNNING, many) for name in names})]

    assert {of["fedplane.run"] for of in told} == set(names[5:])
    assert {of["fedplane.metric"] for of in told} == set(list(many)[:METRICS_SHOWN_MAX])
