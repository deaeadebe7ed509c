"""Label and claim selectors: what do they ask for that a cluster does not have?

The operators are those of Kubernetes: NotIn and DoesNotExist hold of a key that is absent, In and Exists do not.
An empty selector asks for nothing. A selector can also be wrong in itself; which ones are is said by `mistakes`, not by matching.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from fedplane.schemas.placements import LabelSelector, Requirement

__all__ = ["matches", "mistakes", "requirements", "unmet"]

HOLDS: Mapping[str, Callable[[str | None, tuple[str, ...]], bool]] = {
    "In": lambda held, values: held in values,
    "NotIn": lambda held, values: held not in values,  # also holds for a key that is absent, as in Kubernetes
    "Exists": lambda held, values: held is not None,
    "DoesNotExist": lambda held, values: held is None,
}
"""What each operator demands of the value that is held, None if the key is absent."""

PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
PREFIX_CHARACTERS_MAX = 253
WORD_CHARACTERS_MAX = 63
"""The syntax of labels in Kubernetes: a key is a word, perhaps after a domain and a slash, and a value is a word or nothing."""


def requirements(selector: LabelSelector) -> tuple[Requirement, ...]:
    """The selector as conditions that must all hold: a label with its value is the condition that it is one of this one."""
    equal = (Requirement(key=key, operator="In", values=(value,)) for key, value in selector.match_labels.items())
    return (*equal, *selector.match_expressions)


def matches(wanted: Iterable[Requirement], held: Mapping[str, str]) -> bool:
    """Whether all conditions hold."""
    return all(HOLDS[line.operator](held.get(line.key), line.values) for line in wanted)


def unmet(kind: str, wanted: Iterable[Requirement], held: Mapping[str, str]) -> Iterator[str]:
    """Each condition that does not hold, as a sentence about the cluster; `kind` is what is selected by: "label" or "claim"."""
    for line in wanted:
        value = held.get(line.key)
        if not HOLDS[line.operator](value, line.values):
            values = f" ({', '.join(line.values)})" if line.values else ""
            yield f"asks for {kind} {line.key} {line.operator}{values}, and it is {'absent' if value is None else repr(value)}"


def mistakes(wanted: Iterable[Requirement]) -> Iterator[str]:
    """What Kubernetes refuses in the conditions. Claims are judged by the syntax of labels, as Open Cluster Management does."""
    for line in wanted:
        prefix, slash, word = line.key.rpartition("/")
        if not _is_word(word) or (slash and not (PREFIX.fullmatch(prefix) and len(prefix) <= PREFIX_CHARACTERS_MAX)):
            yield f"{line.key!r} is no label's name"
        if line.operator in {"In", "NotIn"} and not line.values:
            yield f"{line.key} {line.operator} needs values"
        if line.operator in {"Exists", "DoesNotExist"} and line.values:
            yield f"{line.key} {line.operator} takes no values"
        yield from (f"{value!r} is no label's value" for value in line.values if value and not _is_word(value))


def _is_word(text: str) -> bool:
    return len(text) <= WORD_CHARACTERS_MAX and WORD.fullmatch(text) is not None
