"""What the log has of runs whose server is the app's own: whom the server has asked, and what came of it.

A server has no memory that outlives its process, so one that is started again begins at its beginning.
What it asks then is on the log already, and is answered from there: the n-th instruction to a cluster by the n-th that the log has for it.
Counting by cluster makes that independent of which calls were gathered into a round, which threads decide.
What the log has not is asked, in a round of its own.

Pure. How the server is run and what it is given is the business of `driving`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fedplane.runtime.errors import AppFailed
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform
from fedplane.schemas.facts import (
    Aggregated,
    Archived,
    Asked,
    Cancelled,
    Completed,
    Contributed,
    Declined,
    Failed,
    Rejected,
    RoundFact,
    RoundFailed,
    RunFact,
    Scheduled,
    Started,
    Submitted,
    all_facts_of,
)
from fedplane.schemas.models import METRICS_MAX, Metrics, Piece
from fedplane.schemas.resources import APP_STRATEGY

__all__ = [
    "ENDED_MAX", "Answer", "AskedRound", "Drive", "Driven", "Driver", "DriverState", "Plan", "Retire", "Wanted", "answers", "plan",
    "sent_before",
]  # fmt: skip

ENDED_MAX = 1_000
"""How many ended runs are remembered by name, so that what was stored for them is removed and a late fact does not revive them."""


@dataclass(frozen=True, slots=True)
class Drive:
    """An effect: run the run's server to its end."""

    run: str


@dataclass(frozen=True, slots=True)
class Retire:
    """An effect: end the run's server, and remove what it left behind."""

    run: str


@dataclass(frozen=True, slots=True)
class AskedRound:
    """One round that the server asked for. The dictionaries are by cluster, and are never changed in place."""

    asked: Asked
    contributed: Mapping[str, Contributed] = field(default_factory=dict)
    declined: Mapping[str, Declined] = field(default_factory=dict)
    rejected: Mapping[str, Rejected] = field(default_factory=dict)
    result: Aggregated | RoundFailed | None = None


