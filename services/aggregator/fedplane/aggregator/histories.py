"""A run as the log tells it: what it has, which round it is in, what is still stored, and who is left out.

`evolved` folds one fact into a run, as `rounds.evolve` folds one into a round; what is due then is the business of `runs`.
Of a run that has ended only a marker stays, with what is to be discarded.
"""

from dataclasses import dataclass, field, replace

from fedplane.aggregator import asking, budgets, carrying, clipping, policies, rounds, strategies, terms
from fedplane.aggregator.carrying import Outstanding
from fedplane.aggregator.policies import Best
from fedplane.aggregator.rounds import Phase, Round
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import (
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
)
from fedplane.schemas.layout import ALIGNMENT_BYTES
from fedplane.schemas.models import METRICS_MAX, Configuration, Metrics, Model, Task
from fedplane.schemas.resources import Spec
from fedplane.schemas.subjects import bulk_of_round, given_models

__all__ = ["Run", "appends", "evolved", "following", "left_by_round"]


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
    `costly` is how many rounds have cost some of the run's privacy; `clip` how long updates may be, if that follows them.
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
    costly: int = 0
    clip: float | None = None


def evolved(run: Run, fact: RunFact, sequence: int) -> Run:
    """The run after the fact, which has that place on the log. Total: what makes no sense changes nothing."""
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
            asks = fact.round == following(run) and (run.round is None or run.round.ended) and asking.is_whole(fact)
            return replace(run, asked=fact) if asks and asking.is_asked(run.submitted.resource.spec) else run
        case Opened():
            if fact.round != following(run) or not _is_answerable(run, fact):
                return run
            remaining = tuple(model for model in run.superseded if model not in _useless(run))
            still = {cluster: run.outstanding[cluster] for cluster in fact.carried} if fact.task is Task.TRAIN else run.outstanding
            return replace(
                run, round=rounds.opened(fact, run.asked), sent=_sent(run, fact), superseded=remaining, outstanding=still,
                leftovers=left_by_round(run),
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
    agrees = agrees and fact.appends is appends(run.submitted.resource.spec) and terms.agrees(fact, run.submitted.resource.spec)
    agrees = agrees and clipping.agrees(fact, run.submitted.resource.spec, run.clip)
    return participants.issuperset(fact.clusters) and whole and fact.minimum > 0 and agrees


def appends(spec: Spec) -> bool:
    """Whether the run's strategy appends. One that cannot be made does nothing: its run fails before there is a round."""
    try:
        return strategies.make(spec.strategy).appends
    except BadInput:
        return False


def following(run: Run) -> int:
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
    run = replace(run, costly=run.costly + budgets.costs(state), clip=clipping.next_clip(run.submitted.resource.spec, run.clip, state))
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


def left_by_round(run: Run) -> tuple[str, ...]:
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
