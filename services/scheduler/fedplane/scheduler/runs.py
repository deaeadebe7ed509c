"""The scheduler's core: runs that are submitted, placed once, and ended; and what is to be said about each of them now.

    submitted --> waiting.1, waiting.2, ... --> scheduled --> (the aggregator's business) --> completed | failed | cancelled

Rules that keep this file honest:
1. The log has one order, and it is the order of meaning. What was folded once is behind us: a record that comes again is ignored.
   So an ended run can be forgotten, and the state is as large as what is alive.
2. A run is in exactly one of two places, unplaced or placed. Only an unplaced run costs anything at a tick.
3. `scheduled` and `failed` are fenced by the last run-level fact that was seen: neither can follow the end of a run.
   Therefore this core reads exactly the subjects that the fence watches.
4. Nothing is said twice. A wait is said when it differs from the last one, and a limited number of times.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, State
from fedplane.scheduler import drivers, fleet
from fedplane.scheduler.ocm.inventory import NO_HUB, Inventory
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.placement import Plan, objections, place
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.facts import (
    Advertised,
    Archived,
    Cancelled,
    Completed,
    Failed,
    RunFact,
    Scheduled,
    Submitted,
    Waiting,
    run_level_facts_of,
)
from fedplane.schemas.resources import FederatedLearning

__all__ = ["RESOURCES_REMEMBERED_MAX", "Runs", "Scheduler", "TICK_SECONDS", "Unplaced", "WAITING_MAX"]

V = TypeVar("V")
F = TypeVar("F", Waiting, Scheduled)

TICK_SECONDS = 1.0
"""Leases lapse by time alone. They are given in seconds, so looking once a second is as exact as they are."""

WAITING_MAX = 100
"""How many waits of one run are said: a cluster that comes and goes must not fill the log. The run may still be placed after that."""

OBJECTIONS_CHARACTERS_MAX = 10_000
"""A resource of 900 kB can be wrong in ten thousand places, and what is said of it must fit a fact. The first hundred tell enough."""

RESOURCES_REMEMBERED_MAX = 1_000
"""For how many resources the last participants are remembered. Who is forgotten loses a preference, nothing else."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A run without clusters. `sequence` is that of its last run-level fact; `said` is the last wait that the log has.

    `invalid` is why it cannot be a run at all.
    """

    resource: FederatedLearning
    sequence: int
    submitted_at: datetime
    said: Waiting | None = None
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Runs:
    """What the scheduler knows.

    `placed` has the participants of each live run; `last_participants` those of the last run of each resource, by namespace and name.
    The two sequences say how far each stream has been read.
    """

    clusters: fleet.Fleet = field(default_factory=dict)
    unplaced: Mapping[str, Unplaced] = field(default_factory=dict)
    placed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    last_participants: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    runs_sequence: int = 0
    fleet_sequence: int = 0


class Scheduler:
    """See `fedplane.runtime.replica.Core`. `hub` is what is known beside the log, if there is a hub; see docs/adr/0015."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"), Waiting.pattern()), (Advertised.pattern(),))

    def __init__(self, tick_seconds: float | None = TICK_SECONDS, hub: Overview | None = None) -> None:
        self.tick_seconds = tick_seconds
        self.hub = hub

    def initial(self) -> Runs:
        """No runs, no clusters."""
        return Runs()

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """What the fact means; see rule 1."""
        match record.fact:
            case Advertised() as fact if record.sequence > state.fleet_sequence:
                return replace(state, clusters=fleet.fold(state.clusters, fact), fleet_sequence=record.sequence)
            case RunFact() as fact if record.sequence > state.runs_sequence:
                return replace(_evolve_run(state, fact, record), runs_sequence=record.sequence)
        return state

    def decide(self, state: Runs, now: datetime) -> Sequence[Action]:
        """What to say about each unplaced run, in the order of submission.

        A run that is placed here counts for the ones after it, lest all runs of one turn choose the same idle clusters.
        """
        if not state.unplaced or (self.hub is not None and not self.hub.is_complete(state.clusters)):
            return ()
        hub = None if self.hub is None else self.hub.inventory
        live_runs = Counter(cluster for participants in state.placed.values() for cluster in participants)
        actions = []
        for run, unplaced in state.unplaced.items():
            fact = _decide_run(state, run, unplaced, live_runs, now, hub)
            match fact:
                case Waiting():
                    actions.append(State(fact))
                case Scheduled() | Failed():
                    actions.append(State(fact, Fence(run_level_facts_of(run), unplaced.sequence)))
            if isinstance(fact, Scheduled):
                live_runs.update(chosen.cluster for chosen in fact.participants)
        return actions


