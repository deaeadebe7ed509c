"""The facts: everything that can be said about a run, a round or a cluster, in the order of a run's life.

A fact's subject is its identity: it is made of the fact's own fields, and the log keeps the first fact stated under a subject.
So whatever must be said at most once gets a subject of its own, and nothing else in the project has to prevent repetition.

Rules that keep this file honest:
1. Subject strings are written here and nowhere else.
2. The verb comes before the cluster's name, so that a permission can say "C may state `contributed`, of any round, of C alone".
3. A fact is a past participle and carries when it was stated (`at`). It never carries tensors.
4. Only optional fields are added. A change that breaks a reader is a new class with `.v2`.
"""

from pydantic import Field

from fedplane.schemas.fact import Fact
from fedplane.schemas.models import Chosen, Configuration, Instant, Metrics, Model, Piece, Refused, Task, Weight
from fedplane.schemas.names import Name
from fedplane.schemas.quantities import Quantity
from fedplane.schemas.resources import FederatedLearning

__all__ = [
    "ALL_ROUNDS_DONE", "Advertised", "Aggregated", "Archived", "Cancelled", "Closed", "Completed", "Contributed", "Declined", "EVERYTHING",
    "EditRefused", "Evaluated", "Expired", "FACTS", "Fact", "Failed", "Folded", "Invited", "Measured", "Opened", "Rejected", "RoundFact",
    "RoundFailed", "RunFact", "Scheduled", "Started", "Submitted", "Waiting", "all_facts_of", "fact_type", "run_level_facts_of",
]  # fmt: skip


class RunFact(Fact):
    """A fact about a run as a whole."""

    run: Name


class RoundFact(RunFact):
    """A fact about one round of a run."""

    round: int = Field(ge=0)


# A run, until clusters are chosen


class Submitted(RunFact):
    """Somebody asks for a run. The command line says it to everyone, or the scheduler for an object on the hub, with which the run ends."""

    type = "io.fedplane.run.submitted.v1"
    template = "fed.v1.run.{run}.submitted"
    said_by = "cli, scheduler"

    resource: FederatedLearning
    from_hub: bool = False
    invalid: str = ""
    model: Model | None = None


class Waiting(RunFact):
    """The run cannot be placed yet, and why. The scheduler says it to people; `number` counts a run's waits from 1."""

    type = "io.fedplane.run.waiting.v1"
    template = "fed.v1.run.{run}.waiting.{number}"
    said_by = "scheduler"

    number: int = Field(ge=1)
    wanted: int
    eligible: int
    message: str
    refused: tuple[Refused, ...]


class Scheduled(RunFact):
    """Clusters are chosen. The scheduler says who takes part, who does not, and every reason."""

    type = "io.fedplane.run.scheduled.v1"
    template = "fed.v1.run.{run}.scheduled"
    said_by = "scheduler"

    participants: tuple[Chosen, ...]
    refused: tuple[Refused, ...]


class Started(RunFact):
    """The aggregator has taken the run up; its first round follows."""

    type = "io.fedplane.run.started.v1"
    template = "fed.v1.run.{run}.started"
    said_by = "aggregator"

    strategy: str
    training_rounds: int


class EditRefused(RunFact):
    """The object that asked for the run was edited, and the run goes on as it was asked for. The scheduler says so of each generation."""

    type = "io.fedplane.run.refused.v1"
    template = "fed.v1.run.{run}.refused.{generation}"
    said_by = "scheduler"

    generation: int = Field(ge=1)
    message: str


# A round


class Opened(RoundFact):
    """A round begins. The aggregator says what is asked, of whom, by when, and how an update is to be cut.

    Rounds are numbered in the order in which they were opened; `training_round` is the one that the user counts, 0 for initialization.
    A failed round is tried again under the next number.
    `left_out` are participants that were not asked because their contributions were refused before.
    `carried` are those of the clusters that still work on the question of an earlier round, and which one; their answer to it counts here.
    """

    type = "io.fedplane.round.opened.v1"
    template = "fed.v1.run.{run}.round.{round}.opened"
    said_by = "aggregator"

    task: Task
    training_round: int
    clusters: tuple[Name, ...]
    minimum: int
    deadline: Instant
    shard_bytes: int
    chunk_bytes: int
    model: Model | None = None
    close_at: int | None = None
    weight_max: float | None = None
    left_out: dict[str, str] = {}
    carried: dict[Name, int] = {}


