"""What the aggregator does about runs: initialize, then train and evaluate as often as asked, then done.

This is the service's core: `evolve` folds the log into runs, `decide` says what is due in each.
What a fact means to a run is said in `histories`, and how one question is answered in `rounds` and `deciding`.
Of a run that has ended only a marker stays, with what is to be discarded, and of one that was archived nothing.
So memory follows the runs that go on, and those that ended lately.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fedplane.aggregator import asking, budgets, clipping, policies, private, starting, strategies, terms
from fedplane.aggregator.deciding import about_round, close_cancelled
from fedplane.aggregator.histories import Run, appends, evolved, following, left_by_round
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import Archived, Completed, Failed, Opened, RunFact, Started, Submitted, all_facts_of, run_level_facts_of
from fedplane.schemas.layout import ALIGNMENT_BYTES
from fedplane.schemas.models import Model, Task
from fedplane.schemas.resources import Spec

__all__ = ["Cut", "Discard", "Runs", "RunsState", "next_task"]


@dataclass(frozen=True, slots=True)
class Cut:
    """How updates are cut, in bytes; multiples of eight."""

    shard_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Discard:
    """An effect: these bulk data are needed no more."""

    patterns: tuple[str, ...]


PROBLEM_CHARACTERS_MAX = 10_000
"""What is wrong with a resource may repeat a name from it that fills a fact, and the answer must fit one, too."""

RunsState = dict[str, Run]
"""The runs by id. Never changed in place."""


class Runs:
    """The aggregator's core."""

    patterns = ((all_facts_of(),),)
    tick_seconds = None

    def __init__(self, cut: Cut, *, has_secret: bool = False) -> None:
        self.cut = cut
        self._has_secret = has_secret

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
        return {**state, fact.run: replace(evolved(run, fact, record.sequence), sequence=record.sequence)}

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
            budgets.check(resource.spec, strategy, has_secret=self._has_secret or run.started)  # one without must not end it for all
            private.check(resource.spec, strategy)
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
            yield from about_round(run.round, resource, participants, run.configuration, now, run.costly)

    def _ask(self, run: Run, now: datetime) -> Iterator[Action]:
        """The round that the app's own server has asked for, if it has."""
        if run.asked is not None and run.asked.round == following(run):
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
            reason = policies.end(spec, run.trained, run.best) or budgets.exhausted(spec, run.costly) or ""
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
        number = following(run)
        busy = {cluster: run.outstanding[cluster].round for cluster in sorted(run.outstanding) if cluster in able}
        overdue = [cluster for cluster in busy if run.outstanding[cluster].overdue]
        clusters = policies.choose(task, spec.rounds, able, name, number, run.failures, busy, overdue)
        try:
            masking = terms.chosen(spec, run.model, task, len(clusters), minimum)
        except BadInput as problem:  # the first of what depends on the model
            return _end(run, Failed(run=name, at=now, reason="BadRequest", message=str(problem)))
        return State(
            Opened(
                run=name, round=number, at=now, task=task, training_round=training_round,
                clusters=clusters, left_out=left_out, masking=masking,
                noise=clipping.terms(spec, task, run.clip, len(clusters)),
                minimum=minimum, close_at=spec.rounds.close_at if task is Task.TRAIN else None,
                deadline=now + timedelta(seconds=spec.rounds.deadline_seconds), weight_max=spec.rounds.weight_max,
                shard_bytes=_shard_bytes(run.model, spec, self.cut), chunk_bytes=self.cut.chunk_bytes, model=run.model,
                carried=busy if task is Task.TRAIN else {}, appends=appends(spec),
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
    if policies.end(spec, run.trained, run.best) is None and budgets.exhausted(spec, run.costly) is None:
        return Task.TRAIN, run.trained + 1
    return None, run.trained


def _shard_bytes(model: Model | None, spec: Spec, cut: Cut) -> int:
    """How updates of a model are cut: as it is itself, whatever aggregators are told now, for shards of both go together by number.

    What is appended to it is cut as the aggregator likes.
    """
    if model is None or not model.shards or appends(spec):
        return cut.shard_bytes
    return model.shards[0].bytes if len(model.shards) > 1 else max(cut.shard_bytes, -(-model.bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)


def _given(state: RunsState, fact: Submitted) -> Model | None:
    """The model that a run starts from: the one that comes with it, or that of the ended run which its resource names."""
    source = state.get(fact.resource.spec.server.initial_model)
    return fact.model or (source.model if source is not None and source.ended else None)


def _end(run: Run, fact: Completed | Failed) -> State:
    return State(fact, Fence(run_level_facts_of(run.submitted.run), run.run_level))


def _discard(run: Run) -> Iterator[Action]:
    """What the last round that has ended leaves. It is due as long as the next one lasts: whoever opened that may have died of it."""
    if run.round is None:
        return
    name, number = run.submitted.run, run.round.opened.round
    patterns, number = (left_by_round(run), number) if run.round.ended else (run.leftovers, number - 1)
    if patterns:
        yield Perform(("discard", name, number), Discard(patterns))
