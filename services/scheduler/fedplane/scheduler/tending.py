"""The scheduler on a hub: objects become runs, managed clusters become the fleet, and placement sees what the hub knows.

Three things go on beside each other, and none waits for another:

    FederatedLearning objects      --> intake      --> `submitted`, `cancelled`, `edit refused`; finalizers, Placements
    ManagedClusters, sets, scores  --> overview    --> what a placement is computed on
    ManagedClusters                --> offers      --> `advertised`

A kind that the hub does not serve has no objects. One that we may not see stops what needs it:
to place runs without the sets, say, would bring them where their users forbid it.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import BadInput, BusError
from fedplane.runtime.kinds import (
    ADD_ON_PLACEMENT_SCORE,
    FEDERATED_LEARNING,
    MANAGED_CLUSTER_SET,
    MANAGED_CLUSTER_SET_BINDING,
    PLACEMENT_DECISION,
)
from fedplane.runtime.objects import Change, ChangeType, Objects, key_of
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.scheduler.informer import Informer, Knowledge
from fedplane.scheduler.intake import Intake, Runs
from fedplane.scheduler.offers import due
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.upkeep import Upkeep
from fedplane.scheduler.wishes import wish
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Advertised

__all__ = ["tend"]

BESIDE_CLUSTERS = (MANAGED_CLUSTER_SET, MANAGED_CLUSTER_SET_BINDING, PLACEMENT_DECISION, ADD_ON_PLACEMENT_SCORE)
"""What placements are computed on, besides the clusters themselves."""

OFFER_SECONDS = 1.0
"""How often it is looked at which clusters are to be advertised. It is no sooner than somebody else's statement about one is heard."""

STATED_AT_ONCE_MAX = 64
"""As many facts as a replica has on their way at a time."""

PROBLEMS_REMEMBERED_MAX = 1_000
"""How many complaints about objects are remembered, so that each is logged once. Forgetting one costs a line."""


async def tend(
    log: Log,
    objects: Objects,
    clusters: Informer,
    core: Intake,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    offer_seconds: float = OFFER_SECONDS,
) -> None:
    """Keep log and hub in step, until cancelled. `core.hub.overview` is what others may read of the hub.

    `clusters` tells of ManagedClusters, and is run by whoever has it.
    """
    wishes = Informer(objects, FEDERATED_LEARNING, core.namespace)
    beside = [Informer(objects, kind) for kind in BESIDE_CLUSTERS]
    tending = _Tending(log, objects, wishes, [clusters, *beside], core, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tending.replica.run())
        for informer in (wishes, *beside):
            tasks.create_task(informer.run())
        tasks.create_task(tending.listen())
        tasks.create_task(tending.advertise(offer_seconds))


class _Tending:
    def __init__(
        self, log: Log, objects: Objects, wishes: Informer, hub: Sequence[Informer], core: Intake, clock: Callable[[], datetime]
    ) -> None:
        self._log = log
        self._wishes = wishes
        self._hub = hub
        self._core = core
        self._clock = clock
        self._heard: dict[str, Advertised] = {}
        self._told: dict[str, None] = {}
        self._listening = asyncio.Event()
        self._logger = structlog.get_logger()
        self.replica: Replica[Runs] = Replica(core, log, perform=Upkeep(log, objects, core.hub, clock), clock=clock)
        wishes.tell(self._see_object, self._know)
        for informer in hub:
            informer.tell(self._see_hub, self._know)

    @property
    def _overview(self) -> Overview:
        return self._core.hub.overview

    def _know(self) -> None:
        # Nothing is cancelled because our own kind is not served for a moment.
        self._core.hub.known = self._wishes.knowledge is Knowledge.COMPLETE
        self._overview.known = all(informer.knowledge is not Knowledge.PARTIAL for informer in self._hub)
        self.replica.wake()

    def _see_object(self, change: Change) -> None:
        """An object that asks for a run."""
        self.replica.wake()
        wishes, key = self._core.hub.wishes, key_of(change.object)
        if change.type is ChangeType.DELETED:
            wishes.pop(key, None)
            return
        try:
            wishes[key] = wish(change.object)
        except BadInput as error:
            wishes.pop(key, None)
            self._logger.error("this object is passed over", error=str(error))

    def _see_hub(self, change: Change) -> None:
        """Anything that placements are computed on."""
        self.replica.wake()
        for problem in self._overview.see(change):
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

    async def advertise(self, offer_seconds: float) -> None:
        """State what clusters of the hub offer, for ever."""
        await self._listening.wait()
        while True:
            if self._overview.known:
                facts = list(due(self._overview.clusters, self._heard, self._clock()))
                for begin in range(0, len(facts), STATED_AT_ONCE_MAX):
                    await asyncio.gather(*(self._state(fact) for fact in facts[begin : begin + STATED_AT_ONCE_MAX]))
            await asyncio.sleep(offer_seconds)

    async def _state(self, fact: Advertised) -> None:
        try:
            await self._log.state(fact)
        except BusError as error:
            self._logger.warning("not advertised, will try again", cluster=fact.cluster, why=str(error))
        except Unreadable as error:
            self._heard[fact.cluster] = fact  # said once a lease and not once a second
            self._overview.unsaid.add(fact.cluster)  # no run waits for it
            self._logger.error("this cluster cannot be advertised", cluster=fact.cluster, why=str(error))
