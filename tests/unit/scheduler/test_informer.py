"""What everyone here is told of a kind of objects, whatever becomes of the watch."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from structlog.testing import capture_logs
from work_story import alive, until

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, NotFound
from fedplane.runtime.kinds import MANAGED_CLUSTER
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Change, Kind
from fedplane.scheduler.informer import Informer, Knowledge


class Fickle(MemoryCluster):
    """A server that refuses some watches to begin with, and whose watches end with an error, or are none, at the test's wish."""

    def __init__(self, *refusals: ApiError) -> None:
        super().__init__()
        self.refusals = list(refusals)
        self.refusing: ApiError | None = None
        self.watches = 0
        self._ends: asyncio.Queue[ApiError] = asyncio.Queue()

    def refuse(self, error: ApiError) -> None:
        """End the watch there is, and begin none."""
        self.refusing = error
        self._ends.put_nowait(error)

    async def watch(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
        self.watches += 1
        if self.refusals or self.refusing:
            raise self.refusing or self.refusals.pop(0)
        changes, end = super().watch(kind, namespace, labels), asyncio.ensure_future(self._ends.get())
        while True:
            change = asyncio.ensure_future(anext(changes))
            await asyncio.wait([change, end], return_when=asyncio.FIRST_COMPLETED)
            if not change.done():
                change.cancel()
                raise end.result()
            yield change.result()


class Listener:
    """Someone who is told. `heard` is what was said, an object by its name and a change of knowledge as itself."""

    def __init__(self, informer: Informer) -> None:
        self.heard: list[object] = []
        informer.tell(
            lambda change: self.heard.append((change.type.value, change.object["metadata"]["name"])),
            lambda: self.heard.append(informer.knowledge),
        )

    async def hears(self, *expected: object) -> None:
        async def look() -> list[object]:
            return self.heard[: len(expected)]

        await until(look, list(expected))
        del self.heard[: len(expected)]


async def join(hub: MemoryCluster, *names: str) -> None:
    for name in names:
        await hub.create(MANAGED_CLUSTER, {"metadata": {"name": name}})


def informer_of(hub: MemoryCluster) -> Informer:
    return Informer(hub, MANAGED_CLUSTER, again_seconds=0)


async def test_everyone_is_told_of_everything_by_one_watch_and_who_comes_late_of_what_there_is() -> None:
    hub = Fickle()
    await join(hub, "a", "b")
    informer = informer_of(hub)
    first, second = Listener(informer), Listener(informer)
    async with alive(informer.run()):
        for listener in (first, second):
            await listener.hears(Knowledge.PARTIAL, ("ADDED", "a"), ("ADDED", "b"), Knowledge.COMPLETE)
        await hub.delete(MANAGED_CLUSTER, "a")
        await first.hears(("DELETED", "a"))
        late = Listener(informer)
        await hub.merge(MANAGED_CLUSTER, "b", {"metadata": {"labels": {"x": "y"}}})
        await late.hears(("ADDED", "b"), Knowledge.COMPLETE, ("MODIFIED", "b"))

    assert (hub.watches, first.heard, second.heard) == (1, [("MODIFIED", "b")], [("DELETED", "a"), ("MODIFIED", "b")])


async def test_a_new_watch_tells_only_what_has_changed_since_the_last_one() -> None:
    hub = Fickle()
    await join(hub, "gone", "stays", "changes", "is-another")
    informer = informer_of(hub)
    listener = Listener(informer)
    async with alive(informer.run()):
        await listener.hears(
            Knowledge.PARTIAL, *(("ADDED", name) for name in ("changes", "gone", "is-another", "stays")), Knowledge.COMPLETE
        )
        hub.refuse(ApiDenied("no"))
        await listener.hears(Knowledge.PARTIAL)
        await hub.delete(MANAGED_CLUSTER, "gone")
        await hub.delete(MANAGED_CLUSTER, "is-another")
        await join(hub, "comes", "is-another")
        await hub.merge(MANAGED_CLUSTER, "changes", {"metadata": {"labels": {"x": "y"}}})
        hub.refusing = None
        await listener.hears(
            ("MODIFIED", "changes"), ("ADDED", "comes"), ("DELETED", "is-another"), ("ADDED", "is-another"),
            ("DELETED", "gone"), Knowledge.COMPLETE,
        )  # fmt: skip

    assert listener.heard == []


GRANT = (
    "clusters get no work, and no run is placed; grant the scheduler get, list and watch on managedclusters, as deploy/base/rbac.yaml does"
)
MISSING = "the hub has no such kind; is Open Cluster Management installed there?"
AWAY = "the hub is not reached, will try again"


@pytest.mark.parametrize(
    ("error", "knowledge", "said", "level"),
    [
        (ApiDenied("x"), [Knowledge.PARTIAL, Knowledge.COMPLETE], GRANT, "error"),
        (NotFound("x"), [Knowledge.PARTIAL, Knowledge.UNSERVED, Knowledge.COMPLETE], MISSING, "warning"),
        (ApiUnreachable("x"), [Knowledge.PARTIAL, Knowledge.COMPLETE], AWAY, "warning"),
    ],
    ids=["denied", "no such kind", "away"],
)
async def test_a_watch_that_is_refused_says_so_and_is_begun_again(
    error: ApiError, knowledge: list[Knowledge], said: str, level: str
) -> None:
    with capture_logs() as lines:
        informer = informer_of(Fickle(error))
        listener = Listener(informer)
        async with alive(informer.run()):
            await listener.hears(*knowledge)

    assert lines == [{"event": said, "error": "x", "kind": "managedclusters", "log_level": level}]


async def test_what_may_be_seen_no_longer_is_not_forgotten_and_no_longer_complete() -> None:
    hub = Fickle()
    await join(hub, "a")
    informer = Informer(hub, MANAGED_CLUSTER, again_seconds=60)
    listener = Listener(informer)
    async with alive(informer.run()):
        await listener.hears(Knowledge.PARTIAL, ("ADDED", "a"), Knowledge.COMPLETE)
        hub.refuse(ApiDenied("no"))
        await listener.hears(Knowledge.PARTIAL)

    assert listener.heard == []


async def test_an_error_that_is_none_of_the_hubs_moods_is_raised() -> None:
    informer = informer_of(Fickle(ApiError("there are more than 100000 objects")))

    with pytest.raises(ApiError, match="more than 100000"):
        await informer.run()
