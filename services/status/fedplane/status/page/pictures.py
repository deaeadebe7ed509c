"""What the page shows of a run: its view, cut into documents that are each fetched when somebody looks at them.

A view of a run on a thousand clusters is a megabyte, and changes with each answer.
So a list of runs has a line for each, a run has a line for each of its rounds, and clusters come with the one round that is looked at.

Pure. Nothing is folded here: all of it is in the view.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from fedplane.schemas.details import shown
from fedplane.schemas.models import Chosen, Refused
from fedplane.schemas.views import Phase, RoundState, RoundView, RunView
from fedplane.status.outward import measured

__all__ = ["Outcome", "Trace", "overview", "placement", "round_picture", "summary"]

Trace = Callable[[int | None], str]
"""Where the trace of a round is looked at, or that of the run; empty if nobody said where."""

HEADLINES_MAX = 2
"""How many metrics the list of runs has a place for."""


class Outcome(StrEnum):
    """What became of a cluster's invitation. `late` is who has not answered when the round was closed."""

    ANSWERED = "answered"
    WORKING = "working"
    LATE = "late"
    DECLINED = "declined"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


def summary(view: RunView) -> dict[str, Any]:
    """A run's line in the list of runs."""
    latest = measured(view)
    return {
        "run": view.run,
        "name": view.name,
        "namespace": view.namespace,
        "phase": view.phase.value,
        "message": view.said,
        "submitted_at": view.submitted_at.isoformat(),
        "ended_at": _instant(_ended_at(view)),
        "rounds": view.training_rounds,
        "rounds_done": view.training_rounds_done,
        "chosen": len(view.participants),
        "refused": len(view.refused),
        "metrics": {name: latest[name] for name in shown(latest)[:HEADLINES_MAX]},
        "sequence": view.sequence,
    }


def overview(view: RunView, trace: Trace) -> dict[str, Any]:
    """A run with a line for each of its rounds."""
    return summary(view) | {
        "failure_reason": view.failure_reason,
        "phases": {phase.value: at.isoformat() for phase, at in view.phases.items()},
        "conditions": [condition.model_dump(mode="json") for condition in view.conditions],
        "measured": measured(view),
        "privacy": view.privacy.model_dump(mode="json") if view.privacy else None,
        "model": _model(view),
        "location": view.location,
        "trace": trace(None),
        "rounds_held": [_round_line(of, trace) for of in view.rounds],
    }


def placement(view: RunView) -> dict[str, Any]:
    """Why each cluster takes part, or does not: every term of its score, or the filter that refused it."""
    return {
        "run": view.run,
        "wanted": view.wanted,
        "eligible": view.eligible,
        "clusters": [
            *(_judged(chosen, chosen=True) for chosen in view.participants),
            *(_judged(refused, chosen=False) for refused in sorted(view.refused, key=lambda refused: refused.cluster)),
        ],
    }


def round_picture(view: RunView, number: int, trace: Trace) -> dict[str, Any] | None:
    """One round with what became of each cluster; None if the view has no such round."""
    of = next((of for of in reversed(view.rounds) if of.round == number), None)
    return None if of is None else {"run": view.run, **_round_line(of, trace), "clusters": _clusters(of), "left_out": of.left_out}


def _model(view: RunView) -> dict[str, Any] | None:
    """The latest model, and the training round that made it if the view still has that: people count training rounds."""
    model = view.model
    if model is None:
        return None
    made_in = next((of.training_round for of in reversed(view.rounds) if of.round == model.round), None)
    return {"round": model.round, "training_round": made_in, "bytes": model.bytes, "digest": model.digest}


def _round_line(of: RoundView, trace: Trace) -> dict[str, Any]:
    return {
        "round": of.round,
        "task": of.task.value,
        "training_round": of.training_round,
        "state": of.state.value,
        "message": of.message,
        "opened_at": of.opened_at.isoformat(),
        "deadline": of.deadline.isoformat(),
        "closed_at": _instant(of.closed_at),
        "ended_at": _instant(of.ended_at),
        "invited": len(of.invited),
        "outcomes": _counts(of),
        "metrics": of.metrics,
        "epsilon": of.privacy.epsilon if of.privacy else None,
        "trace": trace(of.round),
    }


def _counts(of: RoundView) -> dict[str, int]:
    """How many clusters each outcome has, if any: counted without a look at each, since a run may have had 200 rounds of a thousand."""
    rejected = {said.cluster for said in of.rejected}
    declined = {said.cluster for said in of.declined} - rejected
    answered = set(of.answered) - rejected - declined
    counts = {
        Outcome.ANSWERED: len(answered),
        _silent(of): len(of.invited) - len(answered) - len(rejected) - len(declined),
        Outcome.DECLINED: len(declined),
        Outcome.REJECTED: len(rejected),
    }
    return {outcome.value: number for outcome, number in counts.items() if number}


def _clusters(of: RoundView) -> list[dict[str, Any]]:
    answered = dict(zip(of.answered, (*of.answered_seconds, *(None for _ in of.answered)), strict=False))
    lost = {said.cluster: (Outcome.DECLINED, said) for said in of.declined} | {
        said.cluster: (Outcome.REJECTED, said) for said in of.rejected
    }
    return [_cluster(of, cluster, answered, lost) for cluster in sorted(of.invited)]


def _cluster(of: RoundView, cluster: str, answered: dict[str, Any], lost: dict[str, Any]) -> dict[str, Any]:
    outcome, said = lost.get(cluster, (None, None))
    if outcome is None:
        outcome = Outcome.ANSWERED if cluster in answered else _silent(of)
    seconds = answered.get(cluster, said.seconds if said else None)
    return {
        "cluster": cluster,
        "outcome": outcome.value,
        "seconds": seconds,
        "reason": said.reason if said else "",
        "message": said.message if said else "",
        "carries": of.carried.get(cluster),
    }


def _silent(of: RoundView) -> Outcome:
    """What a cluster is that has said nothing."""
    if of.state is RoundState.OPEN:
        return Outcome.WORKING
    return Outcome.ABANDONED if of.state is RoundState.ABANDONED and of.closed_at is None else Outcome.LATE


def _judged(cluster: Chosen | Refused, *, chosen: bool) -> dict[str, Any]:
    return {
        "cluster": cluster.cluster,
        "chosen": chosen,
        "score": cluster.score,
        "terms": [term.model_dump() for term in cluster.terms],
        "reason": "" if isinstance(cluster, Chosen) else cluster.reason,
        "message": "" if isinstance(cluster, Chosen) else cluster.message,
    }


def _ended_at(view: RunView) -> datetime | None:
    return view.phases.get(Phase.COMPLETED) or view.phases.get(Phase.FAILED)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
