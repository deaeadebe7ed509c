"""One cluster's part of a run in a pod: the containers that the scheduler asks for, as processes, beside clusters of another kind.

The model is the same to the byte, whoever is killed, and the pod's Job succeeds when the run has ended.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from machine_story import Lend, Machine, lasting_machine
from pod_story import Pod, images
from process_story import descendants, process_of

from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.works import work
from fedplane.schemas.facts import Advertised, Aggregated, Completed, Contributed, Declined, Scheduled, Submitted
from fedplane.schemas.models import Task

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]

SUCCEEDED = {"active": 0, "ready": 0, "succeeded": 1}
LEASE_SECONDS = 3600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lend]:
    """Two clusters with collaborators of their own, and a third of which only the hub says that it is there."""
    async with lasting_machine(tmp_path_factory.mktemp("machine"), clusters=("alpha", "beta")) as lend:
        it = await lend(tmp_path_factory.mktemp("hub"))
        offered = {"claims": {"data": "/data/gamma"}, "allocatable": {"cpu": "1", "memory": "1Gi"}, "frameworks": ("flower",)}
        await it.bus.log.state(Advertised(cluster="gamma", at=datetime.now(UTC), lease_seconds=LEASE_SECONDS, **offered))
        yield lend


@pytest_asyncio.fixture(loop_scope="module")
async def it(lend: Lend, tmp_path: Path) -> Machine:
    return await lend(tmp_path)


async def submitted(it: Machine, **spec: Any) -> str:
    return await it.submit(client={"image": "tiny:1"}, **spec)


@asynccontextmanager
async def gamma(it: Machine, run: str, directory: Path, *, pulled: bool = True) -> AsyncIterator[tuple[Pod, asyncio.Task[None]]]:
    """The pod that the scheduler would have sent, and its course."""
    await it.until(run, lambda record: isinstance(record.fact, Scheduled))
    resource = next(record.fact.resource for record in it.log if isinstance(record.fact, Submitted))
    participants = next(record.fact.participants for record in it.log if isinstance(record.fact, Scheduled))
    chosen = next(chosen for chosen in participants if chosen.cluster == "gamma")
    (job,) = work(run, resource, chosen, Outfit("ours:1", it.up.nats_url))["spec"]["workload"]["manifests"]
    at_hand = images() if pulled else {"ours:1": images()["ours:1"]}
    pod = Pod(f"{run}-x7k2p", job, directory, at_hand, restart_seconds=0.05, disk=directory)
    course = asyncio.create_task(pod.run())
    try:
        yield pod, course
    finally:
        course.cancel()
        with suppress(asyncio.CancelledError):
            await course


async def completed(it: Machine, run: str, course: asyncio.Task[None]) -> Completed:
    end = await it.end_of(run)
    assert isinstance(end, Completed), end
    async with asyncio.timeout(20):
        await asyncio.shield(course)
    return end


def trained(it: Machine) -> list[tuple[str, ...]]:
    return [r.fact.members for r in it.log if isinstance(r.fact, Aggregated) and r.fact.task is Task.TRAIN]


def declined(it: Machine) -> list[tuple[str, str, str]]:
    return [(r.fact.cluster, r.fact.reason, r.fact.message) for r in it.log if isinstance(r.fact, Declined)]


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of the same run when every cluster's app is a child of its collaborator."""
    directory = tmp_path_factory.mktemp("undisturbed")
    async with lasting_machine(directory / "machine") as lend:
        it = await lend(directory)
        end = await it.end_of(await submitted(it))
        assert isinstance(end, Completed)
        return await it.model_of(end)


async def test_a_model_is_the_same_whether_an_app_is_a_child_or_in_a_container_beside(
    it: Machine, short_path: Path, undisturbed: bytes
) -> None:
    run = await submitted(it)
    async with gamma(it, run, short_path) as (pod, course):
        end = await completed(it, run, course)

    assert await it.model_of(end) == undisturbed
    assert (trained(it), declined(it)) == ([("alpha", "beta", "gamma")] * 2, [])
    assert (pod.numbers, pod.restarts) == (SUCCEEDED, 0)
    last = await it.bus.log.read(Advertised.pattern(cluster="gamma"))
    assert last is not None and isinstance(last.fact, Advertised)
    assert last.fact.lease_seconds == LEASE_SECONDS, "a pod's collaborator does not speak for its cluster"


async def test_a_collaborator_killed_in_the_midst_of_its_upload_goes_on(it: Machine, short_path: Path, undisturbed: bytes) -> None:
    listener = await nats.connect(it.up.nats_url)
    uploading = await listener.subscribe("bulk.fed.v1.*.1.update.gamma.>")
    run = await submitted(it)
    async with gamma(it, run, short_path) as (pod, course):
        await uploading.next_msg(60)
        os.kill(process_of("fedplane.collaborator.main", "FEDPLANE_RUN="), signal.SIGKILL)
        end = await completed(it, run, course)
    await listener.close()

    assert await it.model_of(end) == undisturbed
    assert [r.fact.round for r in it.log if isinstance(r.fact, Contributed) and r.fact.cluster == "gamma"] == [1, 3]
    assert (pod.numbers, pod.restarts) == (SUCCEEDED, 1)


@pytest.mark.parametrize("victim", ["process", "container"])
async def test_an_app_killed_in_the_midst_of_its_work_declines_and_is_there_for_the_next_question(
    it: Machine, short_path: Path, victim: str
) -> None:
    run = await submitted(
        it,
        server={"rounds": 1, "minAvailableClients": 2},
        rounds={"deadlineSeconds": 20, "attempts": 1},
        config={"trouble": "hang at gamma"},
    )
    async with gamma(it, run, short_path) as (pod, course):
        await until((short_path / "shared/work" / run / "round-1/invitation.json").exists)
        await asyncio.sleep(2)  # to be asked, and to hang
        keeper = process_of("--socket=")
        process, guard = descendants(keeper)
        for pid in [process] if victim == "process" else [process, guard, keeper]:
            os.kill(pid, signal.SIGKILL)
        await completed(it, run, course)

    said = {
        "process": "the app's process was killed by SIGKILL; the machine may have been out of memory",
        "container": "the app's container ended in the middle of its work; its state says why, which may be that it was out of memory",
    }
    assert (trained(it), declined(it)) == ([("alpha", "beta")], [("gamma", "crashed", said[victim])])
    assert (pod.numbers, pod.restarts) == (SUCCEEDED, int(victim == "container"))


async def test_an_app_whose_container_never_starts_is_not_waited_for_longer_than_its_round(it: Machine, short_path: Path) -> None:
    run = await submitted(
        it, server={"rounds": 1, "minAvailableClients": 2}, rounds={"deadlineSeconds": 8, "evaluate": False, "attempts": 3}
    )
    async with gamma(it, run, short_path, pulled=False):
        end = await it.end_of(run)

    assert isinstance(end, Completed)
    assert trained(it) == [("alpha", "beta")]
    assert {(cluster, reason) for cluster, reason, _ in declined(it)} == {("gamma", "app-never-started")}
    assert " s; look at the state and the log of its container" in declined(it)[-1][2]


async def test_a_pod_that_starts_after_its_run_has_ended_succeeds_at_once(it: Machine, short_path: Path) -> None:
    run = await submitted(it, server={"rounds": 1, "minAvailableClients": 2}, rounds={"deadlineSeconds": 5, "evaluate": False})
    await it.end_of(run)
    async with gamma(it, run, short_path) as (pod, course), asyncio.timeout(20):
        await course

    assert (pod.numbers, pod.restarts) == (SUCCEEDED, 0)
