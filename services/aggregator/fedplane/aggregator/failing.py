"""How a round fails: the fact, which must not contradict one that says the opposite, and what clusters had to say, for a person to read."""

from collections.abc import Iterable
from datetime import datetime

from fedplane.aggregator.rounds import Round
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import State
from fedplane.schemas.facts import Aggregated, Bound, Closed, Paired, RoundFailed

__all__ = ["EXCUSE_CHARACTERS_MAX", "excuses", "failed"]

EXCUSES_MAX = 10
"""A failure's message is for a person; who wants all of a thousand clusters reads the round's facts."""

EXCUSE_CHARACTERS_MAX = 500
"""A cluster may decline with half a megabyte of text, and two of those would not fit the fact that says why the round failed."""


def failed(
    state: Round, reason: str, message: str, now: datetime, unless: type[Aggregated | Bound | Closed | Paired] = Aggregated
) -> State:
    """The round has failed, unless it went on by that fact, as another replica saw it."""
    asked = state.opened
    fact = RoundFailed(run=asked.run, round=asked.round, at=now, reason=reason, message=message)
    return State(fact, Fence(unless.pattern(run=asked.run, round=asked.round)))


def excuses(state: Round, silent: Iterable[str] = (), what: str = "") -> str:
    """Why clusters did not do their part. Those that are `silent` were waited for in vain, in a step that is called `what`."""
    said = [f"{cluster} declined ({fact.reason}): {fact.message}" for cluster, fact in sorted(state.declined.items())]
    said += [f"{cluster} was rejected: {why}" for cluster, why in sorted(state.unacceptable.items())]
    said += [f"{cluster} did not answer by the deadline" for cluster in sorted(state.unanswered)]
    said += [f"{cluster} did not {what} in time" for cluster in sorted(silent)]
    return "".join(f"; {excuse[:EXCUSE_CHARACTERS_MAX]}" for excuse in said[:EXCUSES_MAX]) + (
        f"; and {len(said) - EXCUSES_MAX} more" if len(said) > EXCUSES_MAX else ""
    )
