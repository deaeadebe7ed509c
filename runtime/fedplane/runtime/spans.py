"""Spans as data: which there are, how one is identified before it has begun, and what one says that is over.

A run or a round has no process of its own: any replica may begin it and another may end it, and each may be killed in between.
So a span under which others hang has an identity that everybody can compute from names, and every fact carries that of where it belongs.
Whoever ends a round, an invitation or a run emits that span itself, from its beginning on. Only leaves have identities of chance.
So a killed process takes its last leaves with it, and never the branch on which others' leaves hang.

Pure. `telemetry` is what records spans. Sources: W3C Trace Context; OpenTelemetry's conventions for messaging (semconv 1.44),
exceptions and CloudEvents for the names of attributes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fedplane.schemas.facts import (
    Cancelled,
    Completed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Fact,
    Failed,
    Invited,
    Keyed,
    Rejected,
    Revealed,
    RoundFact,
    RunFact,
    Shared,
)

__all__ = [
    "SPANS", "Attributes", "Branch", "Ended", "Event", "SpanKind", "failure", "invite_traceparent", "messaging", "round_traceparent",
    "run_ended", "run_traceparent", "traceparent_of",
]  # fmt: skip

Attributes = Mapping[str, str | int | float | bool]

MESSAGE_CHARACTERS_MAX = 1_000
"""How much of a message an event has; the fact on the log has all of it."""

EVENTS_MAX = 100
"""How many events a span has. OpenTelemetry's own limit is 128, and drops the first ones silently."""


class Branch(StrEnum):
    """Where a span is in its trace."""

    RUN = "the run's root"
    UNDER_RUN = "under the run's root"
    ROUND = "the round's root"
    UNDER_ROUND = "under the round's root"
    UNDER_INVITE = "under the cluster's `invite`"
    ANYWHERE = "where the fact belongs"


class SpanKind(StrEnum):
    """OpenTelemetry's: whether a span is about work of its own, a message that is sent or worked on, or a request to a server."""

    INTERNAL = "internal"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span."""

    name: str
    at: datetime
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """A span that is over. `identity` is the one under which others have already named it as their parent; `problem` why it failed."""

    name: str
    begin: datetime
    end: datetime
    identity: str | None = None
    parent: str | None = None
    attributes: Attributes = field(default_factory=dict)
    links: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    problem: str = ""
    kind: SpanKind = SpanKind.INTERNAL


@dataclass(frozen=True, slots=True)
class Named:
    """A line of the table below."""

    name: str
    branch: Branch
    said_by: str
    tells: str
    attributes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()


SPANS: tuple[Named, ...] = (
    Named(
        "run", Branch.RUN, "aggregator, driver, scheduler, cli", "from submission to the run's end",
        ("fedplane.outcome", "error.type"), ("failed", "cancelled"),
    ),
    Named("submit", Branch.UNDER_RUN, "cli", "a person's request on its way to the log"),
    Named(
        "schedule", Branch.UNDER_RUN, "scheduler", "from submission to the choice of clusters", ("fedplane.chosen", "fedplane.refused"),
        ("waiting", "refused"),
    ),
    Named("send work", Branch.UNDER_RUN, "scheduler", "a ManifestWork is written on the hub", ("fedplane.cluster", "k8s.namespace.name")),
    Named("launch driver", Branch.UNDER_RUN, "scheduler", "a driver's Job is made on the hub", ("k8s.job.name", "k8s.namespace.name")),
    Named("run server", Branch.UNDER_RUN, "driver", "the app's own server runs"),
    Named(
        "round initialize, round train, round evaluate, round reply", Branch.ROUND, "aggregator",
        "from opening to result; a link leads to the run",
        ("fedplane.task", "fedplane.training_round", "fedplane.clusters", "fedplane.members", "fedplane.outcome", "error.type"),
        ("closed", "failed"),
    ),
    Named(
        "invite", Branch.UNDER_ROUND, "aggregator", "from a round's opening to the cluster's answer",
        ("fedplane.cluster", "fedplane.outcome", "error.type", "messaging.*"), ("declined", "rejected", "unanswered"),
    ),
    Named("download model", Branch.UNDER_INVITE, "collaborator", "the model comes to the cluster", ("fedplane.cluster", "fedplane.bytes")),
    Named(
        "initialize, train, evaluate, reply", Branch.UNDER_INVITE, "collaborator", "the app works",
        ("fedplane.cluster", "fedplane.framework", "error.type"),
    ),
    Named("upload update", Branch.UNDER_INVITE, "collaborator", "the update goes to the bus", ("fedplane.cluster", "fedplane.bytes")),
    Named(
        "fold shard, measure shard", Branch.UNDER_ROUND, "aggregator", "a replica reads a shard of all members and writes the result",
        ("fedplane.shard", "fedplane.members", "messaging.*"),
    ),
    Named("assemble", Branch.UNDER_ROUND, "aggregator", "from the last shard to the result that names them all"),
    Named("ask clusters, answer server", Branch.UNDER_ROUND, "driver", "what the app's own server sends, and is given"),
    Named("write status, apply status", Branch.ANYWHERE, "status", "a view is put, on a hub the object's status written"),
    Named(
        "send SUBJECT", Branch.ANYWHERE, "everyone", "a fact is stated; the subject is written as in the list of facts",
        ("messaging.*", "cloudevents.event_type"),
    ),
)  # fmt: skip
"""Every span there is. Each says `fedplane.run`, and `fedplane.round` if it belongs to one; one that fails has the event `exception`."""


def run_traceparent(run: str) -> str:
    """The identity of a run's root span, the same wherever it is computed."""
    return _fixed(run, run)


