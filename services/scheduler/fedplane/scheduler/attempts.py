"""Attempts at things that may fail: what came of the last one, and when the next one is due.

Cores decide anew all the time, so something has to keep them from attempting the same thing all the time.
Whoever performs an attempt notes here what came of it, and whoever decides asks whether it is time for another.
A failure is repeated after a pause that doubles; a success is repeated soon, in case what it did is undone.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from fedplane.scheduler.standing import Standing

__all__ = ["PAUSE_MAX_SECONDS", "PAUSE_MIN_SECONDS", "TRIED_MAX", "Tried", "is_due", "note", "pause_seconds"]

K = TypeVar("K", bound=Hashable)

PAUSE_MIN_SECONDS, PAUSE_MAX_SECONDS = 1.0, 60.0
"""Between two attempts at the same thing, doubling from the one to the other."""

TRIED_MAX = 100_000
"""How many attempts are remembered. Forgetting one costs an attempt that comes too early."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The last attempt: when it ended, how many have failed in a row, and for a work since when and why."""

    at: datetime
    failures: int = 0
    since: datetime | None = None
    standing: Standing | None = None


def pause_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(PAUSE_MIN_SECONDS * 2.0 ** min(failures, 30), PAUSE_MAX_SECONDS)


def is_due(last: Tried | None, now: datetime) -> bool:
    """Whether it is time for an attempt."""
    return last is None or now >= last.at + timedelta(seconds=pause_seconds(last.failures))


def note(tried: dict[K, Tried], what: K, attempt: Tried) -> None:
    """Remember an attempt as the newest one, and forget the oldest beyond the bound."""
    tried.pop(what, None)
    tried[what] = attempt
    while len(tried) > TRIED_MAX:
        del tried[next(iter(tried))]
