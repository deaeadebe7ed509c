"""Which works should be on the hub, which should not, and for whom no answer will come: the pure half of sending works to clusters.

    submitted --> scheduled: a work for every participant that is a cluster of the hub --> completed | failed | cancelled: none

Two things are known, and everything follows from both: the log says which runs are alive, the hub which works there are.
Nothing is remembered of what was sent, so a fresh scheduler finds what is missing and what is left over, and two do the same twice.

Rules that keep this file honest:
1. A run is forgotten when it ends, so the state is as large as what is alive. A work without a live run is left over.
2. A work without a live run may also be one that this replica has not yet read of; so whoever deletes it asks the log's leader first.
3. A participant that is no cluster of the hub runs its own collaborator, and is sent nothing.
4. A cluster of which no answer can come declines, by us, the invitations that it has open. Nothing else is decided for it here.
5. A run with listeners is sent nowhere before its clusters can be told the address of the last one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.scheduler.attempts import Tried, is_due
from fedplane.scheduler.listeners import told
from fedplane.scheduler.standing import PATIENCE, Patience, Stage, Standing, trouble
from fedplane.schemas.facts import (
    Archived,
    Cancelled,
    Closed,
    Completed,
    Contributed,
    Declined,
    Evaluated,
    Exposed,
    Failed,
    Invited,
    RunFact,
    Scheduled,
    Submitted,
    run_level_facts_of,
)
from fedplane.schemas.models import Chosen, Exposure
from fedplane.schemas.resources import FederatedLearning

__all__ = ["ENDS", "Hub", "Live", "LiveRun", "Place", "Remove", "Send", "Sending", "Sight", "TICK_SECONDS"]

TICK_SECONDS = 1.0
"""How often the hub's news is looked at; agents report every ten seconds or so."""

ENDS: tuple[type[RunFact], ...] = (Completed, Failed, Cancelled, Archived)
"""The facts after which a run has no works."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)

Place = tuple[str, str]
"""A cluster and a run: where a work is. It is the work's namespace and name, too."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A work as the hub has it, and since when it has stood so. `leaving` is whether it is being deleted already."""

    uid: str
    standing: Standing
    since: datetime
    leaving: bool = False


