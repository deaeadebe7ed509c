"""Who masks with whom: with all others in a small round, with some of them in a large one.

A member's work grows with its neighbours, so a round of a thousand members wants fewer of them than 999.
Members are put in a circle, in an order that nobody chose (by a hash), and each is the neighbour of the k/2 before it and the k/2 after it.
That is Harary's graph: symmetric, and of all graphs of degree k among the hardest to cut (F. Harary, 1962).
Each member's secrets are shared among its k neighbours and itself; t of these k + 1 shares tell one.
Source: Bell, Bonawitz, Gascon, Lepoint and Raykova 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3.

In a small round everybody is everybody's neighbour, unless it is said otherwise: then what k and t do for privacy are plain facts.
They are proven where they are used, in `fedplane.privacy.participant`; of a larger round they take two things more.
Let c be the most neighbours of any honest member that collude with the hub, and 2t - k - 2 what c may be in any case.

*Nobody is cut off.* A sum of all honest members who are left hides more than a sum of some, and a hub that says who is gone could try to
leave two arcs of the circle without a neighbour in common. Whoever is at the end of an arc would have, of those who hold its shares, only
itself, the k/2 of one side and the colluding ones of the other. With **c <= t - k/2 - 2** these are fewer than t: its mask stays on.

*A hash puts them well.* A member's neighbours are a sample without replacement, so how many of them collude, or go, is hypergeometric
(Bell et al., section 3.5). The default degree is the smallest with which c is that small for all members, and no more than k + 1 - t go
anywhere, but for very small probabilities, if a twentieth of all members collude and a tenth go.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from math import exp, lgamma

from fedplane.runtime.errors import BadInput

__all__ = ["COMPLETE_MEMBERS_MAX", "MEMBERS_MIN", "check", "chosen", "colluders_withstood", "dropouts_recovered", "neighbourhoods"]

MEMBERS_MIN = 3
"""Of two members each knows the other's contribution once it knows the sum."""

COMPLETE_MEMBERS_MAX = 64
"""63 masks of ten million elements take half a second to make, so fewer neighbours would gain little."""

COLLUDING_SHARE = 1 / 20
"""How many of a large round's members may work with the hub."""

GONE_SHARE = 1 / 10
"""How many of a large round's members may go after they have shared their secrets."""

PRIVACY_FAILURE_MAX = 2.0**-40
RECOVERY_FAILURE_MAX = 2.0**-30
"""How likely it may be that a random order breaks a promise: the values of Bell et al., section 3.5."""


def neighbourhoods(members: Sequence[str], degree: int, seed: bytes) -> dict[str, tuple[str, ...]]:
    """Each member's neighbours, by name; of these names, this degree and this seed there is one such graph."""
    reach, rest = divmod(_even(len(members), degree), 2)
    if len(set(members)) != len(members):
        raise BadInput("a member is named twice")
    if reach * 2 + rest >= len(members) - 1:
        return {member: tuple(sorted(set(members) - {member})) for member in sorted(members)}
    circle = sorted(members, key=lambda member: (sha256(seed + member.encode()).digest(), member))
    steps = [step for step in range(-reach, reach + 1) if step]
    around = {member: tuple(sorted(circle[(place + step) % len(circle)] for step in steps)) for place, member in enumerate(circle)}
    return dict(sorted(around.items()))


@lru_cache
def chosen(members: int, degree: int | None, threshold: int | None) -> tuple[int, int]:
    """The degree and the threshold of a round of so many members: those that are given, as far as they hold, and the best others.

    An odd degree is made even, since not every circle has a graph of it, and more neighbours than there are others become all others.
    """
    if members < MEMBERS_MIN:
        raise BadInput(f"{members} members cannot hide their contributions from one another; let at least {MEMBERS_MIN} take part")
    if degree is None:
        degree = members - 1 if members <= COMPLETE_MEMBERS_MAX else _smallest(members)
    degree = _even(members, degree)
    threshold = _two_thirds(degree) if threshold is None else threshold
    check(members, degree, threshold)
    return degree, threshold


def check(members: int, degree: int, threshold: int) -> None:
    """Raise BadInput if a round of these numbers protects nobody, or can recover nobody."""
    if members < MEMBERS_MIN:
        raise BadInput(f"{members} members cannot hide their contributions from one another; let at least {MEMBERS_MIN} take part")
    if not 2 <= degree < members:
        raise BadInput(f"{degree} neighbours cannot be had among {members} members; ask for 2 to {members - 1}")
    if 2 * threshold <= degree + 1:
        raise BadInput(
            f"with a threshold of {threshold} among {degree} neighbours a hub could join both secrets of a cluster; "
            f"the threshold must be at least {(degree + 1) // 2 + 1}"
        )
    if threshold > degree:
        raise BadInput(
            f"a threshold of {threshold} cannot be met by {degree} neighbours, so that nobody could be missing; "
            f"the threshold must be at most {degree}"
        )


def colluders_withstood(members: int, degree: int, threshold: int) -> int:
    """The largest c, in the words of this module: so many of anybody's neighbours may work with the hub.

    With -1 the hub needs nobody, but it has to lie about who is gone.
    """
    lying = 2 * threshold - degree - 2
    return lying if degree >= members - 1 else min(lying, threshold - degree // 2 - 2)


def dropouts_recovered(members: int, degree: int, threshold: int) -> int:
    """How many of a member's neighbours and itself may go: its secrets can still be joined, and enough members are left to hide behind."""
    return min(degree + 1 - threshold, members - MEMBERS_MIN)


def _two_thirds(degree: int) -> int:
    """Two thirds of the shares, rounded up: as far from half of them, where a lying hub wins, as it can be with a third of members gone."""
    return -(-2 * (degree + 1) // 3)


def _even(members: int, degree: int) -> int:
    return min(degree + degree % 2, members - 1)


def _smallest(members: int) -> int:
    """The smallest degree with which a random order keeps its promises; the union bound over members stands for any of them."""
    colluding, gone = int(members * COLLUDING_SHARE), int(members * GONE_SHARE)
    for degree in range(2, members - 1, 2):
        threshold = _two_thirds(degree)
        withstood = threshold - degree // 2 - 2
        if withstood < 0 or members * _tail(members - 1, colluding, degree, withstood + 1) > PRIVACY_FAILURE_MAX:
            continue
        if members * _tail(members - 1, gone, degree, dropouts_recovered(members, degree, threshold) + 1) <= RECOVERY_FAILURE_MAX:
            return degree
    return members - 1


def _tail(population: int, marked: int, sample: int, least: int) -> float:
    """How likely at least so many of a sample are marked, drawn without replacement: the tail of the hypergeometric distribution."""
    most = min(marked, sample)
    least = max(least, sample - (population - marked), 0)
    every = _log_choose(population, sample)
    return sum(exp(_log_choose(marked, some) + _log_choose(population - marked, sample - some) - every) for some in range(least, most + 1))


def _log_choose(of: int, some: int) -> float:
    return lgamma(of + 1) - lgamma(some + 1) - lgamma(of - some + 1)
