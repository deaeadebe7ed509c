"""One round: a question to some clusters, their answers, and what comes of them.

The table below is the whole life of a round.
A fact that has no entry for the present phase comes too late or from nowhere, and changes nothing.
That is how a contribution after `closed` is ignored, and a second `aggregated`, whoever says it.
`docs/rounds.md` is drawn from this table; the picture does not show what a fact carries into the round, which is the business of `evolve`.

Two rules:
1. Membership is what the log says: the acceptable contributions before `closed`.
2. Members count in the order of their names, never of their arrival, so that the same set of contributions gives the same bytes.

What happens next is decided in `deciding`; which question comes next, in `runs`.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fedplane.aggregator.asking import unlike
from fedplane.schemas.facts import (
    Aggregated,
    Asked,
    Closed,
    Contributed,
    Declined,
    Evaluated,
    Expired,
    Fact,
    Folded,
    Invited,
    Measured,
    Opened,
    Rejected,
    RoundFact,
    RoundFailed,
)
from fedplane.schemas.layout import HEADER_BYTES_MAX, cut
from fedplane.schemas.models import METRICS_MAX, Metrics, Task
from fedplane.schemas.subjects import update_piece

__all__ = ["SHARDS_MAX", "TRANSITIONS", "Phase", "Round", "evolve", "opened", "unacceptable", "weighted_mean"]

SHARDS_MAX = 2_000
"""Each takes about 200 bytes in `contributed`, `aggregated` and every invitation, and a fact has room for 900 kB.
At 16 MB a shard, that is a model of 32 GB.
"""


class Phase(StrEnum):
    """Where a round is."""

    COLLECTING = "collecting"
    OVERDUE = "overdue"
    FOLDING = "folding"
    AGGREGATED = "aggregated"
    FAILED = "failed"


_ANSWERS: tuple[type[Fact], ...] = (Invited, Contributed, Evaluated, Declined, Rejected)

TRANSITIONS: dict[Phase, dict[type[Fact], Phase]] = {
    Phase.COLLECTING: {
        **dict.fromkeys(_ANSWERS, Phase.COLLECTING),
        Expired: Phase.OVERDUE,
        Closed: Phase.FOLDING,
        RoundFailed: Phase.FAILED,
    },
    Phase.OVERDUE: {
        **dict.fromkeys(_ANSWERS, Phase.OVERDUE),
        Closed: Phase.FOLDING,
        RoundFailed: Phase.FAILED,
    },
    Phase.FOLDING: {
        Rejected: Phase.FOLDING,
        Measured: Phase.FOLDING,
        Folded: Phase.FOLDING,
        Aggregated: Phase.AGGREGATED,
        RoundFailed: Phase.FAILED,
    },
    Phase.AGGREGATED: {},
    Phase.FAILED: {},
}


@dataclass(frozen=True, slots=True)
class Round:
    """What has been said in a round so far. The dictionaries are by cluster, or by shard, and are never changed in place.

    `asked` is what the app's own server asked the round for, if it did.
    """

    opened: Opened
    asked: Asked | None = None
    phase: Phase = Phase.COLLECTING
    invited: frozenset[str] = frozenset()
    contributed: dict[str, Contributed] = field(default_factory=dict)
    unacceptable: dict[str, str] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    declined: dict[str, Declined] = field(default_factory=dict)
    expired: bool = False
    closed: Closed | None = None
    measured: dict[int, Measured] = field(default_factory=dict)
    folded: dict[int, Folded] = field(default_factory=dict)
    aggregated: Aggregated | None = None
    failed: RoundFailed | None = None

    @property
    def members(self) -> tuple[Contributed, ...]:
        """The contributions that count, by name."""
        return tuple(self.contributed[cluster] for cluster in sorted(self.contributed))

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        answered = self.contributed.keys() | self.unacceptable.keys() | self.evaluated.keys() | self.declined.keys()
        return tuple(cluster for cluster in self.opened.clusters if cluster not in answered)

    @property
    def appends(self) -> bool:
        """Whether the result is the model and, after it, the members' updates."""
        return _appends(self.opened)

    @property
    def shards(self) -> int:
        """How many shards the result has: as many as each member's update, if these are not appended."""
        if not self.contributed:
            return 0
        if self.opened.model is None or not self.appends:
            return len(self.members[0].shards)
        pieces = (*self.opened.model.shards, *(piece for member in self.members for piece in member.shards))
        size = sum(piece.bytes for piece in pieces)
        return max(1, -(-size // self.opened.shard_bytes))  # as many as `cut` makes, which is too much to ask of a size that is made up

    @property
    def ended(self) -> bool:
        """Whether nothing can change any more."""
        return not TRANSITIONS[self.phase]


def opened(fact: Opened, asked: Asked | None = None) -> Round:
    """A round that has just begun."""
    return Round(fact, asked)


def evolve(state: Round, fact: RoundFact) -> Round:
    """The round after the fact. Total: what the table does not know changes nothing."""
    phase = TRANSITIONS[state.phase].get(type(fact))
    if phase is None or fact.round != state.opened.round:
        return state
    closed = fact if isinstance(fact, Closed) else state.closed
    state = replace(state, phase=phase, expired=state.expired or isinstance(fact, Expired), closed=closed)
    match fact:
        case Contributed() | Evaluated() | Declined() if fact.cluster not in state.unanswered:
            return state  # nobody asked, or it is the cluster's second answer: the first one counts
        case Invited():
            return replace(state, invited=state.invited | {fact.cluster})
        case Contributed() | Evaluated() if problem := unacceptable(state.opened, fact) or unlike(state.asked, state.contributed, fact):
            return replace(state, unacceptable={**state.unacceptable, fact.cluster: problem})
        case Contributed():
            return replace(state, contributed={**state.contributed, fact.cluster: fact})
        case Evaluated():
            return replace(state, evaluated={**state.evaluated, fact.cluster: fact})
        case Declined():
            return replace(state, declined={**state.declined, fact.cluster: fact})
        case Rejected():
            return replace(state, rejected=state.rejected | {fact.cluster})
        case Measured() if _is_usable(state, fact):
            return replace(state, measured={**state.measured, fact.shard: fact})
        case Folded() if _is_usable(state, fact):
            return replace(state, folded={**state.folded, fact.shard: fact})
        case Aggregated():
            return replace(state, aggregated=fact)
        case RoundFailed():
            return replace(state, failed=fact)
    return state


def _is_usable(state: Round, result: Measured | Folded) -> bool:
    """Whether a shard's first result is one of this round. No aggregator states another, but on an open bus anybody may."""
    members = tuple(member.cluster for member in state.members)
    if isinstance(result, Measured):
        pairs = len(members) * (len(members) + 1) // 2
        return result.shard not in state.measured and result.members == members and len(result.products) == pairs
    brought = result.layout is not None or result.shard > 0
    known = bool(result.members) and state.contributed.keys() >= set(result.members)
    return result.shard not in state.folded and brought and known


def unacceptable(question: Opened, answer: Contributed | Evaluated) -> str | None:
    """Why an answer cannot count, from what it says of itself; None if it can.

    What can only be known from a contribution's bytes is found when they are folded.
    The weight of an initialization means nothing, since it is the only one.
    """
    if question.weight_max is not None and answer.weight > question.weight_max and question.task is not Task.INITIALIZE:
        return f"its weight is {answer.weight:g}, and spec.rounds.weightMax is {question.weight_max:g}"
    if isinstance(answer, Evaluated):
        return None
    return _misplaced(question, answer) or _miscut(question, answer)


def _misplaced(question: Opened, answer: Contributed) -> str | None:
    """Why an update is none that the round asked for."""
    if answer.origin is not None and answer.origin != question.carried.get(answer.cluster):
        return f"it answers the question of round {answer.origin}, which this round does not carry for its cluster"
    if question.task is Task.EVALUATE:
        return "the round asked for an evaluation, not for an update"
    return None


def _miscut(question: Opened, answer: Contributed) -> str | None:
    """Why an update's bytes are not those of an update of the model, or not cut as the round asked. What is appended may be any bytes."""
    if question.model is not None and not _appends(question) and answer.layout.digest != question.model.layout.digest:
        return "its layout is not the model's: another set of tensors, names, shapes or dtypes"
    if len(answer.shards) > SHARDS_MAX:
        return f"it has {len(answer.shards)} shards, and a fact has room for {SHARDS_MAX}; larger shards make fewer (FEDPLANE_SHARD_BYTES)"
    if answer.layout.bytes > HEADER_BYTES_MAX:
        return f"its layout has {answer.layout.bytes} bytes, and a safetensors header may have {HEADER_BYTES_MAX}"
    if any(piece.chunk_bytes != question.chunk_bytes for piece in (answer.layout, *answer.shards)):
        return f"it is not cut into chunks of {question.chunk_bytes} bytes"
    if answer.layout.subject != update_piece(answer.run, answer.round, answer.cluster, answer.attempt, "layout"):
        return "its layout is not this cluster's own"
    size = sum(piece.bytes for piece in answer.shards)
    if question.model is not None and not _appends(question) and size != question.model.bytes:
        return f"it has {size} bytes, and the model has {question.model.bytes}"
    few = size <= len(answer.shards) * question.shard_bytes  # a size that is made up must not be cut into more pieces than memory has
    if not few or [piece.bytes for piece in answer.shards] != [end - begin for begin, end in cut(size, question.shard_bytes)]:
        return f"it is not cut into shards of {question.shard_bytes} bytes"
    for shard, piece in enumerate(answer.shards):
        if piece.subject != update_piece(answer.run, answer.round, answer.cluster, answer.attempt, shard):
            return f"shard {shard} names bytes that are not this cluster's own"
    return None


def _appends(question: Opened) -> bool:
    """Whether updates are appended in this round. In such a run's other rounds there is nothing to append to, or nothing to append."""
    return question.appends and question.task is Task.TRAIN and question.model is not None


def weighted_mean(answers: tuple[Contributed | Evaluated, ...]) -> Metrics:
    """Each metric's mean over those who reported it, weighted by their examples.

    What is minimized is a mean over examples, not over clusters (McMahan et al. 2017, https://arxiv.org/abs/1602.05629).
    A mean that is too large for a number is left out. So are names beyond the bound, since clusters may measure different things.
    """
    names = sorted({name for answer in answers for name in answer.metrics})
    means = {}
    for name in names[:METRICS_MAX]:
        told = [(answer.metrics[name], answer.weight) for answer in answers if name in answer.metrics]
        mean = sum(value * weight for value, weight in told) / sum(weight for _, weight in told)
        if math.isfinite(mean):
            means[name] = mean
    return means