@dataclass(slots=True)
class Hub:
    """What this process sees of the hub; whoever watches it writes here, and nothing is decided until it is `known`.

    `clusters` are those that the hub has accepted; `departed` those of which this process has seen that they no longer are.
    """

    known: bool = False
    clusters: set[str] = field(default_factory=set)
    departed: set[str] = field(default_factory=set)
    works: dict[Place, Sight] = field(default_factory=dict)
    tried: dict[Place, Tried] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """The effect of putting a work on the hub. `listener` is how its cluster reaches the bus, if the run says."""

    run: str
    resource: FederatedLearning
    chosen: Chosen
    listener: Exposure | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """The effect of deleting a work. `wanted` is whether its run goes on all the same, since only its cluster has left."""

    run: str
    cluster: str
    uid: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that was asked for and has not ended. `invited` are the rounds that a cluster has not answered, by cluster.

    `placed_at` is when its participants were chosen, `exposed` the last that was said of its listeners.
    """

    resource: FederatedLearning
    participants: Mapping[str, Chosen] = field(default_factory=dict)
    invited: Mapping[str, frozenset[int]] = field(default_factory=dict)
    placed_at: datetime = LONG_AGO
    exposed: Exposed | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """Live runs by id, and how far the log has been read."""

    runs: Mapping[str, LiveRun] = field(default_factory=dict)
    sequence: int = 0


class Sending:
    """See `fedplane.runtime.replica.Core`. `hub` is the other half of what is known, beside the log."""

    patterns: tuple[tuple[str, ...], ...] = (
        (run_level_facts_of("*"), *(fact.pattern() for fact in (Exposed, Invited, Contributed, Evaluated, Declined, Closed))),
    )

    def __init__(self, patience: Patience = PATIENCE, tick_seconds: float | None = TICK_SECONDS) -> None:
        self.patience = patience
        self.tick_seconds = tick_seconds
        self.hub = Hub()

    def initial(self) -> Live:
        """No runs."""
        return Live()

    def evolve(self, state: Live, record: Recorded) -> Live:
        """What the fact means. A record that comes again is behind us."""
        if record.sequence <= state.sequence or not isinstance(record.fact, RunFact):
            return state
        return Live(_evolved(state.runs, record.fact), record.sequence)

    def decide(self, state: Live, now: datetime) -> Sequence[Action]:
        """What is to be sent, removed and declined, as the hub is now."""
        if not self.hub.known:
            return ()
        return (*_surplus(state, self.hub, now), *_due(state, self.hub, now, self.patience))


def _evolved(runs: Mapping[str, LiveRun], fact: RunFact) -> Mapping[str, LiveRun]:
    run = runs.get(fact.run)
    match fact:
        case Submitted() if run is None:
            return {**runs, fact.run: LiveRun(fact.resource)}
        case Completed() | Failed() | Cancelled() | Archived():
            return {held: other for held, other in runs.items() if held != fact.run}
    if run is None:
        return runs
    match fact:
        case Scheduled():
            participants = {chosen.cluster: chosen for chosen in fact.participants}
            return {**runs, fact.run: replace(run, participants=participants, placed_at=fact.at)}
        case Exposed():
            return {**runs, fact.run: replace(run, exposed=fact)}
        case Invited(cluster=cluster, round=number):
            return {**runs, fact.run: replace(run, invited={**run.invited, cluster: run.invited.get(cluster, frozenset()) | {number}})}
        case Contributed() | Evaluated() | Declined():
            return {**runs, fact.run: replace(run, invited=_answered(run.invited, fact.round, (fact.cluster,)))}
        case Closed(round=number):
            return {**runs, fact.run: replace(run, invited=_answered(run.invited, number, tuple(run.invited)))}
    return runs


def _answered(invited: Mapping[str, frozenset[int]], number: int, clusters: Sequence[str]) -> Mapping[str, frozenset[int]]:
    left = {**invited, **{cluster: invited.get(cluster, frozenset()) - {number} for cluster in clusters}}
    return {cluster: rounds for cluster, rounds in left.items() if rounds}


def _surplus(state: Live, hub: Hub, now: datetime) -> Iterator[Action]:
    """Works that should not be there."""
    for (cluster, run), sight in sorted(hub.works.items()):
        known = state.runs.get(run)
        wanted = known is not None and cluster in known.participants
        if not (wanted and cluster in hub.clusters) and not sight.leaving and (turn := _turn(hub, (cluster, run), now)):
            yield Perform(("remove", sight.uid, *turn), Remove(run, cluster, sight.uid, wanted))


def _due(state: Live, hub: Hub, now: datetime, patience: Patience) -> Iterator[Action]:
    """Works that should be there and are not, and invitations that nobody will answer."""
    for run, known in state.runs.items():
        listener, lacking = told(known.resource, known.exposed)
        for cluster, chosen in known.participants.items():
            place = cluster, run
            if not lacking and cluster in hub.clusters and place not in hub.works and (turn := _turn(hub, place, now)):
                yield Perform(("send", *place, *turn), Send(run, known.resource, chosen, listener))
            seen = _seen(hub, place, known, lacking) if cluster in known.invited else None
            found = trouble(run, *seen, now, patience) if seen else None
            if found:
                for number in sorted(known.invited[cluster]):
                    yield State(Declined(run=run, round=number, cluster=cluster, at=now, reason=found.reason, message=found.message))


def _turn(hub: Hub, place: Place, now: datetime) -> tuple[datetime | None] | None:
    """What tells this attempt from the last one; None while it is too early for another."""
    tried = hub.tried.get(place)
    return (tried.at if tried else None,) if is_due(tried, now) else None


def _seen(hub: Hub, place: Place, known: LiveRun, lacking: str) -> tuple[Standing, datetime] | None:
    """How far the cluster's part has got, and since when; None if nothing is known. `lacking` is why it has no address of the bus."""
    if place[0] not in hub.clusters:
        return (Standing(Stage.LEFT), LONG_AGO) if place[0] in hub.departed or place in hub.works else None
    if sight := hub.works.get(place):
        return sight.standing, sight.since
    if lacking:
        return Standing(Stage.UNEXPOSED, lacking), known.placed_at
    tried = hub.tried.get(place)
    return (tried.standing, tried.since) if tried and tried.standing and tried.since else None
