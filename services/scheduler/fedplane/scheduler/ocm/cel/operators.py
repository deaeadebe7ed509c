"""The signs between two values: comparison, membership and arithmetic, as one table.

Integers and doubles compare with each other and do not compute with each other, as the language has it.
"""

import math
import operator
from collections.abc import Callable, Mapping

from fedplane.scheduler.ocm.cel.values import Failure, Meter, Value, equal, integer, is_integer, less, type_name

__all__ = ["BINARY"]


def _in(value: Value, held: Value, meter: Meter) -> bool:
    if isinstance(held, dict):
        return isinstance(value, str) and value in held
    if isinstance(held, list):
        return any(equal(value, item, meter) for item in held)
    raise Failure(f"{type_name(held)} has nothing in it")


def _plus(one: Value, other: Value, meter: Meter) -> Value:
    if isinstance(one, str) and isinstance(other, str):
        meter.spend_size(len(one) + len(other))
        return one + other
    if isinstance(one, list) and isinstance(other, list):
        meter.spend_size(len(one) + len(other))
        return one + other
    return _arithmetic(operator.add)(one, other, meter)


def _arithmetic(compute: Callable[[int | float, int | float], int | float]) -> Callable[[Value, Value, Meter], Value]:
    def evaluate(one: Value, other: Value, meter: Meter) -> Value:
        if isinstance(one, float) and isinstance(other, float):
            return float(compute(one, other))
        if is_integer(one) and is_integer(other):
            return integer(int(compute(one, other)))
        raise Failure(f"there is no arithmetic of {type_name(one)} and {type_name(other)}")

    return evaluate


def _quotient(one: float, other: float) -> float:
    """Of integers, truncated toward zero; of doubles, as IEEE 754 has it."""
    if isinstance(one, int) and isinstance(other, int):
        if not other:
            raise Failure("division by zero")
        return abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
    if other:
        return one / other
    return math.nan if not one or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1, other)


def _remainder(one: float, other: float) -> float:
    """With the sign of the first; there is none of doubles."""
    if not isinstance(one, int) or not isinstance(other, int):
        raise Failure("there is no remainder of doubles")
    return one - other * int(_quotient(one, other))


BINARY: Mapping[str, Callable[[Value, Value, Meter], Value]] = {
    "==": equal,
    "!=": lambda one, other, meter: not equal(one, other, meter),
    "<": lambda one, other, meter: less(one, other),
    "<=": lambda one, other, meter: less(one, other) or equal(one, other, meter),
    ">": lambda one, other, meter: less(other, one),
    ">=": lambda one, other, meter: less(other, one) or equal(one, other, meter),
    "in": _in,
    "+": _plus,
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(_quotient),
    "%": _arithmetic(_remainder),
}
"""What each sign between two values computes."""
