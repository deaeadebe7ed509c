"""Rounds that the app's own server asks for: which resources have them, what is opened, what is left when they are over.

In such a run nobody here decides what comes next. The run's driver states `asked`, and the round that it numbers is opened as it says.
So there is nothing of `policies` in it but the deadline, and no model of ours: replies are the server's, and so is what becomes of them.
They stay stored until the run ends, since a driver that is restarted runs the server again, on what the log and these replies say.
Pure. What is due within a round is `deciding`'s business; who ends the run is the driver.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Asked, Contributed, Evaluated, Opened
from fedplane.schemas.models import Task
from fedplane.schemas.resources import APP_STRATEGY, RoundPolicy, Server, Spec
from fedplane.schemas.subjects import bulk_of_round

__all__ = ["check", "in_use", "is_answer_to", "is_asked", "is_whole", "left_by_round", "left_by_run", "opened", "unlike"]

MINIMUM = 1
"""A round without any reply has failed, for people to see; the server is told so as well, and decides."""

OURS = ("stop", "keep", "carry", "invite", "close_at", "quorum", "evaluate_on", "weight_max")
"""What the policy of rounds has for runs whose rounds are the aggregator's to choose."""


def is_asked(spec: Spec) -> bool:
    """Whether the app's own server asks for the rounds."""
    return spec.strategy.name == APP_STRATEGY


def check(spec: Spec) -> None:
    """Raises BadInput with the first field that cannot be had together with the strategy, whichever it is."""
    for contradiction in _contradictions(spec):
        raise BadInput(contradiction)


def _contradictions(spec: Spec) -> Iterator[str]:
    if not is_asked(spec):
        if spec.fold:
            yield f"spec.fold: {spec.strategy.name} is folded anyway; it is for the strategy {APP_STRATEGY}"
        return
    for name in OURS:
        if getattr(spec.rounds, name) != RoundPolicy.model_fields[name].default:
            yield f"spec.rounds.{_in_yaml(RoundPolicy, name)}: with the strategy {APP_STRATEGY} the app's own server decides that"
    if spec.server.initial_model:
        alias = _in_yaml(Server, "initial_model")
        yield f"spec.server.{alias}: with the strategy {APP_STRATEGY} the app's own server has the first model"


def _in_yaml(part: type[RoundPolicy | Server], name: str) -> str:
    return part.model_fields[name].alias or name


def opened(asked: Asked, deadline_seconds: float, shard_bytes: int, chunk_bytes: int, now: datetime) -> Opened:
    """The round that is asked for. The server waits no longer than it says, and nobody longer than the resource says."""
    seconds = deadline_seconds if asked.timeout_seconds is None else min(asked.timeout_seconds, deadline_seconds)
    return Opened(
        run=asked.run, round=asked.round, at=now, task=Task.REPLY, training_round=asked.training_round,
        clusters=tuple(sorted(instruction.cluster for instruction in asked.instructions)), minimum=MINIMUM,
        deadline=now + timedelta(seconds=seconds), shard_bytes=shard_bytes, chunk_bytes=chunk_bytes,
    )  # fmt: skip


def is_answer_to(question: Opened, asked: Asked | None) -> bool:
    """Whether a round is the one that was asked for. No aggregator opens another, but on an open bus anybody may."""
    if question.task is not Task.REPLY:
        return asked is None
    return asked is not None and question.round == asked.round and is_whole(asked) and question.clusters == _clusters(asked)


def is_whole(asked: Asked) -> bool:
    """Whether each cluster is sent one content, and one that there is. No driver asks otherwise, but on an open bus anybody may."""
    contents = all(instruction.content < len(asked.contents) for instruction in asked.instructions)
    return contents and len(set(_clusters(asked))) == len(asked.instructions)


def _clusters(asked: Asked) -> tuple[str, ...]:
    return tuple(sorted(instruction.cluster for instruction in asked.instructions))


def unlike(asked: Asked | None, before: Mapping[str, Contributed], answer: Contributed | Evaluated) -> str | None:
    """Why a reply cannot be folded with the first that came; None if it can, or no reply is folded."""
    first = next(iter(before.values()), None)
    if asked is None or not asked.fold or first is None or isinstance(answer, Evaluated) or first.layout.digest == answer.layout.digest:
        return None
    return f"its layout is not that of {first.cluster}: replies that are folded have the same records, tensors, shapes and dtypes"


def in_use(asked: Asked, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the rounds that store what was sent in which something of this one's contents is.

    A driver may send again what the last round has sent, and does not store it twice.
    """
    subjects = [shard.subject for content in asked.contents for shard in (content.layout, *content.shards)]
    return tuple(number for number in stored if any(subject.startswith(_sent_in(asked.run, number)[:-1]) for subject in subjects))


def left_by_round(asked: Asked, stored: tuple[int, ...], failed: bool) -> tuple[str, ...]:
    """The bulk data that nobody needs when a round is over: what was sent before it, and replies that nobody was given.

    What it has sent itself stays as long as the next one lasts, which may send it again.
    """
    replies = [bulk_of_round(asked.run, asked.round, kind) for kind in ("update", "reply")] if failed else []
    used = in_use(asked, stored)
    return (*replies, *(_sent_in(asked.run, number) for number in stored if number not in used))


def _sent_in(run: str, round_: int) -> str:
    return bulk_of_round(run, round_, "asked")


def left_by_run(run: str) -> tuple[str, ...]:
    """The bulk data that nobody needs when the run has ended, besides updates."""
    return bulk_of_round(run, "*", "asked"), bulk_of_round(run, "*", "reply")
