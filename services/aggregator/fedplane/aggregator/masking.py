"""What should be done about a round whose updates are masked, step by step: who masks with whom, who helps to take the masks off.

A step ends when everybody who is in it has done its part or has gone, or when its time is over; whoever did not is left behind.
It goes on as long as there are as many as the resource asks for, and as many as it takes to recover the secrets of each that stays.
When it cannot go on, the round has failed, and says of whom nothing was heard; the run tries again with whoever is there then.
Each step begins with a fact that freezes who is in it, so a replica that takes over goes on with the same ones.

A round that fails once shares were revealed may have told its sum to whoever computed it, and the next attempt tells another one.
If apps train to the same update again, the difference of the two is that of the clusters that were in one of them alone.
Masks do not help there; noise does (`differentialPrivacy.distributed`), and such a round counts in what it costs.

How a plain round closes, and what is done once nothing hides the sum, is the business of `deciding`.
"""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from fedplane.aggregator.carrying import END
from fedplane.aggregator.exchange import bindable, holders_among, keyholder
from fedplane.aggregator.failing import excuses, failed
from fedplane.aggregator.rounds import Phase, Round
from fedplane.privacy import graph
from fedplane.privacy.graph import MEMBERS_MIN
from fedplane.privacy.pairing import Pairing
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Action, Remind, State
from fedplane.schemas.facts import Bound, Closed, Entrusted, Lapsed, Paired, RoundFailed
from fedplane.schemas.privacy_terms import MaskingTerms, Step

__all__ = ["about_steps", "pair"]


def pair(state: Round, reason: str, now: datetime) -> Action:
    """What ends the wait for clusters that train: those that have said their keys mask with one another, if they are enough."""
    asked, terms = state.opened, _terms(state)
    keyed = [state.exchange.keyed[cluster] for cluster in state.keyed]
    if len(keyed) < _needed(state):
        message = f"{len(keyed)} of {len(asked.clusters)} clusters have said their keys, {_needed(state)} are needed{excuses(state)}"
        return failed(state, "too-few", message, now, unless=Paired)
    try:
        degree, threshold = graph.chosen(len(keyed), terms.neighbours, terms.threshold)
    except BadInput as problem:
        return failed(state, "too-few", f"{len(keyed)} clusters cannot mask with one another: {problem}", now, unless=Paired)
    scale = terms.weight_max if terms.weights == "hidden" and terms.weight_max else max(each.weight for each in keyed)
    fact = Paired(
        run=asked.run, round=asked.round, at=now, members=tuple(keyholder(each) for each in keyed), degree=degree, threshold=threshold,
        weight_scale=scale, deadline=_end_of_step(state, now), reason=reason, question=state.exchange.question,
    )  # fmt: skip
    return State(fact, _unless_failed(state))


def about_steps(state: Round, now: datetime) -> Iterator[Action]:
    """Everything that is due in a round whose members are paired, until nothing hides their sum."""
    match state.phase:
        case Phase.SHARING:
            yield from _bind(state, now)
        case Phase.MASKING:
            yield from _entrust(state, now)
            yield from _close(state, now)
        case Phase.REVEALING:
            yield from _give_up(state, now)


def _bind(state: Round, now: datetime) -> Iterator[Action]:
    """Those whose secrets are in safe hands mask with one another."""
    asked, masks = state.opened, state.exchange
    assert masks.paired is not None, "who shares was paired"
    silent = _awaited(state, masks.shared)
    if silent and "sharing" not in masks.lapsed:
        yield _remind(state, "sharing", masks.paired.deadline)
        return
    bound = bindable(masks, state.gone)
    if len(bound) < _needed(state):
        said = f"{len(bound)} of {len(masks.members)} clusters can mask, with shares of their secrets in enough hands"
        message = f"{said}, {_needed(state)} are needed{excuses(state, silent, 'share its secrets')}"
        yield failed(state, "too-few-shares", message, now, unless=Bound)
        return
    fact = Bound(run=asked.run, round=asked.round, at=now, members=bound, deadline=_end_of_step(state, now))
    yield State(fact, _unless_failed(state))


