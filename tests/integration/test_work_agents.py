"""Works carried out on clusters: the containers that we ask for, as processes, on a real bus; and what becomes of those that fail.

The same on a real hub, with everything as processes, is in `tests/e2e/test_hub_federation.py`.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import NatsServer
from federation_story import ended, submit
from pod_story import Image, images
from process_story import processes_of
from work_agent import WorkAgent, agent
from work_story import OUTFIT, PATIENCE, begin, declined, invite, join, learning, now, scheduler, until, until_works

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.runtime.kinds import MANIFEST_WORK
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.replica import Replica
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.runs import Scheduler
from fedplane.scheduler.standing import Patience
from fedplane.schemas.facts import Advertised, Cancelled, Completed, Contributed, Declined, Scheduled, Submitted
from fedplane.schemas.models import Chosen

OURS = Image(Path(sys.executable))
PATIENT = Patience(start_seconds=30, refusal_seconds=30)


def program(directory: Path, body: str) -> Image:
    """An image whose Python is a program of ours; its arguments are in `sys.argv` all the same."""
    file = directory / "python3"
    file.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    file.chmod(0o755)
    return Image(file)


def logged(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_work_starts_a_collaborator_that_reaches_the_bus_and_its_end_leaves_nothing(
    nats_server: NatsServer, short_path: Path
) -> None:
    hub, outfit = MemoryCluster(), Outfit("ours:1", nats_server.url)
    await join(hub, "a")
    async with (
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
        scheduler(bus.log, hub, outfit, PATIENT),
        agent(WorkAgent(hub, "a", short_path, {"ours:1": OURS}, without=("app",))) as it,
    ):
        await begin(bus.log, "r-1", "a")
        await until(lambda: has(short_path / "r-1/collaborator.log", "event=ready"), True)
        await until(lambda: reported(hub, "a", "r-1"), {"active": 1, "ready": 1})
        runner = short_path / "r-1/shared/runner"
        said = await asyncio.create_subprocess_exec(sys.executable, runner, "--help", stdout=asyncio.subprocess.PIPE)
        usage, _ = await said.communicate()

        await bus.log.state(Cancelled(run="r-1", at=now()))
        await until_works(hub)

        assert usage.startswith(b"usage: fedplane_runner")
        assert (processes_of(short_path), it.running) == ([], {})


async def has(file: Path, word: str) -> bool:
    return word in logged(file)


async def reported(hub: MemoryCluster, cluster: str, run: str) -> dict[str, int]:
    work = await hub.get(MANIFEST_WORK, run, cluster)
    manifests = (work or {}).get("status", {}).get("resourceStatus", {}).get("manifests", [])
    return {each["name"]: each["fieldValue"].get("integer") for each in manifests[0]["statusFeedback"]["values"]} if manifests else {}


@pytest.mark.app
async def test_a_run_completes_on_clusters_that_have_nothing_but_an_agent(nats_server: NatsServer, short_path: Path) -> None:
    hub, clusters = MemoryCluster(), ("hospital-a", "hospital-b")
    spec = {"server": {"rounds": 2, "minAvailableClients": 2}, "rounds": {"deadlineSeconds": 60, "attempts": 1}}
    settings = AggregatorSettings(shard_bytes=80_000, chunk_bytes=8_000)
    await join(hub, *clusters)
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus, AsyncExitStack() as everything:
        for cluster in clusters:
            await bus.log.state(Advertised(cluster=cluster, at=datetime.now(UTC), lease_seconds=600, claims={"data": f"/data/{cluster}"}))
            await everything.enter_async_context(agent(WorkAgent(hub, cluster, short_path / cluster, images())))
        await everything.enter_async_context(scheduler(bus.log, hub, Outfit("ours:1", nats_server.url), Patience(60, 60)))
        tasks = await everything.enter_async_context(asyncio.TaskGroup())
        services = [tasks.create_task(each) for each in (Replica(Scheduler(), bus.log).run(), aggregate(bus, settings))]
        try:
            facts = await ended(bus, await submit(bus, learning("tiny", client={"image": "tiny:1"}, **spec)), 90)
            await until_works(hub)
        finally:
            for service in services:
                service.cancel()

    assert isinstance(facts[-1], Completed), facts[-1]
    assert [fact for fact in facts if isinstance(fact, Declined)] == []
    assert {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)} >= {(1, cluster) for cluster in clusters}


async def test_an_app_that_ends_again_and_again_fails_the_job_and_its_cluster_declines(short_path: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    waiting, failing = short_path / "ours", short_path / "app"
    waiting.mkdir(), failing.mkdir()
    images = {
        "ours:1": program(waiting, "sys.argv[1] == '-m' and 'installing' in sys.argv[2] or time.sleep(60)"),
        "app:1": program(failing, "print('out of luck'); sys.exit(3)"),
    }
    async with scheduler(bus.log, hub, OUTFIT, PATIENT), agent(WorkAgent(hub, "a", short_path, images)):
        await begin(bus.log, "r-1", "a")
        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")
        printed = logged(short_path / "r-1/app.log")
        await bus.log.state(Cancelled(run="r-1", at=now()))
        await until_works(hub)

    assert (fact.reason, fact.message) == ("failed", "the work has failed on the cluster: Job has reached the specified backoff limit")
    assert printed == "out of luck\n" * 6


async def test_an_image_that_is_not_to_be_had_makes_its_cluster_decline_and_no_other(short_path: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    image = program(short_path, "'fedplane.collaborator.installing' in sys.argv or time.sleep(60)")
    everything, ours = {"ours:1": image, "app:1": image}, {"ours:1": image}
    patience = Patience(start_seconds=2, refusal_seconds=2)
    async with (
        scheduler(bus.log, hub, OUTFIT, patience),
        agent(WorkAgent(hub, "a", short_path / "a", everything)),
        agent(WorkAgent(hub, "b", short_path / "b", ours)),
    ):
        await begin(bus.log, "r-1", "a", "b")
        for cluster in ("a", "b"):
            await invite(bus.log, "r-1", cluster)
        fact = await declined(bus.log, "r-1", "b")

    assert fact.reason == "not-started"
    assert {each.fact.cluster for each in bus.log.records if isinstance(each.fact, Declined)} == {"b"}


async def test_what_a_cluster_says_of_its_data_reaches_the_app_letter_by_letter(short_path: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    hostile = "\"'; touch /fedplane/x #$(FEDPLANE_RUN) $$ `id`\n\r\t--socket=/etc\u202e" + "x" * 900
    image = program(
        short_path, f"json.dump([sys.argv[1:], dict(os.environ)], open({str(short_path / 'told')!r} + str(len(sys.argv)), 'w'))"
    )
    template = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]}
    resource = learning(client={"image": "app:1", "template": template})
    async with scheduler(bus.log, hub, OUTFIT, PATIENT), agent(WorkAgent(hub, "a", short_path, {"ours:1": image, "app:1": image})):
        await bus.log.state(Submitted(run="r-1", at=now(), resource=resource))
        participant = Chosen(cluster="a", score=0, terms=(), data=hostile)
        await bus.log.state(Scheduled(run="r-1", at=now(), participants=(participant,), refused=()))
        await until(lambda: reported(hub, "a", "r-1"), {"active": 0, "ready": 0, "succeeded": 1})

    shared = short_path / "r-1/shared"
    (arguments, environment) = json.loads((short_path / "told6").read_text())
    assert arguments == [
        str(shared / "runner"), "--framework=flower", "--app=.", f"--socket={shared / 'app.sock'}", f"--data-path={hostile}",
    ]  # fmt: skip
    assert (environment["A"], environment["B"]) == ("1", "12")
    assert not any(name.startswith("FEDPLANE_") for name in environment)
    _, ours = json.loads((short_path / "told3").read_text())
    assert (ours["FEDPLANE_REPLICA"], ours["FEDPLANE_WORKDIR"]) == ("r-1-x7k2p", str(shared / "work"))


async def test_what_a_cluster_says_of_its_data_is_not_mounted_if_it_is_no_path(short_path: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    said = "/data\n        command: [sh]"
    resource = learning(client={"image": "app:1", "template": {"data": {"mountPath": "/data"}}})
    async with scheduler(bus.log, hub, OUTFIT, PATIENCE), agent(WorkAgent(hub, "a", short_path, {})):
        await bus.log.state(Submitted(run="r-1", at=now(), resource=resource))
        participant = Chosen(cluster="a", score=0, terms=(), data=said)
        await bus.log.state(Scheduled(run="r-1", at=now(), participants=(participant,), refused=()))
        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")

    assert fact.reason == "not-sent"
    assert fact.message.endswith(f"the data claim's value {said!r} is no absolute path that a node could mount")
