"""Making the Jobs that keep models, and the claims of volumes for them.

Both are created and never changed, so it does not matter how often that is tried, or by how many schedulers.
A Job is made once and not looked at again: it tries as often as `storage` says, and its own log says why it failed.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, BadInput, Conflict
from fedplane.runtime.kinds import JOB, PERSISTENT_VOLUME_CLAIM
from fedplane.runtime.objects import Kind, Object, Objects
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.scheduler.attempts import Tried, note
from fedplane.scheduler.delivering import AT_ONCE_MAX
from fedplane.scheduler.storage import Keeper, claim, job
from fedplane.scheduler.storing import Runs, Store, Storing
from fedplane.schemas.resources import FederatedLearning

__all__ = ["deposit"]


async def deposit(
    log: Log, objects: Objects, keeper: Keeper, core: Storing, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """See to it that completed runs' models are kept where their resources say, until cancelled."""
    replica: Replica[Runs] = Replica(core, log, perform=_Depositing(objects, keeper, core, clock), clock=clock)
    await replica.run()


class _Depositing:
    """Performs `Store`. What fails is noted, and tried again."""

    def __init__(self, objects: Objects, keeper: Keeper, core: Storing, clock: Callable[[], datetime]) -> None:
        self._objects = objects
        self._keeper = keeper
        self._tried = core.tried
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        assert isinstance(effect, Store), f"depositing performs Store, not {effect!r}"
        async with self._slots:
            try:
                await self._store(effect.run, effect.resource)
            except ApiDenied as error:
                needed = "grant the scheduler create on jobs and persistentvolumeclaims, as deploy/base/rbac.yaml does"
                self._failed(effect.run, f"{needed}: {error}")
            except (ApiError, BadInput) as error:
                self._failed(effect.run, str(error))
            else:
                note(self._tried, effect.run, Tried(self._clock()))

    async def _store(self, run: str, resource: FederatedLearning) -> None:
        body, volume = job(run, resource, self._keeper), claim(resource)
        if volume is not None:
            await self._create(PERSISTENT_VOLUME_CLAIM, volume)
        if await self._create(JOB, body):
            self._logger.info("model is being kept", run=run, namespace=resource.metadata.namespace)

    async def _create(self, kind: Kind, body: Object) -> bool:
        """Whether it is made now; what is there already is used as it is."""
        try:
            await self._objects.create(kind, body)
        except Conflict:
            return False
        return True

    def _failed(self, run: str, why: str) -> None:
        before = self._tried.get(run)
        note(self._tried, run, Tried(self._clock(), before.failures + 1 if before else 1))
        self._logger.warning("model not kept on the hub, will try again", run=run, why=why)
