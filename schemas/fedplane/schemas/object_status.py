"""The `status` of a `FederatedLearning` object: how a run looks to `kubectl`.

It is the run's view (`views`) in the shape of the Kubernetes API, and written by one service with one field manager.
Upstream's fields (`phase`, `message`, `listeners`) mean what they mean there; the others are ours and optional.
An object must fit etcd, which takes 1.5 MB, so every list is bounded; the log has all of it.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedplane.schemas.models import Instant
from fedplane.schemas.names import Name
from fedplane.schemas.parts import Part

__all__ = [
    "CLUSTERS_SHOWN_MAX", "ROUNDS_SHOWN_MAX", "CriterionStatus", "ListenerStatus", "ModelStatus", "ObjectCondition", "ObjectStatus",
    "ParticipantStatus", "PrivacyStatus", "RefusalStatus", "RoundStatus",
]  # fmt: skip

CLUSTERS_SHOWN_MAX = 500
"""Participants, and refusals, that a status has: twice 500 of at most 1 KB each leave room for the rest."""

ROUNDS_SHOWN_MAX = 20
"""How many of its last rounds a status has: ten training rounds with their evaluations, as many as a person looks at."""

Scores = dict[str, float]


class ListenerStatus(Part):
    """Where the server can be reached."""

    name: str = ""
    """The listener's name."""
    type: str = ""
    """NodePort, LoadBalancer, Route or Ingress."""
    address: str = ""
    """host:port."""
    port: int | None = None
    """The port, for a NodePort."""


class ObjectCondition(Part):
    """One question about the run, answered, as Kubernetes' conditions are."""

    type: str
    """The question: Scheduled, Exposed (has each listener an address), Running, Completed, Failed, Kept (is the model in its storage)
    or Synced (is the run what was asked for)."""
    status: Literal["True", "False", "Unknown"]
    """The answer."""
    reason: str = ""
    """Why, in a word for a program."""
    message: str = ""
    """Why, in a sentence for a person."""
    last_transition_time: Instant
    """When the answer last changed."""
    observed_generation: int | None = None
    """The generation of the object that the answer is about."""


class CriterionStatus(Part):
    """One criterion's part in a score."""

    criterion: str
    """The criterion's name."""
    score: float
    """Between 0 and 1; more is better."""
    weight: float
    """How much the criterion counts in this run."""


class ParticipantStatus(Part):
    """A cluster that takes part."""

    cluster: Name
    """The cluster's name."""
    score: float
    """The sum of the terms, each score times its weight."""
    terms: tuple[CriterionStatus, ...] = ()
    """What the score is made of."""


class RefusalStatus(Part):
    """A cluster that does not take part, and why."""

    cluster: Name
    """The cluster's name."""
    reason: str
    """Which filter refused it, in a word for a program."""
    message: str = ""
    """Why, in a sentence for a person."""
    score: float | None = None
    """The score of a cluster that passed every filter and was outscored."""
    terms: tuple[CriterionStatus, ...] = ()
    """What that score is made of."""


class RoundStatus(Part):
    """One round."""

    round: int
    """Its number on the log, from 0."""
    task: Literal["initialize", "train", "evaluate", "reply"]
    """The one question it asks; `reply` is to whatever the app's own server sends."""
    training_round: int
    """The round as the user counts."""
    state: Literal["Open", "Closed", "Aggregated", "Failed", "Abandoned"]
    """Where it is: answers count while it is open."""
    message: str = ""
    """Why it failed, or why it was closed."""
    invited: int = 0
    """How many clusters were asked."""
    answered: int = 0
    """How many answered before it closed."""
    declined: int = 0
    """How many could not answer."""
    rejected: int = 0
    """How many answers do not count."""
    opened_at: Instant
    """When it was opened."""
    ended_at: Instant | None = None
    """When it ended."""
    metrics: Scores = {}
    """The weighted means of what its members measured, by name."""
    epsilon: float | None = None
    """What the noise in the run's models had cost when the round had its result."""


class ModelStatus(Part):
    """The latest model."""

    round: int
    """The round that made it."""
    location: str
    """Where it is kept, or until then the subject of its layout on the bus, beside which its shards are; `fedplane model` fetches it."""
    digest: str
    """BLAKE3 over the digests of the layout and of the shards, in order."""
    bytes: int
    """How many bytes it has."""


class PrivacyStatus(Part):
    """What the noise in the run's models has cost: they are (epsilon, delta)-differentially private as to each cluster's part in them."""

    epsilon: float
    """By which factor, e to the power of it, odds may change if one cluster's updates are replaced by none."""
    delta: float
    """With which probability that need not hold."""
    rounds: int
    """How many rounds have cost something, those included that failed when a part of their result was known."""
    accountant: Literal["pld", "rdp"]
    """How it was computed: from the privacy loss distribution, or from Rényi's divergence."""


class ObjectStatus(Part):
    """What is known of the run."""

    phase: Literal["Waiting", "Running", "Completed", "Failed", "Start"] = "Waiting"
    """Where the run is in its life. Start is upstream's word, and never set."""
    message: str = ""
    """What there is to say about it."""
    listeners: tuple[ListenerStatus, ...] = ()
    """Where the server can be reached."""
    observed_generation: int | None = None
    """The generation of the object that this status is about."""
    conditions: Annotated[tuple[ObjectCondition, ...], Field(json_schema_extra={"x-kubernetes-list-map-keys": ["type"]})] = ()
    """Questions about the run, answered, one of each type."""
    run: str = ""
    """The run's id on the log."""
    submitted_at: Instant | None = None
    """When the run was asked for."""
    sequence: int | None = None
    """The place on the log of the last fact that is told here; of two writers, the one that knows more wins."""
    round: int | None = None
    """The training round that is under way, or was the last; 0 is initialization."""
    rounds: tuple[RoundStatus, ...] = Field(default=(), max_length=ROUNDS_SHOWN_MAX)
    """The last rounds, oldest first."""
    participating: int | None = None
    """How many clusters take part; the list below may have the first of them only."""
    not_participating: int | None = None
    """How many clusters do not take part; the list below may have the first of them only."""
    participants: tuple[ParticipantStatus, ...] = Field(default=(), max_length=CLUSTERS_SHOWN_MAX)
    """The clusters that take part, the best score first."""
    refused: tuple[RefusalStatus, ...] = Field(default=(), max_length=CLUSTERS_SHOWN_MAX)
    """The clusters that do not take part, by name."""
    metrics: Scores = {}
    """What was last measured of the model, by name."""
    privacy: PrivacyStatus | None = None
    """What the noise in the run's models has cost so far."""
    model: ModelStatus | None = None
    """The latest model."""
