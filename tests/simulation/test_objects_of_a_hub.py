"""Objects on a hub become runs, and everything goes with them: submitted, edited, deleted, made anew, with schedulers that come and go."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hub_story import ask, decided, edit, enlist, having, health, make_set, once, said, tending, until_gone
from work_story import now, until, until_works

from fedplane.runtime.kinds import (
    FEDERATED_LEARNING,
    MANAGED_CLUSTER,
    MANIFEST_WORK,
    PLACEMENT,
    PLACEMENT_DECISION,
)
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.scheduler.intake import Hold, Look, Release, Seen
from fedplane.scheduler.publishing import SCHEDULING_DISABLED
from fedplane.scheduler.upkeep import Upkeep
from fedplane.scheduler.wishes import FINALIZER, wish
from fedplane.schemas.facts import Advertised, Cancelled, Completed, EditRefused, Failed, RunFact, Scheduled, Submitted, Waiting
from fedplane.schemas.models import Model, Piece
from fedplane.schemas.resources import FederatedLearning

NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)


async def hub_with(*clusters: str) -> tuple[MemoryBus, MemoryCluster]:
    bus, hub = MemoryBus(), MemoryCluster()
    await make_set(hub)
    await enlist(hub, *clusters)
    return bus, hub


async def test_an_object_becomes_a_run_on_the_hubs_clusters_and_the_hub_shows_which():
    bus, hub = await hub_with("b", "a")
    async with tending(bus.log, hub):
        run = await ask(hub)
        placed = await once(bus.log, run, Scheduled)
        await until_works(hub, ("a", run), ("b", run))
        await until(lambda: decided(hub), ["a", "b"])
        placement = await hub.get(PLACEMENT, "r", "default")
        body = await hub.get(FEDERATED_LEARNING, "r", "default")
        submitted = await once(bus.log, run, Submitted)

    assert [(chosen.cluster, chosen.data) for chosen in placed.participants] == [("a", "/data/a"), ("b", "/data/b")]
    assert (submitted.from_hub, submitted.invalid, submitted.resource.metadata.uid) == (True, "", body["metadata"]["uid"])
    assert body["metadata"]["finalizers"] == [FINALIZER]
    assert placement["metadata"]["annotations"] == {SCHEDULING_DISABLED: "true"}
    assert placement["status"] == {"numberOfSelectedClusters": 2}
    assert [owner["uid"] for owner in placement["metadata"]["ownerReferences"]] == [body["metadata"]["uid"]]


async def test_deleting_the_object_cancels_its_run_and_lets_it_go_when_nothing_is_left():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        run = await ask(hub)
        await until_works(hub, ("a", run))
        await until(lambda: decided(hub), ["a"])
        await hub.merge(MANIFEST_WORK, run, {"metadata": {"finalizers": ["agent/cleanup"]}}, "a")
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        cancelled = await once(bus.log, run, Cancelled)

        await asyncio.sleep(0.2)
        held = await hub.get(FEDERATED_LEARNING, "r", "default")
        await hub.merge(MANIFEST_WORK, run, {"metadata": {"finalizers": []}}, "a")
        await until_gone(hub)
        left = [await hub.all(kind) for kind in (PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)]

    assert cancelled.message == "the object default/r was deleted"
    assert held["metadata"]["finalizers"] == [FINALIZER]
    assert left == [[], [], []]


async def test_a_run_that_has_ended_leaves_its_object_until_that_is_deleted():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        run = await ask(hub)
        await until_works(hub, ("a", run))
        await bus.log.state(Completed(run=run, at=now(), model=MODEL, metrics={}))
        await until_works(hub)
        shown = await decided(hub)
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until_gone(hub)

    assert shown == ["a"]
    assert await said(bus.log, run, Cancelled) == []


async def test_an_edit_that_matters_is_refused_once_for_each_generation_and_the_run_goes_on():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        run = await ask(hub, server={"rounds": 5})
        await once(bus.log, run, Scheduled)
        await edit(hub, "r", server={"minAvailableClients": 1})  # the default, written out
        await hub.merge(FEDERATED_LEARNING, "r", {"metadata": {"labels": {"team": "x"}}}, "default")
        await edit(hub, "r", server={"rounds": 7})
        first = await once(bus.log, run, EditRefused)
        await edit(hub, "r", server={"rounds": "many"})
        await until(lambda: count(bus, run, EditRefused), 2)
        second = (await said(bus.log, run, EditRefused))[1]
        ended = await said(bus.log, run, Cancelled)

    assert (first.generation, second.generation, ended) == (3, 4, [])
    assert first.message == (
        "the run goes on as it was asked for: spec.server.rounds is 5 and not 7. To run with the edit, delete the object and make it anew"
    )
    assert "spec.server.rounds: Input should be a valid integer" in second.message


async def count(bus: MemoryBus, run: str, kind: type[RunFact]) -> int:
    return len(await said(bus.log, run, kind))


async def test_an_object_that_is_made_anew_under_its_name_is_another_run():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        first = await ask(hub, server={"rounds": 1})
        await until_works(hub, ("a", first))
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until_gone(hub)
        second = await ask(hub, server={"rounds": 2})
        await until_works(hub, ("a", second))
        await until(lambda: decided(hub), ["a"])
        labels = (await hub.get(PLACEMENT, "r", "default"))["metadata"]["labels"]

    assert first != second
    assert labels["fedplane.io/run"] == second


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"server": {"rounds": 0}}, "spec.server.rounds: Input should be greater than or equal to 1 (got 0)"),
        ({"servr": {}}, "spec.servr: is not a field of this resource"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "'lots' is no Kubernetes quantity"),
        ({"config": {"note": "\ud800"}}, "the object cannot be written down"),
        ({"server": {"image": "x" * 1_000_000}}, "bytes, and what asks for a run may have"),
        ({"framework": "tensorflow"}, "'tensorflow'; known frameworks are flower, openfl, other, torch, sklearn, xgboost"),
        (
            {"server": {"minAvailableClients": 3}, "client": {"placement": {"numberOfClusters": 2}}},
            "spec.client.placement.numberOfClusters is 2, fewer than spec.server.minAvailableClients, which is 3",
        ),
    ],
)
async def test_an_object_that_cannot_be_a_run_fails_with_the_reason_and_others_go_on(spec: dict[str, Any], reason: str):
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        bad = await ask(hub, "bad.one", **spec)
        good = await ask(hub, "good")
        failed = await once(bus.log, bad, Failed)
        await once(bus.log, good, Scheduled)
        await hub.delete(FEDERATED_LEARNING, "bad.one", "default")
        await until_gone(hub, "bad.one")

    assert failed.reason == "BadRequest"
    assert reason in failed.message
    assert await said(bus.log, bad, Scheduled) == []


async def test_a_name_with_dots_or_of_253_characters_makes_a_run():
    bus, hub = await hub_with("a")
    names = ["a.b-c.d", ".".join(["n" * 60] * 4) + ".xyz.abcd"]
    async with tending(bus.log, hub):
        runs = [await ask(hub, name) for name in names]
        for run in runs:
            await until_works_include(hub, ("a", run))
        for name in names:
            await hub.delete(FEDERATED_LEARNING, name, "default")
            await until_gone(hub, name)

    assert [len(name) for name in names] == [7, 252]


async def until_works_include(hub: MemoryCluster, place: tuple[str, str]) -> None:
    async def there() -> bool:
        return await hub.get(MANIFEST_WORK, place[1], place[0]) is not None

    await until(there, True)


async def test_two_schedulers_submit_and_place_each_object_once_and_write_nothing_in_turn():
    bus, hub = await hub_with("a", "b", "c")
    async with AsyncExitStack() as both:
        for _ in range(2):
            await both.enter_async_context(tending(bus.log, hub))
        runs = [await ask(hub, f"r{number}") for number in range(5)]
        await until_works(hub, *((cluster, run) for cluster in "abc" for run in runs))
        for number in range(5):
            await until(lambda name=f"r{number}": decided(hub, name), ["a", "b", "c"])
        await asyncio.sleep(0.3)
        before = await versions(hub)
        await asyncio.sleep(1.2)
        after = await versions(hub)
        for number in range(5):
            await hub.delete(FEDERATED_LEARNING, f"r{number}", "default")
        for number in range(5):
            await until_gone(hub, f"r{number}")

    assert before == after
    assert [len(await said(bus.log, run, Scheduled)) for run in runs] == [1] * 5
    assert [len(await said(bus.log, run, Cancelled)) for run in runs] == [1] * 5


async def versions(hub: MemoryCluster) -> list[str]:
    kinds = (FEDERATED_LEARNING, PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)
    return [body["metadata"]["resourceVersion"] for kind in kinds for body in await hub.all(kind)]


async def test_the_life_of_an_object_goes_on_wherever_the_scheduler_was_killed():
    """A scheduler is killed after so many milliseconds, again and again, through a whole life."""
    bus, hub = await hub_with("a", "b")
    run = await ask(hub)

    async def killed_often_until(reached: Any) -> int:
        for kills, milliseconds in enumerate([*range(0, 60, 3), *[1000] * 10]):
            if await reached():
                return kills
            async with tending(bus.log, hub):
                await asyncio.sleep(milliseconds / 1000)
        raise AssertionError("not reached")

    async def shown() -> bool:
        return await decided(hub) == ["a", "b"] and len(await hub.all(MANIFEST_WORK)) == 2

    async def gone() -> bool:
        return await hub.get(FEDERATED_LEARNING, "r", "default") is None

    begun = await killed_often_until(shown)
    await hub.delete(FEDERATED_LEARNING, "r", "default")
    ended = await killed_often_until(gone)

    assert min(begun, ended) >= 2
    assert [len(await said(bus.log, run, kind)) for kind in (Submitted, Scheduled, Cancelled)] == [1, 1, 1]
    assert [await hub.all(kind) for kind in (PLACEMENT, PLACEMENT_DECISION, MANIFEST_WORK)] == [[], [], []]


async def test_what_was_deleted_while_nobody_watched_is_cancelled_and_what_the_command_line_asked_for_is_not():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        run = await ask(hub)
        await once(bus.log, run, Scheduled)
    await hub.merge(FEDERATED_LEARNING, "r", {"metadata": {"finalizers": []}}, "default")  # by somebody who could not wait
    await hub.delete(FEDERATED_LEARNING, "r", "default")
    document = {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning"}
    elsewhere = FederatedLearning.model_validate({**document, "metadata": {"name": "r", "uid": "77777777"}})
    await bus.log.state(Submitted(run="r-77777777", at=now(), resource=elsewhere))
    other = elsewhere.model_copy(update={"metadata": elsewhere.metadata.model_copy(update={"namespace": "other"})})
    await bus.log.state(Submitted(run="other-1", at=now(), resource=other, from_hub=True))

    async with tending(bus.log, hub, namespace="default"):
        cancelled = await once(bus.log, run, Cancelled)
        await until_works(hub)

    assert cancelled.message == "the object default/r is gone"
    assert await said(bus.log, "r-77777777", Cancelled) == []
    assert await said(bus.log, "other-1", Cancelled) == []


async def test_an_object_whose_status_says_that_its_run_has_ended_is_not_run_again_after_the_log_forgot_it():
    bus, hub = await hub_with("a")
    run = await ask(hub)
    await hub.merge(FEDERATED_LEARNING, "r", {"status": {"run": run, "phase": "Completed"}}, "default", subresource="status")
    async with tending(bus.log, hub):
        other = await ask(hub, "other")
        await once(bus.log, other, Scheduled)

    assert await said(bus.log, run, Submitted) == []


async def test_the_hubs_clusters_are_the_fleet_and_say_why_they_are_not_available():
    bus, hub = await hub_with("a")
    await enlist(hub, "unknown", answer="Unknown")
    await enlist(hub, "sick", answer="False")
    await enlist(hub, "stranger", accepted=False)
    async with tending(bus.log, hub):
        run = await ask(hub, server={"minAvailableClients": 2})
        waiting = await once(bus.log, run, Waiting)
        await hub.delete(MANAGED_CLUSTER, "a")
        await until(lambda: told(bus, "a"), "has left the hub")
        await enlist(hub, "b", "c")
        placed = await once(bus.log, run, Scheduled)

    assert {(refused.cluster, refused.reason) for refused in waiting.refused} <= {
        ("unknown", "availability"),
        ("sick", "availability"),
        ("stranger", "availability"),
    }
    assert [chosen.cluster for chosen in placed.participants] == ["b", "c"]
    assert await told(bus, "unknown") == "has stopped reporting to the hub; is its agent running?"
    assert await told(bus, "stranger") == "is not accepted by the hub; set spec.hubAcceptsClient of its ManagedCluster"


async def told(bus: MemoryBus, cluster: str) -> str | None:
    record = await bus.log.read(Advertised.pattern(cluster=cluster))
    return record.fact.unavailable if record and isinstance(record.fact, Advertised) else None


async def test_a_cluster_that_claims_more_than_an_advertisement_may_say_is_left_out_until_it_claims_less():
    bus, hub = await hub_with("a", "b")

    async def is_heard() -> bool:
        return await bus.log.read(Advertised.pattern(cluster="a")) is not None

    await hub.merge(MANAGED_CLUSTER, "a", {"status": health(data="/data/a", note="x" * Advertised.bytes_max)}, subresource="status")
    async with tending(bus.log, hub):
        placed = await once(bus.log, await ask(hub), Scheduled)
        heard = await is_heard()
        await hub.merge(MANAGED_CLUSTER, "a", {"status": health(data="/data/a")}, subresource="status")
        await until(is_heard, True)
        later = await once(bus.log, await ask(hub, "later"), Scheduled)

    assert [[chosen.cluster for chosen in each.participants] for each in (placed, later)] == [["b"], ["a", "b"]]
    assert not heard


async def test_a_placement_that_the_object_names_decides_who_may_be_chosen():
    bus, hub = await hub_with("a", "b", "c")
    labels = {"cluster.open-cluster-management.io/placement": "gpus"}
    await hub.create(PLACEMENT_DECISION, {"metadata": {"name": "gpus-decision-1", "namespace": "default", "labels": labels}})
    said_by_ocm = {"status": {"decisions": [{"clusterName": "b", "reason": ""}]}}
    await hub.merge(PLACEMENT_DECISION, "gpus-decision-1", said_by_ocm, "default", subresource="status")
    async with tending(bus.log, hub):
        run = await ask(hub, client={"image": "app:1", "placementRef": "gpus"})
        placed = await once(bus.log, run, Scheduled)
        await until_works(hub, ("b", run))

    assert [chosen.cluster for chosen in placed.participants] == ["b"]
    assert await hub.get(PLACEMENT, "r", "default") is None


async def test_a_placement_of_somebody_else_under_the_objects_name_is_left_alone():
    bus, hub = await hub_with("a")
    theirs = await hub.create(PLACEMENT, {"metadata": {"name": "r", "namespace": "default"}, "spec": {"numberOfClusters": 9}})
    async with tending(bus.log, hub):
        run = await ask(hub)
        await until_works(hub, ("a", run))
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until_gone(hub)

    assert await hub.get(PLACEMENT, "r", "default") == theirs


async def test_a_scheduler_that_has_fallen_behind_lets_no_object_of_a_live_run_go_and_finds_none_missing_that_is_there():
    bus, hub = await hub_with("a")
    late = Seen()
    upkeep = Upkeep(bus.log, hub, late, now)
    run = await ask(hub)
    fresh = wish(await hub.get(FEDERATED_LEARNING, "r", "default"))
    await upkeep(Hold(fresh))
    held = await hub.get(FEDERATED_LEARNING, "r", "default")
    await bus.log.state(Submitted(run=run, at=now(), resource=fresh.resource, from_hub=True))

    await upkeep(Release(wish(held)))
    await upkeep(Hold(fresh))  # as it was before: its version has passed
    await upkeep(Look(run, fresh.resource))
    unchanged = await hub.get(FEDERATED_LEARNING, "r", "default")
    missing = set(late.missing)
    await bus.log.state(Cancelled(run=run, at=now()))
    await upkeep(Release(wish(held)))
    await hub.delete(FEDERATED_LEARNING, "r", "default")
    await upkeep(Look(run, fresh.resource))

    assert (unchanged, missing, late.missing) == (held, set(), {run})
    assert [late.tried[what].failures for what in (("release", fresh.uid), ("hold", fresh.uid))] == [0, 1]
    assert await hub.get(FEDERATED_LEARNING, "r", "default") is None


async def test_an_object_waits_until_the_log_has_room_for_a_new_run():
    bus, hub = await hub_with("a")
    bus.log.bytes_max = 1
    async with tending(bus.log, hub):
        run = await ask(hub)
        await until(having(lambda body: body["metadata"].get("finalizers"), hub, "r"), [FINALIZER])
        await asyncio.sleep(0.1)
        before = await said(bus.log, run, Submitted)
        bus.log.bytes_max = 1 << 40
        await once(bus.log, run, Scheduled)

    assert before == []


async def test_the_hub_may_be_away_in_between():
    bus, hub = await hub_with("a")
    async with tending(bus.log, hub):
        run = await ask(hub)
        await once(bus.log, run, Submitted)
        await hub.reach(False)
        await asyncio.sleep(0.1)
        await hub.reach(True)
        hub.compact()
        await until(lambda: decided(hub), ["a"])
        await hub.delete(FEDERATED_LEARNING, "r", "default")
        await until(having(lambda body: len(body["metadata"]["finalizers"]), hub, "r"), None)

    assert len(await said(bus.log, run, Cancelled)) == 1
