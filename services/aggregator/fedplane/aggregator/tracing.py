"""What operators are told of a round that has ended: its spans and its values. Whoever ended it tells them, so they are told once.

Pure: both are computed from what the log says of the round. That includes the clusters' part in it.
A cluster may have died, and only the aggregator knows of all of them what they were asked and what became of it.
Times are those of the facts, by the clocks of those who stated them; a span never ends before it begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fedplane.aggregator.histories import Run
from fedplane.aggregator.rounds import Round
from fedplane.runtime.metrics import CONTRIBUTION_DURATION, CONTRIBUTIONS, ROUND_DURATION, ROUNDS, Measurement
from fedplane.runtime.spans import (
    Attributes,
    Ended,
    Event,
    SpanKind,
    failure,
    invite_traceparent,
    messaging,
    round_traceparent,
    run_traceparent,
)
from fedplane.schemas.facts import Aggregated, Closed, Fact, Invited, RoundFailed

__all__ = ["End", "measurements", "round_that_ended", "spans"]

ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one cluster's invitation: when, and if it does not count the reason, in a word and in a sentence."""

    cluster: str
    at: datetime
    outcome: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """A round that has ended, and the fact by which it did: `closed` if its run was ended meanwhile."""

    state: Round
    fact: Aggregated | RoundFailed | Closed

    @property
    def outcome(self) -> str:
        """The word for it."""
        match self.fact:
            case Aggregated():
                return "aggregated"
            case RoundFailed():
                return "failed"
        return "cancelled"

    @property
    def reason(self) -> str:
        """The word for why it failed."""
        return self.fact.reason if isinstance(self.fact, RoundFailed) else ""

    def parts(self) -> Iterator[Part]:
        """What became of each cluster that was asked, by name."""
        state, end = self.state, self.fact.at
        faulty = self.fact.faulty if isinstance(self.fact, RoundFailed) else ()
        members = {member.cluster: member for member in state.members}
        for cluster in sorted(state.opened.clusters):
            answer = members.get(cluster) or state.evaluated.get(cluster)
            if cluster in state.declined:
                declined = state.declined[cluster]
                yield Part(cluster, declined.at, "declined", declined.reason, declined.message)
            elif cluster in state.unacceptable:
                yield Part(cluster, end, "rejected", "unacceptable", state.unacceptable[cluster])
            elif answer is not None and cluster in faulty:
                yield Part(cluster, answer.at, "rejected", "unusable", self.fact.message if isinstance(self.fact, RoundFailed) else "")
            elif answer is not None:
                yield Part(cluster, answer.at, ACCEPTED)
            else:
                why = state.closed.reason if state.closed else self.outcome
                yield Part(cluster, end, "unanswered", "unanswered", f"there was no answer when the round was closed: {why}")


def round_that_ended(run: Run | None, fact: Fact | None) -> End | None:
    """The round that this fact has ended; None if it has ended none."""
    state = run.round if run is not None else None
    if run is None or state is None:
        return None
    match fact:
        case Aggregated() | RoundFailed() if fact.round == state.opened.round:
            return End(state, fact)
        case Closed() if fact.round == state.opened.round and run.ended:
            return End(state, fact)
    return None


def measurements(end: End) -> Iterator[Measurement]:
    """The round and what became of each cluster's part, with the round's trace."""
    asked = end.state.opened
    trace = round_traceparent(asked.run, asked.round)
    about = {"fedplane.task": asked.task.value, "fedplane.outcome": end.outcome}
    yield Measurement(ROUNDS, 1, {**about, "error.type": end.reason} if end.reason else about, trace)
    yield Measurement(ROUND_DURATION, _seconds(asked.at, end.fact.at), about, trace)
    for part in end.parts():
        of = {"fedplane.task": asked.task.value, "fedplane.outcome": part.outcome}
        if part.outcome == ACCEPTED:
            yield Measurement(CONTRIBUTIONS, 1, of, trace)
            yield Measurement(CONTRIBUTION_DURATION, _seconds(asked.at, part.at), {"fedplane.task": asked.task.value}, trace)
        else:
            yield Measurement(CONTRIBUTIONS, 1, {**of, "error.type": part.reason, "fedplane.cluster": part.cluster}, trace)


def spans(end: End) -> Iterator[Ended]:
    """The round's root, each cluster's part, and the assembly of the result, which goes from the last shard to the end."""
    state, fact = end.state, end.fact
    asked = state.opened
    root = round_traceparent(asked.run, asked.round)
    about: dict[str, str | int] = {"fedplane.run": asked.run, "fedplane.round": asked.round}
    said: Attributes = {
        **about, "fedplane.task": asked.task.value, "fedplane.training_round": asked.training_round,
        "fedplane.clusters": len(asked.clusters), "fedplane.members": len(state.members) or len(state.evaluated),
        "fedplane.outcome": end.outcome, **({"error.type": end.reason} if end.reason else {}),
    }  # fmt: skip
    closed = fact if isinstance(fact, Closed) else state.closed
    events = [Event("closed", closed.at, {"fedplane.message": closed.reason})] if closed else []
    if isinstance(fact, RoundFailed):
        events.append(failure("failed", fact.at, fact.reason, fact.message))
    yield Ended(
        f"round {asked.task.value}", asked.at, max(asked.at, fact.at), identity=root, attributes=said,
        links=(run_traceparent(asked.run),), events=tuple(events), problem=fact.message if isinstance(fact, RoundFailed) else "",
    )  # fmt: skip
    for part in end.parts():
        yield _invite(state, part, root)
    if isinstance(fact, Aggregated):
        begin = max((each.at for each in (*state.folded.values(), *((closed,) if closed else ()))), default=fact.at)
        yield Ended("assemble", min(begin, fact.at), fact.at, parent=root, attributes=about)


def _invite(state: Round, part: Part, root: str) -> Ended:
    asked = state.opened
    names = {"run": asked.run, "round": asked.round, "cluster": part.cluster}
    attributes: Attributes = {
        "fedplane.run": asked.run, "fedplane.round": asked.round, "fedplane.cluster": part.cluster, "fedplane.outcome": part.outcome,
        **messaging("invite", "send", Invited.pattern(**names), Invited.template), **({"error.type": part.reason} if part.reason else {}),
    }  # fmt: skip
    events = () if part.outcome == ACCEPTED else (failure(part.outcome, part.at, part.reason, part.message),)
    return Ended(
        "invite", asked.at, max(asked.at, part.at), identity=invite_traceparent(asked.run, asked.round, part.cluster), parent=root,
        attributes=attributes, events=events, problem=part.message, kind=SpanKind.PRODUCER,
    )  # fmt: skip


def _seconds(begin: datetime, end: datetime) -> float:
    """None are less than nothing, whatever clocks say."""
    return max(0.0, (end - begin).total_seconds())
