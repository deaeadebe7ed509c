"""The values of expressions, how they compare, and what computing with them costs.

A value is None, a bool, an int of 64 bits, a float, a str, a list, a dict with names as keys, a Quantity or a Version.
Python's True equals 1 and the language's does not, so values are compared by `equal` and never by ==.
Whatever may grow is paid for before it is computed; whoever runs out of budget fails.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeGuard

__all__ = ["Failure", "INTEGERS", "Meter", "Quantity", "Value", "Version", "equal", "integer", "is_integer", "less", "type_name"]

INTEGERS = range(-(2**63), 2**63)
"""The whole numbers that there are."""

CHARACTERS_PER_COST = 10
"""Ten characters or elements that are read or made cost as much as one step. The rate of Kubernetes' own cost model."""

VERSION = re.compile(
    r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
"""Source: Semantic Versioning 2.0.0. What follows a plus sign does not count in comparisons."""

LOOSE_VERSION = re.compile(r"v?0*([0-9]{1,18})(?:\.0*([0-9]{1,18}))?(?:\.0*([0-9]{1,18}))?(.*)", re.DOTALL)


class Failure(Exception):
    """An expression has no value; the message says why."""


class Meter:
    """How much an evaluation may still cost."""

    def __init__(self, budget: int) -> None:
        self._left = self._budget = budget

    def spend(self, cost: int) -> None:
        """Pay, or fail."""
        self._left -= cost
        if self._left < 0:
            raise Failure(f"this costs more than {self._budget} steps; make it shorter")

    def spend_size(self, size: int) -> None:
        """Pay for characters or elements."""
        self.spend(1 + size // CHARACTERS_PER_COST)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of a resource."""

    value: Decimal


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version. A release comes after its pre-releases, whose parts are compared as numbers or, after those, as words."""

    major: int
    minor: int
    patch: int
    rest: tuple[int, tuple[tuple[int, int, str], ...]]

    @classmethod
    def of(cls, text: str, loose: bool = False) -> "Version":
        """The version that the text says; `loose` forgives a v in front, zeros in front, and parts that are left out."""
        if loose and (forgiven := LOOSE_VERSION.fullmatch(text)):
            major, minor, patch, rest = forgiven.groups()
            text = f"{int(major)}.{int(minor or 0)}.{int(patch or 0)}{rest}"
        match = VERSION.fullmatch(text)
        parts = match[4].split(".") if match and match[4] else []
        if match is None or any(part.isdigit() and part != str(int(part[:20])) for part in parts):
            raise Failure(f"{text!r} is no semantic version")
        identifiers = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
        return cls(int(match[1]), int(match[2]), int(match[3]), (0 if parts else 1, identifiers))


Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"] | Quantity | Version


def type_name(value: Value) -> str:
    """What the language calls the type of the value."""
    names = {type(None): "null", bool: "bool", int: "int", float: "double", str: "string", list: "list", dict: "map"}
    return names.get(type(value), type(value).__name__)


def is_integer(value: Value) -> TypeGuard[int]:
    """Whether it is an integer. Python's truth values are integers, too, and the language's are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer(value: int) -> int:
    """The number, if it has 64 bits."""
    if value not in INTEGERS:
        raise Failure("the result is no 64-bit integer")
    return value


def equal(one: Value, other: Value, meter: Meter) -> bool:
    """Whether the values are equal. Numbers of either kind are compared as numbers; other values of different types are never equal."""
    meter.spend(1)
    if _is_number(one) and _is_number(other):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(equal(mine, theirs, meter) for mine, theirs in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key], meter) for key, value in one.items())
    if isinstance(one, str):
        meter.spend_size(len(one))
    return one == other


def less(one: Value, other: Value) -> bool:
    """Whether the first value comes before the second; only numbers, strings and truth values have an order."""
    if _is_number(one) and _is_number(other):
        return not (math.isnan(one) or math.isnan(other)) and one < other  # type: ignore[arg-type, operator]
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    if isinstance(one, bool) and isinstance(other, bool):
        return one < other
    raise Failure(f"{type_name(one)} and {type_name(other)} cannot be compared by order")


def _is_number(value: Value) -> bool:
    return isinstance(value, float) or is_integer(value)
