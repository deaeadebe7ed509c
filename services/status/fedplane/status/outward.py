"""How a run looks to `kubectl`: its view as the `status` of its `FederatedLearning` object.

Everybody who folded the same facts writes the same status, to the byte.
Every time in it is a fact's, in whole seconds as in all of Kubernetes.
Upstream's words are kept where its controller would print them, since people and scripts wait for them; the conditions say more.

Pure. When and how it is written is the business of `pacing` and `kube`.
"""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any

from fedplane.schemas.models import METRICS_MAX, Exposure, Metrics, Term
from fedplane.schemas.object_status import (
    CLUSTERS_SHOWN_MAX,
    ROUNDS_SHOWN_MAX,
    CriterionStatus,
    ListenerStatus,
    ModelStatus,
    ObjectCondition,
    ObjectStatus,
    ParticipantStatus,
    PrivacyStatus,
    RefusalStatus,
    RoundStatus,
)
from fedplane.schemas.views import Phase, RoundView, RunView

__all__ = ["STATUS_BYTES_MAX", "Standing", "measured", "standing", "status_of"]

STATUS_BYTES_MAX = 700_000
"""An object has to fit etcd's 1.5 MB in a request, and beside the status there are its spec and who holds which field."""

REFUSAL_CHARACTERS_MAX = 300
"""A sentence. The fact on the log has all of it."""


class Standing(StrEnum):
    """What an object that was looked up is to a view."""

    MISSING = "there is no such object"
    ANOTHER = "it is another object of the same name"
    BEHIND = "it does not tell yet what the view tells"
    CURRENT = "it tells as much, or more"


def standing(view: RunView, live: dict[str, Any] | None) -> Standing:
    """What the object is to the view. A status from a log that was lost since does not count: there the run was asked for earlier."""
    if live is None:
        return Standing.MISSING
    if live["metadata"].get("uid") != view.uid:
        return Standing.ANOTHER
    told = live.get("status", {})
    if told.get("run") != view.run or _instant(told.get("submittedAt")) != _seconds(view.submitted_at):
        return Standing.BEHIND
    return Standing.CURRENT if told.get("sequence", -1) >= view.sequence else Standing.BEHIND


def status_of(view: RunView) -> dict[str, Any]:
    """The status as JSON: what the view tells, with as many clusters as fit."""
    clusters = CLUSTERS_SHOWN_MAX
    written = _json(_status(view, clusters))
    while len(json.dumps(written).encode()) > STATUS_BYTES_MAX and clusters:
        clusters //= 2
        written = _json(_status(view, clusters))
    return written


def _status(view: RunView, clusters: int) -> ObjectStatus:
    latest = view.rounds[-1] if view.rounds else None
    return ObjectStatus(
        phase=view.phase.value,
        message=_message(view),
        listeners=tuple(_listener(listener) for listener in view.listeners),
        observed_generation=view.generation,
        conditions=tuple(
            ObjectCondition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
                last_transition_time=_seconds(condition.last_transition_at),
                observed_generation=view.generation,
            )
            for condition in view.conditions
        ),
        run=view.run,
        submitted_at=_seconds(view.submitted_at),
        sequence=view.sequence,
        round=latest.training_round if latest else None,
        rounds=tuple(_round(of) for of in view.rounds[-ROUNDS_SHOWN_MAX:]),
        participating=len(view.participants) if view.participants else None,
        not_participating=len(view.refused),
        participants=tuple(
            ParticipantStatus(cluster=chosen.cluster, score=chosen.score, terms=_terms(chosen.terms))
            for chosen in view.participants[:clusters]
        ),
        refused=tuple(
            RefusalStatus(
                cluster=refused.cluster,
                reason=refused.reason,
                message=refused.message[:REFUSAL_CHARACTERS_MAX],
                score=refused.score,
                terms=_terms(refused.terms),
            )
            for refused in sorted(view.refused, key=lambda refused: refused.cluster)[:clusters]
        ),
        metrics=measured(view),
        privacy=_privacy(view),
        model=_model(view),
    )


def _message(view: RunView) -> str:
    """Upstream's sentence where it has one for the situation, and ours for what it does not tell: rounds, and why a run failed."""
    scheduled = next((condition.status for condition in view.conditions if condition.type == "Scheduled"), "Unknown")
    match view.phase:
        case Phase.COMPLETED:
            return "Model training successful. Check storage for details"
        case Phase.WAITING if scheduled == "Unknown":
            return "Awaiting server and client readiness"
        case Phase.WAITING if scheduled == "False" and view.wanted is not None:
            return f"Expected {view.wanted} clusters, but only {view.eligible} meet the criteria"
        case Phase.WAITING | Phase.RUNNING if scheduled == "True" and not view.rounds:
            return f"Assigned {len(view.participants)} clusters for client execution in model training"
    return view.message


def _listener(of: Exposure) -> ListenerStatus:
    """As upstream prints it."""
    return ListenerStatus(name=f"listener(service):{of.name}", type=of.type, address=of.address, port=of.port)


def _round(of: RoundView) -> RoundStatus:
    return RoundStatus(
        round=of.round,
        task=of.task.value,
        training_round=of.training_round,
        state=of.state.value,
        message=of.message,
        invited=len(of.invited),
        answered=len(of.answered),
        declined=len(of.declined),
        rejected=len(of.rejected),
        opened_at=_seconds(of.opened_at),
        ended_at=None if of.ended_at is None else _seconds(of.ended_at),
        metrics=of.metrics,
        epsilon=of.privacy.epsilon if of.privacy else None,
    )


def _privacy(view: RunView) -> PrivacyStatus | None:
    spent = view.privacy
    if spent is None:
        return None
    return PrivacyStatus(epsilon=spent.epsilon, delta=spent.delta, rounds=spent.rounds, accountant=spent.accountant)


def _terms(terms: tuple[Term, ...]) -> tuple[CriterionStatus, ...]:
    return tuple(CriterionStatus(criterion=term.criterion, score=term.score, weight=term.weight) for term in terms)


def measured(view: RunView) -> Metrics:
    """The run's own metrics if it has completed; until then the last value of each, as the aggregator takes them."""
    if view.phase is Phase.COMPLETED:
        return view.metrics
    latest: dict[str, float] = {}
    for of in view.rounds:
        latest = {**{name: value for name, value in latest.items() if name not in of.metrics}, **of.metrics}
    return dict(list(latest.items())[-METRICS_MAX:])


def _model(view: RunView) -> ModelStatus | None:
    model = view.model
    if model is None:
        return None
    return ModelStatus(round=model.round, location=view.location or model.layout.subject, digest=model.digest, bytes=model.bytes)


def _json(status: ObjectStatus) -> dict[str, Any]:
    """As it is applied: what is empty is left out, so that we hold no field in which we say nothing; a zero is something."""
    bare = _bare(status.model_dump(mode="json", by_alias=True))
    assert isinstance(bare, dict)
    return bare


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: below for name, given in value.items() if (below := _bare(given)) not in (None, "", [], {})}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def _seconds(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def _instant(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None
