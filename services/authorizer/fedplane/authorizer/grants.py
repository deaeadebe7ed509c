"""What each role may publish and hear: the table that least privilege is.

A grant is a list of subjects, made with the functions that make the subjects themselves, so that it cannot name what nobody uses.
Who states a fact is what the fact's class says (`said_by`); the rest is what a role's ports ask of JetStream.

Three accounts, because of what permissions cannot say: a client names the subject to which the server answers, and the server writes there
with rights of its own. So whoever may ask anything in an account can write any subject of that account (ADR 0019).
Collaborators ask from an account without streams, in which nobody listens to anything but an inbox of his own.
Subscribers have one in which nobody asks anything.
Services and operators are in the account of the streams; there a grant keeps them from mistakes, and does not hold who is malicious.

Rules that keep this file honest:
1. A wildcard stands for what the role has all of. In what a cluster may do there are exact runs and the cluster's own name.
2. A right that reaches further than its role needs, since a request's body says what is meant, is given to nobody outside.
3. What is not listed is denied.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from fedplane.authorizer import jetstream as js
from fedplane.schemas.facts import (
    EVERYTHING,
    FACTS,
    Advertised,
    Closed,
    Contributed,
    Declined,
    Evaluated,
    Expired,
    Invited,
    Rejected,
    RoundFailed,
    RunFact,
    run_level_facts_of,
)
from fedplane.schemas.subjects import (
    WORK_TEMPLATE,
    archive_piece,
    bulk_of_round,
    bulk_of_run,
    chunks_of,
    given_piece,
    update_piece,
)

__all__ = ["CLUSTERS", "RUNS_MAX", "SERVERS", "SUBSCRIBERS", "Grant", "Limits", "Listening", "Role", "collaborator", "inbox_of", "of_role"]

SERVERS, CLUSTERS, SUBSCRIBERS = "BUS", "CLUSTERS", "SUBSCRIBERS"
"""The accounts: the one that has the streams, and those from which they are reached by imports."""

RUNS_MAX = 100
"""In how many live runs a cluster takes part at most, as far as grants go: each is fifteen subjects, in a token of a hundred kilobytes."""

ANSWERS: tuple[type[RunFact], ...] = (Contributed, Declined, Evaluated)
HEARD: tuple[type[RunFact], ...] = (Invited, *ANSWERS, Rejected)
"""What of a round is about one cluster."""

ENDS: tuple[type[RunFact], ...] = (Closed, RoundFailed)
"""What of a round is about all of them."""


class Role(StrEnum):
    """Who may connect. The values are what `said_by` says of those who state facts, and what certificates say."""

    SCHEDULER = "scheduler"
    AGGREGATOR = "aggregator"
    STATUS = "status"
    DRIVER = "driver"
    OPERATOR = "cli"
    COLLABORATOR = "collaborator"
    SUBSCRIBER = "subscriber"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take. How many connections there may be is a limit of an account, and in its configuration."""

    subscriptions: int = 50
    """A service has a reader per stream, its queues and an inbox."""

    payload_bytes: int = 1_048_576
    """One message: a chunk of a million bytes, or a fact. It is the server's own default."""

    expires_seconds: int = 3600
    """Then the server ends the connection, and who makes it anew is asked for its certificate again."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A consumer that is made for a client, since one that a client makes could have any filter."""

    stream: str
    consumer: str
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a connection may do, and nothing else."""

    role: Role
    name: str
    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    limits: Limits = Limits()
    listening: Listening | None = None
    left_out: tuple[str, ...] = ()
    """Runs in which the cluster takes part and has no rights, because there are more than `RUNS_MAX`."""


def inbox_of(role: Role, name: str) -> str:
    """Where answers to this client come: no other one may listen there. Names have no underscore, so no two are alike."""
    return f"_INBOX_{role}_{name}"


def collaborator(cluster: str, runs: Iterable[str]) -> Grant:
    """What the collaborator of a cluster may do that takes part in these live runs. Of more than `RUNS_MAX` the first by name count."""
    every = tuple(sorted(runs))
    known = every[:RUNS_MAX]
    filters = tuple(js.STATED + pattern for run in known for pattern in _heard(cluster, run))
    consumer = f"{Role.COLLABORATOR}-{cluster}"
    own = js.STATED + Advertised.pattern(cluster=cluster)
    publish = (
        own,
        js.last(js.FLEET, own),
        *(js.STATED + answer.pattern(run=run, cluster=cluster) for run in known for answer in ANSWERS),
        *(f"{update_piece(run, '*', cluster, '*', '*')}.*" for run in known),
        *(js.last(js.LOG, pattern) for pattern in filters),
        *(js.last(js.BULK, pattern) for run in known for pattern in _models(run)),
        *((js.next_messages(js.LOG, consumer),) if known else ()),
    )
    return Grant(
        Role.COLLABORATOR, cluster, CLUSTERS, publish, (f"{inbox_of(Role.COLLABORATOR, cluster)}.>",),
        Limits(subscriptions=10), Listening(js.LOG, consumer, filters) if known else None,
        every[RUNS_MAX:],
    )  # fmt: skip


def _heard(cluster: str, run: str) -> tuple[str, ...]:
    of_cluster = (fact.pattern(run=run, cluster=cluster) for fact in HEARD)
    return (run_level_facts_of(run), *of_cluster, *(fact.pattern(run=run) for fact in ENDS))


def _models(run: str) -> tuple[str, ...]:
    """What clusters are asked about: models, a model that the run was given, what an app's server sends."""
    return (bulk_of_round(run, "*", "model"), chunks_of(given_piece(run, "*", "*")), bulk_of_round(run, "*", "asked"))


