"""What the command line does with runs: find, submit, follow, cancel.

Every function takes the bus, so it works on a server and in memory alike; none of them prints.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime

from pydantic import ValidationError

from fedplane.runtime.errors import BadInput, BusError, Corrupt, Unreachable
from fedplane.runtime.ports import Bus, Fence, Viewed
from fedplane.runtime.spans import run_traceparent
from fedplane.runtime.telemetry import span
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import (
    Advertised,
    Archived,
    Cancelled,
    Completed,
    Failed,
    Scheduled,
    Started,
    Submitted,
    Waiting,
    run_level_facts_of,
)
from fedplane.schemas.models import Chosen, Model, Refused
from fedplane.schemas.names import is_name, run_id
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.views import RunView

__all__ = ["Judged", "cancel", "end_of", "every", "find", "first_word", "fleet", "follow", "judged", "match", "submit", "view_of"]

FIRST_VIEW_SECONDS = 10.0
"""How long to wait for a run's first view. The status service needs milliseconds, and a few seconds when it has just been restarted."""

LOOK_SECONDS = 5.0
"""How often a run that does not change is looked for: one whose store was deleted never changes again, and a person sees it stand still."""

RACES_MAX = 10
"""How often a cancellation is tried when something else is said about the run at the same moment; a run has four such facts in its life."""

NAMED_MAX = 10
"""How many runs an error names."""

Judged = Chosen | Refused
"""A cluster with what the scheduler thought of it."""

ENDINGS = (Completed, Failed, Cancelled)


async def submit(bus: Bus, resource: FederatedLearning, now: datetime, model: Model | None = None) -> tuple[str, int]:
    """Ask for the run, which starts from the model if there is one: its id, and the place of the request in the log.

    Raises BadInput if it was asked for before, or is too large, and BusFull if the log has no room for a new run.
    The fence finds a run that is archived: its request has left the log, what was said last about it has not.
    """
    try:
        run = run_id(resource.metadata.name, resource.metadata.uid)
        submitted = Submitted(run=run, at=now, resource=resource, model=model)
        with span("submit", parent=run_traceparent(run), attributes={"fedplane.run": run}):
            stated = await bus.log.state(submitted, fence=Fence(run_level_facts_of(run)), traceparent=run_traceparent(run))
    except (Unreadable, ValueError) as error:
        raise BadInput(f"the run cannot be submitted: {error}") from error
    if stated.record is None:
        raise BadInput(f"the run {run} was submitted before and is archived; remove metadata.uid to ask for a new one")
    if not stated.mine:
        before = stated.record.fact.at
        raise BadInput(f"the run {run} was submitted before, at {before:%Y-%m-%d %H:%M:%S %Z}; remove metadata.uid to ask for a new one")
    return run, stated.record.sequence


async def first_word(bus: Bus, run: str, after: int, wait_seconds: float) -> Waiting | Scheduled | Failed | None:
    """What becomes of the run at first; None if nothing is said for so long.

    A run that is scheduled may still fail at once, because of what only the aggregator knows, so `scheduled` counts when it is started.
    """
    patterns = [kind.pattern(run=run) for kind in (Waiting, Scheduled, Started, Failed)]
    scheduled = None
    try:
        async with asyncio.timeout(wait_seconds):
            async for batch in bus.log.tail(patterns, after):
                for record in batch.records:
                    match record.fact:
                        case Scheduled() as fact:
                            scheduled = fact
                        case Waiting() | Failed() as fact:
                            return fact
                        case Started():
                            return scheduled
    except TimeoutError:
        pass
    return scheduled


async def find(bus: Bus, text: str) -> str:
    """The id of the run that a person means: by its id, the name of its resource (the latest run of it), or the beginning of an id.

    Raises BadInput if there is none or more than one.
    """
    if is_name(text) and await bus.log.read(Submitted.pattern(run=text)) is not None:
        return text
    return match(text, await every(bus))


