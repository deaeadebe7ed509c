"""Taints and tolerations: which clusters does a placement keep away from, and until when does it tolerate the others?

Time is data: whether a toleration has run out is asked for a time, and the answer says at which time it has to be asked again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fedplane.scheduler.ocm.inventory import Taint
from fedplane.schemas.placements import Toleration

__all__ = ["ALWAYS", "Tolerance", "earliest", "misconfigured", "tolerance"]

ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""The first and nearly the last time there is: a taint without a time has been there since the first one, as Go's zero time has it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Whether taints are tolerated, and, if only for a while, until when. `intolerable` is the first taint that is not."""

    intolerable: Taint | None = None
    until: datetime | None = None


def misconfigured(tolerations: Iterable[Toleration]) -> str | None:
    """What Open Cluster Management refuses in the tolerations, in its words; None if nothing is wrong."""
    for toleration in tolerations:
        if not toleration.key and toleration.operator != "Exists":
            return "If the key is empty, operator must be Exists."
        if toleration.operator == "Exists" and toleration.value:
            return "If the operator is Exists, the value should be empty."
    return None


def tolerance(taints: Iterable[Taint], tolerations: Iterable[Toleration], chosen: bool, now: datetime) -> Tolerance:
    """How a placement takes the taints of a cluster; `chosen` is whether it has the cluster already.

    PreferNoSelect keeps nobody away, and NoSelectIfNew nobody who is chosen.
    The first toleration that fits a taint and has not run out counts, even if a later one would last longer.
    """
    until = []
    for taint in taints:
        if taint.effect == "PreferNoSelect" or (taint.effect == "NoSelectIfNew" and chosen):
            continue
        ends = next(_ends(taint, tolerations, now), ALWAYS)
        if ends is ALWAYS:
            return Tolerance(intolerable=taint)
        until.append(ends)
    return Tolerance(until=earliest(until))


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    """The first of the times, None if there is none."""
    return min((time for time in times if time is not None), default=None)


def _ends(taint: Taint, tolerations: Iterable[Toleration], now: datetime) -> Iterator[datetime | None]:
    """When each toleration that fits the taint runs out, None if it never does, without those that have."""
    for toleration in tolerations:
        if not _fits(taint, toleration):
            continue
        if toleration.toleration_seconds is None:
            yield None
        elif now < (ends := _added(taint, toleration.toleration_seconds)):
            yield ends


def _fits(taint: Taint, toleration: Toleration) -> bool:
    return (
        toleration.effect in {"", taint.effect}
        and toleration.key in {"", taint.key}
        and (toleration.operator == "Exists" or toleration.value == taint.value)
    )


def _added(taint: Taint, seconds: int) -> datetime:
    try:
        return (taint.added or ALWAYS) + timedelta(seconds=seconds)
    except OverflowError:  # beyond the calendar, on either side
        return NEVER if seconds > 0 else ALWAYS
