"""What a name may look like: one grammar for runs, clusters, claims' tokens and subjects.

A name of ours is a token of a NATS subject, a key of a NATS bucket and the name of a Kubernetes object, so it must be legal in all three.
The strictest of them is the DNS label of RFC 1123: no dots (they separate NATS tokens), no wildcards, no upper case, 63 characters.
Everything that puts a name into a subject goes through here; nothing else in the project checks names.
"""

import re
from typing import Annotated

from pydantic import StringConstraints

__all__ = ["NAME_CHARACTERS_MAX", "NAME_PATTERN", "Name", "is_name", "round_number", "run_id"]

NAME_CHARACTERS_MAX = 63
"""RFC 1123, section 2.1: a host's label has at most 63 characters."""

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Of a DNS label (RFC 1123)."""

UID_CHARACTERS = 8
"""Eight hexadecimal digits of the resource's uid: enough to tell apart two resources that had the same name one after the other."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_CHARACTERS_MAX)]
"""A DNS label (RFC 1123)."""


def is_name(text: str) -> bool:
    """Whether the text follows the grammar of names."""
    return len(text) <= NAME_CHARACTERS_MAX and re.fullmatch(NAME_PATTERN[1:-1], text) is not None


ROUND_DIGITS_MAX = 9
"""A billion rounds of a millisecond are twelve days."""


def round_number(token: str) -> int:
    """The number of a round that a token of a subject is; -1 if it is none."""
    return int(token) if token.isascii() and token.isdigit() and len(token) <= ROUND_DIGITS_MAX else -1


def run_id(resource: str, uid: str) -> str:
    """The id of the run that a resource asks for: its name, shortened if need be, and the first digits of its uid.

    A Kubernetes name may have dots and 253 characters; dots become dashes and the end is cut, since the uid keeps the id unique.
    Raises ValueError for a uid without letters and digits.
    """
    suffix = re.sub("[^a-z0-9]", "", uid.lower())[:UID_CHARACTERS]
    if not suffix:
        raise ValueError(f"the uid {uid!r} has no letters or digits to tell this run of {resource} from the next one")
    stem = resource.replace(".", "-")[: NAME_CHARACTERS_MAX - len(suffix) - 1].rstrip("-")
    return f"{stem}-{suffix}"
