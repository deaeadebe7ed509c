"""A federation on a hub while parts of it die, leave, never start or mean harm: its runs go on or end, and nothing is left of them."""

import asyncio
import json
from typing import Any

import pytest
from apiserver import ApiServer, Server
from conftest import NatsServer
from hub_federation import TINY, HubFederation, hub_federation
from work_story import until

from fedplane.schemas.facts import Cancelled, Closed, Completed, Contributed, Declined, Invited, Submitted

pytestmark = pytest.mark.app

A, B, C = "hospital-a", "hospital-b", "hospital-c"


def claiming(*clusters: str) -> dict[str, dict[str, str]]:
    return {cluster: {"data": f"/data/{cluster}"} for cluster in clusters}


def invited(fact: Any, number: int = 1) -> bool:
    return isinstance(fact, Invited) and fact.round == number


async def gone(it: HubFederation, run: str, name: str = "tiny") -> None:
    """Delete the object as a person does, who waits until it is gone; then nothing is left of the run."""
    await it.kubectl("delete", "federatedlearning", name, "--timeout=60s")
    await it.until_nothing_is_left(run)


def contributed(facts: list[Any]) -> set[tuple[int, str]]:
    return {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)}


def declined(facts: list[Any]) -> set[tuple[str, str]]:
    return {(fact.cluster, fact.reason) for fact in facts if isinstance(fact, Declined)}


async def test_a_run_goes_on_while_the_api_server_is_away_and_its_end_is_told_afterwards(
    api_server: ApiServer, hub_server: Server, nats_server: NatsServer
) -> None:
    async with hub_federation(hub_server, nats_server, claiming(A, B)) as it:
        storage = {"type": "HostPath", "path": f"{it.directory}/disk/models"}
        run = await it.apply(server={"rounds": 2, "minAvailableClients": 2, "storage": storage}, config={"seconds": 0.5})
        await it.happened(run, invited)
        api_server.kill()
        await it.happened(run, lambda fact: isinstance(fact, Closed) and fact.round == 1)
        await asyncio.to_thread(api_server.start)
        await it.happened(run, lambda fact: invited(fact, 3))
        api_server.kill()
        await it.happened(run, lambda fact: isinstance(fact, Completed))
        await asyncio.to_thread(api_server.start)
        await it.until_phase("tiny", "Completed")
        await it.kubectl("wait", "federatedlearning/tiny", "--for=condition=Kept", "--timeout=60s")
        await it.until_works(run)
        seen, events, facts = await it.seen("tiny"), await it.events("tiny"), await it.facts(run)
        await gone(it, run)
        kept = sorted(file.name for file in (it.directory / "disk/models").iterdir())

    assert it.never_went_back("tiny"), it.phases
    assert seen["status"]["model"]["location"] == f"file://{storage['path']}/model.safetensors"
    assert kept == ["manifest.json", "model.safetensors"]
    assert events["Completed"] == (1, "2 training rounds done.")
    assert (contributed(facts) >= {(1, A), (1, B), (3, A), (3, B)}, declined(facts)) == (True, set())


async def test_a_run_whose_scheduler_and_status_are_killed_goes_on_with_others(hub_server: Server, nats_server: NatsServer) -> None:
    services = ("scheduler", "scheduler-2", "aggregator", "status", "status-2")
    async with hub_federation(hub_server, nats_server, claiming(A, B), *services) as it:
        run = await it.apply(server={"rounds": 3, "minAvailableClients": 2}, config={"seconds": 0.5})
        await it.happened(run, invited)
        await it.kill("scheduler", "status")
        await it.happened(run, lambda fact: invited(fact, 3))
        await it.kill("scheduler-2", "status-2")
        await it.start("scheduler-3", "status-3")
        await it.until_phase("tiny", "Completed")
        await it.until_works(run)
        events, facts = await it.events("tiny"), await it.facts(run)
        await gone(it, run)

    assert it.never_went_back("tiny"), it.phases
    assert events == {
        "Scheduled": (1, f"2 clusters chosen: {A}, {B}."),
        "Started": (1, "3 training rounds with 2 clusters."),
        "RoundAggregated": (3, "Training round 3 of 3: 2 of 2 clusters contributed."),
        "Completed": (1, "3 training rounds done."),
    }
    assert declined(facts) == set()


