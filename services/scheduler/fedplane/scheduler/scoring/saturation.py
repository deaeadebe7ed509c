"""The one curve that turns an amount without an upper bound into a score.

The amount a becomes a / (a + half): nothing scores 0, `half` scores 1/2, and more always scores more, but less and less so.
That is how capacity helps a round: the step from 2 to 4 cores is felt, the step from 64 to 66 is not.
"""

from decimal import Decimal

__all__ = ["saturating"]


def saturating(amount: Decimal, half: Decimal) -> float:
    """The score of an amount that is not negative.

    Written as 1 - half / (amount + half): each of these steps rounds monotonely, which a / (a + half) does not.
    """
    return float(1 - half / (amount + half))
