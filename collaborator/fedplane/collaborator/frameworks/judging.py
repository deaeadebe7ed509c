"""What an app's answer must be, as far as one can say so without arrays: its numbers, and the form of its tensors.

It needs the standard library only, for apps in whose environment there is no numpy. The rest is judged in `answers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from . import Unanswerable

__all__ = ["NAMES_SHOWN_MAX", "WEIGHT", "differences", "metric", "weight"]

NAMES_SHOWN_MAX = 5
"""How many tensors an error names: the first few show the pattern, and a model may have thousands."""

WEIGHT = "num-examples"
"""Under this name an app says how many examples it used, as Flower's apps do."""


def weight(said: Any) -> float:
    """How many examples were used. Raises Unanswerable."""
    if said is None:
        raise Unanswerable("no-weight", f"the app did not say how many examples it used; return the metric {WEIGHT}")
    if not hasattr(said, "__float__") or not math.isfinite(_float(said)) or said <= 0:
        raise Unanswerable("no-weight", f"the number of examples must be positive, and the app said {WEIGHT} = {said!r}")
    return float(said)


def metric(name: str, value: Any) -> float:
    """The metric as a plain number. Raises Unanswerable."""
    if not hasattr(value, "__float__"):
        raise Unanswerable("app-raised", f"metric {name!r} is a {type(value).__name__}; return one number")
    number = _float(value)
    if not math.isfinite(number):
        raise Unanswerable("not-finite", f"metric {name!r} is {number!r}; return a finite number, or leave it out")
    return number


def _float(value: Any) -> float:
    """The number as a float; a whole one may be larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """How tensors differ from those that are wanted, both given as forms, such as "float32[3]", by name. Empty if they do not."""
    said = [f"{name!r} is missing" for name in wanted if name not in found]
    said += [f"{name!r} is unexpected" for name in found if name not in wanted]
    said += [f"{name!r} is {found[name]} and was {form}" for name, form in wanted.items() if found.get(name, form) != form]
    rest = len(said) - NAMES_SHOWN_MAX
    return "; ".join(said[:NAMES_SHOWN_MAX]) + (f"; and {rest} more" if rest > 0 else "")
