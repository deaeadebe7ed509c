"""A run as the aggregator sees it: initialize, then train and evaluate as often as asked, then done.

This is the service's core: `evolve` folds the log into runs, `decide` says what is due in each.
Which question a run asks next follows from what it has; how one question is answered is `rounds` and `deciding`.
Of a run that has ended only a marker stays, with what is to be discarded, and of one that was archived nothing.
So memory follows the runs that go on, and those that ended lately.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fedplane.aggregator import asking, carrying, policies, rounds, starting, strategies
from fedplane.aggregator.carrying import Outstanding
from fedplane.aggregator.deciding import about_round, close_cancelled
from fedplane.aggregator.policies import Best
from fedplane.aggregator.rounds import Phase, Round
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import (
    Archived,
    Asked,
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
from fedplane.schemas.layout import ALIGNMENT_BYTES
from fedplane.schemas.models import METRICS_MAX, Configuration, Metrics, Model, Task
from fedplane.schemas.resources import Spec
from fedplane.schemas.subjects import bulk_of_round, given_models

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
    `given` is the model that it starts from, `model` its last one, and after its end the one to start others from.
    `superseded` are the older models that are still stored, the oldest first; `leftovers` what is to be discarded.
    `faulty` are the clusters whose contributions to the present training round could not be used.
    `refusals` counts, for each cluster, the rounds of the run in which its answer was refused for whatever reason.
    `outstanding` are the clusters that still work on a training round's question although it has ended, by name.
    `asked` is what the app's own server asked last, if it decides; `sent` are the rounds that store what it has sent.
    """

    submitted: Submitted
    sequence: int
    run_level: int
    scheduled: Scheduled | None = None
    started: bool = False
    ended: bool = False
    leftovers: tuple[str, ...] = ()
    round: Round | None = None
    asked: Asked | None = None
    sent: tuple[int, ...] = ()
    given: Model | None = None
    model: Model | None = None
    superseded: tuple[Model, ...] = ()
    configuration: Configuration = field(default_factory=dict)
    trained: int = 0
    evaluated: int = -1
    failures: int = 0
    faulty: frozenset[str] = frozenset()
    refusals: dict[str, int] = field(default_factory=dict)
    outstanding: dict[str, Outstanding] = field(default_factory=dict)
    best: Best | None = None
    metrics: Metrics = field(default_factory=dict)


PROBLEM_CHARACTERS_MAX = 10_000
"""What is wrong with a resource may repeat a name from it that fills a fact, and the answer must fit one, too."""

