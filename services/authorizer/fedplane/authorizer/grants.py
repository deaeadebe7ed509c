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
4. Nothing outside that is asked of a server ends in `*`. A server takes the word `>` for one that `*` allows, and answers it as a wildcard.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedplane.authorizer import jetstream as js
from fedplane.schemas.facts import (
    FACTS,
    Advertised,
    Closed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Expired,
    Invited,
    Keyed,
    Lapsed,
    Paired,
    Rejected,
    Revealed,
    RoundFailed,
    RunFact,
    Shared,
    run_level_facts_of,
)
from fedplane.schemas.roles import Role, inbox_of
from fedplane.schemas.subjects import (
    WORK_TEMPLATE,
    archive_piece,
    bulk_of_round,
    bulk_of_run,
    chunks_of,
    dead_letters,
    given_piece,
    listen,
    reader_of,
    update_piece,
)

__all__ = [
    "ANSWERS", "ASKED", "CLUSTERS", "LISTENED", "PATTERNS_MAX", "RUNS_MAX", "SERVERS", "SUBSCRIBERS", "Grant", "Limits", "Listening",
    "collaborator", "connections_of", "listening", "of_role", "subscriber",
]  # fmt: skip

SERVERS, CLUSTERS, SUBSCRIBERS = "BUS", "CLUSTERS", "SUBSCRIBERS"
"""The accounts: the one that has the streams, and those from which they are reached by imports."""

LISTENED = js.LOG
"""The stream that collaborators listen to."""

ASKED = listen(Role.COLLABORATOR, ">")
"""Where they ask for readers of it."""

RUNS_MAX = 100
"""In how many live runs a cluster takes part at most, as far as grants go: 18 subjects each, in a token of half a megabyte at most.

Its reader has 13 filters for each of them, 1,300 in all, for which a server takes 0.4 s.
"""

PATTERNS_MAX = 2000
"""What one subscriber may hear in patterns, a few for each run of its namespace, in a token of 0.6 MB at most."""

ANSWERS: tuple[type[RunFact], ...] = (Contributed, Declined, Evaluated, Keyed, Shared, Revealed)
"""What a cluster says in a round, the steps of a masked one included."""

HEARD: tuple[type[RunFact], ...] = (Invited, *ANSWERS, Rejected, Entrusted)
"""What of a round is about one cluster. What another one hides with it comes in `entrusted`, so it reads nobody else's facts."""

TO_ALL: tuple[type[RunFact], ...] = (Closed, RoundFailed, Paired)
"""What of a round is about all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take, and how many the client may have. A server knows no bound of the latter: see `crowds`."""

    subscriptions: int = 50
    """A service has a reader per stream, its queues and an inbox."""

    payload_bytes: int = 1_048_576
    """One message: a chunk of a million bytes, or a fact. It is the server's own default."""

    expires_seconds: int = 3600
    """Then the server ends the connection, and who makes it anew is asked for its certificate again."""

    connections: int = 1000
    """Replicas of a service share its name, and each has two."""


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
    answers: bool = False
    """Whether it may answer, once, whoever asks it something."""

    left_out: tuple[str, ...] = ()
    """Runs in which the cluster takes part and has no rights, because there are more than `RUNS_MAX`; or patterns of a subscriber."""

    until: datetime | None = None
    """When the rights end, if that is before the connection's own time is over."""

    mark: str = ""
    """By what the log said when it was made: see `standing`."""


def collaborator(cluster: str, runs: Iterable[str]) -> Grant:
    """What the collaborator of a cluster may do that takes part in these live runs. Of more than `RUNS_MAX` the first by name count."""
    every = tuple(sorted(runs))
    known = every[:RUNS_MAX]
    own = js.STATED + Advertised.pattern(cluster=cluster)
    publish = (
        own,
        js.last(js.FLEET, own),
        *(listen(Role.COLLABORATOR, cluster, run) for run in ("", *known)),
        *(js.next_messages(LISTENED, _consumer(cluster, run)) for run in ("", *known)),
        *(js.STATED + answer.pattern(run=run, cluster=cluster) for run in known for answer in ANSWERS),
        *(f"{update_piece(run, '*', cluster, '*', '*')}.*" for run in known),
        *(js.last(js.LOG, js.STATED + answer.pattern(run=run, cluster=cluster)) for run in known for answer in ANSWERS),
        *(js.last(js.BULK, pattern) for run in known for pattern in _models(run)),
    )
    inbox = f"{inbox_of(Role.COLLABORATOR, cluster)}.>"
    limits = Limits(subscriptions=10, connections=connections_of(Role.COLLABORATOR, len(known)))
    return Grant(Role.COLLABORATOR, cluster, CLUSTERS, publish, (inbox,), limits, left_out=every[RUNS_MAX:])


def connections_of(role: Role, runs: int) -> int:
    """How many connections a client of that role may have, which takes part in so many runs.

    A process has two, and on a hub there is one for each run. Those that it has lost without a word count until the server misses them.
    """
    match role:
        case Role.COLLABORATOR:
            return 8 + 4 * min(runs, RUNS_MAX)
        case Role.SUBSCRIBER:
            return 8
    return Limits().connections


