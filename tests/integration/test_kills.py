"""Real processes, killed with SIGKILL at the worst moments: the run completes, the model is the same to the byte, nothing counts twice."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import nats
import pytest
from machine_story import Machine, machine, settle_environment

from fedplane.schemas.facts import Aggregated, Completed, Contributed, Folded, Invited, Opened, Scheduled
from fedplane.schemas.models import Task

pytestmark = pytest.mark.app


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_environment(monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a run that nobody disturbs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle_environment(monkeypatch)
        return asyncio.run(_undisturbed(tmp_path_factory.mktemp("undisturbed")))


async def _undisturbed(directory: Path) -> bytes:
    async with machine(directory) as it:
        completed = await it.end_of(await it.submit())
        assert isinstance(completed, Completed), completed
        _assert_everyone_counted_once(it)
        return await it.model_of(completed)


def _assert_everyone_counted_once(it: Machine) -> None:
    """Each training round has each cluster once, with its own weight, in the sum and in every shard."""
    for aggregated in (record.fact for record in it.log if isinstance(record.fact, Aggregated) and record.fact.task is Task.TRAIN):
        assert aggregated.members == ("alpha", "beta", "gamma")
        assert aggregated.weight == 10 + 20 + 30
        folds = [r.fact for r in it.log if isinstance(r.fact, Folded) and r.fact.round == aggregated.round]
        assert {fold.members for fold in folds} == {aggregated.members}
        assert sorted(fold.shard for fold in folds) == list(range(len(aggregated.model.shards) if aggregated.model else 0))
    counts = Counter((r.fact.round, r.fact.cluster) for r in it.log if isinstance(r.fact, Contributed))
    assert set(counts.values()) == {1}


async def _assert_as_undisturbed(it: Machine, run: str, undisturbed: bytes) -> None:
    completed = await it.end_of(run)
    assert isinstance(completed, Completed), completed
    assert [r.fact.training_round for r in it.log if isinstance(r.fact, Aggregated) and r.fact.task is Task.TRAIN] == [1, 2]
    _assert_everyone_counted_once(it)
    assert await it.model_of(completed) == undisturbed


async def test_an_aggregator_that_is_killed_in_mid_fold_changes_nothing(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        run = await it.submit()
        killed = []
        for round_ in (1, 3):
            folding = await it.until(run, lambda r, n=round_: isinstance(r.fact, Folded) and r.fact.round == n)
            assert folding.source
            victim = f"aggregator-{folding.source.rpartition('/')[2]}"
            it.up.kill(victim)
            killed.append(victim)

        await _assert_as_undisturbed(it, run, undisturbed)
        assert len(killed) == 2


async def test_both_aggregators_killed_at_once_change_nothing(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        run = await it.submit()
        await it.until(run, lambda r: isinstance(r.fact, Folded) and r.fact.round == 1)
        it.up.kill("aggregator-0")
        it.up.kill("aggregator-1")

        await _assert_as_undisturbed(it, run, undisturbed)


async def test_a_scheduler_that_is_killed_between_submitted_and_scheduled_changes_nothing(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        it.up.kill("scheduler", signal.SIGSTOP)
        run = await it.submit()
        await asyncio.sleep(0.5)
        assert await it.bus.log.read(Scheduled.pattern(run=run)) is None
        it.up.kill("scheduler", signal.SIGKILL)

        await _assert_as_undisturbed(it, run, undisturbed)


async def test_a_status_service_that_is_killed_shows_the_end_all_the_same(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        run = await it.submit()
        await it.until(run, lambda r: isinstance(r.fact, Opened) and r.fact.round == 1)
        it.up.kill("status")
        await it.until(run, lambda r: isinstance(r.fact, Opened) and r.fact.round == 3)
        it.up.kill("status")

        await _assert_as_undisturbed(it, run, undisturbed)
        view = await it.view_at_end(run)
        assert (view.phase, view.training_rounds_done) == ("Completed", 2)


async def test_a_collaborator_that_is_killed_in_mid_upload_changes_nothing(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        listener = await nats.connect(it.up.nats_url)
        uploading = await listener.subscribe("bulk.fed.v1.*.1.update.beta.>")
        run = await it.submit()
        for _ in range(5):
            chunk = await uploading.next_msg(60)
        it.up.kill("collaborator-beta")
        first_attempt = chunk.subject.split(".")[7]

        await _assert_as_undisturbed(it, run, undisturbed)
        await listener.close()
        counted = [r.fact.attempt for r in it.log if isinstance(r.fact, Contributed) and (r.fact.round, r.fact.cluster) == (1, "beta")]
        assert len(counted) == 1
        assert counted != [first_attempt], "it was killed before it could state its first attempt"


async def test_a_server_that_is_killed_in_every_round_changes_nothing(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        run = await it.submit()
        for round_ in (0, 1, 3):
            await it.until(run, lambda r, n=round_: isinstance(r.fact, Invited) and r.fact.round == n)
            it.up.kill("nats-server")

        await _assert_as_undisturbed(it, run, undisturbed)


async def test_a_federation_that_is_ended_and_started_again_goes_on_in_the_round_it_was_in(tmp_path, undisturbed) -> None:
    async with machine(tmp_path) as it:
        run = await it.submit()
        opened = await it.until(run, lambda r: isinstance(r.fact, Opened) and r.fact.round == 1)
    async with machine(tmp_path) as it:
        await _assert_as_undisturbed(it, run, undisturbed)
        rounds = [r for r in it.log if isinstance(r.fact, Opened) and r.fact.training_round == 1 and r.fact.task is Task.TRAIN]
        assert [(r.fact, r.sequence) for r in rounds] == [(opened.fact, opened.sequence)]
