"""What `spec.rounds` means, function by function; the stories of whole runs are in `test_policies_in_runs`."""

from collections import Counter

import pytest
from aggregator_story import LAYOUT_DIGEST, NOW, RUN, Story, piece, resource
from hypothesis import given
from hypothesis import strategies as st

from fedplane.aggregator import policies
from fedplane.aggregator.policies import Best
from fedplane.schemas.facts import Aggregated, Failed
from fedplane.schemas.models import Model, Task
from fedplane.schemas.resources import RoundPolicy, Spec

TEN = tuple("abcdefghij")
LAYOUT = piece("layout", 64, LAYOUT_DIGEST)


def model(round_: int) -> Model:
    return Model(run=RUN, round=round_, bytes=0, layout=LAYOUT, shards=(), digest="blake3:" + "d" * 64)


def spec(rounds: int = 10, **policy) -> Spec:
    return resource(server={"rounds": rounds, "minAvailableClients": 3}, rounds=policy).spec


def train(round_: int, invite: int | None = 3, seed: int = 0, clusters: tuple[str, ...] = TEN) -> tuple[str, ...]:
    return policies.choose(Task.TRAIN, RoundPolicy(invite=invite, seed=seed), clusters, RUN, round_, 0)


CONTRADICTIONS = {
    "more answers than clusters to start with": (
        {"quorum": 4},
        "spec.rounds.quorum: 4 answers are needed of 3 clusters or more; raise spec.server.minAvailableClients",
    ),
    "fewer invited than needed": (
        {"invite": 2},
        "spec.rounds.invite: 2 clusters cannot give the 3 answers that are needed by spec.server.minAvailableClients, "
        "without a spec.rounds.quorum",
    ),
    "fewer invited than the quorum": (
        {"invite": 1, "quorum": 2},
        "spec.rounds.invite: 1 clusters cannot give the 2 answers that are needed by spec.rounds.quorum",
    ),
    "closed too early": (
        {"closeAt": 1, "quorum": 2},
        "spec.rounds.closeAt: 1 contributions are fewer than the 2 that are needed by spec.rounds.quorum",
    ),
    "closed never": (
        {"closeAt": 5, "invite": 4},
        "spec.rounds.closeAt: 5 contributions cannot come from the 4 clusters of spec.rounds.invite",
    ),
    "evaluated and not": (
        {"evaluateOn": 2, "evaluate": False},
        "spec.rounds.evaluateOn: no cluster evaluates when spec.rounds.evaluate is false",
    ),
    "the best by nothing": (
        {"keep": "best"},
        "spec.rounds.keep: the best model is the one with the best spec.rounds.stop.metric, and there is no spec.rounds.stop",
    ),
    "a stop that stops nothing": (
        {"stop": {"metric": "loss", "mode": "min"}},
        "spec.rounds.stop: has neither target nor patience, so it stops nothing; only with spec.rounds.keep 'best' has it a use",
    ),
}


