"""Which clusters take part in which live runs: what the log says, folded into what grants depend on.

A cluster has rights in a run from `scheduled` until the run has ended, and no longer: a round of an ended run takes no answer anyway.
"""

from collections.abc import Mapping

from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, Scheduled, run_level_facts_of

__all__ = ["PATTERNS", "Participants", "changed", "evolve", "runs_of"]

Participants = Mapping[str, frozenset[str]]
"""The clusters of each run that is live. One that has ended has none, and one that was archived is not remembered."""

PATTERNS = (run_level_facts_of("*"),)
"""What is to be read for it."""


def evolve(participants: Participants, record: Recorded) -> Participants:
    """What the fact means for rights. Participants are chosen once, and a run that has ended stays so."""
    match record.fact:
        case Scheduled(run=run) as scheduled if run not in participants:
            return {**participants, run: frozenset(chosen.cluster for chosen in scheduled.participants)}
        case Completed(run=run) | Failed(run=run) | Cancelled(run=run):
            return {**participants, run: frozenset()}
        case Archived(run=run):
            return {known: clusters for known, clusters in participants.items() if known != run}
    return participants


def changed(before: Participants, after: Participants) -> frozenset[str]:
    """The clusters that take part in other runs than before."""
    runs = before.keys() | after.keys()
    return frozenset[str]().union(*(before.get(run, frozenset()) ^ after.get(run, frozenset()) for run in runs))


def runs_of(participants: Participants, cluster: str) -> tuple[str, ...]:
    """The live runs in which the cluster takes part, by name."""
    return tuple(sorted(run for run, clusters in participants.items() if cluster in clusters))
