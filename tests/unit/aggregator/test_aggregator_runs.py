"""What the aggregator wants done, told as stories: facts in, actions out."""

from datetime import timedelta

import pytest
from aggregator_story import LAYOUT_DIGEST, MODEL_BYTES, NOW, RUN, Story, contributed, declined, evaluated, folded, scheduled

from fedplane.aggregator.runs import Discard
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Offer, Perform, Remind, State
from fedplane.schemas.facts import (
    Aggregated,
    Cancelled,
    Closed,
    Completed,
    Expired,
    Failed,
    Invited,
    Measured,
    Opened,
    Rejected,
    RoundFailed,
    Started,
    run_level_facts_of,
)
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import bulk_of_round, work_on


def test_nothing_is_due_before_clusters_are_chosen() -> None:
    assert Story().due() == []


def test_a_scheduled_run_is_started_behind_a_fence() -> None:
    story = Story()
    story.tell(scheduled("a", "b"))

    assert story.due() == [
        State(Started(run=RUN, at=story.now, strategy="fedavg", training_rounds=1), Fence(run_level_facts_of(RUN), 2)),
    ]


def test_round_0_asks_the_cluster_with_the_best_score_to_initialize() -> None:
    story = Story(clusters=("c", "a"))
    story.tell(scheduled("c", "a"))
    *_, opened, invited = story.obey()

    assert isinstance(opened, Opened)
    assert isinstance(invited, Invited)
    assert (opened.round, opened.task, opened.training_round, opened.clusters, opened.minimum) == (0, Task.INITIALIZE, 0, ("c",), 1)
    assert (invited.cluster, invited.framework, invited.app, invited.data, invited.model) == ("c", "flower", "app", "/data/c", None)
    assert (invited.position, invited.clusters) == (1, 2)


def test_a_round_sets_its_deadline_with_the_bus() -> None:
    story = Story(spec={"rounds": {"deadlineSeconds": 60}, "server": {"minAvailableClients": 2}})
    story.tell(scheduled("a", "b"))
    story.obey()
    assert story.run.round is not None
    deadline = story.run.round.opened.deadline

    assert story.run.round.opened.at + timedelta(seconds=60) == deadline
    assert story.due() == [Remind(Expired(run=RUN, round=0, at=deadline), deadline)]


def test_a_closed_round_offers_its_shards_and_their_result_is_the_model() -> None:
    story = Story()
    story.tell(scheduled("a", "b", "c"))
    story.obey()
    story.tell(contributed(0, "a"))
    said = story.obey()
    offers = story.due()
    story.tell(folded(0, 1, "a"), folded(0, 0, "a"))
    left = story.due()
    story.tell(folded(0, 2, "a"))
    aggregated = story.stated()[0]

    assert said == [Closed(run=RUN, round=0, at=said[0].at, reason="everyone answered")]
    assert offers == [Offer(work_on("fold", RUN, 0, shard)) for shard in range(3)]
    assert left == [Offer(work_on("fold", RUN, 0, 2))]
    assert isinstance(aggregated, Aggregated)
    assert aggregated.model is not None
    assert (aggregated.model.bytes, aggregated.model.layout.digest, aggregated.members) == (MODEL_BYTES, LAYOUT_DIGEST, ("a",))
    assert [piece.bytes for piece in aggregated.model.shards] == [80, 80, 40]


def test_a_strategy_that_compares_has_every_shard_measured_before_any_is_folded() -> None:
    story = Story(spec={"strategy": {"name": "krum"}})
    story.initialize()
    story.tell(*(contributed(1, cluster) for cluster in "abc"))
    story.obey()

    def offered(*measured: int) -> list[str]:
        for shard in measured:
            story.tell(Measured(run=RUN, round=1, shard=shard, at=NOW, members=tuple("abc"), products=(1, 0, 0, 1, 0, 1)))
        return [action.subject for action in story.due() if isinstance(action, Offer)]

    assert offered() == [work_on("measure", RUN, 1, shard) for shard in range(3)]
    assert offered(2, 0) == [work_on("measure", RUN, 1, 1)]
    assert offered(1) == [work_on("fold", RUN, 1, shard) for shard in range(3)]


def test_training_invites_all_participants_with_the_model_and_what_the_app_told() -> None:
    story = Story(spec={"server": {"rounds": 1, "minAvailableClients": 2}, "config": {"epochs": 2}})
    story.initialize()

    assert story.invited() == {"a": Task.TRAIN, "b": Task.TRAIN, "c": Task.TRAIN}
    invited = next(fact for fact in story.log if isinstance(fact, Invited) and fact.round == 1)
    assert (invited.configuration, invited.run_configuration, invited.model) == ({"lr": 0.5}, {"epochs": 2}, story.run.model)


