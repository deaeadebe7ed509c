"""Runs under `spec.rounds`, told as stories: facts in, actions out."""

from datetime import timedelta
from typing import Any

import pytest
from aggregator_story import CHUNK_BYTES, NOW, RUN, SHARD_BYTES, Story, contributed, declined, evaluated, folded

from fedplane.aggregator.runs import Discard
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Perform, Remind, State
from fedplane.schemas.facts import Closed, Completed, Expired, Fact, Failed, Opened, Rejected, RoundFailed, run_level_facts_of
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import bulk_of_round

FIVE = tuple("abcde")


def begun(clusters: tuple[str, ...] = FIVE, rounds: int = 10, **policy: Any) -> Story:
    """A run whose first training round is open."""
    story = Story(spec={"server": {"rounds": rounds, "minAvailableClients": 2}, "rounds": policy}, clusters=clusters)
    story.initialize()
    return story


def asked(story: Story) -> Opened:
    assert story.run.round is not None
    return story.run.round.opened


def train(story: Story, **metrics: float) -> list[Fact]:
    """Everyone who is asked contributes, and the shards are folded. What the core states when that is done."""
    number = asked(story).round
    story.tell(*(contributed(number, cluster, metrics=metrics) for cluster in asked(story).clusters))
    story.obey()
    assert story.run.round is not None
    members = [member.cluster for member in story.run.round.members]
    story.tell(*(folded(number, shard, *members) for shard in range(3)))
    return story.obey()


def evaluate(story: Story, accuracy: float) -> list[Fact]:
    story.tell(*(evaluated(asked(story).round, cluster, 1, accuracy) for cluster in asked(story).clusters))
    return story.obey()


def spoil(story: Story, cluster: str) -> None:
    """The round fails because a cluster's bytes cannot be used."""
    number = asked(story).round
    story.tell(RoundFailed(run=RUN, round=number, at=NOW, reason="unfoldable", message=f"{cluster} is not finite", faulty=(cluster,)))
    story.obey()


def test_a_training_round_asks_a_sample_which_the_log_records() -> None:
    story = begun(invite=3, closeAt=2, quorum=2, seed=7, weightMax=50, deadlineSeconds=60)
    opened = asked(story)

    assert opened == Opened(
        run=RUN, round=1, at=opened.at, task=Task.TRAIN, training_round=1, clusters=("a", "c", "d"), minimum=2, close_at=2, weight_max=50,
        deadline=opened.at + timedelta(seconds=60), shard_bytes=SHARD_BYTES, chunk_bytes=CHUNK_BYTES, model=story.run.model,
    )  # fmt: skip
    assert tuple(story.invited()) == opened.clusters


def test_a_repeated_training_round_draws_others() -> None:
    story = begun(invite=2)
    first = asked(story)
    story.tell(*(declined(1, cluster) for cluster in first.clusters))
    story.obey()

    assert (asked(story).round, asked(story).training_round) == (2, 1)
    assert (first.clusters, asked(story).clusters) == (("b", "d"), ("a", "d"))


def test_all_evaluate_unless_the_resource_says_on_how_many() -> None:
    everyone, some = begun(invite=2), begun(invite=2, evaluateOn=3)
    train(everyone)
    train(some)

    assert (asked(everyone).task, asked(everyone).clusters) == (Task.EVALUATE, FIVE)
    assert (asked(some).task, len(asked(some).clusters), asked(some).close_at) == (Task.EVALUATE, 3, None)


def test_a_round_closes_as_soon_as_enough_contributions_are_in() -> None:
    story = begun(closeAt=3)
    story.tell(contributed(1, "a"), declined(1, "b"), contributed(1, "c"))
    waiting = story.said()
    story.tell(contributed(1, "d"))
    reminder = Remind(Expired(run=RUN, round=1, at=asked(story).deadline), asked(story).deadline)

    assert waiting == [reminder]
    assert story.said() == [reminder, State(Closed(run=RUN, round=1, at=story.now, reason="3 contributions are in"))]


