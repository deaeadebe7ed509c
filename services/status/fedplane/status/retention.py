"""What is done with a run that has ended: when its facts leave the log, and when everything else of it goes.

The log is finite, and each replica of each service reads all of it when it starts.
So a run is archived when it has ended some time ago: its facts become one file beside its models, and leave the log.
Some time after that models, file and view are removed as well.

    submitted ... ended --retention--> archived, facts purged --archive retention--> forgotten

Pure, and separate from `phases`, which has the same facts but another purpose.
It reads only what is said about runs as a whole; how a file is made of all of them is `archiving`.

Rules that keep this file honest:
1. What is due follows from facts and the time. So any replica may do it, two may do it twice, and one that died in between is no matter.
2. The file comes first, then the fact that names it, then the purge. The fact outlives the purge: it keeps the run from being run again.
3. Nothing is done about a run whose end is not on the log, nor about facts of runs that nobody has seen submitted.
   They may be of a kind that this version does not know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Submitted, run_level_facts_of

__all__ = ["ARCHIVED_KEPT", "Archive", "Forget", "Held", "Purge", "Retention", "Runs"]

LOOK_SECONDS_MAX = 60.0
"""How often to look whether something is due, at the least. Retentions are days; a short one is looked at ten times while it lasts."""

DONE_AFTER = timedelta(days=1)
"""How long a run is remembered after it was to be forgotten. No fact says that it was, and a day is enough for every retry."""

ARCHIVED_KEPT = 1_000
"""So many runs are remembered beyond that time, at some hundred bytes each.
By a clock that is ahead all were to be forgotten long ago, and of those that were not, what is left would stay for ever.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A run that the log knows: when it ended, when it was archived, and before which place on the log its facts are still to be purged."""

    ended_at: datetime | None = None
    archived_at: datetime | None = None
    purge_before: int = 0


Runs = Mapping[str, Held]
"""The state: the runs by id, in the order of the log."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An effect: make a file of the run's facts, and say so."""

    run: str


@dataclass(frozen=True, slots=True)
class Purge:
    """An effect: remove the run's facts before that place, which are in the file."""

    run: str
    before: int


@dataclass(frozen=True, slots=True)
class Forget:
    """An effect: remove whatever there is of the run."""

    run: str


class Retention:
    """The core: ends of runs in, what is to be done with their remains out."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"),),)

    def __init__(self, retention_seconds: float, archive_retention_seconds: float) -> None:
        self.retention = timedelta(seconds=retention_seconds)
        self.archive_retention = timedelta(seconds=archive_retention_seconds)
        self.tick_seconds: float | None = min(LOOK_SECONDS_MAX, retention_seconds / 10, archive_retention_seconds / 10)

    def initial(self) -> Runs:
        """No runs."""
        return {}

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """The runs after the fact. A run ends once, and is archived once."""
        fact = record.fact
        if not isinstance(fact, RunFact):
            return state
        held = state.get(fact.run)
        match fact:
            case Submitted() if held is None or held.archived_at is not None:
                return {**state, fact.run: Held()}  # after `archived` only when that was removed, and the id is free again
            case Completed() | Failed() | Cancelled() if held is not None and held.ended_at is None and held.archived_at is None:
                return {**state, fact.run: Held(ended_at=fact.at)}
            case Archived() if held is None or held.archived_at is None:
                seen = record.sequence if held is not None else 0
                return {**self._remembered(state, fact.at), fact.run: Held(archived_at=fact.at, purge_before=seen)}
        return state

    def decide(self, state: Runs, now: datetime) -> Sequence[Perform]:
        """What is due about each run."""
        due = []
        for run, held in state.items():
            if held.archived_at is not None:
                if held.purge_before:
                    due.append(Perform(("purge", run), Purge(run, held.purge_before)))
                if now >= held.archived_at + self.archive_retention:
                    due.append(Perform(("forget", run), Forget(run)))
            elif held.ended_at is not None and now >= held.ended_at + self.retention:
                due.append(Perform(("archive", run), Archive(run)))
        return due

    def _remembered(self, state: Runs, now: datetime) -> Runs:
        oldest = now - self.archive_retention - DONE_AFTER
        archived = [run for run, held in state.items() if held.archived_at is not None and held.archived_at <= oldest]
        forgotten = set(archived[: max(0, len(archived) - ARCHIVED_KEPT)])
        return {run: held for run, held in state.items() if run not in forgotten}
