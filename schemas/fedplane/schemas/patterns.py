"""What a subscriber may ask for: facts by a word of their type, or by a pattern of subjects.

Whoever asks for facts that there are none of would wait for ever, so what is asked for is compared with the vocabulary first.
A pattern is NATS's: `*` stands for one token, a final `>` for one or more.
"""

from fedplane.schemas.facts import FACTS, Fact
from fedplane.schemas.names import is_name

__all__ = ["facts_named", "facts_under"]


def facts_named(word: str) -> tuple[type[Fact], ...]:
    """The facts that have this type, or whose type ends so before its version: `round.failed` is one, `failed` two; none if unknown."""
    return tuple(fact for fact in FACTS if fact.type == word or f".{fact.type.rpartition('.')[0]}".endswith(f".{word}"))


def facts_under(pattern: str) -> tuple[type[Fact], ...]:
    """The facts whose subjects the pattern may match."""
    return tuple(fact for fact in FACTS if _may_match(pattern, fact.template))


def _may_match(pattern: str, template: str) -> bool:
    asked, said = pattern.split("."), template.split(".")
    if asked[-1] == ">":
        asked = asked[:-1]
        if len(said) <= len(asked):
            return False
        said = said[: len(asked)]
    return len(asked) == len(said) and all(_may_be(token, of) for token, of in zip(asked, said, strict=True))


def _may_be(token: str, of: str) -> bool:
    return token in ("*", of) or (of.startswith("{") and is_name(token))
