"""Stragglers, told as stories: who is carried into which round, and what becomes of what they began with."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aggregator_story import CHUNK_BYTES, NOW, RUN, SHARD_BYTES, Story, contributed, declined, evaluated, folded, resource

from fedplane.aggregator import policies
from fedplane.aggregator.carrying import Outstanding, discount
from fedplane.aggregator.runs import Discard
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Perform, State
from fedplane.schemas.facts import Closed, Expired, Failed, Invited, Opened, Rejected, RoundFailed, run_level_facts_of
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import bulk_of_round


def begun(clusters: str = "abc", rounds: int = 9, **policy: Any) -> Story:
    """A run whose first training round is open, and closes at two contributions."""
    policy = {"closeAt": 2, "quorum": 2, "carry": 2, "evaluate": False, **policy}
    story = Story(spec={"server": {"rounds": rounds, "minAvailableClients": 2}, "rounds": policy}, clusters=tuple(clusters))
    story.initialize()
    return story


def asked(story: Story) -> Opened:
    assert story.run.round is not None
    return story.run.round.opened


def train(story: Story, members: str, **origins: int) -> None:
    """These clusters contribute, the round closes and its shards are folded; then the next one is open."""
    number = asked(story).round
    story.tell(*(contributed(number, cluster, origin=origins.get(cluster)) for cluster in members))
    story.obey()
    story.tell(*(folded(number, shard, *sorted(members)) for shard in range(3)))
    story.obey()


def test_a_cluster_that_has_not_answered_is_carried_into_the_next_training_round() -> None:
    story = begun()
    first = story.run.model
    train(story, "ab")
    second = story.run.model
    opened = asked(story)
    invited = next(fact for fact in story.log if isinstance(fact, Invited) and (fact.round, fact.cluster) == (2, "c"))

    assert story.run.outstanding == {"c": Outstanding(1, 1, first)}
    assert opened == Opened(
        run=RUN, round=2, at=opened.at, task=Task.TRAIN, training_round=2, clusters=("a", "b", "c"), minimum=2, close_at=2,
        deadline=opened.at + timedelta(seconds=600), shard_bytes=SHARD_BYTES, chunk_bytes=CHUNK_BYTES, model=second, carried={"c": 1},
    )  # fmt: skip
    assert (invited.carries, invited.carried_until, invited.model) == (1, opened.at + timedelta(seconds=3 * 600), second)


def test_a_round_that_was_opened_at_the_end_of_time_can_be_asked() -> None:
    story = begun(carry=100)
    late = asked(story).model_copy(update={"round": 2, "at": datetime(2999, 12, 30, 12, tzinfo=UTC)})
    story.tell(RoundFailed(run=RUN, round=1, at=NOW, reason="test", message="test"), late)
    until = {fact.carried_until for fact in story.stated() if isinstance(fact, Invited)}

    assert until == {datetime(2999, 12, 31, tzinfo=UTC)}


def test_without_carry_nobody_is_carried_and_work_ends_with_its_round() -> None:
    story = begun(carry=0)
    train(story, "ab")
    invited = [(fact.carries, fact.carried_until) for fact in story.log if isinstance(fact, Invited)]

    assert (story.run.outstanding, asked(story).carried, set(invited)) == ({}, {}, {(None, None)})


def test_only_training_may_go_on_after_its_round() -> None:
    story = begun(evaluate=True)
    train(story, "ab")

    assert [(fact.task, fact.carried_until is None) for fact in story.log if isinstance(fact, Invited) and fact.cluster == "a"] == [
        (Task.INITIALIZE, True), (Task.TRAIN, False), (Task.EVALUATE, True),
    ]  # fmt: skip


def test_an_evaluation_asks_those_that_are_idle_and_the_next_training_round_carries_the_others() -> None:
    story = begun(evaluate=True)
    train(story, "ab")
    evaluating = asked(story)
    story.tell(*(evaluated(2, cluster, 1, 0.5) for cluster in "ab"))
    story.obey()

    assert (evaluating.task, evaluating.clusters, evaluating.carried) == (Task.EVALUATE, ("a", "b"), {})
    assert (asked(story).task, asked(story).carried) == (Task.TRAIN, {"c": 1})


def test_who_declined_has_nothing_outstanding() -> None:
    story = begun("abcd")
    story.tell(declined(1, "c"))
    train(story, "ab")

    assert asked(story).carried == {"d": 1}


def test_who_was_never_invited_has_nothing_outstanding() -> None:
    story = begun()
    story.tell(contributed(1, "a"), contributed(1, "b"))
    story.obey()
    story.tell(*(folded(1, shard, "a", "b") for shard in range(3)))
    story.tell(*story.stated())
    story.tell(*story.stated())  # round 2 is opened, and that is all
    story.tell(contributed(2, "a"), contributed(2, "b"), Closed(run=RUN, round=2, at=NOW, reason="test"))
    story.tell(*(folded(2, shard, "a", "b") for shard in range(3)))
    story.obey()

    assert (asked(story).round, asked(story).carried) == (3, {})


def test_a_straggler_is_asked_anew_when_it_is_later_than_the_resource_allows() -> None:
    story = begun(carry=2)
    told = []
    for _ in range(3):
        train(story, "ab")
        told.append(asked(story).carried)

    assert told == [{"c": 1}, {"c": 1}, {}]
    assert "c" in asked(story).clusters


def test_what_a_straggler_contributes_where_it_is_carried_is_its_answer_and_it_is_idle_again() -> None:
    story = begun()
    train(story, "ab")
    train(story, "ac", c=1)
    members = [(fact.members, fact.training_round) for fact in story.log if hasattr(fact, "members") and hasattr(fact, "metrics")]

    assert members[-1] == (("a", "c"), 2)
    assert asked(story).carried == {"b": 2}


def test_a_straggler_that_lost_its_work_may_answer_the_new_question() -> None:
    story = begun()
    train(story, "ab")
    train(story, "ac")

    assert (asked(story).round, asked(story).carried) == (3, {"b": 2})


@pytest.mark.parametrize(("cluster", "origin"), [("c", 0), ("c", 2), ("a", 1)])
def test_an_update_from_a_model_that_is_not_carried_does_not_count(cluster, origin) -> None:
    story = begun()
    train(story, "ab")
    story.tell(contributed(2, cluster, origin=origin))
    message = f"it answers the question of round {origin}, which this round does not carry for its cluster"

    assert [fact for fact in story.stated() if isinstance(fact, Rejected)] == [
        Rejected(run=RUN, round=2, cluster=cluster, at=story.now, reason="unacceptable", message=message)
    ]


def test_after_a_failed_round_its_stragglers_are_carried_and_are_not_late() -> None:
    story = begun(closeAt=None)
    first = asked(story)
    story.tell(contributed(1, "a"), Expired(run=RUN, round=1, at=NOW))
    story.obey()

    assert (asked(story).round, asked(story).training_round, asked(story).carried) == (2, 1, {"b": 1, "c": 1})
    assert story.run.outstanding == {cluster: Outstanding(1, 1, first.model, overdue=True) for cluster in "bc"}


def test_those_that_are_carried_take_the_places_of_others_in_a_sample() -> None:
    story = begun("abcdef", invite=4)
    first = asked(story).clusters
    train(story, "".join(first[:2]))
    late = set(first[2:])

    assert (len(asked(story).clusters), set(asked(story).carried), late <= set(asked(story).clusters)) == (4, late, True)


def test_a_repeated_round_asks_as_many_others_as_if_nobody_were_carried() -> None:
    story = begun("abcdef", invite=2, closeAt=None)
    first = asked(story).clusters
    story.tell(Expired(run=RUN, round=1, at=NOW))
    story.obey()

    assert (set(asked(story).carried), len(asked(story).clusters)) == (set(first), 4)


def test_those_that_a_round_awaited_in_vain_until_its_deadline_take_nobodys_place() -> None:
    story = begun("abcdef", invite=2, closeAt=1, quorum=1, carry=9)
    dead = set(asked(story).clusters)
    story.tell(Expired(run=RUN, round=1, at=NOW))
    story.obey()
    alive = sorted(set(asked(story).clusters) - dead)
    train(story, alive[0])
    third = asked(story)
    train(story, alive[1], **{alive[1]: 2})

    assert (set(third.carried), len(third.clusters)) == (dead | {alive[1]}, 4)
    assert len(set(asked(story).clusters) - dead) == 2, "one that is still at work since round 3, and a fresh one"


def test_a_straggler_that_is_quarantined_is_not_carried() -> None:
    story = begun()
    train(story, "ab")
    story.tell(RoundFailed(run=RUN, round=2, at=NOW, reason="unfoldable", message="c is not finite", faulty=("c",)))
    story.obey()

    assert (asked(story).clusters, asked(story).carried) == (("a", "b"), {"a": 2, "b": 2})


@pytest.mark.parametrize("odd", [{"carried": {"c": 0}}, {"carried": {"a": 1}}, {"task": Task.EVALUATE}, {"clusters": ("a", "b")}])
def test_a_round_that_carries_what_is_not_outstanding_is_not_opened(odd) -> None:
    story = begun()
    number = asked(story).round
    story.tell(contributed(number, "a"), contributed(number, "b"))
    story.obey()
    story.tell(*(folded(number, shard, "a", "b") for shard in range(3)))
    story.tell(*story.stated())
    (honest,) = [fact for fact in story.stated() if isinstance(fact, Opened)]
    story.tell(honest.model_copy(update=odd))

    assert (honest.carried, asked(story).round) == ({"c": 1}, 1)


def test_the_models_that_outstanding_work_began_with_stay_and_are_discarded_afterwards() -> None:
    story = begun(carry=3)
    discarded = []
    for members, origins in (("ab", {}), ("ab", {}), ("ab", {}), ("ac", {"c": 1}), ("ab", {"b": 4})):
        number = asked(story).round
        story.tell(*(contributed(number, cluster, origin=origins.get(cluster)) for cluster in members))
        story.obey()
        story.tell(*(folded(number, shard, *members) for shard in range(3)))
        story.tell(*story.stated())
        discarded += [pattern for action in story.due() if isinstance(action, Perform) for pattern in action.effect.patterns]
        story.obey()

    models = [pattern for pattern in discarded if ".model." in pattern]
    assert models == [bulk_of_round(RUN, round_, "model") for round_ in (1, 0, 2, 3)]
    assert story.run.outstanding["c"].model.round == 4


def test_of_a_run_that_ends_the_models_that_stragglers_began_with_are_discarded() -> None:
    story = begun(rounds=2)
    train(story, "ab")
    train(story, "ab")

    assert [action.effect for action in story.due() if isinstance(action, Perform)] == [
        Discard((bulk_of_round(RUN, "*", "update"), bulk_of_round(RUN, 0, "model"), bulk_of_round(RUN, 1, "model"))),
    ]


def test_the_round_that_carries_closes_when_the_straggler_is_the_last_one_awaited() -> None:
    story = begun(closeAt=None)
    story.tell(contributed(1, "a"), contributed(1, "b"), Expired(run=RUN, round=1, at=NOW))
    story.obey()
    story.tell(*(folded(1, shard, "a", "b") for shard in range(3)))
    story.obey()
    story.tell(contributed(2, "a"), contributed(2, "b"), contributed(2, "c", origin=1))

    assert [action for action in story.due() if isinstance(action, State)] == [
        State(Closed(run=RUN, round=2, at=story.now, reason="everyone answered"))
    ]


def test_a_later_update_weighs_less_by_the_root_of_how_late_it_is() -> None:
    assert [discount(rounds) for rounds in (0, 3, 8)] == [1, 1 / 2, 1 / 3]


def test_carry_without_any_later_round_is_refused() -> None:
    once = resource(server={"rounds": 1, "minAvailableClients": 1}, rounds={"attempts": 1, "carry": 1}).spec

    with pytest.raises(BadInput, match="there is no later round in which an update could count"):
        policies.check(once)


def test_carry_is_refused_with_a_strategy_that_counts_nothing_late() -> None:
    spec = {"server": {"rounds": 9, "minAvailableClients": 2}, "strategy": {"name": "scaffold"}, "rounds": {"carry": 1, "closeAt": 2}}
    story = Story(spec=spec)

    assert story.stated() == [
        Failed(run=RUN, at=story.now, reason="BadRequest", message="spec.rounds.carry: scaffold counts no update that is late")
    ]


def test_a_round_that_carries_is_fenced_like_any_other() -> None:
    story = begun()
    number = asked(story).round
    story.tell(contributed(number, "a"), contributed(number, "b"))
    story.obey()
    story.tell(*(folded(number, shard, "a", "b") for shard in range(3)))
    story.tell(*story.stated())
    fences = [action.fence for action in story.due() if isinstance(action, State)]

    assert fences == [Fence(run_level_facts_of(RUN), story.run.run_level)]
