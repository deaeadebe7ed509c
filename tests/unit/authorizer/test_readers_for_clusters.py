"""What a collaborator is answered that asks for a reader, and what becomes of readers that a replica made while it was behind."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from fedplane.authorizer.grants import listening
from fedplane.authorizer.listening import ANSWERED_MAX, ASKED_MAX, SPAN_SECONDS, Listeners
from fedplane.authorizer.standing import Known, evolve
from fedplane.runtime.errors import Unreachable
from fedplane.schemas.facts import Fact, Revoked, Scheduled
from fedplane.schemas.models import Chosen
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ALL, OF_ONE = listen(Role.COLLABORATOR, "a"), listen(Role.COLLABORATOR, "a", "r1")


class Consumers:
    """A stream's consumers, by name: their filters and who reads them. A stream that is away has none to make."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[tuple[str, ...], str]] = {}
        self.is_away = False

    async def make(self, stream: str, name: str, filters: tuple[str, ...], reader: str) -> None:
        if self.is_away:
            raise Unreachable("no server answers")
        self.made[name] = (filters, reader)

    async def remove(self, stream: str, name: str, unless: tuple[str, ...]) -> bool:
        if self.made.get(name, (unless, ""))[0] == unless:
            return False
        del self.made[name]
        return True


class Replica:
    """An authorizer's replica that has heard some facts."""

    def __init__(self, consumers: Consumers, *facts: Fact) -> None:
        self.known: Known | None = Known()
        self.hear(*facts)
        self.now, self.thrown_out = NOW, list[str]()
        self.listeners = Listeners(consumers, lambda: self.known, self.throw_out, lambda: self.now)

    async def throw_out(self, cluster: str, why: str) -> None:
        self.thrown_out.append(f"{cluster}: {why}")

    def hear(self, *facts: Fact) -> None:
        for fact in facts:
            self.known = evolve(self.known or Known(), fact)

    def said(self, subject: str) -> dict[str, str]:
        answer: dict[str, str] = json.loads(asyncio.run(self.listeners.answer(subject)) or b"null")
        return answer


def scheduled(run: str) -> Fact:
    return Scheduled(at=NOW, run=run, participants=(Chosen(cluster="a", score=1, terms=()),), refused=())


def filters(run: str, *runs: str) -> tuple[str, ...]:
    wanted = listening("a", runs, run)
    assert wanted is not None
    return wanted.filters


def test_a_reader_has_the_filters_of_the_clusters_runs_or_of_one_of_them() -> None:
    consumers = Consumers()
    replica = Replica(consumers, scheduled("r1"), scheduled("r2"))

    said = [replica.said(subject) for subject in (ALL, OF_ONE)]

    assert said == [{"stream": "LOG", "consumer": "collaborator-a"}, {"stream": "LOG", "consumer": "collaborator-a_r1"}]
    assert consumers.made == {
        "collaborator-a": (filters("", "r1", "r2"), "collaborator a"),
        "collaborator-a_r1": (filters("r1", "r1"), "collaborator a"),
    }


def test_who_has_nothing_to_read_and_who_cannot_be_told_yet_gets_no_reader() -> None:
    consumers, behind = Consumers(), Replica(Consumers())
    behind.known = None
    thrown_out = Replica(consumers, scheduled("r1"), Revoked(at=NOW, role="collaborator", name="a"))

    assert [Replica(consumers).said(ALL), Replica(consumers, scheduled("r2")).said(OF_ONE)] == [{"stream": "LOG", "consumer": ""}] * 2
    assert behind.said(ALL) == {"error": "the log was not read yet; ask again"}
    assert thrown_out.said(ALL) == {"error": "collaborator a was thrown out at 2026-01-02 00:00:00 UTC: no reason given"}
    assert consumers.made == {}


def test_a_server_that_is_away_is_an_answer_as_well() -> None:
    consumers = Consumers()
    consumers.is_away = True

    assert Replica(consumers, scheduled("r1")).said(ALL) == {"error": "no server answers"}


def test_a_replica_removes_what_it_made_while_it_was_behind_and_leaves_what_others_made_since() -> None:
    consumers = Consumers()
    behind, ahead = Replica(consumers, scheduled("r1")), Replica(consumers, scheduled("r1"), scheduled("r2"))

    behind.said(ALL)
    behind.hear(scheduled("r2"))
    asyncio.run(behind.listeners.look())
    removed = dict(consumers.made)
    behind.known = evolve(Known(), scheduled("r1"))
    behind.said(ALL)
    ahead.said(ALL)
    behind.hear(scheduled("r2"))
    asyncio.run(behind.listeners.look())

    assert removed == {}
    assert consumers.made == {"collaborator-a": (filters("", "r1", "r2"), "collaborator a")}


def test_who_asks_too_often_has_no_answer_until_a_while_has_passed_and_others_have_one() -> None:
    replica = Replica(Consumers(), scheduled("r1"))
    often = [replica.said(ALL) for _ in range(ANSWERED_MAX + 1)]
    other = replica.said(OF_ONE)
    replica.now += timedelta(seconds=SPAN_SECONDS)

    assert [answer is not None for answer in often] == [True] * ANSWERED_MAX + [False]
    assert other == {"stream": "LOG", "consumer": "collaborator-a_r1"}
    assert replica.said(ALL) == {"stream": "LOG", "consumer": "collaborator-a"}
    assert replica.thrown_out == []


def test_who_floods_the_authorizer_with_questions_is_thrown_out_once() -> None:
    replica = Replica(Consumers(), scheduled("r1"))

    async def flood() -> None:
        for number in range(2 * ASKED_MAX):
            await replica.listeners.answer(listen(Role.COLLABORATOR, "a", f"r{number % 7}"))

    asyncio.run(flood())

    assert replica.thrown_out == ["a: it asked 5,000 times for a reader in 10 s"]
