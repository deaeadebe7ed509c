"""Whatever order and number facts arrive in, a collaborator knows the same in the end."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from log_story import knows

from fedplane.collaborator.tasks import Collaborator, GiveUp, Respond
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Cancelled, Closed, Contributed, Declined, Evaluated, Fact, Invited, RoundFailed
from fedplane.schemas.models import Piece, Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CORE = Collaborator("c1")
LAYOUT = Piece(subject="l", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)


def of_round(run: str, round_: int, cluster: str) -> list[Fact]:
    whose = {"run": run, "round": round_, "at": NOW}
    return [
        Invited(
            **whose, cluster=cluster, task=Task.TRAIN, training_round=1, framework="other", app="", data="", configuration={},
            run_configuration={}, deadline=NOW + timedelta(hours=1), shard_bytes=8, chunk_bytes=8,
            carries=round_ - 1 if round_ == 2 else None, carried_until=NOW + timedelta(hours=9) if run == "r1" else None,
        ),
        Contributed(**whose, cluster=cluster, attempt="a", weight=1, metrics={}, layout=LAYOUT, shards=()),
        Evaluated(**whose, cluster=cluster, weight=1, metrics={}),
        Declined(**whose, cluster=cluster, reason="crashed", message=""),
        Closed(**whose, reason="all in"),
        RoundFailed(**whose, reason="too-few", message=""),
    ]  # fmt: skip


FACTS = [
    *(fact for run in ("r1", "r2") for round_ in range(3) for cluster in ("c1", "c2") for fact in of_round(run, round_, cluster)),
    Cancelled(run="r2", at=NOW),
]
RECORDS = {fact.subject: Recorded(fact, sequence) for sequence, fact in enumerate(FACTS, 1)}
SOME = st.lists(st.sampled_from(list(RECORDS.values())), max_size=20)


@given(SOME, st.data())
def test_order_duplication_and_replay_do_not_matter(records: list[Recorded], data: st.DataObject):
    shuffled = data.draw(st.permutations(records + data.draw(st.lists(st.sampled_from(records), max_size=5)) if records else records))

    assert knows(CORE, shuffled) == knows(CORE, records) == knows(CORE, records + records)


@given(SOME)
def test_what_is_to_be_answered_is_each_going_runs_latest_round_if_it_is_ours_and_open(records: list[Recorded]):
    facts = [record.fact for record in records]
    ended = {fact.run for fact in facts if isinstance(fact, Cancelled)}
    latest = {run: max(f.round for f in facts if f.run == run) for run in {f.run for f in facts} - ended}
    ours = {(f.run, f.round) for f in facts if isinstance(f, Invited) and f.cluster == "c1"}
    settled = {(f.run, f.round) for f in facts if isinstance(f, Closed | RoundFailed)}
    settled |= {(f.run, f.round) for f in facts if isinstance(f, Contributed | Evaluated | Declined) and f.cluster == "c1"}

    decided = [action.effect for action in CORE.decide(knows(CORE, records), NOW) if isinstance(action, Perform)]

    answered = {(effect.invited.run, effect.invited.round) for effect in decided if isinstance(effect, Respond)}
    assert answered == {(run, round_) for run, round_ in latest.items() if (run, round_) in ours - settled}


@given(SOME)
def test_work_is_given_up_unless_it_is_the_latest_question_or_carried_by_it(records: list[Recorded]):
    facts = [record.fact for record in records]
    decided = [action.effect for action in CORE.decide(knows(CORE, records), NOW) if isinstance(action, Perform)]
    given_up = {effect.run: effect for effect in decided if isinstance(effect, GiveUp)}
    invitations = {f.round: f for f in facts if isinstance(f, Invited) and (f.run, f.cluster) == ("r1", "c1")}
    answered = {f.round for f in facts if isinstance(f, Contributed | Evaluated | Declined) and (f.run, f.cluster) == ("r1", "c1")}
    if not invitations or "r1" not in given_up:
        return
    last = invitations[max(invitations)]
    useful = {last.round, *([last.carries] if last.carries is not None else [])} if last.round > max(answered, default=-1) else set()
    effect = given_up["r1"]
    alive = {round_ for round_ in range(effect.before if effect.carried is None else effect.carried, 3)}

    assert useful <= alive
    assert effect.carried is None or effect.carried in useful


def test_no_work_outlives_its_round_unless_it_may_be_carried():
    records = [record for subject, record in RECORDS.items() if ".r2." in subject and isinstance(record.fact, Invited | Closed)]

    assert [action.effect.carried for action in CORE.decide(knows(CORE, records), NOW) if isinstance(action.effect, GiveUp)] == [None]
