"""Amounts of resources as Kubernetes' own arithmetic has them.

Our filters compare quantities exactly (`schemas.quantities`). Open Cluster Management's scores are computed with floats, and truncated,
so a score is only the same if the float is the same, down to its last bit: a whole number times a power of ten.
Source: k8s.io/apimachinery, pkg/api/resource, the type Quantity.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from fedplane.schemas.quantities import parse

__all__ = ["AMOUNT_MAX", "amount", "approximate"]

AMOUNT_MAX = Decimal(2**63 - 1)
"""Kubernetes cuts larger amounts down to this one."""

SMALLEST = Decimal("1e-9")
"""Kubernetes keeps no fraction smaller than this: who has a little has at least that."""

_EXACT = Context(prec=100)


def amount(text: str) -> Decimal:
    """The amount that Kubernetes would keep. Raises ValueError if the text is no quantity."""
    value = parse(text)
    if abs(value) > AMOUNT_MAX:
        return AMOUNT_MAX.copy_sign(value)
    if int(value.as_tuple().exponent) < -9:  # rounded away from zero, as a request for something must not become one for nothing
        return value.quantize(SMALLEST, ROUND_FLOOR if value < 0 else ROUND_CEILING, _EXACT)
    return value


def approximate(value: Decimal) -> float:
    """The amount as a float: its digits as one number, times the power of ten that it was written with."""
    sign, digits, exponent = value.as_tuple()
    whole = float(int("".join(map(str, digits))) * (-1 if sign else 1))
    return whole * float(f"1e{exponent}") if exponent else whole
