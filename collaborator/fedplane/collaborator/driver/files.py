"""What the app's server and the driver exchange on disk: what it asks, as the runner laid it out, and what it is given.

The form is told in the description of `frameworks`. A file is read no further than its header here, and sent from a mapping.
What is asked of whom, and what is given in reply, is decided elsewhere.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedplane.collaborator.driver.replay import Answer, Wanted
from fedplane.collaborator.transfers import Update, check_update, collect, digests_of, remove
from fedplane.runtime.errors import AppFailed
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import digest_of_digests
from fedplane.schemas.facts import Contributed
from fedplane.schemas.layout import cut
from fedplane.schemas.models import INSTRUCTION_CHARACTERS_MAX, Model, Piece

__all__ = ["LOG", "Ask", "Content", "lay_out", "left", "put_away", "read_ask", "write_answers"]

LOG = "app.log"
"""What a run's server prints, in the run's directory; its size is bounded by `apps`."""

LOGS_KEPT_MAX = 20
"""A strategy prints what it measures, so people read this after a run; of more runs than that, the archive has the facts."""

ASK_BYTES_MAX = 10_000_000
"""How much of asked.json is read. An instruction takes a hundred bytes, and a fact has room for less than ten thousand of them."""


class _Instruction(BaseModel):
    model_config = ConfigDict(extra="forbid")

    position: int = Field(ge=0)
    kind: str = Field(max_length=INSTRUCTION_CHARACTERS_MAX)
    group: str = Field(max_length=INSTRUCTION_CHARACTERS_MAX)
    content: int = Field(ge=0)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    training_round: int = Field(ge=0)
    timeout_seconds: float | None = Field(gt=0)
    contents: int = Field(ge=1)
    instructions: tuple[_Instruction, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Content:
    """A file that the server sends: what is known of it, how it is cut, the shards' digests, and the one that it has as a model."""

    update: Update
    ranges: tuple[tuple[int, int], ...]
    digests: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What the server asks: instructions, the content of each by its number, and the contents."""

    directory: Path
    training_round: int
    timeout_seconds: float | None
    wanted: tuple[Wanted, ...]
    numbers: tuple[int, ...]
    contents: tuple[Content, ...]


def lay_out(directory: Path, run: str, clusters: int, run_configuration: object) -> None:
    """Put what the server is started with into a fresh directory."""
    directory.mkdir(parents=True)
    (directory / "drive.json").write_text(json.dumps({"run": run, "clusters": clusters, "run_configuration": run_configuration}))


def read_ask(directory: Path, participants: Sequence[str], shard_bytes: int, bytes_max: int) -> Ask:
    """What is asked in the directory. Raises AppFailed when it cannot be used. Blocks: contents are hashed."""
    try:
        with (directory / "asked.json").open("rb") as file:
            asked = _Asked.model_validate_json(file.read(ASK_BYTES_MAX))
        contents = tuple(_content(directory / f"content-{number}.safetensors", shard_bytes, bytes_max) for number in range(asked.contents))
        wanted = tuple(
            Wanted(participants[each.position], each.kind, each.group, contents[each.content].digest) for each in asked.instructions
        )
    except (OSError, ValidationError, IndexError) as error:
        raise AppFailed("garbage", f"what the app's server asks cannot be read: {error}") from error
    return Ask(directory, asked.training_round, asked.timeout_seconds, wanted, tuple(each.content for each in asked.instructions), contents)


def left(directory: Path, shard_bytes: int, bytes_max: int) -> Content:
    """The model that the server left. Raises AppFailed. Blocks."""
    return _content(directory / "update.safetensors", shard_bytes, bytes_max)


def _content(path: Path, shard_bytes: int, bytes_max: int) -> Content:
    update = check_update(path, None, bytes_max)
    ranges = tuple(cut(update.bytes, shard_bytes))
    layout, *shards = digests_of(update, ranges)
    return Content(update, ranges, tuple(shards), digest_of_digests([layout, *shards]))


def put_away(directory: Path) -> None:
    """Remove a run's directory, but for what its server printed: that stays beside it, with the logs of the last other servers."""
    with suppress(OSError):  # it has printed nothing, or its log is put away already
        (directory / LOG).replace(directory.with_suffix(".log"))
    remove(directory)
    logs = sorted(directory.parent.glob("*.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[:-LOGS_KEPT_MAX]:
        log.unlink(missing_ok=True)


async def write_answers(bulk: Bulk, directory: Path, answers: Sequence[Answer]) -> None:
    """Lay out what the server is given: files first, then the word of them. Raises Corrupt."""
    replies = []
    for answer in answers:
        name = f"reply-{answer.place}.safetensors"
        if answer.contribution is not None or answer.mean is not None:
            await collect(bulk, _pieces(answer.contribution, answer.mean.model if answer.mean else None), directory / name)
        replies.append(_told(answer, name))
    (directory / "replies.json").write_text(json.dumps({"replies": replies}))


def _pieces(contribution: Contributed | None, mean: Model | None) -> tuple[Piece, ...]:
    stored = contribution or mean
    assert stored is not None, "a round that folds replies has their mean as its model"
    return (stored.layout, *stored.shards)


def _told(answer: Answer, name: str) -> dict[str, object]:
    if answer.contribution is not None:
        return {"instruction": answer.place, "content": name}
    if answer.mean is not None:
        return {"instruction": answer.place, "content": name, "weight": answer.mean.weight, "metrics": answer.mean.metrics}
    return {"instruction": answer.place, "error": {"reason": answer.reason, "message": answer.message}}