def listening(cluster: str, runs: Iterable[str], run: str = "") -> Listening | None:
    """The consumer that is made for a cluster in these live runs, of all of them or of one; None if there is nothing that it may read."""
    known = tuple(sorted(runs))[:RUNS_MAX]
    wanted = tuple(each for each in known if run in ("", each))
    return Listening(LISTENED, _consumer(cluster, run), _filters(cluster, wanted)) if wanted else None


def _consumer(cluster: str, run: str) -> str:
    """No name has an underscore, so no two of these are alike."""
    return f"{Role.COLLABORATOR}-{cluster}" + (f"_{run}" if run else "")


def _filters(cluster: str, runs: Iterable[str]) -> tuple[str, ...]:
    return tuple(js.STATED + pattern for run in runs for pattern in _heard(cluster, run))


def _heard(cluster: str, run: str) -> tuple[str, ...]:
    of_cluster = (fact.pattern(run=run, cluster=cluster) for fact in HEARD)
    return (run_level_facts_of(run), *of_cluster, *(fact.pattern(run=run) for fact in TO_ALL))


def _models(run: str) -> tuple[str, ...]:
    """What clusters are asked about: models, a model that the run was given, what an app's server sends."""
    return (bulk_of_round(run, "*", "model"), chunks_of(given_piece(run, "*", "*")), bulk_of_round(run, "*", "asked"))


def subscriber(name: str, patterns: Sequence[str]) -> Grant:
    """What a subscriber may do who may hear this. It asks for nothing, so it publishes nothing. Of too many patterns the last count."""
    kept, left_out = tuple(patterns[-PATTERNS_MAX:]), tuple(patterns[:-PATTERNS_MAX])
    limits = Limits(subscriptions=10, connections=connections_of(Role.SUBSCRIBER, 0))
    return Grant(Role.SUBSCRIBER, name, SUBSCRIBERS, (), kept, limits, left_out=left_out)


def of_role(role: Role, name: str) -> Grant:
    """What a service or an operator may do; `name` tells one from another. Raises KeyError for a role whose rights depend on the log."""
    stated = tuple(js.STATED + fact.pattern() for fact in FACTS if _says(role, fact.said_by))
    publish = tuple(dict.fromkeys((*stated, *_ASKS[role])))
    hears = (f"{inbox_of(role, name)}.>", *_HEARS.get(role, ()))
    return Grant(role, name, SERVERS, publish, hears, answers=role in _HEARS)


def _says(role: Role, said_by: str) -> bool:
    """Timers are kept by aggregators, so what a timer says they state."""
    speakers = said_by.split(", ")
    return role in speakers or (role is Role.AGGREGATOR and "timer" in speakers)


_FACTS = (*js.read_any(js.LOG), js.read_register(js.LOG))
_FLEET = (*js.read_any(js.FLEET), js.read_register(js.FLEET))
_ACCESS = (*js.read_any(js.ACCESS), js.read_register(js.ACCESS))
_OF_ROUNDS = tuple(js.last(js.BULK, bulk_of_round("*", "*", kind)) for kind in ("update", "model", "asked", "reply"))
_GIVEN = chunks_of(given_piece("*", "*", "*"))

_ASKS: dict[Role, tuple[str, ...]] = {
    Role.SCHEDULER: (*js.declare(), *_FACTS, *_FLEET),
    Role.AGGREGATOR: (
        *js.declare(), *_FACTS,
        f"timer.{Expired.pattern()}", f"timer.{Lapsed.pattern()}", *js.lease(js.TIMERS, js.KEPT_TIMERS), js.purge(js.TIMERS),
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
        js.describe(js.VIEWS), *_FACTS, *_OF_ROUNDS, bulk_of_round("*", "*", "asked"), bulk_of_round("*", "*", "model"), js.purge(js.BULK),
    ),
    Role.OPERATOR: (
        *(js.describe(stream) for stream in js.STREAMS), *js.examine(),
        *_FACTS, *_FLEET, *_ACCESS, *(each for stream in js.FACT_STREAMS for each in (*js.inspect(stream), *js.subscribe(stream))),
        *js.read_any(js.VIEWS), js.read_register(js.VIEWS), js.last(js.VIEWS, js.view("*")),
        reader_of("*"), dead_letters(), *js.bury(),
        _GIVEN, js.last(js.BULK, bulk_of_run("*")), js.purge(js.BULK),
    ),
    Role.AUTHORIZER: (
        *_FACTS, *_ACCESS, js.remove(LISTENED), f"$JS.API.CONSUMER.INFO.{LISTENED}.*",
        *js.read_any(js.BULK), js.purge(js.BULK), js.purge(js.LOG),
    ),
}  # fmt: skip
"""What each role asks of the server beside stating facts."""

_HEARS: dict[Role, tuple[str, ...]] = {
    Role.OPERATOR: (reader_of("*"),),
    Role.AUTHORIZER: (ASKED,),
}
"""What a role is asked by others beside what is answered to itself: who reads a durable subscription, what a cluster may read."""
