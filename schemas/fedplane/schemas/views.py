"""How a run looks from outside: one document that answers "how is my run doing?" without reading the log.

The status service folds a run's facts into a `RunView`; whoever only wants to look (the command line, a dashboard, Kubernetes) reads that.
Phase and conditions follow Kubernetes' conventions, so that `kubectl wait --for=condition=Completed` means what it says.
A view is a copy and may be a moment old: nothing is ever decided from it.
Everything in it is bounded, since a view is one value in a bucket.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fedplane.schemas.models import Chosen, Exposure, Instant, Metrics, Model, Refused, Task
from fedplane.schemas.names import Name
from fedplane.schemas.privacy_terms import Spent

__all__ = ["MESSAGE_CHARACTERS_MAX", "ROUNDS_KEPT_MAX", "Condition", "Decline", "Phase", "RoundState", "RoundView", "RunView"]

ROUNDS_KEPT_MAX = 200
"""How many of its last rounds a view has: a hundred training rounds with their evaluations, more than a screen or a person takes in."""

MESSAGE_CHARACTERS_MAX = 1_000
"""How much of a message a view has. The fact on the log has all of it."""


class _Shown(BaseModel):
    """A part of a view: immutable, and tolerant of fields that a later version added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Phase(StrEnum):
    """Where a run is in its life. The last two are terminal; a cancelled run has failed."""

    WAITING = "Waiting"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class Condition(_Shown):
    """One question about the run, answered: `last_transition_at` is when the answer last changed, not when it was last given."""

    type: Literal["Scheduled", "Exposed", "Running", "Completed", "Failed", "Kept", "Synced"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_at: Instant


class RoundState(StrEnum):
    """Where a round is: answers count while it is open. It was abandoned if the run ended first."""

    OPEN = "Open"
    CLOSED = "Closed"
    AGGREGATED = "Aggregated"
    FAILED = "Failed"
    ABANDONED = "Abandoned"


class Decline(_Shown):
    """A cluster that could not answer its invitation, or whose answer does not count, and why.

    `seconds` is how long after the round was opened it said that it could not answer; an answer that does not count has its own time.
    """

    cluster: Name
    reason: str
    message: str
    seconds: float | None = None


class RoundView(_Shown):
    """One round: who was asked, who answered (by a contribution or an evaluation) before it closed, what came out.

    `declined` are those who could not answer, `rejected` those who did and whose answer does not count.
    `message` says why a round failed, or why it was closed.
    `answered_seconds` is how long after the opening each of `answered` did, by its own clock against that of whoever opened the round.
    `carried` are the clusters that still work on the question of an earlier round, and on which; `left_out` who was not asked, and why.
    `privacy` is what the noise in the run's models had cost when the round had its result.
    """

    round: int
    task: Task
    training_round: int
    state: RoundState
    message: str = ""
    opened_at: Instant
    deadline: Instant
    closed_at: Instant | None = None
    ended_at: Instant | None = None
    invited: tuple[Name, ...]
    answered: tuple[Name, ...] = ()
    answered_seconds: tuple[float, ...] = ()
    carried: dict[Name, int] = {}
    left_out: dict[str, str] = {}
    declined: tuple[Decline, ...] = ()
    rejected: tuple[Decline, ...] = ()
    metrics: Metrics = {}
    privacy: Spent | None = None


class RunView(_Shown):
    """A run, as its facts up to the log's `sequence` tell it.

    `training_rounds` is how many the user wants and `training_rounds_done` how many have a result.
    `round` and `task` are the latest round's. `model` is the latest there is; `metrics` are the run's final ones.
    `phases` says when each phase began. `failure_reason` is one word for a program; `message` is for a person.
    `storage` is the type of the storage in which the resource wants the model, and `location` where it lies there since it was kept.
    `listeners` are how the bus is reached from outside the hub, of those that the run asks for and that have an address.
    `name`, `namespace`, `uid` and `generation` are the resource's, as it was when the run was asked for.
    `wanted` and `eligible` are how many clusters the run needed and how many fitted when it last had to wait.
    `privacy` is what the noise in its models has cost so far, as of the last training round that has a result.
    """

    run: Name
    name: str
    namespace: str
    uid: str = ""
    generation: int = 1
    phase: Phase
    message: str
    failure_reason: str = ""
    conditions: tuple[Condition, ...] = ()
    sequence: int
    submitted_at: Instant
    phases: dict[Phase, Instant]
    training_rounds: int
    training_rounds_done: int = 0
    round: int | None = None
    task: Task | None = None
    rounds: tuple[RoundView, ...] = Field(default=(), max_length=ROUNDS_KEPT_MAX)
    wanted: int | None = None
    eligible: int | None = None
    participants: tuple[Chosen, ...] = ()
    refused: tuple[Refused, ...] = ()
    model: Model | None = None
    metrics: Metrics = {}
    privacy: Spent | None = None
    storage: str = ""
    location: str = ""
    listeners: tuple[Exposure, ...] = ()

    @property
    def said(self) -> str:
        """How it is, for a person. A run that was cancelled has failed, too; the word before the message tells the two apart."""
        return f"{self.failure_reason}: {self.message}" if self.failure_reason else self.message

    @property
    def ended(self) -> bool:
        """Whether the phase is terminal: nothing about the run will change, but that its model may be kept."""
        return self.phase in (Phase.COMPLETED, Phase.FAILED)
