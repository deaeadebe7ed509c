"""How counts, lists, reasons and rounds are said, within bounds."""

import re
from collections.abc import Iterable

from fedplane.schemas.models import Task
from fedplane.schemas.views import MESSAGE_CHARACTERS_MAX

__all__ = ["count", "cut", "listed", "question", "word"]

NAMED_MAX = 5
"""How many things a sentence names before it only counts the others."""


def count(number: int, what: str) -> str:
    """So many of them."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], separator: str) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    rest = f" and {len(every) - NAMED_MAX} more" if len(every) > NAMED_MAX else ""
    return separator.join(every[:NAMED_MAX]) + rest


def word(reason: str) -> str:
    """A reason as Kubernetes wants it in a condition: too-few becomes TooFew."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[^A-Za-z0-9]+", reason)) or "Unknown"


def question(task: Task, training_round: int, training_rounds: int) -> str:
    """A round as a person counts it: by the training round that it belongs to."""
    counted = f"raining round {training_round} of {training_rounds}"
    match task:
        case Task.INITIALIZE:
            return "Initialization"
        case Task.TRAIN:
            return f"T{counted}"
        case Task.EVALUATE:
            return f"Evaluation of t{counted}"
        case Task.REPLY:
            return f"Replies in t{counted}"


def cut(text: str) -> str:
    """The text, or as much of it as a view has room for."""
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