def test_a_run_initializes_trains_evaluates_and_completes() -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "b", 1), contributed(1, "a", 3), declined(1, "c"))
    story.obey()
    story.tell(*(folded(1, shard, "a", "b") for shard in range(3)))
    story.obey()
    story.tell(evaluated(2, "c", 1, 0.5), evaluated(2, "a", 3, 0.9), declined(2, "b"))
    said = story.obey()

    trained = [fact for fact in story.log if isinstance(fact, Aggregated) and fact.task is Task.TRAIN]
    assert [(fact.members, fact.weight, fact.metrics) for fact in trained] == [(("a", "b"), 4, {"loss": (3 * 3 + 1 * 1) / 4})]
    closed, measured, completed = said
    assert isinstance(closed, Closed)
    assert isinstance(measured, Aggregated)
    assert isinstance(completed, Completed)
    assert measured.metrics == {"accuracy": pytest.approx((3 * 0.9 + 0.5) / 4)}
    assert (completed.model, completed.metrics) == (trained[0].model, {"loss": 2.5, **measured.metrics})
    assert story.due() == [
        Perform(("discard", RUN), Discard((bulk_of_round(RUN, "*", "update"), bulk_of_round(RUN, 0, "model")))),
    ]


def test_a_round_closes_at_its_deadline_with_whoever_answered() -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "a"), contributed(1, "b"), Expired(run=RUN, round=1, at=NOW))

    assert [fact.reason for fact in story.stated() if isinstance(fact, Closed)] == ["the deadline passed"]


def test_a_contribution_after_closing_does_not_count() -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "a"), contributed(1, "b"), Closed(run=RUN, round=1, at=NOW, reason="test"), contributed(1, "c"))

    assert story.run.round is not None
    assert [member.cluster for member in story.run.round.members] == ["a", "b"]


def test_a_round_with_too_few_answers_fails_says_who_is_missing_and_is_tried_again() -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "a"), declined(1, "b"), Expired(run=RUN, round=1, at=NOW))
    _, failed, opened, *_ = story.obey()

    assert isinstance(failed, RoundFailed)
    assert failed.message == (
        "1 of 3 clusters answered, 2 are needed; b declined (app-raised): it raised; c did not answer by the deadline"
    )
    assert isinstance(opened, Opened)
    assert (opened.round, opened.training_round, opened.task) == (2, 1, Task.TRAIN)


def test_of_many_who_did_not_answer_a_failure_names_the_first_ten_and_counts_the_others() -> None:
    clusters = tuple("abcdefghijkl")
    story = Story(clusters=clusters)
    story.initialize()
    story.tell(*(declined(1, cluster) for cluster in clusters))
    _, failed, *_ = story.obey()

    assert isinstance(failed, RoundFailed)
    excuses = "".join(f"; {cluster} declined (app-raised): it raised" for cluster in clusters[:10])
    assert failed.message == f"0 of 12 clusters answered, 2 are needed{excuses}; and 2 more"


def test_a_run_fails_when_its_attempts_are_used_up() -> None:
    story = Story(spec={"rounds": {"attempts": 2}, "server": {"minAvailableClients": 2, "rounds": 1}})
    story.initialize()
    for round_ in (1, 2):
        story.tell(*(declined(round_, cluster) for cluster in "abc"))
        said = story.obey()

    assert isinstance(said[-1], Failed)
    assert said[-1].reason == "RoundFailed"
    assert said[-1].message.startswith("training round 1 failed 2 times; the last time: 0 of 3 clusters answered, 2 are needed; a declined")


def test_initialization_that_fails_is_asked_of_the_next_cluster() -> None:
    story = Story()
    story.tell(scheduled("a", "b", "c"))
    story.obey()
    story.tell(declined(0, "a"))
    story.obey()

    assert story.invited() == {"b": Task.INITIALIZE}


def test_an_evaluation_that_fails_does_not_stop_the_run() -> None:
    story = Story()
    story.initialize()
    story.tell(*(contributed(1, cluster) for cluster in "abc"))
    story.obey()
    story.tell(*(folded(1, shard, "a", "b", "c") for shard in range(3)))
    story.obey()
    story.tell(*(declined(2, cluster) for cluster in "abc"))

    assert [type(fact) for fact in story.obey()] == [Closed, RoundFailed, Completed]


