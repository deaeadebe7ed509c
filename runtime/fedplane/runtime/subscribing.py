"""When a durable subscription may be read under a name that is taken. Both implementations of `Subscriptions` ask here.

A name that two people choose by accident would give each of them half of the facts, and a changed filter would not be noticed.
So whoever comes back has to be the same owner, and want the same facts.
"""

from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Subscription
from fedplane.schemas.names import NAME_CHARACTERS_MAX, is_name

__all__ = ["DURABLES_MAX", "IDLE_SECONDS", "check_name", "check_number", "check_owner", "check_same"]

IDLE_SECONDS = 30 * 24 * 3600.0
"""How long the server remembers a subscription that nobody reads: as long as archives stay after a run has left the log."""

DURABLES_MAX = 100
"""How many subscriptions the server remembers: a platform has a handful of systems that listen, and each costs the server memory."""


def check_name(name: str) -> None:
    """Raises BadInput for what is no name."""
    if not is_name(name):
        rule = f"lower-case letters, digits and dashes, {NAME_CHARACTERS_MAX} at most, as in audit or team-a"
        raise BadInput(f"{name!r} is no name for a durable subscription; it has {rule}")


def check_number(number: int) -> None:
    """Raises BadInput when there is no room for one more."""
    if number >= DURABLES_MAX:
        raise BadInput(f"there are {number} durable subscriptions, and no more are taken; `fedplane events --forget NAME` removes one")


def check_owner(held: Subscription, owner: str) -> None:
    """Raises BadInput when the subscription is another's."""
    if held.owner != owner:
        raise BadInput(
            f"the durable subscription {held.name} is {held.owner or 'nobody'}'s, and you are {owner}; "
            f"choose another name, or say --owner {held.owner} if you act for them"
        )


def check_same(held: Subscription, wanted: Subscription) -> None:
    """Raises BadInput when what is held under the name is not what is wanted."""
    check_owner(held, wanted.owner)
    if set(held.patterns) != set(wanted.patterns):
        heard, asked = (", ".join(sorted(each.patterns)) for each in (held, wanted))
        raise BadInput(
            f"the durable subscription {held.name} hears {heard}, and now {asked} is asked for; choose another name, "
            f"or `fedplane events --forget {held.name}` first, which also forgets how far it had come"
        )
