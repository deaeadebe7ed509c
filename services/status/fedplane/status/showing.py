"""Putting views where everyone can see them.

A view that cannot be put because of the bus is tried again until it can be, or until a newer one of the same run takes its place.
So at most one write per run is under way, however long the bus is away.
"""

import asyncio

import structlog

from fedplane.runtime.errors import BusError
from fedplane.runtime.ports import Viewed, Views
from fedplane.runtime.spans import round_traceparent, run_traceparent
from fedplane.runtime.telemetry import span
from fedplane.schemas.models import Refused
from fedplane.schemas.views import Decline, RunView
from fedplane.status.phases import ShowRun

__all__ = ["VIEW_BYTES_MAX", "Showing", "body", "trace_of"]

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
                    with span("write status", parent=trace_of(view), attributes={"fedplane.run": view.run}):
                        await self._views.put(Viewed(view.run, body(view), view.sequence))
            except BusError as error:
                structlog.get_logger().warning("view not shown, will try again", run=view.run, sequence=view.sequence, error=str(error))
                await asyncio.sleep(self._retry_seconds)
            else:
                if self._newest.get(view.run) == view.sequence:
                    del self._newest[view.run]


def trace_of(view: RunView) -> str:
    """The trace to which showing a view belongs: that of the round that the run is in, if it is in one."""
    latest = view.rounds[-1] if view.rounds else None
    return run_traceparent(view.run) if latest is None or view.ended else round_traceparent(view.run, latest.round)


def body(view: RunView) -> bytes:
    """The view as JSON that fits a message: its oldest rounds are left out first, then what `SHORTER` says, as far as need be.

    What is left then fits: a few short texts, and a model that was in a fact.
    """
    written = view.model_dump_json().encode()
    while len(written) > VIEW_BYTES_MAX and len(view.rounds) > 1:
        view = view.model_copy(update={"rounds": view.rounds[-(len(view.rounds) // 2) :]})
        written = view.model_dump_json().encode()
    for shorter in SHORTER:
        if len(written) > VIEW_BYTES_MAX:
            view = shorter(view)
            written = view.model_dump_json().encode()
    return written


def _without_terms(view: RunView) -> RunView:
    bare = {
        name: tuple(cluster.model_copy(update={"terms": ()}) for cluster in getattr(view, name)) for name in ("participants", "refused")
    }
    return view.model_copy(update=bare)


def _without_messages(view: RunView) -> RunView:
    """The reasons stay: one word each."""

    def bare(said: tuple[Decline, ...] | tuple[Refused, ...]) -> tuple[Decline | Refused, ...]:
        return tuple(one.model_copy(update={"message": ""}) for one in said)

    rounds = tuple(
        of.model_copy(update={"declined": bare(of.declined), "rejected": bare(of.rejected), "left_out": dict.fromkeys(of.left_out, "")})
        for of in view.rounds
    )
    return view.model_copy(update={"refused": bare(view.refused), "rounds": rounds})


def _without_clusters(view: RunView) -> RunView:
    return view.model_copy(update={"participants": (), "refused": (), "rounds": ()})


SHORTER = (_without_terms, _without_messages, _without_clusters)
"""What else is left out of a view that is too large, in this order. The log has all of it."""