@dataclass(frozen=True, slots=True)
class Driven:
    """A run that goes on.

    `sequence` is the last fact that was folded, `run_level` the last one about the run as a whole: its end is stated only if it still is.
    """

    submitted: Submitted
    sequence: int
    run_level: int
    participants: tuple[str, ...] = ()
    started: bool = False
    rounds: tuple[AskedRound, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether another round may be asked for."""
        return not self.rounds or self.rounds[-1].result is not None

    @property
    def metrics(self) -> Metrics:
        """The last value of each metric that clusters reported; of too many, those of longest ago are forgotten."""
        latest: dict[str, float] = {}
        for each in self.rounds:
            told = each.result.metrics if isinstance(each.result, Aggregated) else {}
            latest = {**{name: value for name, value in latest.items() if name not in told}, **told}
        return dict(list(latest.items())[-METRICS_MAX:])


@dataclass(frozen=True, slots=True)
class DriverState:
    """The runs that go on, and those that have ended, the last one last."""

    runs: Mapping[str, Driven] = field(default_factory=dict)
    ended: Mapping[str, None] = field(default_factory=dict)


class Driver:
    """The driver's core, for every run or for one."""

    tick_seconds = None

    def __init__(self, run: str = "") -> None:
        self.patterns = ((all_facts_of(run or "*"),),)

    def initial(self) -> DriverState:
        """No runs."""
        return DriverState()

    def evolve(self, state: DriverState, record: Recorded) -> DriverState:
        """See `Core.evolve`."""
        match record.fact:
            case Submitted(run=run) as fact if run not in state.runs and run not in state.ended:
                ours = fact.resource.spec.strategy.name == APP_STRATEGY
                return replace(state, runs={**state.runs, run: Driven(fact, record.sequence, record.sequence)}) if ours else state
            case Completed(run=run) | Failed(run=run) | Cancelled(run=run) | Archived(run=run) if run in state.runs:
                return _without(state, run)
            case RunFact(run=run) as fact if run in state.runs and record.sequence > state.runs[run].sequence:
                heard = replace(_heard(state.runs[run], fact, record.sequence), sequence=record.sequence)
                return replace(state, runs={**state.runs, run: heard})
        return state

    def decide(self, state: DriverState, now: datetime) -> list[Action]:
        """See `Core.decide`."""
        started = [run for run in sorted(state.runs) if state.runs[run].started]
        return [
            *(Perform((run, "ended"), Retire(run)) for run in state.ended),
            *(Perform((run, "drive"), Drive(run)) for run in started),
        ]


def _without(state: DriverState, run: str) -> DriverState:
    ended = dict.fromkeys([*state.ended, run][-ENDED_MAX:])
    return DriverState({name: driven for name, driven in state.runs.items() if name != run}, ended)


def _heard(driven: Driven, fact: RunFact, sequence: int) -> Driven:
    match fact:
        case Scheduled():
            return replace(driven, participants=tuple(sorted(chosen.cluster for chosen in fact.participants)), run_level=sequence)
        case Started():
            return replace(driven, started=True, run_level=sequence)
        case Asked() if fact.round == len(driven.rounds) and driven.is_idle:
            return replace(driven, rounds=(*driven.rounds, AskedRound(fact)))
        case RoundFact(round=number) if number < len(driven.rounds):
            rounds = list(driven.rounds)
            rounds[number] = _answered(rounds[number], fact)
            return replace(driven, rounds=tuple(rounds))
    return driven


def _answered(of: AskedRound, fact: RoundFact) -> AskedRound:
    if of.result is not None:
        return of
    match fact:
        case Contributed() if fact.cluster not in of.contributed:
            return replace(of, contributed={**of.contributed, fact.cluster: fact})
        case Declined() if fact.cluster not in of.declined:
            return replace(of, declined={**of.declined, fact.cluster: fact})
        case Rejected() if fact.cluster not in of.rejected:
            return replace(of, rejected={**of.rejected, fact.cluster: fact})
        case Aggregated() | RoundFailed():
            return replace(of, result=fact)
    return of


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instruction as the server wants it to be sent; `digest` is that of its content."""

    cluster: str
    kind: str
    group: str
    digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of some instructions, by their places: which are answered in which round, which are to be asked.

    `differing` are those of the former whose content is not what the log has.
    """

    rounds: Mapping[int, int]
    fresh: tuple[int, ...]
    differing: tuple[int, ...]


def plan(driven: Driven, wanted: Sequence[Wanted], sent: Mapping[str, int]) -> Plan:
    """What becomes of the instructions. `sent` is how many the server has sent to each cluster before, since it was started.

    Raises AppFailed if the log has other instructions in their places.
    """
    found, fresh, differing = dict[int, int](), list[int](), list[int]()
    for place, instruction in enumerate(wanted):
        asked = list(_asked_of(driven, instruction.cluster))
        ordinal = sent.get(instruction.cluster, 0)
        if ordinal >= len(asked):
            fresh.append(place)
            continue
        number, kind, group, digest = asked[ordinal]
        if (kind, group) != (instruction.kind, instruction.group):
            raise AppFailed(
                "not-repeatable",
                f"the app's server was started again and took another way: it sends {instruction.kind!r} of group {instruction.group!r} to "
                f"{instruction.cluster}, and in round {number} it had sent {kind!r} of group {group!r}; what it does must not depend on "
                "chance, on the clock, or on what an earlier process left",
            )
        found[place] = number
        if digest != instruction.digest:
            differing.append(place)
    return Plan(found, tuple(fresh), tuple(differing))


def sent_before(driven: Driven) -> dict[str, Piece]:
    """The shards of what the last round sent, by digest: the aggregator keeps them until the next one is over.

    A server that has a model evaluated has the same model trained next, with other words beside it.
    """
    return {shard.digest: shard for each in driven.rounds[-1:] for content in each.asked.contents for shard in content.shards}


def _asked_of(driven: Driven, cluster: str) -> Iterator[tuple[int, str, str, str]]:
    """Every instruction to the cluster that the log has: its round, kind, group and content's digest."""
    for number, of in enumerate(driven.rounds):
        for instruction in of.asked.instructions:
            if instruction.cluster == cluster:
                yield number, instruction.kind, instruction.group, of.asked.contents[instruction.content].digest


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server is given in reply to the instruction at that place.

    It is a contribution, the mean of a round, or else an error: a word, and a sentence.
    """

    place: int
    contribution: Contributed | None = None
    mean: Aggregated | None = None
    reason: str = ""
    message: str = ""


def answers(driven: Driven, wanted: Sequence[Wanted], rounds: Mapping[int, int]) -> tuple[Answer, ...]:
    """The answers, by the instructions' places, when their rounds are over. Whoever did not answer in time has none.

    A mean is the answer of the first of its members that was asked here, and the others have none.
    """
    found, meant = list[Answer](), set[int]()
    for place in sorted(rounds, key=lambda place: (rounds[place], wanted[place].cluster)):
        of, cluster = driven.rounds[rounds[place]], wanted[place].cluster
        result = of.result
        if isinstance(result, Aggregated) and cluster in result.members:
            if not of.asked.fold:
                found.append(Answer(place, contribution=of.contributed[cluster]))
            elif rounds[place] not in meant:
                meant.add(rounds[place])
                found.append(Answer(place, mean=result))
        elif cluster in of.declined or cluster in of.rejected:
            said = of.rejected.get(cluster) or of.declined[cluster]
            found.append(Answer(place, reason=said.reason, message=said.message))
        elif cluster in of.contributed and isinstance(result, RoundFailed):
            found.append(Answer(place, reason=result.reason, message=result.message))
    return tuple(sorted(found, key=lambda answer: answer.place))