@pytest.mark.parametrize(("rounds", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_cannot_work_fails_the_run_at_once_with_the_field(rounds, message) -> None:
    story = Story(spec={"server": {"minAvailableClients": 3}, "rounds": rounds})
    (failed,) = story.stated()

    assert failed == Failed(run=RUN, at=story.now, reason="BadRequest", message=message)


@pytest.mark.parametrize(
    "rounds",
    [
        {},
        {"invite": 5, "closeAt": 3, "quorum": 2, "evaluateOn": 1, "weightMax": 10},
        {"invite": 3, "closeAt": 3},
        {"closeAt": 100},
        {"stop": {"metric": "loss", "mode": "min", "patience": 1}},
        {"stop": {"metric": "loss", "mode": "min"}, "keep": "best", "evaluate": False},
    ],
)
def test_what_can_work_is_taken(rounds) -> None:
    assert Story(spec={"server": {"minAvailableClients": 3}, "rounds": rounds}).due() == []


def test_a_sample_is_what_the_hash_of_seed_run_round_and_cluster_says() -> None:
    assert [train(round_) for round_ in (1, 2, 3)] == [("b", "d", "g"), ("a", "h", "j"), ("a", "c", "j")]
    assert train(1, seed=1) != train(1)


@given(st.integers(0, 10_000), st.permutations(TEN), st.integers(1, 12))
def test_a_sample_has_its_size_and_does_not_depend_on_the_order_of_the_clusters(round_, shuffled, size) -> None:
    drawn = train(round_, size, clusters=tuple(shuffled))

    assert drawn == train(round_, size)
    assert (len(set(drawn)), list(drawn)) == (min(size, 10), sorted(drawn))


def test_every_cluster_is_drawn_about_equally_often() -> None:
    drawn = Counter(cluster for round_ in range(200) for cluster in train(round_))

    assert sorted(drawn) == list(TEN)
    assert all(35 <= times <= 85 for times in drawn.values()), drawn  # 60 expected; four standard deviations are 26


def test_without_a_number_everyone_is_asked_and_one_initializes() -> None:
    assert train(1, invite=None) == TEN
    assert policies.choose(Task.EVALUATE, RoundPolicy(invite=2), TEN, RUN, 1, 0) == TEN
    assert len(policies.choose(Task.EVALUATE, RoundPolicy(evaluate_on=2), TEN, RUN, 1, 0)) == 2
    assert [policies.choose(Task.INITIALIZE, RoundPolicy(invite=2), ("b", "a"), RUN, 0, failures) for failures in range(3)] == [
        ("b",), ("a",), ("b",),
    ]  # fmt: skip


def test_more_that_are_at_work_than_a_sample_has_places_leave_none_for_others() -> None:
    assert policies.choose(Task.TRAIN, RoundPolicy(invite=2), TEN, RUN, 1, 0, busy="abc") == ("a", "b", "c")


def test_who_is_left_out_and_why() -> None:
    assert policies.left_out("dcba", frozenset("ab"), {"a": 1, "b": 3, "c": 3, "d": 2}) == {
        "a": "faulty in an earlier attempt",
        "b": "quarantined: refused in 3 rounds",
        "c": "quarantined: refused in 3 rounds",
    }


def judged(policy: dict, *told: tuple[Task, int, dict[str, float]]) -> Best | None:
    best = None
    for task, training_round, metrics in told:
        result = Aggregated(
            run=RUN, round=0, at=NOW, task=task, training_round=training_round, members=("a",), weight=1, metrics=metrics, model=None
        )
        best = policies.judge(best, spec(**policy).rounds, result, model(training_round), metrics)
    return best


@pytest.mark.parametrize(("mode", "training_round"), [("max", 2), ("min", 1)])
def test_the_best_model_is_the_first_with_the_best_value(mode, training_round) -> None:
    stop = {"metric": "m", "mode": mode, "patience": 9}
    told = [(Task.EVALUATE, number, {"m": value}) for number, value in enumerate((1.0, 3.0, 2.0, 3.0, 1.0), 1)]

    assert judged({"stop": stop}, *told) == Best(
        3.0 if mode == "max" else 1.0, training_round, model(training_round), told[training_round - 1][2]
    )


def test_training_judges_only_where_nothing_is_evaluated_and_other_metrics_never() -> None:
    stop = {"metric": "m", "mode": "max", "patience": 9}
    told = [(Task.TRAIN, 1, {"m": 5.0}), (Task.EVALUATE, 1, {"m": 1.0}), (Task.EVALUATE, 2, {"other": 9.0})]

    assert judged({"stop": stop}, *told) == Best(1.0, 1, model(1), {"m": 1.0})
    assert judged({"stop": stop, "evaluate": False}, *told) == Best(5.0, 1, model(1), {"m": 5.0})
    assert judged({}, *told) is None


TARGET = {"metric": "accuracy", "mode": "max", "target": 0.95}
PATIENCE = {"metric": "loss", "mode": "min", "patience": 3}
ENDS = {
    "all rounds": ({}, 10, None, "all rounds done"),
    "not all rounds": ({}, 9, None, None),
    "a target that is reached": ({"stop": TARGET}, 4, (0.95, 4), "accuracy reached 0.95"),
    "a target that is reached in the last round": ({"stop": TARGET}, 10, (0.99, 10), "accuracy reached 0.95"),
    "a target that is not reached": ({"stop": TARGET}, 4, (0.94, 4), None),
    "a low target that is reached": ({"stop": {**PATIENCE, "target": 0.1}}, 2, (0.05, 2), "loss reached 0.1"),
    "patience at its end": ({"stop": PATIENCE}, 5, (0.3, 2), "loss has not improved for 3 rounds"),
    "patience that is left": ({"stop": PATIENCE}, 4, (0.3, 2), None),
    "one round of patience": ({"stop": {**PATIENCE, "patience": 1}}, 3, (0.3, 2), "loss has not improved for 1 round"),
    "patience at its end in the last round": ({"stop": PATIENCE}, 10, (0.3, 7), "all rounds done"),
    "a metric that nobody has": ({"stop": PATIENCE}, 3, None, "loss was never measured, in 3 rounds"),
    "a metric that nobody has, without patience": ({"stop": TARGET}, 9, None, None),
    "a metric that nobody had": ({"stop": TARGET}, 10, None, "accuracy was never measured, in 10 rounds"),
}


@pytest.mark.parametrize(("policy", "trained", "best", "reason"), ENDS.values(), ids=ENDS)
def test_a_run_ends_when_it_has_had_enough(policy, trained, best, reason) -> None:
    assert policies.end(spec(**policy), trained, best and Best(best[0], best[1], model(1), {})) == reason
