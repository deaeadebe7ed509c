"""What a hub has of one kind, told to everyone here who needs it: one watch, kept up for ever, so that each object is held once.

Kubernetes calls this an informer. `Objects.watch` misses nothing as long as it lasts, and ends when the server refuses it.
Then it is begun anew after a while, and what has gone in between is told as deleted. Meanwhile everyone keeps what was told last.
Whether one may decide from that depends on what is decided, so an informer only says how much it knows.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum, auto

import structlog

from fedplane.runtime.errors import ApiDenied, ApiUnreachable, NotFound
from fedplane.runtime.kinds import (
    ADD_ON_PLACEMENT_SCORE,
    FEDERATED_LEARNING,
    JOB,
    MANAGED_CLUSTER,
    MANAGED_CLUSTER_SET,
    MANAGED_CLUSTER_SET_BINDING,
    MANIFEST_WORK,
    PLACEMENT_DECISION,
)
from fedplane.runtime.mirror import Mirror
from fedplane.runtime.objects import Change, ChangeType, Key, Kind, Objects, key_of

__all__ = ["Informer", "Knowledge"]

WATCH_AGAIN_SECONDS = 10.0
"""After a watch has ended, which took half a minute by itself. A permission that is granted helps soon, and a hub is asked seldom."""

WITHOUT: Mapping[Kind, str] = {
    FEDERATED_LEARNING: "no object becomes a run",
    MANAGED_CLUSTER: "clusters get no work, and no run is placed",
    MANAGED_CLUSTER_SET: "no run is placed",
    MANAGED_CLUSTER_SET_BINDING: "no run is placed",
    PLACEMENT_DECISION: "no run is placed",
    ADD_ON_PLACEMENT_SCORE: "no run is placed",
    MANIFEST_WORK: "clusters get no work",
    JOB: "apps' own servers are not run",
}
"""What does not happen while a kind may not be seen, for whoever can grant it."""


class Knowledge(Enum):
    """How much is known of a kind: not all of it, all that the hub has, or that the hub has no such kind."""

    PARTIAL = auto()
    COMPLETE = auto()
    UNSERVED = auto()


class Informer:
    """Tells what becomes of the objects of a kind, of a namespace or of all, that have the labels."""

    def __init__(
        self,
        objects: Objects,
        kind: Kind,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        again_seconds: float = WATCH_AGAIN_SECONDS,
    ) -> None:
        self.kind = kind
        self.knowledge = Knowledge.PARTIAL
        self._objects = objects
        self._namespace = namespace
        self._labels = labels
        self._again_seconds = again_seconds
        self._mirror = Mirror()
        self._told: list[tuple[Callable[[Change], None], Callable[[], None]]] = []
        self._logger = structlog.get_logger(kind=kind.plural)

    def tell(self, see: Callable[[Change], None], know: Callable[[], None]) -> None:
        """From now on call `see` with every change, and `know` when `knowledge` has changed; first of all with what is known already."""
        for body in self._mirror.objects.values():
            see(Change(ChangeType.ADDED, body))
        know()
        self._told.append((see, know))

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
            except ApiUnreachable as error:
                self._logger.warning("the hub is not reached, will try again", error=str(error))
            except ApiDenied as error:
                self._know(Knowledge.PARTIAL)
                needed = f"grant the scheduler get, list and watch on {self.kind.plural}, as deploy/base/rbac.yaml does"
                self._logger.error(f"{WITHOUT[self.kind]}; {needed}", error=str(error))
            except NotFound as error:
                self._know(Knowledge.UNSERVED)
                self._logger.warning("the hub has no such kind; is Open Cluster Management installed there?", error=str(error))
            await asyncio.sleep(self._again_seconds)

    async def _watch(self) -> None:
        unheard: set[Key] = set(self._mirror.objects)
        async for change in self._objects.watch(self.kind, self._namespace, self._labels):
            if change.type is ChangeType.SYNCED:
                for key in sorted(unheard):
                    self._see(Change(ChangeType.DELETED, self._mirror.objects[key]))
                unheard.clear()
                self._know(Knowledge.COMPLETE)
            else:
                unheard.discard(key_of(change.object))
                self._see(change)

    def _see(self, heard: Change) -> None:
        news = self._mirror.removed if heard.type is ChangeType.DELETED else self._mirror.stored
        for change in news(heard.object):
            for see, _ in self._told:
                see(change)

    def _know(self, knowledge: Knowledge) -> None:
        if knowledge is not self.knowledge:
            self.knowledge = knowledge
            for _, know in self._told:
                know()
