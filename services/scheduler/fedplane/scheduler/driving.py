"""Which drivers' Jobs should be on the hub, which should not, and for which runs none will start: the pure half of driving apps there.

    submitted, strategy app --> scheduled: a Job --> completed | failed | cancelled: none

Two things are known, and everything follows from both: the log says which runs are alive, the hub which Jobs there are.
Nothing is remembered of what was made, so a fresh scheduler finds what is missing and what is left over, and two do the same twice.
A run whose Job does not start, or has failed, cannot end by itself; so it is failed here. That is fenced by the last run-level fact,
lest it follow another end; therefore this core reads exactly the subjects that the fence watches.
What a Job is made of is said in `drivers`, and making it is the business of `launching`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.scheduler.attempts import Tried, is_due
from fedplane.scheduler.drivers import TROUBLES, has_driver
from fedplane.scheduler.sending import ENDS, TICK_SECONDS, Sight
from fedplane.scheduler.standing import PATIENCE, Patience, Trouble, trouble
from fedplane.schemas.facts import Failed, RunFact, Scheduled, Submitted, run_level_facts_of
from fedplane.schemas.resources import FederatedLearning

__all__ = ["DrivenRun", "Driving", "DrivingState", "Dismiss", "JobSight", "Jobs", "Launch"]


@dataclass(frozen=True, slots=True)
class JobSight:
    """A driver's Job as the hub has it: where it is, and how it stands."""

    namespace: str
    name: str
    sight: Sight


@dataclass(slots=True)
class Jobs:
    """What this process sees of the hub; whoever watches it writes here, and nothing is decided until it is `known`.

    All are by run; `tried` are the last attempts at its Job.
    """

    known: bool = False
    jobs: dict[str, JobSight] = field(default_factory=dict)
    tried: dict[str, Tried] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """The effect of making a run's Job."""

    run: str
    resource: FederatedLearning


@dataclass(frozen=True, slots=True)
class Dismiss:
    """The effect of deleting a run's Job."""

    run: str
    job: JobSight


@dataclass(frozen=True, slots=True)
class DrivenRun:
    """A live run whose server is the app's own. `sequence` is that of its last run-level fact."""

    resource: FederatedLearning
    sequence: int
    scheduled: bool = False


@dataclass(frozen=True, slots=True)
class DrivingState:
    """Live runs with drivers, by id, and how far the log has been read."""

    runs: Mapping[str, DrivenRun] = field(default_factory=dict)
    sequence: int = 0


class Driving:
    """See `fedplane.runtime.replica.Core`. `hub` is the other half of what is known, beside the log."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"),),)

    def __init__(self, patience: Patience = PATIENCE, tick_seconds: float | None = TICK_SECONDS) -> None:
        self.patience = patience
        self.tick_seconds = tick_seconds
        self.hub = Jobs()

    def initial(self) -> DrivingState:
        """No runs."""
        return DrivingState()

    def evolve(self, state: DrivingState, record: Recorded) -> DrivingState:
        """What the fact means. A record that comes again is behind us."""
        if record.sequence <= state.sequence or not isinstance(record.fact, RunFact):
            return state
        return DrivingState(_evolved(state.runs, record.fact, record.sequence), record.sequence)

    def decide(self, state: DrivingState, now: datetime) -> Sequence[Action]:
        """What is to be made, deleted and failed, as the hub is now."""
        if not self.hub.known:
            return ()
        return (*self._surplus(state, now), *self._due(state, now))

    def _surplus(self, state: DrivingState, now: datetime) -> Iterator[Action]:
        """Jobs that should not be there. Of one without a live run, the log's leader is asked first by whoever deletes it."""
        for run, job in sorted(self.hub.jobs.items()):
            tried = self.hub.tried.get(run)
            if run not in state.runs and not job.sight.leaving and is_due(tried, now):
                yield Perform(("dismiss", job.sight.uid, tried.at if tried else None), Dismiss(run, job))

    def _due(self, state: DrivingState, now: datetime) -> Iterator[Action]:
        """Jobs that should be there and are not, and runs that will have no driver."""
        for run, driven in state.runs.items():
            if not driven.scheduled:
                continue
            job, tried = self.hub.jobs.get(run), self.hub.tried.get(run)
            if job is None and is_due(tried, now):
                yield Perform(("launch", run, tried.at if tried else None), Launch(run, driven.resource))
            if found := _trouble(run, job, tried, now, self.patience):
                failed = Failed(run=run, at=now, reason="ServerNotRun", message=f"the app's server cannot be run: {found.message}")
                yield State(failed, Fence(run_level_facts_of(run), driven.sequence))


def _trouble(run: str, job: JobSight | None, tried: Tried | None, now: datetime, patience: Patience) -> Trouble | None:
    """Why the run will have no driver; None if there is hope, or if nothing is known yet."""
    if job is not None:
        return trouble(run, job.sight.standing, job.sight.since, now, patience, TROUBLES)
    if tried is None or tried.standing is None or tried.since is None:
        return None
    return trouble(run, tried.standing, tried.since, now, patience, TROUBLES)


def _evolved(runs: Mapping[str, DrivenRun], fact: RunFact, sequence: int) -> Mapping[str, DrivenRun]:
    driven = runs.get(fact.run)
    if isinstance(fact, ENDS):
        return {held: other for held, other in runs.items() if held != fact.run}
    if driven is not None:
        return {**runs, fact.run: replace(driven, sequence=sequence, scheduled=driven.scheduled or isinstance(fact, Scheduled))}
    if isinstance(fact, Submitted) and has_driver(fact.resource):
        return {**runs, fact.run: DrivenRun(fact.resource, sequence)}
    return runs