def round_traceparent(run: str, round_: int) -> str:
    """The identity of a round's root span, the same wherever it is computed."""
    return _fixed(f"{run}/{round_}", f"{run}/{round_}")


def invite_traceparent(run: str, round_: int, cluster: str) -> str:
    """The identity of what one cluster has to do with a round, the same wherever it is computed."""
    return _fixed(f"{run}/{round_}", f"{run}/{round_}/{cluster}")


def traceparent_of(fact: Fact) -> str | None:
    """The context in which a fact is stated if there is no closer one: its cluster's part in the round, its round's, or its run's."""
    match fact:
        case Invited() | Contributed() | Evaluated() | Declined() | Rejected() | Keyed() | Shared() | Entrusted() | Revealed():
            return invite_traceparent(fact.run, fact.round, fact.cluster)
        case RoundFact():
            return round_traceparent(fact.run, fact.round)
        case RunFact():
            return run_traceparent(fact.run)
    return None


def messaging(operation: str, kind: str, subject: str, template: str) -> Attributes:
    """What OpenTelemetry wants to know of a message: what is done with it by its name and by its kind, and where it goes."""
    return {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": subject,
        "messaging.destination.template": template,
    }


def failure(name: str, at: datetime, reason: str, message: str, cluster: str = "") -> Event:
    """The event that says why something went wrong: one word for a machine, and a sentence for a person."""
    told = {"error.type": reason, "exception.message": message[:MESSAGE_CHARACTERS_MAX]}
    return Event(name, at, {**told, "fedplane.cluster": cluster} if cluster else told)


def run_ended(fact: Completed | Failed | Cancelled, submitted_at: datetime) -> Ended:
    """The root span of a run that has ended."""
    outcome = type(fact).__name__.lower()
    attributes = {"fedplane.run": fact.run, "fedplane.outcome": outcome}
    events: tuple[Event, ...] = ()
    problem = ""
    match fact:
        case Failed(reason=reason, message=message):
            attributes["error.type"], problem = reason, message
            events = (failure("failed", fact.at, reason, message),)
        case Cancelled(message=message):
            events = (Event("cancelled", fact.at, {"fedplane.message": message}),)
    end = max(fact.at, submitted_at)  # clocks differ, and a span must not end before it begins
    return Ended("run", submitted_at, end, identity=run_traceparent(fact.run), attributes=attributes, events=events, problem=problem)


def _fixed(trace: str, span: str) -> str:
    trace_id, span_id = (hashlib.sha256(what.encode()).digest() for what in (trace, span))
    return f"00-{trace_id[:16].hex()}-{span_id[16:24].hex()}-01"
