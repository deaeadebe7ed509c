"""What operators are told of a fact that is stated: a message that is sent, that it was the first of its kind, and how its run ended.

The log is where a fact becomes true, and where it is known who was first; so this is told there, once, whoever states it.
It is told of the real log only: `runtime.memory` is for simulations, which nobody operates.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from fedplane.runtime.errors import BusError
from fedplane.runtime.metrics import FACTS_STATED, RUNS
from fedplane.runtime.ports import Recorded, Stated
from fedplane.runtime.spans import SpanKind, messaging, run_ended
from fedplane.runtime.telemetry import NOTHING, Spanned, emit, is_on, span, tell
from fedplane.schemas.facts import Cancelled, Completed, Expired, Fact, Failed, Lapsed, RoundFact, RunFact, Submitted

__all__ = ["stating", "tell_refused", "tell_stated"]

Read = Callable[[str], Awaitable[Recorded | None]]
"""Reads a register of the log."""


def stating(fact: Fact, id_: str, traceparent: str | None) -> Spanned:
    """The span around stating a fact that belongs to a trace. A timer's belongs to none: it comes when its round is long over."""
    if traceparent is None or isinstance(fact, Expired | Lapsed) or not is_on():
        return Spanned(None, traceparent)
    attributes = {
        **messaging("send", "send", fact.subject, fact.template),
        "messaging.message.id": id_,
        "cloudevents.event_type": fact.type,
        **({"fedplane.run": fact.run} if isinstance(fact, RunFact) else NOTHING),
        **({"fedplane.round": fact.round} if isinstance(fact, RoundFact) else NOTHING),
    }
    return span(f"send {fact.template}", parent=traceparent, attributes=attributes, kind=SpanKind.PRODUCER)


def tell_refused(sent: Spanned, outcome: Stated) -> None:
    """Tell why a fact was not stated: somebody was faster, or something was said that it must not come after."""
    if not outcome.mine:
        sent.event("refused", {"error.type": "fenced" if outcome.record is None else "stated-before"})


async def tell_stated(fact: Fact, traceparent: str | None, read: Read) -> None:
    """Tell of a fact that we were the first to state. When it ends a run, that is the run's root span as well."""
    tell(FACTS_STATED, 1, {"cloudevents.event_type": fact.type}, traceparent)
    if isinstance(fact, Completed | Failed | Cancelled):
        reason = {"error.type": fact.reason} if isinstance(fact, Failed) else NOTHING
        tell(RUNS, 1, {"fedplane.outcome": type(fact).__name__.lower(), **reason}, traceparent)
        emit([run_ended(fact, await _submitted_at(fact, read))])


async def _submitted_at(fact: Completed | Failed | Cancelled, read: Read) -> datetime:
    """When the run was asked for; its end, if the bus does not say."""
    try:
        record = await read(Submitted.pattern(run=fact.run))
    except BusError as error:
        structlog.get_logger().debug("the run's span will be short", run=fact.run, why=str(error))
        return fact.at
    return record.fact.at if record is not None else fact.at