async def test_a_cluster_that_is_removed_is_waited_for_no_longer_and_does_no_more_work(hub_server: Server, nats_server: NatsServer) -> None:
    async with hub_federation(hub_server, nats_server, claiming(A, B, C)) as it:
        run = await it.apply(server={"rounds": 2, "minAvailableClients": 2}, config={"trouble": f"hang at {C}"})
        await it.happened(run, lambda fact: isinstance(fact, Contributed) and fact.round == 1)
        before = await it.processes(C)
        await it.kubectl("delete", "managedcluster", C)
        await it.until_works(run, A, B)
        await until(lambda: it.processes(C), [])  # an app that has lost its container's first process ends a moment later
        await it.until_phase("tiny", "Completed")
        facts = await it.facts(run)
        await gone(it, run)

    assert len(before) > 0
    assert contributed(facts) >= {(1, A), (1, B), (3, A), (3, B)}
    assert declined(facts) == {(C, "left")}


async def test_an_object_that_is_deleted_takes_everything_of_its_run_along(hub_server: Server, nats_server: NatsServer) -> None:
    async with hub_federation(hub_server, nats_server, claiming(A, B)) as it:
        run = await it.apply(server={"rounds": 2, "minAvailableClients": 2}, config={"trouble": f"hang at {B}"})
        await it.happened(run, lambda fact: isinstance(fact, Contributed) and fact.round == 1)
        before = await it.left(run)
        await gone(it, run)
        facts = await it.facts(run)

    assert {what for what, found in before.items() if not found} == {"drivers"}, "there was something of all else to be removed"
    assert [type(fact) for fact in facts if isinstance(fact, Cancelled | Completed)] == [Cancelled]
    assert contributed(facts) == {(0, A), (1, A)}


async def test_an_image_that_is_not_to_be_had_makes_its_cluster_decline_and_disturbs_no_other_run(
    hub_server: Server, nats_server: NatsServer
) -> None:
    async with hub_federation(hub_server, nats_server, claiming(A, B), start_seconds="6") as it:
        elsewhere = {"image": TINY, "template": {"perCluster": {B: {"image": "nowhere:1"}}}}
        poor = await it.apply("poor", client=elsewhere, server={"rounds": 1}, rounds={"evaluate": False})
        rich = await it.apply("rich", server={"rounds": 2, "minAvailableClients": 2})
        await it.until_phase("rich", "Completed")
        await it.until_phase("poor", "Completed")
        facts, others, events = await it.facts(poor), await it.facts(rich), await it.events("poor")
        await gone(it, poor, "poor")
        await gone(it, rich, "rich")

    assert (contributed(facts), declined(facts)) == ({(0, A), (1, A)}, {(B, "not-started")})
    assert events["ClusterDeclined"][1].startswith(f"Training round 1 of 1: {B}: not-started, no pod of the work was ready for 6 s")
    assert (contributed(others) >= {(1, A), (1, B), (3, A), (3, B)}, declined(others)) == (True, set())


HOSTILE = {
    "of-a-shell": "\"'; touch here #$(FEDPLANE_RUN) $$ `id` && ${HOME} | > x \\",
    "of-lines": "a\nb\r\n--socket=/etc/passwd\t\x1b[2J\u202e\u2028",
    "of-length": "/" + "x" * 1023,
}
"""Values of claims, by cluster. 1,024 characters are what Open Cluster Management lets through."""


async def test_what_clusters_claim_reaches_their_apps_letter_by_letter(hub_server: Server, nats_server: NatsServer) -> None:
    async with hub_federation(hub_server, nats_server, {cluster: {"data": value} for cluster, value in HOSTILE.items()}) as it:
        told = it.directory / "told"
        told.mkdir()
        run = await it.apply(server={"rounds": 1, "minAvailableClients": 3}, rounds={"evaluate": False}, config={"tell": str(told)})
        await it.until_phase("tiny", "Completed")
        heard = {file.name: json.loads(file.read_text()) for file in told.iterdir()}
        facts = await it.facts(run)
        await gone(it, run)

    assert heard == HOSTILE
    assert (len(contributed(facts)), declined(facts)) == (4, set())
    assert [type(fact) for fact in facts if isinstance(fact, Submitted)] == [Submitted]
