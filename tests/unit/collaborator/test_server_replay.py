"""A server that is started again is answered from the log, and what the log does not have is asked."""

import pytest
from aggregator_story import NOW, RUN, asked, content, contributed, declined, scheduled
from asked_story import Told, aggregated, failed, rejected, started, submitted, wanted

from fedplane.collaborator.driver.replay import Answer, Drive, Driver, DriverState, Plan, Retire, answers, plan, sent_before
from fedplane.runtime.errors import AppFailed
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Archived, Asked, Cancelled, Completed, Submitted


def test_a_server_is_run_once_its_run_has_started_and_removed_when_it_has_ended() -> None:
    core, log = Driver(), [submitted(), scheduled("a"), started(), Completed(run=RUN, at=NOW, model=content(0), metrics={})]
    state, due = core.initial(), []
    for sequence, fact in enumerate(log, 1):
        state = core.evolve(state, Recorded(fact, sequence))
        due.append(core.decide(state, NOW))

    assert due == [[], [], [Perform((RUN, "drive"), Drive(RUN))], [Perform((RUN, "ended"), Retire(RUN))]]


def test_runs_by_other_strategies_and_runs_that_have_ended_are_none_of_its_business() -> None:
    core = Driver()
    other = core.evolve(core.initial(), Recorded(submitted(strategy={"name": "fedavg"}), 1))
    told = Told()
    told.tell(Cancelled(run=RUN, at=NOW), submitted(), started())

    assert other == DriverState()
    assert told.state == DriverState({}, {RUN: None})


def test_a_fresh_server_asks_everything() -> None:
    assert plan(Told().driven, wanted(asked(0, "a", "b")), {}) == Plan({}, (0, 1), ())


def test_a_server_that_says_the_same_again_is_answered_from_the_rounds_that_there_were() -> None:
    told = Told()
    first, second = told.round(0, "a", "b"), told.round(1, "b", "c")

    assert plan(told.driven, wanted(first), {}) == Plan({0: 0, 1: 0}, (), ())
    assert plan(told.driven, wanted(second), {"a": 1, "b": 1}) == Plan({0: 1, 1: 1}, (), ())
    assert plan(told.driven, wanted(asked(2, "a", "b", "c")), {"a": 1, "b": 2, "c": 1}) == Plan({}, (0, 1, 2), ())


def test_which_calls_were_gathered_into_a_round_does_not_matter() -> None:
    told = Told()
    both = told.round(0, "a", "b")
    alone = [each for each in wanted(both) if each.cluster == "b"]

    assert plan(told.driven, alone, {}) == Plan({0: 0}, (), ())


def test_what_differs_in_content_is_answered_all_the_same_and_told() -> None:
    told = Told()
    told.round(0, "a", "b")
    otherwise = asked(0, "a", "b", contents=[content(0, 0), content(0, 7)])

    assert plan(told.driven, wanted(otherwise), {}) == Plan({0: 0, 1: 0}, (), (1,))


@pytest.mark.parametrize("other", [{"kind": "evaluate"}, {"group": "7"}])
def test_a_server_that_takes_another_way_fails_and_is_told_where(other: dict[str, str]) -> None:
    told = Told()
    first = told.round(0, "a")

    with pytest.raises(AppFailed, match=r"took another way: it sends .* to a, and in round 0 it had sent 'train' of group '1'") as refused:
        plan(told.driven, wanted(first, **other), {})
    assert refused.value.reason == "not-repeatable"


def test_whoever_replied_is_a_reply_whoever_declined_an_error_and_whoever_was_late_is_missing() -> None:
    told, question = Told(), asked(0, "c", "b", "a")
    told.tell(question, contributed(0, "c"), declined(0, "b"), aggregated(0, "c"))

    given = answers(told.driven, wanted(question), {0: 0, 1: 0, 2: 0})

    assert given == (Answer(0, contribution=contributed(0, "c")), Answer(1, reason="app-raised", message="it raised"))


def test_a_reply_that_was_rejected_or_whose_round_failed_is_an_error() -> None:
    told, first, second = Told(), asked(0, "a", "b"), asked(1, "a")
    told.tell(first, contributed(0, "a"), contributed(0, "b"), rejected(0, "b"), aggregated(0, "a"))
    told.tell(second, contributed(1, "a"), failed(1))

    assert answers(told.driven, wanted(first), {1: 0}) == (Answer(1, reason="unacceptable", message="it is not cut into shards"),)
    assert answers(told.driven, wanted(second), {0: 1}) == (Answer(0, reason="unfoldable", message="the shards are too many"),)


def test_a_mean_is_the_answer_of_the_first_member_that_was_asked_and_the_others_have_none() -> None:
    told, question = Told({"fold": True}), asked(0, "c", "b", "a", fold=True)
    mean = aggregated(0, "b", "c", model=content(0), loss=0.5)
    told.tell(question, contributed(0, "c"), contributed(0, "b"), declined(0, "a"), mean)

    given = answers(told.driven, wanted(question), {0: 0, 1: 0, 2: 0})

    assert given == (Answer(1, mean=mean), Answer(2, reason="app-raised", message="it raised"))


def test_a_round_may_be_asked_for_when_the_last_one_is_over() -> None:
    told = Told()
    assert told.driven.is_idle
    told.tell(asked(0, "a"))
    assert not told.driven.is_idle
    told.tell(failed(0))
    assert told.driven.is_idle


@pytest.mark.parametrize("odd", [asked(1, "a"), asked(0, "b")], ids=["too early", "again"])
def test_a_round_that_cannot_be_is_not_counted(odd: Asked) -> None:
    told = Told()
    told.tell(asked(0, "a"))
    before = told.driven.rounds

    told.tell(odd)

    assert told.driven.rounds == before


def test_the_metrics_are_the_last_of_each_name() -> None:
    told = Told()
    told.tell(asked(0, "a"), aggregated(0, "a", loss=3, other=1), asked(1, "a"), aggregated(1, "a", loss=2), asked(2, "a"), failed(2))

    assert told.driven.metrics == {"other": 1, "loss": 2}


def test_an_archived_run_is_over_too() -> None:
    told = Told()
    told.tell(Archived(run=RUN, at=NOW, facts=3, piece=content(0).layout))

    assert told.state.runs == {}
    assert isinstance(told.log[0], Submitted)


def test_what_may_be_sent_again_without_storing_it_twice_is_what_the_last_round_sent() -> None:
    told = Told()
    assert sent_before(told.driven) == {}

    told.round(0, "a")
    last = told.round(1, "b")

    assert sent_before(told.driven) == {shard.digest: shard for shard in last.contents[0].shards}
