"""What a collaborator has to do: answer the questions that runs ask its cluster, and nothing that is history.

A run asks one question at a time, a round: its rounds are opened one after the other and numbered in that order.
So all that has to be known of a run is its latest round: the question, if it is ours to answer, or that it is settled.
A question that we were late for may be carried into a later round; of that it suffices to know from which round on work is still of use.
That makes the state small, a few words for each run that goes on, and the same in whatever order and however often facts arrive.
A masked round goes on after the update was sent: until we have helped to take the masks off, or the round goes on without us.
What the log says to us meanwhile is kept and handed on, for whoever takes part (`masking`) to wait for.

Whatever is to be done is said by `decide`, giving up included, so the shell needs no second view of the log.
How a question is answered is not this module's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.schemas.facts import (
    Archived,
    Cancelled,
    Closed,
    Completed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Failed,
    Invited,
    Keyed,
    Paired,
    Revealed,
    RoundFact,
    RoundFailed,
)

__all__ = ["ENDED_MAX", "Collaborator", "GiveUp", "Inform", "Question", "Questions", "Respond", "Retire", "Step", "unless_closed"]

ENDED_MAX = 1_000
"""How many ended runs are remembered by name, so that a late fact does not revive them.
Only a replica that was long asleep states such a fact; a thousand runs, at a minute each, cover most of a day and take about 0.1 MB.
"""


Step = Paired | Entrusted | Closed
"""What a masked round says to its members, in this order, each when the step before is done."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the invitation. `traceparent` is the trace in which it was stated.

    `is_keyed` is whether this cluster has said its keys already: by another process, since one process is asked once.
    """

    invited: Invited
    traceparent: str | None
    is_keyed: bool = False


@dataclass(frozen=True, slots=True)
class Inform:
    """Let whoever takes part in the masked round know what it was said."""

    fact: Step


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop all work for the run's rounds before this one: no answer counts in them any more.

    Work on a question that is not older than that of round `carried` goes on all the same: a later round may want the answer.
    """

    run: str
    before: int
    carried: int | None = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Stop all work for the run, its app too, and remove what it left behind."""

    run: str


@dataclass(frozen=True, slots=True)
class Question:
    """A run's latest round as far as this cluster is concerned.

    `settled` is whether no answer is due any more; `invitation` is kept only while one is.
    `asked` and `answered` are the last rounds in which this cluster was invited and has answered; -1 is none.
    `since` is from which round's question on work was of use when it was last invited, after that round as well; None if it ends with it.
    `steps` is what a masked round has said to this cluster since it has said its keys, which is `is_keyed`; kept only while it goes on.
    """

    round: int
    invitation: Recorded | None = None
    settled: bool = False
    asked: int = -1
    answered: int = -1
    since: int | None = None
    is_keyed: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def carried(self) -> int | None:
        """From which round's question on work is of use, though its round be over; None if no such work is."""
        return self.since if self.asked > self.answered else None

    def over(self) -> "Question":
        """The same when no answer is due any more."""
        return replace(self, invitation=None, settled=True, is_keyed=False, steps=())

    def told(self, step: Step) -> "Question":
        """The same after another step of its round; the first one of each kind counts."""
        known = any(type(each) is type(step) for each in self.steps)
        return self if known else replace(self, steps=(*self.steps, step))


@dataclass(frozen=True, slots=True)
class Questions:
    """The question that each run asks, and the runs that have ended, the last one last, with whether they were archived."""

    runs: Mapping[str, Question] = field(default_factory=dict)
    ended: Mapping[str, bool] = field(default_factory=dict)


def unless_closed(run: str, round_: int) -> Fence:
    """The fence around every answer: the log takes it only while the round is open."""
    return Fence(Closed.pattern(run=run, round=round_))


