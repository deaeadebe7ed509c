"""What operators are told of a placement: its span and how long it took. Whoever stated it tells it, so it is told once."""

from collections.abc import Iterator

from fedplane.runtime.metrics import PLACEMENT_DURATION
from fedplane.runtime.ports import Stated
from fedplane.runtime.replica import Replica
from fedplane.runtime.spans import EVENTS_MAX, Ended, Event, failure, run_traceparent
from fedplane.runtime.telemetry import emit, is_on, tell
from fedplane.scheduler.runs import Runs, Unplaced
from fedplane.schemas.facts import Scheduled

__all__ = ["placed", "tell_scheduled"]


def tell_scheduled(replica: Replica[Runs], outcome: Stated) -> None:
    """Tell of a placement, if it was this replica that stated it."""
    fact = outcome.record.fact if is_on() and outcome.record and outcome.mine else None
    unplaced = replica.state.unplaced.get(fact.run) if isinstance(fact, Scheduled) else None
    if isinstance(fact, Scheduled) and unplaced is not None:
        emit([placed(fact, unplaced)])
        seconds = max(0.0, (fact.at - unplaced.submitted_at).total_seconds())
        tell(PLACEMENT_DURATION, seconds, traceparent=run_traceparent(fact.run))


def placed(fact: Scheduled, unplaced: Unplaced) -> Ended:
    """The span of a run's placement, with the last wait and the clusters that were refused, each with its reason."""
    return Ended(
        "schedule",
        min(unplaced.submitted_at, fact.at),
        fact.at,
        parent=run_traceparent(fact.run),
        attributes={"fedplane.run": fact.run, "fedplane.chosen": len(fact.participants), "fedplane.refused": len(fact.refused)},
        events=tuple(_events(fact, unplaced))[:EVENTS_MAX],
    )


def _events(fact: Scheduled, unplaced: Unplaced) -> Iterator[Event]:
    if unplaced.said is not None:
        yield Event("waiting", unplaced.said.at, {"fedplane.message": unplaced.said.message})
    for refused in fact.refused:
        yield failure("refused", fact.at, refused.reason, refused.message, refused.cluster)
