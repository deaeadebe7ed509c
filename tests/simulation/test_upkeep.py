"""What is done to a hub's objects, one effect at a time: safe to repeat, and never to an object of another run."""

from collections.abc import Mapping

import pytest
from hub_story import ask, decided
from work_story import learning, now

from fedplane.runtime.errors import NotFound
from fedplane.runtime.kinds import FEDERATED_LEARNING, MANIFEST_WORK, PLACEMENT_DECISION
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Change, ChangeType, Kind, Object
from fedplane.scheduler.intake import Effect, Hold, Publish, Release, Seen
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.upkeep import Upkeep
from fedplane.scheduler.wishes import FINALIZER, Wish, wish
from fedplane.scheduler.works import work
from fedplane.schemas.models import Chosen


class Unserved(MemoryCluster):
    """A server that knows no works."""

    async def all(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        if kind == MANIFEST_WORK:
            raise NotFound("there is no such kind")
        return await super().all(kind, namespace, labels)


class Hand:
    """A scheduler's hand on a hub of which it has seen nothing but some clusters."""

    def __init__(self, hub: MemoryCluster, *clusters: str) -> None:
        self.seen = Seen()
        self._upkeep = Upkeep(MemoryBus().log, hub, self.seen, now)
        for name in clusters:
            self.seen.overview.see(Change(ChangeType.ADDED, {"kind": "ManagedCluster", "metadata": {"name": name}}))

    async def failures(self, effect: Effect) -> int:
        """Do it; how many attempts at it have failed in a row."""
        await self._upkeep(effect)
        return self.seen.tried[effect.what].failures


async def held(hub: MemoryCluster, name: str = "r") -> Wish:
    """An object that has our finalizer."""
    await ask(hub, name)
    await Hand(hub).failures(Hold(wish(await found(hub, name))))
    return wish(await found(hub, name))


async def found(hub: MemoryCluster, name: str = "r") -> Object:
    body = await hub.get(FEDERATED_LEARNING, name, "default")
    assert body is not None
    return body


async def test_an_object_waits_for_works_that_this_scheduler_has_not_seen() -> None:
    hub = MemoryCluster()
    wanted, hand = await held(hub), Hand(hub)
    body = work(wanted.run, learning(), Chosen(cluster="a", score=0, terms=()), Outfit("ours:1", "nats://hub:4222"))
    await hub.create(MANIFEST_WORK, body)

    failures = [await hand.failures(Release(wanted))]
    before = wish(await found(hub)).finalizers
    await hub.delete(MANIFEST_WORK, wanted.run, "a")
    failures.append(await hand.failures(Release(wanted)))

    assert (failures, before, wish(await found(hub)).finalizers) == ([1, 0], (FINALIZER,), ())


@pytest.mark.parametrize(("clusters", "failures", "finalizers"), [((), 0, ()), (("a",), 1, (FINALIZER,))])
async def test_a_hub_that_serves_no_works_has_none_unless_it_has_clusters(
    clusters: tuple[str, ...], failures: int, finalizers: tuple[str, ...]
) -> None:
    hub = Unserved()
    wanted, hand = await held(hub), Hand(hub, *clusters)

    assert (await hand.failures(Release(wanted)), wish(await found(hub)).finalizers) == (failures, finalizers)


async def test_an_object_that_was_made_anew_under_the_name_is_not_let_go() -> None:
    hub = MemoryCluster()
    first, hand = await held(hub), Hand(hub)
    await hub.merge(FEDERATED_LEARNING, "r", {"metadata": {"finalizers": []}}, "default")
    await hub.delete(FEDERATED_LEARNING, "r", "default")
    second = await held(hub)

    assert (await hand.failures(Release(first)), wish(await found(hub))) == (0, second)


async def test_decisions_that_are_too_many_go() -> None:
    hub, names = MemoryCluster(), tuple(f"c{number:03}" for number in range(101))
    wanted, hand = await held(hub), Hand(hub, *names)

    failures = [await hand.failures(Publish(wanted, names))]
    all_ = await decided(hub), len(await hub.all(PLACEMENT_DECISION))
    failures.append(await hand.failures(Publish(wanted, names[:1])))

    assert (failures, all_) == ([0, 0], (list(names), 2))
    assert (await decided(hub), len(await hub.all(PLACEMENT_DECISION))) == (["c000"], 1)


async def test_a_name_that_is_no_label_is_not_shown() -> None:
    hub = MemoryCluster()
    wanted, hand = await held(hub, "a.b"), Hand(hub, "a")

    assert (await hand.failures(Publish(wanted, ("a",))), await hub.all(PLACEMENT_DECISION)) == (1, [])
