"""Listeners on a hub: made as `listening` wants them, looked at for their addresses, and deleted when no run asks for them.

Every effect is safe to repeat and to be done by two schedulers at once. What is as it should be is not written again.
Deleting names the object by its version, and only after the log's leader has said that the run which the object names does not go on:
this replica may have fallen behind, and a load balancer that is made anew has another address.
What goes wrong is noted as the reason why there is no address, and in the end reaches the resource's status.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, BadInput, BusError, Conflict, FedplaneError, Invalid, NotFound
from fedplane.runtime.kinds import INGRESS, NODE, ROUTE, SERVICE
from fedplane.runtime.objects import Kind, Object, Objects
from fedplane.runtime.ports import Log
from fedplane.runtime.replica import Replica
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.delivering import MANAGER, has_ended
from fedplane.scheduler.listeners import Entrance, address, objects, without_address
from fedplane.scheduler.listening import Expose, Listening, Runs, Sight, Withdraw
from fedplane.scheduler.works import LABELS, RUN_LABEL
from fedplane.schemas.facts import Submitted

__all__ = ["Exposing", "expose"]

KINDS = (INGRESS, ROUTE, SERVICE)
"""What listeners are made of; what stands before a Service goes before it."""

SETTLE_SECONDS = 0.5
"""How long a server may take to show one scheduler what it has just taken from another. Between the two there is one write to its store."""

WHY_CHARACTERS_MAX = 500
"""Of a reason, which is in a fact and in a condition: what a server says first is what is wrong."""


async def expose(log: Log, hub: Objects, core: Listening, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Keep the hub's listeners as live runs ask for them, until cancelled."""
    replica: Replica[Runs] = Replica(core, log, perform=Exposing(log, hub, core, clock), clock=clock)
    await replica.run()


