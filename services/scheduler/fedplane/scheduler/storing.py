"""Which completed runs' models are still to be kept where their resources say: the pure half of making Jobs for that.

    submitted, with storage --> completed: a Job, and the claim of its volume --> archived: forgotten

A run that failed or was cancelled has no model of its own; `fedplane keep --round` keeps its last checkpoint.
What a Job is made of is said in `storage`, and making it is the business of `depositing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform
from fedplane.scheduler.sending import TICK_SECONDS, Tried, pause_seconds
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Submitted, run_level_facts_of
from fedplane.schemas.resources import FederatedLearning

__all__ = ["Attempts", "Runs", "Store", "Storing"]

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Store:
    """The effect of having a run's model kept."""

    run: str
    resource: FederatedLearning


@dataclass(frozen=True, slots=True)
class Runs:
    """The resources of runs that have storage, by id: of those that go on, and of those that have completed."""

    live: Mapping[str, FederatedLearning] = field(default_factory=dict)
    completed: Mapping[str, FederatedLearning] = field(default_factory=dict)
    sequence: int = 0


@dataclass(slots=True)
class Attempts:
    """What came of this process's attempts: who has a Job, and each other run's last attempt. Whoever makes Jobs writes here."""

    made: set[str] = field(default_factory=set)
    tried: dict[str, Tried] = field(default_factory=dict)


class Storing:
    """See `fedplane.runtime.replica.Core`. `attempts` is the other half of what is known, beside the log."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"),),)

    def __init__(self, tick_seconds: float | None = TICK_SECONDS) -> None:
        self.tick_seconds = tick_seconds
        self.attempts = Attempts()

    def initial(self) -> Runs:
        """No runs."""
        return Runs()

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """What the fact means. A record that comes again is behind us."""
        fact, live, completed = record.fact, state.live, state.completed
        if record.sequence <= state.sequence or not isinstance(fact, RunFact):
            return state
        match fact:
            case Submitted() if fact.resource.spec.server.storage is not None:
                live = {**live, fact.run: fact.resource}
            case Completed() if fact.run in live:
                live, completed = _without(live, fact.run), {**completed, fact.run: live[fact.run]}
            case Failed() | Cancelled() | Archived():
                live, completed = _without(live, fact.run), _without(completed, fact.run)
        return Runs(live, completed, record.sequence)

    def decide(self, state: Runs, now: datetime) -> Sequence[Action]:
        """Every completed run that has no Job yet, unless it was tried a moment ago."""
        tried = self.attempts.tried
        return [
            Perform(("store", run, tried[run].at if run in tried else None), Store(run, resource))
            for run, resource in state.completed.items()
            if run not in self.attempts.made
            if run not in tried or now >= tried[run].at + timedelta(seconds=pause_seconds(tried[run].failures))
        ]


def _without(entries: Mapping[str, V], key: str) -> Mapping[str, V]:
    return {held: value for held, value in entries.items() if held != key} if key in entries else entries
