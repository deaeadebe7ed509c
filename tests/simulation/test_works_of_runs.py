"""Works appear on a hub, and go, as runs begin and end, clusters leave, schedulers die and the hub is away."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from work_story import OUTFIT, begin, declined, invite, join, learning, now, report, scheduler, status, until, until_works, works

from fedplane.runtime.kinds import MANAGED_CLUSTER, MANIFEST_WORK
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.scheduler.delivering import Delivering
from fedplane.scheduler.sending import Remove, Send, Sending
from fedplane.scheduler.works import work
from fedplane.schemas.facts import Archived, Cancelled, Completed, Declined, Failed
from fedplane.schemas.models import Chosen, Model, Piece

NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)
EVERY_END = [
    Completed(at=now(), run="r-1", model=MODEL, metrics={}),
    Failed(at=now(), run="r-1", reason="x", message="y"),
    Cancelled(at=now(), run="r-1"),
    Archived(at=now(), run="r-1", facts=2, piece=NOTHING),
]


@pytest.mark.parametrize("end", EVERY_END, ids=lambda end: type(end).__name__)
async def test_works_come_with_a_run_and_go_with_its_end(end):
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b", "idle")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-1", "a", "b", "standalone")
        await begin(bus.log, "r-2", "b")
        await until_works(hub, ("a", "r-1"), ("b", "r-1"), ("b", "r-2"))
        sent = await hub.get(MANIFEST_WORK, "r-1", "a")

        await bus.log.state(end)
        await until_works(hub, ("b", "r-2"))

    expected = work("r-1", learning(), Chosen(cluster="a", score=0, terms=(), data="/data/a"), OUTFIT)
    assert sent["spec"] == expected["spec"]
    assert sent["metadata"].items() >= expected["metadata"].items()


async def test_a_fresh_scheduler_finds_what_is_left_over_and_what_is_missing_and_touches_nothing_else():
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "over", "a")
        await begin(bus.log, "live", "a", "b")
        await until_works(hub, ("a", "over"), ("a", "live"), ("b", "live"))
    foreign = await hub.create(MANIFEST_WORK, {"metadata": {"name": "mine", "namespace": "a"}, "spec": {}})
    kept = await hub.get(MANIFEST_WORK, "live", "a")
    await hub.delete(MANIFEST_WORK, "live", "b")
    await bus.log.state(Cancelled(at=now(), run="over"))

    async with scheduler(bus.log, hub):
        await until_works(hub, ("a", "live"), ("b", "live"))

    assert await hub.get(MANIFEST_WORK, "mine", "a") == foreign
    assert await hub.get(MANIFEST_WORK, "live", "a") == kept


async def test_two_schedulers_write_each_work_once():
    bus, hub = MemoryBus(), MemoryCluster()
    clusters = [f"c{number}" for number in range(20)]
    await join(hub, *clusters)
    async with AsyncExitStack() as both:
        for _ in range(2):
            await both.enter_async_context(scheduler(bus.log, hub))
        await begin(bus.log, "r-1", *clusters)
        await until_works(hub, *((cluster, "r-1") for cluster in clusters))
        await asyncio.sleep(0.2)
        written = {each["metadata"]["generation"] for each in await hub.all(MANIFEST_WORK)}
        versions = [int(each["metadata"]["resourceVersion"]) for each in await hub.all(MANIFEST_WORK)]
        await bus.log.state(Cancelled(at=now(), run="r-1"))
        await until_works(hub)

    assert written == {1}
    assert max(versions) - min(versions) == len(clusters) - 1


async def test_a_cluster_that_leaves_loses_its_work_and_declines():
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-1", "a", "b")
        await until_works(hub, ("a", "r-1"), ("b", "r-1"))
        await hub.delete(MANAGED_CLUSTER, "a")
        await until_works(hub, ("b", "r-1"))

        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")
        await join(hub, "a")
        await until_works(hub, ("a", "r-1"), ("b", "r-1"))

    assert (fact.reason, fact.message) == ("left", "the cluster has left the hub, or the hub accepts it no longer")


TROUBLES = {
    "its Job fails": (
        status(failed=4, failedReason="BackoffLimitExceeded", failedMessage="Job has reached the specified backoff limit"),
        ("failed", "the work has failed on the cluster: Job has reached the specified backoff limit"),
    ),
    "its image cannot be pulled": (
        status(active=1, ready=0),
        (
            "not-started",
            "no pod of the work was ready for 0.5 s; look there with: kubectl -n fedplane-collaborator describe pods -l job-name=r-1",
        ),
    ),
    "the add-on is missing there": (
        status(applied=False, message='namespaces "fedplane-collaborator" not found'),
        ("not-applied", 'the cluster did not take the work for 0.2 s: namespaces "fedplane-collaborator" not found'),
    ),
    "its agent is away": (
        {},
        ("unreachable", "the cluster's agent has not reported for 0.5 s that it has the work; is the cluster available?"),
    ),
    "its collaborator ended too early": (status(succeeded=1), ("ended", "the work has ended on the cluster before its run")),
}


@pytest.mark.parametrize(("reported", "said"), TROUBLES.values(), ids=TROUBLES)
async def test_a_cluster_declines_when(reported, said):
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-1", "a", "b")
        await until_works(hub, ("a", "r-1"), ("b", "r-1"))
        await report(hub, "b", "r-1", status(active=1, ready=1))
        await report(hub, "a", "r-1", reported)
        for cluster in ("a", "b"):
            await invite(bus.log, "r-1", cluster)
        facts = [await declined(bus.log, "r-1", "a")]
        await invite(bus.log, "r-1", "a", 1)
        facts.append(await declined(bus.log, "r-1", "a", 1))

    assert [(fact.reason, fact.message) for fact in facts] == [said, said]
    assert {record.fact.cluster for record in bus.log.records if isinstance(record.fact, Declined)} == {"a"}


async def test_a_run_that_nothing_can_be_sent_for_is_declined_with_what_to_change():
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-1", "a", resource=learning(client={}))
        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")

    assert fact.reason == "not-sent"
    assert fact.message.endswith(": spec.client.image names no image, and a cluster of a hub has no other way to get the app")


async def test_a_hub_that_is_away_is_waited_for_and_its_clusters_decline_meanwhile():
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-0", "a")
        await until_works(hub, ("a", "r-0"))
        await hub.reach(False)
        await begin(bus.log, "r-1", "a")
        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")
        await bus.log.state(Cancelled(at=now(), run="r-0"))
        await hub.reach(True)
        await until_works(hub, ("a", "r-1"))

    assert (fact.reason, fact.message) == ("not-sent", "the work could not be put on the hub for 0.5 s: no API server answers")


async def test_a_scheduler_that_has_fallen_behind_removes_no_work_of_a_live_run_and_sends_none_of_a_dead_one():
    bus, hub = MemoryBus(), MemoryCluster()
    late = Delivering(bus.log, hub, OUTFIT, Sending(), lambda: datetime.now(UTC))
    await join(hub, "a")
    await begin(bus.log, "live", "a")
    await begin(bus.log, "dead", "a")
    await bus.log.state(Cancelled(at=now(), run="dead"))
    chosen = Chosen(cluster="a", score=0, terms=())

    await late(Send("live", learning(), chosen))
    await late(Send("dead", learning(), chosen))
    await late(Send("unheard-of", learning(), chosen))
    uid = (await hub.get(MANIFEST_WORK, "live", "a"))["metadata"]["uid"]
    await late(Remove("live", "a", uid, wanted=False))
    kept = await works(hub)
    await late(Remove("live", "a", "another", wanted=True))
    kept_too = await works(hub)
    await late(Remove("live", "a", uid, wanted=True))

    assert (kept, kept_too, await works(hub)) == ([("a", "live")], [("a", "live")], [])


async def test_a_work_that_its_cluster_has_yet_to_clean_up_is_deleted_once_and_made_anew_if_it_is_wanted_again():
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    async with scheduler(bus.log, hub):
        await begin(bus.log, "r-1", "a")
        await until_works(hub, ("a", "r-1"))
        await hub.merge(MANIFEST_WORK, "r-1", {"metadata": {"finalizers": ["agent/cleanup"]}}, "a")
        await hub.merge(MANAGED_CLUSTER, "a", {"spec": {"hubAcceptsClient": False}})

        async def leaving():
            return "deletionTimestamp" in (await hub.get(MANIFEST_WORK, "r-1", "a"))["metadata"]

        await until(leaving, True)
        old = await hub.get(MANIFEST_WORK, "r-1", "a")
        await asyncio.sleep(0.1)
        assert await hub.get(MANIFEST_WORK, "r-1", "a") == old

        await hub.merge(MANAGED_CLUSTER, "a", {"spec": {"hubAcceptsClient": True}})
        await hub.merge(MANIFEST_WORK, "r-1", {"metadata": {"finalizers": None}}, "a")
        await until_works(hub, ("a", "r-1"))

    assert (await hub.get(MANIFEST_WORK, "r-1", "a"))["metadata"]["uid"] != old["metadata"]["uid"]
