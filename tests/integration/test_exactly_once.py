"""Updates that are damaged, stated twice or too late, and replicas that sleep past their lease: nothing of it gets into a model."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from machine_story import Lend, Machine, lasting_machine, machine, settle_environment

from fedplane.runtime.ports import Fence
from fedplane.schemas.facts import Aggregated, Closed, Completed, Contributed, Folded, RoundFailed
from fedplane.schemas.models import Task

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_environment(monkeypatch)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lend]:
    async with lasting_machine(tmp_path_factory.mktemp("machine")) as lend:
        yield lend


@pytest_asyncio.fixture(loop_scope="module")
async def it(lend: Lend, tmp_path: Path) -> Machine:
    return await lend(tmp_path)


def contributed_by(cluster: str, round_: int):
    return lambda record: isinstance(record.fact, Contributed) and (record.fact.cluster, record.fact.round) == (cluster, round_)


def trained(it: Machine) -> list[tuple[str, ...]]:
    return [r.fact.members for r in it.log if isinstance(r.fact, Aggregated) and r.fact.task is Task.TRAIN]


async def test_a_replica_that_sleeps_past_its_lease_and_wakes_up_again_changes_nothing(it: Machine) -> None:
    undisturbed = await it.end_of(await it.submit())
    assert isinstance(undisturbed, Completed)
    run = await it.submit()
    folding = await it.until(run, lambda record: isinstance(record.fact, Folded) and record.fact.round == 1)
    sleeper = f"aggregator-{folding.source.rpartition('/')[2]}"
    it.up.kill(sleeper, signal.SIGSTOP)
    await it.until(run, lambda record: isinstance(record.fact, Aggregated) and record.fact.round == 1)
    it.up.kill(sleeper, signal.SIGCONT)
    completed = await it.end_of(run)
    assert isinstance(completed, Completed), completed

    assert await it.model_of(completed) == await it.model_of(undisturbed)


@pytest.mark.parametrize("damage", ["changed", "gone"])
async def test_an_update_whose_bytes_are_damaged_after_its_commit_is_left_out_and_the_round_is_tried_again(
    it: Machine, damage: str
) -> None:
    run = await it.submit(server={"rounds": 1, "minAvailableClients": 2}, rounds={"evaluate": False}, config={"trouble": "slow at gamma"})
    update = (await it.until(run, contributed_by("beta", 1))).fact
    assert isinstance(update, Contributed)
    chunk = f"{update.shards[2].subject}.3"
    attacker = await nats.connect(it.up.nats_url)
    if damage == "changed":
        await attacker.jetstream().publish(chunk, bytes(update.shards[2].chunk_bytes))
    else:
        await attacker.jetstream().purge_stream("BULK", subject=chunk)
    await attacker.close()
    end = await it.end_of(run)
    failed = [record.fact for record in it.log if isinstance(record.fact, RoundFailed)]

    assert isinstance(end, Completed), end
    assert [(fact.round, fact.faulty) for fact in failed] == [(1, ("beta",))]
    assert "beta" in failed[0].message
    assert trained(it) == [("alpha", "gamma")]


async def test_a_contribution_that_is_stated_twice_or_after_closing_counts_once_or_not_at_all(it: Machine) -> None:
    run = await it.submit(server={"rounds": 1, "minAvailableClients": 2}, config={"trouble": "slow at gamma"})
    first = (await it.until(run, contributed_by("beta", 1))).fact
    assert isinstance(first, Contributed)
    second = first.model_copy(update={"attempt": "ffff", "weight": 1e6})
    outcome = await it.bus.log.state(second, fence=Fence(Closed.pattern(run=run, round=1)))
    await it.until(run, lambda record: isinstance(record.fact, Closed) and record.fact.round == 1)
    late = first.model_copy(update={"cluster": "delta"})
    refused = await it.bus.log.state(late, fence=Fence(Closed.pattern(run=run, round=1)))
    forced = await it.bus.log.state(late)  # a cluster that does not keep to the rules
    end = await it.end_of(run)

    assert not outcome.mine
    assert (refused.record, refused.mine, forced.mine) == (None, False, True)
    assert isinstance(end, Completed)
    assert [(r.fact.members, r.fact.weight) for r in it.log if isinstance(r.fact, Aggregated) and r.fact.task is Task.TRAIN] == [
        (("alpha", "beta", "gamma"), 60)
    ]


async def test_aggregators_may_be_few_or_many_and_the_bytes_are_the_same(tmp_path) -> None:
    models = []
    for aggregators in (1, 3):
        async with machine(tmp_path / str(aggregators), aggregators=aggregators) as it:
            completed = await it.end_of(await it.submit(rounds={"evaluate": False}))
            assert isinstance(completed, Completed)
            models.append(await it.model_of(completed))
            folders = {record.source for record in it.log if isinstance(record.fact, Folded)}

    assert models[0] == models[1]
    assert len(folders) > 1, "the work was shared"
