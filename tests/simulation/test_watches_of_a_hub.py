"""What a scheduler does on a hub that does not serve, or does not show, everything that it would like to see."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import pytest
from hub_story import ask, enlist, make_set, once, said, tending
from work_story import begin, learning, now, scheduler, until_works, works

from fedplane.runtime.errors import ApiDenied, ApiError, NotFound
from fedplane.runtime.kinds import (
    ADD_ON_PLACEMENT_SCORE,
    FEDERATED_LEARNING,
    MANAGED_CLUSTER,
    MANAGED_CLUSTER_SET,
    MANIFEST_WORK,
    PLACEMENT_DECISION,
)
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Change, Kind
from fedplane.schemas.facts import Cancelled, Scheduled, Submitted

A_WHILE_SECONDS = 0.2
"""Ten ticks of a scheduler: what it wants to do by then, it has done."""


class Guarded(MemoryCluster):
    """A server that answers a watch of some kinds with an error, and counts the watches of each kind."""

    def __init__(self, refused: Mapping[Kind, ApiError] | None = None) -> None:
        super().__init__()
        self.refused = refused or {}
        self.watches: Counter[str] = Counter()

    async def watch(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
        self.watches[kind.plural] += 1
        if kind in self.refused:
            raise self.refused[kind]
        async for change in super().watch(kind, namespace, labels):
            yield change


async def hub_of_one(refused: Mapping[Kind, ApiError] | None = None) -> Guarded:
    hub = Guarded(refused)
    await make_set(hub)
    await enlist(hub, "a")
    return hub


async def test_each_kind_is_watched_once_whoever_needs_it() -> None:
    bus, hub = MemoryBus(), await hub_of_one()
    async with tending(bus.log, hub):
        await until_works(hub, ("a", await ask(hub)))

    kinds = [
        "addonplacementscores", "federatedlearnings", "jobs", "managedclusters", "managedclustersetbindings", "managedclustersets",
        "manifestworks", "placementdecisions",
    ]  # fmt: skip
    assert hub.watches == dict.fromkeys(kinds, 1)


async def test_a_kind_that_placements_need_and_the_hub_does_not_serve_has_no_objects() -> None:
    bus, hub = MemoryBus(), await hub_of_one(dict.fromkeys((ADD_ON_PLACEMENT_SCORE, PLACEMENT_DECISION), NotFound("no such kind")))
    async with tending(bus.log, hub):
        placed = await once(bus.log, await ask(hub), Scheduled)

    assert [chosen.cluster for chosen in placed.participants] == ["a"]


@pytest.mark.parametrize("kind", [MANAGED_CLUSTER, MANAGED_CLUSTER_SET, ADD_ON_PLACEMENT_SCORE], ids=lambda kind: kind.plural)
async def test_nothing_is_placed_while_a_kind_that_placements_need_may_not_be_seen(kind: Kind) -> None:
    bus, hub = MemoryBus(), await hub_of_one({kind: ApiDenied("not yours")})
    async with tending(bus.log, hub):
        run = await ask(hub)
        await once(bus.log, run, Submitted)
        await asyncio.sleep(A_WHILE_SECONDS)

    assert await said(bus.log, run, Scheduled) == []


@pytest.mark.parametrize("error", [NotFound("no such kind"), ApiDenied("not yours")], ids=["not served", "not shown"])
async def test_no_run_is_cancelled_while_objects_that_ask_for_runs_cannot_be_seen(error: ApiError) -> None:
    bus, hub = MemoryBus(), await hub_of_one({FEDERATED_LEARNING: error})
    await bus.log.state(Submitted(run="r-1", at=now(), resource=learning(), from_hub=True))
    async with tending(bus.log, hub):
        await asyncio.sleep(A_WHILE_SECONDS)

    assert await said(bus.log, "r-1", Cancelled) == []


@pytest.mark.parametrize("error", [NotFound("no such kind"), ApiDenied("not yours")], ids=["not served", "not shown"])
@pytest.mark.parametrize("kind", [MANAGED_CLUSTER, MANIFEST_WORK], ids=lambda kind: kind.plural)
async def test_no_work_is_sent_or_removed_while_works_or_clusters_cannot_be_seen(kind: Kind, error: ApiError) -> None:
    bus, hub = MemoryBus(), await hub_of_one()
    async with scheduler(bus.log, hub):
        await begin(bus.log, "sent", "a")
        await until_works(hub, ("a", "sent"))
    hub.refused = {kind: error}
    async with scheduler(bus.log, hub):
        await begin(bus.log, "unsent", "a")
        await asyncio.sleep(A_WHILE_SECONDS)

    assert await works(hub) == [("a", "sent")]
