"""Real processes, and one cluster that needs longer than a round: it is carried, killed while it is, and counted once for each answer."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from machine_story import Lend, Machine, lasting_machine

from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Aggregated, Closed, Completed, Contributed, Folded, Invited, Opened
from fedplane.schemas.models import Task

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]

FEDBUFF = {
    "strategy": {"name": "fedbuff"}, "config": {"trouble": "slow at gamma", "seconds": 0.5},
    "rounds": {"quorum": 2, "closeAt": 2, "carry": 10, "evaluate": False, "deadlineSeconds": 600},
}  # fmt: skip
"""The others take half a second for a round, and gamma three seconds more."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lend]:
    async with lasting_machine(tmp_path_factory.mktemp("machine")) as lend:
        yield lend


@pytest_asyncio.fixture(loop_scope="module")
async def it(lend: Lend, tmp_path: Path) -> Machine:
    return await lend(tmp_path)


def of_gamma(record: Recorded, kind: type[Invited | Contributed]) -> bool:
    return isinstance(record.fact, kind) and record.fact.cluster == "gamma" and record.fact.round > 0


def assert_everyone_counted_once_for_each_question(it: Machine) -> list[tuple[str, int, int]]:
    """Who counted, for which round's question, in which round; those that came late."""
    facts = [record.fact for record in it.log]
    opened = {fact.round: fact for fact in facts if isinstance(fact, Opened)}
    closed = {record.fact.round: record.sequence for record in it.log if isinstance(record.fact, Closed)}
    answers = {(r.fact.cluster, r.fact.round): r for r in it.log if isinstance(r.fact, Contributed)}
    counted = []
    for aggregated in (fact for fact in facts if isinstance(fact, Aggregated) and fact.task is Task.TRAIN):
        number = aggregated.round
        in_time = {cluster for (cluster, round_), r in answers.items() if round_ == number and r.sequence < closed[number]}
        assert set(aggregated.members) == in_time
        assert {fold.members for fold in facts if isinstance(fold, Folded) and fold.round == number} == {aggregated.members}
        for cluster in aggregated.members:
            origin = answers[cluster, number].fact.origin
            assert origin is None or opened[number].carried[cluster] == origin
            counted.append((cluster, number if origin is None else origin, number))
    assert set(Counter((cluster, question) for cluster, question, _ in counted).values()) == {1}
    return [(cluster, question, number) for cluster, question, number in counted if question != number]


async def test_nobody_waits_for_a_slow_cluster_and_what_it_does_is_counted_once(it: Machine) -> None:
    run = await it.submit(server={"rounds": 12, "minAvailableClients": 3}, **FEDBUFF)
    late = (await it.until(run, lambda record: of_gamma(record, Contributed))).fact
    folding = await it.until(run, lambda record: isinstance(record.fact, Folded) and record.fact.round >= late.round)
    it.up.kill(f"aggregator-{folding.source.rpartition('/')[2]}")
    end = await it.end_of(run)
    counted_late = assert_everyone_counted_once_for_each_question(it)

    assert isinstance(end, Completed), end
    reasons = {record.fact.reason for record in it.log if isinstance(record.fact, Closed) and record.fact.round}
    assert reasons <= {"2 contributions are in", "3 contributions are in", "everyone answered"}, "no round waited for its deadline"
    assert ("gamma", 1, late.round) in counted_late


async def test_a_collaborator_that_is_killed_while_it_is_carried_comes_back_and_answers_a_new_question(it: Machine) -> None:
    run = await it.submit(server={"rounds": 30, "minAvailableClients": 3}, **FEDBUFF)
    carried = (await it.until(run, lambda record: of_gamma(record, Invited) and record.fact.carries is not None)).fact
    it.up.kill("collaborator-gamma")
    again = (await it.until(run, lambda record: of_gamma(record, Contributed))).fact
    end = await it.end_of(run)
    assert_everyone_counted_once_for_each_question(it)

    assert isinstance(end, Completed), end
    assert carried.carries == 1
    assert again.origin != carried.carries, "that work was lost with the process"
