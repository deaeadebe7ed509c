"""What a collaborator decides to do, given what the log says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from log_story import knows, recorded

from fedplane.collaborator.tasks import ENDED_MAX, Collaborator, GiveUp, Question, Respond, Retire
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import Archived, Cancelled, Closed, Contributed, Declined, Evaluated, Fact, Failed, Invited, Opened, RoundFailed
from fedplane.schemas.models import Piece, Task

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(minutes=10)
CORE = Collaborator("c1")
LAYOUT = Piece(subject="bulk.fed.v1.r1.0.update.c1.a.layout", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)

ARCHIVED = Archived(run="r1", at=NOW, facts=1, piece=LAYOUT)


def invited(round_: int = 0, *, run: str = "r1", cluster: str = "c1", **more: Any) -> Invited:
    return Invited(
        run=run, round=round_, at=NOW, cluster=cluster, task=Task.TRAIN, training_round=1, framework="other", app="", data="",
        configuration={}, run_configuration={}, deadline=DEADLINE, shard_bytes=8, chunk_bytes=8,
        **more,
    )  # fmt: skip


LATEST = DEADLINE + timedelta(minutes=20)


def carriable(round_: int, carries: int | None = None) -> Invited:
    return invited(round_, carries=carries, carried_until=LATEST)


def closed(round_: int = 0, run: str = "r1") -> Closed:
    return Closed(run=run, round=round_, at=NOW, reason="everyone answered")


def contributed(round_: int = 0, cluster: str = "c1") -> Contributed:
    return Contributed(run="r1", round=round_, at=NOW, cluster=cluster, attempt="a", weight=1, metrics={}, layout=LAYOUT, shards=())


def decided(*facts: Fact, now: datetime = NOW) -> list[Action]:
    return CORE.decide(knows(CORE, recorded(facts)), now)


def nothing_before(round_: int, carried: int | None = None) -> Perform:
    return Perform(("r1", "before", round_, carried), GiveUp("r1", round_, carried))


def test_an_invitation_is_to_be_answered_within_the_trace_that_stated_it():
    assert decided(invited()) == [nothing_before(0), Perform(("r1", 0), Respond(invited(), "trace 1"))]


def test_invitations_of_several_runs_are_all_to_be_answered():
    keys = [action.key for action in decided(invited(run="r2"), invited(3)) if isinstance(action, Perform)]

    assert keys == [("r1", "before", 3, None), ("r1", 3), ("r2", "before", 0, None), ("r2", 0)]


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
    "end",
    [Cancelled(run="r1", at=NOW), Failed(run="r1", at=NOW, reason="rounds", message=""), ARCHIVED],
    ids=lambda fact: type(fact).__name__,
)
def test_an_ended_run_is_retired_and_asks_nothing_any_more(end: Fact):
    assert decided(invited(), end) == decided(end, closed()) == [Perform(("r1", "ended"), Retire("r1"))]


def test_facts_that_do_not_concern_a_collaborator_change_nothing():
    opened = Opened(
        run="r1", round=0, at=NOW, task=Task.TRAIN, training_round=1, clusters=("c2",), minimum=1,
        deadline=DEADLINE, shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip

    assert decided(opened) == [nothing_before(0)]


def test_what_is_remembered_of_an_answered_round_is_its_number():
    assert knows(CORE, recorded([invited(4), contributed(4)])).runs == {"r1": Question(4, settled=True, asked=4, answered=4)}


def test_work_that_may_be_carried_survives_the_end_of_its_round_and_of_rounds_that_do_not_ask_us():
    assert decided(carriable(1), closed(1)) == [nothing_before(2, carried=1)]
    assert decided(carriable(1), closed(1), closed(2), RoundFailed(run="r1", round=3, at=NOW, reason="", message="")) == [
        nothing_before(4, carried=1)
    ]


def test_a_round_that_carries_our_work_is_to_be_answered_and_its_question_is_worth_work_as_well():
    again = carriable(3, carries=1)

    assert decided(carriable(1), closed(1), again) == [nothing_before(3, carried=1), Perform(("r1", 3), Respond(again, "trace 3"))]
    assert decided(carriable(1), closed(1), again, closed(3)) == [nothing_before(4, carried=1)]


@pytest.mark.parametrize("asked", [carriable(3), invited(3), carriable(3, carries=2)])
def test_an_invitation_that_does_not_carry_our_work_gives_it_up(asked: Invited):
    before, *_ = decided(carriable(1), closed(1), asked)

    assert before == nothing_before(3, carried=asked.carries)


def test_nothing_is_carried_any_more_when_the_round_that_carries_it_is_answered():
    assert decided(carriable(1), closed(1), carriable(3, carries=1), contributed(3), closed(3)) == [nothing_before(4)]


def test_an_invitation_that_may_be_carried_is_late_only_when_no_round_can_carry_it():
    late = Declined(
        run="r1", round=1, cluster="c1", at=LATEST, reason="too-late",
        message="the deadline was 2026-05-01T12:30:00+00:00; this cluster read the invitation at 2026-05-01T12:30:00+00:00",
    )  # fmt: skip

    assert decided(carriable(1), now=DEADLINE) == [nothing_before(1), Perform(("r1", 1), Respond(carriable(1), "trace 1"))]
    assert decided(carriable(1), now=LATEST) == [nothing_before(1), State(late, Fence("fed.v1.run.r1.round.1.closed"))]


def test_the_runs_that_ended_last_are_remembered_by_name_only():
    ends = [Cancelled(run=f"r{number}", at=NOW) for number in range(ENDED_MAX + 2)]

    state = knows(CORE, recorded([*ends, ends[5]]))

    assert (state.runs, list(state.ended)) == ({}, [f"r{number}" for number in range(2, ENDED_MAX + 2)])


def test_an_ended_run_is_not_revived_by_a_late_fact_unless_it_was_archived_and_we_are_invited_anew():
    end, ended = Cancelled(run="r1", at=NOW), [Perform(("r1", "ended"), Retire("r1"))]

    assert decided(invited(1), end, invited(2), closed(2)) == ended
    assert decided(invited(1), end, ARCHIVED, end, closed(2), contributed(2), invited(2, cluster="c2")) == ended
    for story in ([invited(7), end, ARCHIVED], [ARCHIVED], [ARCHIVED, end]):
        anew = Respond(invited(1), f"trace {len(story) + 1}")
        assert decided(*story, invited(1)) == [nothing_before(1), Perform(("r1", 1), anew)]


def test_only_what_concerns_this_cluster_or_everyone_is_read():
    assert CORE.patterns == (
        (
            "fed.v1.run.*.round.*.invited.c1",
            "fed.v1.run.*.round.*.contributed.c1",
            "fed.v1.run.*.round.*.declined.c1",
            "fed.v1.run.*.round.*.evaluated.c1",
            "fed.v1.run.*.round.*.keyed.c1",
            "fed.v1.run.*.round.*.entrusted.c1",
            "fed.v1.run.*.round.*.revealed.c1",
            "fed.v1.run.*.round.*.paired",
            "fed.v1.run.*.round.*.closed",
            "fed.v1.run.*.round.*.failed",
            "fed.v1.run.*.completed",
            "fed.v1.run.*.failed",
            "fed.v1.run.*.cancelled",
            "fed.v1.run.*.archived",
        ),
    )
