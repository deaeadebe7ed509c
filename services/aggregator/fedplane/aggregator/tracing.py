"""The aggregator's part in traces: every fact of a round is stated in the round's trace, and whoever ends the round emits its root span."""

from fedplane.aggregator.runs import RunsState
from fedplane.runtime.ports import Stated
from fedplane.runtime.replica import Action, Offer, Remind, Replica, State
from fedplane.runtime.telemetry import Attributes, emit, round_traceparent
from fedplane.schemas.facts import Aggregated, RoundFact, RoundFailed, RunFact, parse_work_of_fold

__all__ = ["emit_round", "traceparent_of"]


def traceparent_of(replica: Replica[RunsState], action: Action) -> str | None:
    """The context in which an action is carried out: its round's, or that in which its run was submitted."""
    match action:
        case State(RoundFact() as fact) | Remind(RoundFact() as fact, _):
            return round_traceparent(fact.run, fact.round)
        case State(RunFact() as fact) if fact.run in replica.state:
            return replica.state[fact.run].traceparent
        case Offer(subject):
            run, number, _ = parse_work_of_fold(subject)
            return round_traceparent(run, number)
    return None


def emit_round(replica: Replica[RunsState], outcome: Stated) -> None:
    """Emit the span of a round, if it was this replica that ended it."""
    fact = outcome.record.fact if outcome.record and outcome.mine else None
    if not isinstance(fact, Aggregated | RoundFailed):
        return
    run = replica.state.get(fact.run)
    if run is None or run.round is None or run.round.opened.round != fact.round:
        return
    asked = run.round.opened
    attributes: Attributes = {
        "fedplane.run": fact.run,
        "fedplane.round": fact.round,
        "fedplane.task": asked.task.value,
        "fedplane.training_round": asked.training_round,
        "fedplane.clusters": len(asked.clusters),
        "fedplane.members": len(run.round.members) or len(run.round.evaluated),
    }
    failure = fact.message if isinstance(fact, RoundFailed) else None
    emit(round_traceparent(fact.run, fact.round), f"round {asked.task.value}", asked.at, fact.at, attributes, [run.traceparent], failure)
