"""Which listeners there should be, and what is to be said of them: the pure half of exposing the bus.

    submitted, with listeners --> exposed.1, exposed.2, ... --> the run's end --> deleted, if no other run asks for them

Two things are known, and everything follows from both: the log says which runs are alive, and the hub what has become of their listeners.
Addresses come when somebody else gives them, and may change; so each listener is looked at again and again as long as a run asks for it.

Rules that keep this file honest:
1. A listener belongs to no run. Its objects name one that asks for it, so that whoever wants to delete them can ask the log about that one.
2. What is said of a run is said of all its listeners, once each has been looked at, and only if it differs from what was said last.
3. What was seen for a run that has ended is not believed: the objects may have been deleted since.

What objects a listener has is told in `listeners`; making them and looking at them is the business of `exposing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.scheduler.attempts import Tried, is_due, pause_seconds
from fedplane.scheduler.listeners import Entrance, entrances, objection
from fedplane.scheduler.sending import ENDS, TICK_SECONDS
from fedplane.schemas.facts import Exposed, RunFact, Submitted, run_level_facts_of

__all__ = ["EXPOSED_MAX", "LOOK_AGAIN_SECONDS", "Asked", "Expose", "Listening", "Runs", "Seen", "Sight", "Withdraw"]

LOOK_AGAIN_SECONDS = 60.0
"""How often a listener with an address is looked at. Nodes and balancers last for days, and clusters that know an address keep it."""

AWAIT_SECONDS_MAX = 5.0
"""How often at least one without an address is looked at, which may take a cloud minutes; as often as upstream does."""

EXPOSED_MAX = 100
"""How often the listeners of one run are told: a node that comes and goes must not fill the log."""

NO_NAMESPACE = "the scheduler does not know in which namespace the bus is: set its FEDPLANE_LISTEN_NAMESPACE"


@dataclass(frozen=True, slots=True)
class Expose:
    """The effect of having an entrance's objects as they should be, for one of the runs that ask for it, and of looking at them."""

    entrance: Entrance
    run: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The effect of deleting all listeners but those of these names."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the last look at an entrance found: its address, or why it has none. `run` is the one that it was made for."""

    at: datetime
    run: str
    address: str = ""
    why: str = ""
    failures: int = 0


@dataclass(slots=True)
class Seen:
    """What this process sees of the hub; whoever looks at it writes here.

    `there` are the names of listeners that may be there; until it was `looked`, there may be others. `tried` is the last look for that.
    """

    sights: dict[Entrance, Sight] = field(default_factory=dict)
    there: set[str] = field(default_factory=set)
    looked: bool = False
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a live run asks for, and the last that the log says of it."""

    entrances: tuple[Entrance, ...]
    said: Exposed | None = None


@dataclass(frozen=True, slots=True)
class Runs:
    """Live runs with listeners by id, in the order in which they were asked for, and how far the log has been read."""

    live: Mapping[str, Asked] = field(default_factory=dict)
    sequence: int = 0


class Listening:
    """See `fedplane.runtime.replica.Core`. `hub` is the other half of what is known; `namespace` is that of the bus, if it is known."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"), Exposed.pattern()),)

    def __init__(self, namespace: str = "", tick_seconds: float | None = TICK_SECONDS) -> None:
        self.namespace = namespace
        self.tick_seconds = tick_seconds
        self.hub = Seen()

    def initial(self) -> Runs:
        """No runs."""
        return Runs()

    def evolve(self, state: Runs, record: Recorded) -> Runs:
        """What the fact means. A record that comes again is behind us."""
        if record.sequence <= state.sequence or not isinstance(record.fact, RunFact):
            return state
        return Runs(_evolved(state.live, record.fact), record.sequence)

    def decide(self, state: Runs, now: datetime) -> Sequence[Action]:
        """What is to be made, looked at, deleted and said."""
        wanted = _wanted(state)
        actions: list[Action] = list(_said(state, wanted, self.hub, now, bool(self.namespace)))
        if self.namespace:
            actions += _looks(wanted, self.hub, now)
            actions += _surplus(wanted, self.hub, now)
        return actions


def _evolved(live: Mapping[str, Asked], fact: RunFact) -> Mapping[str, Asked]:
    asked = live.get(fact.run)
    if isinstance(fact, ENDS):
        return {run: other for run, other in live.items() if run != fact.run}
    if isinstance(fact, Submitted) and asked is None and fact.resource.spec.server.listeners and objection(fact.resource) is None:
        return {**live, fact.run: Asked(entrances(fact.resource))}
    if isinstance(fact, Exposed) and asked is not None:
        return {**live, fact.run: replace(asked, said=fact)}
    return live


def _wanted(state: Runs) -> Mapping[Entrance, str]:
    """Every entrance that there should be, with the first run that asks for one of its name."""
    first: dict[str, str] = {}
    for run, asked in state.live.items():
        for entrance in asked.entrances:
            first.setdefault(entrance.name, run)
    return {entrance: first[entrance.name] for asked in state.live.values() for entrance in asked.entrances}


def _said(state: Runs, wanted: Mapping[Entrance, str], hub: Seen, now: datetime, placed: bool) -> Iterator[State]:
    """What is to be said of each run's listeners. Without a place for them, the reason is all there is."""
    for run, asked in state.live.items():
        if placed:
            sights = {entrance: hub.sights.get(entrance) for entrance in asked.entrances}
        else:
            sights = {entrance: Sight(now, wanted[entrance], why=NO_NAMESPACE) for entrance in asked.entrances}
        known = {entrance: sight for entrance, sight in sights.items() if sight is not None and sight.run == wanted[entrance]}
        number = asked.said.number + 1 if asked.said else 1
        if len(known) < len(sights) or number > EXPOSED_MAX:
            continue
        listeners = tuple(entrance.exposure(known[entrance].address) for entrance in asked.entrances if known[entrance].address)
        pending = {entrance.name: sight.why for entrance, sight in sorted(known.items()) if not sight.address}
        if asked.said is None or (asked.said.listeners, asked.said.pending) != (listeners, pending):
            yield State(Exposed(run=run, at=now, number=number, listeners=listeners, pending=pending))


def _looks(wanted: Mapping[Entrance, str], hub: Seen, now: datetime) -> Iterator[Perform]:
    """Entrances that were not looked at for this run, or not for a while."""
    for entrance, run in sorted(wanted.items()):
        sight = hub.sights.get(entrance)
        if sight is None or sight.run != run or now >= sight.at + timedelta(seconds=_pause_seconds(sight)):
            yield Perform(("expose", entrance, run, sight.at if sight else None), Expose(entrance, run))


def _pause_seconds(sight: Sight) -> float:
    return LOOK_AGAIN_SECONDS if sight.address and not sight.failures else min(pause_seconds(sight.failures), AWAIT_SECONDS_MAX)


def _surplus(wanted: Mapping[Entrance, str], hub: Seen, now: datetime) -> Iterator[Perform]:
    """Listeners that nobody asks for any more, and at the beginning those that a scheduler before us may have left."""
    names = frozenset(entrance.name for entrance in wanted)
    if (hub.there - names or not hub.looked) and is_due(hub.tried, now):
        yield Perform(("withdraw", names, hub.tried.at if hub.tried else None), Withdraw(names))
