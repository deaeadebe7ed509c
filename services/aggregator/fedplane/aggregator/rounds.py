"""One round: a question to some clusters, their answers, and what comes of them.

The table below is the whole life of a round.
A fact that has no entry for the present phase comes too late or from nowhere, and changes nothing.
That is how a contribution after `closed` is ignored, and a second `aggregated`, whoever says it.
`docs/rounds.md` is drawn from this table; the picture does not show what a fact carries into the round, which is the business of `evolve`.

Two rules:
1. Membership is what the log says: the acceptable contributions before `closed`, or those that `closed` names if the round is masked.
2. Members count in the order of their names, never of their arrival, so that the same set of contributions gives the same bytes.

A masked round has three phases more, in which clusters agree on masks before they contribute, and take them off afterwards.
What it knows of that is an `Exchange`. What happens next is decided in `deciding`; which question comes next, in `runs`.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fedplane.aggregator import exchange
from fedplane.aggregator.accepting import appends, unacceptable
from fedplane.aggregator.asking import unlike
from fedplane.aggregator.exchange import Exchange
from fedplane.schemas.facts import (
    Aggregated,
    Asked,
    Bound,
    Closed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Expired,
    Fact,
    Folded,
    Invited,
    Keyed,
    Lapsed,
    Measured,
    Opened,
    Paired,
    Rejected,
    Revealed,
    RoundFact,
    RoundFailed,
    Shared,
)
from fedplane.schemas.models import METRICS_MAX, Metrics

__all__ = ["ANSWERABLE", "TRANSITIONS", "Phase", "Round", "evolve", "opened", "weighted_mean"]


class Phase(StrEnum):
    """Where a round is."""

    COLLECTING = "collecting"
    OVERDUE = "overdue"
    SHARING = "sharing"
    MASKING = "masking"
    REVEALING = "revealing"
    FOLDING = "folding"
    AGGREGATED = "aggregated"
    FAILED = "failed"


_ANSWERS: tuple[type[Fact], ...] = (Invited, Contributed, Evaluated, Declined, Rejected, Keyed)

TRANSITIONS: dict[Phase, dict[type[Fact], Phase]] = {
    Phase.COLLECTING: {
        **dict.fromkeys(_ANSWERS, Phase.COLLECTING),
        Expired: Phase.OVERDUE,
        Closed: Phase.FOLDING,
        Paired: Phase.SHARING,
        RoundFailed: Phase.FAILED,
    },
    Phase.OVERDUE: {
        **dict.fromkeys(_ANSWERS, Phase.OVERDUE),
        Closed: Phase.FOLDING,
        Paired: Phase.SHARING,
        RoundFailed: Phase.FAILED,
    },
    Phase.SHARING: {
        **dict.fromkeys((Shared, Declined, Rejected, Lapsed), Phase.SHARING),
        Bound: Phase.MASKING,
        Closed: Phase.REVEALING,
        RoundFailed: Phase.FAILED,
    },
    Phase.MASKING: {
        **dict.fromkeys((Entrusted, Contributed, Declined, Rejected, Lapsed), Phase.MASKING),
        Closed: Phase.REVEALING,
        RoundFailed: Phase.FAILED,
    },
    Phase.REVEALING: {
        **dict.fromkeys((Revealed, Declined, Rejected, Lapsed), Phase.REVEALING),
        Folded: Phase.FOLDING,
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

ANSWERABLE = (Phase.COLLECTING, Phase.OVERDUE, Phase.SHARING, Phase.MASKING)
"""The phases in which an answer may still count: until `closed`."""


@dataclass(frozen=True, slots=True)
class Round:
    """What has been said in a round so far. The dictionaries are by cluster, or by shard, and are never changed in place.

    `asked` is what the app's own server asked the round for, if it did; `exchange` is what a masked round knows besides.
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
    exchange: Exchange = field(default_factory=Exchange)
    closed: Closed | None = None
    measured: dict[int, Measured] = field(default_factory=dict)
    folded: dict[int, Folded] = field(default_factory=dict)
    aggregated: Aggregated | None = None
    failed: RoundFailed | None = None

    @property
    def members(self) -> tuple[Contributed, ...]:
        """The contributions that count, by name."""
        some = self.contributed if self.closed is None or self.closed.members is None else self.closed.members
        return tuple(self.contributed[cluster] for cluster in sorted(some))

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        answered = self.contributed.keys() | self.unacceptable.keys() | self.evaluated.keys() | self.declined.keys()
        answered |= self.exchange.keyed.keys()
        return tuple(cluster for cluster in self.opened.clusters if cluster not in answered)

    @property
    def gone(self) -> frozenset[str]:
        """Who was asked and does no more in this round: those that declined, or whose answer cannot count."""
        return frozenset((*self.declined, *self.unacceptable))

    @property
    def keyed(self) -> tuple[str, ...]:
        """Who has said its keys and has not gone, by name."""
        return tuple(cluster for cluster in sorted(self.exchange.keyed) if cluster not in self.gone)

    @property
    def is_foldable(self) -> bool:
        """Whether the members are settled, and nothing hides their sum any more."""
        names = [member.cluster for member in self.members]
        return self.phase is Phase.FOLDING or (self.phase is Phase.REVEALING and exchange.is_recoverable(self.exchange, names))

    @property
    def appends(self) -> bool:
        """Whether the result is the model and, after it, the members' updates."""
        return appends(self.opened)

    @property
    def shards(self) -> int:
        """How many shards the result has: as many as each member's update, if these are not appended."""
        if not self.members:
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
    """The round after the fact. Total: what the table does not know, or nobody of ours would state, changes nothing."""
    phase = TRANSITIONS[state.phase].get(type(fact))
    if phase is None or fact.round != state.opened.round or not _is_in_turn(state, fact):
        return state
    state = replace(state, phase=phase)
    match fact:
        case Contributed() | Evaluated() | Keyed() | Shared() if problem := _problem(state, fact):
            return replace(state, unacceptable={**state.unacceptable, fact.cluster: problem})
        case Revealed():
            return _revealed(state, fact)
        case Keyed() | Paired() | Shared() | Bound() | Entrusted() | Lapsed():
            return replace(state, exchange=exchange.evolve(state.exchange, fact))
        case Invited() | Contributed() | Evaluated() | Declined() | Rejected():
            return _of_cluster(state, fact)
        case Measured():
            return replace(state, measured={**state.measured, fact.shard: fact})
        case Folded():
            return replace(state, folded={**state.folded, fact.shard: fact})
        case Closed():
            return replace(state, closed=fact)
        case Aggregated():
            return replace(state, aggregated=fact)
        case RoundFailed():
            return replace(state, failed=fact)
    return replace(state, expired=state.expired or isinstance(fact, Expired))


