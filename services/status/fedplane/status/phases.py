"""What the facts of a run mean to somebody who looks at it from outside: phase, conditions, a sentence. `rounds` has those of its rounds.

Pure. The state is every run's view. `decide` asks for every view to be shown, and the loop in `runtime.replica` shows each version once.
So a burst of facts costs one write, and a replica that starts anew writes every view once more, which does no harm.

Rules that keep this file honest:
1. A view takes each fact once: one that is not newer than the view changes nothing.
2. A terminal phase never moves. After the end, only where the model is kept may still be told.
3. A run that was archived is forgotten here; what was shown of it stays visible.
4. A view's sequence moves only when the view changes, so that nothing is written that looks the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas import facts
from fedplane.schemas.views import Condition, Phase, RoundState, RunView
from fedplane.status import rounds
from fedplane.status.sentences import count, cut, listed, word

__all__ = ["Phases", "Runs", "ShowRun"]

Runs = Mapping[str, RunView]
"""The state: the view of each run, in the order in which runs were submitted."""


@dataclass(frozen=True, slots=True)
class ShowRun:
    """The effect of this service: let everyone see this view."""

    view: RunView


class Phases:
    """The core: facts in, views out."""

    def __init__(self, runs_kept_max: int) -> None:
        self.runs_kept_max = runs_kept_max
        self.patterns: tuple[tuple[str, ...], ...] = ((facts.all_facts_of(),),)
        self.tick_seconds: float | None = None

    def initial(self) -> Runs:
        """No runs."""
        return {}

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """The views after the fact."""
        fact = record.fact
        if not isinstance(fact, facts.RunFact):
            return state
        if isinstance(fact, facts.Submitted):
            return state if fact.run in state else self._with(state, _submitted(fact, record.sequence))
        view = state.get(fact.run)
        if isinstance(fact, facts.Archived):
            return {run: held for run, held in state.items() if run != fact.run}
        if view is None or record.sequence <= view.sequence or (view.ended and not isinstance(fact, facts.Kept)):
            return state
        meaning = MEANINGS.get(type(fact))
        changed = view if meaning is None else meaning(view, fact)
        return state if changed is view else {**state, fact.run: changed.model_copy(update={"sequence": record.sequence})}

    def decide(self, state: Runs, now: datetime) -> list[Perform]:
        """Show every view."""
        return [Perform((view.run, view.sequence), ShowRun(view)) for view in state.values()]

    def _with(self, state: Runs, view: RunView) -> Runs:
        ended = [run for run, held in state.items() if held.ended]
        forgotten = set(ended[: max(0, len(state) + 1 - self.runs_kept_max)])
        return {run: held for run, held in state.items() if run not in forgotten} | {view.run: view}


def _submitted(fact: facts.Submitted, sequence: int) -> RunView:
    message = "Waiting for the scheduler."
    return RunView(
        run=fact.run,
        name=fact.resource.metadata.name,
        namespace=fact.resource.metadata.namespace,
        uid=fact.resource.metadata.uid,
        generation=fact.resource.metadata.generation,
        phase=Phase.WAITING,
        message=message,
        conditions=(Condition(type="Scheduled", status="Unknown", reason="Submitted", message=message, last_transition_at=fact.at),),
        sequence=sequence,
        submitted_at=fact.at,
        phases={Phase.WAITING: fact.at},
        training_rounds=fact.resource.spec.server.rounds,
        storage=fact.resource.spec.server.storage.type if fact.from_hub and fact.resource.spec.server.storage else "",
    )


def _waiting(view: RunView, fact: facts.Waiting) -> RunView:
    by_name = sorted(fact.refused, key=lambda refused: refused.cluster)
    who = listed((f"{refused.cluster} {refused.message}" for refused in by_name), ". ")
    message = cut(f"{fact.message}. {who}" if who else fact.message)
    told = view.model_copy(update={"message": message, "refused": fact.refused, "wanted": fact.wanted, "eligible": fact.eligible})
    return _answering(
        told, Condition(type="Scheduled", status="False", reason="NotEnoughClusters", message=message, last_transition_at=fact.at)
    )


def _scheduled(view: RunView, fact: facts.Scheduled) -> RunView:
    chosen = [participant.cluster for participant in fact.participants]
    message = cut(f"{count(len(chosen), 'cluster')} chosen: {listed(chosen, ', ')}.")
    told = view.model_copy(update={"message": message, "participants": fact.participants, "refused": fact.refused})
    return _answering(
        told, Condition(type="Scheduled", status="True", reason="ClustersChosen", message=message, last_transition_at=fact.at)
    )


def _started(view: RunView, fact: facts.Started) -> RunView:
    message = f"{count(fact.training_rounds, 'training round')} with {fact.strategy}."
    told = view.model_copy(
        update={
            "phase": Phase.RUNNING,
            "phases": {**view.phases, Phase.RUNNING: fact.at},
            "message": message,
            "training_rounds": fact.training_rounds,
        }
    )
    return _answering(told, Condition(type="Running", status="True", reason="Started", message=message, last_transition_at=fact.at))


def _completed(view: RunView, fact: facts.Completed) -> RunView:
    early = f"{view.training_rounds_done} of " if view.training_rounds_done < view.training_rounds else ""
    why = "" if fact.reason in ("", facts.ALL_ROUNDS_DONE) else f": {fact.reason}"
    message = f"{early if why else ''}{count(view.training_rounds, 'training round')} done{why}."
    ended = _ended(view, Phase.COMPLETED, "Completed", cut(message), fact.at)
    told = ended.model_copy(update={"model": fact.model, "metrics": fact.metrics})
    if not view.storage:
        return told
    message = (
        f"The Job {view.run} keeps the model in the {view.storage}; until then it is on the bus, and the Job's log says what is wrong."
    )
    return _answering(told, Condition(type="Kept", status="False", reason="NotYet", message=message, last_transition_at=fact.at))


def _kept(view: RunView, fact: facts.Kept) -> RunView:
    if view.model is None or view.model.round != fact.round:
        return view  # an earlier round's model, which somebody kept besides
    kept = Condition(type="Kept", status="True", reason="Kept", message=f"The model is {cut(fact.location)}.", last_transition_at=fact.at)
    return _answering(view.model_copy(update={"location": fact.location}), kept)


def _failed(view: RunView, fact: facts.Failed) -> RunView:
    return _ended(view, Phase.FAILED, fact.reason, cut(fact.message), fact.at)


def _cancelled(view: RunView, fact: facts.Cancelled) -> RunView:
    return _ended(view, Phase.FAILED, "Cancelled", cut(fact.message) or "Somebody cancelled the run.", fact.at)


def _edit_refused(view: RunView, fact: facts.EditRefused) -> RunView:
    """The phase stays: the run goes on as it was asked for. What is observed is the newest generation of the object."""
    refused = Condition(type="Synced", status="False", reason="EditRefused", message=cut(fact.message), last_transition_at=fact.at)
    return _answering(view.model_copy(update={"generation": max(view.generation, fact.generation)}), refused)


def _exposed(view: RunView, fact: facts.Exposed) -> RunView:
    """Those that have an address are shown, and of the others why they have none."""
    told = view.model_copy(update={"listeners": fact.listeners})
    if fact.pending:
        message = cut(listed((f"{name}: {why}" for name, why in sorted(fact.pending.items())), ". "))
        return _answering(told, Condition(type="Exposed", status="False", reason="Pending", message=message, last_transition_at=fact.at))
    message = cut(f"The bus is reached at {listed((listener.address for listener in fact.listeners), ', ')}.")
    return _answering(told, Condition(type="Exposed", status="True", reason="Reachable", message=message, last_transition_at=fact.at))


MEANINGS: dict[type[facts.RunFact], Callable[[RunView, Any], RunView]] = {
    facts.Waiting: _waiting,
    facts.Scheduled: _scheduled,
    facts.Started: _started,
    **rounds.MEANINGS,
    facts.Completed: _completed,
    facts.Failed: _failed,
    facts.Cancelled: _cancelled,
    facts.EditRefused: _edit_refused,
    facts.Exposed: _exposed,
    facts.Kept: _kept,
}
"""What each fact about a run that was submitted does to its view."""


def _ended(view: RunView, phase: Literal[Phase.COMPLETED, Phase.FAILED], reason: str, message: str, at: datetime) -> RunView:
    """The view after the run's last fact. A round that is under way will have no result."""
    told = view.model_copy(
        update={
            "phase": phase,
            "phases": {**view.phases, phase: at},
            "message": message,
            "failure_reason": reason if phase is Phase.FAILED else "",
            "rounds": tuple(
                of if of.ended_at else of.model_copy(update={"state": RoundState.ABANDONED, "ended_at": at}) for of in view.rounds
            ),
        }
    )
    if Phase.RUNNING in view.phases:
        told = _answering(told, Condition(type="Running", status="False", reason=word(reason), message=message, last_transition_at=at))
    return _answering(told, Condition(type=phase.value, status="True", reason=word(reason), message=message, last_transition_at=at))


def _answering(view: RunView, condition: Condition) -> RunView:
    """The view with one condition answered anew. The time of its last change stays if the answer is the same."""
    held = {known.type: known for known in view.conditions}
    before = held.get(condition.type)
    if before is not None and before.status == condition.status:
        condition = condition.model_copy(update={"last_transition_at": before.last_transition_at})
    return view.model_copy(update={"conditions": tuple((held | {condition.type: condition}).values())})