def test_contributions_that_cannot_count_do_not_close_a_round() -> None:
    story = begun(closeAt=2)
    story.tell(contributed(1, "a"), contributed(1, "b", size=208))

    assert [type(fact) for fact in story.stated()] == [Rejected]


def test_the_quorum_is_what_a_deadline_needs_and_not_what_placement_needs() -> None:
    one, none = begun(quorum=1), begun(quorum=1)
    one.tell(contributed(1, "d"), Expired(run=RUN, round=1, at=NOW))
    none.tell(declined(1, "d"), Expired(run=RUN, round=1, at=NOW))

    assert [type(fact) for fact in one.obey()] == [Closed]  # and its shards are folded
    assert [type(fact) for fact in none.obey()][:2] == [Closed, RoundFailed]


def test_a_run_stops_when_an_evaluation_reaches_the_target() -> None:
    story = begun(stop={"metric": "accuracy", "mode": "max", "target": 0.95})
    train(story)
    evaluate(story, 0.9)
    train(story)
    completed = evaluate(story, 0.96)[-1]

    assert (story.run.scheduled, story.run.model) == (None, completed.model), "of an ended run only a marker stays, with its model"
    assert isinstance(completed, Completed)
    assert (completed.model.round, completed.metrics, completed.reason) == (3, {"loss": 1, "accuracy": 0.96}, "accuracy reached 0.95")


def test_a_run_stops_when_training_does_not_improve_what_it_reports() -> None:
    story = begun(evaluate=False, stop={"metric": "loss", "mode": "min", "patience": 2})
    ends = [train(story, loss=loss)[-1] for loss in (3.0, 2.0, 2.0, 2.5)]

    assert [isinstance(fact, Completed) for fact in ends] == [False, False, False, True]
    assert ends[-1] == Completed(
        run=RUN, at=ends[-1].at, model=ends[-1].model, metrics={"loss": 2.5}, reason="loss has not improved for 2 rounds"
    )


def test_a_failed_evaluation_counts_as_no_improvement() -> None:
    story = begun(stop={"metric": "accuracy", "mode": "max", "patience": 1})
    train(story)
    evaluate(story, 0.5)
    train(story)
    story.tell(*(declined(asked(story).round, cluster) for cluster in FIVE))
    completed = story.obey()[-1]

    assert isinstance(completed, Completed)
    assert completed.reason == "accuracy has not improved for 1 round"


def best_of_four() -> tuple[Story, list[Discard], Completed]:
    """Training rounds 1 to 4 with the best model in round 2; what is discarded on the way, and the end."""
    story = begun(rounds=4, evaluate=False, keep="best", stop={"metric": "m", "mode": "max"})
    discarded, said = [], []
    for value in (0.5, 0.9, 0.6, 0.7):
        number = asked(story).round
        story.tell(*(contributed(number, cluster, metrics={"m": value}) for cluster in FIVE))
        story.obey()
        story.tell(*(folded(number, shard, *FIVE) for shard in range(3)))
        story.tell(*story.stated())
        discarded += [action.effect for action in story.due() if isinstance(action, Perform)]
        said = story.obey()
    (completed,) = said
    assert isinstance(completed, Completed)
    return story, discarded, completed


def test_the_best_model_is_the_runs_model_with_its_own_metrics() -> None:
    _, _, completed = best_of_four()

    assert (completed.model.round, completed.metrics, completed.reason) == (2, {"loss": 1, "m": 0.9}, "all rounds done")


def test_the_last_and_the_best_model_are_kept_and_the_others_are_discarded() -> None:
    story, discarded, _ = best_of_four()

    assert discarded == [
        Discard((bulk_of_round(RUN, 1, "update"),)),
        Discard((bulk_of_round(RUN, 2, "update"), bulk_of_round(RUN, 0, "model"))),
        Discard((bulk_of_round(RUN, 3, "update"), bulk_of_round(RUN, 1, "model"))),
        Discard((bulk_of_round(RUN, 4, "update"),)),
    ]
    assert story.due() == [Perform(("discard", RUN), Discard((bulk_of_round(RUN, "*", "update"), bulk_of_round(RUN, 3, "model"))))]