def _of_cluster(state: Round, fact: Invited | Contributed | Evaluated | Declined | Rejected) -> Round:
    """The round after one cluster was asked, has answered, or was told that its answer does not count."""
    match fact:
        case Invited():
            masks = state.exchange if state.opened.masking is None else exchange.evolve(state.exchange, fact)
            return replace(state, invited=state.invited | {fact.cluster}, exchange=masks)
        case Contributed():
            return replace(state, contributed={**state.contributed, fact.cluster: fact})
        case Evaluated():
            return replace(state, evaluated={**state.evaluated, fact.cluster: fact})
        case Declined():
            return replace(state, declined={**state.declined, fact.cluster: fact})
        case Rejected():
            return replace(state, rejected=state.rejected | {fact.cluster})


def _is_in_turn(state: Round, fact: RoundFact) -> bool:
    """Whether the fact is one that may be stated now. On an open bus anybody may state anything; of an answer the first one counts."""
    masks, members = state.exchange, state.exchange.members
    match fact:
        case Contributed() if state.phase is Phase.MASKING:
            return fact.cluster in members and fact.cluster not in {*state.contributed, *state.gone}
        case Declined() if fact.cluster in masks.keyed:
            return fact.cluster not in state.gone and (not members or fact.cluster in members)
        case Contributed() | Evaluated() | Declined() | Keyed():
            return fact.cluster in state.unanswered
        case Shared():
            return fact.cluster in members and fact.cluster not in {*masks.shared, *state.gone}
        case Revealed():
            return fact.cluster in {member.cluster for member in state.members} and fact.cluster not in {*masks.revealed, *state.gone}
        case Paired() | Bound():
            return exchange.fits(masks, fact)
        case Closed():
            return fact.members is None or (state.phase is Phase.MASKING and set(fact.members) <= state.contributed.keys())
        case Lapsed():
            return fact.step == state.phase
        case Measured() | Folded():
            return _is_usable(state, fact)
    return True


def _problem(state: Round, answer: Contributed | Evaluated | Keyed | Shared) -> str | None:
    """Why an answer cannot count; None if it can."""
    if isinstance(answer, Shared):
        return exchange.unusable_shares(state.exchange, answer)
    if problem := unacceptable(state.opened, state.exchange, answer):
        return problem
    return None if isinstance(answer, Keyed) else unlike(state.asked, state.contributed, answer)


def _revealed(state: Round, fact: Revealed) -> Round:
    """The round after a cluster has revealed its shares: the true ones count, and who sends a false one is refused."""
    told, false = exchange.false_shares(state.exchange, fact, [member.cluster for member in state.members])
    state = replace(state, exchange=exchange.evolve(state.exchange, told))
    if not false:
        return state
    problem = f"what it revealed of the secrets of {', '.join(false)} is not what these had entrusted to it"
    return replace(state, unacceptable={**state.unacceptable, fact.cluster: problem})


def _is_usable(state: Round, result: Measured | Folded) -> bool:
    """Whether a shard's first result is one of this round. No aggregator states another, but on an open bus anybody may."""
    members = tuple(member.cluster for member in state.members)
    if isinstance(result, Measured):
        told = len(members) if state.opened.noise is not None else len(members) * (len(members) + 1) // 2
        lengths = state.opened.noise is None or all(square >= 0 for square in result.products)
        return lengths and result.shard not in state.measured and result.members == members and len(result.products) == told
    brought = result.layout is not None or result.shard > 0
    known = bool(result.members) and state.contributed.keys() >= set(result.members)
    if state.opened.masking is not None:
        known = known and state.is_foldable and result.members == members
    return result.shard not in state.folded and brought and known


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
