"""A log in a list, for tests that tell the aggregator a story and compare what it wants done."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fedplane.aggregator.histories import Run
from fedplane.aggregator.runs import Cut, Runs, RunsState
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import Asked, Contributed, Declined, Evaluated, Fact, Folded, Invited, Scheduled, Submitted
from fedplane.schemas.layout import cut
from fedplane.schemas.models import Chosen, Instruction, Model, Piece, Task, model_digest
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.subjects import asked_piece, model_piece, update_piece

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "digits-01234567"
SHARD_BYTES, CHUNK_BYTES, MODEL_BYTES = 80, 16, 200
LAYOUT_DIGEST = "blake3:" + "a" * 64


def resource(**spec: Any) -> FederatedLearning:
    spec = {"framework": "flower", "server": {"rounds": 1, "minAvailableClients": 2}, **spec}
    metadata = {"name": "digits", "annotations": {"fedplane.io/app": "app"}}
    return FederatedLearning.model_validate(
        {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning", "metadata": metadata, "spec": spec}
    )


def scheduled(*clusters: str) -> Scheduled:
    return Scheduled(
        run=RUN, at=NOW, participants=tuple(Chosen(cluster=c, score=1, terms=(), data=f"/data/{c}") for c in clusters), refused=()
    )


def piece(subject: str, size: int, digest: str = "blake3:" + "b" * 64) -> Piece:
    return Piece(subject=subject, bytes=size, chunk_bytes=CHUNK_BYTES, digest=digest)


def contributed(
    round_: int, cluster: str, weight: float = 1, *, size: int = MODEL_BYTES, layout: str = LAYOUT_DIGEST, **more: Any
) -> Contributed:
    shards = [piece(update_piece(RUN, round_, cluster, "x", k), e - b) for k, (b, e) in enumerate(cut(size, SHARD_BYTES))]
    header = piece(update_piece(RUN, round_, cluster, "x", "layout"), 64, layout)
    told = {"metrics": {"loss": weight}, "shards": tuple(shards), "layout": header, **more}
    return Contributed(run=RUN, round=round_, cluster=cluster, at=NOW, attempt="x", weight=weight, **told)


def evaluated(round_: int, cluster: str, weight: float, accuracy: float) -> Evaluated:
    return Evaluated(run=RUN, round=round_, cluster=cluster, at=NOW, weight=weight, metrics={"accuracy": accuracy})


def content(round_: int, number: int = 0) -> Model:
    layout, shard = (piece(asked_piece(RUN, round_, f"z-{number}", part), 64, "blake3:" + f"{number}" * 64) for part in ("layout", 0))
    return Model(run=RUN, round=round_, bytes=64, layout=layout, shards=(shard,), digest=model_digest(layout, (shard,)))


def asked(round_: int, *clusters: str, kind: str = "train", **more: Any) -> Asked:
    """Each of the clusters is sent a content of its own."""
    instructions = [Instruction(cluster=cluster, kind=kind, group="1", content=number) for number, cluster in enumerate(clusters)]
    told = {"training_round": round_ + 1, "contents": [content(round_, number) for number in range(len(clusters))], **more}
    return Asked(run=RUN, round=round_, at=NOW, **{"instructions": instructions, **told})


def declined(round_: int, cluster: str) -> Declined:
    return Declined(run=RUN, round=round_, cluster=cluster, at=NOW, reason="app-raised", message="it raised")


def folded(round_: int, shard: int, *members: str, size: int = MODEL_BYTES) -> Folded:
    begin, end = cut(size, SHARD_BYTES)[shard]
    layout = piece(model_piece(RUN, round_, "y", "layout"), 64, LAYOUT_DIGEST) if shard == 0 else None
    return Folded(
        run=RUN,
        round=round_,
        shard=shard,
        at=NOW,
        piece=piece(model_piece(RUN, round_, "y", shard), end - begin),
        members=members,
        layout=layout,
    )


@dataclass
class Story:
    """A core and the log it has read."""

    spec: dict[str, Any] = field(default_factory=dict)
    clusters: tuple[str, ...] = ("a", "b", "c")
    now: datetime = NOW
    has_secret: bool = True

    def __post_init__(self) -> None:
        self.core = Runs(Cut(SHARD_BYTES, CHUNK_BYTES), has_secret=self.has_secret)
        self.log: list[Fact] = []
        self.state: RunsState = self.core.initial()
        self.tell(Submitted(run=RUN, at=NOW, resource=resource(**self.spec)))

    @property
    def run(self) -> Run:
        return self.state[RUN]

    def tell(self, *facts: Fact) -> None:
        for fact in facts:
            self.log.append(fact)
            self.state = self.core.evolve(self.state, Recorded(fact, len(self.log)))

    def due(self) -> list[Action]:
        self.now += timedelta(seconds=1)
        return list(self.core.decide(self.state, self.now))

    def said(self) -> list[Action]:
        """What is due but for effects: what earlier rounds left is discarded as well."""
        return [action for action in self.due() if not isinstance(action, Perform)]

    def stated(self) -> list[Fact]:
        return [action.fact for action in self.due() if isinstance(action, State)]

    def obey(self) -> list[Fact]:
        """State what is due, as the loop would, until nothing new is; invitations stay unanswered and shards unfolded."""
        said: list[Fact] = []
        while fresh := [fact for fact in self.stated() if fact.subject not in {old.subject for old in self.log}]:
            self.tell(*fresh)
            said += fresh
        return said

    def initialize(self) -> None:
        """Everything until the first training round is opened."""
        self.tell(scheduled(*self.clusters))
        self.obey()
        self.tell(contributed(0, self.clusters[0], configuration={"lr": 0.5}))
        self.obey()
        self.tell(*(folded(0, shard, self.clusters[0]) for shard in range(3)))
        self.obey()

    def invited(self) -> dict[str, Task]:
        current = self.run.round.opened.round if self.run.round else -1
        return {fact.cluster: fact.task for fact in self.log if isinstance(fact, Invited) and fact.round == current}
