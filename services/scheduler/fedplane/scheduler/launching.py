"""Drivers' Jobs on a hub: noting which are there, making those that `driving` wants, deleting those that it does not.

Every effect is safe to repeat and to be done by two schedulers at once: a Job is made once under its name, and deleted by its uid.
Both ask the log's leader first whether the run goes on, since this replica may have fallen behind.
A failed effect is no failure of the service: it is noted with its reason, tried again after a while, and in the end fails its run.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, BadInput, BusError, Conflict
from fedplane.runtime.kinds import JOB
from fedplane.runtime.objects import Change, ChangeType, Objects
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.runtime.spans import SpanKind, run_traceparent
from fedplane.runtime.telemetry import span
from fedplane.scheduler.attempts import Tried, note
from fedplane.scheduler.delivering import AT_ONCE_MAX, is_live
from fedplane.scheduler.drivers import DRIVER_LABELS, driver_job
from fedplane.scheduler.driving import Dismiss, Driving, DrivingState, JobSight, Launch
from fedplane.scheduler.informer import Informer, Knowledge
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.sending import Sight
from fedplane.scheduler.standing import Stage, Standing, job_standing
from fedplane.scheduler.works import RUN_LABEL

__all__ = ["launch"]


async def launch(
    log: Log,
    objects: Objects,
    outfit: Outfit,
    core: Driving,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Keep the hub's drivers as they should be, until cancelled."""
    launching = _Launching(log, objects, outfit, core, clock)
    jobs = Informer(objects, JOB, labels=DRIVER_LABELS)

    def know() -> None:
        core.hub.known = jobs.knowledge is Knowledge.COMPLETE

    jobs.tell(launching.see, know)
    replica: Replica[DrivingState] = Replica(core, log, perform=launching, clock=clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(jobs.run())
        tasks.create_task(replica.run())


class _Launching:
    """Keeps `core.hub` up to date, and performs `Launch` and `Dismiss`."""

    def __init__(self, log: Log, objects: Objects, outfit: Outfit, core: Driving, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._objects = objects
        self._outfit = outfit
        self._hub = core.hub
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        assert isinstance(effect, Launch | Dismiss), f"launching performs Launch and Dismiss, not {effect!r}"
        async with self._slots:
            try:
                await (self._launch(effect) if isinstance(effect, Launch) else self._dismiss(effect))
            except (ApiUnreachable, BusError) as error:
                self._note(effect.run, Standing(Stage.UNREACHED, str(error)))
            except ApiDenied as error:
                verb = "get and create" if isinstance(effect, Launch) else "delete"
                said = f"grant the scheduler {verb} on jobs, as deploy/base/rbac.yaml does: {error}"
                self._note(effect.run, Standing(Stage.REFUSED, said))
            except (ApiError, BadInput) as error:
                self._note(effect.run, Standing(Stage.REFUSED, str(error)))
            else:
                note(self._hub.tried, effect.run, Tried(self._clock()))

    async def _launch(self, effect: Launch) -> None:
        body = driver_job(effect.run, effect.resource, self._outfit)
        if not await is_live(self._log, effect.run):
            return
        metadata = body["metadata"]
        about = {"fedplane.run": effect.run, "k8s.job.name": metadata["name"], "k8s.namespace.name": metadata["namespace"]}
        try:
            with span("launch driver", parent=run_traceparent(effect.run), attributes=about, kind=SpanKind.CLIENT):
                await self._objects.create(JOB, body)
        except Conflict as error:
            found = await self._objects.get(JOB, metadata["name"], metadata["namespace"])
            if found is not None and found["metadata"].get("labels", {}).get(RUN_LABEL) != effect.run:
                raise BadInput(f"the Job {metadata['namespace']}/{metadata['name']} is somebody else's; delete it") from error
            return  # another scheduler was faster, and the watch will tell
        self._logger.info("driver launched", run=effect.run, namespace=metadata["namespace"], job=metadata["name"])

    async def _dismiss(self, effect: Dismiss) -> None:
        if await is_live(self._log, effect.run):
            return
        try:
            await self._objects.delete(JOB, effect.job.name, effect.job.namespace, uid=effect.job.sight.uid)
        except Conflict:
            return  # that one is gone, and of the other one under its name the watch will tell
        self._logger.info("driver dismissed", run=effect.run, namespace=effect.job.namespace, job=effect.job.name)

    def _note(self, run: str, failed: Standing) -> None:
        now = self._clock()
        before = self._hub.tried.get(run, Tried(now))
        again = before.standing is not None and before.standing.stage == failed.stage
        note(self._hub.tried, run, Tried(now, before.failures + 1, before.since if again else now, failed))
        self._logger.warning("driver's Job not written, will try again", run=run, why=failed.said)

    def see(self, change: Change) -> None:
        """A driver's Job, and since when it has stood as it does."""
        metadata, jobs = change.object["metadata"], self._hub.jobs
        run = metadata["labels"].get(RUN_LABEL, "")
        if change.type is ChangeType.DELETED:
            jobs.pop(run, None)
            return
        seen, before = job_standing(change.object), jobs.get(run)
        lasts = before is not None and (before.sight.uid, before.sight.standing.stage) == (metadata["uid"], seen.stage)
        since = before.sight.since if before is not None and lasts else self._clock()
        jobs[run] = JobSight(metadata["namespace"], metadata["name"], Sight(metadata["uid"], seen, since, "deletionTimestamp" in metadata))
        if not lasts:
            self._logger.info("driver stands", run=run, stage=seen.stage.value, said=seen.said)
