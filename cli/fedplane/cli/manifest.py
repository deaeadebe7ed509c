"""What is kept beside a model: which run made it, out of what, how good it is, and which bytes it has. Pure.

It follows from the run's facts alone, so keeping the same model twice gives the same file.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fedplane.runtime.errors import BadInput, Corrupt
from fedplane.schemas.digests import Digest
from fedplane.schemas.facts import Aggregated, Cancelled, Completed, Fact, Failed, Submitted
from fedplane.schemas.models import Instant, Metrics, Model, Task
from fedplane.schemas.names import Name
from fedplane.schemas.resources import StrategySpec

__all__ = ["MANIFEST_BYTES_MAX", "Manifest", "Origin", "origin", "parse", "write"]

MANIFEST_BYTES_MAX = 1_000_000
"""A thousand members' names are 64 kB; what is longer is another file."""


class Origin(BaseModel):
    """Where a model is from. `bytes` and `digest` are those of the model on the bus, where it is in parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: Name
    namespace: str
    name: str
    framework: str
    strategy: StrategySpec
    round: int
    training_round: int
    training_rounds: int
    members: tuple[Name, ...]
    metrics: Metrics
    digest: Digest
    layout_digest: Digest
    submitted_at: Instant
    ended_at: Instant


class Manifest(BaseModel):
    """An origin and a file. `file_digest` is what `b3sum` says of it, after the name of the hash."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    file: str
    bytes: int
    file_digest: Digest
    origin: Origin


def write(manifest: Manifest) -> bytes:
    """The manifest as a file."""
    return manifest.model_dump_json(indent=2, by_alias=True).encode() + b"\n"


def parse(written: bytes) -> Manifest:
    """The manifest in a file. Raises Corrupt."""
    try:
        return Manifest.model_validate_json(written)
    except ValidationError as error:
        raise Corrupt("it is no manifest of a kept model") from error


def origin(facts: Iterable[Fact], training_round: int | None) -> tuple[Model, Origin]:
    """The model with which a run ended, or the one after a training round, and where it is from.

    Raises BadInput if there is none, or the run has not ended: until then its models may be discarded at any time.
    """
    submitted, end, replied, made = None, None, None, list[Aggregated]()
    for fact in facts:
        match fact:
            case Submitted():
                submitted = fact
            case Aggregated(task=Task.REPLY):
                replied = fact
            case Aggregated() if fact.model is not None:
                made.append(fact)
            case Completed() | Failed() | Cancelled():
                end = end or fact
    if submitted is None or end is None:
        raise BadInput("the run goes on; its model can be kept when it has ended")
    if training_round is None and not isinstance(end, Completed):
        raise BadInput("the run has not completed; name a training round with --round N, to keep the model that there was after it")
    wanted = end.model if training_round is None and isinstance(end, Completed) else None
    if replied and wanted:  # the app's own server has made it, out of the last replies and all those before
        made = [replied.model_copy(update={"round": wanted.round})]
    found = [fact for fact in made if fact.training_round == training_round or (wanted and fact.round == wanted.round)]
    if not found:
        there = ", ".join(str(fact.training_round) for fact in made) or "none"
        raise BadInput(f"the run has no model of training round {training_round}; there are {there}")
    source = found[-1]
    model = wanted or source.model
    assert model is not None, "only rounds that made a model are looked at"
    spec, metadata = submitted.resource.spec, submitted.resource.metadata
    return model, Origin(
        run=submitted.run, namespace=metadata.namespace, name=metadata.name, framework=spec.framework, strategy=spec.strategy,
        round=source.round, training_round=source.training_round, training_rounds=spec.server.rounds, members=source.members,
        metrics=end.metrics if wanted and isinstance(end, Completed) else source.metrics,
        digest=model.digest, layout_digest=model.layout.digest, submitted_at=submitted.at, ended_at=end.at,
    )  # fmt: skip
