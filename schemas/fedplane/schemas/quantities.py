"""Kubernetes quantities ("500m", "8Gi", "1e3") as exact numbers.

Clusters advertise CPU and memory as quantities and runs ask for them so.
A filter must not let a cluster in or out by a rounding error, so a quantity is a decimal, never a float.
Source: the Kubernetes API's definition of `resource.Quantity`.
"""

import re
from decimal import Context, Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

__all__ = ["Quantity", "parse"]

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_TEXT = r"([+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30}))(?:([eE][+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i))?"
_GRAMMAR = re.compile(_TEXT)
_EXACT = Context(prec=100)  # the grammar allows 60 digits, and Ei adds 19


def parse(text: str) -> Decimal:
    """The value in base units: cores for CPU, bytes for memory.

    Raises ValueError when the text is no quantity.
    """
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no Kubernetes quantity; write it like 500m, 2, 8Gi or 1e3")
    number, exponent, suffix = match.groups()
    value = Decimal(number)
    if exponent:
        return value.scaleb(int(exponent[1:]), _EXACT)
    if suffix in _BINARY:
        return _EXACT.multiply(value, 1 << _BINARY[suffix])
    return value.scaleb(_DECIMAL[suffix or ""], _EXACT)


def _validated(text: str) -> str:
    parse(text)
    return text


def _as_text(given: object) -> object:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return str(given) if is_number else given


_Written = Annotated[str, StringConstraints(pattern=f"^{_TEXT}$")]

Quantity = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=_Written | int | float), AfterValidator(_validated)]
"""A quantity as it was written; `parse` gives its value. As in Kubernetes, a plain number needs no quotes in YAML."""
