"""The upkeep of a hub's objects: our finalizer set and taken away, runs' clusters shown, and the server asked what it really has.

Every effect is safe to repeat and to be done by two schedulers at once: it names the object by version or uid, applies, or only reads.
A failed effect is no failure of the service. It is noted, tried again after a while, and its reason is logged the first time.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, BadInput, BusError, Conflict, NotFound
from fedplane.runtime.kinds import FEDERATED_LEARNING, JOB, MANIFEST_WORK, PLACEMENT, PLACEMENT_DECISION
from fedplane.runtime.objects import Kind, Object, Objects
from fedplane.runtime.ports import Log
from fedplane.scheduler.attempts import TRIED_MAX, Tried, note
from fedplane.scheduler.delivering import AT_ONCE_MAX, MANAGER, is_live
from fedplane.scheduler.drivers import DRIVER_LABELS
from fedplane.scheduler.intake import Effect, Hold, Look, Publish, Release, Seen
from fedplane.scheduler.publishing import PLACEMENT_LABEL, decision_bodies, is_ours, placement_body, run_of
from fedplane.scheduler.wishes import FINALIZER, Wish, wish
from fedplane.scheduler.works import LABELS, RUN_LABEL
from fedplane.schemas.names import is_name

__all__ = ["Upkeep"]

STATUS_MANAGER = f"{MANAGER}-status"
"""Old servers hold what a manager left out of one half of an object against the other half; hence two names."""


class Upkeep:
    """Performs what `Intake` decides."""

    def __init__(self, log: Log, objects: Objects, hub: Seen, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._objects = objects
        self._hub = hub
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        """Do it, and note what came of it."""
        assert isinstance(effect, Hold | Release | Look | Publish), f"upkeep performs what intake decides, not {effect!r}"
        async with self._slots:
            try:
                match effect:
                    case Hold(held):
                        await self._hold(held)
                    case Release(held):
                        await self._release(held)
                    case Look():
                        await self._look(effect)
                    case Publish():
                        await self._publish(effect)
            except ApiDenied as error:
                self._note(effect, f"grant the scheduler what deploy/base/rbac.yaml says: {error}")
            except (ApiError, BusError, BadInput) as error:
                self._note(effect, str(error))
            else:
                self._note(effect, "")

    async def _hold(self, held: Wish) -> None:
        """With the version as a condition: a list is replaced whole, and others have finalizers, too."""
        patch = {"metadata": {"resourceVersion": held.version, "finalizers": [*held.finalizers, FINALIZER]}}
        body = await self._objects.merge(FEDERATED_LEARNING, held.name, patch, held.namespace)
        if body["metadata"]["uid"] == held.uid:
            self._hub.wishes[held.namespace, held.name] = wish(body)  # the watch says so, too, a moment later
        self._logger.info("object held", run=held.run, namespace=held.namespace, name=held.name)

    async def _release(self, held: Wish) -> None:
        """Let the object go if nothing is left of its run. What of it is on the log alone stays there, as of any run."""
        if await is_live(self._log, held.run):
            return  # this replica has not read of the run yet, or not of its cancellation
        if left := await self._all(MANIFEST_WORK, "", held.run):
            places = ", ".join(sorted(body["metadata"]["namespace"] for body in left)[:10])
            raise BadInput(f"{len(left)} clusters have yet to clean up: {places}")
        for job in await self._objects.all(JOB, held.namespace, {**DRIVER_LABELS, RUN_LABEL: held.run}):
            await self._delete(JOB, job)
        for decision in await self._all(PLACEMENT_DECISION, held.namespace, held.run):
            await self._delete(PLACEMENT_DECISION, decision)
        placement = await self._objects.get(PLACEMENT, held.name, held.namespace)
        if placement is not None and run_of(placement) == held.run:
            await self._delete(PLACEMENT, placement)
        body = await self._objects.get(FEDERATED_LEARNING, held.name, held.namespace)
        if body is not None and body["metadata"]["uid"] == held.uid:
            kept = [name for name in body["metadata"].get("finalizers", ()) if name != FINALIZER]
            patch = {"metadata": {"resourceVersion": body["metadata"]["resourceVersion"], "finalizers": kept}}
            await self._objects.merge(FEDERATED_LEARNING, held.name, patch, held.namespace)
            self._logger.info("object released", run=held.run, namespace=held.namespace, name=held.name)

    async def _look(self, effect: Look) -> None:
        metadata = effect.resource.metadata
        # All of the namespace: of one object, a server that has just started and does not know the kind yet says that it is not there.
        bodies = await self._objects.all(FEDERATED_LEARNING, metadata.namespace)
        if metadata.uid not in {body["metadata"]["uid"] for body in bodies}:
            self._hub.missing.add(effect.run)
        while len(self._hub.missing) > TRIED_MAX:
            self._hub.missing.pop()  # any: to forget one costs another look

    async def _publish(self, effect: Publish) -> None:
        shown = effect.wish
        found = await self._objects.get(PLACEMENT, shown.name, shown.namespace)
        if found is not None and not is_ours(found):
            raise BadInput(f"the Placement {shown.namespace}/{shown.name} is somebody else's, so the run's clusters are not shown by one")
        if not is_name(shown.name):
            raise BadInput(f"{shown.name} is too long for a label, or has dots, so the run's clusters are not shown by a Placement")
        body = placement_body(shown, len(effect.clusters))
        placement = await self._apply(PLACEMENT, body)
        bodies = decision_bodies(shown, effect.clusters, self._hub.overview.clusters, placement)
        for decision in bodies:
            await self._apply(PLACEMENT_DECISION, decision)
        wanted = {decision["metadata"]["name"] for decision in bodies}
        for decision in await self._objects.all(PLACEMENT_DECISION, shown.namespace, {**LABELS, PLACEMENT_LABEL: shown.name}):
            if decision["metadata"]["name"] not in wanted:
                await self._delete(PLACEMENT_DECISION, decision)
        self._logger.info("clusters shown", run=shown.run, clusters=len(effect.clusters))

    async def _apply(self, kind: Kind, body: Object) -> Object:
        """Both halves of an object."""
        applied = await self._objects.apply(kind, body, MANAGER, force=True)
        await self._objects.apply(kind, body, STATUS_MANAGER, subresource="status", force=True)
        return applied

    async def _delete(self, kind: Kind, body: Object) -> None:
        metadata = body["metadata"]
        try:
            await self._objects.delete(kind, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except Conflict:
            return  # that one is gone, and another one is not ours to delete

    async def _all(self, kind: Kind, namespace: str, run: str) -> list[Object]:
        """All objects of a kind that are there for the run; none where there is no such kind, on a hub without clusters."""
        try:
            return await self._objects.all(kind, namespace, {**LABELS, RUN_LABEL: run})
        except NotFound:
            if self._hub.overview.clusters:
                raise
            return []

    def _note(self, effect: Effect, failed: str) -> None:
        before = self._hub.tried.get(effect.what)
        failures = (before.failures if before else 0) + 1 if failed else 0
        note(self._hub.tried, effect.what, Tried(self._clock(), failures))
        if failures == 1:
            self._logger.warning("not done on the hub, will try again", what=type(effect).__name__.lower(), why=failed)
