"""What of a run becomes a Kubernetes Event: one object for each kind of thing that happened to it, told anew when it happens again.

`kubectl describe` then says `3s (x12 over 5m)  RoundAggregated  Training round 12 of 12: ...`, and a run of a thousand rounds has as many
Events as a run of three. The name is made of the run and the reason, so two replicas that tell the same have told it once.

Pure: milestones follow from the view. Which of them are worth telling now is asked with the time, because the server forgets Events
after an hour: what is older would appear again with every replica that starts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from fedplane.schemas.models import Task
from fedplane.schemas.resources import API_VERSION, KIND
from fedplane.schemas.views import Decline, Phase, RoundState, RoundView, RunView
from fedplane.status.sentences import count, cut, listed, question

__all__ = ["COMPONENT", "REASONS", "Milestone", "event_of", "milestones"]

COMPONENT = "fedplane-status"
"""Who tells it, as `kubectl describe` shows it."""

TOLD_FOR = timedelta(hours=1)
"""How long an API server keeps Events unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """Something that happened to a run `times` times, the first and the last time then."""

    reason: str
    type: Literal["Normal", "Warning"]
    message: str
    first_at: datetime
    last_at: datetime
    times: int = 1


def milestones(view: RunView, now: datetime) -> tuple[Milestone, ...]:
    """What happened to the run and is still worth telling, at most one of each reason."""
    found = (REASONS[reason](view) for reason in REASONS)
    return tuple(milestone for milestone in found if milestone is not None and milestone.last_at > now - TOLD_FOR)


def _waiting(view: RunView) -> Milestone | None:
    return _answered(view, "Scheduled", "False", "NotEnoughClusters", "Warning")


def _scheduled(view: RunView) -> Milestone | None:
    return _answered(view, "Scheduled", "True", "Scheduled", "Normal")


def _started(view: RunView) -> Milestone | None:
    at = view.phases.get(Phase.RUNNING)
    message = f"{count(view.training_rounds, 'training round')} with {count(len(view.participants), 'cluster')}."
    return None if at is None else Milestone("Started", "Normal", message, at, at)


def _aggregated(view: RunView) -> Milestone | None:
    done = [of for of in view.rounds if of.state is RoundState.AGGREGATED and of.task is Task.TRAIN]
    if not done:
        return None
    last = done[-1]
    answered = f"{len(last.answered) - len(last.rejected)} of {count(len(last.invited), 'cluster')} contributed"
    first_at = view.phases.get(Phase.RUNNING, view.submitted_at)  # a view has the last rounds only
    return Milestone("RoundAggregated", "Normal", _said(view, last, answered), first_at, _end(last), view.training_rounds_done)


def _round_failed(view: RunView) -> Milestone | None:
    failed = [of for of in view.rounds if of.state is RoundState.FAILED]
    return _of_rounds("RoundFailed", failed, len(failed), lambda last: _said(view, last, last.message))


def _declined(view: RunView) -> Milestone | None:
    rounds = [of for of in view.rounds if of.ended_at is not None and of.declined]
    return _of_rounds(
        "ClusterDeclined", rounds, sum(len(of.declined) for of in rounds), lambda last: _said(view, last, _named(last.declined))
    )


def _rejected(view: RunView) -> Milestone | None:
    rounds = [of for of in view.rounds if of.ended_at is not None and of.rejected]
    return _of_rounds(
        "ContributionRefused", rounds, sum(len(of.rejected) for of in rounds), lambda last: _said(view, last, _named(last.rejected))
    )


def _completed(view: RunView) -> Milestone | None:
    return _answered(view, "Completed", "True", "Completed", "Normal")


def _failed(view: RunView) -> Milestone | None:
    return _answered(view, "Failed", "True", "Failed", "Warning")


REASONS: dict[str, Callable[[RunView], Milestone | None]] = {
    "NotEnoughClusters": _waiting,
    "Scheduled": _scheduled,
    "Started": _started,
    "RoundAggregated": _aggregated,
    "RoundFailed": _round_failed,
    "ClusterDeclined": _declined,
    "ContributionRefused": _rejected,
    "Completed": _completed,
    "Failed": _failed,
}
"""Every kind of Event there is, in the order of a run's life; a run has at most one object of each.

What is told of a round's answers is told when it has ended: until then more of them may follow.
"""


def _answered(view: RunView, question_: str, answer: str, reason: str, type_: Literal["Normal", "Warning"]) -> Milestone | None:
    """The moment at which a condition got that answer."""
    for condition in view.conditions:
        if (condition.type, condition.status) == (question_, answer):
            return Milestone(reason, type_, condition.message, condition.last_transition_at, condition.last_transition_at)
    return None


def _of_rounds(reason: str, rounds: list[RoundView], times: int, message: Callable[[RoundView], str]) -> Milestone | None:
    """What went wrong in some of the rounds that the view has, told of the last of them."""
    if not rounds:
        return None
    return Milestone(reason, "Warning", message(rounds[-1]), _end(rounds[0]), _end(rounds[-1]), times)


def _end(of: RoundView) -> datetime:
    return of.ended_at or of.opened_at


def _said(view: RunView, of: RoundView, what: str) -> str:
    return cut(f"{question(of.task, of.training_round, view.training_rounds)}: {what.rstrip('.')}.")


def _named(declines: tuple[Decline, ...]) -> str:
    return listed(_words(declines), "; ")


def _words(declines: tuple[Decline, ...]) -> Iterator[str]:
    for decline in declines:
        yield f"{decline.cluster}: {decline.reason}, {decline.message}"


def event_of(view: RunView, milestone: Milestone) -> dict[str, Any]:
    """The Event to apply. Its kind is that of the core API, whose Events may be told anew; those of `events.k8s.io` may not."""
    return {
        "metadata": {"name": f"{view.run}.{milestone.reason.lower()}", "namespace": view.namespace},
        "involvedObject": {"apiVersion": API_VERSION, "kind": KIND, "name": view.name, "namespace": view.namespace, "uid": view.uid},
        "reason": milestone.reason,
        "type": milestone.type,
        "message": milestone.message,
        "count": milestone.times,
        "firstTimestamp": _written(milestone.first_at),
        "lastTimestamp": _written(milestone.last_at),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
