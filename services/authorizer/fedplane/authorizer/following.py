"""Keeping rights to what the log says: a server does not change those of a connection that exists, so it is ended, and made anew.

The core of the authorizer's loop. What it decides is a look at all connections whenever anybody's rights may have changed: because of a
fact, because a run's grace or a grant is over, and every half a minute in any case. A connection whose name has another mark than that
of now is ended then. So it does not matter which replica has let it in, whether that one was behind, or whether any was there meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fedplane.authorizer.grants import connections_of
from fedplane.authorizer.identity import Identity, Refused
from fedplane.authorizer.standing import PATTERNS, Known, evolve, judge, over
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform
from fedplane.schemas.roles import Role

__all__ = ["Followed", "Following", "is_overtaken", "room_of"]

LOOK_SECONDS = 30
"""How often to look at all connections though nothing seems to have changed: a server may let somebody in just while we look."""

TICK_SECONDS = 1.0
"""How late the end of a run's grace may be noticed."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known, and how many facts have changed it."""

    known: Known = field(default_factory=Known)
    changes: int = 0


class Following:
    """See `Core`. Its one effect has no words: look at all connections, and at all readers that were made for others."""

    patterns = PATTERNS
    tick_seconds = TICK_SECONDS

    def initial(self) -> Followed:
        """See `Core.initial`."""
        return Followed()

    def evolve(self, state: Followed, record: Recorded) -> Followed:
        """See `Core.evolve`."""
        known = evolve(state.known, record.fact)
        return state if known is state.known else Followed(known, state.changes + 1)

    def decide(self, state: Followed, now: datetime) -> Sequence[Action]:
        """See `Core.decide`."""
        return [Perform((state.changes, over(state.known, now), int(now.timestamp()) // LOOK_SECONDS), None)]


def is_overtaken(user: str, known: Known, now: datetime) -> bool:
    """Whether the connection of a user by this name, `ROLE:NAME:MARK`, has rights of another time; we let in nobody of another name."""
    words = user.split(":")
    if len(words) != 3 or words[0] not in set(Role):
        return False
    standing = judge(Identity(Role(words[0]), words[1]), known, now)
    return isinstance(standing, Refused) or standing.mark != words[2]


def room_of(user: str, known: Known, now: datetime) -> tuple[str, int | None]:
    """Whose connection it is, and how many such he may have; None is any number, for whom we have not let in."""
    role, _, name = user.rpartition(":")[0].partition(":")
    if role not in set(Role):
        return user, None
    standing = judge(Identity(Role(role), name), known, now)
    return f"{role}:{name}", 0 if isinstance(standing, Refused) else connections_of(Role(role), len(standing.runs))