RunsState = dict[str, Run]
"""The runs by id. Never changed in place."""


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
        if isinstance(fact, Archived):
            return {name: held for name, held in state.items() if name != fact.run}
        if run is None:
            if not isinstance(fact, Submitted):
                return state
            return {**state, fact.run: Run(fact, record.sequence, record.sequence, given=_given(state, fact))}
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
            strategy = strategies.make(resource.spec.strategy)
            asking.check(resource.spec)
            policies.check(resource.spec, counts_late=strategy.counts_late, appends=strategy.appends)
            starting.check(run.submitted, run.given, appends=strategy.appends)
        except BadInput as problem:
            yield _end(run, Failed(run=name, at=now, reason="BadRequest", message=str(problem)[:PROBLEM_CHARACTERS_MAX]))
            return
        if run.scheduled is None:
            return
        if not run.started:
            started = Started(run=name, at=now, strategy=resource.spec.strategy.name, training_rounds=resource.spec.server.rounds)
            yield State(started, Fence(run_level_facts_of(name), run.run_level))
            return
        yield from _discard(run)
        if run.round is None or run.round.ended:
            yield from self._ask(run, now) if asking.is_asked(resource.spec) else self._go_on(run, now)
        else:
            participants = {chosen.cluster: chosen for chosen in run.scheduled.participants}
            yield from about_round(run.round, resource, participants, run.configuration, now)

    def _ask(self, run: Run, now: datetime) -> Iterator[Action]:
        """The round that the app's own server has asked for, if it has."""
        if run.asked is not None and run.asked.round == _following(run):
            deadline = run.submitted.resource.spec.rounds.deadline_seconds
            opened = asking.opened(run.asked, deadline, self.cut.shard_bytes, self.cut.chunk_bytes, now)
            yield State(opened, Fence(run_level_facts_of(run.submitted.run), run.run_level))

    def _go_on(self, run: Run, now: datetime) -> Iterator[Action]:
        name, spec = run.submitted.run, run.submitted.resource.spec
        failed = run.round.failed if run.round else None
        task, training_round = next_task(run)
        if failed and run.failures >= spec.rounds.attempts:
            message = f"training round {training_round} failed {run.failures} times; the last time: {failed.message}"
            yield _end(run, Failed(run=name, at=now, reason="RoundFailed", message=message))
        elif task is None:
            assert run.model is not None, "a run without a model is asked to initialize"
            best = policies.kept(spec.rounds, run.best)
            model, metrics = (best.model, best.metrics) if best else (run.model, run.metrics)
            reason = policies.end(spec, run.trained, run.best) or ""
            yield _end(run, Completed(run=name, at=now, model=model, metrics=metrics, reason=reason))
        else:
            yield self._open(run, task, training_round, now)

    def _open(self, run: Run, task: Task, training_round: int, now: datetime) -> Action:
        name, spec = run.submitted.run, run.submitted.resource.spec
        assert run.scheduled is not None
        participants = [chosen.cluster for chosen in run.scheduled.participants]
        left_out = policies.left_out(participants, run.faulty, run.refusals)
        able = [cluster for cluster in participants if cluster not in left_out]
        minimum = policies.minimum(task, spec)
        if len(able) < minimum:
            why = f"; the contributions of {', '.join(left_out)} could not be used" if left_out else ""
            message = f"{len(able)} usable clusters are left and {minimum} are needed{why}"
            return _end(run, Failed(run=name, at=now, reason="TooFewClusters", message=message))
        number = _following(run)
        busy = {cluster: run.outstanding[cluster].round for cluster in sorted(run.outstanding) if cluster in able}
        overdue = [cluster for cluster in busy if run.outstanding[cluster].overdue]
        return State(
            Opened(
                run=name, round=number, at=now, task=task, training_round=training_round,
                clusters=policies.choose(task, spec.rounds, able, name, number, run.failures, busy, overdue), left_out=left_out,
                minimum=minimum, close_at=spec.rounds.close_at if task is Task.TRAIN else None,
                deadline=now + timedelta(seconds=spec.rounds.deadline_seconds), weight_max=spec.rounds.weight_max,
                shard_bytes=self.cut.shard_bytes, chunk_bytes=self.cut.chunk_bytes, model=run.model,
                carried=busy if task is Task.TRAIN else {}, appends=_appends(spec),
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
    if policies.end(spec, run.trained, run.best) is None:
        return Task.TRAIN, run.trained + 1
    return None, run.trained


def _given(state: RunsState, fact: Submitted) -> Model | None:
    """The model that a run starts from: the one that comes with it, or that of the ended run which its resource names."""
    source = state.get(fact.resource.spec.server.initial_model)
    return fact.model or (source.model if source is not None and source.ended else None)


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
            return _ended(run, sequence, fact.model if isinstance(fact, Completed) else run.model)
        case Asked():
            asks = fact.round == _following(run) and (run.round is None or run.round.ended) and asking.is_whole(fact)
            return replace(run, asked=fact) if asks and asking.is_asked(run.submitted.resource.spec) else run
        case Opened():
            if fact.round != _following(run) or not _is_answerable(run, fact):
                return run
            remaining = tuple(model for model in run.superseded if model not in _useless(run))
            still = {cluster: run.outstanding[cluster] for cluster in fact.carried} if fact.task is Task.TRAIN else run.outstanding
            return replace(
                run, round=rounds.opened(fact, run.asked), sent=_sent(run, fact), superseded=remaining, outstanding=still,
                leftovers=_left_by_round(run),
            )  # fmt: skip
        case RoundFact() if run.round is not None:
            return _after_round(replace(run, round=rounds.evolve(run.round, fact)), was_ended=run.round.ended)
    return run


def _sent(run: Run, fact: Opened) -> tuple[int, ...]:
    """The rounds that store what the app's own server has sent, when this one is opened."""
    if fact.task is not Task.REPLY:
        return ()
    last = run.round.asked if run.round else None
    return (*(asking.in_use(last, run.sent) if last else ()), fact.round)


def _is_answerable(run: Run, fact: Opened) -> bool:
    """Whether a round is one of this run. No aggregator opens another, but on an open bus anybody may."""
    participants = {chosen.cluster for chosen in run.scheduled.participants} if run.scheduled else set()
    whole = all(size > 0 and size % ALIGNMENT_BYTES == 0 for size in (fact.shard_bytes, fact.chunk_bytes))
    agrees = carrying.agrees(fact, run.outstanding) and asking.is_answer_to(fact, run.asked)
    agrees = agrees and fact.appends is _appends(run.submitted.resource.spec)
    return participants.issuperset(fact.clusters) and whole and fact.minimum > 0 and agrees


def _appends(spec: Spec) -> bool:
    """Whether the run's strategy appends. One that cannot be made does nothing: its run fails before there is a round."""
    try:
        return strategies.make(spec.strategy).appends
    except BadInput:
        return False


def _following(run: Run) -> int:
    """The number of the next round."""
    return run.round.opened.round + 1 if run.round else 0


def _after_round(run: Run, was_ended: bool) -> Run:
    """The run when its round has just ended; the run itself at any other time."""
    state = run.round
    if state is None or was_ended or not state.ended:
        return run
    evaluation, policy = state.opened.task is Task.EVALUATE, run.submitted.resource.spec.rounds
    refused = {*state.unacceptable, *(state.failed.faulty if state.failed else ())}
    run = replace(run, refusals={**run.refusals, **{cluster: run.refusals.get(cluster, 0) + 1 for cluster in sorted(refused)}})
    if state.opened.task is Task.REPLY:
        return replace(run, metrics=_latest(run.metrics, state.aggregated.metrics)) if state.aggregated else run
    if state.opened.task is Task.TRAIN:
        run = replace(run, outstanding=carrying.outstanding(state, run.outstanding, policy.carry))
    if state.phase is Phase.FAILED:
        assert state.failed is not None
        run = replace(run, faulty=run.faulty | set(state.failed.faulty))
        return replace(run, evaluated=state.opened.training_round) if evaluation else replace(run, failures=run.failures + 1)
    assert state.aggregated is not None
    metrics = _latest(run.metrics, state.aggregated.metrics)
    best = policies.judge(run.best, policy, state.aggregated, state.opened.model if evaluation else state.aggregated.model, metrics)
    if evaluation:
        return replace(run, evaluated=state.opened.training_round, metrics=metrics, best=best)
    told = state.members[0].configuration if state.opened.task is Task.INITIALIZE and state.members else run.configuration
    return replace(
        run, model=state.aggregated.model, superseded=(*run.superseded, run.model) if run.model else (), configuration=told,
        trained=state.opened.training_round, failures=0, faulty=frozenset(), metrics=metrics, best=best,
    )  # fmt: skip


def _latest(before: Metrics, now: Metrics) -> Metrics:
    """The last value of each metric; of too many, those that were measured longest ago are forgotten."""
    kept = {**{name: value for name, value in before.items() if name not in now}, **now}
    return dict(list(kept.items())[-METRICS_MAX:])


def _ended(run: Run, sequence: int, model: Model | None) -> Run:
    """The marker: what closes its last round, what bulk data to forget, and its model. The last models stay, and the best one."""
    name, state = run.submitted.run, run.round
    old = tuple(bulk_of_round(name, model.round, "model") for model in _unwanted(run, run.submitted.resource.spec.rounds.checkpoints - 1))
    still = state if state is not None and not state.ended else None
    begun = (bulk_of_round(name, state.opened.round, "model"),) if state is not None and state.phase is not Phase.AGGREGATED else ()
    before = run.leftovers if still else ()
    asked = asking.left_by_run(name) if asking.is_asked(run.submitted.resource.spec) else ()
    leftovers = (bulk_of_round(name, "*", "update"), *asked, *_given_pieces(run), *begun, *before, *old)
    return Run(run.submitted, sequence, sequence, ended=True, round=still, leftovers=leftovers, model=model)


def _given_pieces(run: Run) -> tuple[str, ...]:
    """The bulk data that were stored with the run for it to start from. Those of another run are that run's."""
    name = run.submitted.run
    return (given_models(name),) if run.given is not None and run.given.run == name else ()


def _end(run: Run, fact: Completed | Failed) -> State:
    return State(fact, Fence(run_level_facts_of(run.submitted.run), run.run_level))


def _discard(run: Run) -> Iterator[Action]:
    """What the last round that has ended leaves. It is due as long as the next one lasts: whoever opened that may have died of it."""
    if run.round is None:
        return
    name, number = run.submitted.run, run.round.opened.round
    patterns, number = (_left_by_round(run), number) if run.round.ended else (run.leftovers, number - 1)
    if patterns:
        yield Perform(("discard", name, number), Discard(patterns))


def _left_by_round(run: Run) -> tuple[str, ...]:
    """The updates of a round that has its result, and the models that nobody will ask for again. The next `opened` forgets these models.

    Of a round that failed, everything.
    """
    if run.round is None:
        return ()
    name, number = run.submitted.run, run.round.opened.round
    if run.round.asked is not None:
        return asking.left_by_round(run.round.asked, run.sent, failed=run.round.phase is Phase.FAILED)
    if run.round.phase is Phase.FAILED:
        return (bulk_of_round(name, number),)
    updates = () if run.round.opened.task is Task.EVALUATE else (bulk_of_round(name, number, "update"),)
    copied = _given_pieces(run) if run.round.opened.task is Task.INITIALIZE else ()
    return (*updates, *copied, *(bulk_of_round(name, model.round, "model") for model in _useless(run)))


def _useless(run: Run) -> tuple[Model, ...]:
    """Of the older models, those to be discarded.

    The youngest may still be read, by a cluster that is late. From those that outstanding work began with, its updates are measured.
    """
    begun = {question.model.round for question in run.outstanding.values()}
    return tuple(model for model in _unwanted(run, max(1, run.submitted.resource.spec.rounds.checkpoints - 1)) if model.round not in begun)


def _unwanted(run: Run, younger: int) -> tuple[Model, ...]:
    """The older models but for so many of the youngest, and the best one."""
    best = run.best.model.round if run.best else None
    return tuple(model for model in run.superseded[: max(0, len(run.superseded) - younger)] if model.round != best)
