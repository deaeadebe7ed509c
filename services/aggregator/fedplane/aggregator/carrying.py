"""Stragglers: who still works on the question of a training round that has ended, and may answer it in a later one.

What a straggler has done is lost if its round drops it, and if every round drops it, so is what its data would have taught.
So the next training rounds carry it: they ask it for that answer instead of another one, as long as `spec.rounds.carry` allows.
FedBuff is nothing else: rounds that close after the first K contributions, and carry all the others.

An answer that comes later is about an older model.
How its update is moved to the present one is the business of `rebasing`; how much it counts, the strategy's.
Everything here follows from the log, so replicas agree on whom a round carries.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from fedplane.aggregator.rounds import Phase, Round
from fedplane.schemas.facts import Contributed, Opened
from fedplane.schemas.models import Model, Task
from fedplane.schemas.resources import RoundPolicy

__all__ = ["END", "Outstanding", "agrees", "base_of", "carried_until", "discount", "outstanding", "staleness"]

END = datetime(2999, 12, 31, tzinfo=UTC)
"""The last day that a fact may name. A round may be opened on any day before it, by whoever may write to the log."""


@dataclass(frozen=True, slots=True)
class Outstanding:
    """The question that a cluster still works on: its round, the training round that it served, and the model that it is about.

    `overdue` is whether a round has waited for the answer until its deadline: whoever gave none may never give any.
    """

    round: int
    training_round: int
    model: Model
    overdue: bool = False


def outstanding(state: Round, before: Mapping[str, Outstanding], carry: int) -> dict[str, Outstanding]:
    """Whom the next training round carries, when one has ended: those that were invited and have not answered in any way.

    `before` are those that this round carried. After a failed round comes the same training round again, in which nothing is stale.
    """
    asked = state.opened
    following = asked.training_round + (state.phase is Phase.AGGREGATED)
    if not carry or asked.model is None:
        return {}
    fresh = Outstanding(asked.round, asked.training_round, asked.model)
    late = {cluster: before.get(cluster, fresh) for cluster in state.unanswered if cluster in state.invited}
    still = {cluster: question for cluster, question in late.items() if following - question.training_round <= carry}
    return {cluster: replace(question, overdue=question.overdue or state.expired) for cluster, question in still.items()}


def agrees(question: Opened, known: Mapping[str, Outstanding]) -> bool:
    """Whether a round carries nobody but those that can be carried. No aggregator opens another, but on an open bus anybody may."""
    carried = question.carried
    still = {cluster: known[cluster].round for cluster in carried if cluster in known}
    return still == carried and (not carried or question.task is Task.TRAIN) and carried.keys() <= set(question.clusters)


def carried_until(question: Opened, policy: RoundPolicy) -> datetime | None:
    """Until when work on the question is of use: as long as its round and so many more may take. None if it ends with its round."""
    if not policy.carry or question.task is not Task.TRAIN:
        return None
    return min(question.at + timedelta(seconds=policy.deadline_seconds * (1 + policy.carry)), END)


def staleness(member: Contributed, question: Opened, known: Mapping[str, Outstanding]) -> int:
    """How many training rounds lie between the question that a member answered and the round in which it counts."""
    return 0 if member.origin is None else question.training_round - known[member.cluster].training_round


def discount(staleness: int) -> float:
    """By what an update's weight is multiplied that is so many training rounds late: (1 + staleness) ^ -1/2.

    Nguyen et al. 2022 (https://arxiv.org/abs/2106.06639) do so in FedBuff. By a root, since a power may differ between machines.
    """
    return 1.0 / math.sqrt(1.0 + staleness)


def base_of(member: Contributed, question: Opened, known: Mapping[str, Outstanding]) -> Model | None:
    """The model that a member's update was trained from, if it is another one than the round's."""
    if member.origin is None:
        return None
    model = known[member.cluster].model
    return None if question.model is not None and model.digest == question.model.digest else model
