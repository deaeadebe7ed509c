"""The functions that expressions may call, as one table.

A function has overloads: the types of its arguments, the receiver's first, and what computes the value.
What is not in the table is refused when an expression is read, by name: an expression that ran without it would select other clusters
than its author meant. Left out are times, types, URLs, IP addresses, CIDRs and formats, which say nothing about clusters.
Sources: the language's standard definitions, cel-go's strings, and Kubernetes' lists, regex, quantity and semver libraries.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal

import re2

from fedplane.scheduler.ocm.amounts import amount, approximate
from fedplane.scheduler.ocm.cel.values import INTEGERS, Failure, Meter, Quantity, Value, Version, integer, less, type_name

__all__ = ["FUNCTIONS", "MEMBERS", "Overloads", "called"]

Overloads = Sequence[tuple[tuple[type, ...], Callable[..., Value]]]
"""Types of arguments, and the function of a meter and these arguments. `object` is any type."""

REGEX_CHARACTERS_MAX = 1_000
REGEX_BYTES_MAX = 1 << 20
"""A pattern's length, and the memory that it may take when compiled. RE2 takes time in proportion to the text, never more."""

INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
DOUBLE = re.compile(r"[+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")

_EXACT = Context(prec=100)
_OPTIONS = re2.Options()
_OPTIONS.max_mem, _OPTIONS.log_errors = REGEX_BYTES_MAX, False


def called(overloads: Overloads, name: str, meter: Meter, arguments: Sequence[Value]) -> Value:
    """The value of a call: of the first overload that takes arguments of these types."""
    for types, compute in overloads:
        if len(types) == len(arguments) and all(_is(value, kind) for value, kind in zip(arguments, types, strict=True)):
            meter.spend_size(sum(len(value) for value in arguments if isinstance(value, str | list)))
            return compute(meter, *arguments)
    raise Failure(f"{name}() does not take {', '.join(map(type_name, arguments)) or 'nothing'}")


def _is(value: Value, kind: type) -> bool:
    return isinstance(value, kind) and (kind in {bool, object} or not isinstance(value, bool))


def _whole(meter: Meter, value: str | float) -> int:
    if isinstance(value, float) and math.isfinite(value):
        return integer(int(value))
    if isinstance(value, str) and INTEGER.fullmatch(value):
        return integer(int(value))
    raise Failure(f"int() cannot read {value!r}")


def _double(meter: Meter, value: str | int) -> float:
    if isinstance(value, str) and not DOUBLE.fullmatch(value):
        raise Failure(f"double() cannot read {value!r}")
    return float(value)


def _truth(meter: Meter, value: str) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False, "t": True, "f": False}
    if value.lower() not in words:
        raise Failure(f"bool() cannot read {value!r}")
    return words[value.lower()]


def _matches(meter: Meter, text: str, pattern: str) -> bool:
    if len(pattern) > REGEX_CHARACTERS_MAX:
        raise Failure(f"a regular expression may have {REGEX_CHARACTERS_MAX} characters")
    meter.spend_size(len(text) * len(pattern))
    try:
        return re2.compile(pattern, _OPTIONS).search(text) is not None
    except (re2.error, UnicodeEncodeError) as error:
        raise Failure(f"{pattern!r} is no regular expression for {text[:50]!r}") from error


