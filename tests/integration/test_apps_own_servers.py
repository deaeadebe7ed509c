"""Apps' own ServerApps on a whole federation of processes: they run unmodified, and what they ask is rounds on the log."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from machine_story import Lend, Machine, lasting_machine
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load
from server_story import NEWER, OLDER, PRIVATE, SECRET, small_app

from fedplane.cli import runs
from fedplane.schemas.facts import Aggregated, Asked, Cancelled, Completed, Contributed, Failed
from fedplane.schemas.views import Phase

APP = {"name": "app"}

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine's own directory."""
    return tmp_path_factory.mktemp("machine")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(home: Path) -> AsyncIterator[Lend]:
    async with lasting_machine(home) as lend:
        yield lend


@pytest_asyncio.fixture(loop_scope="module")
async def it(lend: Lend, tmp_path: Path) -> Machine:
    return await lend(tmp_path)


async def model_at_end(it: Machine, run: str) -> list[np.ndarray]:
    completed = await it.end_of(run)
    assert isinstance(completed, Completed), completed
    model = load(await it.model_of(completed))
    return [model[name] for name in sorted(model)]


def asked(it: Machine) -> list[Asked]:
    return [record.fact for record in it.log if isinstance(record.fact, Asked)]


def begun(run: str) -> np.ndarray:
    """What a server begins with whose random numbers begin with the run's."""
    np.random.seed(int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big") % 2**32)
    return np.random.standard_normal(4).astype(np.float32)


def halved(model: np.ndarray, rounds: int, errors: int = 0) -> np.ndarray:
    """What `Halving` makes of the model: the clusters add 0, 1 and 2, or without the one that refuses 0 and 2."""
    for _ in range(rounds):
        model = np.float32(0.5) * (model + np.float32(1)) + np.float32(errors)
    return model


def by_averaging() -> np.ndarray:
    """What the tiny app's server makes of its first weights in two rounds, its clusters having 10, 20 and 30 examples."""
    model = np.random.default_rng(1).standard_normal(250_000).astype(np.float32)
    for _ in range(2):
        updates = [model - np.float32(0.25) * (model - np.float32(target)) for target in (1, 2, 3)]
        model = np.average(updates, axis=0, weights=[10, 20, 30]).astype(np.float32)
    return model


async def test_an_unmodified_server_app_has_its_rounds_on_the_log_and_leaves_its_model_whether_replies_are_folded_or_not(
    it: Machine,
) -> None:
    run = await it.submit(strategy=APP)
    model = await model_at_end(it, run)
    said = [record.fact.subject.split(".")[4:] for record in it.log]
    view = await it.view_at_end(run)
    kinds = [(each.instructions[0].kind, len(each.instructions), len(each.contents), each.training_round) for each in asked(it)]
    folded = await model_at_end(it, await it.submit(strategy=APP, fold=True))
    means = [record.fact.model is not None for record in it.log if isinstance(record.fact, Aggregated)]

    assert_allclose(model[0], by_averaging(), rtol=1e-4, atol=1e-6)
    assert kinds == [("train", 3, 1, 1), ("evaluate", 3, 1, 1), ("train", 3, 1, 2), ("evaluate", 3, 1, 2)]
    assert [words[2] for words in said if words[:2] == ["round", "3"]] == [
    "asked", "opened", "invited", "invited", "invited", "contributed", "contributed", "contributed", "closed", "aggregated",
    ]  # fmt: skip
    assert (view.phase, view.training_rounds_done, view.training_rounds, len(view.rounds)) == (Phase.COMPLETED, 2, 2, 4)
    assert_allclose(folded[0], model[0], rtol=1e-4, atol=1e-6)
    assert means == [True, False, True, False]


async def test_what_users_write_into_servers_works_or_fails_with_its_last_words(it: Machine, tmp_path: Path) -> None:
    app = small_app(tmp_path / "app", NEWER)
    first = await it.submit(strategy=APP, app=app)
    model = await model_at_end(it, first)
    metrics = it.log[-1].fact.metrics
    second = await it.submit(strategy=APP, app=app, config={"behave": "refuse"})
    refused = await model_at_end(it, second)
    counts = await model_at_end(it, await it.submit(strategy=APP, app=app, config={"behave": "query"}))
    queries = [(each.instructions[0].kind, len(each.contents)) for each in asked(it)]
    raised = await it.end_of(await it.submit(strategy=APP, app=app, config={"behave": "raise"}))
    exited = await it.end_of(await it.submit(strategy=APP, app=app, config={"behave": "exit"}))

    assert_allclose(model[0], halved(begun(first), 2), rtol=1e-5)
    assert (metrics["centrally_judged"], metrics["loss"], metrics["times"]) == (2, 0.5, 2)
    assert_allclose(metrics["central"], model[0].sum(), rtol=1e-6)
    assert_allclose(refused[0], halved(begun(second), 2, errors=1), rtol=1e-5)
    assert_array_equal(counts[0], [0, 1, 2])
    assert queries == [("query.count", 3)]
    assert isinstance(raised, Failed)
    assert isinstance(exited, Failed)
    assert (raised.reason, exited.reason) == ("ServerFailed", "ServerFailed")
    assert "RuntimeError: no licence for this server" in raised.message
    assert "exited by itself with code 9" in exited.message
    assert exited.message.endswith("what a pity")


async def test_servers_of_the_older_kind_run_and_so_do_secure_aggregation_and_differential_privacy(it: Machine, tmp_path: Path) -> None:
    older = await model_at_end(it, await it.submit(strategy=APP, app=small_app(tmp_path / "older", OLDER)))
    sizes = [len(each.instructions) for each in asked(it)]
    secret = await model_at_end(it, await it.submit(strategy=APP, app=small_app(tmp_path / "secret", SECRET)))
    sizes += [len(each.instructions) for each in asked(it)]
    private = await model_at_end(it, await it.submit(strategy=APP, app=small_app(tmp_path / "private", PRIVATE)))

    assert_array_equal(older[0], np.full(5, 2, np.float32))
    assert_allclose(secret[0], np.ones(5), atol=1e-3)
    assert_allclose(private[0], np.full(4, 0.5), atol=1e-4)  # changes of norm 2, 4 and 6 that are clipped to norm 1
    assert max(sizes) == 3, "calls of one moment from a pool of threads are one round"


async def test_a_driver_that_is_killed_is_replaced_and_nothing_is_trained_twice(it: Machine, tmp_path: Path) -> None:
    app = small_app(tmp_path / "app", NEWER)
    run = await it.submit(strategy=APP, app=app, config={"behave": "slow", "rounds": 4})
    for round_ in (1, 4):
        await it.until(run, lambda record, at=round_: isinstance(record.fact, Contributed) and record.fact.round == at)
        before = it.up.pid_of("driver")
        it.up.kill("driver")
        while it.up.pids.get("driver", before) == before:
            await asyncio.sleep(0.05)
    model = await model_at_end(it, run)
    rounds = [each.round for each in asked(it)]
    times = it.log[-1].fact.metrics["times"]

    assert rounds == list(range(8))
    assert times == 4, "each cluster trained once for each training round"
    assert_allclose(model[0], halved(begun(run), 4), rtol=1e-5)


async def test_a_run_that_is_cancelled_takes_its_server_with_it(it: Machine, home: Path, tmp_path: Path) -> None:
    app = small_app(tmp_path / "app", NEWER)
    run = await it.submit(strategy=APP, app=app, config={"behave": "slow", "rounds": 100})
    await it.until(run, lambda record: isinstance(record.fact, Asked) and record.fact.round == 1)
    servers = home / "state" / "servers"
    assert (servers / run / "server").is_dir()
    await runs.cancel(it.bus, run, it.log[-1].fact.at, "enough")
    end = await it.end_of(run)
    async with asyncio.timeout(20):
        while (servers / run).exists():
            await asyncio.sleep(0.05)
    printed = (servers / f"{run}.log").read_text()

    assert isinstance(end, Cancelled)
    assert "the server begins" in printed
