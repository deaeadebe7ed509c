"""The scheduler on a hub: objects become runs, managed clusters become the fleet, and placement sees what the hub knows.

Three things go on beside each other, and none waits for another:

    FederatedLearning objects      --> intake      --> `submitted`, `cancelled`, `edit refused`; finalizers, Placements
    ManagedClusters, sets, scores  --> overview    --> what a placement is computed on
    ManagedClusters                --> offers      --> `advertised`

A kind that the hub does not serve has no objects. One that we may not see stops what needs it, with a line that says what to grant:
to place runs without the sets, say, would bring them where their users forbid it.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiUnreachable, BadInput, BusError, NotFound
from fedplane.runtime.kinds import (
    ADD_ON_PLACEMENT_SCORE,
    FEDERATED_LEARNING,
    MANAGED_CLUSTER,
    MANAGED_CLUSTER_SET,
    MANAGED_CLUSTER_SET_BINDING,
    PLACEMENT_DECISION,
)
from fedplane.runtime.objects import Change, ChangeType, Kind, Objects, key_of
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.scheduler.intake import Intake, Runs
from fedplane.scheduler.keeping import Keeping
from fedplane.scheduler.offers import due
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.wishes import wish
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Advertised

__all__ = ["tend"]

SEEN = (MANAGED_CLUSTER, MANAGED_CLUSTER_SET, MANAGED_CLUSTER_SET_BINDING, PLACEMENT_DECISION, ADD_ON_PLACEMENT_SCORE)
"""What placements are computed on."""

WATCH_AGAIN_SECONDS = 10.0
"""After a watch was refused, which took half a minute by itself."""

OFFER_SECONDS = 1.0
"""How often it is looked at which clusters are to be advertised. It is no sooner than somebody else's statement about one is heard."""

STATED_AT_ONCE_MAX = 64
"""As many facts as a replica has on their way at a time."""

PROBLEMS_REMEMBERED_MAX = 1_000
"""How many complaints about objects are remembered, so that each is logged once. Forgetting one costs a line."""


async def tend(log: Log, objects: Objects, core: Intake, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Keep log and hub in step, until cancelled. `core.hub.overview` is what others may read of the hub."""
    tending = _Tending(log, objects, core, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tending.replica.run())
        tasks.create_task(tending.watch(FEDERATED_LEARNING, tending.see_object, core.namespace))
        for kind in SEEN:
            tasks.create_task(tending.watch(kind, tending.see_hub))
        tasks.create_task(tending.listen())
        tasks.create_task(tending.advertise())


class _Tending:
    def __init__(self, log: Log, objects: Objects, core: Intake, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._objects = objects
        self._core = core
        self._clock = clock
        self._synced: set[Kind] = set()
        self._heard: dict[str, Advertised] = {}
        self._told: dict[str, None] = {}
        self._listening = asyncio.Event()
        self._logger = structlog.get_logger()
        self.replica: Replica[Runs] = Replica(core, log, perform=Keeping(log, objects, core.hub, clock), clock=clock)

    @property
    def overview(self) -> Overview:
        """What the hub knows of its clusters."""
        return self._core.hub.overview

    async def watch(self, kind: Kind, see: Callable[[Change], None], namespace: str = "") -> None:
        """Watch for ever. What was seen stays seen until the next watch has told everything anew."""
        seen: dict[tuple[str, str], Change] = {}
        while True:
            before, seen = seen, {}
            try:
                async for change in self._objects.watch(kind, namespace):
                    if change.type is ChangeType.SYNCED:
                        for key in before.keys() - seen.keys():
                            see(Change(ChangeType.DELETED, before[key].object))
                        before = {}
                        self._know(kind, True)
                    else:
                        self._remember(seen, change)
                        see(change)
                    self.replica.wake()
            except ApiUnreachable as error:
                self._logger.warning("the hub is not reached, will try again", kind=kind.plural, error=str(error))
            except ApiDenied as error:
                self._know(kind, False)
                needed = f"grant the scheduler get, list and watch on {kind.plural}, as deploy/base/rbac.yaml does"
                self._logger.error(needed, error=str(error))
            except NotFound as error:
                self._know(kind, kind != FEDERATED_LEARNING)  # nothing is cancelled because our own kind is not served for a moment
                self._logger.warning("the hub has no such kind, hence no such objects", kind=kind.plural, error=str(error))
            seen = {**before, **seen}
            await asyncio.sleep(WATCH_AGAIN_SECONDS)

    def _remember(self, seen: dict[tuple[str, str], Change], change: Change) -> None:
        if change.type is ChangeType.DELETED:
            seen.pop(key_of(change.object), None)
        else:
            seen[key_of(change.object)] = change

    def _know(self, kind: Kind, known: bool) -> None:
        (self._synced.add if known else self._synced.discard)(kind)
        self._core.hub.known = FEDERATED_LEARNING in self._synced
        self.overview.known = self._synced >= set(SEEN)

    def see_object(self, change: Change) -> None:
        """An object that asks for a run."""
        wishes, key = self._core.hub.wishes, key_of(change.object)
        if change.type is ChangeType.DELETED:
            wishes.pop(key, None)
            return
        try:
            wishes[key] = wish(change.object)
        except BadInput as error:
            wishes.pop(key, None)
            self._logger.error("this object is passed over", error=str(error))

    def see_hub(self, change: Change) -> None:
        """Anything that placements are computed on."""
        for problem in self.overview.see(change):
            if problem not in self._told:
                self._told[problem] = None
                self._logger.warning("what an object of the hub says is left out", problem=problem)
        while len(self._told) > PROBLEMS_REMEMBERED_MAX:
            del self._told[next(iter(self._told))]

    async def listen(self) -> None:
        """Hear what is said about clusters, whoever says it."""
        async for batch in self._log.tail([Advertised.pattern()]):
            for record in batch.records:
                if isinstance(record.fact, Advertised):
                    self._heard[record.fact.cluster] = record.fact
            if batch.live:
                self._listening.set()

    async def advertise(self) -> None:
        """State what clusters of the hub offer, for ever."""
        await self._listening.wait()
        while True:
            if self.overview.known:
                facts = list(due(self.overview.clusters, self._heard, self._clock()))
                for begin in range(0, len(facts), STATED_AT_ONCE_MAX):
                    await asyncio.gather(*(self._state(fact) for fact in facts[begin : begin + STATED_AT_ONCE_MAX]))
            await asyncio.sleep(OFFER_SECONDS)

    async def _state(self, fact: Advertised) -> None:
        try:
            await self._log.state(fact)
        except BusError as error:
            self._logger.warning("not advertised, will try again", cluster=fact.cluster, why=str(error))
        except Unreadable as error:
            self._heard[fact.cluster] = fact  # said once a lease and not once a second
            self._logger.error("this cluster cannot be advertised", cluster=fact.cluster, why=str(error))
