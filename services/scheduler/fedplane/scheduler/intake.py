"""Objects on the hub and runs on the log, kept in step: the pure half of taking wishes in.

    object --> held (our finalizer) --> submitted --> ... --> the run's end
                                     deleted --> cancelled --> nothing is left on the hub --> released

Two things are known, and everything follows from both: the log says which runs are alive, the hub which objects there are.
Nothing is remembered of what was done, so a fresh scheduler goes on where the last one was killed, and two do the same twice.

Rules that keep this file honest:
1. Nothing is submitted before its object is held: an object that is deleted waits until its run has ended and its works are gone.
2. A run is submitted once. The fence on all facts about the run as a whole finds it on the log for 37 days; after that
   the object's own status says that it has ended.
3. What this process has not seen is no proof that it is not there. Before a run is cancelled because its object is gone,
   and before an object is released because its run is not alive, whoever performs that asks the API server and the log's leader.
4. A run does not change: an edit is answered by `edit refused`, once for each generation, and not for ever.
5. An object that cannot be a run is submitted all the same, with the reason, and the scheduler fails it.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fedplane.runtime.objects import Key
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.scheduler.attempts import Tried, is_due
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.sending import ENDS, TICK_SECONDS, Place
from fedplane.scheduler.wishes import DIFFERENCES_MAX, Wish, differences
from fedplane.schemas.facts import Cancelled, EditRefused, RunFact, Scheduled, Submitted, run_level_facts_of
from fedplane.schemas.resources import FederatedLearning

__all__ = ["EDITS_MAX", "Asked", "Effect", "Hold", "Intake", "Look", "Publish", "Release", "Runs", "Seen"]

EDITS_MAX = 100
"""How many edits of one object are answered: a program that edits in a loop must not fill the log."""

MESSAGE_CHARACTERS_MAX = 2_000
"""Of the answer to an edit: what differs in a screenful of text."""


@dataclass(slots=True)
class Seen:
    """What this process sees of the hub; whoever watches it writes here, and nothing is decided until it is `known`.

    `missing` are runs whose object the API server itself does not have. `tried` are the last attempts, by what was attempted.
    `works` are those that whoever sends them sees, by cluster and run.
    """

    known: bool = False
    overview: Overview = field(default_factory=Overview)
    wishes: dict[Key, Wish] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    works: Mapping[Place, object] = field(default_factory=dict)
    tried: dict[Hashable, Tried] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hold:
    """The effect of giving an object our finalizer."""

    wish: Wish

    @property
    def what(self) -> Hashable:
        """What tells this attempt from those at other things."""
        return "hold", self.wish.uid


@dataclass(frozen=True, slots=True)
class Release:
    """The effect of taking our finalizer away, once nothing is left of the object's run."""

    wish: Wish

    @property
    def what(self) -> Hashable:
        """As above."""
        return "release", self.wish.uid


@dataclass(frozen=True, slots=True)
class Look:
    """The effect of asking the API server whether it has the object that asked for a run."""

    run: str
    resource: FederatedLearning

    @property
    def what(self) -> Hashable:
        """As above."""
        return "look", self.run


@dataclass(frozen=True, slots=True)
class Publish:
    """The effect of showing a run's clusters, the best first, as a Placement and its decisions."""

    wish: Wish
    clusters: tuple[str, ...]

    @property
    def what(self) -> Hashable:
        """As above."""
        return "publish", self.wish.uid, self.clusters


Effect = Hold | Release | Look | Publish


@dataclass(frozen=True, slots=True)
class Asked:
    """A live run. `sequence` is that of its last run-level fact; `edits` counts the refused ones, `generation` is the last of them."""

    resource: FederatedLearning
    sequence: int
    from_hub: bool = False
    participants: tuple[str, ...] = ()
    edits: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Runs:
    """Live runs by id, and how far the log has been read."""

    live: Mapping[str, Asked] = field(default_factory=dict)
    sequence: int = 0


