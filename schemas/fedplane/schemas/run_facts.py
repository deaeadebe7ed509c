"""The facts about a run as a whole, in the order of its life: asked for, placed, started, ended. What rules they follow: see `facts`."""

from pydantic import Field

from fedplane.schemas.fact import Fact
from fedplane.schemas.models import LISTENERS_MAX, Chosen, Exposure, Metrics, Model, Piece, Refused
from fedplane.schemas.names import Name
from fedplane.schemas.resources import FederatedLearning

__all__ = [
    "Archived", "Cancelled", "Completed", "EditRefused", "Exposed", "Failed", "Kept", "RunFact", "Scheduled", "Started", "Submitted",
    "Waiting",
]  # fmt: skip


class RunFact(Fact):
    """A fact about a run as a whole."""

    run: Name


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


class Exposed(RunFact):
    """The listeners that the run asks for, as they are now. The scheduler says it anew when an address changes, and the last one counts."""

    type = "io.fedplane.run.exposed.v1"
    template = "fed.v1.run.{run}.exposed.{number}"
    said_by = "scheduler"

    number: int = Field(ge=1)
    listeners: tuple[Exposure, ...] = Field(max_length=LISTENERS_MAX)
    pending: dict[str, str] = Field(default={}, max_length=LISTENERS_MAX)


# The end of a run


class Completed(RunFact):
    """The run has its model. The aggregator says it to everyone, and why no other round follows; or the driver of the app's own server.

    The metrics are the last ones that were measured up to this model.
    """

    type = "io.fedplane.run.completed.v1"
    template = "fed.v1.run.{run}.completed"
    said_by = "aggregator, driver"

    model: Model
    metrics: Metrics
    reason: str = ""


class Failed(RunFact):
    """The run cannot go on, and why."""

    type = "io.fedplane.run.failed.v1"
    template = "fed.v1.run.{run}.failed"
    said_by = "scheduler, aggregator, driver"

    reason: str
    message: str


class Cancelled(RunFact):
    """Somebody wants the run to end."""

    type = "io.fedplane.run.cancelled.v1"
    template = "fed.v1.run.{run}.cancelled"
    said_by = "cli, scheduler"

    message: str = ""


class Kept(RunFact):
    """The run's model is stored outside the bus, too, where its resource says. Whoever wrote it says where; it may follow the run's end."""

    type = "io.fedplane.run.kept.v1"
    template = "fed.v1.run.{run}.kept.{round}"
    said_by = "cli"

    round: int = Field(ge=0)
    location: str


class Archived(RunFact):
    """Everything that was said about an ended run before this is in one file, and leaves the log. The status service says so.

    It stays as the run's only fact until the run's models and this file are removed, too; so long the run cannot be submitted again.
    """

    type = "io.fedplane.run.archived.v1"
    template = "fed.v1.run.{run}.archived"
    said_by = "status"

    facts: int = Field(ge=1)
    piece: Piece