class Exposing:
    """Performs `Expose` and `Withdraw`, and keeps `core.hub` up to date."""

    def __init__(self, log: Log, hub: Objects, core: Listening, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._objects = hub
        self._namespace = core.namespace
        self._seen = core.hub
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()  # what is made here must not be deleted there; a hub has a handful of listeners
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        """Do it, and note what was seen."""
        assert isinstance(effect, Expose | Withdraw), f"exposing performs what listening decides, not {effect!r}"
        async with self._one_at_a_time:
            await (self._expose(effect) if isinstance(effect, Expose) else self._withdraw(effect))

    async def _expose(self, effect: Expose) -> None:
        entrance, run = effect.entrance, effect.run
        before = self._seen.sights.get(entrance)
        again = before is not None and before.run == run
        failures = before.failures + 1 if before else 1
        try:
            foremost = await self._made(entrance, run)
            if foremost is None:
                return
            found = address(entrance, foremost, await self._objects.all(NODE) if entrance.needs_nodes else ())
            sight = Sight(self._clock(), run, found) if found else Sight(self._clock(), run, "", without_address(entrance), failures)
        except (ApiUnreachable, BusError) as error:
            # What was found last is still the best that is known.
            lasting = before if before and again else Sight(self._clock(), run, "", "the hub's API server or the bus is not reached")
            sight = replace(lasting, at=self._clock(), failures=failures)
            self._logger.warning("not reached, will try again", listener=entrance.name, why=str(error))
        except (ApiError, BadInput) as error:
            sight = Sight(self._clock(), run, "", _reason(entrance, error)[:WHY_CHARACTERS_MAX], failures)
        self._seen.sights[entrance] = sight
        if before is None or (before.address, before.why) != (sight.address, sight.why):
            self._logger.info("listener looked at", listener=entrance.name, run=run, address=sight.address, why=sight.why)

    async def _made(self, entrance: Entrance, run: str) -> Object | None:
        """The foremost of the entrance's objects, which are made or mended if need be; None if the run does not go on."""
        self._seen.there.add(entrance.name)
        foremost = None
        for kind, body in objects(entrance, self._namespace, run):
            foremost = await self._objects.get(kind, entrance.name, self._namespace)
            if foremost is None or not _has(foremost, body):
                if not await self._goes_on(run):
                    return None  # this replica has not read of its end yet
                foremost = await self._write(kind, body, foremost)
        return foremost

    async def _write(self, kind: Kind, body: Object, found: Object | None) -> Object:
        """The object as it is then. Another scheduler may have written it at the same time, and then the server refuses us its port."""
        where = f"the {kind.kind} {self._namespace}/{body['metadata']['name']}"
        if found is not None and not LABELS.items() <= (found["metadata"].get("labels") or {}).items():
            raise BadInput(f"{where} is somebody else's; delete it, or choose another port for the listener")
        if found is not None and "deletionTimestamp" in found["metadata"]:
            raise BadInput(f"{where} of an earlier run is still being deleted")
        try:
            written = await self._objects.apply(kind, body, MANAGER, force=True)
        except (Conflict, Invalid):
            await asyncio.sleep(SETTLE_SECONDS)
            there = await self._objects.get(kind, body["metadata"]["name"], self._namespace)
            if there is None or not _has(there, body):
                raise
            return there
        self._logger.info("listener written", listener=body["metadata"]["name"], kind=kind.kind)
        return written

    async def _withdraw(self, effect: Withdraw) -> None:
        seen, failed = self._seen, ""
        for entrance in [entrance for entrance in seen.sights if entrance.name not in effect.names]:
            del seen.sights[entrance]
        try:
            left = {name for kind in KINDS for name in await self._left(kind, effect.names)}
            seen.looked, seen.there = True, (seen.there & effect.names) | left
        except ApiDenied as error:
            failed = f"grant the scheduler what deploy/base/rbac.yaml says: {error}"
        except (ApiError, BusError) as error:
            failed = str(error)
        failures = (seen.tried.failures if seen.tried else 0) + 1 if failed else 0
        seen.tried = Tried(self._clock(), failures)
        if failures == 1:
            self._logger.warning("listeners not deleted, will try again", why=failed)

    async def _left(self, kind: Kind, names: frozenset[str]) -> list[str]:
        """Delete the kind's objects that have none of the names; the names of those that are left."""
        left = []
        try:
            bodies = await self._objects.all(kind, self._namespace, LABELS)
        except NotFound:
            return []  # a hub that is not OpenShift has no Routes
        for metadata in (body["metadata"] for body in bodies):
            if metadata["name"] in names or await self._stays(kind, metadata):
                left.append(metadata["name"])
        return left

    async def _stays(self, kind: Kind, metadata: Mapping[str, Any]) -> bool:
        """Delete the object, unless the run that it names goes on; whether it is still there."""
        if "deletionTimestamp" in metadata:
            return False  # it goes by itself
        if await self._goes_on(metadata["labels"].get(RUN_LABEL, "")):
            return True
        version = metadata["resourceVersion"]
        try:
            await self._objects.delete(kind, metadata["name"], self._namespace, uid=metadata["uid"], version=version)
        except Conflict:
            return True  # it has changed since, and may be another run's by now
        self._logger.info("listener deleted", listener=metadata["name"], kind=kind.kind)
        return False

    async def _goes_on(self, run: str) -> bool:
        """Whether the log's leader has the run as a live one."""
        return bool(run) and await self._log.read(Submitted.pattern(run=run)) is not None and not await has_ended(self._log, run)


def _has(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there. A server adds fields; it adds nothing to a list."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(name in found and _has(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_has, found, wanted))
    return bool(found == wanted)


def _reason(entrance: Entrance, error: FedplaneError) -> str:
    """Why there is no such listener: what to do about it, and what the server said."""
    if isinstance(error, ApiDenied):
        return f"grant the scheduler what deploy/base/rbac.yaml says: {error}"
    if isinstance(error, NotFound):
        return f"the hub does not know what a listener of type {entrance.type} is made of: {error}"
    if entrance.type == "NodePort" and "already allocated" in str(error):
        return f"another Service of the hub has the node port {entrance.port}; choose another port for the listener: {error}"
    return str(error)
