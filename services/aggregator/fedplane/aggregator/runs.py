"""A run as the aggregator sees it: initialize, then train and evaluate as often as asked, then done.

This is the service's core: `evolve` folds the log into runs, `decide` says what is due in each. Which question a run asks next follows from
what it has; how one question is answered is `rounds` and `deciding`.
Of a run that has ended only a marker stays, so memory follows the runs that go on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fedplane.aggregator import rounds, strategies
from fedplane.aggregator.deciding import about_round, close_cancelled
from fedplane.aggregator.rounds import Phase, Round
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import (
    Cancelled,
    Completed,
    Failed,
    Opened,
    RoundFact,
    RunFact,
    Scheduled,
    Started,
    Submitted,
    all_facts_of,
    run_level_facts_of,
)
from fedplane.schemas.models import METRICS_MAX, Configuration, Metrics, Model, Task
from fedplane.schemas.subjects import bulk_of_round

__all__ = ["Cut", "Discard", "Run", "Runs", "RunsState", "next_task"]


@dataclass(frozen=True, slots=True)
class Cut:
    """How updates are cut, in bytes; multiples of eight."""

    shard_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Discard:
    """An effect: these bulk data are needed no more."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What the log says of a run.

    `sequence` is the last fact that was folded, `run_level` the last one about the run as a whole: an end is stated only if it still is.
    """

    submitted: Submitted
    sequence: int
    run_level: int
    scheduled: Scheduled | None = None
    started: bool = False
    ended: bool = False
    leftovers: tuple[str, ...] = ()
    round: Round | None = None
    model: Model | None = None
    superseded: tuple[Model, ...] = ()
    configuration: Configuration = field(default_factory=dict)
    trained: int = 0
    evaluated: int = -1
    failures: int = 0
    faulty: frozenset[str] = frozenset()
    metrics: Metrics = field(default_factory=dict)


RunsState = dict[str, Run]
"""The runs by id. Never changed in place."""

SUPERSEDED_MAX = 2
"""Superseded models that are remembered. The older one is forgotten on the bulk stream as well; the younger one may still be read."""


class Runs:
    """The aggregator's core."""

    patterns = ((all_facts_of(),),)
    tick_seconds = None

    def __init__(self, cut: Cut) -> None:
        self.cut = cut

    def initial(self) -> RunsState:
        """No runs."""
        return {}

    def evolve(self, state: RunsState, record: Recorded) -> RunsState:
        """Fold one fact. A fact that was folded before, or is about a run that was never submitted, changes nothing."""
        fact = record.fact
        if not isinstance(fact, RunFact):
            return state
        run = state.get(fact.run)
        if run is None:
            if not isinstance(fact, Submitted):
                return state
            return {**state, fact.run: Run(fact, record.sequence, record.sequence)}
        if record.sequence <= run.sequence:
            return state
        return {**state, fact.run: replace(_evolved(run, fact, record.sequence), sequence=record.sequence)}

    def decide(self, state: RunsState, now: datetime) -> Sequence[Action]:
        """Everything that is due in every run."""
        return [action for name in sorted(state) for action in self._about(state[name], now)]

    def _about(self, run: Run, now: datetime) -> Iterator[Action]:
        if run.ended:
            if run.round is not None:
                yield from close_cancelled(run.round, now)
            yield Perform(("discard", run.submitted.run), Discard(run.leftovers))
            return
        name, resource = run.submitted.run, run.submitted.resource
        try:
            strategies.make(resource.spec.strategy)
        except BadInput as problem:
            yield _end(run, Failed(run=name, at=now, reason="BadRequest", message=str(problem)))
            return
        if run.scheduled is None:
            return
        if not run.started:
            started = Started(run=name, at=now, strategy=resource.spec.strategy.name, training_rounds=resource.spec.server.rounds)
            yield State(started, Fence(run_level_facts_of(name), run.run_level))
        elif run.round is None or run.round.ended:
            yield from _discard(run)
            yield from self._go_on(run, now)
        else:
            participants = {chosen.cluster: chosen for chosen in run.scheduled.participants}
            yield from about_round(run.round, resource, participants, run.configuration, now)

    def _go_on(self, run: Run, now: datetime) -> Iterator[Action]:
        name, spec = run.submitted.run, run.submitted.resource.spec
        failed = run.round.failed if run.round else None
        task, training_round = next_task(run)
        if failed and run.failures >= spec.rounds.attempts:
            message = f"training round {training_round} failed {run.failures} times; the last time: {failed.message}"
            yield _end(run, Failed(run=name, at=now, reason="RoundFailed", message=message))
        elif task is None:
            assert run.model is not None, "a run without a model is asked to initialize"
            yield _end(run, Completed(run=name, at=now, model=run.model, metrics=run.metrics))
        else:
            yield self._open(run, task, training_round, now)

    def _open(self, run: Run, task: Task, training_round: int, now: datetime) -> Action:
        name, spec = run.submitted.run, run.submitted.resource.spec
        assert run.scheduled is not None
        able = [chosen.cluster for chosen in run.scheduled.participants if chosen.cluster not in run.faulty]
        minimum = spec.server.min_available_clients if task is Task.TRAIN else 1
        if len(able) < minimum:
            faulty = ", ".join(sorted(run.faulty))
            message = f"{len(able)} usable clusters are left and {minimum} are needed; the contributions of {faulty} could not be used"
            return _end(run, Failed(run=name, at=now, reason="TooFewClusters", message=message))
        clusters = (able[run.failures % len(able)],) if task is Task.INITIALIZE else tuple(sorted(able))
        return State(
            Opened(
                run=name, round=run.round.opened.round + 1 if run.round else 0, at=now, task=task, training_round=training_round,
                clusters=clusters, minimum=minimum, deadline=now + timedelta(seconds=spec.rounds.deadline_seconds),
                shard_bytes=self.cut.shard_bytes, chunk_bytes=self.cut.chunk_bytes, model=run.model,
            ),
            Fence(run_level_facts_of(name), run.run_level),
        )  # fmt: skip


