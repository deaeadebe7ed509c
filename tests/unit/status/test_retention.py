"""What is due about runs that have ended, by the log and the time."""

from datetime import UTC, datetime, timedelta

import pytest
from log_story import knows, recorded

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.status.retention import ARCHIVED_KEPT, Archive, Forget, Held, Purge, Retention, Runs

FACT = {type(fact): fact for fact in EXAMPLES}
RUN = "mnist-5f3a9c1e"
WEEK, MONTH = timedelta(days=7), timedelta(days=30)
CORE = Retention(WEEK.total_seconds(), MONTH.total_seconds())
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def said(kind: type[facts.Fact], run: str = RUN, at: datetime = NOON) -> facts.Fact:
    return FACT[kind].model_copy(update={"run": run, "at": at})


def told(*story: facts.Fact, begin: int = 1) -> Runs:
    return knows(CORE, recorded(story, begin))


def due(state: Runs, now: datetime) -> list[object]:
    actions = CORE.decide(state, now)
    assert all(isinstance(action, Perform) for action in actions)
    return [action.effect for action in actions]


@pytest.mark.parametrize("end", [facts.Completed, facts.Failed, facts.Cancelled])
def test_a_run_is_archived_when_its_end_is_a_retention_ago(end: type[facts.Fact]) -> None:
    state = told(said(facts.Submitted), said(facts.Started), said(end))

    assert due(state, NOON + WEEK - timedelta(seconds=1)) == []
    assert due(state, NOON + WEEK) == [Archive(RUN)]


def test_a_run_that_goes_on_is_never_archived() -> None:
    assert due(told(said(facts.Submitted), said(facts.Scheduled), said(facts.Started)), NOON + 100 * MONTH) == []


def test_facts_of_a_run_that_nobody_submitted_are_left_alone() -> None:
    assert told(said(facts.Started), said(facts.Completed)) == {}


def test_the_facts_of_an_archived_run_are_purged_up_to_where_it_says_so() -> None:
    state = told(said(facts.Submitted), said(facts.Completed), said(facts.Archived), begin=40)

    assert due(state, NOON) == [Purge(RUN, 42)]


def test_a_fresh_replica_has_nothing_to_purge_of_a_run_that_left_only_its_last_fact() -> None:
    state = told(said(facts.Archived))

    assert due(state, NOON + MONTH - timedelta(seconds=1)) == []
    assert due(state, NOON + MONTH) == [Forget(RUN)]


def test_a_run_that_died_between_archive_and_purge_is_forgotten_like_the_others() -> None:
    state = told(said(facts.Submitted), said(facts.Completed), said(facts.Archived))

    assert due(state, NOON + MONTH) == [Purge(RUN, 3), Forget(RUN)]


def test_what_sleepers_say_after_the_archive_changes_nothing() -> None:
    state = told(said(facts.Submitted), said(facts.Completed), said(facts.Archived))
    late = [said(kind, at=NOON + WEEK) for kind in (facts.Cancelled, facts.Archived, facts.Advertised)]

    for fact in late:
        assert CORE.evolve(state, Recorded(fact, 50)) == state


def test_a_run_that_was_forgotten_may_be_submitted_again_and_is_archived_like_any_other() -> None:
    again = [said(facts.Submitted, at=NOON + 2 * MONTH), said(facts.Completed, at=NOON + 2 * MONTH)]
    state = told(said(facts.Submitted), said(facts.Completed), said(facts.Archived), *again)

    assert due(state, NOON + 2 * MONTH) == []
    assert due(state, NOON + 2 * MONTH + WEEK) == [Archive(RUN)]


def test_only_the_first_end_counts() -> None:
    state = told(said(facts.Submitted), said(facts.Completed), said(facts.Failed, at=NOON + WEEK))

    assert state == {RUN: Held(ended_at=NOON)}


def test_memory_does_not_grow_with_runs_that_were_forgotten() -> None:
    day = timedelta(days=1)
    state = CORE.initial()
    for number in range(1300):
        for kind in (facts.Submitted, facts.Completed, facts.Archived):
            state = CORE.evolve(state, Recorded(said(kind, f"r-{number}", NOON + number * day), 3 * number))
    live = {run for run, held in state.items() if held.archived_at}

    assert live == {f"r-{number}" for number in range(1300 - 31 - ARCHIVED_KEPT, 1300)}


def test_a_clock_that_was_once_ahead_makes_nobody_forget_what_is_still_to_be_removed() -> None:
    story = [said(kind, run) for run in ("r-1", "r-2") for kind in (facts.Submitted, facts.Completed)]
    state = told(*story, said(facts.Archived, "r-1"), said(facts.Archived, "r-2", NOON + 100 * MONTH))

    assert Forget("r-1") in due(state, NOON + MONTH)


def test_time_is_looked_at_ten_times_in_the_shorter_retention_and_once_a_minute_at_least() -> None:
    assert [Retention(*retentions).tick_seconds for retentions in ((604_800, 1), (20, 604_800), (604_800, 604_800))] == [0.1, 2, 60]
