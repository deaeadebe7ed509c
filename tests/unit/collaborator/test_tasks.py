"""What a collaborator decides to do, given what the log says."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from fedplane.collaborator.tasks import ENDED_MAX, Collaborator, GiveUp, Question, Questions, Respond, Retire
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import Cancelled, Closed, Contributed, Declined, Evaluated, Fact, Failed, Invited, Opened, RoundFailed
from fedplane.schemas.models import Piece, Task

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(minutes=10)
CORE = Collaborator("c1")
LAYOUT = Piece(subject="bulk.fed.v1.r1.0.update.c1.a.layout", bytes=0, chunk_bytes=8, digest="0" * 64)


def invited(round_: int = 0, *, run: str = "r1", cluster: str = "c1") -> Invited:
    return Invited(
        run=run, round=round_, at=NOW, cluster=cluster, task=Task.TRAIN, training_round=1, framework="other", app="", data="",
        configuration={}, run_configuration={}, deadline=DEADLINE, shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip


def closed(round_: int = 0, run: str = "r1") -> Closed:
    return Closed(run=run, round=round_, at=NOW, reason="everyone answered")


def contributed(round_: int = 0, cluster: str = "c1") -> Contributed:
    return Contributed(run="r1", round=round_, at=NOW, cluster=cluster, attempt="a", weight=1, metrics={}, layout=LAYOUT, shards=())


def heard(facts: Iterable[Fact]) -> Questions:
    state = CORE.initial()
    for sequence, fact in enumerate(facts, 1):
        state = CORE.evolve(state, Recorded(fact, sequence, traceparent=f"trace {sequence}"))
    return state


def decided(*facts: Fact, now: datetime = NOW) -> list[Action]:
    return CORE.decide(heard(facts), now)


def nothing_before(round_: int) -> Perform:
    return Perform(("r1", "before", round_), GiveUp("r1", round_))


def test_an_invitation_is_to_be_answered_within_the_trace_that_stated_it():
    assert decided(invited()) == [nothing_before(0), Perform(("r1", 0), Respond(invited(), "trace 1"))]


def test_invitations_of_several_runs_are_all_to_be_answered():
    keys = [action.key for action in decided(invited(run="r2"), invited(3)) if isinstance(action, Perform)]

    assert keys == [("r1", "before", 3), ("r1", 3), ("r2", "before", 0), ("r2", 0)]


def test_an_invitation_of_another_cluster_is_not_ours_to_answer():
    assert decided(invited(cluster="c2")) == [nothing_before(0)]


def test_an_invitation_read_at_its_deadline_is_declined_unless_the_round_is_closed():
    late = Declined(
        run="r1", round=0, cluster="c1", at=DEADLINE, reason="too-late",
        message="the deadline was 2026-05-01T12:10:00+00:00; this cluster read the invitation at 2026-05-01T12:10:00+00:00",
    )  # fmt: skip

    assert decided(invited(), now=DEADLINE) == [nothing_before(0), State(late, Fence("fed.v1.run.r1.round.0.closed"))]


@pytest.mark.parametrize(
    "settling",
    [
        closed(),
        RoundFailed(run="r1", round=0, at=NOW, reason="too-few", message=""),
        contributed(),
        Evaluated(run="r1", round=0, at=NOW, cluster="c1", weight=1, metrics={}),
        Declined(run="r1", round=0, at=NOW, cluster="c1", reason="crashed", message=""),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_a_round_that_is_over_or_answered_is_given_up_whenever_the_invitation_is_heard(settling: Fact):
    assert decided(invited(), settling) == decided(settling, invited()) == [nothing_before(1)]


def test_another_clusters_answer_leaves_our_invitation_open():
    assert decided(invited(), contributed(cluster="c2")) == decided(invited())


def test_a_later_round_makes_earlier_ones_history():
    later = [nothing_before(2), Perform(("r1", 2), Respond(invited(2), "trace 2"))]

    assert decided(invited(1), invited(2)) == later
    assert decided(invited(1), invited(2), closed(1)) == later


@pytest.mark.parametrize(
    "end", [Cancelled(run="r1", at=NOW), Failed(run="r1", at=NOW, reason="rounds", message="")], ids=lambda fact: type(fact).__name__
)
def test_an_ended_run_is_retired_and_asks_nothing_any_more(end: Fact):
    assert decided(invited(), end) == decided(end, invited()) == [Perform(("r1", "ended"), Retire("r1"))]


def test_facts_that_do_not_concern_a_collaborator_change_nothing():
    opened = Opened(
        run="r1", round=0, at=NOW, task=Task.TRAIN, training_round=1, clusters=("c2",), minimum=1,
        deadline=DEADLINE, shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip

    assert decided(opened) == [nothing_before(0)]


def test_what_is_remembered_of_an_answered_round_is_its_number():
    assert heard([invited(4), contributed(4)]).runs == {"r1": Question(4, settled=True)}


def test_the_runs_that_ended_last_are_remembered_by_name_only():
    ends = [Cancelled(run=f"r{number}", at=NOW) for number in range(ENDED_MAX + 2)]

    state = heard([*ends, ends[5]])

    assert (state.runs, list(state.ended)) == ({}, [f"r{number}" for number in range(2, ENDED_MAX + 2)])


def test_only_what_concerns_this_cluster_or_everyone_is_read():
    assert CORE.patterns == (
        (
            "fed.v1.run.*.round.*.invited.c1",
            "fed.v1.run.*.round.*.contributed.c1",
            "fed.v1.run.*.round.*.declined.c1",
            "fed.v1.run.*.round.*.evaluated.c1",
            "fed.v1.run.*.round.*.closed",
            "fed.v1.run.*.round.*.failed",
            "fed.v1.run.*.completed",
            "fed.v1.run.*.failed",
            "fed.v1.run.*.cancelled",
        ),
    )