def _evolve_run(state: Runs, fact: RunFact, record: Recorded) -> Runs:
    run, unplaced = fact.run, state.unplaced.get(fact.run)
    match fact:
        case Submitted() if unplaced is None and run not in state.placed:
            return replace(state, unplaced={**state.unplaced, run: Unplaced(fact.resource, record.sequence, fact.at, invalid=fact.invalid)})
        case Completed() | Failed() | Cancelled() | Archived():  # the last one alone, if the others were being purged as we read
            return replace(state, unplaced=_without(state.unplaced, run), placed=_without(state.placed, run))
    if unplaced is None:
        return state
    match fact:
        case Waiting():
            return replace(state, unplaced={**state.unplaced, run: replace(unplaced, said=fact)})
        case Scheduled():
            participants = frozenset(chosen.cluster for chosen in fact.participants)
            return replace(
                state,
                unplaced=_without(state.unplaced, run),
                placed={**state.placed, run: participants},
                last_participants=_remembered(state.last_participants, _identity(unplaced.resource), participants),
            )
    return replace(state, unplaced={**state.unplaced, run: replace(unplaced, sequence=record.sequence)})


def _decide_run(
    state: Runs, run: str, unplaced: Unplaced, live_runs: Mapping[str, int], now: datetime, hub: Inventory | None
) -> Waiting | Scheduled | Failed | None:
    """The one fact that the run needs now; None if everything is said."""
    resource = unplaced.resource
    wrong = unplaced.invalid or "; ".join(objections(resource))[:OBJECTIONS_CHARACTERS_MAX]
    if not wrong and hub is None and resource.spec.client.placement_ref:
        wrong = "spec.client.placementRef names a Placement, and this scheduler knows no hub: set its FEDPLANE_KUBERNETES"
    if not wrong and hub is not None:
        wrong = drivers.objection(resource) or ""
    if wrong:
        return Failed(run=run, at=now, reason="BadRequest", message=wrong)
    last = state.last_participants.get(_identity(resource), frozenset())
    clusters = (
        replace(cluster, live_runs=live_runs.get(name, 0), took_part=name in last) for name, cluster in state.clusters.items()
    )  # fmt: skip
    plan = place(resource, clusters, now, hub or NO_HUB)
    if plan.eligible < resource.spec.server.min_available_clients:
        return _waiting(run, unplaced, plan, now)
    scheduled = _fitted(Scheduled(run=run, at=now, participants=plan.participants, refused=plan.refused))
    if _fits(scheduled):
        return scheduled
    message = (
        f"{len(plan.participants)} clusters can take part, and what is to be said of them exceeds a fact's {FACT_BYTES_MAX} bytes; "
        "limit them by spec.client.placement.numberOfClusters"
    )
    return Failed(run=run, at=now, reason="TooManyClusters", message=message)


def _waiting(run: str, unplaced: Unplaced, plan: Plan, now: datetime) -> Waiting | None:
    """The next wait, unless the last one said the same or was the last one allowed."""
    number = unplaced.said.number + 1 if unplaced.said else 1
    if number > WAITING_MAX:
        return None
    wanted = unplaced.resource.spec.server.min_available_clients
    reasons = Counter(refusal.reason for refusal in plan.refused)
    message = f"{plan.eligible} of the {wanted} clusters that the run needs can take part; refused: " + (
        ", ".join(f"{count} by {reason}" for reason, count in sorted(reasons.items())) or "none"
    )
    if number == WAITING_MAX:
        message += "; the run keeps waiting, and further changes are not reported"
    waiting = _fitted(
        Waiting(run=run, at=now, number=number, wanted=wanted, eligible=plan.eligible, message=message, refused=plan.refused)
    )  # fmt: skip
    return None if unplaced.said and _news(waiting) == _news(unplaced.said) else waiting


def _news(waiting: Waiting) -> object:
    return waiting.wanted, waiting.eligible, waiting.refused


def _fits(fact: Waiting | Scheduled) -> bool:
    return len(fact.model_dump_json(by_alias=True, exclude_none=True).encode()) <= FACT_BYTES_MAX


def _fitted(fact: F) -> F:
    """The fact with as many of its refusals, the first by name, as leave room for the rest."""
    while fact.refused and not _fits(fact):
        fact = fact.model_copy(update={"refused": fact.refused[: len(fact.refused) // 2]})
    return fact


def _identity(resource: FederatedLearning) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name


def _without(entries: Mapping[str, V], key: str) -> Mapping[str, V]:
    return {held: value for held, value in entries.items() if held != key} if key in entries else entries


def _remembered(
    entries: Mapping[tuple[str, str], frozenset[str]], key: tuple[str, str], participants: frozenset[str]
) -> Mapping[tuple[str, str], frozenset[str]]:
    """The entries with the newest last, without the oldest ones beyond the bound."""
    newest = [*((held, value) for held, value in entries.items() if held != key), (key, participants)]
    return dict(newest[-RESOURCES_REMEMBERED_MAX:])