def next_task(run: Run) -> tuple[Task | None, int]:
    """What a run asks next, and which training round that serves; None when all is done.

    An evaluation that failed is not repeated: it measures the model and does not make it.
    """
    spec = run.submitted.resource.spec
    if run.model is None:
        return Task.INITIALIZE, 0
    if spec.rounds.evaluate and run.trained > 0 and run.evaluated < run.trained:
        return Task.EVALUATE, run.trained
    if run.trained < spec.server.rounds:
        return Task.TRAIN, run.trained + 1
    return None, run.trained


def _evolved(run: Run, fact: RunFact, sequence: int) -> Run:
    if run.ended:
        if isinstance(fact, RoundFact) and run.round is not None:
            return replace(run, round=rounds.evolve(run.round, fact))
        return run
    match fact:
        case Scheduled():
            return replace(run, scheduled=run.scheduled or fact, run_level=sequence)
        case Started():
            return replace(run, started=True, run_level=sequence)
        case Completed() | Failed() | Cancelled():
            return _ended(run, sequence)
        case Opened():
            follows = fact.round == (run.round.opened.round + 1 if run.round else 0)
            return replace(run, round=rounds.opened(fact)) if follows else run
        case RoundFact() if run.round is not None:
            return _after_round(replace(run, round=rounds.evolve(run.round, fact)), was_ended=run.round.ended)
    return run


def _after_round(run: Run, was_ended: bool) -> Run:
    """The run when its round has just ended; the run itself at any other time."""
    state = run.round
    if state is None or was_ended or not state.ended:
        return run
    evaluation = state.opened.task is Task.EVALUATE
    if state.phase is Phase.FAILED:
        assert state.failed is not None
        run = replace(run, faulty=run.faulty | set(state.failed.faulty))
        return replace(run, evaluated=state.opened.training_round) if evaluation else replace(run, failures=run.failures + 1)
    assert state.aggregated is not None
    if evaluation:
        return replace(run, evaluated=state.opened.training_round, metrics=_latest(run.metrics, state.aggregated.metrics))
    told = state.members[0].configuration if state.opened.task is Task.INITIALIZE and state.members else run.configuration
    superseded = (*run.superseded, run.model)[-SUPERSEDED_MAX:] if run.model else ()
    return replace(
        run, model=state.aggregated.model, superseded=superseded, configuration=told, trained=state.opened.training_round, failures=0,
        metrics=_latest(run.metrics, state.aggregated.metrics),
    )  # fmt: skip


def _latest(before: Metrics, now: Metrics) -> Metrics:
    """The last value of each metric; of too many, those that were measured longest ago are forgotten."""
    kept = {**{name: value for name, value in before.items() if name not in now}, **now}
    return dict(list(kept.items())[-METRICS_MAX:])


def _ended(run: Run, sequence: int) -> Run:
    """The marker: what closes its last round, and what bulk data to forget. The last model stays."""
    name, state = run.submitted.run, run.round
    old = tuple(bulk_of_round(name, model.round, "model") for model in run.superseded)
    still = state if state is not None and not state.ended else None
    return Run(run.submitted, sequence, sequence, ended=True, round=still, leftovers=(bulk_of_round(name, "*", "update"), *old))


def _end(run: Run, fact: Completed | Failed) -> State:
    return State(fact, Fence(run_level_facts_of(run.submitted.run), run.run_level))


def _discard(run: Run) -> Iterator[Action]:
    """The updates of a round that has its result, and the oldest of the models that were kept."""
    if run.round is None or run.round.phase is not Phase.AGGREGATED or run.round.opened.task is Task.EVALUATE:
        return
    name, number = run.submitted.run, run.round.opened.round
    patterns = [bulk_of_round(name, number, "update")]
    if len(run.superseded) == SUPERSEDED_MAX:
        patterns.append(bulk_of_round(name, run.superseded[0].round, "model"))
    yield Perform(("discard", name, number), Discard(tuple(patterns)))