def _entrust(state: Round, now: datetime) -> Iterator[Action]:
    """Hand each member what its neighbours have sealed for it."""
    asked, masks = state.opened, state.exchange
    pairing, bound = masks.pairing, masks.bound
    assert pairing is not None and bound is not None, "who masks is bound"
    for cluster in bound.members:
        if cluster not in masks.entrusted:
            senders = [sender for sender in pairing.neighbours[cluster] if sender in bound.members]
            yield State(
                Entrusted(
                    run=asked.run, round=asked.round, cluster=cluster, at=now, members=bound.members, deadline=bound.deadline,
                    sealed={sender: masks.shared[sender].sealed[cluster] for sender in senders},
                    commitments={sender: masks.shared[sender].commitments[cluster] for sender in senders},
                )
            )  # fmt: skip


def _close(state: Round, now: datetime) -> Iterator[Action]:
    """No masked update counts any more: say whose do, if their masks can be taken off again."""
    asked, masks = state.opened, state.exchange
    pairing, bound = masks.pairing, masks.bound
    assert pairing is not None and bound is not None, "who masks is bound"
    silent = _awaited(state, state.contributed)
    if silent and "masking" not in masks.lapsed:
        yield _remind(state, "masking", bound.deadline)
        return
    members = tuple(sorted(state.contributed))
    why = excuses(state, silent, "send its masked update")
    if len(members) < _needed(state):
        message = f"{len(members)} of {len(bound.members)} clusters sent their masked update, {_needed(state)} are needed{why}"
        yield failed(state, "too-few", message, now, unless=Closed)
    elif lost := _lost(pairing, bound.members, members):
        said = f"of the {len(members)} clusters that sent their masked update fewer than {pairing.threshold} have shares"
        message = f"{said} of the secrets of {', '.join(lost)}, so nobody can take the masks off{why}"
        yield failed(state, "too-few-shares", message, now, unless=Closed)
    else:
        reason = f"{len(silent)} did not mask in time" if silent else "everyone who masks has contributed or gone"
        yield State(Closed(run=asked.run, round=asked.round, at=now, reason=reason, members=members), _unless_failed(state))


def _give_up(state: Round, now: datetime) -> Iterator[Action]:
    """Wait for shares as long as there is time, and somebody who may still reveal some."""
    assert state.closed is not None, "shares are revealed once the round is closed"
    names, masks = [member.cluster for member in state.members], state.exchange
    silent = [cluster for cluster in names if cluster not in masks.revealed and cluster not in state.gone]
    if silent and "revealing" not in masks.lapsed:
        yield _remind(state, "revealing", _end_of_step(state, state.closed.at))
        return
    threshold = masks.pairing.threshold if masks.pairing else 0
    said = f"{len(masks.revealed)} of {len(names)} members have revealed shares, and of each secret {threshold} are needed"
    yield failed(state, "too-few-shares", said + excuses(state, silent, "reveal its shares"), now)


def _lost(pairing: Pairing, bound: Collection[str], members: Collection[str]) -> list[str]:
    """Whose secrets too few members have shares of."""
    return [cluster for cluster in bound if holders_among(pairing, cluster, members) < pairing.threshold]


def _awaited(state: Round, done: Collection[str]) -> list[str]:
    """Of those who are in the present step: who has not done its part, and may still do it."""
    return [cluster for cluster in state.exchange.members if cluster not in done and cluster not in state.gone]


def _needed(state: Round) -> int:
    return max(state.opened.minimum, MEMBERS_MIN)


def _terms(state: Round) -> MaskingTerms:
    assert state.opened.masking is not None, "only rounds with terms are masked"
    return state.opened.masking


def _end_of_step(state: Round, begin: datetime) -> datetime:
    return min(begin + timedelta(seconds=_terms(state).step_seconds), END)


def _remind(state: Round, step: Step, when: datetime) -> Remind:
    return Remind(Lapsed(run=state.opened.run, round=state.opened.round, at=when, step=step), when)


def _unless_failed(state: Round) -> Fence:
    return Fence(RoundFailed.pattern(run=state.opened.run, round=state.opened.round))
