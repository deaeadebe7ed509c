"""Who may connect to a bus that asks for certificates, and where each of them is answered.

Rights are written against these names, and clients choose their inbox by them, so both sides have to read them here.
What a role may do is not said here: the authorizer has the table.
"""

from enum import StrEnum

__all__ = ["Role", "inbox_of"]


class Role(StrEnum):
    """Who may connect. The values are what `said_by` says of those who state facts, and what certificates say."""

    SCHEDULER = "scheduler"
    AGGREGATOR = "aggregator"
    STATUS = "status"
    AUTHORIZER = "authorizer"
    DRIVER = "driver"
    OPERATOR = "cli"
    COLLABORATOR = "collaborator"
    SUBSCRIBER = "subscriber"


def inbox_of(role: Role, name: str) -> str:
    """Where answers to this client come: no other one may listen there. Names have no underscore, so no two are alike."""
    return f"_INBOX_{role}_{name}"
