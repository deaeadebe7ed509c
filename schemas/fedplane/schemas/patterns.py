"""Patterns of subjects: what matches one, and which facts a subscriber may ask for with one, or with a word of their type.

A pattern is NATS's: `*` stands for one token, a final `>` for one or more.
Whoever asks for facts that there are none of would wait for ever, so what is asked for is compared with the vocabulary first.
"""

from collections.abc import Callable

from fedplane.schemas.facts import FACTS, Fact
from fedplane.schemas.names import is_name

__all__ = ["facts_named", "facts_under", "matches", "overlap"]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject matches a pattern."""
    return _fits(pattern, subject, str.__eq__)


def overlap(one: str, other: str) -> str | None:
    """The pattern of what both patterns match; None if that is nothing."""
    tokens: list[str] = []
    left, right = one.split("."), other.split(".")
    while left and right:
        if ">" in (left[0], right[0]):
            return ".".join([*tokens, *(right if left[0] == ">" else left)])
        ours, theirs = left.pop(0), right.pop(0)
        if "*" not in (ours, theirs) and ours != theirs:
            return None
        tokens.append(theirs if ours == "*" else ours)
    return None if left or right else ".".join(tokens)


def facts_named(word: str) -> tuple[type[Fact], ...]:
    """The facts that have this type, or whose type ends so before its version: `round.failed` is one, `failed` two; none if unknown."""
    return tuple(fact for fact in FACTS if fact.type == word or f".{fact.type.rpartition('.')[0]}".endswith(f".{word}"))


def facts_under(pattern: str) -> tuple[type[Fact], ...]:
    """The facts whose subjects the pattern may match."""
    return tuple(fact for fact in FACTS if _fits(pattern, fact.template, _may_be))


def _fits(pattern: str, subject: str, is_meant: Callable[[str, str], bool]) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(want == "*" or is_meant(want, token) for want, token in zip(wanted, given, strict=True))


def _may_be(token: str, of: str) -> bool:
    return token == of or (of.startswith("{") and is_name(token))
