"""What only the memory cluster can do: go away and forget, at the wish of a simulation."""

import asyncio
from datetime import UTC, datetime

import pytest

from fedplane.runtime.errors import ApiUnreachable
from fedplane.runtime.kinds import CONFIG_MAP, FEDERATED_LEARNING
from fedplane.runtime.memory_cluster import HISTORY_MAX, MemoryCluster
from fedplane.runtime.objects import Object


def settings(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "here"}}


async def test_while_the_server_is_away_nothing_can_be_done_and_afterwards_everything_is_there() -> None:
    cluster = MemoryCluster()
    await cluster.create(CONFIG_MAP, settings("a"))

    await cluster.reach(False)
    with pytest.raises(ApiUnreachable):
        await cluster.get(CONFIG_MAP, "a", "here")
    with pytest.raises(ApiUnreachable):
        await anext(cluster.watch(CONFIG_MAP))
    await cluster.reach(True)

    assert await cluster.get(CONFIG_MAP, "a", "here") is not None


@pytest.mark.parametrize(("more", "compacted"), [(HISTORY_MAX, False), (0, True)], ids=["too much has happened", "compacted"])
async def test_a_watcher_that_is_too_far_behind_lists_anew_and_says_what_is_gone(more: int, compacted: bool) -> None:
    cluster = MemoryCluster()
    for name in ("a", "b"):
        await cluster.create(CONFIG_MAP, settings(name))
    watch = cluster.watch(CONFIG_MAP)
    assert [(await anext(watch)).type.value for _ in range(3)] == ["ADDED", "ADDED", "SYNCED"]

    await cluster.delete(CONFIG_MAP, "a", "here")
    for number in range(more):
        await cluster.create(FEDERATED_LEARNING, settings(f"run-{number}"))
    await cluster.create(CONFIG_MAP, settings("c"))
    if compacted:
        cluster.compact()

    heard = [await anext(watch) for _ in range(3)]
    assert [(change.type.value, change.object.get("metadata", {}).get("name")) for change in heard] == [
        ("DELETED", "a"), ("ADDED", "c"), ("SYNCED", None),
    ]  # fmt: skip


async def test_a_watcher_hears_nothing_before_something_happens() -> None:
    cluster = MemoryCluster()
    watch = cluster.watch(CONFIG_MAP)
    await anext(watch)
    following = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.01)
    assert not following.done()

    await cluster.create(CONFIG_MAP, settings("a"))

    assert (await asyncio.wait_for(following, 1)).object["metadata"]["name"] == "a"


async def test_what_is_handed_out_is_a_copy_and_the_clock_is_the_simulations() -> None:
    cluster = MemoryCluster(now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    made = await cluster.create(CONFIG_MAP, settings("a"))
    made["metadata"]["name"] = "changed"

    for _ in range(2):
        held = await cluster.get(CONFIG_MAP, "a", "here")
        assert held is not None
        assert (held["metadata"]["name"], held["metadata"]["creationTimestamp"]) == ("a", "2026-01-01T00:00:00Z")
        held["metadata"]["name"] = "changed"
    assert [body["metadata"]["name"] for body in await cluster.all(CONFIG_MAP)] == ["a"]