class Invited(RoundFact):
    """One cluster is asked to initialize, train or evaluate. The aggregator says it to that cluster's collaborator.

    If it `carries` an earlier round, the answer to that round's question is wanted here; whoever lost that work answers this one instead.
    Work on a question may go on until `carried_until` although its round is closed, since a later round may carry it.
    """

    type = "io.fedplane.round.invited.v1"
    template = "fed.v1.run.{run}.round.{round}.invited.{cluster}"
    said_by = "aggregator"

    cluster: Name
    task: Task
    training_round: int
    framework: str
    app: str
    data: str
    configuration: Configuration
    run_configuration: Configuration
    deadline: Instant
    shard_bytes: int
    chunk_bytes: int
    position: int = 0
    clusters: int = 1
    model: Model | None = None
    carries: int | None = None
    carried_until: Instant | None = None


class Contributed(RoundFact):
    """A cluster's update is stored whole and counts from now on. Its collaborator says so after the last chunk was acknowledged.

    `configuration` is what the app's own server would tell its clients; only an initialization has it.
    `origin` is the round whose question the update answers, if it is not this one but an earlier one that this round carries.
    """

    type = "io.fedplane.round.contributed.v1"
    template = "fed.v1.run.{run}.round.{round}.contributed.{cluster}"
    said_by = "collaborator"

    cluster: Name
    attempt: Name
    weight: Weight
    metrics: Metrics
    layout: Piece
    shards: tuple[Piece, ...]
    configuration: Configuration = {}
    origin: int | None = None


class Evaluated(RoundFact):
    """A cluster measured the model on its own data. Its collaborator says so; `weight` is the number of examples."""

    type = "io.fedplane.round.evaluated.v1"
    template = "fed.v1.run.{run}.round.{round}.evaluated.{cluster}"
    said_by = "collaborator"

    cluster: Name
    weight: Weight
    metrics: Metrics


class Declined(RoundFact):
    """A cluster cannot answer its invitation, and why; `detail` has the app's last words.

    Its collaborator says so, or the scheduler for a managed cluster whose collaborator does not start, or has gone.
    """

    type = "io.fedplane.round.declined.v1"
    template = "fed.v1.run.{run}.round.{round}.declined.{cluster}"
    said_by = "collaborator, scheduler"

    cluster: Name
    reason: str
    message: str
    detail: str = ""


class Rejected(RoundFact):
    """A contribution does not count, and why. The aggregator says it to the cluster and to people; the round goes on without it."""

    type = "io.fedplane.round.rejected.v1"
    template = "fed.v1.run.{run}.round.{round}.rejected.{cluster}"
    said_by = "aggregator"

    cluster: Name
    reason: str
    message: str


class Expired(RoundFact):
    """The round's deadline has passed. Whoever keeps the timers says so, when the bus hands over the one that was set for it."""

    type = "io.fedplane.round.expired.v1"
    template = "fed.v1.run.{run}.round.{round}.expired"
    said_by = "timer"


class Closed(RoundFact):
    """No answer counts after this one.

    The aggregator says why: everyone answered, enough contributed, the deadline passed, the run was cancelled.
    """

    type = "io.fedplane.round.closed.v1"
    template = "fed.v1.run.{run}.round.{round}.closed"
    said_by = "aggregator"

    reason: str


class Measured(RoundFact):
    """One shard's part of how the members' updates compare. The replica that computed it says so, for strategies that judge whole updates.

    `products` are inner products of differences from the model, of each member with itself and those after it: the upper triangle, by rows.
    """

    type = "io.fedplane.round.measured.v1"
    template = "fed.v1.run.{run}.round.{round}.measured.{shard}"
    said_by = "aggregator"

    shard: int = Field(ge=0)
    members: tuple[Name, ...]
    products: tuple[float, ...]


