"""The facts about one round of a run, in the order of its life: opened, answered, closed, computed. What rules they follow: see `facts`."""

from typing import Annotated

from pydantic import Field

from fedplane.schemas.models import Configuration, Contents, Instant, Instruction, Metrics, Model, Piece, Task, Weight
from fedplane.schemas.names import Name
from fedplane.schemas.privacy_terms import LocalTerms, MaskingTerms, NoiseTerms, Spent
from fedplane.schemas.run_facts import RunFact

__all__ = [
    "Aggregated", "Asked", "Closed", "Contributed", "Declined", "Evaluated", "Expired", "Folded", "Invited", "Measured", "Opened",
    "Rejected", "RoundFact", "RoundFailed",
]  # fmt: skip


TALLIES_MAX = 4
"""What is summed besides a model's numbers: a weight. The others are for what a later version sums."""

Tally = Annotated[int, Field(ge=0, lt=2**64)]
"""An integer of a masked sum; no more than 64 bits."""


class RoundFact(RunFact):
    """A fact about one round of a run."""

    round: int = Field(ge=0)


class Asked(RoundFact):
    """The app's own server wants replies, and the next round is for them. The driver of a run by the strategy `app` says so.

    The contents are stored before this is said, each once, however many clusters it is for.
    With `fold` the replies are folded into their mean, else each of them is kept until the run ends.
    """

    type = "io.fedplane.round.asked.v1"
    template = "fed.v1.run.{run}.round.{round}.asked"
    said_by = "driver"

    training_round: int = Field(ge=0)
    instructions: tuple[Instruction, ...] = Field(min_length=1)
    contents: tuple[Model, ...] = Field(min_length=1)
    timeout_seconds: float | None = Field(default=None, gt=0)
    fold: bool = False


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
    appends: bool = False
    masking: MaskingTerms | None = None
    noise: NoiseTerms | None = None


class Invited(RoundFact):
    """One cluster is asked to initialize, train, evaluate or reply. The aggregator says it to that cluster's collaborator.

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
    instruction: Instruction | None = None
    fold: bool = False
    appends: bool = False
    masking: MaskingTerms | None = None
    hides_weight: bool = False
    local_privacy: LocalTerms | None = None


class Contributed(RoundFact):
    """A cluster's update is stored whole and counts from now on. Its collaborator says so after the last chunk was acknowledged.

    `configuration` is what the app's own server would tell its clients; only an initialization has it.
    `origin` is the round whose question the update answers, if it is not this one but an earlier one that this round carries.
    In a masked round its shards are masked integers, one for each number of the model's shards, and `tally` has what else is only summed.
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
    tally: tuple[Tally, ...] = Field(default=(), max_length=TALLIES_MAX)


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
    In a masked round `members` are those whose masks are to be taken off, and clusters then help with that.
    """

    type = "io.fedplane.round.closed.v1"
    template = "fed.v1.run.{run}.round.{round}.closed"
    said_by = "aggregator"

    reason: str
    members: tuple[Name, ...] | None = None


class Measured(RoundFact):
    """One shard's part of how the members' updates compare. The replica that computed it says so, for strategies that judge whole updates.

    `products` are inner products of differences from the model, of each member with itself and those after it: the upper triangle, by rows.
    In a round with noise they are of each member with itself alone, since there only lengths are needed.
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
    contents: Contents | None = None
    below: float | None = None


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
    privacy: Spent | None = None


class RoundFailed(RoundFact):
    """The round has no result, and why. `faulty` names the clusters whose contributions could not be used."""

    type = "io.fedplane.round.failed.v1"
    template = "fed.v1.run.{run}.round.{round}.failed"
    said_by = "aggregator"

    reason: str
    message: str
    faulty: tuple[Name, ...] = ()
