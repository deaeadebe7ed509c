"""The facts: everything that can be said about a run, a round, a cluster or who may use the bus, in the order of a run's life.

Those about a run are written in `run_facts`, about a round in `round_facts`, what masked rounds have besides in `masking_facts`,
about access in `access_facts`, about a cluster here.

A fact's subject is its identity: it is made of the fact's own fields, and the log keeps the first fact stated under a subject.
So whatever must be said at most once gets a subject of its own, and nothing else in the project has to prevent repetition.

Rules that keep these files honest:
1. Subject strings are written in these five files and nowhere else.
2. The verb comes before the cluster's name, so that a permission can say "C may state `contributed`, of any round, of C alone".
3. A fact is a past participle and carries when it was stated (`at`). It never carries tensors.
4. Only optional fields are added. A change that breaks a reader is a new class with `.v2`.
"""

from pydantic import Field

from fedplane.schemas.access_facts import AccessFact, Granted, Revoked
from fedplane.schemas.fact import Fact
from fedplane.schemas.masking_facts import Bound, Entrusted, Keyed, Lapsed, Paired, Revealed, Shared
from fedplane.schemas.names import Name, round_number
from fedplane.schemas.quantities import Quantity
from fedplane.schemas.round_facts import (
    Aggregated,
    Asked,
    Closed,
    Contributed,
    Declined,
    Evaluated,
    Expired,
    Folded,
    Invited,
    Measured,
    Opened,
    Rejected,
    RoundFact,
    RoundFailed,
)
from fedplane.schemas.run_facts import (
    Archived,
    Cancelled,
    Completed,
    EditRefused,
    Exposed,
    Failed,
    Kept,
    RunFact,
    Scheduled,
    Started,
    Submitted,
    Waiting,
)

__all__ = [
    "ALL_ROUNDS_DONE", "AccessFact", "Advertised", "Aggregated", "Archived", "Asked", "Bound", "Cancelled", "Closed", "Completed",
    "Contributed", "Declined", "EVERYTHING", "EditRefused", "Entrusted", "Evaluated", "Expired", "Exposed", "FACTS", "Fact", "Failed",
    "Folded", "Granted", "Invited", "Kept", "Keyed", "Lapsed", "Measured", "Opened", "Paired", "Rejected", "Revealed", "Revoked",
    "RoundFact", "RoundFailed", "RunFact", "Scheduled", "Shared", "Started", "Submitted", "Waiting", "all_facts_of", "fact_type",
    "parse_answer", "run_level_facts_of",
]  # fmt: skip


class Advertised(Fact):
    """What a cluster offers now; valid for `lease_seconds` from `at`, and the last one counts.

    Its collaborator, or the scheduler for a managed cluster, says so.
    """

    type = "io.fedplane.fleet.advertised.v1"
    template = "fed.v1.fleet.{cluster}.advertised"
    said_by = "collaborator, scheduler"
    replaces = True
    bytes_max = 250_000
    """Claims and labels have some kilobytes. All advertisements are kept together, so whoever says too much takes others' room."""

    cluster: Name
    lease_seconds: float = Field(gt=0)
    claims: dict[str, str] = {}
    allocatable: dict[str, Quantity] = {}
    labels: dict[str, str] = {}
    frameworks: tuple[str, ...] = ()
    managed: bool = False
    unavailable: str = ""


FACTS: tuple[type[Fact], ...] = (
    Submitted, Waiting, Scheduled, Started, EditRefused, Exposed,
    Asked, Opened, Invited, Contributed, Evaluated, Declined, Rejected, Expired, Closed, Measured, Folded, Aggregated, RoundFailed,
    Keyed, Paired, Shared, Bound, Entrusted, Revealed, Lapsed,
    Completed, Failed, Cancelled, Kept, Archived,
    Advertised,
    Granted, Revoked,
)  # fmt: skip
"""Every fact there is. A new fact is a class in one of the five files and a name here."""

ALL_ROUNDS_DONE = "all rounds done"
"""The reason in `completed` when the run has done all that was asked for."""

EVERYTHING = "fed.v1.>"
"""Every fact that is announced, of runs and of the fleet: what an onlooker subscribes to."""


def fact_type(type_: str) -> type[Fact] | None:
    """The class of a fact from its CloudEvents type; None for a type that this version does not know."""
    return next((known for known in FACTS if known.type == type_), None)


def all_facts_of(run: str = "*") -> str:
    """Everything that is said about a run."""
    return f"fed.v1.run.{run}.>"


def parse_answer(subject: str) -> tuple[str, int, str]:
    """The run, the round and the cluster of a fact that a cluster says about a round, whatever it says; -1 for what is no round."""
    _, _, _, run, _, round_, _, cluster = subject.split(".")
    return run, round_number(round_), cluster


def run_level_facts_of(run: str) -> str:
    """What is said about a run as a whole, its waits excepted: a fence on these lets a run be submitted only once, and end only once."""
    return f"fed.v1.run.{run}.*"