def _substring(meter: Meter, text: str, begin: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= begin <= end <= len(text):
        raise Failure(f"a string of {len(text)} characters has no part from {begin} to {end}")
    return text[begin:end]


def _replace(meter: Meter, text: str, old: str, new: str, count: int = -1) -> str:
    times = text.count(old) if count < 0 else min(count, text.count(old))
    meter.spend_size(len(text) + times * len(new))
    return text.replace(old, new, count)


def _split(meter: Meter, text: str, separator: str, count: int = -1) -> Value:
    if count == 0:
        return []
    if not separator:
        return [*text] if count < 0 else [*text[: count - 1], text[count - 1 :]]
    return [*text.split(separator, -1 if count < 0 else count - 1)]


def _join(meter: Meter, items: list[Value], separator: str = "") -> str:
    if not all(isinstance(item, str) for item in items):
        raise Failure("join() takes a list of strings")
    meter.spend_size(sum(len(str(item)) + len(separator) for item in items))
    return separator.join(str(item) for item in items)


def _char_at(meter: Meter, text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise Failure(f"a string of {len(text)} characters has none at {at}")
    return text[at : at + 1]


def _ascii(change: Callable[[str], str]) -> Callable[..., str]:
    return lambda meter, text: "".join(change(letter) if letter.isascii() else letter for letter in text)


def _extreme(name: str, first: Callable[[Value, Value], bool]) -> Callable[..., Value]:
    def extreme(meter: Meter, items: list[Value]) -> Value:
        if not items:
            raise Failure(f"{name}() of an empty list")
        best = items[0]
        for item in items[1:]:
            best = item if first(item, best) else best
        return best

    return extreme


def _sum(meter: Meter, items: list[Value]) -> Value:
    if not all(_is(item, int) for item in items) and not all(_is(item, float) for item in items):
        raise Failure("sum() takes a list of integers or one of doubles")
    total = sum(item for item in items if isinstance(item, int | float))
    return integer(total) if isinstance(total, int) else total


def _parse_json(meter: Meter, text: str) -> Value:
    def refuse(word: str) -> Value:
        raise ValueError(word)

    def number(digits: str) -> int | float:
        return int(digits) if int(digits) in INTEGERS else float(digits)

    try:
        found: Value = json.loads(text, parse_constant=refuse, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise Failure(f"parseJSON() cannot read {text[:50]!r}") from error
    return found


def _quantity(meter: Meter, text: str) -> Quantity:
    try:
        return Quantity(amount(text))
    except ValueError as error:
        raise Failure(f"{text!r} is no quantity") from error


def _valid(read: Callable[..., object]) -> Callable[..., bool]:
    def valid(meter: Meter, *arguments: Value) -> bool:
        try:
            read(meter, *arguments)
        except Failure:
            return False
        return True

    return valid


def _as_integer(meter: Meter, quantity: Quantity) -> int:
    if quantity.value != quantity.value.to_integral_value():
        raise Failure("asInteger() of a quantity that is not whole")
    return integer(int(quantity.value))


def _moved(sign: int) -> Callable[..., Quantity]:
    def moved(meter: Meter, quantity: Quantity, by: Quantity | int) -> Quantity:
        return Quantity(_EXACT.add(quantity.value, sign * (by.value if isinstance(by, Quantity) else Decimal(by))))

    return moved


def _version(meter: Meter, text: str, loose: bool = False) -> Version:
    return Version.of(text, loose)


def _compare(meter: Meter, one: Quantity | Version, other: Quantity | Version) -> int:
    mine, theirs = (one.value, other.value) if isinstance(one, Quantity) and isinstance(other, Quantity) else (one, other)
    return (mine > theirs) - (mine < theirs)  # type: ignore[operator]


_ORDERED = ((Quantity, Quantity), (Version, Version))
_SIZE: Overloads = (
    ((str,), lambda meter, text: len(text)),
    ((list,), lambda meter, items: len(items)),
    ((dict,), lambda meter, held: len(held)),
)
_MATCHES: Overloads = (((str, str), _matches),)

FUNCTIONS: Mapping[str, Overloads] = {
    "bool": (((bool,), lambda meter, value: value), ((str,), _truth)),
    "double": (((float,), lambda meter, value: value), ((int,), _double), ((str,), _double)),
    "dyn": (((object,), lambda meter, value: value),),
    "int": (((int,), lambda meter, value: value), ((float,), _whole), ((str,), _whole)),
    "isQuantity": (((str,), _valid(_quantity)),),
    "isSemver": (((str,), _valid(_version)), ((str, bool), _valid(_version))),
    "matches": _MATCHES,
    "quantity": (((str,), _quantity),),
    "semver": (((str,), _version), ((str, bool), _version)),
    "size": _SIZE,
    "string": (
        ((str,), lambda meter, value: value),
        ((int,), lambda meter, value: str(value)),
        ((bool,), lambda meter, value: "true" if value else "false"),
    ),
}
"""Functions of arguments alone, name(...)."""

MEMBERS: Mapping[str, Overloads] = {
    "add": (((Quantity, Quantity), _moved(1)), ((Quantity, int), _moved(1))),
    "asApproximateFloat": (((Quantity,), lambda meter, quantity: approximate(quantity.value)),),
    "asInteger": (((Quantity,), _as_integer),),
    "charAt": (((str, int), _char_at),),
    "compareTo": tuple((types, _compare) for types in _ORDERED),
    "contains": (((str, str), lambda meter, text, part: part in text),),
    "endsWith": (((str, str), lambda meter, text, part: text.endswith(part)),),
    "indexOf": (((str, str), lambda meter, text, part: text.find(part)),),
    "isGreaterThan": tuple((types, lambda meter, one, other: _compare(meter, one, other) > 0) for types in _ORDERED),
    "isInteger": (((Quantity,), _valid(_as_integer)),),
    "isLessThan": tuple((types, lambda meter, one, other: _compare(meter, one, other) < 0) for types in _ORDERED),
    "join": (((list,), _join), ((list, str), _join)),
    "lastIndexOf": (((str, str), lambda meter, text, part: text.rfind(part)),),
    "lowerAscii": (((str,), _ascii(str.lower)),),
    "major": (((Version,), lambda meter, version: version.major),),
    "matches": _MATCHES,
    "max": (((list,), _extreme("max", lambda one, best: less(best, one))),),
    "min": (((list,), _extreme("min", less)),),
    "minor": (((Version,), lambda meter, version: version.minor),),
    "parseJSON": (((str,), _parse_json),),
    "patch": (((Version,), lambda meter, version: version.patch),),
    "replace": (((str, str, str), _replace), ((str, str, str, int), _replace)),
    "sign": (((Quantity,), lambda meter, quantity: (quantity.value > 0) - (quantity.value < 0)),),
    "size": _SIZE,
    "split": (((str, str), _split), ((str, str, int), _split)),
    "startsWith": (((str, str), lambda meter, text, part: text.startswith(part)),),
    "sub": (((Quantity, Quantity), _moved(-1)), ((Quantity, int), _moved(-1))),
    "substring": (((str, int), _substring), ((str, int, int), _substring)),
    "sum": (((list,), _sum),),
    "trim": (((str,), lambda meter, text: text.strip()),),
    "upperAscii": (((str,), _ascii(str.upper)),),
}
"""Functions of a receiver, receiver.name(...)."""
