"""A run's facts on a real bus become the status of its object, and Events, on a real API server; whatever of the three is killed."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apiserver import NOBODY, ApiServer
from conftest import NatsServer
from rights_story import granted_as_deployed
from status_story import Story, viewed

from fedplane.runtime.kinds import EVENT, FEDERATED_LEARNING, NAMESPACE
from fedplane.runtime.kubernetes import KubernetesCluster, open_cluster
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.objects import Object
from fedplane.schemas import facts
from fedplane.schemas.names import run_id
from fedplane.status.kube import MANAGER
from fedplane.status.outward import status_of

SEEN_SECONDS = 60
LOOK_SECONDS = 0.1


@dataclass
class Asked:
    """A run that an object asks for, and what was seen of the object."""

    bus: NatsBus
    cluster: KubernetesCluster
    story: Story
    space: str
    seen: list[Object] = field(default_factory=list)

    async def say(self, *said: facts.Fact) -> None:
        for fact in said:
            await self.bus.log.state(fact)

    async def live(self) -> Object:
        found = await self.cluster.get(FEDERATED_LEARNING, "mnist", self.space)
        assert found is not None
        return found

    async def until(self, sequence: int) -> dict[str, Any]:
        """The status once it tells of that place on the log."""
        async with asyncio.timeout(SEEN_SECONDS):
            while (status := (await self.live()).get("status", {})).get("sequence") != sequence:
                await asyncio.sleep(LOOK_SECONDS)
        told: dict[str, Any] = status
        return told

    async def events(self, number: int) -> dict[str, tuple[int, str]]:
        """How often, and about what, once there are so many."""
        async with asyncio.timeout(SEEN_SECONDS):
            while len(found := await self.cluster.all(EVENT, self.space)) < number:
                await asyncio.sleep(LOOK_SECONDS)
        uids = {each["involvedObject"]["uid"] for each in found}
        assert uids == {(await self.live())["metadata"]["uid"]}
        return {each["reason"]: (each["count"], each["message"]) for each in found}

    def writes(self) -> list[int]:
        """The places of the log that were told, one for each time that the object changed."""
        return [body["status"]["sequence"] for body in self.seen if "sequence" in body.get("status", {})]


@pytest.fixture
async def run(nats_server: NatsServer, api_server: ApiServer) -> AsyncIterator[Asked]:
    space = f"test-{uuid.uuid4().hex[:8]}"
    async with (
        open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus,
        open_cluster(str(api_server.kubeconfig)) as cluster,
    ):
        await cluster.create(NAMESPACE, {"metadata": {"name": space}})
        made = await cluster.create(FEDERATED_LEARNING, {"metadata": {"name": "mnist", "namespace": space}, "spec": {}})
        uid = made["metadata"]["uid"]
        begin = datetime.now(UTC) - timedelta(seconds=20)
        asked = Asked(bus, cluster, Story(run_id("mnist", uid), uid, begin, namespace=space, generation=1), space)
        watching = asyncio.create_task(watch(asked))
        yield asked
        watching.cancel()


async def watch(asked: Asked) -> None:
    async for change in asked.cluster.watch(FEDERATED_LEARNING, asked.space):
        if change.object:
            asked.seen.append(change.object)


@asynccontextmanager
async def service(bus: NatsServer, kubeconfig: Path, log: Path | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """A replica in a process of its own, killed at the end if it has not been before."""
    environment = {**os.environ, "FEDPLANE_NATS_URL": bus.url, "FEDPLANE_INSECURE": "true", "FEDPLANE_KUBERNETES": str(kubeconfig)}
    with (log or Path(os.devnull)).open("ab") as lines:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "fedplane.status.main", env=environment, stderr=lines)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_run_is_seen_through_the_api_with_few_writes_and_one_event_of_each_reason(
    run: Asked, nats_server: NatsServer, api_server: ApiServer
) -> None:
    whole = run.story.whole()
    async with service(nats_server, api_server.kubeconfig):
        for number, fact in enumerate(whole, 1):
            await run.say(fact)
            await asyncio.sleep(0.2)
            if number == 2:
                waiting = await run.until(2)
        completed = await run.until(len(whole))
        events = await run.events(7)

    assert waiting == status_of(viewed(*whole[:2]))
    assert completed == status_of(viewed(*whole))
    assert events == {
        "NotEnoughClusters": (1, "1 of 2 clusters fit. hospital-c does not advertise the claim mnist.client-data"),
        "Scheduled": (1, "2 clusters chosen: hospital-a, hospital-b."),
        "Started": (1, "2 training rounds with 2 clusters."),
        "RoundAggregated": (2, "Training round 2 of 2: 1 of 2 clusters contributed."),
        "ContributionRefused": (1, "Training round 1 of 2: hospital-b: unacceptable, has 8 bytes."),
        "ClusterDeclined": (1, "Training round 2 of 2: hospital-b: app-failed, no memory."),
        "Completed": (1, "2 training rounds done."),
    }
    assert run.writes() == sorted(set(run.writes()))
    assert len(run.writes()) <= 7, "a write a second for 3.2 s, of 16 facts"


async def test_who_annotates_the_object_and_the_status_do_not_disturb_each_other(
    run: Asked, nats_server: NatsServer, api_server: ApiServer
) -> None:
    theirs: Object = {"metadata": {"name": "mnist", "namespace": run.space, "annotations": {"audit": "begun"}}}
    whole = [*run.story.whole()[:4], run.story.exposed(3, 1, "172.18.0.2:31531"), *run.story.whole()[4:]]
    async with service(nats_server, api_server.kubeconfig):
        await run.say(whole[0])
        await run.until(1)
        await run.cluster.apply(FEDERATED_LEARNING, theirs, "auditor")
        await run.say(*whole[1:5])
        await run.until(5)
        theirs["metadata"]["annotations"]["audit"] = "passed"
        await run.cluster.apply(FEDERATED_LEARNING, theirs, "auditor")
        await run.say(*whole[5:])
        completed = await run.until(len(whole))

    path = f"/apis/{FEDERATED_LEARNING.api_version}/namespaces/{run.space}/federatedlearnings/mnist"
    metadata = api_server.request("GET", path)["metadata"]
    held = {each["manager"]: each["fieldsV1"] for each in metadata["managedFields"]}
    assert completed == status_of(viewed(*whole))
    assert [each["address"] for each in completed["listeners"]] == ["172.18.0.2:31531"]
    assert metadata["annotations"] == {"audit": "passed"}
    assert set(held["auditor"]) == {"f:metadata"}
    assert set(held[MANAGER]["f:status"]) - {"."} == {f"f:{name}" for name in completed}


async def test_one_of_two_replicas_is_killed_and_nobody_notices(run: Asked, nats_server: NatsServer, api_server: ApiServer) -> None:
    whole = run.story.whole()
    async with service(nats_server, api_server.kubeconfig) as first, service(nats_server, api_server.kubeconfig):
        await run.say(*whole[:4])
        await run.until(4)
        await run.say(*whole[4:8])
        first.send_signal(signal.SIGKILL)
        await run.say(*whole[8:])
        completed = await run.until(len(whole))
        events = await run.events(6)

    assert completed == status_of(viewed(*whole))
    assert events["RoundAggregated"][0] == 2
    assert len(run.writes()) <= 6, "four facts, one of them alone, and the rest, by two"


async def test_an_api_server_that_was_away_gets_the_newest_state(run: Asked, nats_server: NatsServer, api_server: ApiServer) -> None:
    whole = run.story.whole()
    async with service(nats_server, api_server.kubeconfig):
        await run.say(*whole[:4])
        await run.until(4)
        api_server.kill()
        for fact in whole[4:]:
            await run.say(fact)
            await asyncio.sleep(0.1)
        await asyncio.to_thread(api_server.start)
        completed = await run.until(len(whole))
        events = await run.events(6)

        async with asyncio.timeout(SEEN_SECONDS):
            while run.writes()[-1:] != [len(whole)]:  # the watch may not have heard of any yet
                await asyncio.sleep(LOOK_SECONDS)

    assert completed == status_of(viewed(*whole))
    assert {"Completed", "RoundAggregated"} < set(events)
    assert [sequence for sequence in run.writes() if sequence > 4] == [len(whole)]


async def test_two_hundred_facts_in_a_second_cost_three_writes_at_most(run: Asked, nats_server: NatsServer, api_server: ApiServer) -> None:
    story = run.story
    burst: list[facts.Fact] = [story.submitted(rounds=100), story.started(rounds=100)]
    for number in range(1, 100):
        burst += [story.opened(4, number, number), story.aggregated(5, number, number, loss=1 / number)]
    async with service(nats_server, api_server.kubeconfig):
        await run.say(*burst[:1])
        await run.until(1)
        await asyncio.sleep(1.5)
        begin = asyncio.get_running_loop().time()
        for fact in burst[1:]:
            await run.say(fact)
            await asyncio.sleep(max(0.0, begin + fact_pace(fact, burst) - asyncio.get_running_loop().time()))
        took_seconds = asyncio.get_running_loop().time() - begin
        told = await run.until(len(burst))

    assert len(burst) == 200
    assert told == status_of(viewed(*burst))
    assert len(run.writes()) - 1 <= 2 + took_seconds, f"{run.writes()} in {took_seconds:.1f} s"


def fact_pace(fact: facts.Fact, burst: list[facts.Fact]) -> float:
    """When the fact is due, so that all of them take a second."""
    return burst.index(fact) / len(burst)


async def test_a_service_without_permission_says_which_and_one_with_deploys_role_writes(
    run: Asked, nats_server: NatsServer, api_server: ApiServer, tmp_path: Path
) -> None:
    whole, log = run.story.whole(), tmp_path / "status.log"
    api_server.write_kubeconfig(tmp_path / "nobody", NOBODY, api_server.port)
    async with service(nats_server, tmp_path / "nobody", log):
        await run.say(*whole[:4])
        async with asyncio.timeout(SEEN_SECONDS):
            while "grant get on federatedlearnings" not in log.read_text():
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # in which it tries again
        with granted_as_deployed(api_server, "status"):
            await run.until(4)
            await run.say(*whole[4:])
            completed = await run.until(len(whole))
            events = await run.events(6)

    assert completed == status_of(viewed(*whole))
    assert set(events) >= {"Scheduled", "Completed"}
    (complaint,) = (line for line in log.read_text().splitlines() if "level=error" in line)
    assert 'User \\"nobody\\" cannot get resource \\"federatedlearnings\\"' in complaint


async def test_a_run_whose_object_is_gone_or_another_one_is_told_to_nobody(
    run: Asked, nats_server: NatsServer, api_server: ApiServer
) -> None:
    whole = run.story.whole()
    async with service(nats_server, api_server.kubeconfig):
        await run.say(whole[0])
        await run.until(1)
        await run.cluster.delete(FEDERATED_LEARNING, "mnist", run.space)
        again = await run.cluster.create(FEDERATED_LEARNING, {"metadata": {"name": "mnist", "namespace": run.space}, "spec": {}})
        await run.say(*whole[1:])
        other = Story(
            run_id("mnist", again["metadata"]["uid"]), again["metadata"]["uid"], run.story.begin, namespace=run.space, generation=1
        )
        await run.say(other.submitted())
        told = await run.until(len(whole) + 1)
        await asyncio.sleep(1.5)
        live = await run.live()

    assert told["run"] == other.run
    assert (live["metadata"]["uid"], live["status"]) == (again["metadata"]["uid"], told)
    assert await run.cluster.all(EVENT, run.space) == []
