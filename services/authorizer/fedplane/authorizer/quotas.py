"""What a cluster may store: as much as it was asked for, and some more for whatever goes wrong on the way.

A permission says where a cluster may store, and not how much. Without a bound, one that means harm fills the store for all runs.
So whoever stores far more than the question wants is found out here, by the sizes of what is stored. To throw it out is for others.

Sizes and questions come from several streams, so a chunk may be heard of before the round that it is for.
What belongs to no round that we know of has a bound of its own for that reason, and so has what comes when later rounds were answered.
When such a round is heard of, what came for it before is counted there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedplane.schemas.facts import Opened
from fedplane.schemas.models import Model
from fedplane.schemas.privacy_terms import MaskingTerms

__all__ = [
    "FACT_BYTES", "FACT_BYTES_EACH", "MASKED_FACT_BYTES_EACH", "ROUNDS_KEPT", "SLACK_BYTES", "UPDATES_MAX", "Answers", "Quotas", "Stored",
    "excess",
]  # fmt: skip

UPDATES_MAX = 4
"""How many times the size of an update those of one cluster in one round may have: SCAFFOLD sends two, and an upload may be sent twice.

An update has the model's size, and a masked one an integer of 32 or 64 bits for each of its numbers, whatever they were.
"""

SLACK_BYTES = 64_000_000
"""What is tolerated besides, of a small model or for a round that is not known: 64 chunks are on their way at most."""

FACT_BYTES, FACT_BYTES_EACH = 1_000_000, 64_000
"""What the facts of one cluster may have in a run, and more for each of its rounds: the pieces of an update of 2 GB are 40 kB."""

MASKED_FACT_BYTES_EACH = 150_000
"""More for a masked round: a certificate, and for each of 119 neighbours a sealed share, digests and a revealed share.

With the longest names and certificates that the facts take it is 140 kB; that of an honest cluster with 31 neighbours is 13 kB.
"""

ROUNDS_KEPT = 8
"""For how many rounds that a cluster answered last its bytes are counted by round. What comes for those before is counted together."""

NO_ROUND = -1
"""No round has this number."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One message that a cluster has had stored: a chunk of an update for a round, or a fact of its own; headers count."""

    run: str
    cluster: str
    round: int
    bytes: int
    is_fact: bool = False
    is_hidden: bool = False
    """Whether its subject has a wildcard for a word. Patterns do not match such a subject, so that it is found by nobody who removes it."""

    subject: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one cluster has stored in one run."""

    by_round: Mapping[int, int] = field(default_factory=dict)
    late: int = 0
    elsewhere: Mapping[int, int] = field(default_factory=dict)
    """By round; of more than `ROUNDS_KEPT` that are not known it is counted together, as `NO_ROUND`."""

    facts: int = 0
    hidden: int = 0

    def counts(self, round_: int, size: int) -> "Answers":
        """So much more is stored for a round that was opened."""
        if len(self.by_round) == ROUNDS_KEPT and round_ < min(self.by_round):
            return replace(self, late=self.late + size)
        counted = {**self.by_round, round_: self.by_round.get(round_, 0) + size}
        return replace(self, by_round=dict(sorted(counted.items())[-ROUNDS_KEPT:]))


@dataclass(frozen=True, slots=True)
class Quotas:
    """One run: what an update may have in each of its rounds, and what clusters have stored.

    `first` is what it may have where there is no model yet.
    """

    first: int
    opened: Mapping[int, int] = field(default_factory=dict)
    masked: int = 0
    """How many of them are masked."""

    answers: Mapping[str, Answers] = field(default_factory=dict)

    def opens(self, opened: Opened) -> "Quotas":
        """A round has begun."""
        allowed = self.first if opened.model is None else UPDATES_MAX * _update_bytes(opened.model, opened.masking) + SLACK_BYTES
        answers = {
            cluster: replace(known, elsewhere=_without(known.elsewhere, opened.round)).counts(opened.round, known.elsewhere[opened.round])
            for cluster, known in self.answers.items()
            if opened.round in known.elsewhere
        }
        masked = self.masked + (opened.masking is not None and opened.round not in self.opened)
        return replace(self, opened={**self.opened, opened.round: allowed}, masked=masked, answers={**self.answers, **answers})

    def stores(self, stored: Stored) -> "Quotas":
        """A message was stored."""
        known = self.answers.get(stored.cluster, Answers())
        if stored.is_hidden:
            known = replace(known, hidden=known.hidden + stored.bytes)
        elif stored.is_fact:
            known = replace(known, facts=known.facts + stored.bytes)
        elif stored.round not in self.opened:
            number = stored.round if stored.round in known.elsewhere or len(known.elsewhere) < ROUNDS_KEPT else NO_ROUND
            known = replace(known, elsewhere={**known.elsewhere, number: known.elsewhere.get(number, 0) + stored.bytes})
        else:
            known = known.counts(stored.round, stored.bytes)
        return replace(self, answers={**self.answers, stored.cluster: known})

    def unheard_of(self, cluster: str) -> tuple[int, ...]:
        """The rounds for which the cluster has stored something, and which may have been opened without our knowing."""
        known = self.answers.get(cluster, Answers())
        return tuple(sorted(number for number in known.elsewhere if number != NO_ROUND))


def _update_bytes(model: Model, masking: MaskingTerms | None) -> int:
    """What one update has. Of a model that does not say how many numbers it has, each byte may be one."""
    if masking is None:
        return model.bytes
    numbers = sum(each.elements for each in model.contents) if model.contents else model.bytes
    return max(model.bytes, numbers * masking.bits // 8)


def _without(elsewhere: Mapping[int, int], round_: int) -> Mapping[int, int]:
    return {number: had for number, had in elsewhere.items() if number != round_}


def excess(quotas: Quotas, cluster: str) -> str:
    """How the cluster has stored more than it may, as a sentence; empty if it has not."""
    known = quotas.answers.get(cluster, Answers())
    for number, had in sorted(known.by_round.items()):
        if had > quotas.opened[number]:
            return f"it stored {had:,} bytes of updates for round {number}, where {quotas.opened[number]:,} are many"
    if known.late > (most := max(quotas.opened.values(), default=0)):
        return f"it stored {known.late:,} bytes of updates for rounds long past, where {most:,} are many"
    if (had := sum(known.elsewhere.values())) > SLACK_BYTES:
        return f"it stored {had:,} bytes of updates for rounds that nobody asked it about, and {SLACK_BYTES:,} are tolerated"
    if known.hidden:
        return f"it stored {known.hidden:,} bytes under subjects with a wildcard for a word, which nobody does but to hide something"
    rounds = len(quotas.opened)
    if known.facts > (most := FACT_BYTES + FACT_BYTES_EACH * rounds + MASKED_FACT_BYTES_EACH * quotas.masked):
        return f"its facts have {known.facts:,} bytes, and in {rounds} rounds {most:,} are many"
    return ""