class Folded(RoundFact):
    """One shard of the next model is computed and stored. The replica that did it says under which attempt its chunks are."""

    type = "io.fedplane.round.folded.v1"
    template = "fed.v1.run.{run}.round.{round}.folded.{shard}"
    said_by = "aggregator"

    shard: int = Field(ge=0)
    piece: Piece
    members: tuple[Name, ...]
    layout: Piece | None = None
    memory: Piece | None = None


class Aggregated(RoundFact):
    """The round has a result: a new model, or what the clusters measured of the last one. The aggregator says it to everyone."""

    type = "io.fedplane.round.aggregated.v1"
    template = "fed.v1.run.{run}.round.{round}.aggregated"
    said_by = "aggregator"

    task: Task
    training_round: int
    members: tuple[Name, ...]
    weight: float
    metrics: Metrics
    model: Model | None = None


class RoundFailed(RoundFact):
    """The round has no result, and why. `faulty` names the clusters whose contributions could not be used."""

    type = "io.fedplane.round.failed.v1"
    template = "fed.v1.run.{run}.round.{round}.failed"
    said_by = "aggregator"

    reason: str
    message: str
    faulty: tuple[Name, ...] = ()


# The end of a run


class Completed(RunFact):
    """The run has its model. The aggregator says it to everyone, and why no other round follows.

    The metrics are the last ones that were measured up to this model.
    """

    type = "io.fedplane.run.completed.v1"
    template = "fed.v1.run.{run}.completed"
    said_by = "aggregator"

    model: Model
    metrics: Metrics
    reason: str = ""


class Failed(RunFact):
    """The run cannot go on, and why."""

    type = "io.fedplane.run.failed.v1"
    template = "fed.v1.run.{run}.failed"
    said_by = "scheduler, aggregator"

    reason: str
    message: str


class Cancelled(RunFact):
    """Somebody wants the run to end."""

    type = "io.fedplane.run.cancelled.v1"
    template = "fed.v1.run.{run}.cancelled"
    said_by = "cli, scheduler"

    message: str = ""


class Archived(RunFact):
    """Everything that was said about an ended run before this is in one file, and leaves the log. The status service says so.

    It stays as the run's only fact until the run's models and this file are removed, too; so long the run cannot be submitted again.
    """

    type = "io.fedplane.run.archived.v1"
    template = "fed.v1.run.{run}.archived"
    said_by = "status"

    facts: int = Field(ge=1)
    piece: Piece


# The fleet: of these facts, the last one counts


class Advertised(Fact):
    """What a cluster offers now; valid for `lease_seconds` from `at`. Its collaborator, or the scheduler for a managed cluster, says so."""

    type = "io.fedplane.fleet.advertised.v1"
    template = "fed.v1.fleet.{cluster}.advertised"
    said_by = "collaborator, scheduler"

    cluster: Name
    lease_seconds: float = Field(gt=0)
    claims: dict[str, str] = {}
    allocatable: dict[str, Quantity] = {}
    labels: dict[str, str] = {}
    frameworks: tuple[str, ...] = ()
    managed: bool = False
    unavailable: str = ""


FACTS: tuple[type[Fact], ...] = (
    Submitted, Waiting, Scheduled, Started, EditRefused,
    Opened, Invited, Contributed, Evaluated, Declined, Rejected, Expired, Closed, Measured, Folded, Aggregated, RoundFailed,
    Completed, Failed, Cancelled, Archived,
    Advertised,
)  # fmt: skip
"""Every fact there is. A new fact is a class above and a name here."""

ALL_ROUNDS_DONE = "all rounds done"
"""The reason in `completed` when the run has done all that was asked for."""

EVERYTHING = "fed.v1.>"
"""Every fact, of runs and of the fleet: what an onlooker subscribes to."""


def fact_type(type_: str) -> type[Fact] | None:
    """The class of a fact from its CloudEvents type; None for a type that this version does not know."""
    return next((known for known in FACTS if known.type == type_), None)


def all_facts_of(run: str = "*") -> str:
    """Everything that is said about a run."""
    return f"fed.v1.run.{run}.>"


def run_level_facts_of(run: str) -> str:
    """What is said about a run as a whole, its waits excepted: a fence on these lets a run be submitted only once, and end only once."""
    return f"fed.v1.run.{run}.*"
