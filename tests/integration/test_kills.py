"""Real processes, killed with SIGKILL at the worst moments: the run completes, the model is the same to the byte, nothing counts twice."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from machine_story import Lend, Machine, lasting_machine, machine, settle_environment

from fedplane.schemas.facts import Aggregated, Completed, Contributed, Folded, Invited, Opened, Scheduled
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(lend: Lend, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a run that nobody disturbs."""
    it = await lend(tmp_path_factory.mktemp("undisturbed"))
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


async def test_an_aggregator_that_is_killed_in_mid_fold_changes_nothing(it: Machine, undisturbed: bytes) -> None:
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


GROWING = """#!{python}
import hashlib, json, struct, sys
task, directory, data = sys.argv[1:]
asked = json.load(open(directory + "/invitation.json"))
given = b"" if task == "initialize" else open(directory + "/model.safetensors", "rb").read()
grown = hashlib.shake_128(given + f"{{asked['training_round']}}/{{asked['cluster']}}".encode()).digest(150_000)
header = json.dumps({{"trees": {{"dtype": "U8", "shape": [len(grown)], "data_offsets": [0, len(grown)]}}}}).encode()
open(directory + "/update.safetensors", "wb").write(struct.pack("<Q", len(header)) + header + grown)
json.dump({{"weight": 1}}, open(directory + "/metrics.json", "w"))
"""


async def test_a_model_that_is_appended_to_is_the_same_if_an_aggregator_is_killed_in_mid_fold(it: Machine, tmp_path: Path) -> None:
    program = tmp_path / "app/federate"
    program.parent.mkdir()
    program.write_text(GROWING.format(python=sys.executable))
    program.chmod(0o755)
    asked: dict[str, Any] = {"framework": "other", "strategy": {"name": "append"}, "rounds": {"evaluate": False}, "app": program.parent}
    calm = await it.end_of(await it.submit(name="calm", **asked))
    run = await it.submit(name="killed", **asked)
    for round_ in (1, 2):
        folding = await it.until(run, lambda r, n=round_: isinstance(r.fact, Folded) and r.fact.round == n)
        it.up.kill(f"aggregator-{str(folding.source).rpartition('/')[2]}")
    killed = await it.end_of(run)

    assert isinstance(calm, Completed) and isinstance(killed, Completed)
    assert await it.model_of(killed) == await it.model_of(calm)
    assert (killed.model.bytes, len(killed.model.shards)) == (7 * 150_000, 14)


async def test_both_aggregators_killed_at_once_change_nothing(it: Machine, undisturbed: bytes) -> None:
    run = await it.submit()
    await it.until(run, lambda r: isinstance(r.fact, Folded) and r.fact.round == 1)
    it.up.kill("aggregator-0")
    it.up.kill("aggregator-1")

    await _assert_as_undisturbed(it, run, undisturbed)


async def test_a_scheduler_that_is_killed_between_submitted_and_scheduled_changes_nothing(it: Machine, undisturbed: bytes) -> None:
    it.up.kill("scheduler", signal.SIGSTOP)
    run = await it.submit()
    await asyncio.sleep(0.5)
    assert await it.bus.log.read(Scheduled.pattern(run=run)) is None
    it.up.kill("scheduler", signal.SIGKILL)

    await _assert_as_undisturbed(it, run, undisturbed)


async def test_a_status_service_that_is_killed_shows_the_end_all_the_same(it: Machine, undisturbed: bytes) -> None:
    run = await it.submit()
    await it.until(run, lambda r: isinstance(r.fact, Opened) and r.fact.round == 1)
    it.up.kill("status")
    await it.until(run, lambda r: isinstance(r.fact, Opened) and r.fact.round == 3)
    it.up.kill("status")

    await _assert_as_undisturbed(it, run, undisturbed)
    view = await it.view_at_end(run)
    assert (view.phase, view.training_rounds_done) == ("Completed", 2)


async def test_a_collaborator_that_is_killed_in_mid_upload_changes_nothing(it: Machine, undisturbed: bytes) -> None:
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


async def test_a_server_that_is_killed_in_every_round_changes_nothing(it: Machine, undisturbed: bytes) -> None:
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