def test_a_cluster_whose_bytes_were_unusable_is_not_asked_when_the_round_is_tried_again() -> None:
    story = Story()
    story.initialize()
    story.tell(*(contributed(1, cluster) for cluster in "abc"))
    story.obey()
    story.tell(RoundFailed(run=RUN, round=1, at=NOW, reason="unfoldable", message="b is not finite", faulty=("b",)))
    story.obey()

    assert story.invited() == {"a": Task.TRAIN, "c": Task.TRAIN}


def test_a_run_fails_when_too_few_usable_clusters_are_left() -> None:
    story = Story(clusters=("a", "b"))
    story.initialize()
    story.tell(RoundFailed(run=RUN, round=1, at=NOW, reason="unfoldable", message="b is not finite", faulty=("b",)))
    (failed,) = story.obey()

    assert isinstance(failed, Failed)
    assert failed.reason == "TooFewClusters"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            contributed(1, "b", layout="blake3:" + "c" * 64),
            "its layout is not the model's: another set of tensors, names, shapes or dtypes",
        ),
        (contributed(1, "b", size=208), "it has 208 bytes, and the model has 200"),
        (contributed(1, "b", shards=contributed(1, "b").shards[::-1]), "it is not cut into shards of 80 bytes"),
        (contributed(1, "b", shards=contributed(1, "a").shards), "shard 0 names bytes that are not this cluster's own"),
    ],
)
def test_a_contribution_that_cannot_count_is_rejected_with_the_reason_and_the_round_goes_on(answer, message) -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "a"), answer, contributed(1, "c"))
    rejected, closed = story.stated()

    assert (type(closed), rejected) == (
        Closed,
        Rejected(run=RUN, round=1, cluster="b", at=story.now, reason="unacceptable", message=message),
    )
    assert story.run.round is not None
    assert [member.cluster for member in story.run.round.members] == ["a", "c"]


def test_who_was_not_invited_cannot_contribute() -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "mallory"))

    assert story.run.round is not None
    assert story.run.round.members == ()


def test_the_first_answer_of_a_cluster_counts() -> None:
    story = Story()
    story.initialize()
    story.tell(declined(1, "a"), contributed(1, "a"), contributed(1, "b", 1), declined(1, "b"))

    assert story.run.round is not None
    assert [member.cluster for member in story.run.round.members] == ["b"]
    assert sorted(story.run.round.declined) == ["a"]


def test_a_cancelled_run_closes_its_round_so_that_late_contributions_are_refused() -> None:
    story = Story()
    story.initialize()
    story.tell(Cancelled(run=RUN, at=NOW))
    closed = story.stated()
    story.tell(*closed)

    assert closed == [Closed(run=RUN, round=1, at=story.now, reason="the run was cancelled")]
    assert [type(action) for action in story.due()] == [Perform]
    assert story.stated() == []


def test_bytes_that_are_needed_no_more_are_discarded() -> None:
    story = Story(spec={"server": {"rounds": 3, "minAvailableClients": 1}, "rounds": {"evaluate": False}}, clusters=("a",))
    story.initialize()
    discards = []
    for round_ in (1, 2, 3):
        story.tell(contributed(round_, "a"))
        story.obey()
        story.tell(*(folded(round_, shard, "a") for shard in range(3)))
        story.tell(*story.stated())
        discards += [action.effect for action in story.due() if isinstance(action, Perform)]
        story.obey()

    assert discards == [
        Discard((bulk_of_round(RUN, 1, "update"),)),
        Discard((bulk_of_round(RUN, 2, "update"), bulk_of_round(RUN, 0, "model"))),
        Discard((bulk_of_round(RUN, 3, "update"), bulk_of_round(RUN, 1, "model"))),
    ]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"name": "fedmagic"}, f"spec.strategy.name: there is no strategy 'fedmagic'; known are {', '.join(sorted(STRATEGIES))}"),
        ({"name": "fedavg", "parameters": {"eta": 1}}, "spec.strategy.parameters: fedavg has no 'eta'; it has none"),
    ],
)
def test_a_strategy_that_is_not_there_fails_the_run_with_what_there_is(strategy, message) -> None:
    story = Story(spec={"strategy": strategy})
    (failed,) = story.stated()

    assert failed == Failed(run=RUN, at=story.now, reason="BadRequest", message=message)


def test_a_size_that_is_made_up_costs_no_memory_to_refuse() -> None:
    story = Story()
    story.tell(scheduled("a", "b", "c"))
    story.obey()
    honest = contributed(0, "a")
    huge = tuple(piece.model_copy(update={"bytes": 10**18}) for piece in honest.shards)
    story.tell(honest.model_copy(update={"shards": huge}))

    assert story.run.round is not None
    assert story.run.round.unacceptable == {"a": "it is not cut into shards of 80 bytes"}
