"""How things look one line at a time: facts as they are stated, and a run's progress where there is no terminal. Pure."""

from collections.abc import Iterator
from datetime import datetime

from fedplane.cli.display import plain, question
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.details import detail, metrics_line, privacy_line
from fedplane.schemas.views import RoundState, RunView

__all__ = ["fact_line", "progress_lines", "word_lines"]

REFUSED_SHOWN_MAX = 10
"""How many refused clusters are listed when a run is submitted: of a thousand, the words above them would scroll away."""


def fact_line(record: Recorded) -> str:
    """One fact: when, what, and the little that tells it from others of its kind."""
    fact = record.fact
    what = fact.subject.split(".", 3)[-1]
    return plain(f"{_clock(fact.at)} {what}  {detail(fact)}").rstrip()


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
    for refused in sorted(word.refused, key=lambda refused: refused.cluster)[:REFUSED_SHOWN_MAX]:
        yield f"  {refused.cluster} {plain(refused.message)}"
    if (more := len(word.refused) - REFUSED_SHOWN_MAX) > 0:
        yield f"  and {more:,} more; `fedplane explain {word.run}` sums them up"


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
            came_out = f"{metrics_line(of.metrics)} {privacy_line(of.privacy)}" if of.state is RoundState.AGGREGATED else of.message
            yield f"{what}: {of.state.value.lower()}, {len(of.answered)} of {len(of.invited)} answered {came_out}".rstrip()
    if moved and after.ended:
        yield " ".join(filter(None, (f"{after.phase.value}: {after.said}", metrics_line(after.metrics), privacy_line(after.privacy))))


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"
