"""What the facts of a round mean for the view of its run.

Pure. An answer counts while its round is open; what comes later, or belongs to a round that is not there, leaves the view as it is.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fedplane.schemas import facts
from fedplane.schemas.models import Task
from fedplane.schemas.views import ROUNDS_KEPT_MAX, Decline, RoundState, RoundView, RunView
from fedplane.status.sentences import count, cut, question

__all__ = ["MEANINGS"]


def _opened(view: RunView, fact: facts.Opened) -> RunView:
    if view.round is not None and fact.round <= view.round:
        return view
    opened = RoundView(
        round=fact.round,
        task=fact.task,
        training_round=fact.training_round,
        state=RoundState.OPEN,
        opened_at=fact.at,
        deadline=fact.deadline,
        invited=fact.clusters,
        carried=fact.carried,
        left_out={cluster: cut(why) for cluster, why in fact.left_out.items()},
    )
    return view.model_copy(
        update={
            "round": fact.round,
            "task": fact.task,
            "training_rounds": max(view.training_rounds, fact.training_round),  # an app's own server may have more than was asked for
            "rounds": (*view.rounds, opened)[-ROUNDS_KEPT_MAX:],
            "message": f"{_question(view, opened)}: {count(len(fact.clusters), 'cluster')} invited.",
        }
    )


def _answered(view: RunView, fact: facts.Contributed | facts.Evaluated) -> RunView:
    of = _round(view, fact)
    if of is None or of.state is not RoundState.OPEN or fact.cluster not in of.invited or fact.cluster in of.answered:
        return view
    return _with_round(view, of, answered=(*of.answered, fact.cluster), answered_seconds=(*of.answered_seconds, _after(of, fact.at)))


def _declined(view: RunView, fact: facts.Declined) -> RunView:
    of = _round(view, fact)
    if of is None or of.state is not RoundState.OPEN or fact.cluster not in of.invited:
        return view
    if any(decline.cluster == fact.cluster for decline in of.declined):
        return view
    said = Decline(cluster=fact.cluster, reason=fact.reason, message=cut(fact.message), seconds=_after(of, fact.at))
    return _with_round(view, of, declined=(*of.declined, said))


def _rejected(view: RunView, fact: facts.Rejected) -> RunView:
    of = _round(view, fact)
    if of is None or of.ended_at is not None or fact.cluster not in of.answered:
        return view
    if any(rejected.cluster == fact.cluster for rejected in of.rejected):
        return view
    return _with_round(view, of, rejected=(*of.rejected, Decline(cluster=fact.cluster, reason=fact.reason, message=cut(fact.message))))


def _closed(view: RunView, fact: facts.Closed) -> RunView:
    of = _round(view, fact)
    if of is None or of.state is not RoundState.OPEN:
        return view
    return _with_round(view, of, state=RoundState.CLOSED, message=cut(fact.reason), closed_at=fact.at)


def _aggregated(view: RunView, fact: facts.Aggregated) -> RunView:
    of = _round(view, fact)
    if of is None or of.ended_at is not None:
        return view
    ended = _with_round(view, of, state=RoundState.AGGREGATED, ended_at=fact.at, metrics=fact.metrics, privacy=fact.privacy)
    counts = fact.task in (Task.TRAIN, Task.REPLY)
    done = max(view.training_rounds_done, fact.training_round) if counts else view.training_rounds_done
    model = view.model if fact.task is Task.REPLY else fact.model or view.model  # a mean of replies is no model that anybody could use
    message = f"{_question(view, of)}: done by {count(len(fact.members), 'cluster')}."
    told = {"message": message, "model": model, "training_rounds_done": done, "privacy": fact.privacy or view.privacy}
    return ended.model_copy(update=told)


def _failed(view: RunView, fact: facts.RoundFailed) -> RunView:
    of = _round(view, fact)
    if of is None or of.ended_at is not None:
        return view
    said = cut(f"{fact.reason}: {fact.message}")
    ended = _with_round(view, of, state=RoundState.FAILED, message=said, ended_at=fact.at)
    return ended.model_copy(update={"message": cut(f"{_question(view, of)} failed: {said}")})


MEANINGS: dict[type[facts.RunFact], Callable[[RunView, Any], RunView]] = {
    facts.Opened: _opened,
    facts.Contributed: _answered,
    facts.Evaluated: _answered,
    facts.Declined: _declined,
    facts.Rejected: _rejected,
    facts.Closed: _closed,
    facts.Aggregated: _aggregated,
    facts.RoundFailed: _failed,
}
"""What each fact of a round does to the view. `invited`, `expired`, `measured` and `folded` are not visible from outside."""


def _round(view: RunView, fact: facts.RoundFact) -> RoundView | None:
    return next((of for of in reversed(view.rounds) if of.round == fact.round), None)


def _with_round(view: RunView, of: RoundView, **update: Any) -> RunView:
    changed = of.model_copy(update=update)
    return view.model_copy(update={"rounds": tuple(changed if held is of else held for held in view.rounds)})


def _after(of: RoundView, at: datetime) -> float:
    """How long after the opening, to the millisecond. A cluster's clock may be behind ours: then it is at once."""
    return round(max(0.0, (at - of.opened_at).total_seconds()), 3)


def _question(view: RunView, of: RoundView) -> str:
    return question(of.task, of.training_round, view.training_rounds)