class Intake:
    """See `fedplane.runtime.replica.Core`. `hub` is the other half of what is known; `namespace` the only one that counts, if given."""

    patterns: tuple[tuple[str, ...], ...] = ((run_level_facts_of("*"), EditRefused.pattern()),)

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
        return Runs(_evolved(state.live, record.fact, record.sequence), record.sequence)

    def decide(self, state: Runs, now: datetime) -> Sequence[Action]:
        """What is to be submitted, cancelled, answered and written, as the hub is now."""
        if not self.hub.known:
            return ()
        shown = self.hub.overview.published()
        actions: list[Action] = []
        for _, wish in sorted(self.hub.wishes.items()):
            asked = state.live.get(wish.run)
            actions += self._due(wish, asked, now)
            if asked is not None and not wish.deleting:
                actions += self._unpublished(wish, asked, shown.get(wish.run), now)
        present = {wish.run for wish in self.hub.wishes.values()}
        for run, asked in state.live.items():
            if run not in present and asked.from_hub and self.namespace in ("", asked.resource.metadata.namespace):
                actions += self._orphaned(run, asked, now)
        return actions

    def _due(self, wish: Wish, asked: Asked | None, now: datetime) -> Iterator[Action]:
        if wish.deleting:
            if asked is not None:
                yield _cancelled(wish.run, asked, f"the object {wish.namespace}/{wish.name} was deleted", now)
            elif wish.held and not any(run == wish.run for _, run in self.hub.works):
                yield from self._attempt(Release(wish), now)
        elif asked is not None:
            yield from _edited(wish, asked, now)
        elif wish.ended:
            return
        elif not wish.held:
            yield from self._attempt(Hold(wish), now)
        else:
            submitted = Submitted(run=wish.run, at=now, resource=wish.resource, from_hub=True, invalid=wish.invalid)
            yield State(submitted, Fence(run_level_facts_of(wish.run)))

    def _unpublished(self, wish: Wish, asked: Asked, shown: frozenset[str] | None, now: datetime) -> Iterator[Action]:
        """The run's clusters, if the hub does not show them. Where a Placement of the user's decides, it shows them itself."""
        clusters = tuple(cluster for cluster in asked.participants if cluster in self.hub.overview.clusters)
        if clusters and not asked.resource.spec.client.placement_ref and shown != frozenset(clusters):
            yield from self._attempt(Publish(replace(wish, resource=asked.resource), clusters), now)

    def _orphaned(self, run: str, asked: Asked, now: datetime) -> Iterator[Action]:
        """A run whose object is not among those that were seen."""
        if run in self.hub.missing:
            metadata = asked.resource.metadata
            yield _cancelled(run, asked, f"the object {metadata.namespace}/{metadata.name} is gone", now)
        else:
            yield from self._attempt(Look(run, asked.resource), now)

    def _attempt(self, effect: Effect, now: datetime) -> Iterator[Action]:
        """The effect, unless it is too early to try again."""
        tried = self.hub.tried.get(effect.what)
        if is_due(tried, now):
            yield Perform((effect.what, tried.at if tried else None), effect)


def _evolved(live: Mapping[str, Asked], fact: RunFact, sequence: int) -> Mapping[str, Asked]:
    asked = live.get(fact.run)
    if isinstance(fact, ENDS):
        return {held: other for held, other in live.items() if held != fact.run}
    if asked is None:
        return {**live, fact.run: Asked(fact.resource, sequence, fact.from_hub)} if isinstance(fact, Submitted) else live
    if isinstance(fact, EditRefused):
        return {**live, fact.run: replace(asked, edits=asked.edits + 1, generation=max(asked.generation, fact.generation))}
    if isinstance(fact, Scheduled):
        asked = replace(asked, participants=tuple(chosen.cluster for chosen in fact.participants))
    return {**live, fact.run: replace(asked, sequence=sequence)}


def _cancelled(run: str, asked: Asked, message: str, now: datetime) -> State:
    return State(Cancelled(run=run, at=now, message=message), Fence(run_level_facts_of(run), asked.sequence))


def _edited(wish: Wish, asked: Asked, now: datetime) -> Iterator[Action]:
    """The answer to an edit that asks for something else."""
    if wish.generation <= max(asked.generation, asked.resource.metadata.generation) or asked.edits >= EDITS_MAX:
        return
    found = [wish.invalid] if wish.invalid else list(differences(asked.resource, wish.resource))
    if not found:
        return
    rest = [f"and {len(found) - DIFFERENCES_MAX} more"] if len(found) > DIFFERENCES_MAX else []
    said = "; ".join([*found[:DIFFERENCES_MAX], *rest])[:MESSAGE_CHARACTERS_MAX]
    message = f"the run goes on as it was asked for: {said}. To run with the edit, delete the object and make it anew"
    yield State(EditRefused(run=wish.run, at=now, generation=wish.generation, message=message))
