"""How things look one line at a time: facts as they are stated, and a run's progress where there is no terminal. Pure."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from fedplane.cli.display import metrics_line, plain, question
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.views import RoundState, RunView

__all__ = ["fact_line", "progress_lines", "word_lines"]


def fact_line(record: Recorded) -> str:
    """One fact: when, what, and the little that tells it from others of its kind."""
    fact = record.fact
    what = fact.subject.split(".", 3)[-1]
    detail = DETAILS[type(fact)](fact) if type(fact) in DETAILS else ""
    return plain(f"{_clock(fact.at)} {what}  {detail}").rstrip()


DETAILS: dict[type[facts.Fact], Callable[[Any], str]] = {
    facts.Submitted: lambda fact: f"{fact.resource.spec.framework}, {fact.resource.spec.server.rounds} training rounds",
    facts.Waiting: lambda fact: fact.message,
    facts.Scheduled: lambda fact: ", ".join(chosen.cluster for chosen in fact.participants),
    facts.Started: lambda fact: f"{fact.strategy}, {fact.training_rounds} training rounds",
    facts.Exposed: lambda fact: "; ".join(
        [*(listener.address for listener in fact.listeners), *(f"{name}: {why}" for name, why in fact.pending.items())]
    ),
    facts.Asked: lambda fact: (
        f"{', '.join(sorted({each.kind for each in fact.instructions}))}: {', '.join(each.cluster for each in fact.instructions)}"
    ),
    facts.Opened: lambda fact: f"{fact.task}, training round {fact.training_round}: {', '.join(fact.clusters)}",
    facts.Invited: lambda fact: f"{fact.task}, training round {fact.training_round}",
    facts.Contributed: lambda fact: (
        f"weight={fact.weight:g} bytes={sum(shard.bytes for shard in fact.shards)} {metrics_line(fact.metrics)}"
    ),
    facts.Evaluated: lambda fact: f"weight={fact.weight:g} {metrics_line(fact.metrics)}",
    facts.Declined: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Rejected: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Closed: lambda fact: fact.reason,
    facts.Folded: lambda fact: f"bytes={fact.piece.bytes} members={len(fact.members)}",
    facts.Aggregated: lambda fact: f"{fact.task}, training round {fact.training_round}: {metrics_line(fact.metrics)}",
    facts.RoundFailed: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Completed: lambda fact: metrics_line(fact.metrics),
    facts.Failed: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Cancelled: lambda fact: fact.message,
    facts.Kept: lambda fact: fact.location,
    facts.Archived: lambda fact: f"{fact.facts} facts in {fact.piece.bytes} bytes",
}
"""What is worth a line in each fact, beside its subject; nothing where the subject says it all."""


def word_lines(word: facts.Waiting | facts.Scheduled | facts.Failed) -> Iterator[str]:
    """What became of a run at first."""
    match word:
        case facts.Scheduled():
            yield f"scheduled on {', '.join(chosen.cluster for chosen in word.participants)}"
        case facts.Waiting():
            yield f"waiting: {plain(word.message)}"
        case facts.Failed():
            yield f"failed: {plain(word.reason)}: {plain(word.message)}"
            return
    for refused in sorted(word.refused, key=lambda refused: refused.cluster):
        yield f"  {refused.cluster} {plain(refused.message)}"


def progress_lines(before: RunView | None, after: RunView, now: datetime) -> Iterator[str]:
    """What is new in a view: for logs, where a picture that changes has no place."""
    for said in _news(before, after):
        yield plain(f"{_clock(now)} {said}")


def _news(before: RunView | None, after: RunView) -> Iterator[str]:
    moved = before is None or before.phase is not after.phase
    told_more = not after.rounds and before is not None and before.message != after.message
    if (moved or told_more) and not after.ended:
        yield f"{after.phase.value}: {after.message}"
    held = {of.round: of for of in before.rounds} if before else {}
    for of in after.rounds:
        known = held.get(of.round)
        what = question(of, after)
        if known is None:
            yield f"{what}: {len(of.invited)} invited"
        for decline in of.declined[len(known.declined) if known else 0 :]:
            yield f"{what}: {decline.cluster} declined: {decline.reason}: {decline.message}"
        for decline in of.rejected[len(known.rejected) if known else 0 :]:
            yield f"{what}: {decline.cluster} rejected: {decline.reason}: {decline.message}"
        if of.ended_at and not (known and known.ended_at):
            detail = metrics_line(of.metrics) if of.state is RoundState.AGGREGATED else of.message
            yield f"{what}: {of.state.value.lower()}, {len(of.answered)} of {len(of.invited)} answered {detail}".rstrip()
    if moved and after.ended:
        yield f"{after.phase.value}: {after.message} {metrics_line(after.metrics)}".rstrip()


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"
