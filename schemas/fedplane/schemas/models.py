"""What facts carry besides names: where bytes are, why a cluster was chosen, what a round asked.

These are the values inside facts, not facts themselves: nothing here has a subject.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from fedplane.schemas.digests import Digest, digest_of_digests
from fedplane.schemas.names import Name

__all__ = [
    "Chosen",
    "Configuration",
    "Contents",
    "Exposure",
    "FILTERS",
    "INSTRUCTION_CHARACTERS_MAX",
    "Instant",
    "Instruction",
    "LISTENERS_MAX",
    "METRICS_MAX",
    "METRIC_CHARACTERS_MAX",
    "Metrics",
    "Model",
    "OUTSCORED",
    "Piece",
    "Refused",
    "Task",
    "Term",
    "Weight",
    "model_digest",
]

YEARS = range(1970, 3000)
"""Of a time on the bus. Python's calendar ends with 9999, and a deadline or lease that is added to a time must not leave it."""


def _in_utc(given: datetime) -> datetime:
    if given.year not in YEARS:
        raise ValueError(f"a time is between the years {YEARS[0]} and {YEARS[-1]}")
    return given.astimezone(UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time, in UTC whatever zone it was given in, so that equal facts are written in the same way."""

LISTENERS_MAX = 10
"""How many ways to the bus one run may ask for. Its clusters are told of one; more are for people and other tools."""

METRICS_MAX = 100
"""How many metrics an answer may have; people look at a handful, and a fact about a thousand clusters must still travel."""

METRIC_CHARACTERS_MAX = 100
"""Of a metric's name, which a person reads in a table."""

CONFIGURATION_BYTES_MAX = 100_000
"""Hyper-parameters are numbers and words. An invitation carries two of these beside a model, and all of it must fit a message."""

SCORE_MAX = 100
"""What Open Cluster Management's prioritizers give to the cluster that suits best; its negative is for the one that suits least."""

WEIGHT_MAX = 1e15
"""More examples than there are; a sum over all clusters stays a number that JSON can write."""


def _said_once(given: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(given)
    except ValidationError as error:  # one sentence for a person instead of one line per alternative
        raise PydanticCustomError("configuration", "must be true or false, a finite number, a text, or a list of those") from error


def _fitting(given: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(given))
    if size > CONFIGURATION_BYTES_MAX:
        raise ValueError(f"has {size} bytes as JSON, and a configuration may have {CONFIGURATION_BYTES_MAX}")
    return given


Configuration = Annotated[
    dict[str, Annotated[bool | int | float | str | list[bool | int | float | str], WrapValidator(_said_once)]], AfterValidator(_fitting)
]
"""What the app is told besides the model: hyper-parameters, as frameworks' config records allow them."""

Metrics = Annotated[dict[Annotated[str, Field(max_length=METRIC_CHARACTERS_MAX)], float], Field(max_length=METRICS_MAX)]
"""What the app measured, by name. Finite numbers: an app whose metric is not finite has failed, and says so by declining."""

Weight = Annotated[float, Field(gt=0, le=WEIGHT_MAX)]
"""How much an answer counts: the number of examples behind it."""


class Value(BaseModel):
    """A part of a fact: immutable, and tolerant of fields that a later version added."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Task(StrEnum):
    """The one question a round asks of the clusters it invites. `reply` is to what the app's own server sends, whatever that is."""

    INITIALIZE = "initialize"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REPLY = "reply"


class Piece(Value):
    """Bytes on the bulk stream, cut into chunks at `subject.0`, `subject.1`, ...

    `bytes` is their number, `digest` names them; every chunk but the last has `chunk_bytes` bytes, so the number of chunks follows.
    """

    subject: str
    bytes: int = Field(ge=0)
    chunk_bytes: int = Field(gt=0)
    digest: Digest

    @property
    def chunks(self) -> int:
        """How many chunks there are; a piece of no bytes has none."""
        return -(-self.bytes // self.chunk_bytes)

    def extent(self, chunk: int) -> tuple[int, int]:
        """Where a chunk's bytes begin and end within the piece."""
        return chunk * self.chunk_bytes, min((chunk + 1) * self.chunk_bytes, self.bytes)


class Contents(Value):
    """What is in one shard of a model, as far as masks depend on it: how many numbers, the largest of them, and how fine they are."""

    elements: int = Field(ge=0)
    largest: float = Field(ge=0)
    doubles: bool = False


class Model(Value):
    """A global model: a layout (safetensors header) and one flat buffer, cut into shards.

    `round` is the round that made it. The safetensors file is the layout followed by the shards.
    `memory` is what the server's strategy remembers besides the model, shard by shard; nothing for most strategies.
    `contents` says what is in the shards, for runs whose updates are masked; nothing for others.
    """

    run: Name
    round: int = Field(ge=0)
    bytes: int = Field(ge=0)
    layout: Piece
    shards: tuple[Piece, ...]
    digest: Digest
    memory: tuple[Piece, ...] = ()
    contents: tuple[Contents, ...] = ()


INSTRUCTION_CHARACTERS_MAX = 200
"""Of an instruction's kind and group, which are an app's own words; a round's instructions travel in one fact."""


class Instruction(Value):
    """What the app's own server sends to one cluster: `content` is which of the contents that were stored with it, from 0.

    `kind` and `group` are the app's words: Flower's message type, as "train" or "query.keys", and its group, often the round's number.
    """

    cluster: Name
    kind: str = Field(max_length=INSTRUCTION_CHARACTERS_MAX)
    group: str = Field(default="", max_length=INSTRUCTION_CHARACTERS_MAX)
    content: int = Field(ge=0)


def model_digest(layout: Piece, shards: tuple[Piece, ...]) -> str:
    """The digest of a model from those of its parts, so that no process has to hold the whole model to name it."""
    return digest_of_digests(piece.digest for piece in (layout, *shards))


class Term(Value):
    """One criterion's part in a cluster's score: `score` times `weight`.

    Scores are in [0, 1]; if the placement has a prioritizer policy, they are Open Cluster Management's, in [-100, 100].
    """

    criterion: str
    score: float = Field(ge=-SCORE_MAX, le=SCORE_MAX)
    weight: float


class Chosen(Value):
    """A cluster that takes part: its score, term by term, and what its data claim says."""

    cluster: Name
    score: float
    terms: tuple[Term, ...]
    data: str = ""


class Exposure(Value):
    """A listener that is open: where whoever is outside the hub reaches the bus."""

    name: str
    type: str
    address: str
    port: int | None = None


FILTERS = (
    "availability", "framework", "data", "claims", "accepted", "placement", "sets", "predicates", "taints", "cpu", "memory",
)  # fmt: skip
"""The word for each filter, in the order in which the scheduler asks them: of a refusal's reason, those before it were passed."""

OUTSCORED = "outscored"
"""The reason of a cluster that passed every filter and was not among the best."""


class Refused(Value):
    """A cluster that does not take part: which filter refused it, in a word, and why, in a sentence for a person.

    A cluster that passed the filters but was outscored has its score and terms, too.
    """

    cluster: Name
    reason: str
    message: str
    score: float | None = None
    terms: tuple[Term, ...] = ()
