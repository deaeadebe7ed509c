"""Which completed runs' models are still to be kept where their resources say: the pure half of making Jobs for that.

    submitted, with storage --> completed: a Job, and the claim of its volume --> archived: forgotten

A run that failed or was cancelled has no model of its own; `fedplane keep --round` keeps its last checkpoint.
What a Job is made of is said in `storage`, and making it is the business of `depositing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform
from fedplane.scheduler.attempts import Tried, is_due
from fedplane.scheduler.sending import TICK_SECONDS
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Submitted, run_level_facts_of
from fedplane.schemas.resources import FederatedLearning

__all__ = ["Runs", "Store", "Storing"]


@dataclass(frozen=True, slots=True)
class Store:
    """The effect of having a run's model kept."""

    run: str
    resource: FederatedLearning


@dataclass(frozen=True, slots=True)
class Runs:
    """The resources of runs that have storage, by id, and which of these runs have completed."""

    resources: Mapping[str, FederatedLearning] = field(default_factory=dict)
    completed: frozenset[str] = frozenset()
    sequence: int = 0


class Storing:
    """See `fedplane.runtime.replica.Core`. `tried` has each run's last attempt, as whoever makes the Jobs notes it."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"),),)

    def __init__(self, tick_seconds: float | None = TICK_SECONDS) -> None:
        self.tick_seconds = tick_seconds
        self.tried: dict[str, Tried] = {}

    def initial(self) -> Runs:
        """No runs."""
        return Runs()

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """What the fact means. A record that comes again is behind us."""
        fact, resources, completed = record.fact, state.resources, state.completed
        if record.sequence <= state.sequence or not isinstance(fact, RunFact):
            return state
        match fact:
            case Submitted() if fact.resource.spec.server.storage is not None:
                resources = {**resources, fact.run: fact.resource}
            case Completed() if fact.run in resources:
                completed |= {fact.run}
            case Failed() | Cancelled() | Archived() if fact.run in resources:
                resources = {run: resource for run, resource in resources.items() if run != fact.run}
                completed -= {fact.run}
        return Runs(resources, completed, record.sequence)

    def decide(self, state: Runs, now: datetime) -> Sequence[Action]:
        """Every completed run that this process has made no Job for, unless it was tried a moment ago."""
        actions = []
        for run, resource in state.resources.items():
            tried = self.tried.get(run)
            if run in state.completed and (tried is None or (tried.failures and is_due(tried, now))):
                actions.append(Perform(("store", run, tried.at if tried else None), Store(run, resource)))
        return actions