def test_a_model_that_was_the_best_is_discarded_when_another_one_is_better() -> None:
    story = begun(rounds=9, keep="best", stop={"metric": "accuracy", "mode": "max"})
    for accuracy in (0.9, 0.5, 0.6):
        train(story)
        evaluate(story, accuracy)
    train(story)
    stored = [model.round for model in story.run.superseded]
    story.tell(*(evaluated(asked(story).round, cluster, 1, 0.95) for cluster in FIVE))
    story.tell(*story.stated())
    story.tell(*story.stated())

    assert (stored, story.run.model and story.run.model.round) == ([1, 5], 7)
    assert story.due() == [
        Perform(("discard", RUN, 8), Discard((bulk_of_round(RUN, 1, "model"),))),
        State(
            Opened(
                run=RUN, round=9, at=story.now, task=Task.TRAIN, training_round=5, clusters=FIVE, minimum=2, model=story.run.model,
                deadline=story.now + timedelta(seconds=600), shard_bytes=SHARD_BYTES, chunk_bytes=CHUNK_BYTES,
            ),
            Fence(run_level_facts_of(RUN), story.run.run_level),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("task", [Task.TRAIN, Task.EVALUATE])
def test_an_answer_that_weighs_too_much_is_rejected(task) -> None:
    story = begun(weightMax=100)
    if task is Task.EVALUATE:
        train(story)
    number = asked(story).round
    story.tell(contributed(number, "b", 101) if task is Task.TRAIN else evaluated(number, "b", 101, 0.9))
    message = "its weight is 101, and spec.rounds.weightMax is 100"

    assert story.said() == [
        State(Rejected(run=RUN, round=number, cluster="b", at=story.now, reason="unacceptable", message=message)),
        Remind(Expired(run=RUN, round=number, at=asked(story).deadline), asked(story).deadline),
    ]


def test_an_initialization_may_weigh_what_it_likes() -> None:
    assert asked(begun(weightMax=0.5)).task is Task.TRAIN


def test_a_faulty_cluster_sits_out_the_training_round_comes_back_and_is_quarantined_at_its_third_refusal() -> None:
    story = begun(clusters=("a", "b", "c"), evaluate=False)
    told = []
    for _ in range(3):
        spoil(story, "b")
        told.append((asked(story).training_round, asked(story).clusters, asked(story).left_out))
        train(story)
        told.append((asked(story).training_round, asked(story).clusters, asked(story).left_out))

    sits_out, quarantined = {"b": "faulty in an earlier attempt"}, {"b": "quarantined: refused in 3 rounds"}
    assert told == [
        (1, ("a", "c"), sits_out), (2, ("a", "b", "c"), {}),
        (2, ("a", "c"), sits_out), (3, ("a", "b", "c"), {}),
        (3, ("a", "c"), quarantined), (4, ("a", "c"), quarantined),
    ]  # fmt: skip


def test_refusals_of_every_kind_count_once_a_round() -> None:
    story = begun(clusters=("a", "b", "c"), weightMax=100)
    story.tell(contributed(1, "a"), contributed(1, "b", size=208), contributed(1, "c"))
    story.obey()
    story.tell(*(folded(1, shard, "a", "c") for shard in range(3)))
    story.obey()
    story.tell(evaluated(2, "a", 1, 0.5), evaluated(2, "b", 1000, 0.5), declined(2, "c"))
    story.obey()

    assert (asked(story).round, dict(story.run.refusals), asked(story).left_out) == (3, {"b": 2}, {})
    spoil(story, "b")
    assert (story.run.refusals, asked(story).left_out) == ({"b": 3}, {"b": "quarantined: refused in 3 rounds"})


def test_a_run_whose_quarantine_leaves_too_few_clusters_fails() -> None:
    story = begun(clusters=("a", "b"), attempts=5)
    for _ in range(3):
        story.tell(contributed(asked(story).round, "a"), contributed(asked(story).round, "b", size=208))
        failed = story.obey()[-1]

    assert isinstance(failed, Failed)
    message = "1 usable clusters are left and 2 are needed; the contributions of b could not be used"
    assert (failed.reason, failed.message) == ("TooFewClusters", message)