class Collaborator:
    """The pure part of one cluster's collaborator, for every run or for one."""

    tick_seconds = None  # the shell keeps to a deadline while it works; the round's end is a fact

    def __init__(self, cluster: str, run: str = "") -> None:
        self.cluster = cluster
        of = {"run": run} if run else {}  # else every run
        answers = (Invited, Contributed, Declined, Evaluated, Keyed, Entrusted, Revealed)
        # Of a run that ended while this cluster was away for long there may be `archived` alone.
        ends = (Paired, Closed, RoundFailed, Completed, Failed, Cancelled, Archived)
        self.patterns = ((*(a.pattern(cluster=cluster, **of) for a in answers), *(e.pattern(**of) for e in ends)),)

    def initial(self) -> Questions:
        """Nobody has asked anything."""
        return Questions()

    def evolve(self, state: Questions, record: Recorded) -> Questions:
        """See `Core.evolve`."""
        match record.fact:
            case Completed(run=run) | Failed(run=run) | Cancelled(run=run):
                return _without(state, run, archived=False)
            case Archived(run=run):
                return _without(state, run, archived=True)
            case Invited(run=run, cluster=self.cluster) if state.ended.get(run):  # archived, then forgotten: the id is that of another run
                return self.evolve(replace(state, ended={name: was for name, was in state.ended.items() if name != run}), record)
            case RoundFact(run=run, round=round_) as fact if run not in state.ended:
                known = self._concerned(state.runs.get(run, Question(round_)), fact)
                if known.round < round_:
                    known = replace(known.over(), round=round_, settled=False)
                if known.round == round_:
                    known = self._heard(known, fact, record)
                return replace(state, runs={**state.runs, run: known})
        return state

    def _concerned(self, known: Question, fact: RoundFact) -> Question:
        """What the fact says of this cluster's work, whichever round is the latest."""
        match fact:
            case Invited(cluster=self.cluster) if fact.round > known.asked:
                since = fact.round if fact.carries is None else min(fact.carries, fact.round)
                return replace(known, asked=fact.round, since=None if fact.carried_until is None else since)
            case Contributed() | Declined() | Evaluated() if fact.cluster == self.cluster:
                return replace(known, answered=max(known.answered, fact.round))
        return known

    def _heard(self, known: Question, fact: RoundFact, record: Recorded) -> Question:
        """What the fact says of the latest round, which is its own."""
        match fact:
            case Invited(cluster=self.cluster) if not known.settled:
                return replace(known, invitation=record)
            case Keyed(cluster=self.cluster) if known.invitation is not None:
                return replace(known, is_keyed=True)
            case Paired() | Entrusted() | Closed() if known.is_keyed and self._concerns(fact):
                return known.told(fact)
            case Closed() | RoundFailed() | Paired():
                return known.over()
            case Contributed(cluster=self.cluster) if known.is_keyed:
                return known
            case Contributed() | Declined() | Evaluated() | Revealed() if fact.cluster == self.cluster:
                return known.over()
        return known

    def _concerns(self, step: Step) -> bool:
        """Whether a masked round goes on with this cluster."""
        match step:
            case Paired(members=members):
                return any(member.cluster == self.cluster for member in members)
            case Entrusted(cluster=cluster):
                return cluster == self.cluster
            case Closed(members=members):
                return members is not None and self.cluster in members

    def decide(self, state: Questions, now: datetime) -> list[Action]:
        """See `Core.decide`."""
        actions: list[Action] = [Perform((run, "ended"), Retire(run)) for run in state.ended]
        for run, question in sorted(state.runs.items()):
            before = question.round + question.settled
            carried = None if question.carried is None or question.carried >= before else question.carried
            actions.append(Perform((run, "before", before, carried), GiveUp(run, before, carried)))
            if question.invitation is not None:
                actions.append(_answer(question.invitation, now, is_keyed=question.is_keyed))
            actions += [Perform((run, question.round, type(step).__name__), Inform(step)) for step in question.steps]
        return actions


def _without(state: Questions, run: str, *, archived: bool) -> Questions:
    ended = {**state.ended, run: archived or state.ended.get(run, False)}
    return Questions({name: question for name, question in state.runs.items() if name != run}, dict(list(ended.items())[-ENDED_MAX:]))


def _answer(invitation: Recorded, now: datetime, *, is_keyed: bool) -> Action:
    invited = invitation.fact
    assert isinstance(invited, Invited), f"only invitations are kept as questions, not {type(invited).__name__}"
    run, round_ = invited.run, invited.round
    deadline = invited.carried_until or invited.deadline
    if now < deadline or is_keyed:  # the steps of a masked round have deadlines of their own
        return Perform((run, round_), Respond(invited, invitation.traceparent, is_keyed))
    message = f"the deadline was {deadline.isoformat(timespec='seconds')}; this cluster read the invitation at {now.isoformat()}"
    late = Declined(run=run, round=round_, cluster=invited.cluster, at=now, reason="too-late", message=message)
    return State(late, unless_closed(run, round_))
