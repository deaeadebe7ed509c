"""The aggregator's part in traces: whoever ends a round or a run emits its root span."""

from fedplane.aggregator.runs import Run, RunsState
from fedplane.runtime.ports import Stated
from fedplane.runtime.replica import Replica
from fedplane.runtime.telemetry import Attributes, emit, round_traceparent, run_traceparent
from fedplane.schemas.facts import Aggregated, Completed, Failed, RoundFailed, RunFact

__all__ = ["emit_ended"]


def emit_ended(replica: Replica[RunsState], outcome: Stated) -> None:
    """Emit the span of a round or run, if it was this replica that ended it."""
    fact = outcome.record.fact if outcome.record and outcome.mine else None
    run = replica.state.get(fact.run) if isinstance(fact, RunFact) else None
    if run is None:
        return
    match fact:
        case Aggregated() | RoundFailed():
            _emit_round(run, fact)
        case Completed() | Failed():
            failure = fact.message if isinstance(fact, Failed) else None
            attributes = {"fedplane.run": fact.run}
            emit("run", run.submitted.at, fact.at, identity=run_traceparent(fact.run), attributes=attributes, failure=failure)


def _emit_round(run: Run, fact: Aggregated | RoundFailed) -> None:
    state = run.round
    if state is None or state.opened.round != fact.round:
        return
    asked = state.opened
    attributes: Attributes = {
        "fedplane.run": fact.run,
        "fedplane.round": fact.round,
        "fedplane.task": asked.task.value,
        "fedplane.training_round": asked.training_round,
        "fedplane.clusters": len(asked.clusters),
        "fedplane.members": len(state.members) or len(state.evaluated),
    }
    emit(
        f"round {asked.task.value}",
        asked.at,
        fact.at,
        identity=round_traceparent(fact.run, fact.round),
        attributes=attributes,
        links=[run_traceparent(fact.run)],
        failure=fact.message if isinstance(fact, RoundFailed) else None,
    )
