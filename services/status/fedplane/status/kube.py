"""Writing what `outward` and `milestones` make of a view to the hub's API server: the object's status, and Events about it.

The status is applied (server-side apply) under a field manager of our own, and takes over by force the fields that are ours to say.
What others say of the object is not touched.
Before each write the object is looked up: an object that already tells as much is left alone, so replicas do not write in turn,
and one that has gone, or is another one under the same name, gets nothing that is not about it.

One task per run is at work at a time and takes the newest view whenever it may write. `pacing` says when that is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, NotFound
from fedplane.runtime.kinds import EVENT, FEDERATED_LEARNING
from fedplane.runtime.objects import Objects
from fedplane.runtime.telemetry import span
from fedplane.schemas.views import RunView
from fedplane.status.milestones import Milestone, event_of, milestones
from fedplane.status.outward import Standing, standing, status_of
from fedplane.status.pacing import Pace
from fedplane.status.phases import ShowRun
from fedplane.status.showing import trace_of

__all__ = ["MANAGER", "Applying"]

MANAGER = "fedplane-status"
"""The field manager by which an object's status and its Events are known to be ours."""

AT_ONCE_MAX = 8
"""How many objects are written at a time. A server that is away is asked by so many, however many runs there are."""

COMPLAINT_SECONDS = 60.0
"""A missing permission concerns every run, and is said once in that time."""

REMEMBERED_MAX = 2_000
"""How many runs are remembered by what was told of them, some kilobytes each. Forgetting one costs a look at its object."""

PACE = Pace()
"""That of an object of which nothing is known."""


@dataclass
class _Told:
    """One run: the view that is still to be told, if there is one, and how far the server is."""

    pace: Pace
    wanted: RunView | None = None
    sequence: int = -1
    events: dict[str, Milestone] = field(default_factory=dict)
    gone: bool = False
    busy: bool = False

    def settle(self, view: RunView) -> None:
        """Nothing more is to be told of this view."""
        self.sequence = view.sequence
        if self.wanted is view or self.gone:
            self.wanted = None


class Applying:
    """Performs `ShowRun` on a hub."""

    def __init__(self, objects: Objects, pace: Pace = PACE, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._objects = objects
        self._pace = pace
        self._clock = clock
        self._runs: dict[str, _Told] = {}
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._complained_at: dict[str, float] = {}
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        """Tell the view, unless a newer one of its run is told instead. A run that no object asked for is told to nobody."""
        assert isinstance(effect, ShowRun), f"applying performs ShowRun, not {effect!r}"
        if not effect.view.uid:
            return
        told = self._told(effect.view)
        if told.busy:
            return
        told.busy = True
        try:
            while told.wanted is not None:
                await asyncio.sleep(told.pace.wait_seconds(_now()))
                async with self._slots:
                    await self._attempt(told, told.wanted)  # the newest one by now
        finally:
            told.busy = False

    def _told(self, view: RunView) -> _Told:
        told = self._runs.pop(view.run, None) or _Told(self._pace)
        self._runs[view.run] = told  # the last in order: the one that is forgotten last
        if not told.gone and view.sequence > max(told.sequence, told.wanted.sequence if told.wanted else -1):
            told.wanted = view
        idle = [run for run, held in self._runs.items() if not held.busy and held is not told] if len(self._runs) > REMEMBERED_MAX else []
        for run in idle[: len(self._runs) - REMEMBERED_MAX]:
            del self._runs[run]
        return told

    async def _attempt(self, told: _Told, view: RunView) -> None:
        try:
            found = await self._tell(told, view)
        except ApiUnreachable as error:
            told.pace = told.pace.failed(_now())
            self._logger.warning("status not written, will try again", run=view.run, sequence=view.sequence, error=str(error))
            await asyncio.sleep(told.pace.wait_seconds(_now()))  # in the slot: the others would not fare better
        except ApiDenied as error:
            told.pace = told.pace.failed(_now())
            self._complain("no permission to write status; grant get on federatedlearnings and patch on federatedlearnings/status", error)
        except ApiError as error:
            told.pace = told.pace.succeeded(_now())
            told.settle(view)
            self._logger.error("this status can never be written", run=view.run, sequence=view.sequence, error=str(error))
        else:
            self._settle(told, view, found)

    def _settle(self, told: _Told, view: RunView, found: Standing) -> None:
        told.pace = told.pace.missed(_now()) if found is Standing.MISSING else told.pace.succeeded(_now())
        told.gone = found is Standing.ANOTHER or told.pace.gone(_now())
        if told.gone:
            self._logger.info("nothing is written any more", run=view.run, name=view.name, namespace=view.namespace, why=found.value)
        if told.gone or found is not Standing.MISSING:
            told.settle(view)

    async def _tell(self, told: _Told, view: RunView) -> Standing:
        """Write what is to be written; say what the object was."""
        with span("apply status", parent=trace_of(view), attributes={"fedplane.run": view.run}):
            found = standing(view, await self._objects.get(FEDERATED_LEARNING, view.name, view.namespace))
            if found is Standing.BEHIND:
                body = {"metadata": {"name": view.name, "namespace": view.namespace}, "status": status_of(view)}
                try:
                    await self._objects.apply(FEDERATED_LEARNING, body, MANAGER, subresource="status", force=True)
                except NotFound:  # it went in this moment
                    return Standing.MISSING
            if found in (Standing.BEHIND, Standing.CURRENT):
                await self._tell_events(told, view)
        return found

    async def _tell_events(self, told: _Told, view: RunView) -> None:
        """Events are for people who look now: one that the server refuses is left out, and the status counts all the same."""
        for milestone in milestones(view, self._clock()):
            if told.events.get(milestone.reason) == milestone:
                continue
            try:
                await self._objects.apply(EVENT, event_of(view, milestone), MANAGER, force=True)
            except ApiUnreachable:
                raise
            except ApiDenied as error:
                self._complain("no permission to write Events; grant create and patch on events", error)
            except ApiError as error:
                self._logger.warning("event not written", run=view.run, reason=milestone.reason, error=str(error))
            told.events[milestone.reason] = milestone

    def _complain(self, what: str, error: ApiError) -> None:
        if _now() >= self._complained_at.get(what, -COMPLAINT_SECONDS) + COMPLAINT_SECONDS:
            self._complained_at[what] = _now()
            self._logger.error(what, error=str(error))


def _now() -> float:
    return asyncio.get_running_loop().time()