def match(text: str, views: Sequence[RunView]) -> str:
    """The id of the one run that the text means among these."""
    ids = sorted(view.run for view in views)
    if text in ids:
        return text
    named = [view for view in views if view.name == text]
    if named:
        return max(named, key=lambda view: (view.submitted_at, view.run)).run
    begun = [run for run in ids if run.startswith(text)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise BadInput(f"{text!r} is the beginning of {len(begun)} runs: {_listed(begun)}; give more of the id")
    raise BadInput(
        f"there is no run {text!r}; " + (f"there are {_listed(ids)}" if ids else "there are none yet: `fedplane submit FILE` asks for one")
    )


async def every(bus: Bus) -> list[RunView]:
    """The views of all runs, in the order in which they were submitted."""
    views = [_parsed(viewed) for viewed in await bus.views.all()]
    return sorted(views, key=lambda view: (view.submitted_at, view.run))


async def judged(bus: Bus, run: str) -> list[Judged]:
    """Every cluster that the scheduler looked at for the run: those that take part, the best first, then those that do not, by name.

    From the fact itself, which is whole, while the view of a large fleet leaves terms out.
    From the view while the run waits, and when its facts have left the log.
    """
    held = await bus.log.read(Scheduled.pattern(run=run))
    said = held.fact if held is not None and isinstance(held.fact, Scheduled) else await view_of(bus, run)
    return [*said.participants, *sorted(said.refused, key=lambda refused: refused.cluster)]


async def fleet(bus: Bus) -> list[Advertised]:
    """What each cluster has advertised last, by name."""
    said: dict[str, Advertised] = {}
    async for batch in bus.log.tail([Advertised.pattern()]):
        said |= {record.fact.cluster: record.fact for record in batch.records if isinstance(record.fact, Advertised)}
        if batch.live:
            break
    return [said[name] for name in sorted(said)]


async def follow(
    bus: Bus, run: str, wait_seconds: float = FIRST_VIEW_SECONDS, look_seconds: float = LOOK_SECONDS
) -> AsyncGenerator[RunView, None]:
    """The run's view now and whenever it changes, until the run has ended.

    Raises Unreachable if nobody shows the run for so long, and BadInput when the bus has it no longer.
    """
    views = aiter(bus.views.watch(run))
    try:
        async with asyncio.timeout(wait_seconds):
            view = _parsed(await anext(views))
    except TimeoutError as error:
        raise Unreachable(f"nobody has shown the run {run} for {wait_seconds:g} s; is the status service running?") from error
    yield view
    while not view.ended:
        view = _parsed(await _change(bus, run, views, look_seconds))
        yield view


async def _change(bus: Bus, run: str, views: AsyncIterator[Viewed], look_seconds: float) -> Viewed:
    """The next of the views. A watch goes on when a server is back, whatever it has: that it has lost the run, nobody tells."""
    following = asyncio.ensure_future(anext(views))
    try:
        while not (await asyncio.wait({following}, timeout=look_seconds))[0]:
            if await _is_gone(bus, run):
                said = f"the bus has the run {run} no longer: its store was deleted, or the run was forgotten"
                raise BadInput(f"{said}; `fedplane get` lists those that are there")
        return following.result()
    finally:
        following.cancel()
        await asyncio.wait({following})  # else nobody could close the watch, since it is being read


async def _is_gone(bus: Bus, run: str) -> bool:
    try:
        return bus.is_connected() and await bus.views.get(run) is None
    except BusError:  # away, which is no reason to give up
        return False


async def view_of(bus: Bus, run: str, wait_seconds: float = FIRST_VIEW_SECONDS) -> RunView:
    """The run's view now. Raises Unreachable if nobody shows the run for so long."""
    async with aclosing(follow(bus, run, wait_seconds)) as views:
        return await anext(views)


async def end_of(bus: Bus, run: str) -> Completed | Failed | Cancelled | Archived | None:
    """What ended the run, from the log itself, since a view may be a moment old; None if it goes on."""
    for end in (Archived, *ENDINGS):
        held = await bus.log.read(end.pattern(run=run))
        if held is not None and isinstance(held.fact, (Archived, *ENDINGS)):
            return held.fact
    return None


async def cancel(bus: Bus, run: str, now: datetime, message: str) -> tuple[Completed | Failed | Cancelled, bool]:
    """End the run unless it has ended: the fact that ended it, and whether it is ours.

    The fence makes the log refuse the cancellation if anything was said about the run as a whole since we looked.
    """
    for _ in range(RACES_MAX):
        last = 0
        async for batch in bus.log.tail([run_level_facts_of(run)]):
            for record in batch.records:
                if isinstance(record.fact, ENDINGS):
                    return record.fact, False
                if isinstance(record.fact, Archived):
                    raise BadInput(f"{run} has ended and is archived; there is nothing to cancel")
            last = max(last, batch.sequence)  # what this version cannot read is behind the fence, too
            if batch.live:
                break
        cancelled = Cancelled(run=run, at=now, message=message)
        stated = await bus.log.state(cancelled, fence=Fence(run_level_facts_of(run), last), traceparent=run_traceparent(run))
        if stated.mine:
            return cancelled, True
    raise BusError(f"the run {run} was not cancelled: {RACES_MAX} times something else was said about it at the same moment; try again")


def _parsed(viewed: Viewed) -> RunView:
    try:
        return RunView.model_validate_json(viewed.body)
    except ValidationError as error:
        raise Corrupt(f"the view of {viewed.key} cannot be read; is the status service of another version than this program?") from error


def _listed(runs: Sequence[str]) -> str:
    rest = f" and {len(runs) - NAMED_MAX} more" if len(runs) > NAMED_MAX else ""
    return ", ".join(runs[:NAMED_MAX]) + rest
