"""Telling operators of rounds that have ended and of the queue of shards. Nothing is done if nobody listens."""

import asyncio
from collections.abc import Iterator, Mapping

import structlog

from fedplane.aggregator.runs import RunsState
from fedplane.aggregator.tracing import measurements, round_that_ended, spans
from fedplane.runtime.errors import BusError
from fedplane.runtime.metrics import WORK_BACKLOG
from fedplane.runtime.ports import Backlog, Stated, Work
from fedplane.runtime.replica import Replica
from fedplane.runtime.telemetry import emit, is_on, observed, record
from fedplane.schemas.facts import RunFact

__all__ = ["BACKLOG_SECONDS", "tell_backlog", "tell_ended"]

BACKLOG_SECONDS = 5.0
"""How often the server is asked for the queue's length: twice between two messages with metrics, so none tells what is long past."""


def tell_ended(replica: Replica[RunsState], outcome: Stated) -> None:
    """Tell of a round, if it was this replica that ended it."""
    fact = outcome.record.fact if is_on() and outcome.record and outcome.mine else None
    end = round_that_ended(replica.state.get(fact.run) if isinstance(fact, RunFact) else None, fact)
    if end is not None:
        emit(spans(end))
        record(measurements(end))


async def tell_backlog(work: Work) -> None:
    """Tell how many tasks wait and are leased, until cancelled. While the bus does not say, nothing is told."""
    latest: Backlog | None = None

    def look() -> Iterator[tuple[float, Mapping[str, str]]]:
        if latest is not None:
            yield latest.waiting, {"fedplane.state": "waiting"}
            yield latest.leased, {"fedplane.state": "leased"}

    if not is_on():
        return
    with observed(WORK_BACKLOG, look):
        while True:
            try:
                latest = await work.backlog()
            except BusError as error:
                latest = None
                structlog.get_logger().debug("the queue's length is not known", why=str(error))
            await asyncio.sleep(BACKLOG_SECONDS)