def of_role(role: Role, name: str) -> Grant:
    """What a client of any other role may do; `name` tells one from another. Raises KeyError for a collaborator, whose rights have runs."""
    if role is Role.SUBSCRIBER:  # it asks for nothing, so it publishes nothing
        return Grant(role, name, SUBSCRIBERS, (), (EVERYTHING,), Limits(subscriptions=10))
    stated = tuple(js.STATED + fact.pattern() for fact in FACTS if _says(role, fact.said_by))
    return Grant(role, name, SERVERS, tuple(dict.fromkeys((*stated, *_ASKS[role]))), (f"{inbox_of(role, name)}.>",))


def _says(role: Role, said_by: str) -> bool:
    """Timers are kept by aggregators, so what a timer says they state."""
    speakers = said_by.split(", ")
    return role in speakers or (role is Role.AGGREGATOR and "timer" in speakers)


_FACTS = (*js.read_any(js.LOG), js.read_register(js.LOG))
_FLEET = (*js.read_any(js.FLEET), js.read_register(js.FLEET))
_OF_ROUNDS = tuple(js.last(js.BULK, bulk_of_round("*", "*", kind)) for kind in ("update", "model", "asked", "reply"))
_GIVEN = chunks_of(given_piece("*", "*", "*"))

_ASKS: dict[Role, tuple[str, ...]] = {
    Role.SCHEDULER: (*js.declare(), *_FACTS, *_FLEET),
    Role.AGGREGATOR: (
        *js.declare(), *_FACTS,
        f"timer.{Expired.pattern()}", *js.lease(js.TIMERS, js.KEPT_TIMERS), js.purge(js.TIMERS),
        WORK_TEMPLATE.format(run="*", round="*", what="*", shard="*"), *js.lease(js.WORK, js.FOLDS), js.read_register(js.WORK),
        *_OF_ROUNDS, js.last(js.BULK, _GIVEN), js.purge(js.BULK),
        bulk_of_round("*", "*", "model"), bulk_of_round("*", "*", "reply"),
    ),
    Role.STATUS: (
        *js.declare(), *_FACTS, *js.read_any(js.FLEET),
        chunks_of(archive_piece("*", "*")), js.purge(js.LOG), js.purge(js.TIMERS), js.purge(js.BULK),
        js.view("*"), *js.read_any(js.VIEWS), js.read_register(js.VIEWS), js.purge(js.VIEWS),
    ),
    Role.DRIVER: (
        js.describe(js.VIEWS), *_FACTS, *_OF_ROUNDS, bulk_of_round("*", "*", "asked"), js.purge(js.BULK),
    ),
    Role.OPERATOR: (
        *(js.describe(stream) for stream in js.STREAMS), *_FACTS, *_FLEET, *js.inspect(js.LOG), *js.inspect(js.FLEET),
        *js.read_any(js.VIEWS), js.read_register(js.VIEWS),
        _GIVEN, js.last(js.BULK, bulk_of_run("*")), js.purge(js.BULK),
    ),
}  # fmt: skip
"""What each role asks of the server beside stating facts."""
