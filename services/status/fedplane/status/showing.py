"""Putting views where everyone can see them.

A view that cannot be put because of the bus is tried again until it can be, or until a newer one of the same run takes its place.
So at most one write per run is under way, however long the bus is away.
"""

import asyncio

import structlog

from fedplane.runtime.errors import BusError
from fedplane.runtime.ports import Viewed, Views
from fedplane.runtime.telemetry import round_traceparent, run_traceparent, span
from fedplane.schemas.views import RunView
from fedplane.status.phases import ShowRun

__all__ = ["VIEW_BYTES_MAX", "Showing", "body"]

VIEW_BYTES_MAX = 900_000
"""A NATS server takes messages of 1 MiB by default, headers included."""

PUT_AT_ONCE_MAX = 16
"""How many writes are under way at a time: a fresh replica shows every run, and the bus has others to serve."""

RETRY_SECONDS = 1.0
"""The server needs about that to restart."""


class Showing:
    """Performs `ShowRun`."""

    def __init__(self, views: Views, retry_seconds: float = RETRY_SECONDS) -> None:
        self._views = views
        self._retry_seconds = retry_seconds
        self._newest: dict[str, int] = {}
        self._slots = asyncio.Semaphore(PUT_AT_ONCE_MAX)

    async def __call__(self, effect: object) -> None:
        """Show the view, unless a newer one of its run is on its way."""
        assert isinstance(effect, ShowRun), f"showing performs ShowRun, not {effect!r}"
        view = effect.view
        if view.sequence <= self._newest.get(view.run, -1):
            return
        self._newest[view.run] = view.sequence
        while self._newest.get(view.run) == view.sequence:
            try:
                async with self._slots:
                    with span("write status", parent=_trace_of(view), attributes={"fedplane.run": view.run}):
                        await self._views.put(Viewed(view.run, body(view), view.sequence))
            except BusError as error:
                structlog.get_logger().warning("view not shown, will try again", run=view.run, sequence=view.sequence, error=str(error))
                await asyncio.sleep(self._retry_seconds)
            else:
                if self._newest.get(view.run) == view.sequence:
                    del self._newest[view.run]


def _trace_of(view: RunView) -> str:
    """The trace to which showing a view belongs: that of the round that the run is in, if it is in one."""
    latest = view.rounds[-1] if view.rounds else None
    return run_traceparent(view.run) if latest is None or view.ended else round_traceparent(view.run, latest.round)


def body(view: RunView) -> bytes:
    """The view as JSON that fits a message: its oldest rounds are left out first, then the terms of its scores.

    What is left then fits, for it is no larger than `scheduled` and `opened`, which were facts.
    """
    written = view.model_dump_json().encode()
    while len(written) > VIEW_BYTES_MAX and len(view.rounds) > 1:
        view = view.model_copy(update={"rounds": view.rounds[-(len(view.rounds) // 2) :]})
        written = view.model_dump_json().encode()
    if len(written) > VIEW_BYTES_MAX:
        bare = {
            name: tuple(cluster.model_copy(update={"terms": ()}) for cluster in getattr(view, name)) for name in ("participants", "refused")
        }
        written = view.model_copy(update=bare).model_dump_json().encode()
    return written
