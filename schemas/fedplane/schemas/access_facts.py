"""The facts about who may use the bus: granted, and revoked. What rules they follow: see `facts`.

Whoever has a certificate of ours is who it says; these facts say whether that counts, and for a subscriber what he may hear.
Of the two about one client the one that is later in the stream counts, so each is the last word until there is another one.
They are read from the log and announced to nobody: who may hear what is no business of those who hear.
What rights each role has besides is the authorizer's table.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from fedplane.schemas.fact import Fact
from fedplane.schemas.models import Instant
from fedplane.schemas.names import Name

__all__ = ["AccessFact", "Granted", "PATTERNS_MAX", "Pattern", "Revoked"]

PATTERNS_MAX = 20
"""What one subscriber may hear, in patterns. Each is a line of a permission, and with a namespace one for each of its runs."""

PATTERN_CHARACTERS_MAX = 255
"""Of a pattern of subjects: three names, and the words between them."""

_PATTERN = re.compile(r"fed\.v1(\.(\*|[A-Za-z0-9_-]+))*\.(\*|>|[A-Za-z0-9_-]+)")


def _announced(given: str) -> str:
    if len(given) > PATTERN_CHARACTERS_MAX or not _PATTERN.fullmatch(given):
        raise ValueError(f"{given!r} is no pattern of subjects below fed.v1, as fed.v1.run.*.completed or fed.v1.>")
    return given


Pattern = Annotated[str, AfterValidator(_announced)]
"""Subjects of announced facts, in NATS's way: `*` stands for one token, a final `>` for one or more.

It becomes a permission as it is, so nothing that reaches out of `fed.v1` is one.
"""

Fingerprint = Annotated[str, StringConstraints(pattern="^([0-9a-f]{64})?$")]
"""The SHA-256 of a certificate in hexadecimal, or nothing."""


class AccessFact(Fact):
    """A fact about one client of the bus: a role, and a name among those of that role. The last statement counts."""

    replaces = True
    is_announced = False

    role: Name
    name: Name


class Granted(AccessFact):
    """The client is let in: a subscriber with this one certificate until it expires, or anybody who was thrown out before.

    A subscriber hears what is announced under the patterns; with a namespace, only of runs that were submitted from there.
    """

    type = "io.fedplane.access.granted.v1"
    template = "fed.v1.access.{role}.{name}.granted"
    said_by = "cli"

    expires_at: Instant | None = None
    fingerprint: Fingerprint = ""
    namespace: Name | None = None
    patterns: tuple[Pattern, ...] = Field(default=(), max_length=PATTERNS_MAX)


class Revoked(AccessFact):
    """The client is not let in any more, and its connections are ended, whatever its certificate says.

    An operator says so, or the authorizer of a cluster that stores far more than it was asked for.
    """

    type = "io.fedplane.access.revoked.v1"
    template = "fed.v1.access.{role}.{name}.revoked"
    said_by = "cli, authorizer"

    message: str = ""
