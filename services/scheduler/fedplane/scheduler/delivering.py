"""Works on a hub: noting which are there, sending those that `sending` wants, deleting those that it does not.

Every effect is safe to repeat and to be done by two schedulers at once: sending is server-side apply of the same object,
deleting names the object by its uid. Both ask the log's leader first whether the run goes on, since this replica may have fallen behind.
A failed effect is no failure of the service: it is noted with its reason, tried again after a while, and in the end makes clusters decline.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, BadInput, BusError, Conflict
from fedplane.runtime.kinds import MANIFEST_WORK
from fedplane.runtime.objects import Change, ChangeType, Object, Objects, key_of
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.runtime.spans import SpanKind, run_traceparent
from fedplane.runtime.telemetry import span
from fedplane.scheduler.attempts import Tried, note
from fedplane.scheduler.informer import Informer, Knowledge
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.sending import ENDS, Live, Place, Remove, Send, Sending, Sight
from fedplane.scheduler.standing import Stage, Standing, standing
from fedplane.scheduler.works import LABELS, work
from fedplane.schemas.facts import Scheduled, Submitted

__all__ = ["AT_ONCE_MAX", "Delivering", "MANAGER", "deliver", "has_ended", "is_live"]

MANAGER = "fedplane-scheduler"
"""The field manager by which what we write on a hub is known to be ours."""

DEPARTED_MAX = 100_000
"""How many names of clusters that left are remembered: ten large hubs. Any is forgotten; its runs then end their rounds by deadline."""

AT_ONCE_MAX = 8
"""How many effects of one sort are under way at a time. A thousand clusters are served in seconds, and the API server has others, too."""


async def deliver(
    log: Log,
    objects: Objects,
    clusters: Informer,
    outfit: Outfit,
    core: Sending,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Keep the hub's works as they should be, until cancelled. `clusters` tells of ManagedClusters, and is run by whoever has it."""
    delivering = Delivering(log, objects, outfit, core, clock)
    works = Informer(objects, MANIFEST_WORK, labels=LABELS)

    def know() -> None:
        core.hub.known = all(informer.knowledge is Knowledge.COMPLETE for informer in (works, clusters))

    works.tell(delivering.see_work, know)
    clusters.tell(delivering.see_cluster, know)
    replica: Replica[Live] = Replica(core, log, perform=delivering, clock=clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(works.run())
        tasks.create_task(replica.run())


async def has_ended(log: Log, run: str) -> bool:
    """Whether the log's leader has an end of the run."""
    return any([await log.read(end.pattern(run=run)) for end in ENDS])


async def is_live(log: Log, run: str) -> bool:
    """Whether the log's leader has the run as one that goes on."""
    return await log.read(Submitted.pattern(run=run)) is not None and not await has_ended(log, run)


class Delivering:
    """Keeps `core.hub` up to date, and performs `Send` and `Remove`."""

    def __init__(self, log: Log, objects: Objects, outfit: Outfit, core: Sending, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._objects = objects
        self._outfit = outfit
        self._core = core
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        """Send or remove a work, and note what came of it."""
        match effect:
            case Send(run, _, chosen):
                place = chosen.cluster, run
            case Remove(run, cluster):
                place = cluster, run
            case _:
                raise AssertionError(f"delivering performs Send and Remove, not {effect!r}")
        async with self._slots:
            try:
                await (self._send(effect) if isinstance(effect, Send) else self._remove(effect))
            except (ApiUnreachable, BusError) as error:
                self._note(place, Standing(Stage.UNREACHED, str(error)))
            except ApiDenied as error:
                verb = "create and patch" if isinstance(effect, Send) else "delete"
                self._note(
                    place, Standing(Stage.REFUSED, f"grant the scheduler {verb} on manifestworks, as deploy/base/rbac.yaml does: {error}")
                )
            except (ApiError, BadInput) as error:
                self._note(place, Standing(Stage.REFUSED, str(error)))
            else:
                self._note(place, None)

    async def _send(self, effect: Send) -> None:
        body = work(effect.run, effect.resource, effect.chosen, self._outfit.by(effect.listener))
        if await self._goes_on(effect.run, effect.chosen.cluster):
            about = {"fedplane.run": effect.run, "fedplane.cluster": effect.chosen.cluster, "k8s.namespace.name": effect.chosen.cluster}
            with span("send work", parent=run_traceparent(effect.run), attributes=about, kind=SpanKind.CLIENT):
                await self._objects.apply(MANIFEST_WORK, body, MANAGER)
            self._logger.info("work sent", run=effect.run, cluster=effect.chosen.cluster)

    async def _remove(self, effect: Remove) -> None:
        if not effect.wanted and await self._goes_on(effect.run, effect.cluster):
            return
        try:
            await self._objects.delete(MANIFEST_WORK, effect.run, effect.cluster, uid=effect.uid)
        except Conflict:
            return  # that one is gone, and of the other one under its name the watch will tell
        self._logger.info("work removed", run=effect.run, cluster=effect.cluster)

    async def _goes_on(self, run: str, cluster: str) -> bool:
        """Whether the log's leader has the run as one that the cluster takes part in."""
        record = await self._log.read(Scheduled.pattern(run=run))
        if record is None or not isinstance(record.fact, Scheduled) or cluster not in {each.cluster for each in record.fact.participants}:
            return False
        return not await has_ended(self._log, run)

    def _note(self, place: Place, failed: Standing | None) -> None:
        now, tried = self._clock(), self._core.hub.tried
        before = tried.get(place, Tried(now))
        if failed is None:
            note(tried, place, Tried(now))
        else:
            again = before.standing is not None and before.standing.stage == failed.stage
            note(tried, place, Tried(now, before.failures + 1, before.since if again else now, failed))
            self._logger.warning("work not written, will try again", cluster=place[0], run=place[1], why=failed.said)

    def see_work(self, change: Change) -> None:
        """A work of ours, and since when it has stood as it does."""
        cluster, run = place = key_of(change.object)
        works = self._core.hub.works
        if change.type is ChangeType.DELETED:
            works.pop(place, None)
            return
        metadata, seen, before = change.object["metadata"], standing(change.object), works.get(place)
        lasts = before is not None and (before.uid, before.standing.stage) == (metadata["uid"], seen.stage)
        since = before.since if before is not None and lasts else self._clock()
        works[place] = Sight(metadata["uid"], seen, since, leaving="deletionTimestamp" in metadata)
        if not lasts:
            self._logger.info("work stands", run=run, cluster=cluster, stage=seen.stage.value, said=seen.said)

    def see_cluster(self, change: Change) -> None:
        """A ManagedCluster; a work can be sent to those that the hub has accepted."""
        name, hub = change.object["metadata"]["name"], self._core.hub
        if change.type is not ChangeType.DELETED and _is_accepted(change.object):
            hub.clusters.add(name)
            hub.departed.discard(name)
        elif name in hub.clusters:
            hub.clusters.discard(name)
            hub.departed.add(name)
            while len(hub.departed) > DEPARTED_MAX:
                hub.departed.pop()


def _is_accepted(cluster: Object) -> bool:
    return cluster.get("spec", {}).get("hubAcceptsClient") is True and "deletionTimestamp" not in cluster["metadata"]
