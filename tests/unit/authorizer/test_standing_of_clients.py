"""What the log says of everyone who connects, at a time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.authorizer.following import Followed, Following, is_overtaken
from fedplane.authorizer.identity import Because, Identity, Refused
from fedplane.authorizer.standing import GRACE_SECONDS, Known, Standing, evolve, judge, over
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Archived, Cancelled, Completed, Fact, Granted, Revoked, Scheduled, Submitted
from fedplane.schemas.models import Chosen
from fedplane.schemas.resources import Metadata
from fedplane.schemas.roles import Role

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER = NOW + timedelta(seconds=GRACE_SECONDS)
PRINT = "5e" * 32


def submitted(run: str, namespace: str) -> Fact:
    resource = Submitted.model_fields["resource"].annotation
    assert resource is not None
    return Submitted.model_construct(at=NOW, run=run, resource=resource.model_construct(metadata=Metadata(name=run, namespace=namespace)))


def scheduled(run: str, *clusters: str) -> Fact:
    return Scheduled(at=NOW, run=run, participants=tuple(Chosen(cluster=each, score=1, terms=()) for each in clusters), refused=())


def completed(run: str) -> Fact:
    return Completed.model_construct(at=NOW, run=run)


def known(*facts: Fact) -> Known:
    folded = Known()
    for fact in facts:
        folded = evolve(folded, fact)
    return folded


def granted(name: str = "grafana", **said: object) -> Fact:
    return Granted.model_validate({"at": NOW, "role": "subscriber", "name": name, "fingerprint": PRINT, **said})


def runs_of(cluster: str, log: Known, now: datetime = NOW) -> tuple[str, ...]:
    found = judge(Identity(Role.COLLABORATOR, cluster), log, now)
    assert isinstance(found, Standing)
    return found.runs


def heard_by(name: str, log: Known) -> tuple[str, ...]:
    found = judge(Identity(Role.SUBSCRIBER, name), log, NOW)
    assert isinstance(found, Standing)
    return found.patterns


def why(role: Role, name: str, log: Known, now: datetime = NOW) -> Because | None:
    found = judge(Identity(role, name), log, now)
    return found.because if isinstance(found, Refused) else None


def test_a_cluster_takes_part_from_scheduled_until_a_minute_after_the_runs_end() -> None:
    begun = known(scheduled("r1", "a", "b"), scheduled("r2", "b"))
    ended = evolve(begun, completed("r1"))

    assert (runs_of("a", begun), runs_of("b", begun), runs_of("c", begun)) == (("r1",), ("r1", "r2"), ())
    assert [runs_of("b", ended, now) for now in (NOW, LATER - timedelta(microseconds=1), LATER)] == [("r1", "r2"), ("r1", "r2"), ("r2",)]


def test_participants_are_chosen_once_and_a_run_ends_once() -> None:
    late = Cancelled(at=LATER, run="r", message="")
    log = known(scheduled("r", "a"), scheduled("r", "b"), completed("r"), late)

    assert (runs_of("a", log), runs_of("b", log), runs_of("a", log, LATER)) == (("r",), (), ())


def test_a_run_that_was_archived_is_not_remembered() -> None:
    log = known(submitted("r", "team-a"), scheduled("r", "a"), completed("r"), Archived.model_construct(at=NOW, run="r"))

    assert log == Known()


def test_a_subscriber_hears_what_it_was_granted() -> None:
    log = known(submitted("r1", "team-a"), submitted("r2", "team-b"), submitted("r3", "team-a"))
    told = [
        granted(), granted(patterns=("fed.v1.fleet.>",)), granted(namespace="team-a"), granted(namespace="team-c"),
        granted(namespace="team-b", patterns=("fed.v1.run.*.completed", "fed.v1.fleet.>", "fed.v1.>")),
    ]  # fmt: skip

    assert [heard_by("grafana", evolve(log, each)) for each in told] == [
        ("fed.v1.>",), ("fed.v1.fleet.>",), ("fed.v1.run.r1.>", "fed.v1.run.r3.>"), (), ("fed.v1.run.r2.completed", "fed.v1.run.r2.>"),
    ]  # fmt: skip


def test_a_subscriber_is_let_in_if_that_was_granted_and_is_neither_over_nor_revoked() -> None:
    revoked = Revoked(at=NOW, role="subscriber", name="grafana")
    logs = [
        known(), known(granted("another")), known(granted(fingerprint="")), known(granted(expires_at=LATER)), known(granted(), revoked),
        known(revoked, granted()),
    ]  # fmt: skip

    assert [why(Role.SUBSCRIBER, "grafana", log) for log in logs] == [Because.NOT_GRANTED] * 3 + [None, Because.REVOKED, None]
    assert why(Role.SUBSCRIBER, "grafana", known(granted(expires_at=LATER)), LATER) is Because.EXPIRED


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SUBSCRIBER])
def test_everyone_else_is_let_in_unless_the_last_word_is_revoked(role: Role) -> None:
    out, back = Revoked(at=NOW, role=role, name="one"), Granted(at=NOW, role=role, name="one")

    assert [why(role, "one", log) for log in (known(), known(out), known(out, back))] == [None, Because.REVOKED, None]
    assert why(role, "two", known(out)) is None


def test_a_mark_tells_standings_apart_and_is_the_same_for_the_same() -> None:
    standings = [Standing(), Standing(("r",)), Standing((), ("r",)), Standing(certificate="r"), Standing(until=NOW), Standing(until=LATER)]

    assert len({each.mark for each in standings}) == len(standings)
    assert Standing(("r",), until=NOW).mark == Standing(("r",), until=NOW).mark


def test_a_connection_is_overtaken_when_its_mark_is_of_another_time_or_it_is_not_let_in_any_more() -> None:
    before, after = known(scheduled("r1", "a", "b")), known(scheduled("r1", "a", "b"), scheduled("r2", "b"))
    users = {
        f"collaborator:{name}:{judge(Identity(Role.COLLABORATOR, name), log, NOW).mark}"  # type: ignore[union-attr]
        for name in "ab" for log in (before, after)
    }  # fmt: skip

    overtaken = {user.split(":")[1] for user in users if is_overtaken(user, after, NOW)}

    assert (len(users), overtaken) == (3, {"b"})
    assert is_overtaken(f"cli:ann:{Standing().mark}", known(Revoked(at=NOW, role="cli", name="ann")), NOW)


@given(st.text())
def test_users_whom_nobody_of_us_has_let_in_are_left_alone(user: str) -> None:
    roles = set(Role)

    assert not is_overtaken(user, Known(), NOW) or user.split(":", maxsplit=1)[0] in roles


@given(st.lists(st.sampled_from(["r1", "r2"]).flatmap(lambda run: st.sampled_from([scheduled(run, "a"), completed(run)])), max_size=8))
def test_looks_are_decided_when_rights_change_and_not_when_they_do_not(facts: list[Fact]) -> None:
    core, state = Following(), Following().initial()
    for sequence, fact in enumerate(facts, 1):
        after = core.evolve(state, Recorded(fact, sequence))
        changes = [runs_of("a", each.known, now) for each in (state, after) for now in (NOW, LATER)]
        assert (core.decide(state, NOW) == core.decide(after, NOW)) == (after is state)
        assert after is not state or changes[:2] == changes[2:]
        state = after

    assert state == Followed(known(*facts), state.changes)


def test_time_alone_has_everybody_looked_at_when_a_grace_or_a_grant_is_over() -> None:
    log = known(scheduled("r", "a"), completed("r"), granted(expires_at=LATER + timedelta(seconds=1)))
    times = [NOW, LATER, LATER + timedelta(seconds=1)]

    assert [over(log, now) for now in times] == [0, 1, 2]
    assert len({str(Following().decide(Followed(log), now)) for now in times}) == 3
